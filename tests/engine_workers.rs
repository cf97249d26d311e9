//! The whole engine on two ring ports with one queue each: one, two and four workers must give the same result, and count
//! the same. One test: DPDK is initialised once in a process; the engine on it can be started again and again.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::addr::{Addr, Mac, Prefix};
use pollux::config::{
    AdminSocket, Algorithm, Config, Control, Endpoint, EndpointState, Engine as EngineConfig, Idle, Metrics,
    Neighbor, OnUnknown, Port, Protocol, Refusal, Role, Route, Service, ServiceLabel, Transit,
};
use pollux::counters::{Bank, Term};
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer, RingPort, RingProducer, allowed_cpus, ring_port};
use pollux::engine::{Engine, EngineError, EnginePort};
use pollux::ids::PairSlot;
use pollux::pipeline::{DropReason, Frame};
use pollux::wire::build;
use pollux::wire::checksum::pseudo;

const WAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);
const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
const VIP: [u8; 4] = [203, 0, 113, 100];
const CLIENTS: u16 = 300;
const ROUNDS: u16 = 5;

#[test]
fn workers() {
    let eal = Engine::init_dpdk(&config(1)).unwrap();
    let pool = Mempool::new(&eal, "wire", 8191, 2048).unwrap();

    too_little_memory_is_one_line(&eal);
    a_cpu_that_is_not_there_is_one_line(&eal);

    let one = balance(&eal, &pool, 1);
    assert_eq!(one.endpoints.len(), usize::from(CLIENTS));
    for workers in [2, 4] {
        let many = balance(&eal, &pool, workers);
        assert_eq!(one.endpoints, many.endpoints, "{workers} workers choose other endpoints than one");
        assert_eq!(one.processed, many.processed, "{workers} workers");
    }
    for workers in [1, 2, 4] {
        broken_frames_are_counted(&eal, &pool, workers);
    }
    for workers in [1, 2, 4] {
        fragments_come_out_whole(&eal, &pool, workers);
    }
    for workers in [1, 2, 4] {
        a_full_device_drops_and_counts(&eal, &pool, workers);
    }
    for workers in [2, 4] {
        every_tick_adds_up(&eal, &pool, workers);
    }
    assert_eq!(pool.in_use(), 0);
}

// --- the checks

fn too_little_memory_is_one_line(eal: &Eal) {
    let mut config = config(1);
    config.engine.memory_mb = 16;
    let [wan, lan] = ports(eal, "small", 64).map(|port| EnginePort::from(port.device));
    let error = Engine::start_on(eal, &config, vec![wan, lan]).unwrap_err().to_string();
    assert!(error.starts_with("engine.memory_mb = 16 is too little: "), "{error}");
    assert!(error.contains("set engine.memory_mb = ") && !error.contains('\n'), "{error}");
}

fn a_cpu_that_is_not_there_is_one_line(eal: &Eal) {
    let mut config = config(1);
    config.engine.workers = vec![1000];
    let [wan, lan] = ports(eal, "nocpu", 64).map(|port| EnginePort::from(port.device));
    let error = Engine::start_on(eal, &config, vec![wan, lan]).unwrap_err();
    assert!(matches!(error, EngineError::Cpu { cpu: 1000, .. }), "{error}");
}

#[derive(Debug)]
struct Outcome {
    /// Client to endpoint.
    endpoints: BTreeMap<(Ipv4Addr, u16), Ipv4Addr>,
    /// Packets and bytes over all pairs.
    processed: (u64, u64),
}

fn balance(eal: &Eal, pool: &Mempool, workers: usize) -> Outcome {
    let (engine, mut wire) = start(eal, pool, workers, 2048);
    assert!(engine.is_ready());
    let ports = engine.ports();
    assert_eq!((ports[0].name.as_str(), ports[0].mac, ports[1].mac), ("wan", WAN_MAC, LAN_MAC));
    assert_eq!((ports[0].rx_queues, ports[0].tx_queues), (1, 1));

    // One by one while next hops are asked for, then all at once.
    for round in 0..ROUNDS {
        for client in 0..CLIENTS {
            wire.send_wan(&request(client, round));
            if round == 0 {
                wire.exchange_until(usize::from(client) + 1);
            }
        }
        wire.exchange_until(usize::from(CLIENTS) * usize::from(round + 1));
    }
    let sent = u64::from(CLIENTS) * u64::from(ROUNDS);
    assert_eq!(wire.replies.len() as u64, sent);
    assert!(wire.arps >= 1, "one endpoint is not a static neighbour");
    wire.settle(&engine);

    let ledger = Ledger::of(&engine);
    assert_eq!(ledger.term(Term::Forwarded), 2 * sent);
    assert_eq!(ledger.term(Term::Rx), 2 * sent + wire.arps, "requests, replies, ARP replies");
    assert_eq!(ledger.term(Term::Consumed), wire.arps);
    assert_eq!(ledger.dropped, 0);
    assert_eq!(ledger.term(Term::Tx), 2 * sent + ledger.term(Term::Originated));
    assert_eq!(ledger.term(Term::TxDropped), 0);
    assert_eq!(ledger.term(Term::HeldIn), ledger.term(Term::HeldOut));
    assert_eq!(ledger.term(Term::HandedOut), ledger.term(Term::HandedIn));
    assert_eq!(ledger.term(Term::HandedOut) > 0, workers > 1);
    // As the other ends of the wires saw it.
    assert_eq!(ledger.ports[0], (sent, wire.wan_sent_bytes, sent, wire.wan_bytes));
    assert_eq!(
        (ledger.ports[1].2, ledger.ports[1].3),
        (sent + ledger.term(Term::Originated), wire.lan_bytes)
    );
    assert!(ledger.busy_polls > 0 && ledger.busy_polls < ledger.polls);
    assert_eq!(engine.mempool().unwrap().in_use, 0);
    assert_eq!(engine.lost_neighbor_updates(), 0);
    assert_eq!(engine.flow_capacity().len(), workers);

    engine.stop();
    assert!(!engine.is_ready());
    assert!(engine.ports().is_empty() && engine.mempool().is_none());
    Outcome { endpoints: wire.endpoints, processed: ledger.processed }
}

fn broken_frames_are_counted(eal: &Eal, pool: &Mempool, workers: usize) {
    let (engine, mut wire) = start(eal, pool, workers, 2048);
    wire.send_wan(&[0; 13]);
    let mut long = pool.frame(&request(1, 1)).unwrap();
    long.chain(pool.frame(&[0; 2048]).unwrap()).unwrap();
    let bytes = 13 + long.len() as u64;
    let mut frames = ArrayVec::<Mbuf, 1>::from([long]);
    assert_eq!(wire.wan_in.send(&mut frames), 1);
    wire.settle(&engine);
    let ledger = Ledger::of(&engine);
    assert_eq!((ledger.term(Term::Rx), ledger.dropped), (2, 2));
    assert_eq!(ledger.reason(DropReason::FrameTooShort), 1);
    assert_eq!(ledger.reason(DropReason::Segmented), 1);
    assert_eq!((ledger.ports[0].0, ledger.ports[0].1), (2, bytes));
    // Ends by being dropped.
}

/// A ring of 64 places takes 63, and with more workers than TX queues the rings between them some more. What does not fit
/// is counted as dropped; all that is counted as taken arrives once there is room.
/// Datagrams of 4000 bytes there and back, in fragments whose order differs from client to client.
fn fragments_come_out_whole(eal: &Eal, pool: &Mempool, workers: usize) {
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

fn a_full_device_drops_and_counts(eal: &Eal, pool: &Mempool, workers: usize) {
    let (engine, mut wire) = start(eal, pool, workers, 64);
    // More than all rings hold.
    for client in 0..5 * CLIENTS {
        while wire.wan_in.waiting() > 30 {
            std::thread::yield_now();
        }
        wire.send_wan(&request(client, 0));
    }
    wire.settle(&engine);
    let mut arrived = wire.drain_lan();
    let ledger = Ledger::of(&engine);
    let taken = ledger.term(Term::Tx);
    assert_eq!(ledger.ports[1].2, taken);
    if workers == 1 {
        assert_eq!(taken, 63);
    }
    assert_eq!(ledger.term(Term::Rx), u64::from(5 * CLIENTS));
    assert!(ledger.term(Term::TxDropped) > 0);
    assert_eq!(
        taken + ledger.term(Term::TxDropped),
        ledger.term(Term::Forwarded) + ledger.term(Term::Originated)
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    let processed = ledger.processed.0;
    while arrived < processed {
        assert!(Instant::now() < deadline, "{arrived} of {processed} arrived");
        arrived += wire.drain_lan();
    }
    assert_eq!(arrived, processed);
    // What the workers still had for each other at the end is freed.
    engine.stop();
}

/// Under traffic, with workers that are asked one after the other: at every tick each packet is in exactly one place.
fn every_tick_adds_up(eal: &Eal, pool: &Mempool, workers: usize) {
    let (engine, mut wire) = start(eal, pool, workers, 2048);
    let counters = engine.counters();
    let mut sum = vec![0_i64; Term::ALL.len()];
    let mut dropped = 0;
    let mut handed = 0;
    for tick in 1..=60 {
        for (at, worker) in counters.iter().enumerate() {
            worker.ask(tick);
            // Traffic also while only some have been asked.
            wire.send_wan(&request(at as u16 + tick as u16 * 7, 1));
            wire.exchange();
        }
        for client in 0..50 {
            wire.send_wan(&request(client * 3, tick as u16 % 4));
            wire.exchange();
        }
        for worker in &counters {
            let deadline = Instant::now() + Duration::from_secs(10);
            let bank = loop {
                assert!(Instant::now() < deadline, "a worker does not turn");
                match worker.at_rest(tick) {
                    Some(bank) => break bank,
                    None => wire.exchange(),
                }
            };
            for (sum, term) in sum.iter_mut().zip(Term::ALL) {
                *sum += bank.term(term).take().cast_signed();
            }
            for &reason in DropReason::ALL {
                dropped += bank.dropped(reason).take().cast_signed();
            }
        }
        let term = |term: Term| sum[term as usize];
        let held = term(Term::HeldIn) - term(Term::HeldOut);
        let in_rings = term(Term::HandedOut) - term(Term::HandedIn);
        assert!(held >= 0 && in_rings >= 0, "tick {tick}: {held} held, {in_rings} in rings");
        assert_eq!(
            term(Term::Rx),
            term(Term::Forwarded) + term(Term::Consumed) + dropped + held + in_rings,
            "tick {tick}"
        );
        assert_eq!(
            term(Term::Tx) + term(Term::TxDropped),
            term(Term::Forwarded) + term(Term::Originated),
            "tick {tick}"
        );
        handed = term(Term::HandedOut);
    }
    assert!(handed > 0);
}

// --- the other ends of the wires

struct Wire {
    pool: Mempool,
    wan_in: RingProducer,
    wan_out: RingConsumer,
    lan_in: RingProducer,
    lan_out: RingConsumer,
    endpoints: BTreeMap<(Ipv4Addr, u16), Ipv4Addr>,
    replies: Vec<(Ipv4Addr, u16)>,
    arps: u64,
    wan_sent_bytes: u64,
    wan_bytes: u64,
    lan_bytes: u64,
}

impl Wire {
    fn send_wan(&mut self, bytes: &[u8]) {
        self.wan_sent_bytes += bytes.len() as u64;
        let mut frames = ArrayVec::<Mbuf, 1>::from([self.pool.frame(bytes).unwrap()]);
        assert_eq!(self.wan_in.send(&mut frames), 1);
    }

    /// Plays the endpoints and the clients until so many replies have come back.
    fn exchange_until(&mut self, replies: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.replies.len() < replies {
            assert!(Instant::now() < deadline, "{} of {replies} replies", self.replies.len());
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        self.lan_out.receive(64, &mut frames);
        let mut answers = ArrayVec::<Mbuf, 64>::new();
        for frame in frames.drain(..) {
            let bytes = frame.data();
            self.lan_bytes += bytes.len() as u64;
            let answer = if bytes[12..14] == [8, 6] {
                self.arps += 1;
                arp_reply(bytes)
            } else {
                assert_eq!(bytes[..12], [endpoint_mac(bytes[33]).0, LAN_MAC.0].concat());
                let client = (address(bytes, 26), u16::from_be_bytes([bytes[34], bytes[35]]));
                let endpoint = address(bytes, 30);
                let before = self.endpoints.insert(client, endpoint);
                assert!(before.is_none_or(|before| before == endpoint), "a connection keeps its endpoint");
                assert_eq!(checksum(&bytes[14..34]), 0);
                udp(
                    (endpoint_mac(bytes[33]), LAN_MAC),
                    (endpoint.octets(), 5353),
                    (client.0.octets(), client.1),
                    b"pong, and a little longer",
                )
            };
            answers.push(self.pool.frame(&answer).unwrap());
        }
        let n = answers.len();
        assert_eq!(self.lan_in.send(&mut answers), n);

        self.wan_out.receive(64, &mut frames);
        for frame in &frames {
            let bytes = frame.data();
            self.wan_bytes += bytes.len() as u64;
            assert_eq!(bytes[..12], [GATEWAY_MAC.0, WAN_MAC.0].concat());
            assert_eq!((address(bytes, 26).octets(), &bytes[34..36]), (VIP, &[0, 53][..]));
            assert_eq!(&bytes[42..67], b"pong, and a little longer");
            assert_eq!(checksum(&bytes[14..34]), 0);
            self.replies.push((address(bytes, 30), u16::from_be_bytes([bytes[36], bytes[37]])));
        }
    }

    /// Waits until the engine has taken what was sent, and some more, so that it has also dealt with it.
    fn settle(&mut self, engine: &Engine) {
        while self.wan_in.waiting() + self.lan_in.waiting() > 0 {
            std::thread::yield_now();
        }
        let later = engine.clock().now().after(Duration::from_millis(20));
        while engine.counters().iter().any(|counters| counters.heartbeat() < later) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes what has arrived on the LAN side, and does not answer. How many requests were among it.
    fn drain_lan(&mut self) -> u64 {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        self.lan_out.receive(64, &mut frames);
        frames.iter().filter(|frame| frame.data()[12..14] == [8, 0]).count() as u64
    }
}

fn start(eal: &Eal, pool: &Mempool, workers: usize, ring: u32) -> (Engine, Wire) {
    let [wan, lan] = ports(eal, &format!("w{workers}x{ring}"), ring);
    let ports = vec![
        EnginePort { device: wan.device, mac: Some(WAN_MAC) },
        EnginePort { device: lan.device, mac: Some(LAN_MAC) },
    ];
    let engine = Engine::start_on(eal, &config(workers), ports).unwrap();
    let only = |mut ends: Vec<_>| ends.pop().unwrap();
    let wire = Wire {
        pool: pool.clone(),
        wan_in: only(wan.inject),
        wan_out: wan.collect.into_iter().next().unwrap(),
        lan_in: only(lan.inject),
        lan_out: lan.collect.into_iter().next().unwrap(),
        endpoints: BTreeMap::new(),
        replies: Vec::new(),
        arps: 0,
        wan_sent_bytes: 0,
        wan_bytes: 0,
        lan_bytes: 0,
    };
    (engine, wire)
}

fn ports(eal: &Eal, name: &str, size: u32) -> [RingPort; 2] {
    ["wan", "lan"].map(|side| ring_port(eal, &format!("{name}{side}"), 1, 1, size).unwrap())
}

// --- counters

/// The sum over all workers at one tick.
struct Ledger {
    terms: Vec<u64>,
    reasons: Vec<u64>,
    dropped: u64,
    /// RX packets and bytes, TX packets and bytes.
    ports: [(u64, u64, u64, u64); 2],
    processed: (u64, u64),
    polls: u64,
    busy_polls: u64,
}

impl Ledger {
    fn of(engine: &Engine) -> Self {
        Self::of_tick(engine, 1)
    }

    /// What was counted since the tick before.
    fn of_tick(engine: &Engine, tick: u32) -> Self {
        let workers = engine.counters();
        for worker in &workers {
            worker.ask(tick);
        }
        let mut ledger = Self {
            terms: vec![0; Term::ALL.len()],
            reasons: vec![0; DropReason::COUNT],
            dropped: 0,
            ports: [(0, 0, 0, 0); 2],
            processed: (0, 0),
            polls: 0,
            busy_polls: 0,
        };
        for worker in &workers {
            let deadline = Instant::now() + Duration::from_secs(10);
            let bank = loop {
                assert!(Instant::now() < deadline, "a worker does not turn");
                match worker.at_rest(tick) {
                    Some(bank) => break bank,
                    None => std::thread::yield_now(),
                }
            };
            let slots = worker.sizes().endpoints + worker.sizes().pairs;
            ledger.add(bank, slots);
        }
        ledger
    }

    fn add(&mut self, bank: &Bank, slots: usize) {
        for (sum, term) in self.terms.iter_mut().zip(Term::ALL) {
            *sum += bank.term(term).get();
        }
        for (sum, &reason) in self.reasons.iter_mut().zip(DropReason::ALL) {
            *sum += bank.dropped(reason).get();
            self.dropped += bank.dropped(reason).get();
        }
        for (id, sum) in (0..).zip(&mut self.ports) {
            let port = bank.port(pollux::ids::PortId(id));
            sum.0 += port.rx_packets.get();
            sum.1 += port.rx_bytes.get();
            sum.2 += port.tx_packets.get();
            sum.3 += port.tx_bytes.get();
        }
        for slot in 0..slots {
            let pair = bank.pair(PairSlot(slot as u32));
            self.processed.0 += pair.packets.get();
            self.processed.1 += pair.bytes.get();
        }
        self.polls += bank.load.polls.get();
        self.busy_polls += bank.load.busy_polls.get();
    }

    fn term(&self, term: Term) -> u64 {
        self.terms[term as usize]
    }

    fn reason(&self, reason: DropReason) -> u64 {
        self.reasons[reason.index()]
    }
}

// --- frames

fn endpoint_mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 2, last])
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn request(client: u16, round: u16) -> Vec<u8> {
    let source = [198, 51, 100, (client % 200) as u8 + 1];
    let payload = vec![0x61; usize::from(client % 90 + round)];
    udp((GATEWAY_MAC, WAN_MAC), (source, 20_000 + client), (VIP, 53), &payload)
}

fn udp(macs: (Mac, Mac), from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let len = (28 + payload.len()) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    ip.extend(from.0);
    ip.extend(to.0);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [macs.1.0, macs.0.0].concat();
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend((len - 20).to_be_bytes());
    // No UDP checksum (RFC 768).
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn arp_reply(request: &[u8]) -> Vec<u8> {
    let asked = address(request, 38);
    let mac = endpoint_mac(asked.octets()[3]);
    let mut reply = [&request[6..12], &mac.0].concat();
    reply.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    reply.extend(mac.0);
    reply.extend(asked.octets());
    reply.extend(&request[22..32]);
    reply
}

/// RFC 1071; 0 over a header with a right one in it.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

// --- configuration

fn config(workers: usize) -> Config {
    // As they were before DPDK's initialisation left this thread the control threads' CPUs only.
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    let cpus = CPUS.get_or_init(allowed_cpus);
    let port = |name: &str, role, address: [u8; 4]| Port {
        name: name.into(),
        device: format!("net_ring_{name}"),
        role,
        addresses: vec![Prefix { addr: Addr::v4(address), len: 24 }],
        mtu: 1500,
        vlan: 0,
        queues: 0,
        rx_descriptors: 256,
        tx_descriptors: 256,
        kernel: None,
    };
    let neighbor = |address: [u8; 4], mac, port| Neighbor { address: Addr::v4(address), mac, port };
    let endpoint = |last| Endpoint {
        address: Addr::v4([10, 1, 0, last]),
        port: 5353,
        weight: 1,
        state: EndpointState::Up,
    };
    Config {
        engine: EngineConfig {
            workers: (0..workers).map(|i| cpus[i % cpus.len()]).collect(),
            main_cpu: None,
            hugepages: false,
            memory_mb: 384,
            eal_args: vec![],
            max_flows: 8192,
            burst: 32,
            idle: Idle::Backoff,
            on_unknown: OnUnknown::Drop,
            transit: Transit::Drop,
            shutdown_delay: Duration::ZERO,
        },
        ports: vec![port("wan", Role::Client, [203, 0, 113, 2]), port("lan", Role::Server, [10, 1, 0, 1])],
        routes: vec![Route {
            prefix: Prefix { addr: Addr::v4([0; 4]), len: 0 },
            via: Addr::v4([203, 0, 113, 1]),
        }],
        // One endpoint is left to ARP.
        neighbors: vec![
            neighbor([203, 0, 113, 1], GATEWAY_MAC, 0),
            neighbor([10, 1, 0, 10], endpoint_mac(10), 1),
            neighbor([10, 1, 0, 11], endpoint_mac(11), 1),
        ],
        services: vec![Service {
            name: "dns".into(),
            vip: Addr::v4(VIP),
            first_port: 53,
            last_port: 53,
            protocol: Protocol::Udp,
            mode: pollux::config::Mode::Dnat,
            algorithm: Algorithm::Maglev { size: 251 },
            idle_timeout: Duration::from_secs(60),
            on_no_endpoint: Refusal::Drop,
            endpoints: vec![endpoint(10), endpoint(11), endpoint(12)],
        }],
        snat: pollux::config::Snat { addresses: vec![], ports: (1024, 65_535) },
        firewall: vec![],
        control: Control { socket: AdminSocket::Off },
        metrics: Metrics {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tick: Duration::from_secs(1),
            distribution_tick: Duration::from_secs(10),
            service_label: ServiceLabel::Address,
            flow_series_limit: 1000,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
        },
    }
}
