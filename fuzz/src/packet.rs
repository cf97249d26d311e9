//! Frames described by a few bytes: what a fuzzer needs to meet connections and not only the parser.

use pollux::addr::{Addr, Mac};
use pollux::wire::build::{self, Ip};
use pollux::wire::{ndp, sctp::chunk};

use super::input::Input;
use super::world::{GATEWAY_MAC, PORT_MACS, SERVER_MAC, SERVICES, client, endpoint, own, second, vip};

/// Bits of the first byte of a description.
pub mod who {
    pub const FROM_SERVER: u8 = 8;
    pub const V6: u8 = 16;
    pub const SECOND: u8 = 32;
    pub const PADDED: u8 = 64;
    pub const TAGGED: u8 = 128;
}

/// The kinds of packets, in the low bits of the second byte.
pub mod kind {
    pub const TCP: u8 = 0;
    pub const UDP: u8 = 1;
    pub const SCTP: u8 = 2;
    pub const ERROR: u8 = 3;
    pub const ECHO: u8 = 4;
    pub const NEIGHBOR: u8 = 5;
    pub const OTHER: u8 = 6;
}

/// What is peculiar, in four bits of the second byte.
pub mod how {
    /// The TTL is nearly at its end.
    pub const SHORT_LIVED: u8 = 1;
    /// With options or an extension header.
    pub const OPTIONS: u8 = 2;
    /// From whom the last packet went to, to where that came from, or about that.
    pub const ANSWER: u8 = 3;
    /// By the second path of the multi-homed service.
    pub const SECOND_PATH: u8 = 4;
}

/// What was last sent to an endpoint: from the IP header on, and its ends.
#[derive(Clone)]
pub struct Sent {
    pub l3: Vec<u8>,
    pub from: (Addr, u16),
    pub to: (Addr, u16),
}

/// Bytes of a description.
pub const LEN: usize = 6;

/// The frame of a description, and whether it is meant for the second port.
pub fn describe([who, kind, service, a, b, c]: [u8; LEN], sent: Option<&Sent>) -> (Vec<u8>, bool) {
    let server = who & who::FROM_SERVER != 0;
    let how = kind >> 3 & 15;
    let sent = sent.filter(|_| server && how == how::ANSWER);
    let v4 = sent.map_or(who & who::V6 == 0, |sent| sent.to.0.is_v4());
    let (station, port) = if server { (SERVER_MAC, 1) } else { (GATEWAY_MAC, 0) };
    let mut ether = build::eth(station, PORT_MACS[port]);
    if who & who::TAGGED != 0 {
        ether = ether.vlan(7);
    }
    let (vip_port, endpoint_port) = SERVICES[usize::from(service & 15) % SERVICES.len()];
    let (me, client_port) = (client(v4, who), 4000 + u16::from(service >> 4 & 3));
    let there = endpoint(v4, u8::from(who & who::SECOND != 0));
    let to = if !server && who & who::SECOND != 0 { own(v4, 0) } else { vip(v4) };
    let (to, there) = match how {
        how::SECOND_PATH => second(v4),
        _ => (to, there),
    };
    let (src, dst, ports) = match sent {
        Some(Sent { from, to, .. }) => (to.0, from.0, (to.1, from.1)),
        None if server => (there, me, (endpoint_port, client_port)),
        None => (me, to, (client_port, vip_port)),
    };
    let ttl = if how == how::SHORT_LIVED { c & 3 } else { 64 };
    let mut ip = ether.ip(src, dst).ttl(ttl).df(kind & 128 == 0);
    if how == how::OPTIONS {
        ip = if v4 { ip.options([1, 7, 7, 4, 0, 0, 0, 0]) } else { ip.hop_by_hop() };
    }
    let payload = vec![c; usize::from(c) * 8];
    let frame = match kind & 7 {
        kind::TCP => {
            let ack = if a & 16 != 0 { u32::from(b >> 4) } else { 0 };
            let segment = ip.tcp(ports.0, ports.1).ack(ack).flags(a).seq(u32::from(b & 15));
            segment.payload(&payload).frame()
        }
        kind::UDP if a & 1 != 0 && v4 => ip.udp(ports.0, ports.1).no_checksum().payload(&payload).frame(),
        kind::UDP => ip.udp(ports.0, ports.1).payload(&payload).frame(),
        kind::SCTP => sctp(ip, ports, [a, b, c]),
        kind::ERROR => {
            // About a packet that the engine has sent, or may have.
            let quoted = if server { build::ip(me, there) } else { build::ip(to, me) };
            let (from, to) = if server { (client_port, endpoint_port) } else { (vip_port, client_port) };
            let whole = match (a & 3, sent) {
                (_, Some(sent)) => sent.l3.clone(),
                (0, _) => quoted.tcp(from, to).ack(1).payload(&payload).l3(),
                (1, _) => quoted.udp(from, to).payload(&payload).l3(),
                _ => quoted.sctp(from, to).tag(1).cookie_ack().l3(),
            };
            let whole = &whole[..whole.len().min(usize::from(b) * 4)];
            match a >> 2 & 3 {
                0 => ip.port_unreachable(whole).frame(),
                1 => ip.time_exceeded(whole).frame(),
                _ if sent.is_some() => ip.too_big(u16::from(a) * 8, whole).frame(),
                _ => ip.too_big(u16::from(a), whole).frame(),
            }
        }
        kind::ECHO if a & 1 == 0 => ip.echo_request(b.into(), 1).payload(&payload).frame(),
        kind::ECHO => ip.echo_reply(b.into(), 1).payload(&payload).frame(),
        kind::NEIGHBOR => neighbor(ether, v4, src, if a & 2 != 0 { vip(v4) } else { own(v4, port) }, a),
        _ => ip.protocol(a, &payload).frame(),
    };
    let mut frame = frame;
    if who & who::PADDED != 0 {
        frame.resize(frame.len().max(60), b);
    }
    (frame, server)
}

fn sctp(ip: Ip, ports: (u16, u16), [a, b, c]: [u8; 3]) -> Vec<u8> {
    let packet = ip.sctp(ports.0, ports.1).tag(u32::from(b & 7));
    let initiate = u32::from(b >> 3 & 7);
    let packet = match a & 31 {
        0 if c & 1 != 0 => packet.init_from(initiate, &[true, false].map(|v4| client(v4, c >> 1))),
        0 => packet.init(initiate),
        1 => packet.init_ack(initiate, [c; 4]),
        2 => packet.cookie_echo([c; 4]),
        3 => packet.cookie_ack(),
        4 => packet.data(1, 2, vec![c; usize::from(c) * 4]),
        5 => packet.sack(1),
        6 => packet.heartbeat([c]),
        7 => packet.heartbeat_ack([c]),
        8 => packet.abort(c & 1 != 0),
        9 => packet.error(c.into()),
        10 => packet.shutdown(1),
        11 => packet.shutdown_ack(),
        12 => packet.shutdown_complete(c & 1 != 0),
        13 => packet.cookie_ack().data(1, 2, [c]),
        14 => packet.init(initiate).chunk(chunk::DATA, 0, [0; 12]),
        kind => packet.chunk(kind, c, vec![b; c.into()]),
    };
    packet.frame()
}

/// ARP or neighbour discovery, asked or answered.
fn neighbor(ether: build::Ether, v4: bool, sender: Addr, target: Addr, a: u8) -> Vec<u8> {
    let asked = a & 1 == 0;
    match (v4, asked) {
        (true, true) => ether.arp_request(sender, target).frame(),
        (true, false) => ether.arp_reply(sender, target).frame(),
        (false, true) => ether.ip(sender, target).neighbor_solicitation(target).frame(),
        (false, false) => ether
            .ip(sender, target)
            .neighbor_advertisement(sender, a & (ndp::SOLICITED | ndp::OVERRIDE))
            .frame(),
    }
}

/// Changes single bytes: a count, then places and values.
pub fn mutate(frame: &mut Vec<u8>, input: &mut Input<'_>) -> Option<()> {
    let how = input.u8()?;
    for _ in 0..how & 7 {
        let [at, value] = input.array()?;
        if let Some(byte) = frame.get_mut(usize::from(at)) {
            *byte ^= value;
        }
    }
    if how & 8 != 0 {
        frame.truncate(usize::from(input.u8()?));
    }
    if how & 16 != 0 && frame.len() >= 6 {
        frame[..6].copy_from_slice(&Mac::BROADCAST.0);
    }
    Some(())
}
