//! The poll loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use rtrb::Consumer;

use super::exchange::AtPort;
use super::handoff::{self, Ticked};
use super::idle::Rest;
use super::listing::Clerk;
use super::publish::Subscription;
use super::transmit::Io;
use crate::counters::{Meter, Term};
use crate::dpdk::{Clock, Mbuf, RxQueue};
use crate::ids::PortId;
use crate::pipeline::{DropReason, Frame, Handed, MAX_BURST, NeighborUpdate, Shard};
use crate::tables::Tables;
use crate::time::Instant;
use crate::wire::ethernet::Ethernet;

/// Connections that a turn with packets looks at for expiry.
const BUSY_BUDGET: usize = 32;
/// Connections that a turn without packets looks at: some 20 µs, which the next packet may have to wait.
const IDLE_BUDGET: usize = 128;
/// Bursts of a turn that are timed at most.
const ARRIVALS: usize = 4;
/// How long a worker that ends goes on sending what others left for its TX queues.
const FAREWELL: Duration = Duration::from_millis(100);

/// An RX queue, and whose frames it gives.
pub(super) struct Inlet {
    pub queue: RxQueue,
    /// The device's first port: it gets what no other on the device claims.
    pub port: PortId,
    /// The device's other ports, by their VLANs.
    pub others: Box<[(u16, PortId)]>,
}

impl Inlet {
    /// Takes the frames that have this tag, in their order; the others stay.
    fn tagged(frames: &mut ArrayVec<Mbuf, MAX_BURST>, vlan: u16) -> ArrayVec<Mbuf, MAX_BURST> {
        let (mut tagged, mut rest) = (ArrayVec::new(), ArrayVec::new());
        for frame in frames.drain(..) {
            let tag = Ethernet::new_checked(frame.data()).ok().and_then(|ethernet| ethernet.vlan());
            if tag.unwrap_or(0) == vlan { tagged.push(frame) } else { rest.push(frame) }
        }
        *frames = rest;
        tagged
    }
}

/// Times bursts, those that the meter wants.
pub(super) struct Stopwatch {
    meter: Option<Meter>,
    /// When packets of this turn came, and how many of them were forwarded.
    arrivals: ArrayVec<(Instant, u64), ARRIVALS>,
    /// Whether the turn is timed.
    running: bool,
}

impl Stopwatch {
    pub fn new(meter: Option<Meter>) -> Self {
        Self { meter, arrivals: ArrayVec::new(), running: false }
    }

    /// A burst was read: when, and what had been forwarded before it, if it is to be timed.
    #[inline]
    fn arrived(&mut self, clock: Clock, forwarded: impl Fn() -> u64) -> Option<(Instant, u64)> {
        let timed = self.meter.as_mut()?.burst() && !self.arrivals.is_full();
        timed.then(|| (clock.now(), forwarded()))
    }

    /// The burst has its verdicts.
    #[inline]
    fn judged(&mut self, burst: Option<(Instant, u64)>, forwarded: impl Fn() -> u64) {
        if let Some((at, before)) = burst {
            self.running = true;
            self.arrivals.push((at, forwarded().wrapping_sub(before)));
        }
    }

    /// The turn's frames are sent.
    #[inline]
    fn sent(&mut self, clock: Clock) {
        let Some(meter) = self.meter.as_mut().filter(|_| !self.arrivals.is_empty()) else { return };
        let now = clock.now();
        for (at, packets) in self.arrivals.drain(..) {
            if packets > 0 {
                meter.record().residence.record(now.0.saturating_sub(at.0), packets);
            }
        }
    }

    /// The turn is over.
    #[inline]
    fn over(&mut self, nanos: u64) {
        if std::mem::take(&mut self.running)
            && let Some(meter) = &mut self.meter
        {
            meter.record().burst.record(nanos, 1);
        }
    }
}

/// All that one worker owns.
pub(super) struct Worker {
    pub shard: Shard<Mbuf>,
    pub tables: Arc<Tables>,
    pub subscription: Subscription,
    pub rx: Vec<Inlet>,
    pub frames_from: Vec<Consumer<Ticked>>,
    pub updates_from: Vec<Consumer<NeighborUpdate>>,
    /// What the kernel sends, at one of the workers.
    pub injected: Option<Consumer<AtPort>>,
    pub listing: Clerk,
    pub io: Io,
    pub burst: usize,
    pub clock: Clock,
    pub rest: Rest,
    pub stopwatch: Stopwatch,
}

impl Worker {
    /// Polls until told to stop.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut last = self.clock.now();
        let mut worked = false;
        while !stop.load(Ordering::Relaxed) {
            (last, worked) = self.step(last, worked, |now| now);
            if worked {
                self.rest.worked();
            } else {
                self.rest.idle();
            }
        }
        let deadline = std::time::Instant::now() + FAREWELL;
        while !self.io.finish() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    /// One turn after that of `last`, which had `worked`: when it began, and whether it did. The pipeline's time is made of
    /// the clock's by `time`.
    #[inline]
    pub fn step(
        &mut self,
        last: Instant,
        worked: bool,
        time: impl Fn(Instant) -> Instant,
    ) -> (Instant, bool) {
        let now = self.clock.now().max(last);
        // The turn before, in the bank in which it counted its packets.
        self.record(now.since(last), worked);
        (now, self.turn(time(now)))
    }

    fn record(&mut self, took: Duration, worked: bool) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.stopwatch.over(nanos);
        let load = &self.shard.writer().bank().load;
        load.polls.add(1);
        load.total_nanos.add(nanos);
        if worked {
            load.busy_polls.add(1);
            load.busy_nanos.add(nanos);
        }
    }

    /// Once round: rings, queues, timers, TX. Whether there was anything to do.
    fn turn(&mut self, now: Instant) -> bool {
        let Self {
            shard,
            tables,
            subscription,
            rx,
            frames_from,
            updates_from,
            injected,
            listing,
            io,
            burst,
            clock,
            stopwatch,
            ..
        } = self;
        shard.turn(now);
        io.tick = shard.writer().tick();
        if let Some(meter) = &mut stopwatch.meter {
            meter.turn(io.tick);
        }
        io.tap.turn(now);
        let mut worked = subscription.turn(tables, |old, new| shard.go_over(old, new, now, io));

        for ring in updates_from {
            // As many as there are now: its producer must not keep us here.
            for _ in 0..ring.slots() {
                let Ok(update) = ring.pop() else { break };
                shard.learn(tables, now, update, io);
                io.relieve(shard.writer());
                worked = true;
            }
        }

        for ring in frames_from {
            let mut frames = ArrayVec::<Handed<Mbuf>, MAX_BURST>::new();
            handoff::take(ring, io.tick, &mut frames);
            if !frames.is_empty() {
                shard.receive_handed(tables, now, &mut frames, io);
                io.relieve(shard.writer());
                worked = true;
            }
        }

        let mut frames = ArrayVec::<Mbuf, MAX_BURST>::new();
        let mut refused = ArrayVec::<usize, MAX_BURST>::new();
        for Inlet { queue, port, others } in rx {
            queue.burst(*burst, &mut frames, &mut refused);
            for len in refused.drain(..) {
                shard.refuse(*port, len, DropReason::Segmented);
                io.tap.refused(*port, len, DropReason::Segmented);
                worked = true;
            }
            for &(vlan, other) in &**others {
                let mut tagged = Inlet::tagged(&mut frames, vlan);
                if !tagged.is_empty() {
                    io.tap.received(other, &tagged);
                    let timed = stopwatch.arrived(*clock, || forwarded(shard));
                    shard.receive(tables, now, other, &mut tagged, io);
                    stopwatch.judged(timed, || forwarded(shard));
                    io.relieve(shard.writer());
                    worked = true;
                }
            }
            if !frames.is_empty() {
                io.tap.received(*port, &frames);
                let timed = stopwatch.arrived(*clock, || forwarded(shard));
                shard.receive(tables, now, *port, &mut frames, io);
                stopwatch.judged(timed, || forwarded(shard));
                io.relieve(shard.writer());
                worked = true;
            }
        }

        if let Some(ring) = injected {
            for _ in 0..ring.slots().min(MAX_BURST) {
                let Ok((port, frame)) = ring.pop() else { break };
                io.inject(port, frame, shard.writer());
                worked = true;
            }
        }

        let budget = if worked { BUSY_BUDGET } else { IDLE_BUDGET };
        let more = shard.maintain(tables, now, budget, io);
        let relayed = io.flush(shard.writer());
        stopwatch.sent(*clock);
        // Last, and little beside packets: nobody waits for it who cannot wait.
        let listed = listing.turn(shard.table(), worked, || clock.now());
        worked || more || relayed || listed
    }
}

/// Packets with the verdict Forward so far, to be compared within a turn.
#[inline]
fn forwarded(shard: &Shard<Mbuf>) -> u64 {
    shard.writer().bank().term(Term::Forwarded).get()
}
