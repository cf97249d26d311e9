//! Workers on a test stand: the engine's own, turned step by step by whoever measures them instead of by a thread of theirs.
//!
//! What runs is [`Worker`]: its poll of queues and rings, the shard, its TX buffers and all of its accounting.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::handoff::{self, Inbox};
use super::idle::Rest;
use super::listing::Clerk;
use super::publish::Publisher;
use super::transmit::{Io, TxPort, Way};
use super::worker::{Inlet, Stopwatch, Worker};
use crate::capture::Tap;
use crate::config::Idle;
use crate::conntrack::Tuple;
use crate::counters::{Sizes, WorkerCounters};
use crate::dpdk::{Clock, Mbuf, Mempool, RxQueue, TxQueue};
use crate::ids::{PortId, WorkerId};
use crate::pipeline::{Resolution, Shard, ShardConfig};
use crate::tables::Tables;
use crate::time::Instant;

/// What the workers have in common.
pub(crate) struct StandConfig<'a> {
    /// The tables in force.
    pub tables: &'a Arc<Tables>,
    /// Buffers for frames of the engine's own.
    pub pool: &'a Mempool,
    /// What the load counters are timed by.
    pub clock: Clock,
    /// Connections that each worker's table holds.
    pub max_flows: usize,
    /// Slots of each worker's counters.
    pub sizes: Sizes,
    /// Frames of an RX burst.
    pub burst: usize,
    /// Secret of the tables.
    pub seed: u64,
}

/// One queue of a port in both directions.
pub(crate) struct Seat {
    pub port: PortId,
    pub rx: RxQueue,
    pub tx: TxQueue,
}

/// A worker that turns when told to.
pub(crate) struct Stand {
    worker: Worker,
    last: Instant,
    worked: bool,
}

impl Stand {
    /// One turn, as the poll loop makes it: the clock is read and the load counted. The pipeline's time is `now`.
    #[inline]
    pub fn step(&mut self, now: Instant) -> bool {
        (self.last, self.worked) = self.worker.step(self.last, self.worked, |_| now);
        self.worked
    }

    /// The worker that owns the connection of a packet with this tuple.
    pub fn owner_of(&self, tuple: &Tuple) -> WorkerId {
        self.worker.shard.owner_of(&self.worker.tables, tuple)
    }

    /// The queues of its first port, for whoever moves frames through them past the pipeline.
    pub fn queues(&mut self) -> Option<(&mut RxQueue, &mut TxQueue)> {
        let Worker { rx, io, .. } = &mut self.worker;
        Some((rx.first_mut()?.queue(), io.first_queue()?))
    }

    /// Its share of the engine.
    pub fn shard(&self) -> &Shard<Mbuf> {
        &self.worker.shard
    }
}

/// As many workers as there are lists of seats, with rings between them, and what they count.
pub(crate) fn stands(config: &StandConfig<'_>, seats: Vec<Vec<Seat>>) -> Vec<(Stand, Arc<WorkerCounters>)> {
    let workers = seats.len();
    let names = config.tables.ports.iter().map(|port| port.name.clone()).collect();
    let (_, taps) = Tap::new(workers, names);
    let lost = Arc::new(AtomicU64::new(0));
    let ends = handoff::mesh(workers);
    let each = seats.into_iter().zip(taps).zip(ends).enumerate();
    each.map(|(index, ((seats, tap), ends))| {
        let shard = ShardConfig {
            worker: WorkerId(index as u8),
            workers: workers as u8,
            max_flows: config.max_flows,
            seed: config.seed,
            resolution: Resolution::Discover,
        };
        let (counters, writer) = WorkerCounters::new(config.sizes);
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for seat in seats {
            rx.push(Inlet::new(seat.rx, seat.port, Box::default()));
            tx.push(TxPort::new(seat.port, Way::Own(seat.tx, Vec::new())));
        }
        let lost = Arc::clone(&lost);
        let worker = Worker {
            shard: Shard::new(&shard, config.tables, writer),
            tables: Arc::clone(config.tables),
            subscription: Publisher::new(1).1.remove(0),
            rx,
            frames_from: ends.frames_from.into_iter().map(Inbox::new).collect(),
            updates_from: ends.updates_from,
            injected: None,
            // Nobody asks.
            listing: Clerk::alone(),
            io: Io::new(config.pool.clone(), tap, tx, ends.frames_to, ends.updates_to, lost, None),
            burst: config.burst,
            clock: config.clock,
            rest: Rest::new(Idle::Poll),
            stopwatch: Stopwatch::new(counters.meter()),
        };
        (Stand { worker, last: config.clock.now(), worked: false }, counters)
    })
    .collect()
}
