//! The whole engine on two ring ports with one queue each: one, two and four workers must give the same result, and count
//! the same. One test: DPDK is initialised once in a process; the engine on it can be started again and again.
#![allow(clippy::unwrap_used)]

mod balancing;
mod fragments;
mod ledger;
mod network;
mod wire;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::counters::Term;
use pollux::dpdk::{Eal, Mbuf, Mempool};
use pollux::engine::{Engine, EngineError, EnginePort};
use pollux::pipeline::DropReason;

use crate::ledger::Ledger;
use crate::network::{CLIENTS, LAN_MAC, WAN_MAC, config, request};
use crate::wire::{ports, start};

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
    balancing::clients_keep_their_endpoint(&eal, &pool, 4);
    balancing::connections_are_counted_over_all_workers(&eal, &pool, 4);
    for workers in [1, 2, 4] {
        fragments::come_out_whole(&eal, &pool, workers);
    }
    for workers in [1, 2, 4] {
        a_full_device_drops_and_counts(&eal, &pool, workers);
    }
    for workers in [2, 4] {
        every_tick_adds_up(&eal, &pool, workers);
    }
    assert_eq!(pool.in_use(), 0);
}

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
