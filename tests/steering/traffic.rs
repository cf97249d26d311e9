//! What clients, endpoints and routers send: always the same, one packet after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pollux::wire::build::{self, Ip};

use crate::network::{GATEWAY, VIP, VIP6, from_lan, from_wan};
use crate::nic::Side::{Lan, Wan};
use crate::nic::Wires;

/// So many that no worker has less than half of its share, whatever the key.
const CLIENTS: u16 = 60;

/// The destination of an IP packet in a frame.
fn destination(frame: &[u8]) -> IpAddr {
    let l3 = build::l3(frame);
    if l3[0] >> 4 == 4 {
        let octets: [u8; 4] = l3[16..20].try_into().unwrap();
        Ipv4Addr::from(octets).into()
    } else {
        let octets: [u8; 16] = l3[24..40].try_into().unwrap();
        Ipv6Addr::from(octets).into()
    }
}

/// A client of either family, and the VIP that it knows.
fn clients(n: u16) -> [(String, &'static str); 2] {
    [(format!("198.51.100.{}", n % 23), VIP), (format!("2001:db8:c:{:x}::7", n + 1), VIP6)]
}

/// Connections of TCP and UDP, both ways: what steering by the client's address and port is for.
pub fn plain(wires: &mut Wires) {
    for n in 0..CLIENTS {
        for (client, vip) in clients(n) {
            udp(wires, &client, vip, 20_000 + n);
            tcp(wires, &client, vip, 30_000 + 7 * n, n % 2 == 0);
        }
    }
}

fn udp(wires: &mut Wires, client: &str, vip: &str, port: u16) {
    for round in 0..2 {
        let question = from_wan().ip(client, vip).udp(port, 53).payload([round; 40]).frame();
        let endpoint = destination(&wires.through(Wan, &question));
        let answer = from_lan().ip(endpoint, client).udp(5353, port).payload([round; 90]).frame();
        wires.through(Lan, &answer);
    }
}

fn tcp(wires: &mut Wires, client: &str, vip: &str, port: u16, closes: bool) {
    let there = || from_wan().ip(client, vip).tcp(port, 80);
    let endpoint = destination(&wires.through(Wan, &there().syn().frame()));
    let back = || from_lan().ip(endpoint, client).tcp(8080, port);
    wires.through(Lan, &back().seq(0).ack(1).syn().frame());
    wires.through(Wan, &there().seq(1).ack(1).frame());
    wires.through(Wan, &there().seq(1).ack(1).payload(b"hello").frame());
    wires.through(Lan, &back().seq(1).ack(6).payload(b"welcome").frame());
    if closes {
        wires.through(Wan, &there().seq(6).ack(8).fin().frame());
        wires.through(Lan, &back().seq(8).ack(7).fin().frame());
        wires.through(Wan, &there().seq(7).ack(9).frame());
    }
}

/// What no device can steer to the owner, and what has none.
pub fn special(wires: &mut Wires) {
    for n in 0..CLIENTS / 2 {
        for (client, vip) in clients(n) {
            errors(wires, &client, vip, 40_000 + n);
        }
        let (client, vip) = &clients(n)[0];
        fragments(wires, client, vip, 41_000 + n);
        sctp(wires, client, vip, 42_000 + n);
        drops(wires, client, vip, 43_000 + n);
    }
    for sequence in 0..3 {
        let (side, _) = wires.pass(Wan, &from_wan().ip(GATEWAY, VIP).echo_request(1, sequence).frame());
        assert_eq!(side, Wan);
    }
}

/// ICMP errors about a connection, from both sides, from those at its ends and from routers.
fn errors(wires: &mut Wires, client: &str, vip: &str, port: u16) {
    let v4 = vip == VIP;
    let (router, inner) =
        if v4 { ("203.0.113.9", "10.1.0.254") } else { ("2001:db8:1::9", "2001:db8:2::fe") };
    let question = from_wan().ip(client, vip).udp(port, 53).payload([1; 30]).frame();
    let forwarded = wires.through(Wan, &question);
    let endpoint = destination(&forwarded);
    let answer = from_lan().ip(endpoint, client).udp(5353, port).payload([2; 30]).frame();
    let answered = wires.through(Lan, &answer);
    let quoted = build::l3(&forwarded);
    let to_client = wires.through(Lan, &from_lan().ip(endpoint, client).port_unreachable(quoted).frame());
    assert_eq!(destination(&to_client).to_string(), client);
    wires.through(Lan, &from_lan().ip(inner, client).time_exceeded(quoted).frame());
    let error = from_wan().ip(router, vip).time_exceeded(build::l3(&answered)).frame();
    assert_eq!(destination(&wires.through(Wan, &error)), endpoint);
}

/// Datagrams in three pieces, there and back.
fn fragments(wires: &mut Wires, client: &str, vip: &str, port: u16) {
    let there = cut(&from_wan().ip(client, vip).id(port), port, 53);
    let mut endpoint = None;
    for piece in &there {
        endpoint = Some(destination(&wires.through(Wan, piece)));
    }
    let back = cut(&from_lan().ip(endpoint.unwrap(), client).id(port), 5353, port);
    for piece in &back {
        wires.through(Lan, piece);
    }
}

fn cut(ip: &Ip, sport: u16, dport: u16) -> Vec<Vec<u8>> {
    let whole = ip.clone().udp(sport, dport).payload([7; 4000]).l3();
    let pieces = whole[20..].chunks(1480).enumerate();
    pieces
        .map(|(i, bytes)| ip.clone().fragment((i * 1480) as u16, i < 2).protocol(17, bytes).frame())
        .collect()
}

/// An association; and a packet from another address of the client's, which ends at the same worker.
fn sctp(wires: &mut Wires, client: &str, vip: &str, port: u16) {
    let there = |tag: u32| from_wan().ip(client, vip).sctp(port, 36412).tag(tag);
    let endpoint = destination(&wires.through(Wan, &there(0).init(77).frame()));
    let back = |tag: u32| from_lan().ip(endpoint, client).sctp(36422, port).tag(tag);
    wires.through(Lan, &back(77).init_ack(88, b"cookie").frame());
    wires.through(Wan, &there(88).cookie_echo(b"cookie").frame());
    wires.through(Lan, &back(77).cookie_ack().frame());
    wires.through(Wan, &there(88).data(1, 0, b"hello").frame());
    wires.through(Lan, &back(77).sack(1).frame());
    wires.send(Wan, &from_wan().ip("198.51.100.99", vip).sctp(port, 36412).tag(88).heartbeat(b"x").frame());
    if port.is_multiple_of(2) {
        wires.through(Wan, &there(88).shutdown(0).frame());
        wires.through(Lan, &back(77).shutdown_ack().frame());
        wires.through(Wan, &there(88).shutdown_complete(false).frame());
    } else {
        wires.through(Lan, &back(77).abort(false).frame());
    }
}

/// What the firewall, the tables and the parser drop.
fn drops(wires: &mut Wires, client: &str, vip: &str, port: u16) {
    wires.send(Wan, &from_wan().ip("192.0.2.7", vip).tcp(port, 80).syn().frame());
    wires.send(Wan, &from_wan().ip(client, vip).tcp(port, 81).syn().frame());
    wires.send(Wan, &from_wan().ip(client, vip).tcp(port, 80).seq(1).ack(1).frame());
    wires.send(Lan, &from_lan().ip("10.1.0.10", client).udp(5353, port).frame());
    let mut broken = from_wan().ip(client, vip).udp(port, 53).frame();
    broken[24] ^= 1; // in the header's checksum
    wires.send(Wan, &broken);
}
