//! The shard, its clock and its counters.

use arrayvec::ArrayVec;

use super::merge::Packet;
use super::output::{Outbox, Outputs};
use super::{Ledger, Options, ReplayError, ports};
use crate::config::Config;
use crate::counters::{Term, WorkerCounters};
use crate::ids::{PortId, WorkerId};
use crate::pipeline::{DropReason, Frame, MAX_BURST, Resolution, Shard, ShardConfig, VecFrame};
use crate::tables::{LinkInfo, Slots, Tables};
use crate::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// Timers run and counters are folded at every whole virtual second, but of a pause between two packets only in its last
/// so many seconds: more than the longest window that any metric looks back on (2 min).
const SECONDS_OF_A_PAUSE: u64 = 180;

/// Entries that one call of [`Shard::maintain`] looks at; it is called until there is nothing left to do.
const BUDGET: usize = 1 << 16;

/// A table for fewer connections than this is not worth the saving.
const LEAST_FLOWS: u64 = 4096;

pub(super) struct Engine {
    tables: Tables,
    shard: Shard<VecFrame>,
    outbox: Outbox,
    burst: ArrayVec<VecFrame, MAX_BURST>,
    /// The first time stamp: virtual time 0.
    epoch: Option<u64>,
    now: Instant,
}

impl Engine {
    /// `bytes` is the size of the captures, if known: a connection takes a packet, and a packet at least 16 bytes of a file, so
    /// that a table for millions need not be set up for a small capture.
    pub(super) fn new(config: &Config, options: &Options, bytes: Option<u64>) -> Self {
        let links: Vec<_> = (0..config.ports.len())
            .map(|i| LinkInfo { mac: ports::mac(PortId::at(i)), promiscuous: true })
            .collect();
        let tables = Tables::compile(config, &links, &mut Slots::default());
        let needed = bytes.map_or(u64::MAX, |bytes| (bytes / 16).max(LEAST_FLOWS));
        let max_flows = usize::try_from(needed).unwrap_or(usize::MAX).min(config.engine.max_flows as usize);
        let pairs = max_flows.min(config.metrics.flow_series_limit);
        let (_counters, writer) = WorkerCounters::new(tables.sizes(pairs));
        let shard_config = ShardConfig {
            worker: WorkerId(0),
            workers: 1,
            max_flows,
            seed: options.seed,
            resolution: Resolution::Assume,
        };
        let shard = Shard::new(&shard_config, &tables, writer);
        Self {
            tables,
            shard,
            outbox: Outbox::default(),
            burst: ArrayVec::new(),
            epoch: None,
            now: Instant::ZERO,
        }
    }

    /// Lets time pass until the packet's, and the packet in.
    pub(super) fn packet(&mut self, packet: &Packet, outputs: &mut Outputs) -> Result<(), ReplayError> {
        if let Some(time) = packet.time {
            let epoch = *self.epoch.get_or_insert(time);
            self.advance(Instant(time.saturating_sub(epoch)), outputs)?;
        }
        self.burst.push(VecFrame::new(&packet.frame));
        self.shard.receive(&self.tables, self.now, packet.port, &mut self.burst, &mut self.outbox);
        self.flush(outputs)
    }

    /// Runs the timers up to `to`; not back.
    fn advance(&mut self, to: Instant, outputs: &mut Outputs) -> Result<(), ReplayError> {
        let seconds = to.0 / SECOND;
        let first = (self.now.0 / SECOND + 1).max(seconds.saturating_sub(SECONDS_OF_A_PAUSE));
        for second in first..=seconds {
            self.now = Instant(second * SECOND);
            self.maintain(outputs)?;
        }
        self.now = self.now.max(to);
        self.maintain(outputs)
    }

    fn maintain(&mut self, outputs: &mut Outputs) -> Result<(), ReplayError> {
        while self.shard.maintain(&self.tables, self.now, BUDGET, &mut self.outbox) {}
        self.shard.turn(self.now);
        self.flush(outputs)
    }

    /// Everything sent is taken, and written.
    fn flush(&mut self, outputs: &mut Outputs) -> Result<(), ReplayError> {
        let time = self.epoch.unwrap_or(0).saturating_add(self.now.0);
        for (port, frame, account) in self.outbox.sent.drain(..) {
            self.shard.writer().transmitted(port, frame.data().len(), account.as_ref());
            outputs.write(time, port, &frame)?;
        }
        Ok(())
    }

    /// Ends at the last packet's time: what is due is done, and the books are closed.
    pub(super) fn finish(mut self, outputs: &mut Outputs) -> Result<Ledger, ReplayError> {
        self.maintain(outputs)?;
        let ledger = self.ledger();
        ledger.check()?;
        self.compare(&ledger)?;
        Ok(ledger)
    }

    fn ledger(&self) -> Ledger {
        let bank = self.shard.writer().bank();
        let term = |term| bank.term(term).get();
        let dropped = DropReason::ALL.iter().map(|&r| (r.label(), bank.dropped(r).get()));
        Ledger {
            rx: term(Term::Rx),
            forwarded: term(Term::Forwarded),
            punted: term(Term::Punted),
            consumed: term(Term::Consumed),
            held: term(Term::HeldIn).wrapping_sub(term(Term::HeldOut)),
            dropped: dropped.filter(|&(_, n)| n > 0).collect(),
            originated: term(Term::Originated),
            extra_fragments: term(Term::ExtraFragments),
            tx: term(Term::Tx),
        }
    }

    /// The counters against the verdicts that were given.
    fn compare(&self, ledger: &Ledger) -> Result<(), ReplayError> {
        let tally = &self.outbox.tally;
        let dropped = DropReason::ALL.iter().map(|r| (r.label(), tally.dropped[r.index()]));
        let given = Ledger {
            rx: ledger.rx,
            forwarded: tally.forwarded,
            punted: tally.punted,
            consumed: tally.consumed,
            held: ledger.held,
            dropped: dropped.filter(|&(_, n)| n > 0).collect(),
            originated: tally.originated,
            extra_fragments: tally.extra_fragments,
            tx: tally.forwarded + tally.originated + tally.extra_fragments,
        };
        if given == *ledger {
            return Ok(());
        }
        Err(ReplayError::Ledger(format!("counted {}, but done {}", ledger.to_json(), given.to_json())))
    }
}
