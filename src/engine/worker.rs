//! The poll loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use rtrb::Consumer;

use super::exchange::AtPort;
use super::handoff::Inbox;
use super::idle::Rest;
use super::listing::Clerk;
use super::publish::Subscription;
use super::transmit::Io;
use crate::counters::{Meter, Term};
use crate::dpdk::{Clock, Mbuf, RxQueue};
use crate::ids::PortId;
use crate::pipeline::{DropReason, Frame, MAX_BURST, NeighborUpdate, Shard};
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
    queue: RxQueue,
    /// The device's first port: it gets what no other on the device claims.
    port: PortId,
    /// The device's other ports, by their VLANs.
    others: Box<[(u16, PortId)]>,
    /// The burst in hand.
    frames: Box<ArrayVec<Mbuf, MAX_BURST>>,
    /// Behind a full burst there is another one, whose turn is the next. It is read already, so that its lines come from memory while
    /// the one before is worked on: in the device's ring it would wait as long.
    ahead: Box<ArrayVec<Mbuf, MAX_BURST>>,
    /// When that was read, if it is timed.
    read: Option<Instant>,
}

impl Inlet {
    pub fn new(queue: RxQueue, port: PortId, others: Box<[(u16, PortId)]>) -> Self {
        Self { queue, port, others, frames: Box::default(), ahead: Box::default(), read: None }
    }

    pub fn queue(&mut self) -> &mut RxQueue {
        &mut self.queue
    }

    /// Takes the next burst of at most so many in hand, where the one before has been taken; says when it was read, if that is timed.
    /// Lengths of what is refused are appended to `refused`.
    #[inline]
    fn next(
        &mut self,
        burst: usize,
        refused: &mut ArrayVec<usize, MAX_BURST>,
        mut time: impl FnMut() -> Option<Instant>,
    ) -> Option<Instant> {
        std::mem::swap(&mut self.frames, &mut self.ahead);
        let mut read = self.read.take();
        if self.frames.is_empty() {
            self.queue.read(burst, &mut self.frames);
            for frame in &*self.frames {
                frame.prefetch();
            }
            read = if self.frames.is_empty() { None } else { time() };
        }
        if self.frames.len() >= burst {
            self.queue.read(burst, &mut self.ahead);
            self.read = if self.ahead.is_empty() { None } else { time() };
        }
        RxQueue::join_segments(&mut self.frames, refused);
        read
    }

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

    /// A burst was read: when, if it is to be timed.
    #[inline]
    fn arrived(&mut self, clock: Clock) -> Option<Instant> {
        self.meter.as_mut()?.burst().then(|| clock.now())
    }

    /// A burst, or the part of it that is a port's, has its verdicts; so many of its packets go on.
    #[inline]
    fn judged(&mut self, read: Option<Instant>, forwarded: u64) {
        if let Some(at) = read {
            self.running = true;
            // More than there is room for are not timed.
            let _ = self.arrivals.try_push((at, forwarded));
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
    pub frames_from: Vec<Inbox>,
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
        // What was read is forwarded.
        while self.rx.iter().any(|inlet| !inlet.ahead.is_empty()) {
            self.burst = 0;
            (last, worked) = self.step(last, worked, |now| now);
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

        for inbox in &mut *frames_from {
            inbox.take(io.tick);
        }

        let mut refused = ArrayVec::<usize, MAX_BURST>::new();
        for inlet in rx {
            let read = inlet.next(*burst, &mut refused, || stopwatch.arrived(*clock));
            let Inlet { port, others, frames, ahead, .. } = inlet;
            for len in refused.drain(..) {
                shard.refuse(*port, len, DropReason::Segmented);
                io.tap.refused(*port, len, DropReason::Segmented);
                worked = true;
            }
            for &(vlan, other) in &**others {
                let mut tagged = Inlet::tagged(frames, vlan);
                if !tagged.is_empty() {
                    io.tap.received(other, &tagged);
                    let before = forwarded(shard);
                    shard.receive(tables, now, other, &mut tagged, io);
                    stopwatch.judged(read, forwarded(shard).wrapping_sub(before));
                    io.relieve(shard.writer());
                    worked = true;
                }
            }
            if !frames.is_empty() {
                io.tap.received(*port, frames);
                let before = forwarded(shard);
                shard.receive_before(tables, now, *port, frames, ahead, io);
                stopwatch.judged(read, forwarded(shard).wrapping_sub(before));
                io.relieve(shard.writer());
                worked = true;
            }
        }

        for Inbox { frames, .. } in frames_from {
            if !frames.is_empty() {
                shard.receive_handed(tables, now, frames, io);
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
