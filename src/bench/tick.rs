//! What a tick costs a worker: the aggregator changes its counter banks and folds the one at rest on another CPU, while the
//! worker goes on forwarding for a million connections.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant as Wall};

use serde_json::{Value, json};

use super::BenchError;
use super::case::Spec;
use super::lane::{self, Store};
use super::measure::{COLD, Random, Rig, thread_time};
use super::report::{Spread, round};
use super::traffic::{Step, Traffic};
use super::world::{LAN, WAN};
use crate::dpdk::pin_to;
use crate::metrics::Step as Folded;
use crate::time::Instant;

/// Time between two ticks.
const SECOND: Duration = Duration::from_secs(1);
/// Seconds of each kind.
const LEAST_SECONDS: usize = 3;

/// Asked for at the end.
const END: u32 = u32::MAX;

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Connections that all had packets in each second.
    pub connections: usize,
    /// Client–endpoint pairs of theirs.
    pub pairs: usize,
    /// Longest turn in a second with a tick, nanoseconds of the worker's CPU time.
    pub longest: Spread,
    /// Longest turn in a second without.
    pub longest_without: Spread,
    /// The turn in which the worker does what the tick asks of it: changes its banks.
    pub change: Spread,
    /// An ordinary turn.
    pub turn: Spread,
    /// Throughput in a second with a tick, to one without.
    pub throughput: Spread,
}

impl Tick {
    pub(super) fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "pairs": self.pairs,
            "longest_turn_ns": round(self.longest.median),
            "longest_turn_without_ns": round(self.longest_without.median),
            "change_turn_ns": round(self.change.median),
            "turn_ns": round(self.turn.median),
            "throughput_ratio": round(self.throughput.median),
        })
    }
}

/// What one second had.
struct Second {
    nanos_per_packet: f64,
    longest: f64,
    turn: f64,
    /// Of a second with a tick: the turn in which the banks were changed.
    change: Option<f64>,
}

/// Measures seconds with and without a tick by turns.
pub fn measure(rig: &Rig<'_>, spec: &Spec) -> Result<Tick, BenchError> {
    let traffic = Traffic::new(spec, rig.options.packet_size);
    let burst = rig.options.burst;
    let mut lane = lane::lanes(rig, spec, "tick", COLD)?.pop().ok_or(BenchError::Internal("no worker"))?;
    let mut store = rig.frames(rig.frames)?;
    let chunk = COLD.min(rig.frames);
    lane.establish(&traffic, spec, &mut store, chunk, 0..spec.connections)?;
    let Some(mut aggregator) = lane.aggregator.take() else {
        return Err(BenchError::Internal("no aggregator"));
    };
    let mut random = Random::below(spec.connections);
    let endpoints = lane.counters.sizes().endpoints;
    let pairs = lane.counters.pair_slots().count().saturating_sub(endpoints);

    let asked = AtomicU32::new(0);
    let (cpu, ready) = (rig.cpus[0], Barrier::new(2));
    thread::scope(|scope| {
        let (asked, ready) = (&asked, &ready);
        scope.spawn(move || {
            let pinned = pin_to(cpu);
            ready.wait();
            if !pinned {
                return;
            }
            let mut seen = 0;
            loop {
                match asked.load(Ordering::Acquire) {
                    END => return,
                    tick if tick != seen => {
                        seen = tick;
                        aggregator.ask();
                        while aggregator.step(Instant(u64::from(tick) * 1_000_000_000)) == Folded::Waiting {
                            if asked.load(Ordering::Acquire) == END {
                                return;
                            }
                            std::hint::spin_loop();
                        }
                        aggregator.publish();
                    }
                    _ => thread::sleep(Duration::from_micros(200)),
                }
            }
        });
        // It begins on this CPU, and under a real-time policy gets nothing of it until this thread blocks.
        ready.wait();
        let mut second = |store: &mut Store, tick: Option<u32>| -> Result<Second, BenchError> {
            let (mut nanos, mut packets, mut longest) = (0_u64, 0_u64, 0_u64);
            let (mut turns, mut change) = (Vec::new(), None);
            let start = Wall::now();
            let mut rung = false;
            while start.elapsed() < SECOND {
                for frame in store.iter_mut() {
                    if !traffic.write(frame, Step::Data, random.next()) {
                        return Err(BenchError::Internal("a buffer is too small"));
                    }
                }
                if !rung && let Some(tick) = tick {
                    asked.store(tick, Ordering::Release);
                    rung = true;
                }
                for _ in 0..store.len() / burst {
                    let (before, bank) = (thread_time(), lane.stand.shard().writer().tick());
                    let took = lane.chunk(store, burst, WAN, LAN)?;
                    // A turn out of which the kernel took the CPU is not longer for that.
                    let had = thread_time().saturating_sub(before).as_nanos() as u64;
                    let took = took.min(had);
                    lane.now = Instant(lane.now.0 + took);
                    nanos += took;
                    packets += burst as u64;
                    longest = longest.max(took);
                    turns.push(took as f64);
                    if lane.stand.shard().writer().tick() != bank {
                        change = Some(took as f64);
                    }
                }
            }
            let turn = Spread::of(turns).median;
            Ok(Second {
                nanos_per_packet: nanos as f64 / packets.max(1) as f64,
                longest: longest as f64,
                turn,
                change,
            })
        };
        let (mut longest, mut without, mut turn, mut change, mut throughput) =
            (vec![], vec![], vec![], vec![], vec![]);
        let mut go = || -> Result<(), BenchError> {
            let seconds = (rig.options.seconds.ceil() as usize).max(LEAST_SECONDS);
            for n in 0..seconds as u32 {
                // One without first, then one first, and so on.
                let (tick, quiet) = if n % 2 == 0 {
                    let quiet = second(&mut store, None)?;
                    (second(&mut store, Some(n + 1))?, quiet)
                } else {
                    let tick = second(&mut store, Some(n + 1))?;
                    (tick, second(&mut store, None)?)
                };
                longest.push(tick.longest);
                without.push(quiet.longest);
                turn.push(quiet.turn);
                change.extend(tick.change);
                throughput.push(quiet.nanos_per_packet / tick.nanos_per_packet);
            }
            Ok(())
        };
        let done = go();
        asked.store(END, Ordering::Release);
        done?;
        if change.is_empty() {
            return Err(BenchError::Internal("no tick"));
        }
        Ok(Tick {
            connections: spec.connections,
            pairs,
            longest: Spread::of(longest),
            longest_without: Spread::of(without),
            turn: Spread::of(turn),
            change: Spread::of(change),
            throughput: Spread::of(throughput),
        })
    })
}
