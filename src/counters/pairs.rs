//! Client–endpoint pairs: which slot of the banks counts whose traffic.
//!
//! The worker finds a pair's slot once, when a connection is created, and holds it while the connection lives. A slot
//! without connections keeps its key until it is needed again, so that a client that comes back finds it; it is given to
//! another pair only when the bank of the last tick in which it counted has been folded.

use std::collections::VecDeque;
use std::fmt;

use super::sync::{AtomicU32, AtomicU64, Ordering, Zeroes, zeroes};
use super::{Bank, Sizes, Writer};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Tuple, TupleHash};
use crate::dpdk::memory;
use crate::ids::{EndpointId, PairSlot, ServiceId};
use crate::index::{Index, Key, Probe, Search};

/// A client and the endpoint that it was balanced to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PairKey {
    /// The service.
    pub service: ServiceId,
    /// The endpoint in it.
    pub endpoint: EndpointId,
    /// The client's address before any NAT.
    pub client: Addr,
}

/// What is known of a slot, half a cache line: its key, written by the worker, read by the aggregator, and who holds it, which is the
/// worker's alone. Relaxed: a key is written before the slot counts, so the hand-over of the bank publishes it, and it is not
/// written again before that bank was folded.
#[derive(Debug, Default)]
#[cfg_attr(not(all(test, pollux_loom)), derive(bytemuck::Zeroable))]
#[repr(align(32))]
struct Record {
    client: [AtomicU64; 2],
    ids: AtomicU64,
    hold: AtomicU64,
}

#[cfg(not(pollux_loom))]
const _: () = assert!(size_of::<Record>() == 32);

/// Who holds a slot.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// Connections that hold it, and packets of theirs: fewer than 2³⁰ of them together.
    holders: u32,
    /// Whether it is in the idle queue, once at most.
    queued: bool,
    /// Whether it was let go in a later tick than the one in which it was queued.
    again: bool,
    /// The tick in which it was last let go.
    let_go: u32,
}

impl Hold {
    const QUEUED: u32 = 1 << 31;
    const AGAIN: u32 = 1 << 30;

    #[inline]
    const fn from_bits(bits: u64) -> Self {
        let count = bits as u32;
        Self {
            holders: count & !(Self::QUEUED | Self::AGAIN),
            queued: count & Self::QUEUED != 0,
            again: count & Self::AGAIN != 0,
            let_go: (bits >> 32) as u32,
        }
    }

    #[inline]
    const fn to_bits(self) -> u64 {
        let queued = if self.queued { Self::QUEUED } else { 0 };
        let again = if self.again { Self::AGAIN } else { 0 };
        (self.let_go as u64) << 32 | (self.holders | queued | again) as u64
    }
}

impl Record {
    #[inline]
    fn key(&self) -> PairKey {
        let [hi, lo] = self.client.each_ref().map(|half| half.load(Ordering::Relaxed));
        let ids = self.ids.load(Ordering::Relaxed);
        PairKey {
            client: Addr(u128::from(hi) << 64 | u128::from(lo)),
            service: ServiceId((ids >> 32) as u32),
            endpoint: EndpointId(ids as u32),
        }
    }

    #[inline]
    fn set_key(&self, key: &PairKey) {
        let [hi, lo] = &self.client;
        hi.store((key.client.0 >> 64) as u64, Ordering::Relaxed);
        lo.store(key.client.0 as u64, Ordering::Relaxed);
        self.ids.store(u64::from(key.service.0) << 32 | u64::from(key.endpoint.0), Ordering::Relaxed);
    }

    #[inline]
    fn hold(&self) -> Hold {
        Hold::from_bits(self.hold.load(Ordering::Relaxed))
    }

    /// For the worker alone.
    #[inline]
    fn set_hold(&self, hold: Hold) {
        self.hold.store(hold.to_bits(), Ordering::Relaxed);
    }
}

/// The records of all slots.
#[derive(Debug)]
pub(crate) struct Directory {
    records: Zeroes<Record>,
    used: AtomicU32,
}

impl Directory {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { records: zeroes(sizes.pairs), used: AtomicU32::new(0) }
    }

    pub(super) fn key(&self, slot: PairSlot) -> PairKey {
        self.records[slot.index()].key()
    }

    /// Fetches what is known of a slot.
    #[inline]
    fn prefetch(&self, slot: u32) {
        if let Some(record) = self.records.get(slot as usize) {
            memory::prefetch(record);
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed) as usize
    }
}

/// Ticks that a slot rests after its last holder has gone. The bank of tick t is folded before t + 2 is asked for; the
/// third is for packets that were decided in the connection's last turn and taken by the device in the next.
const REST: u32 = 3;

/// New pairs from the one in hand to that for which memory is fetched: their memory is hidden behind the work on those between.
const AHEAD: usize = 8;

/// Above so many used slots an idle one is taken before one that never was: what all clients so far have used is looked through at
/// each tick.
const USED_FREELY: usize = 1 << 18;

/// Idle slots looked at for one new pair; bounds the work, the next pair goes on where this one stopped.
const ATTEMPTS: usize = 16;

impl Key for PairSlot {
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.0
    }
}

/// The worker's pairs: a keyed index over a fixed number of slots.
pub struct Pairs {
    index: Index<PairSlot>,
    /// Slots that were let go, in the order of the ticks of that; of a slot that was held or let go again since, the line is old.
    idle: VecDeque<u32>,
    used: u32,
    /// [`USED_FREELY`], or all there are.
    freely: usize,
    hash: TupleHash,
}

impl fmt::Debug for Pairs {
    /// Without the index.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs")
            .field("used", &self.used)
            .field("idle", &self.idle.len())
            .finish_non_exhaustive()
    }
}

impl Pairs {
    /// An empty index for banks of these sizes. `hash_key` is secret, against hash flooding.
    #[must_use]
    pub fn new(sizes: Sizes, hash_key: (u64, u64)) -> Self {
        let n = sizes.pairs;
        Self {
            index: Index::new(n),
            idle: VecDeque::with_capacity(n),
            used: 0,
            freely: n.min(USED_FREELY),
            hash: TupleHash::new(hash_key),
        }
    }

    /// Bytes that an index for `pairs` slots comes to take, and what is known of each.
    #[must_use]
    pub fn bytes(pairs: usize) -> usize {
        Index::<PairSlot>::bytes(pairs) + pairs * (size_of::<u32>() + size_of::<Record>())
    }

    /// First of two steps: fetches where the slot of `key` is looked for, and says by what [hash](Self::hash).
    #[inline]
    pub fn prefetch(&self, key: &PairKey) -> u64 {
        let hash = self.hash(key);
        self.index.prefetch(hash);
        hash
    }

    /// Second step: fetches what is known of the slot that seems to be the key's, and its counters.
    #[inline]
    pub fn prefetch_slot(&self, writer: &Writer, hash: u64) {
        if let Probe::Candidate(slot) = self.index.probe(hash) {
            writer.directory().prefetch(slot.0);
            memory::prefetch(writer.bank().pair(slot));
        }
    }

    /// Fetches what a new pair some way ahead will be given: a slot that never was used, or a rested one. Where the key of that is to be
    /// forgotten is told by its record, which was fetched as long before.
    #[inline]
    fn prefetch_fresh(&self, writer: &Writer) {
        let directory = writer.directory();
        let fetch = |slot| {
            directory.prefetch(slot);
            memory::prefetch(writer.bank().pair(PairSlot(slot)));
        };
        let unused = self.used as usize + AHEAD;
        if unused < self.freely {
            return fetch(unused as u32);
        }
        if let Some(&slot) = self.idle.get(AHEAD) {
            self.index.prefetch(self.hash(&directory.records[slot as usize].key()));
        }
        if let Some(&slot) = self.idle.get(2 * AHEAD) {
            fetch(slot);
        }
    }

    /// Fetches what [`release`](Self::release) writes.
    #[inline]
    pub fn prefetch_hold(&self, writer: &Writer, slot: PairSlot) {
        writer.directory().prefetch(slot.0);
    }

    /// The slot of `key`, one holder more. Where no slot is free: the endpoint's slot for all its other clients.
    pub fn acquire(&mut self, writer: &Writer, key: &PairKey) -> PairSlot {
        self.acquire_at(writer, key, self.hash(key))
    }

    /// [`acquire`](Self::acquire), by the key's [hash](Self::hash).
    #[inline]
    pub fn acquire_at(&mut self, writer: &Writer, key: &PairKey, hash: u64) -> PairSlot {
        let records = &writer.directory().records;
        let room = match self.index.search(hash, |slot| records[slot.index()].key() == *key) {
            Search::Found(slot) => {
                let record = &records[slot.index()];
                let hold = record.hold();
                record.set_hold(Hold { holders: hold.holders + 1, ..hold });
                return slot;
            }
            Search::Room(room) => room,
            Search::Full => return Bank::other(key.endpoint),
        };
        // Whatever is forgotten for it takes no room away.
        let Some(slot) = self.fresh(writer) else { return Bank::other(key.endpoint) };
        let record = &records[slot as usize];
        record.set_key(key);
        record.set_hold(Hold { holders: 1, ..record.hold() });
        self.index.put(room, PairSlot(slot));
        self.prefetch_fresh(writer);
        PairSlot(slot)
    }

    /// One holder more of a slot that is held already (a packet of the connection that waits for a next hop, say).
    pub fn hold(&mut self, writer: &Writer, slot: PairSlot) {
        if slot.endpoint().is_none() {
            let record = &writer.directory().records[slot.index()];
            let hold = record.hold();
            record.set_hold(Hold { holders: hold.holders + 1, ..hold });
        }
    }

    /// One holder less.
    #[inline]
    pub fn release(&mut self, writer: &Writer, slot: PairSlot) {
        if slot.endpoint().is_some() {
            return;
        }
        let record = &writer.directory().records[slot.index()];
        let mut hold = record.hold();
        debug_assert!(hold.holders > 0, "a slot was let go more often than held");
        hold.holders = hold.holders.saturating_sub(1);
        if hold.holders == 0 {
            let tick = writer.tick();
            // In the queue already: its line is found old when met, and renewed then.
            if hold.queued {
                hold.again |= tick != hold.let_go;
            } else {
                hold.queued = true;
                self.idle.push_back(slot.0);
            }
            hold.let_go = tick;
        }
        record.set_hold(hold);
    }

    /// A slot never used, or one that is at rest.
    #[inline]
    fn fresh(&mut self, writer: &Writer) -> Option<u32> {
        if (self.used as usize) < self.freely {
            return self.unused(writer);
        }
        self.rested(writer).or_else(|| self.unused(writer))
    }

    #[inline]
    fn unused(&mut self, writer: &Writer) -> Option<u32> {
        let directory = writer.directory();
        let slot = self.used;
        if slot as usize >= directory.records.len() {
            return None;
        }
        self.used += 1;
        directory.used.store(self.used, Ordering::Relaxed);
        Some(slot)
    }

    /// The one that is idle for longest and whose last counts have been folded.
    fn rested(&mut self, writer: &Writer) -> Option<u32> {
        let directory = writer.directory();
        for _ in 0..ATTEMPTS {
            let &slot = self.idle.front()?;
            let record = &directory.records[slot as usize];
            let hold = record.hold();
            let is_new = hold.holders == 0 && !hold.again;
            if is_new && writer.tick().wrapping_sub(hold.let_go) < REST {
                return None; // those behind it have rested no longer
            }
            self.idle.pop_front();
            // One that is held is queued again when it is let go.
            let goes_on = hold.holders == 0 && hold.again;
            record.set_hold(Hold { queued: goes_on, again: false, ..hold });
            if goes_on {
                self.idle.push_back(slot);
            } else if is_new {
                self.index.remove(self.hash(&record.key()), PairSlot(slot));
                return Some(slot);
            }
        }
        None
    }

    /// What a key is looked for by.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &PairKey) -> u64 {
        if key.client.is_v4() {
            let ends = u64::from(key.client.0 as u32) << 32 | u64::from(key.endpoint.0);
            return self.hash.of_v4(ends, key.service.0.into());
        }
        // A pair as a tuple: different pairs are different ones.
        let ids = u128::from(key.service.0) << 32 | u128::from(key.endpoint.0);
        let tuple = Tuple {
            src: key.client,
            // Of no family, so that no bit of it is left out.
            dst: Addr(1 << 127 | ids),
            sport: 0,
            dport: 0,
            protocol: Protocol::Tcp,
        };
        self.hash.of(&tuple)
    }
}

#[cfg(all(test, not(pollux_loom)))]
#[path = "pairs_tests.rs"]
mod tests;
