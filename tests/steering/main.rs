//! The engine on devices with several queues and RSS, simulated: with the right RSS nothing is handed from worker to worker,
//! with any other everything still works, and what is counted is the same, to the packet, with any number of workers.
//!
//! One test: DPDK is initialised once in a process; the engine on it can be started again and again.
#![allow(clippy::unwrap_used)]

mod network;
mod nic;
mod traffic;

use std::time::{Duration, Instant};

use pollux::dpdk::{Eal, Mempool, allowed_cpus};
use pollux::engine::Engine;
use pollux::metrics::{Aggregator, Settings};

use crate::nic::{Rss, Wires};

/// How a device spreads frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Steered {
    /// With the engine's key, and a redirection table of so many entries.
    Right(u32),
    /// With a key of its own.
    Wrong,
    /// It has one queue.
    OneQueue,
}

#[test]
fn steering() {
    // As they were before DPDK's initialisation leaves this thread the control threads' CPUs only.
    let cpus = allowed_cpus();
    let eal = Engine::init_dpdk(&network::config(&cpus, 1)).unwrap();
    let pool = Mempool::new(&eal, "wire", 1023, 2048).unwrap();
    let mut number = 0;
    let mut run = |workers, steered, traffic: &[fn(&mut Wires)]| {
        number += 1;
        Run::new(&eal, &pool, &format!("n{number}"), &cpus, workers, steered).finish(traffic)
    };

    let plain: [fn(&mut Wires); 1] = [traffic::plain];
    let one = run(1, Steered::Right(128), &plain);
    for (workers, table) in [(2, 128), (3, 512), (4, 128), (4, 64)] {
        let many = run(workers, Steered::Right(table), &plain);
        assert_eq!(many.handed, 0, "{workers} workers, {table} entries");
        assert!(many.share > 0.5 / workers as f64, "{workers} workers: one has a share of {}", many.share);
        assert_same(&one, &many);
    }

    let all: [fn(&mut Wires); 2] = [traffic::plain, traffic::special];
    let one = run(1, Steered::Right(128), &all);
    for steered in [Steered::Right(128), Steered::Wrong, Steered::OneQueue] {
        let four = run(4, steered, &all);
        assert!(four.handed > 0, "{steered:?}: fragments and errors find their owners");
        if steered != Steered::Right(128) {
            assert!(four.handed > four.frames / 2, "{steered:?}: {} of {}", four.handed, four.frames);
        }
        assert_same(&one, &four);
    }
    assert_eq!(pool.in_use(), 0);
}

/// All series are the same, but for those about workers and rings, and for how long something took.
fn assert_same(one: &Outcome, other: &Outcome) {
    let (one, other) = (series(&one.exposition), series(&other.exposition));
    assert!(one.len() > 200, "{} series", one.len());
    for (a, b) in one.iter().zip(&other) {
        assert_eq!(a, b);
    }
    assert_eq!(one.len(), other.len());
}

fn series(exposition: &str) -> Vec<&str> {
    let left_out = ["pollux_worker_", "pollux_handoff_packets_total", "pollux_handshake_seconds"];
    let series = exposition.lines().filter(|line| !line.starts_with('#'));
    series.filter(|line| !left_out.iter().any(|family| line.starts_with(family))).collect()
}

/// What became of the traffic.
struct Outcome {
    exposition: String,
    /// Frames into the engine.
    frames: u64,
    /// Frames from worker to worker.
    handed: u64,
    /// Of the worker with the least: its share of the connections' packets.
    share: f64,
}

/// One engine and its wires.
struct Run {
    engine: Engine,
    wires: Wires,
    settings: Settings,
}

impl Run {
    fn new(eal: &Eal, pool: &Mempool, name: &str, cpus: &[usize], workers: usize, steered: Steered) -> Self {
        let config = network::config(cpus, workers);
        let queues = if steered == Steered::OneQueue { 1 } else { workers as u16 };
        let table = if let Steered::Right(table) = steered { table } else { 128 };
        // A key that nobody has installed.
        let wrong = (0..52_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ 0x5a).collect();
        let (ports, mut wires) = Wires::new(eal, pool, name, Rss { key: wrong, queues, table });
        let engine = Engine::start_on(eal, &config, ports).unwrap();
        if let Steered::Right(_) = steered {
            wires.set_key(engine.steering().key());
        }
        assert!(engine.ports().iter().all(|port| port.rx_queues == queues));
        let settings = Settings {
            metrics: config.metrics.clone(),
            ports: config.ports.iter().map(|port| port.name.clone()).collect(),
            worker_cpus: engine.worker_cpus().to_vec(),
            conntrack_capacity: config.engine.max_flows.into(),
            unix_start: Duration::ZERO,
            dpdk_version: "none".into(),
            cycles_per_nano: None,
        };
        Self { engine, wires, settings }
    }

    fn finish(self, traffic: &[fn(&mut Wires)]) -> Outcome {
        let Self { engine, mut wires, settings } = self;
        for part in traffic {
            part(&mut wires);
        }
        settle(&engine, &wires);
        let workers = engine.counters();
        let tables = engine.tables();
        let mut aggregator = Aggregator::new(settings, workers.clone(), &tables.names, tables.generation);
        aggregator.ask();
        wait_until("every worker turns", || workers.iter().all(|worker| worker.at_rest(1).is_some()));
        let forwarded = |bank: &pollux::counters::Bank| bank.term(pollux::counters::Term::Forwarded).get();
        let per_worker: Vec<_> =
            workers.iter().map(|worker| forwarded(worker.at_rest(1).unwrap()) as f64).collect();
        let least = per_worker.iter().copied().fold(f64::INFINITY, f64::min);
        let exposition = aggregator.render_final(pollux::time::Instant(2_500_000_000));
        let count = |family: &str| -> u64 {
            let line = exposition.lines().find(|line| line.split(' ').next() == Some(family));
            line.and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap()
        };
        assert_eq!(count("pollux_rx_packets_total"), wires.sent);
        assert_eq!(count("pollux_tx_packets_total"), wires.received);
        assert_eq!(count("pollux_handoff_ring_packets"), 0);
        assert_eq!(engine.mempool().unwrap().in_use, 0);
        engine.stop();
        Outcome {
            handed: count("pollux_handoff_packets_total"),
            frames: wires.sent,
            share: least / per_worker.iter().sum::<f64>(),
            exposition,
        }
    }
}

/// Waits until the engine has taken what was sent, and some more, so that it has also dealt with it.
fn settle(engine: &Engine, wires: &Wires) {
    wait_until("the wires are empty", || wires.are_empty());
    let later = engine.clock().now().after(Duration::from_millis(20));
    wait_until("every worker turns", || {
        engine.counters().iter().all(|counters| counters.heartbeat() >= later)
    });
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in 20 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
