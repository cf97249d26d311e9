//! Counters of the data plane: one writer each, plain adds, read by the aggregator in one consistent picture.
//!
//! Every worker has a [`WorkerCounters`] with two [`Bank`]s of *deltas*. It writes the active one; when the aggregator asks
//! for a tick, the worker switches to the other between two bursts and says so; the bank that is now at rest belongs to
//! the aggregator, which folds it into its totals and zeroes it before it asks for the next tick.

mod bank;
mod latency;
#[cfg(all(test, pollux_loom))]
mod loom;
mod pairs;
mod segments;
mod sync;
#[cfg(all(test, not(pollux_loom)))]
mod tests;

use std::sync::Arc;

use crossbeam_utils::CachePadded;

pub use bank::{
    Bank, Counter, EndpointCounters, FlowState, HANDSHAKE_BOUNDS_US, HandshakeCounters, LoadCounters,
    ModeCounters, PairCounters, PortCounters, ServiceCounters, Sizes, SnatCounters, Term,
};
pub use latency::{Latencies, Meter, ONE_IN, Times};
pub use pairs::{PairKey, Pairs};

use self::pairs::Directory;
use self::segments::Segments;
use self::sync::{AtomicU32, AtomicU64, Ordering};
use crate::config::Protocol;
use crate::conntrack::Answered;
use crate::ids::{EndpointId, PortId, ServiceId};
use crate::pipeline::Account;
use crate::time::Instant;

/// What one worker counts, shared between it and the aggregator.
#[derive(Debug)]
pub struct WorkerCounters {
    /// The tick that the aggregator has asked for. Bank `tick & 1` is active once the worker has agreed.
    asked: CachePadded<AtomicU32>,
    /// The tick that the worker counts in.
    agreed: CachePadded<AtomicU32>,
    /// When the worker last went round its loop, nanoseconds.
    heartbeat: CachePadded<AtomicU64>,
    banks: [CachePadded<Bank>; 2],
    directory: Directory,
    latencies: latency::Exchange,
    /// By endpoint: its active connections with this worker, now.
    active: Segments<AtomicU32>,
    /// Services, endpoints and rules that may be counted for: only ever more.
    slots: [AtomicU32; 3],
    /// As they were at the start.
    sizes: Sizes,
}

impl WorkerCounters {
    /// Counters at 0, in tick 0, and the one handle that may write them.
    #[must_use]
    pub fn new(sizes: Sizes) -> (Arc<Self>, Writer) {
        let shared = Arc::new(Self {
            asked: CachePadded::new(AtomicU32::new(0)),
            agreed: CachePadded::new(AtomicU32::new(0)),
            heartbeat: CachePadded::new(AtomicU64::new(0)),
            banks: [CachePadded::new(Bank::new(sizes)), CachePadded::new(Bank::new(sizes))],
            directory: Directory::new(sizes),
            latencies: latency::Exchange::new(),
            active: Segments::new(sizes.endpoints),
            slots: [sizes.services, sizes.endpoints, sizes.rules].map(|n| AtomicU32::new(n as u32)),
            sizes,
        });
        let writer = Writer { shared: Arc::clone(&shared), tick: 0 };
        (shared, writer)
    }

    /// How many slots of each kind there are.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let [services, endpoints, rules] = self.slots.each_ref().map(|n| n.load(Ordering::Relaxed) as usize);
        Sizes { services, endpoints, rules, ..self.sizes }
    }

    /// Room for more services, endpoints and rules (`sizes` says how many, ports and pairs stay). To be called before the worker
    /// hears of them; it goes on counting meanwhile.
    pub fn grow(&self, sizes: Sizes) {
        for bank in &self.banks {
            bank.grow(sizes);
        }
        self.active.grow(sizes.endpoints);
        for (slots, n) in self.slots.iter().zip([sizes.services, sizes.endpoints, sizes.rules]) {
            slots.fetch_max(n as u32, Ordering::Relaxed);
        }
    }

    /// Aggregator: asks the worker to count in the next tick. The bank at rest must have been folded and zeroed.
    pub fn ask(&self, tick: u32) {
        // Release: the zeroes in the bank that becomes active are seen by the worker that acquires this.
        self.asked.store(tick, Ordering::Release);
    }

    /// Aggregator: the bank of the tick before `tick`, once the worker counts in `tick`; `None` before.
    #[must_use]
    pub fn at_rest(&self, tick: u32) -> Option<&Bank> {
        // Acquire: pairs with the worker's release, so all of its counts in the bank at rest are seen.
        (self.agreed.load(Ordering::Acquire) == tick)
            .then(|| &*self.banks[(tick.wrapping_sub(1) & 1) as usize])
    }

    /// Aggregator: whose pair a slot is. Only of a slot with counts in a bank at rest: such a slot is not given to another
    /// pair before that bank was folded.
    #[must_use]
    pub fn pair_key(&self, slot: crate::ids::PairSlot) -> PairKey {
        self.directory.key(slot)
    }

    /// All slots that may have counted for a pair: the endpoints' own, and those that were ever used.
    pub fn pair_slots(&self) -> impl Iterator<Item = crate::ids::PairSlot> + use<> {
        let endpoints = self.slots[1].load(Ordering::Relaxed);
        let others = (0..endpoints).map(|n| Bank::other(crate::ids::EndpointId(n)));
        others.chain((0..self.directory.used() as u32).map(crate::ids::PairSlot))
    }

    /// The one handle that times this worker, where it has not been taken yet.
    #[must_use]
    pub fn meter(&self) -> Option<Meter> {
        self.latencies.meter()
    }

    /// Aggregator: takes what was timed and given away.
    pub fn take_latencies(&self, to: impl FnMut(&mut Latencies)) {
        self.latencies.take(to);
    }

    /// Active connections (half-open and established) that this worker has with an endpoint. For the other workers: relaxed, so
    /// a moment late.
    #[inline]
    #[must_use]
    pub fn active(&self, endpoint: EndpointId) -> u32 {
        self.active.get(endpoint.index()).map_or(0, |active| active.load(Ordering::Relaxed))
    }

    /// When the worker last went round its loop.
    #[must_use]
    pub fn heartbeat(&self) -> Instant {
        Instant(self.heartbeat.load(Ordering::Relaxed))
    }
}

/// The one handle that writes a worker's counters.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<WorkerCounters>,
    tick: u32,
}

impl Writer {
    /// The bank to count in.
    #[inline]
    #[must_use]
    pub fn bank(&self) -> &Bank {
        &self.shared.banks[(self.tick & 1) as usize]
    }

    /// The tick that is counted in.
    #[inline]
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// Between two bursts: switches banks where the aggregator has asked, and shows that the worker lives.
    #[inline]
    pub fn turn(&mut self, now: Instant) {
        self.shared.heartbeat.store(now.0, Ordering::Relaxed);
        let asked = self.shared.asked.load(Ordering::Acquire);
        if asked != self.tick {
            self.tick = asked;
            self.shared.agreed.store(asked, Ordering::Release);
        }
    }

    /// A connection of `protocol` with `endpoint` has gone from a state to another; none: begins, or is forgotten. Whether it is
    /// no longer active, and was.
    #[inline(always)]
    pub fn flow_state(
        &self,
        protocol: Protocol,
        endpoint: EndpointId,
        before: Option<FlowState>,
        after: Option<FlowState>,
    ) -> bool {
        let bank = self.bank();
        match before {
            Some(before) => bank.flows(protocol, before).sub(1),
            None => bank.endpoint(endpoint).connections.add(1),
        }
        match after {
            Some(after) => bank.flows(protocol, after).add(1),
            None => bank.endpoint(endpoint).connections.sub(1),
        }
        let is_active = |state| matches!(state, Some(FlowState::HalfOpen | FlowState::Established));
        let (was, is) = (is_active(before), is_active(after));
        if was != is
            && let Some(active) = self.shared.active.get(endpoint.index())
        {
            let now = active.load(Ordering::Relaxed);
            let now = if is { now.wrapping_add(1) } else { now.wrapping_sub(1) };
            active.store(now, Ordering::Relaxed);
        }
        was && !is
    }

    /// An endpoint has answered the first packet of a handshake.
    #[inline]
    pub fn handshake(&self, service: ServiceId, endpoint: EndpointId, answered: Answered) {
        let bank = self.bank();
        bank.service(service).handshakes.count(answered);
        let endpoint = bank.endpoint(endpoint);
        endpoint.handshakes.add(1);
        endpoint.handshake_us.add(answered.micros.into());
    }

    /// What all may read of these counters.
    #[must_use]
    pub fn shared(&self) -> &Arc<WorkerCounters> {
        &self.shared
    }

    /// A device has taken a frame of `len` bytes; a forwarded one counts as processed now.
    #[inline]
    pub fn transmitted(&self, port: PortId, len: usize, account: Option<&Account>) {
        self.sent(port, 1, len as u64);
        if let Some(account) = account {
            self.processed([*account]);
        }
    }

    /// A device has taken so many frames, so many bytes long together; [`processed`](Self::processed) is said of those that were forwarded.
    #[inline]
    pub fn sent(&self, port: PortId, frames: u64, bytes: u64) {
        let bank = self.bank();
        bank.term(Term::Tx).add(frames);
        let counters = bank.port(port);
        counters.tx_packets.add(frames);
        counters.tx_bytes.add(bytes);
    }

    /// These forwarded packets are among what a device has taken. Packets of one pair often follow each other: they are added up first,
    /// for each addition in memory has to wait for the one before.
    #[inline]
    pub fn processed(&self, accounts: impl IntoIterator<Item = Account>) {
        let bank = self.bank();
        let credit = |pair, packets, bytes| {
            let pair = bank.pair(pair);
            pair.packets.add(packets);
            pair.bytes.add(bytes);
        };
        let mut accounts = accounts.into_iter().inspect(|account| {
            if let Some(service) = account.icmp_error {
                let service = bank.service(service);
                service.icmp_error_packets.add(1);
                service.icmp_error_bytes.add(u64::from(account.bytes));
            }
        });
        let Some(Account { mut pair, bytes, .. }) = accounts.next() else { return };
        let (mut packets, mut bytes) = (1, u64::from(bytes));
        for next in accounts {
            if next.pair != pair {
                credit(pair, packets, bytes);
                (pair, packets, bytes) = (next.pair, 0, 0);
            }
            packets += 1;
            bytes += u64::from(next.bytes);
        }
        credit(pair, packets, bytes);
    }

    /// A full TX queue has refused a frame.
    #[inline]
    pub fn tx_dropped(&self, port: PortId) {
        self.bank().term(Term::TxDropped).add(1);
        self.bank().port(port).tx_dropped.add(1);
    }

    /// How many slots of each kind the banks have.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.shared.sizes
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.shared.directory
    }
}
