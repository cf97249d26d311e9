use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::config::{EndpointState, Protocol};
use crate::counters::{FlowState, Sizes, Writer};
use crate::service::tests::endpoint;
use crate::time::Instant;

/// Workers that share a service; only this one's time passes.
struct Bench {
    views: Views,
    endpoints: Vec<Endpoint>,
    peers: Vec<Arc<WorkerCounters>>,
    writers: Vec<Writer>,
    /// Active connections, by endpoint: what is true.
    active: Vec<u32>,
    now: Instant,
}

fn workers(n: usize, endpoints: usize) -> (Vec<Arc<WorkerCounters>>, Vec<Writer>) {
    let sizes = Sizes { ports: 1, services: 1, endpoints, rules: 1, snat: 0, pairs: 1 };
    (0..n).map(|_| WorkerCounters::new(sizes)).unzip()
}

impl Bench {
    fn new(workers_n: usize, weights: impl IntoIterator<Item = u32>) -> Self {
        let endpoints: Vec<_> = (0..).zip(weights).map(|(n, weight)| endpoint(n, weight)).collect();
        let (peers, writers) = workers(workers_n, endpoints.len());
        let views = Views::new(&endpoints, workers_n);
        let active = vec![0; endpoints.len()];
        Self { views, endpoints, peers, writers, active, now: Instant(0) }
    }

    fn asker(&self, worker: usize) -> Asker<'_> {
        let client = Addr::default();
        Asker { client, client_port: 0, worker: WorkerId(worker as u8), peers: &self.peers, now: self.now }
    }

    fn open(&mut self, worker: usize) -> usize {
        let n = self.views.pick(&self.asker(worker)).unwrap();
        self.writers[worker].flow_state(Protocol::Tcp, self.endpoints[n].id, None, Some(FlowState::HalfOpen));
        self.active[n] += 1;
        n
    }

    fn close(&mut self, worker: usize, n: usize) {
        let id = self.endpoints[n].id;
        assert!(self.writers[worker].flow_state(Protocol::Tcp, id, Some(FlowState::HalfOpen), None));
        self.views.released(WorkerId(worker as u8), id);
        self.active[n] -= 1;
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn spread(&self) -> u32 {
        self.active.iter().max().unwrap() - self.active.iter().min().unwrap()
    }
}

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[test]
fn one_worker_is_exact() {
    let mut bench = Bench::new(1, [1; 7]);
    for n in 1..=100 {
        bench.open(0);
        assert_eq!(bench.spread(), u32::from(n % 7 != 0), "after {n}");
    }
    bench.close(0, 3);
    bench.close(0, 3);
    let next = [bench.open(0), bench.open(0)];
    assert_eq!(next, [3, 3], "its own counts are known at once, whatever the window");
}

#[test]
fn equals_take_turns() {
    let mut bench = Bench::new(1, [1; 4]);
    let order: Vec<_> = (0..12)
        .map(|_| {
            let n = bench.open(0);
            bench.close(0, n);
            n
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn others_counts_are_known_after_a_window() {
    let mut bench = Bench::new(2, [1; 2]);
    bench.open(0);
    for _ in 0..9 {
        let id = bench.endpoints[0].id;
        bench.writers[1].flow_state(Protocol::Tcp, id, None, Some(FlowState::HalfOpen));
    }
    bench.pass(WINDOW);
    assert!(WINDOW < Duration::from_millis(10));
    for _ in 0..4 {
        assert_eq!(bench.open(0), 1);
    }
}

/// A second with 100 000 connections on 1000 endpoints; worker w gets one as often as `share[w]` says. The worst spread.
fn second(share: &[u64], seed: u64) -> u32 {
    let mut bench = Bench::new(share.len(), [1; 1000]);
    let sum: u64 = share.iter().sum();
    let (mut seed, mut worst) = (seed, 0);
    for n in 0..100_000u32 {
        let mut at = random(&mut seed) % sum;
        let worker = share.iter().position(|s| {
            let here = at < *s;
            at = at.wrapping_sub(*s);
            here
        });
        let worker = worker.unwrap();
        bench.open(worker);
        bench.pass(Duration::from_micros(10));
        if n % 97 == 0 {
            worst = worst.max(bench.spread());
        }
    }
    worst.max(bench.spread())
}

#[test]
fn a_hundred_thousand_connections_in_a_second_on_a_thousand_endpoints() {
    for (share, seed) in [(&[1, 1, 1, 1][..], 1), (&[8, 4, 2, 1], 2), (&[1000, 1, 1, 1], 3)] {
        let worst = second(share, seed);
        assert!(worst <= 8, "{share:?}: {worst}");
    }
}

#[test]
fn threads_of_their_own_keep_the_bound() {
    const WORKERS: usize = 4;
    let bench = Bench::new(WORKERS, [1; 1000]);
    let Bench { views, endpoints, peers, writers, .. } = bench;
    let start = std::time::Instant::now();
    let counts: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .enumerate()
            .map(|(worker, writer)| {
                let (views, endpoints, peers) = (&views, &endpoints, &peers);
                scope.spawn(move || {
                    let mut counts = vec![0; endpoints.len()];
                    for n in 0..25_000u32 {
                        // A second's worth, as bursts come.
                        if n % 32 == 0 {
                            let due = Duration::from_micros(u64::from(n) * 40);
                            std::thread::sleep(due.saturating_sub(start.elapsed()));
                        }
                        let now = Instant(start.elapsed().as_nanos() as u64);
                        let worker = WorkerId(worker as u8);
                        let (client, client_port) = (Addr::default(), 0);
                        let asker = Asker { client, client_port, worker, peers, now };
                        let n = views.pick(&asker).unwrap();
                        writer.flow_state(Protocol::Tcp, endpoints[n].id, None, Some(FlowState::HalfOpen));
                        counts[n] += 1;
                    }
                    counts
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let total: Vec<u32> = (0..1000).map(|n| counts.iter().map(|c| c[n]).sum()).collect();
    let (max, min) = (total.iter().max().unwrap(), total.iter().min().unwrap());
    assert_eq!(total.iter().sum::<u32>(), 100_000);
    assert!(max - min <= 8, "{min} to {max}");
}

#[test]
fn an_endpoint_that_was_emptied_is_filled_without_overshoot() {
    let mut bench = Bench::new(4, [1; 100]);
    let mut opened: Vec<(usize, usize)> = Vec::new();
    for n in 0..10_000 {
        opened.push((n % 4, bench.open(n % 4)));
        bench.pass(Duration::from_micros(10));
    }
    for (worker, n) in opened {
        if n == 42 {
            bench.close(worker, n);
        }
    }
    assert_eq!(bench.active[42], 0);
    for n in 0..1000 {
        bench.open(n % 4);
        bench.pass(Duration::from_micros(10));
        assert!(bench.active[42] <= bench.active[41] + 8);
    }
    assert!(bench.spread() <= 8, "{}", bench.spread());
}

#[test]
fn those_that_take_nothing_have_no_place() {
    let mut endpoints: Vec<_> = (0..5).map(|n| endpoint(n, u32::from(n != 1))).collect();
    endpoints[3].state = EndpointState::Drain;
    let (peers, _writers) = workers(1, 5);
    let views = Views::new(&endpoints, 1);
    let asker = Asker {
        client: Addr::default(),
        client_port: 0,
        worker: WorkerId(0),
        peers: &peers,
        now: Instant(0),
    };
    let picks: Vec<_> = (0..6).map(|_| views.pick(&asker).unwrap()).collect();
    assert_eq!(picks, [0, 2, 4, 0, 2, 4]);
    views.released(WorkerId(0), endpoints[3].id);
    assert_eq!(Views::new(&[], 1).pick(&asker), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the weights, the workers and the pace: a share is met to within two connections a worker.
    #[test]
    fn shares_follow_weights(
        weights in prop::collection::vec(1..=20u32, 1..40),
        workers in 1..=4usize,
        pace_us in 1..500u64,
        seed in any::<u64>(),
    ) {
        let mut bench = Bench::new(workers, weights.iter().copied());
        let mut seed = seed;
        for _ in 0..3000 {
            bench.open(random(&mut seed) as usize % workers);
            bench.pass(Duration::from_micros(pace_us));
        }
        let sum: u32 = weights.iter().sum();
        for (active, weight) in bench.active.iter().zip(&weights) {
            let due = 3000.0 * f64::from(*weight) / f64::from(sum);
            let off = (f64::from(*active) - due).abs();
            // Of what others are off by it has its share.
            let most = 2.0 * workers as f64 * (1.0 + f64::from(*weight) / f64::from(sum) * weights.len() as f64);
            prop_assert!(off <= most, "{active} of {due}");
        }
    }
}
