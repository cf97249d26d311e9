//! One worker's share of the engine: its connections, neighbours, counters, and the packet's way through them.

use arrayvec::ArrayVec;

use super::{DropReason, Frame, MAX_BURST, NeighborUpdate, Output};
use crate::counters::Writer;
use crate::ids::{PortId, WorkerId};
use crate::tables::Tables;
use crate::time::Instant;

/// How next hops become MACs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// By ARP and neighbour discovery.
    Discover,
    /// Every next hop counts as resolved: a static neighbour's MAC, else `02:00` and the last four bytes of its address.
    Assume,
}

/// What makes a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Which worker this is.
    pub worker: WorkerId,
    /// Of how many.
    pub workers: u8,
    /// Connections that its table holds.
    pub max_flows: usize,
    /// Secret of this process; the same for all of its workers.
    pub seed: u64,
    /// How next hops become MACs.
    pub resolution: Resolution,
}

/// One worker's share of the engine.
pub struct Shard<F> {
    writer: Writer,
    _held: Vec<F>,
}

impl<F: Frame> Shard<F> {
    /// An empty shard; takes all the memory that it will ever use.
    #[must_use]
    pub fn new(_config: &ShardConfig, _tables: &Tables, writer: Writer) -> Self {
        Self { writer, _held: Vec::new() }
    }

    /// A burst from a device: counted as received, drained, every frame given to `out` with its verdict (or kept, on hold).
    pub fn receive(
        &mut self,
        _tables: &Tables,
        _now: Instant,
        _port: PortId,
        _frames: &mut ArrayVec<F, MAX_BURST>,
        _out: &mut impl Output<F>,
    ) {
        todo!()
    }

    /// A burst from another worker's ring.
    pub fn receive_handed(
        &mut self,
        _tables: &Tables,
        _now: Instant,
        _frames: &mut ArrayVec<(PortId, F), MAX_BURST>,
        _out: &mut impl Output<F>,
    ) {
        todo!()
    }

    /// Counts a received packet that the I/O layer itself had to drop (a segmented mbuf).
    pub fn refuse(&mut self, _port: PortId, _len: usize, _reason: DropReason) {
        todo!()
    }

    /// What another worker learnt of a neighbour.
    pub fn learn(
        &mut self,
        _tables: &Tables,
        _now: Instant,
        _update: NeighborUpdate,
        _out: &mut impl Output<F>,
    ) {
        todo!()
    }

    /// Between bursts: expiry of connections (at most `budget` entries looked at) and neighbour timers. Says whether there
    /// is more to do at once.
    pub fn maintain(
        &mut self,
        _tables: &Tables,
        _now: Instant,
        _budget: usize,
        _out: &mut impl Output<F>,
    ) -> bool {
        todo!()
    }

    /// Between bursts: switches counter banks where the aggregator asks.
    pub fn turn(&mut self, now: Instant) {
        self.writer.turn(now);
    }

    /// The worker's counters: for what the I/O layer counts (`transmitted`, `tx_dropped`, load).
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}
