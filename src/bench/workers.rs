//! Two workers, each in a thread on a CPU of its own: packets that come in at their owner, or at the other one.
//!
//! Here frames are brought and taken away in the loop that is timed, a burst a turn, since workers that hand packets to each
//! other have to run side by side. One worker by itself, all connections its own, goes through the same loop.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant as Wall};

use crossbeam_utils::CachePadded;

use super::BenchError;
use super::case::{Case, Spec};
use super::lane::{self, Lane, Store};
use super::measure::{COLD, LEAST_ROUNDS, Random, Rig, STOLEN, bytes_per_connection, thread_time};
use super::report::Row;
use super::traffic::{Step, Traffic};
use super::world::{self, LAN, WAN};
use crate::conntrack::Tuple;
use crate::dpdk::{Clock, Registration, pin_to};
use crate::pipeline::MAX_BURST;
use crate::time::Instant;

/// Frames of one worker on their way: fewer than a ring between workers holds.
const WINDOW: u64 = 512;
/// A worker that waits so long for frames has lost them.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker's lane, what it is fed with, and the connections that this is of.
struct Side {
    lane: Lane,
    store: Store,
    connections: Vec<u32>,
    random: Random,
    cpu: usize,
    /// Whose counter tells that its frames have come out.
    at: usize,
}

impl Side {
    fn new(lane: Lane, store: Store, connections: Vec<u32>, cpu: usize, at: usize) -> Self {
        let random = Random::below(connections.len());
        Self { lane, store, connections, random, cpu, at }
    }

    /// All frames anew.
    fn build(&mut self, traffic: &Traffic) -> bool {
        let Self { store, connections, random, .. } = self;
        store.iter_mut().all(|frame| traffic.write(frame, Step::Data, connections[random.next()] as usize))
    }
}

/// What a pass of one worker took.
#[derive(Clone, Copy)]
struct Took {
    nanos: u64,
    stolen: bool,
    whole: bool,
}

/// Measures a case with two workers against one.
pub fn measure(rig: &Rig<'_>, spec: &Spec) -> Result<Row, BenchError> {
    let traffic = Traffic::new(spec, rig.options.packet_size);
    let frames = rig.frames / 4;
    let cpus: Vec<_> = rig.cpus.iter().rev().copied().take(spec.workers).collect();
    let chunk = COLD.min(frames);

    let mut lanes = lane::lanes(rig, spec, "bench", chunk)?;
    let mut owned = vec![Vec::new(); spec.workers];
    for connection in 0..spec.connections {
        let tuple = tuple(spec, connection);
        owned[lanes[0].stand.owner_of(&tuple).index()].push(connection as u32);
    }
    if owned.iter().any(Vec::is_empty) {
        return Err(BenchError::Usage("more connections are needed for each worker to have some".into()));
    }
    let mut sides = Vec::new();
    let mut store = rig.frames(chunk)?;
    for (lane, own) in lanes.iter_mut().zip(&owned) {
        lane.establish(&traffic, spec, &mut store, chunk, own.iter().map(|&n| n as usize))?;
    }
    drop(store);
    let crossed = spec.case == Case::Handoff;
    for (index, lane) in lanes.into_iter().enumerate() {
        let whose = if crossed { (index + 1) % spec.workers } else { index };
        sides.push(Side::new(lane, rig.frames(frames)?, owned[whose].clone(), cpus[index], whose));
    }

    let one = Spec { workers: 1, case: Case::EstablishedCold, ..*spec };
    let mut alone = lane::lanes(rig, &one, "alone", chunk)?;
    let mut lane = alone.pop().ok_or(BenchError::Internal("no worker"))?;
    let mut store = rig.frames(frames)?;
    lane.establish(&traffic, &one, &mut store, chunk, 0..spec.connections)?;
    let mut alone = vec![Side::new(lane, store, (0..spec.connections as u32).collect(), cpus[0], 0)];

    let (mut two, mut bare, mut gains, mut ratios) = (vec![], vec![], vec![], vec![]);
    let mut disturbed = 0;
    let time = Duration::from_secs_f64(rig.options.seconds);
    let start = Wall::now();
    while two.len() < LEAST_ROUNDS || start.elapsed() < time {
        let (mut nanos, mut stolen) = ([0.0; 3], false);
        for way in [0, 1, 2, 2, 1, 0] {
            let sides = if way == 1 { &mut alone } else { &mut sides };
            let took = pass(rig, sides, &traffic, way == 2)?;
            let longest = took.iter().map(|took| took.nanos).max().unwrap_or(0);
            nanos[way] += longest as f64 / frames as f64 / 2.0;
            stolen |= took.iter().any(|took| took.stolen);
        }
        if stolen && start.elapsed() < 2 * time {
            disturbed += 1;
            continue;
        }
        let [both, single, reference] = nanos;
        two.push(both);
        bare.push(reference);
        ratios.push(both / reference);
        gains.push(spec.workers as f64 * single / both);
    }

    let mut books = lane::Books::default();
    for side in sides.iter().chain(&alone) {
        books.add(side.lane.stand.shard().writer().bank());
    }
    if !books.balances() {
        return Err(BenchError::Lost(books));
    }
    Ok(Row {
        bytes_per_connection: bytes_per_connection(spec),
        cycles_per_nano: rig.clock.cycles_per_nano(),
        frame_bytes: traffic.len_of(Step::Data),
        packets: books.tx,
        gain: Some(super::report::Spread::of(gains)),
        ..Row::of(*spec, two, bare, Vec::new(), ratios, disturbed)
    })
}

/// The tuple of a client's packet.
fn tuple(spec: &Spec, connection: usize) -> Tuple {
    let (client, sport) = world::client(connection);
    let (dst, dport) = world::vip(spec);
    let mut src = world::first_client(spec);
    src.0 += u128::from(client);
    Tuple { src, dst, sport, dport, protocol: spec.protocol }
}

/// All frames of all sides, once, side by side.
///
/// `bare`: past the pipeline, each worker by itself.
fn pass(rig: &Rig<'_>, sides: &mut [Side], traffic: &Traffic, bare: bool) -> Result<Vec<Took>, BenchError> {
    let barrier = Barrier::new(sides.len());
    let out: Vec<CachePadded<AtomicU64>> = sides.iter().map(|_| CachePadded::default()).collect();
    let given_up = AtomicBool::new(false);
    let took: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = sides
            .iter_mut()
            .enumerate()
            .map(|(me, side)| {
                let (barrier, out, given_up) = (&barrier, &out[..], &given_up);
                scope.spawn(move || {
                    let ready = pin_to(side.cpu) && side.build(traffic);
                    let registered = Registration::new(rig.eal);
                    barrier.wait();
                    (ready && registered.is_ok())
                        .then(|| stream(side, (me, bare), rig.clock, barrier, out, given_up))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    let took: Option<Vec<Took>> = took.into_iter().collect();
    let took = took.ok_or(BenchError::Internal("a worker's thread could not be pinned"))?;
    match sides.first_mut() {
        Some(side) if took.iter().any(|took| !took.whole) => Err(side.lane.lost()),
        _ => Ok(took),
    }
}

/// Feeds the side's frames, turns its worker, and takes what comes out, until as many have come out.
fn stream(
    side: &mut Side,
    (me, bare): (usize, bool),
    clock: Clock,
    barrier: &Barrier,
    out: &[CachePadded<AtomicU64>],
    given_up: &AtomicBool,
) -> Took {
    let total = side.store.len() as u64;
    let mut done = Store::with_capacity(side.store.len() + 2 * MAX_BURST);
    let (mut fed, mut taken) = (0, 0);
    let (at, port) = if bare { (me, WAN) } else { (side.at, LAN) };
    barrier.wait();
    let (wall, cpu, start) = (Wall::now(), thread_time(), clock.now());
    let now = side.lane.now;
    let mut turns = 0_u64;
    // The others' frames may have to come through here until the last of ours is out.
    while (taken < total || out[at].load(Ordering::Relaxed) < total) && !given_up.load(Ordering::Relaxed) {
        if fed < total && fed - out[at].load(Ordering::Relaxed) < WINDOW {
            fed += side.lane.feed(&mut side.store) as u64;
        }
        if bare {
            side.lane.bare_turn();
        } else {
            side.lane.stand.step(now);
        }
        let came = side.lane.take(&mut done, port) as u64;
        if came > 0 {
            taken += came;
            out[me].store(taken, Ordering::Relaxed);
        }
        turns += 1;
        if turns.is_multiple_of(4096) && wall.elapsed() > PATIENCE {
            given_up.store(true, Ordering::Relaxed);
        }
    }
    let nanos = clock.now().0.saturating_sub(start.0);
    let (wall, cpu) = (wall.elapsed(), thread_time().saturating_sub(cpu));
    side.store.append(&mut done);
    side.lane.now = Instant(now.0 + nanos);
    Took {
        nanos,
        stolen: wall.as_secs_f64() * (1.0 - STOLEN) > cpu.as_secs_f64(),
        whole: taken == total && fed == total,
    }
}
