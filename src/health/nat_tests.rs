use super::*;
use crate::wire::build::{self, eth, l3, verify};

const KERNEL: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEXT_HOP: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PORT: PortId = PortId(1);

/// Own address, endpoint, VIP, outer source.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.1.0.1", "10.1.0.11", "203.0.113.100", "10.1.0.9"],
    ["fd00:1::1", "fd00:1::11", "2001:db8:1::100", "fd00:1::9"],
];

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// The probe of each protocol between two addresses, and the answer; with how it is known.
fn talk(own: &str, far: &str) -> Vec<(Key, Vec<u8>, Vec<u8>)> {
    let out = || eth(KERNEL, NEXT_HOP).ip(own, far);
    let back = || eth(NEXT_HOP, KERNEL).ip(far, own);
    let number = 7_u64.to_be_bytes();
    vec![
        (
            Key::Port(6, 40_000),
            out().tcp(40_000, 80).syn().frame(),
            back().tcp(80, 40_000).syn().ack(1).frame(),
        ),
        (
            Key::Port(17, 40_001),
            out().udp(40_001, 53).payload(b"ask").frame(),
            back().udp(53, 40_001).payload(b"answer").frame(),
        ),
        (
            Key::Port(132, 40_002),
            out().sctp(40_002, 3868).init(9).frame(),
            back().sctp(3868, 40_002).tag(9).init_ack(8, b"cookie").frame(),
        ),
        (
            Key::Echo(7),
            out().echo_request(3, 4).payload(number).frame(),
            back().echo_reply(3, 4).payload(number).frame(),
        ),
    ]
}

#[test]
fn a_probe_is_of_the_endpoint_to_the_kernel_and_of_the_vip_on_the_wire() {
    for [own, endpoint, vip, source] in FAMILIES {
        for (tunnel, overhead) in [
            (None, 0),
            (Some((Kind::Ipip, None)), 0),
            (Some((Kind::Ipip, Some(addr(source)))), 0),
            (Some((Kind::Gue(6080), None)), 8),
        ] {
            for ((key, asked, answered), (_, on_wire, from_wire)) in
                talk(own, endpoint).into_iter().zip(talk(own, vip))
            {
                let nat = Arc::new(ProbeNat::default());
                let pass = nat.pass(key, addr(endpoint), ThroughVip { vip: addr(vip), tunnel });
                let sent = nat.outgoing(PORT, &asked).expect("a probe");
                verify(&sent).unwrap();
                match tunnel {
                    None => assert_eq!(sent, on_wire, "{key:?}"),
                    Some((_, outer_source)) => {
                        let outer = l3(&sent);
                        let ip = if addr(own).is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
                        assert_eq!(&outer[ip + overhead..], l3(&on_wire), "{key:?} {tunnel:?}");
                        let view = Packet::read(&sent).unwrap();
                        let from = outer_source.unwrap_or_else(|| addr(own));
                        assert_eq!((view.src, view.dst), (from, addr(endpoint)), "{key:?} {tunnel:?}");
                        assert_eq!(sent[..14], on_wire[..14]);
                    }
                }
                // It may come back by another port, with that one's MAC.
                let mut answer = from_wire.clone();
                answer[..6].fill(9);
                assert_eq!(nat.incoming(&mut answer), Some(PORT), "{key:?}");
                assert_eq!(answer, answered, "{key:?}");

                // What ends the connection, also after the probe.
                drop(pass);
                assert!(nat.outgoing(PORT, &asked).is_some());
            }
        }
    }
}

#[test]
fn what_is_of_no_probe_stays_as_it_is() {
    let [own, endpoint, vip, _] = FAMILIES[0];
    let nat = Arc::new(ProbeNat::default());
    let mut answer = build::ip(vip, own).tcp(80, 40_000).ack(1).frame();
    assert_eq!(nat.outgoing(PORT, &build::ip(own, endpoint).tcp(40_000, 80).syn().frame()), None);
    assert_eq!(nat.incoming(&mut answer), None);

    let way = ThroughVip { vip: addr(vip), tunnel: None };
    let _pass = nat.pass(Key::Port(6, 40_000), addr(endpoint), way);
    assert_eq!(nat.incoming(&mut answer), None, "nothing was asked");
    for (case, frame) in [
        ("another port", build::ip(own, endpoint).tcp(40_001, 80).syn().frame()),
        ("another protocol", build::ip(own, endpoint).udp(40_000, 80).frame()),
        ("another server", build::ip(own, "10.1.0.12").tcp(40_000, 80).syn().frame()),
        ("a fragment", build::ip(own, endpoint).fragment(64, false).tcp(40_000, 80).frame()),
        ("ARP", eth(KERNEL, NEXT_HOP).arp_request(own, endpoint).frame()),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(nat.outgoing(PORT, &frame), None, "{case}");
    }
    assert!(nat.outgoing(PORT, &build::ip(own, endpoint).tcp(40_000, 80).syn().frame()).is_some());
    for (case, mut frame) in [
        ("another server", build::ip("203.0.113.101", own).tcp(80, 40_000).ack(1).frame()),
        ("the endpoint as itself", build::ip(endpoint, own).tcp(80, 40_000).ack(1).frame()),
        ("another port", build::ip(vip, own).tcp(80, 40_001).ack(1).frame()),
    ] {
        let before = frame.clone();
        assert_eq!(nat.incoming(&mut frame), None, "{case}");
        assert_eq!(frame, before, "{case}");
    }
}

#[test]
fn probes_that_have_ended_are_forgotten() {
    let [_, endpoint, vip, _] = FAMILIES[0];
    let way = ThroughVip { vip: addr(vip), tunnel: None };
    let nat = Arc::new(ProbeNat::default());
    for port in 0..100 {
        drop(nat.pass(Key::Port(6, port), addr(endpoint), way));
    }
    let taken_again = nat.pass(Key::Port(6, 0), addr(endpoint), way);
    let long_ago = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
    {
        let mut bindings = nat.lock();
        let Bindings { live, ending } = &mut *bindings;
        for (until, key) in ending {
            *until = long_ago;
            if let Some(binding) = live.get_mut(key).filter(|binding| binding.until.is_some()) {
                binding.until = Some(long_ago);
            }
        }
    }
    let _other = nat.pass(Key::Echo(1), addr(endpoint), way);
    let bindings = nat.lock();
    assert_eq!(bindings.live.len(), 2, "that in use, and the new one");
    assert!(bindings.ending.is_empty());
    drop((bindings, taken_again));
}
