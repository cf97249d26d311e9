//! The rewrite: what was right stays right, there and back again is where it was, pieces make up the whole.

use pollux::addr::Addr;
use pollux::config::Protocol;
use pollux::conntrack::{Direction, Flow};
use pollux::ids::{EndpointId, PairSlot, PortId, ServiceId};
use pollux::parse::{self, Link, Packet, Parsed};
use pollux::pipeline::{Frame, RxChecksum, VecFrame};
use pollux::rewrite;
use pollux::wire::build;
use pollux::wire::ethernet::HEADER_LEN;

use super::input::Input;
use super::repair::repair;

/// A flow, then a packet of it.
pub fn rewrite(data: &[u8]) {
    let _ = run(&mut Input::new(data));
}

fn run(input: &mut Input<'_>) -> Option<()> {
    let how = input.u8()?;
    let v4 = how & 1 == 0;
    let protocol = Protocol::ALL[usize::from(how >> 1 & 3) % 3];
    let [client, vip, endpoint] = [address(input, v4)?, address(input, v4)?, address(input, v4)?];
    let [client_port, vip_port, endpoint_port] =
        [input.u16()?.max(1), input.u16()?.max(1), input.u16()?.max(1)];
    let mut flow = Flow {
        client,
        vip,
        endpoint,
        client_port,
        vip_port,
        endpoint_port,
        protocol,
        ingress: PortId(0),
        service: ServiceId(0),
        endpoint_id: EndpointId(0),
        pair: PairSlot(0),
        delta: [0; 2],
        next_hop: [0; 2],
        epoch: 0,
        idle_timeout_ms: 1000,
        form: pollux::conntrack::Form::Dnat,
        source: pollux::ids::SourceId(0),
        source_port: 0,
    };
    flow.delta = rewrite::deltas(&flow);

    let (ttl, mtu, cut) = (input.u8()?.max(3), input.u16()?, input.u8()?);
    let mut frame = first(&flow, how, ttl, input.rest());
    let packet = parsed(&frame)?; // not every chunk or option makes a packet
    if how & 8 != 0 {
        let at = usize::from(packet.l4) + checksum_at(protocol);
        frame[at] ^= cut | 1;
    }
    let right = build::verify(&frame).is_ok();

    let mut there = VecFrame::new(&frame);
    let intact = rewrite::is_intact(&frame, &packet, &flow);
    assert_eq!(intact, right || protocol != Protocol::Sctp || vip_port == endpoint_port);
    if !intact {
        return Some(());
    }
    rewrite::translate(&mut there, &packet, &flow, Direction::Original, None).unwrap();
    let there = there.data().to_vec();
    let there_packet = parsed(&there).unwrap();
    assert_eq!((there_packet.dst, there_packet.ports().1), (endpoint, endpoint_port));
    assert_eq!((there_packet.src, there_packet.ports().0), (client, client_port));
    assert_eq!(there_packet.ttl, ttl - 1);
    if right {
        build::verify(&there).unwrap();
    }

    back(&flow, &frame, &there, right);
    error_about(&flow, &there, usize::from(cut), right);
    if v4 {
        pieces(&frame, &packet, usize::from(mtu));
    }
    Some(())
}

fn address(input: &mut Input<'_>, v4: bool) -> Option<Addr> {
    if v4 {
        // Of a network that hosts may be in: the parser and the configuration see to that.
        return input.array().map(|[a, b, c, d]| Addr::v4([1 + a % 126, b, c, d]));
    }
    let [a, b] = input.array::<2>()?;
    Some(Addr(0x2001_0db8 << 96 | u128::from(a).wrapping_mul(0x0101_0000_0100_0001) << 8 | u128::from(b)))
}

/// A packet of the client; what `rest` says is in it.
fn first(flow: &Flow, how: u8, ttl: u8, rest: &[u8]) -> Vec<u8> {
    let ip = build::ip(flow.client, flow.vip).ttl(ttl).df(false);
    let (sport, dport) = (flow.client_port, flow.vip_port);
    let rest = &rest[..rest.len().min(4096)];
    match flow.protocol {
        Protocol::Tcp => {
            let (options, payload) = rest.split_at(rest.len().min(usize::from(how >> 4)));
            ip.tcp(sport, dport).ack(u32::from(how)).options(options).payload(payload).frame()
        }
        Protocol::Udp if how & 16 != 0 && flow.client.is_v4() => {
            ip.udp(sport, dport).no_checksum().payload(rest).frame()
        }
        Protocol::Udp => ip.udp(sport, dport).payload(rest).frame(),
        Protocol::Sctp => ip.sctp(sport, dport).tag(1).chunk(how >> 4, 0, rest).frame(),
    }
}

fn checksum_at(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
        Protocol::Sctp => 8,
    }
}

fn parsed(frame: &[u8]) -> Option<Packet> {
    match parse::parse(&Link { mac: None, vlan: 0 }, frame, RxChecksum::Unknown) {
        Ok(Parsed::Ip(packet)) => Some(packet),
        _ => None,
    }
}

/// Mirrored, the packet is one of the endpoint; translated and mirrored again it is the first one, two hops older.
fn back(flow: &Flow, frame: &[u8], there: &[u8], right: bool) {
    let sctp = flow.protocol == Protocol::Sctp;
    let mut reply = there.to_vec();
    mirror(&mut reply);
    if sctp {
        repair(&mut reply);
    }
    let packet = parsed(&reply).unwrap();
    let mut reply = VecFrame::new(&reply);
    rewrite::translate(&mut reply, &packet, flow, Direction::Reply, None).unwrap();
    let mut reply = reply.data().to_vec();
    if right {
        build::verify(&reply).unwrap();
    }
    mirror(&mut reply);
    let ttl = HEADER_LEN + if flow.client.is_v4() { 8 } else { 7 };
    assert_eq!(reply[ttl] + 2, frame[ttl]);
    let mut expected = frame.to_vec();
    expected[ttl] -= 2;
    let l4 = usize::from(packet.l4);
    if flow.client.is_v4() {
        expected[HEADER_LEN + 10..HEADER_LEN + 12].fill(0);
        let sum = pollux::wire::checksum::checksum(&expected[HEADER_LEN..l4]);
        expected[HEADER_LEN + 10..HEADER_LEN + 12].copy_from_slice(&sum.to_be_bytes());
    }
    if sctp {
        // A port that changes costs a new CRC32c, which is then right whatever it was.
        repair(&mut expected);
        repair(&mut reply);
    } else if !right {
        // 0 and 0xffff are one number, and one of them comes out of the difference.
        for bytes in [&mut expected, &mut reply] {
            let sum = l4 + checksum_at(flow.protocol);
            if bytes[sum..sum + 2] == [0xff, 0xff] {
                bytes[sum..sum + 2].fill(0);
            }
        }
    }
    assert_eq!(reply, expected);
}

/// Source and destination, address and port, in each other's place: no Internet checksum sees it.
fn mirror(frame: &mut [u8]) {
    let packet = parsed(frame).unwrap();
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let (addresses, len) = if packet.src.is_v4() { (l3 + 12, 4) } else { (l3 + 8, 16) };
    frame[addresses..addresses + 2 * len].rotate_left(len);
    frame[l4..l4 + 4].rotate_left(2);
}

/// The endpoint complains about the packet: the client must understand which one it is.
fn error_about(flow: &Flow, there: &[u8], cut: usize, right: bool) {
    let quoted = build::l3(there);
    let header = if flow.client.is_v4() { 20 } else { 40 };
    let quoted = &quoted[..quoted.len().min(header + 8 + cut * 4)];
    let mut error = build::ip(flow.endpoint, flow.client).port_unreachable(quoted).frame();
    let packet = parsed(&error).unwrap();
    let found = parse::quoted(&error, &packet).unwrap();
    assert_eq!(found.tuple.reversed(), flow.tuple(Direction::Reply));
    rewrite::translate_icmp_error(&mut error, &packet, &found, flow, Direction::Reply).unwrap();
    let packet = parsed(&error).unwrap();
    assert_eq!((packet.src, packet.dst), (flow.vip, flow.client));
    let told = parse::quoted(&error, &packet).unwrap();
    assert_eq!(told.tuple, flow.tuple(Direction::Original));
    // The CRC32c of a quoted packet is left as it is: nobody looks at it, and mostly not all of the packet is there.
    if right && flow.protocol != Protocol::Sctp {
        build::verify(&error).unwrap();
    }
}

/// Put together again, the fragments are the packet.
fn pieces(frame: &[u8], packet: &Packet, mtu: usize) {
    let (l3, l3_len) = (usize::from(packet.l3), packet.l3_len as usize);
    let mut first = VecFrame::new(frame);
    let mut others = Vec::new();
    let mut scratch = Vec::new();
    if l3_len <= mtu {
        return;
    }
    let Some(rest) = rewrite::fragment(&mut first, l3, l3_len, mtu, &mut scratch) else {
        assert!(mtu < 68, "RFC 791 §3.2: 68 bytes are always enough");
        return;
    };
    rest.emit(&mut scratch, |fragment| others.push(fragment.to_vec())).unwrap();
    let mut whole = Vec::new();
    let count = 1 + others.len();
    for (i, piece) in std::iter::once(first.data().to_vec()).chain(others).enumerate() {
        build::verify(&piece).unwrap();
        let ip = &piece[l3..];
        assert!(ip.len() <= mtu, "{} > {mtu}", ip.len());
        let field = u16::from_be_bytes([ip[6], ip[7]]);
        assert_eq!(usize::from(field & 0x1fff) * 8, whole.len());
        assert_eq!(field & 0x2000 != 0, i + 1 < count, "more fragments");
        whole.extend_from_slice(&ip[usize::from(ip[0] & 15) * 4..]);
    }
    assert_eq!(whole, frame[usize::from(packet.l4)..l3 + l3_len]);
}
