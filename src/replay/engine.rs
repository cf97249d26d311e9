//! The shard, its clock and its counters.

use std::time::Duration;

use arrayvec::ArrayVec;

use super::merge::Packet;
use super::output::{Outbox, Outputs};
use super::{Ledger, Options, ReplayError, ports};
use crate::config::Config;
use crate::counters::WorkerCounters;
use crate::ids::{PortId, WorkerId};
use crate::metrics::{Aggregator, Settings};
use crate::pipeline::{DropReason, Frame, MAX_BURST, Resolution, Shard, ShardConfig, VecFrame};
use crate::tables::{LinkInfo, Slots, Tables};
use crate::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// Of a pause between two packets only so much is gone through second by second, or twice the longest window of the metrics
/// where that is more; whatever happened before shows in no gauge any more.
const LEAST_OF_A_PAUSE: Duration = Duration::from_secs(180);

/// Virtual time ends here, after 292 years: whatever a capture says comes later comes then. Something must always be able to be
/// due after now.
const END_OF_TIME: Instant = Instant(1 << 63);

/// Entries that one call of [`Shard::maintain`] looks at; it is called until there is nothing left to do.
const BUDGET: usize = 1 << 16;

/// `engine.max_flows` is what a table has, up to this; beyond it, what the capture may need.
const DEFAULT_FLOWS: u64 = 4_000_000;

pub(super) struct Engine {
    tables: Tables,
    shard: Shard<VecFrame>,
    outbox: Outbox,
    burst: ArrayVec<VecFrame, MAX_BURST>,
    aggregator: Aggregator,
    /// What was counted in the banks that the aggregator has folded.
    folded: Ledger,
    /// How much of a pause is gone through.
    pause: Duration,
    /// The first time stamp: virtual time 0.
    epoch: Option<u64>,
    now: Instant,
}

impl Engine {
    /// `bytes` is the size of the captures, if known: a connection takes a packet, and a packet at least 16 bytes of a file. So a
    /// configuration for a large machine can be replayed on a small one. `first` is the first time stamp, if known.
    pub(super) fn new(config: &Config, options: &Options, bytes: Option<u64>, first: Option<u64>) -> Self {
        let links: Vec<_> = (0..config.ports.len())
            .map(|i| LinkInfo { mac: ports::mac(PortId::at(i)), promiscuous: true })
            .collect();
        let tables = Tables::compile(config, &links, &mut Slots::default());
        let needed = bytes.map_or(u64::MAX, |bytes| (bytes / 16).max(DEFAULT_FLOWS));
        let max_flows = usize::try_from(needed).unwrap_or(usize::MAX).min(config.engine.max_flows as usize);
        let (counters, writer) = WorkerCounters::new(tables.sizes(max_flows));
        let shard_config = ShardConfig {
            worker: WorkerId(0),
            workers: 1,
            max_flows,
            seed: options.seed,
            resolution: Resolution::Assume,
        };
        let shard = Shard::new(&shard_config, &tables, writer);
        let settings = Settings {
            metrics: config.metrics.clone(),
            ports: config.ports.iter().map(|port| port.name.clone()).collect(),
            worker_cpus: vec![0],
            conntrack_capacity: shard.connections().1 as u64,
            unix_start: Duration::from_nanos(first.unwrap_or(0)),
            dpdk_version: "none".to_owned(),
            cycles_per_nano: None,
        };
        let aggregator = Aggregator::new(settings, vec![counters], &tables.names, tables.generation);
        let window = config.metrics.distribution_tick.max(config.metrics.tick);
        Self {
            tables,
            shard,
            outbox: Outbox::default(),
            burst: ArrayVec::new(),
            aggregator,
            folded: Ledger::default(),
            pause: window.saturating_mul(2).max(LEAST_OF_A_PAUSE),
            epoch: None,
            now: Instant::ZERO,
        }
    }

    /// Lets time pass until the packet's, and the packet in.
    pub(super) fn packet(&mut self, packet: &Packet, outputs: &mut Outputs) -> Result<(), ReplayError> {
        if let Some(time) = packet.time {
            let epoch = *self.epoch.get_or_insert(time);
            self.advance(Instant(time.saturating_sub(epoch)).min(END_OF_TIME), outputs)?;
        }
        self.burst.push(VecFrame::new(&packet.frame));
        self.shard.receive(&self.tables, self.now, packet.port, &mut self.burst, &mut self.outbox);
        self.flush(outputs)
    }

    /// Runs the timers, and folds the counters when that is due, up to `to`; not back.
    fn advance(&mut self, to: Instant, outputs: &mut Outputs) -> Result<(), ReplayError> {
        let pause = u64::try_from(self.pause.as_nanos()).unwrap_or(u64::MAX);
        let from = Instant(to.0.saturating_sub(pause) / SECOND * SECOND);
        loop {
            let due = self.aggregator.due().max(from);
            if due > to {
                break;
            }
            self.now = due;
            self.maintain(outputs)?;
            self.fold();
        }
        self.now = self.now.max(to);
        self.maintain(outputs)
    }

    fn maintain(&mut self, outputs: &mut Outputs) -> Result<(), ReplayError> {
        while self.shard.maintain(&self.tables, self.now, BUDGET, &mut self.outbox) {}
        self.flush(outputs)
    }

    fn fold(&mut self) {
        self.hand_over();
        self.aggregator.step(self.now);
    }

    /// Puts the bank that was counted in at rest, for the aggregator, and takes its share of the ledger.
    fn hand_over(&mut self) {
        self.folded.add(self.shard.writer().bank());
        self.aggregator.ask();
        self.shard.turn(self.now);
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

    /// Ends at the last packet's time: what is due is done, and the books are closed. Gives the ledger and the metrics.
    pub(super) fn finish(mut self, outputs: &mut Outputs) -> Result<(Ledger, String), ReplayError> {
        self.maintain(outputs)?;
        self.hand_over();
        let metrics = self.aggregator.render_final(self.now);
        let ledger = std::mem::take(&mut self.folded);
        ledger.check()?;
        self.compare(&ledger)?;
        Ok((ledger, metrics))
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
