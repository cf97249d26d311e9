use super::strategy::sample;
use super::*;
use crate::wire::{ndp, protocol};
use proptest::prelude::*;

const A4: &str = "10.0.0.1";
const B4: &str = "10.0.0.2";
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8::2";

#[test]
fn a_syn_to_the_byte() {
    let frame = eth(SRC_MAC, DST_MAC).vlan(7).ip(A4, B4).ttl(63).id(9).tcp(4000, 80).syn().seq(1).frame();
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 0x08, 0,
        0x45, 0, 0, 40, 0, 9, 0x40, 0, 63, 6, 0x27, 0xc5, 10, 0, 0, 1, 10, 0, 0, 2,
        0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0x8b, 0xef, 0, 0,
    ];
    assert_eq!(frame, expected);
}

#[test]
fn arp() {
    let request = eth(SRC_MAC, Mac::BROADCAST).arp_request(A4, B4).padded();
    assert_eq!(request.len(), MIN_LEN);
    let arp = super::arp::Arp::new_checked(&request[14..]).unwrap();
    assert_eq!(
        (arp.operation(), arp.sender_mac(), arp.target_mac()),
        (arp::REQUEST, SRC_MAC, Mac::default())
    );
    assert_eq!((arp.sender_ip().to_string(), arp.target_ip().to_string()), (A4.into(), B4.into()));
    let reply = eth(SRC_MAC, DST_MAC).arp_reply(A4, B4).frame();
    let arp = super::arp::Arp::new_checked(&reply[14..]).unwrap();
    assert_eq!((arp.operation(), arp.target_mac()), (arp::REPLY, DST_MAC));
    assert_eq!(verify(&reply), Ok(()));
}

#[test]
fn neighbour_discovery_is_valid() {
    let a = A6.into_addr();
    let b = B6.into_addr();
    let group = ndp::solicited_node(b);
    let read = |frame: &[u8], src, dst| ndp::Message::new_checked(&frame[54..], src, dst, frame[21]);
    let ns = eth(SRC_MAC, ndp::multicast_mac(group)).ip(a, group).neighbor_solicitation(b).frame();
    assert_eq!(verify(&ns), Ok(()));
    let expected = ndp::Message::Solicitation { target: b, source_mac: Some(SRC_MAC) };
    assert_eq!(read(&ns, a, group), Ok(expected));
    let probe = ip(Addr::default(), group).neighbor_solicitation(b).frame();
    assert_eq!(verify(&probe), Ok(()));
    let expected = ndp::Message::Solicitation { target: b, source_mac: None };
    assert_eq!(read(&probe, Addr::default(), group), Ok(expected));
    let na = ip(b, a).neighbor_advertisement(b, ndp::SOLICITED).frame();
    assert_eq!(verify(&na), Ok(()));
    let expected =
        ndp::Message::Advertisement { target: b, target_mac: Some(SRC_MAC), flags: ndp::SOLICITED };
    assert_eq!(read(&na, b, a), Ok(expected));
}

#[test]
fn every_sctp_chunk_is_whole() {
    let packet = ip(A4, B4)
        .sctp(1, 2)
        .tag(3)
        .init(4)
        .init_ack(5, b"cookie")
        .cookie_echo(b"cookie")
        .cookie_ack()
        .data(6, 0, b"x")
        .sack(6)
        .heartbeat(b"hb")
        .heartbeat_ack(b"hb")
        .abort(true)
        .error(3)
        .shutdown(6)
        .shutdown_ack()
        .shutdown_complete(false);
    let l3 = packet.l3();
    let sctp = super::super::sctp::Sctp::new_checked(&l3[20..]).unwrap();
    let kinds: Vec<_> = sctp.chunks().map(|c| (c.kind, c.value.len())).collect();
    let expected = [
        (1, 16),
        (2, 26),
        (10, 6),
        (11, 0),
        (0, 13),
        (3, 12),
        (4, 6),
        (5, 6),
        (6, 0),
        (9, 4),
        (7, 4),
        (8, 0),
        (14, 0),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(verify(&packet.frame()), Ok(()));
}

#[test]
fn verify_finds_each_wrong_checksum() {
    let quoted = ip(B4, A4).udp(53, 4000).payload(b"answer").l3();
    let frames: [(Vec<u8>, usize, &str); 9] = [
        (ip(A4, B4).tcp(1, 2).syn().frame(), 24, "IPv4 header"),
        (ip(A4, B4).tcp(1, 2).syn().frame(), 50, "TCP"),
        (ip(A6, B6).udp(1, 2).payload(b"x").frame(), 60, "UDP"),
        (ip(A6, B6).hop_by_hop().sctp(1, 2).abort(false).frame(), 70, "SCTP"),
        (ip(A4, B4).echo_request(1, 1).frame(), 36, "ICMP"),
        (ip(A6, B6).echo_reply(1, 1).frame(), 56, "ICMP"),
        (eth(SRC_MAC, DST_MAC).vlan(3).ip(A4, B4).echo_reply(1, 1).frame(), 40, "ICMP"),
        (ip(A4, B4).port_unreachable(&spoilt(&quoted, 10)).frame(), 0, "quoted IPv4 header"),
        (ip(A4, B4).port_unreachable(&spoilt(&quoted, 27)).frame(), 0, "quoted UDP"),
    ];
    for (frame, at, what) in frames {
        let bad = if at == 0 {
            frame
        } else {
            assert_eq!(verify(&frame), Ok(()), "{what}");
            spoilt(&frame, at)
        };
        let error = verify(&bad).unwrap_err();
        assert!(error.starts_with(what), "{error}");
    }
    assert!(verify(&ip(A6, B6).udp(1, 2).no_checksum().frame()).is_err());
    assert_eq!(verify(&ip(A4, B4).udp(1, 2).no_checksum().frame()), Ok(()));
}

fn spoilt(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x40;
    bytes
}

#[test]
fn quotes_are_cut_to_what_an_error_may_carry() {
    let big4 = ip(B4, A4).udp(1, 2).payload([7; 1400]).l3();
    let error = ip(A4, B4).time_exceeded(&big4);
    assert_eq!((error.l3().len(), verify(&error.frame())), (576, Ok(())));
    let big6 = ip(B6, A6).udp(1, 2).payload([7; 1400]).l3();
    let error = ip(A6, B6).unreachable(0, &big6);
    assert_eq!((error.l3().len(), verify(&error.frame())), (1280, Ok(())));
}

#[test]
fn fragments() {
    let whole = ip(A4, B4).id(5).df(false).udp(1, 2).payload([1; 24]).l3();
    let first = ip(A4, B4).id(5).fragment(0, true).protocol(protocol::UDP, &whole[20..36]).frame();
    let last = ip(A4, B4).id(5).fragment(16, false).protocol(protocol::UDP, &whole[36..]).frame();
    for (frame, offset) in [(&first, 0), (&last, 16)] {
        let ip = Ipv4::new_checked(&frame[14..]).unwrap();
        assert!(ip.is_fragment() && !ip.dont_fragment());
        assert_eq!((ip.fragment_offset(), ip.id()), (offset, 5));
        assert_eq!(verify(frame), Ok(()));
    }
    let v6 = ip(A6, B6).id(5).fragment(16, true).protocol(protocol::UDP, [0; 8]).frame();
    assert_eq!(v6[54..62], [17, 0, 0, 17, 0, 0, 0, 5]);
    assert_eq!(verify(&v6), Ok(()));
}

#[test]
fn l3_is_the_packet_alone() {
    let packet = eth(SRC_MAC, DST_MAC).vlan(1).ip(A4, B4).udp(1, 2);
    assert_eq!(l3(&packet.padded()), packet.l3());
    assert_eq!(l3(&eth(SRC_MAC, DST_MAC).arp_request(A4, B4).padded()), []);
    assert_eq!(l3(&[0; 5]), []);
}

proptest! {
    #[test]
    fn what_is_built_verifies(s in sample()) {
        prop_assert_eq!(verify(&s.frame), Ok(()));
        prop_assert_eq!(l3(&s.frame).len(), s.packet.l3_len as usize);
    }

    #[test]
    fn verify_never_panics(s in sample(), flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8), cut: prop::sample::Index) {
        let mut bytes = s.frame;
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = verify(&bytes);
    }
}
