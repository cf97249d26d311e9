//! Fragments there and back, through workers that each see some of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::addr::Addr;
use pollux::counters::Term;
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer};
use pollux::pipeline::Frame;
use pollux::wire::build;
use pollux::wire::checksum::pseudo;

use crate::ledger::Ledger;
use crate::network::*;
use crate::wire::start;

/// Datagrams of 4000 bytes there and back, in fragments whose order differs from client to client.
pub fn come_out_whole(eal: &Eal, pool: &Mempool, workers: usize) {
    let (engine, mut wire) = start(eal, pool, workers, 2048);
    // All next hops are known to all workers.
    for client in 0..CLIENTS {
        wire.send_wan(&request(client, 1));
        wire.exchange_until(usize::from(client) + 1);
    }
    wire.settle(&engine);
    // What follows is counted in the next tick.
    Ledger::of(&engine);

    let question = |client: u16| vec![client as u8; 4000];
    let (mut there, mut back) = (Datagrams::default(), Datagrams::default());
    let mut answered = 0;
    for client in 0..CLIENTS {
        let source = [198, 51, 100, (client % 200) as u8 + 1];
        let ip = build::eth(GATEWAY_MAC, WAN_MAC).ip(Ipv4Addr::from(source), Ipv4Addr::from(VIP)).id(client);
        for piece in cut(&ip, 30_000 + client, 53, &question(client), client) {
            wire.send_wan(&piece);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while answered <= client {
            assert!(Instant::now() < deadline, "client {client}, {workers} workers: not answered");
            for (src, dst, l4) in there.take(&mut wire.lan_out) {
                let ports = (u16::from_be_bytes([l4[0], l4[1]]), u16::from_be_bytes([l4[2], l4[3]]));
                assert_eq!((src.octets(), ports), (source, (30_000 + client, 5353)));
                assert_eq!(l4[8..], question(client));
                let ip = build::eth(endpoint_mac(dst.octets()[3]), LAN_MAC).ip(dst, src).id(client);
                let mut pieces = ArrayVec::<Mbuf, 3>::new();
                for piece in cut(&ip, 5353, ports.0, &l4[8..], client + 1) {
                    pieces.push(wire.pool.frame(&piece).unwrap());
                }
                assert_eq!(wire.lan_in.send(&mut pieces), 3);
            }
            for (src, dst, l4) in back.take(&mut wire.wan_out) {
                assert_eq!((src.octets(), dst.octets()), (VIP, source));
                assert_eq!(
                    l4[..4],
                    [0, 53, (30_000 + client).to_be_bytes()[0], (30_000 + client).to_be_bytes()[1]]
                );
                assert_eq!(l4[8..], question(client));
                answered += 1;
            }
        }
    }
    wire.settle(&engine);
    let ledger = Ledger::of_tick(&engine, 2);
    let sent = 6 * u64::from(CLIENTS);
    assert_eq!(ledger.term(Term::Rx), sent);
    assert_eq!(ledger.term(Term::Forwarded), sent);
    assert_eq!(ledger.dropped, 0);
    assert_eq!(ledger.processed.0, sent, "each piece is a packet of its own");
    assert_eq!(ledger.term(Term::HeldIn), ledger.term(Term::HeldOut));
    assert!(ledger.term(Term::HeldIn) > 0, "some came before their first");
    assert_eq!(ledger.term(Term::HandedOut), ledger.term(Term::HandedIn));
    assert_eq!(ledger.term(Term::HandedOut) > 0, workers > 1);
    assert_eq!(engine.mempool().unwrap().in_use, 0);
    engine.stop();
}

/// A UDP datagram in three fragments, in one of their six orders.
fn cut(ip: &build::Ip, sport: u16, dport: u16, payload: &[u8], order: u16) -> Vec<Vec<u8>> {
    let whole = ip.clone().udp(sport, dport).payload(payload).l3();
    let piece =
        |i: usize, bytes: &[u8]| ip.clone().fragment((i * 1480) as u16, i < 2).protocol(17, bytes).frame();
    let mut pieces: Vec<_> = whole[20..].chunks(1480).enumerate().map(|(i, bytes)| piece(i, bytes)).collect();
    pieces.rotate_left(usize::from(order % 3));
    if order % 2 == 1 {
        pieces.swap(0, 2);
    }
    pieces
}

/// Puts fragments together, by source, destination and id.
#[derive(Default)]
struct Datagrams(BTreeMap<(Ipv4Addr, Ipv4Addr, [u8; 2]), Pieces>);

/// By offset.
type Pieces = BTreeMap<u16, Vec<u8>>;

impl Datagrams {
    /// The datagrams that the frames of a ring complete, with right checksums.
    fn take(&mut self, ring: &mut RingConsumer) -> Vec<(Ipv4Addr, Ipv4Addr, Vec<u8>)> {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        ring.receive(64, &mut frames);
        let mut whole = Vec::new();
        for frame in &frames {
            let bytes = frame.data();
            build::verify(bytes).unwrap();
            let key = (address(bytes, 26), address(bytes, 30), [bytes[18], bytes[19]]);
            let offset = u16::from_be_bytes([bytes[20], bytes[21]]) & 0x1fff;
            let pieces = self.0.entry(key).or_default();
            pieces.insert(offset, bytes[34..].to_vec());
            if pieces.len() == 3 {
                let l4: Vec<u8> = self.0.remove(&key).unwrap().into_values().flatten().collect();
                let (src, dst) =
                    (Addr::from(std::net::IpAddr::from(key.0)), Addr::from(std::net::IpAddr::from(key.1)));
                assert_eq!(pseudo(src, dst, 17, &l4), 0, "the checksum over all pieces");
                whole.push((key.0, key.1, l4));
            }
        }
        whole
    }
}
