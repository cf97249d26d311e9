//! Client–endpoint pairs: which slot of the banks counts whose traffic.
//!
//! The worker finds a pair's slot once, when a connection is created, and holds it while the connection lives. A slot
//! without connections keeps its key until it is needed again, so that a client that comes back finds it; it is given to
//! another pair only when the bank of the last tick in which it counted has been folded.

use std::collections::VecDeque;

use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::{Bank, Sizes, Writer};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Tuple, TupleHash};
use crate::dpdk::memory;
use crate::ids::{EndpointId, PairSlot, ServiceId};

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

/// The keys of the slots, written by the worker, read by the aggregator. Relaxed: a key is written before the slot counts,
/// so the hand-over of the bank publishes it, and it is not written again before that bank was folded.
#[derive(Debug)]
pub(crate) struct Directory {
    keys: Box<[[AtomicU64; 3]]>,
    used: AtomicU32,
}

impl Directory {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            keys: (0..sizes.pairs).map(|_| [0, 0, 0].map(AtomicU64::new)).collect(),
            used: AtomicU32::new(0),
        }
    }

    pub(super) fn key(&self, slot: PairSlot) -> PairKey {
        let [hi, lo, ids] = &self.keys[slot.index()];
        let ids = ids.load(Ordering::Relaxed);
        PairKey {
            client: Addr(
                u128::from(hi.load(Ordering::Relaxed)) << 64 | u128::from(lo.load(Ordering::Relaxed)),
            ),
            service: ServiceId((ids >> 32) as u32),
            endpoint: EndpointId(ids as u32),
        }
    }

    /// Fetches the key of a slot.
    #[inline]
    fn prefetch(&self, slot: PairSlot) {
        if let Some(key) = self.keys.get(slot.index()) {
            memory::prefetch(key);
        }
    }

    fn set(&self, slot: PairSlot, key: &PairKey) {
        let [hi, lo, ids] = &self.keys[slot.index()];
        hi.store((key.client.0 >> 64) as u64, Ordering::Relaxed);
        lo.store(key.client.0 as u64, Ordering::Relaxed);
        ids.store(u64::from(key.service.0) << 32 | u64::from(key.endpoint.0), Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed) as usize
    }
}

/// A place of the index without a slot.
const EMPTY: Place = Place { tag: 0, slot: u32::MAX };

/// Ticks that a slot rests after its last holder has gone. The bank of tick t is folded before t + 2 is asked for; the
/// third is for packets that were decided in the connection's last turn and taken by the device in the next.
const REST: u32 = 3;

/// Places of the index that are looked at beforehand: further from its home lies one key of twenty.
const NEAR: usize = 4;

/// Idle slots looked at for one new pair; bounds the work, the next pair goes on where this one stopped.
const ATTEMPTS: usize = 16;

/// A place of the index: the tag spares a look at most keys, and tells the home without one.
#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u32,
    slot: u32,
}

/// What the worker knows of a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Hold {
    /// Connections that hold it.
    holders: u32,
    /// The tick in which it was last let go.
    let_go: u32,
    /// Whether it is in the idle queue, once at most.
    queued: bool,
}

/// The worker's index of its pairs: open addressing over a fixed array, keyed hash, never rehashed.
#[derive(Debug)]
pub struct Pairs {
    /// At most half of the places in use.
    index: Box<[Place]>,
    /// Per slot.
    holds: Box<[Hold]>,
    /// Slots that were let go, with the tick of that; of a slot that was held or let go again since, the line is old.
    idle: VecDeque<(u32, u32)>,
    used: u32,
    hash: TupleHash,
}

impl Pairs {
    /// An empty index for banks of these sizes. `hash_key` is secret, against hash flooding.
    #[must_use]
    pub fn new(sizes: Sizes, hash_key: (u64, u64)) -> Self {
        let n = sizes.pairs;
        Self {
            index: filled((2 * n).next_power_of_two().max(2), EMPTY),
            holds: filled(n, Hold::default()),
            idle: VecDeque::with_capacity(n),
            used: 0,
            hash: TupleHash::new(hash_key),
        }
    }

    /// Bytes that an index for `pairs` slots comes to take, and the directory of their keys.
    #[must_use]
    pub fn bytes(pairs: usize) -> usize {
        (2 * pairs).next_power_of_two() * size_of::<Place>()
            + pairs * (size_of::<Hold>() + size_of::<(u32, u32)>() + size_of::<[AtomicU64; 3]>())
    }

    /// First of two steps: fetches where the slot of `key` is looked for, and says by what [tag](Self::tag).
    #[inline]
    pub fn prefetch(&self, key: &PairKey) -> u32 {
        let tag = self.tag(key);
        memory::prefetch(&self.index[self.home(tag)]);
        tag
    }

    /// Second step: fetches what is known of the slot that seems to be the tag's.
    #[inline]
    pub fn prefetch_slot(&self, writer: &Writer, tag: u32) {
        let home = self.home(tag);
        for at in home..home + NEAR {
            let place = self.index[at & (self.index.len() - 1)];
            if place.tag == tag
                && let Some(hold) = self.holds.get(place.slot as usize)
            {
                memory::prefetch(hold);
                writer.directory().prefetch(PairSlot(place.slot));
                return;
            }
        }
    }

    /// Fetches what [`release`](Self::release) writes.
    #[inline]
    pub fn prefetch_hold(&self, slot: PairSlot) {
        if let Some(hold) = self.holds.get(slot.index()) {
            memory::prefetch(hold);
        }
    }

    /// The slot of `key`, one holder more. Where no slot is free: the endpoint's slot for all its other clients.
    pub fn acquire(&mut self, writer: &Writer, key: &PairKey) -> PairSlot {
        self.acquire_at(writer, key, self.tag(key))
    }

    /// [`acquire`](Self::acquire), by the key's [tag](Self::tag).
    pub fn acquire_at(&mut self, writer: &Writer, key: &PairKey, tag: u32) -> PairSlot {
        let directory = writer.directory();
        let mut at = self.home(tag);
        while self.index[at].slot != EMPTY.slot {
            let Place { tag: theirs, slot: n } = self.index[at];
            if theirs == tag && directory.key(PairSlot(n)) == *key {
                self.holds[n as usize].holders += 1;
                return PairSlot(n);
            }
            at = (at + 1) & (self.index.len() - 1);
        }
        let Some(n) = self.fresh(writer) else { return Bank::other(key.endpoint) };
        directory.set(PairSlot(n), key);
        self.holds[n as usize].holders = 1;
        // `fresh` may have moved places: look for an empty one again.
        let mut at = self.home(tag);
        while self.index[at].slot != EMPTY.slot {
            at = (at + 1) & (self.index.len() - 1);
        }
        self.index[at] = Place { tag, slot: n };
        PairSlot(n)
    }

    /// One holder more of a slot that is held already (a packet of the connection that waits for a next hop, say).
    pub fn hold(&mut self, slot: PairSlot) {
        if slot.endpoint().is_none() {
            self.holds[slot.index()].holders += 1;
        }
    }

    /// One holder less.
    pub fn release(&mut self, writer: &Writer, slot: PairSlot) {
        if slot.endpoint().is_some() {
            return;
        }
        let n = slot.0;
        let hold = &mut self.holds[n as usize];
        debug_assert!(hold.holders > 0, "a slot was let go more often than held");
        hold.holders = hold.holders.saturating_sub(1);
        if hold.holders == 0 {
            hold.let_go = writer.tick();
            // In the queue already: its line is found old when met, and renewed then.
            if !hold.queued {
                hold.queued = true;
                self.idle.push_back((n, hold.let_go));
            }
        }
    }

    /// A slot never used, or the one that is idle for longest and whose last counts have been folded.
    fn fresh(&mut self, writer: &Writer) -> Option<u32> {
        if (self.used as usize) < self.holds.len() {
            let n = self.used;
            self.used += 1;
            writer.directory().used.store(self.used, Ordering::Relaxed);
            return Some(n);
        }
        for _ in 0..ATTEMPTS {
            let &(n, tick) = self.idle.front()?;
            let hold = &mut self.holds[n as usize];
            if hold.holders == 0 && hold.let_go == tick && writer.tick().wrapping_sub(tick) < REST {
                return None; // those behind it have rested no longer
            }
            self.idle.pop_front();
            if hold.holders > 0 {
                hold.queued = false; // queued again when it is let go
            } else if hold.let_go != tick {
                self.idle.push_back((n, hold.let_go));
            } else {
                hold.queued = false;
                self.forget(writer, n);
                return Some(n);
            }
        }
        None
    }

    /// Takes `n` out of the index, closing the gap (backward shift).
    fn forget(&mut self, writer: &Writer, n: u32) {
        let mask = self.index.len() - 1;
        let mut gap = self.home(self.tag(&writer.directory().key(PairSlot(n))));
        while self.index[gap].slot != n {
            gap = (gap + 1) & mask;
        }
        let mut at = (gap + 1) & mask;
        while self.index[at].slot != EMPTY.slot {
            let home = self.home(self.index[at].tag);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.index[gap] = self.index[at];
                gap = at;
            }
            at = (at + 1) & mask;
        }
        self.index[gap] = EMPTY;
    }

    /// What a key is looked for by.
    #[must_use]
    pub fn tag(&self, key: &PairKey) -> u32 {
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
        self.hash.of(&tuple) as u32
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.index.len() - 1)
    }
}

fn filled<T: Clone>(n: usize, with: T) -> Box<[T]> {
    let mut places = memory::huge_vec(n);
    places.resize(n, with);
    places.into()
}

#[cfg(all(test, not(pollux_loom)))]
#[path = "pairs_tests.rs"]
mod tests;
