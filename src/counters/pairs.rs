//! Client–endpoint pairs: which slot of the banks counts whose traffic.
//!
//! The worker finds a pair's slot once, when a connection is created, and holds it while the connection lives. A slot
//! without connections keeps its key until it is needed again, so that a client that comes back finds it; it is given to
//! another pair only when the bank of the last tick in which it counted has been folded.

use std::collections::VecDeque;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::{Bank, Sizes, Writer};
use crate::addr::Addr;
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

/// The keys of the slots, written by the worker, read by the aggregator.
#[derive(Debug)]
pub(crate) struct Directory {
    keys: Box<[[AtomicU64; 3]]>,
    used: AtomicU32,
    reserved: usize,
}

impl Directory {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            keys: (0..sizes.endpoints + sizes.pairs).map(|_| [0, 0, 0].map(AtomicU64::new)).collect(),
            used: AtomicU32::new(u32::try_from(sizes.endpoints).unwrap_or(u32::MAX)),
            reserved: sizes.endpoints,
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

const EMPTY: u32 = u32::MAX;

/// The worker's index of its pairs: open addressing over a fixed array, keyed hash, never rehashed.
#[derive(Debug)]
pub struct Pairs {
    /// Slot numbers, at most half of them in use.
    index: Box<[u32]>,
    /// Per slot beyond the endpoints' own: connections that hold it.
    holders: Box<[u32]>,
    /// Slots without holders, longest idle first, with the tick in which they were let go.
    idle: VecDeque<(u32, u32)>,
    /// Per slot: the tick in which it was last let go, to tell stale lines of `idle`.
    let_go: Box<[u32]>,
    reserved: u32,
    used: u32,
    hash_key: (u64, u64),
}

impl Pairs {
    /// An empty index for the slots of `writer`'s banks.
    #[must_use]
    pub fn new(sizes: Sizes, hash_key: (u64, u64)) -> Self {
        let n = sizes.pairs;
        Self {
            index: vec![EMPTY; (2 * n).next_power_of_two().max(2)].into(),
            holders: vec![0; n].into(),
            idle: VecDeque::with_capacity(2 * n + 1),
            let_go: vec![0; n].into(),
            reserved: sizes.endpoints as u32,
            used: 0,
            hash_key,
        }
    }

    /// The slot of `key`, one holder more. Where no slot is free: the endpoint's slot for all its other clients.
    pub fn acquire(&mut self, writer: &Writer, key: &PairKey) -> PairSlot {
        let directory = writer.directory();
        let mut at = self.home(key);
        while self.index[at] != EMPTY {
            let n = self.index[at];
            if directory.key(self.slot(n)) == *key {
                self.holders[n as usize] += 1;
                return self.slot(n);
            }
            at = (at + 1) & (self.index.len() - 1);
        }
        let Some(n) = self.fresh(writer) else { return Bank::other(key.endpoint) };
        directory.set(self.slot(n), key);
        self.holders[n as usize] = 1;
        // `fresh` may have moved entries: look for the place again.
        let mut at = self.home(key);
        while self.index[at] != EMPTY {
            at = (at + 1) & (self.index.len() - 1);
        }
        self.index[at] = n;
        self.slot(n)
    }

    /// One holder more of a slot that is held already.
    pub fn hold(&mut self, slot: PairSlot) {
        if let Some(n) = slot.0.checked_sub(self.reserved) {
            self.holders[n as usize] += 1;
        }
    }

    /// One holder less.
    pub fn release(&mut self, writer: &Writer, slot: PairSlot) {
        let Some(n) = slot.0.checked_sub(self.reserved) else { return };
        let holders = &mut self.holders[n as usize];
        *holders -= 1;
        if *holders == 0 {
            self.let_go[n as usize] = writer.tick();
            if self.idle.len() == self.idle.capacity() {
                self.compact();
            }
            self.idle.push_back((n, writer.tick()));
        }
    }

    /// A slot never used, or the one that is idle for longest and whose last counts have been folded.
    fn fresh(&mut self, writer: &Writer) -> Option<u32> {
        if (self.used as usize) < self.holders.len() {
            let n = self.used;
            self.used += 1;
            writer.directory().used.store(self.reserved + self.used, Ordering::Relaxed);
            return Some(n);
        }
        loop {
            let &(n, tick) = self.idle.front()?;
            if self.holders[n as usize] != 0 || self.let_go[n as usize] != tick {
                self.idle.pop_front(); // held again since, or let go again later
                continue;
            }
            // Counts of tick t lie in a bank that is folded before t + 2 is asked for.
            if writer.tick().wrapping_sub(tick) < 2 {
                return None;
            }
            self.idle.pop_front();
            self.forget(writer, n);
            return Some(n);
        }
    }

    /// Drops the stale lines of `idle`, of which there is at most one a slot that counts.
    fn compact(&mut self) {
        let (holders, let_go) = (&self.holders, &self.let_go);
        let mut seen = vec![false; holders.len()];
        self.idle.retain(|&(n, tick)| {
            let i = n as usize;
            holders[i] == 0 && let_go[i] == tick && !std::mem::replace(&mut seen[i], true)
        });
    }

    /// Takes `n` out of the index, closing the gap (backward shift).
    fn forget(&mut self, writer: &Writer, n: u32) {
        let directory = writer.directory();
        let mask = self.index.len() - 1;
        let mut gap = self.home(&directory.key(self.slot(n)));
        while self.index[gap] != n {
            gap = (gap + 1) & mask;
        }
        let mut at = (gap + 1) & mask;
        while self.index[at] != EMPTY {
            let home = self.home(&directory.key(self.slot(self.index[at])));
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.index[gap] = self.index[at];
                gap = at;
            }
            at = (at + 1) & mask;
        }
        self.index[gap] = EMPTY;
    }

    fn home(&self, key: &PairKey) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        hasher.write_u128(key.client.0);
        hasher.write_u64(u64::from(key.service.0) << 32 | u64::from(key.endpoint.0));
        hasher.finish() as usize & (self.index.len() - 1)
    }

    fn slot(&self, n: u32) -> PairSlot {
        PairSlot(self.reserved + n)
    }
}
