use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;

use super::*;
use crate::dpdk::Clock;
use crate::parse::L4;

/// The connections that the speed targets speak of; as an unoptimised build, fewer: that much time shows nothing.
const MANY: u32 = if cfg!(debug_assertions) { 200_000 } else { 4_000_000 };
/// The most of a worker's CPU time in one piece that is nobody's packet.
const BOUND: Duration = Duration::from_micros(50);
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

/// What listings cost a worker: the CPU time of each turn, sorted.
#[derive(Debug, Default)]
struct Spent(Vec<Duration>);

impl Spent {
    /// How many took longer than may be.
    fn late(&self) -> usize {
        self.0.iter().filter(|took| **took > BOUND).count()
    }

    /// The longest of all but one in so many.
    fn all_but(&self, one_in: usize) -> Duration {
        self.0.iter().rev().nth(self.0.len() / one_in).copied().unwrap_or_default()
    }
}

/// Lines of memory that a piece of a listing reads: entries, a quarter line beside each, and when they began.
const LINES: usize = PIECE + PIECE / 4 + 1;

/// What is measured where a turn of `median` reads lines of memory one after the other, or none, beside somebody who looks every now
/// and then whether there is an answer: what of the others is the machine's, which takes the CPU away, or is slow to give memory.
fn nothing(turns: usize, median: Duration, memory: &[[u64; 8]]) -> Spent {
    let stop = AtomicBool::new(false);
    let mut lines = memory.iter().cycle();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
            }
        });
        let mut spent: Vec<_> = (0..turns)
            .map(|_| {
                let began = cpu_time();
                let since = std::time::Instant::now();
                loop {
                    std::hint::black_box(lines.by_ref().take(LINES).map(|line| line[0]).sum::<u64>());
                    if since.elapsed() >= median {
                        break;
                    }
                }
                cpu_time() - began
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        spent.sort_unstable();
        Spent(spent)
    })
}

/// Pages through `wanted` as the API does, the worker being always busy or never: what was found, and what it cost the worker.
fn list(table: &Arc<Conntrack>, busy: bool, wanted: Wanted) -> (Vec<Flow>, Duration, Spent) {
    let (listing, mut clerks) = Listing::new(1);
    let mut clerk = clerks.remove(0);
    let stop = Arc::new(AtomicBool::new(false));
    let (told, of_worker) = (Arc::clone(&stop), Arc::clone(table));
    let worker = std::thread::spawn(move || {
        let clock = Clock::monotonic();
        let mut spent = Vec::new();
        while !told.load(Ordering::Relaxed) {
            let began = cpu_time();
            if clerk.turn(&of_worker, busy, || clock.now()) {
                spent.push(cpu_time() - began);
            } else {
                std::thread::yield_now();
            }
        }
        spent.sort_unstable();
        Spent(spent)
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
    let memory = vec![[1; 8]; MANY as usize];
    let client = Wanted { client: Some(flow(MANY / 2).client), ..Wanted::default() };
    let rare = Wanted { client: Some(Addr::v4([192, 0, 2, 1])), ..Wanted::default() };
    let many = Wanted { service: Some(ServiceId(3)), ..Wanted::default() };
    for (name, wanted, expected) in
        [("one client's", client, EACH), ("nobody's", rare, 0), ("a service's", many, MANY / 16)]
    {
        for busy in [true, false] {
            let (found, took, spent) = list(&table, busy, wanted);
            let mut tuples: Vec<_> = found.iter().map(|flow| (flow.client, flow.client_port)).collect();
            assert!(found.iter().all(|flow| {
                wanted.service.is_none_or(|service| flow.service == service)
                    && wanted.client.is_none_or(|client| flow.client == client)
            }));
            tuples.sort_unstable();
            tuples.dedup();
            assert_eq!(
                (found.len(), tuples.len()),
                (expected as usize, expected as usize),
                "{name}: each once"
            );
            let [bare, reading] =
                [&[][..], &memory].map(|memory| nothing(spent.0.len(), spent.all_but(2), memory));
            println!(
                "{name} of {MANY} connections, worker {}: {} found in {took:.2?}, {} turns, half of them within {:.1?}, \
                 all but one in a thousand within {:.1?}, {} above {BOUND:?} (without looking at anything: {:.1?}, {}; \
                 reading as much memory and nothing else: {:.1?}, {})",
                if busy { "busy" } else { "idle" },
                found.len(),
                spent.0.len(),
                spent.all_but(2),
                spent.all_but(1000),
                spent.late(),
                bare.all_but(1000),
                bare.late(),
                reading.all_but(1000),
                reading.late()
            );
        }
    }
}

#[test]
fn a_turn_looks_at_one_piece_beside_packets_and_else_at_what_fits_its_time() {
    const EACH_LOOK: Duration = Duration::from_micros(6);
    let mut table = Conntrack::new(10 * PIECE, (1, 2));
    for n in 0..10 * PIECE {
        table.insert(flow(n as u32), &L4::Udp { sport: 0, dport: 80 }, Now::ZERO).unwrap();
    }
    // How far a turn comes when the clock moves on at every look.
    let comes = |busy| {
        let (mut desk, mut clerk) = Desk::new();
        let job = Box::new(Job {
            wanted: Wanted::default(),
            from: 0,
            until: usize::MAX,
            next: None,
            most: PAGE,
            found: Vec::with_capacity(PAGE),
        });
        desk.to.push(job).unwrap();
        let looks = Cell::new(Now::ZERO);
        let now = || looks.replace(looks.get().after(EACH_LOOK));
        assert!(clerk.turn(&table, busy, now), "there was something to do");
        clerk.job.map(|job| (job.from, job.found.len()))
    };
    assert_eq!(comes(true), Some((PIECE, PIECE)));
    // Four times six microseconds are more than twenty.
    assert_eq!(comes(false), Some((4 * PIECE, 4 * PIECE)));
}

#[test]
fn the_age_is_since_the_connection_began_whoever_had_its_place_before() {
    let udp = L4::Udp { sport: 0, dport: 80 };
    let at = |seconds: u64| Now(seconds * 1_000_000_000);
    let ages = |table: &Conntrack| {
        let mut ages = Vec::new();
        let all = |_: &View<'_>| true;
        table.show(0, usize::MAX, all, |_, age| {
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
