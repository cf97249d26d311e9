use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;

use super::*;
use crate::config::Protocol;
use crate::conntrack::Form;
use crate::ids::{EndpointId, PairSlot, PortId, SourceId};
use crate::parse::L4;
use crate::time::Instant as Now;

/// The connections that the speed targets speak of; as an unoptimised build, fewer: that much time shows nothing.
const MANY: u32 = if cfg!(debug_assertions) { 200_000 } else { 4_000_000 };
/// Each client has so many.
const EACH: u32 = 100;

fn flow(n: u32) -> Flow {
    Flow {
        client: Addr(0xffff_6440_0000 + u128::from(n / EACH)),
        vip: Addr::v4([203, 0, 113, 100]),
        endpoint: Addr(0xffff_0a00_0000 | u128::from(n & 0xff)),
        client_port: 1024 + (n % EACH) as u16,
        vip_port: 80,
        endpoint_port: 8080,
        protocol: Protocol::Udp,
        ingress: PortId(0),
        service: ServiceId(n % 16),
        endpoint_id: EndpointId(0),
        pair: PairSlot(0),
        delta: Default::default(),
        next_hop: Default::default(),
        epoch: 0,
        idle_timeout_ms: 3_600_000,
        form: Form::Dnat,
        source: SourceId(0),
        source_port: 0,
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A worker's time for listings: how long the longest turn took, of how many.
#[derive(Debug, Default)]
struct Spent {
    longest: Duration,
    turns: u64,
}

/// Pages through `wanted` as the API does, the worker being always busy or never: what was found, and what it cost the worker.
fn list(table: &Arc<Conntrack>, busy: bool, wanted: Wanted) -> (Vec<Flow>, Duration, Spent) {
    let (listing, mut clerks) = Listing::new(1);
    let mut clerk = clerks.remove(0);
    let stop = Arc::new(AtomicBool::new(false));
    let (told, of_worker) = (Arc::clone(&stop), Arc::clone(table));
    let worker = std::thread::spawn(move || {
        let mut spent = Spent::default();
        while !told.load(Ordering::Relaxed) {
            let began = cpu_time();
            if clerk.turn(&of_worker, busy) {
                spent.longest = spent.longest.max(cpu_time() - began);
                spent.turns += 1;
            } else {
                std::thread::yield_now();
            }
        }
        spent
    });
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let began = std::time::Instant::now();
    let found = runtime.block_on(async {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let (page, next) = listing.page(0, wanted, at, usize::MAX).await.unwrap();
            found.extend(page.into_iter().map(|(flow, _)| flow));
            from = next;
        }
        found
    });
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    (found, took, worker.join().unwrap())
}

/// Prints what a listing of a full table costs a worker: `cargo test --release --lib full_table_is_listed -- --nocapture`.
#[test]
fn a_full_table_is_listed_piece_by_piece() {
    let mut table = Conntrack::new(MANY as usize, (1, 2));
    for n in 0..MANY {
        table.insert(flow(n), &L4::Udp { sport: 0, dport: 80 }, Now::ZERO).unwrap();
    }
    let table = Arc::new(table);
    let client = Wanted { client: Some(flow(MANY / 2).client), ..Wanted::default() };
    let rare = Wanted { client: Some(Addr::v4([192, 0, 2, 1])), ..Wanted::default() };
    let many = Wanted { service: Some(ServiceId(3)), ..Wanted::default() };
    for (name, wanted, expected) in
        [("one client's", client, EACH), ("nobody's", rare, 0), ("a service's", many, MANY / 16)]
    {
        for busy in [true, false] {
            let (found, took, spent) = list(&table, busy, wanted);
            let mut tuples: Vec<_> = found.iter().map(|flow| (flow.client, flow.client_port)).collect();
            assert!(found.iter().all(|flow| wanted.takes(flow)));
            tuples.sort_unstable();
            tuples.dedup();
            assert_eq!(
                (found.len(), tuples.len()),
                (expected as usize, expected as usize),
                "{name}: each once"
            );
            println!(
                "{name} of {MANY} connections, worker {}: {} found in {took:.2?}, {} turns, the longest {:.1?}",
                if busy { "busy" } else { "idle" },
                found.len(),
                spent.turns,
                spent.longest
            );
        }
    }
}

#[test]
fn the_age_is_since_the_connection_began_whoever_had_its_place_before() {
    let udp = L4::Udp { sport: 0, dport: 80 };
    let at = |seconds: u64| Now(seconds * 1_000_000_000);
    let ages = |table: &Conntrack| {
        let mut ages = Vec::new();
        table.show(0, usize::MAX, |_, age| {
            ages.push((age.age_ms, age.idle_ms));
            true
        });
        ages
    };
    let mut table = Conntrack::new(2, (1, 2));
    let id = table.insert(flow(1), &udp, at(5)).unwrap();
    table.step(id, crate::conntrack::Direction::Original, &udp, at(60));
    table.begin(at(65));
    assert_eq!(ages(&table), [(60_000, 5_000)]);
    table.remove(id);
    table.insert(flow(2), &udp, at(100)).unwrap();
    table.begin(at(101));
    assert_eq!(ages(&table), [(1_000, 1_000)]);
    table.insert(flow(3), &udp, at(101)).unwrap();
    assert_eq!(ages(&table), [(1_000, 1_000), (0, 0)]);
}
