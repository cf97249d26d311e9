//! From a hash to what may have it, by numbers: buckets of one cache line.
//!
//! A key lies in one of two buckets; there is no displacement, so an insertion writes one line (two where the first bucket is
//! rather full) and a lookup reads one or two. The index is sized so that at full capacity it is half full:
//! under endless churn one key of eleven at most then lies in its second bucket, and none of 10⁷ insertions finds both full.

use std::fmt::Debug;
use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use crate::dpdk::memory::{Pages, lanes_with, prefetch};

/// What is found: a number of 32 bits.
pub(crate) trait Key: Copy + PartialEq + Debug {
    fn from_bits(bits: u32) -> Self;
    fn to_bits(self) -> u32;
}

const PLACES: usize = 10;

/// At full capacity there are at most this many keys a bucket.
const MEAN: usize = 5;

/// Until it has this many keys a bucket takes those whose first it is, whatever the second has: with strict balance four keys of
/// ten would lie in their second.
const COMFORTABLE: u32 = 8;

/// Tag 0 marks a free place.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; PLACES],
    keys: [u32; PLACES],
    /// Keys that have this as their first bucket and lie in their second: while 0, a lookup ends here.
    displaced: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Which places have this tag, as bits.
    #[inline(always)]
    fn places_with(&self, tag: u16) -> u32 {
        // A part of the keys is compared with the tags, as two vectors of eight.
        let halves: &[[u16; 8]; 4] = bytemuck::cast_ref(self);
        lanes_with(&halves[0], &halves[1], tag) & ((1 << PLACES) - 1)
    }

    /// The places that are free, as bits.
    #[inline(always)]
    fn free(&self) -> u32 {
        self.places_with(0)
    }

    /// The key at the first place with this tag.
    #[inline(always)]
    fn first_with<K: Key>(&self, tag: u16) -> Option<K> {
        let places = self.places_with(tag);
        if places == 0 {
            return None;
        }
        self.keys.get(places.trailing_zeros() as usize).map(|&key| K::from_bits(key))
    }
}

impl<K> Search<K> {
    #[inline(always)]
    pub(crate) const fn is_found(&self) -> bool {
        matches!(self, Self::Found(_))
    }
}

/// Keys by their hashes.
pub(crate) struct Index<K> {
    buckets: Pages<Bucket>,
    keys: PhantomData<K>,
}

/// What a first look at the index tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe<K> {
    /// Perhaps this one: one key of 6 500 that is not there looks so.
    Candidate(K),
    /// Not there.
    Absent,
    /// If anywhere, in the second bucket, which is being fetched.
    Second,
}

/// Where a key can be put: a free place. Good until something is put into the same bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    home: Home,
    /// In the second bucket.
    displaced: bool,
    place: usize,
}

impl Room {
    #[inline(always)]
    const fn bucket(&self) -> usize {
        if self.displaced { self.home.second } else { self.home.first }
    }
}

/// What a look for a key that is to be put in has found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Search<K> {
    /// It is there.
    Found(K),
    /// It is not, and can be put here.
    Room(Room),
    /// It is not, and both its buckets are full.
    Full,
}

/// Where a hash leads.
#[derive(Clone, Copy, Debug)]
struct Home {
    first: usize,
    second: usize,
    tag: u16,
}

/// What a key of this hash is told by in a bucket; never 0.
#[inline]
fn tag(hash: u64) -> u16 {
    ((hash >> 48) as u16).max(1)
}

/// Whether a bucket with these places free takes no more keys, if the second bucket of those has more room.
#[inline(always)]
const fn is_crowded(free: u32) -> bool {
    free.count_ones() <= PLACES as u32 - COMFORTABLE
}

impl<K: Key> Index<K> {
    /// Room for `keys`. The memory is zero pages until it is used.
    pub(crate) fn new(keys: usize) -> Self {
        Self { buckets: Pages::zeroed(Self::buckets(keys)), keys: PhantomData }
    }

    /// Bytes that room for `keys` takes.
    pub(crate) fn bytes(keys: usize) -> usize {
        Self::buckets(keys).saturating_mul(size_of::<Bucket>())
    }

    fn buckets(keys: usize) -> usize {
        keys.div_ceil(MEAN).max(2)
    }

    /// 32 bits of a hash, their upper ones mostly, as a bucket: without a division, and for any number of buckets.
    #[inline]
    fn at(&self, bits: u32) -> usize {
        ((u64::from(bits) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn home(&self, hash: u64) -> Home {
        let first = self.at(hash as u32);
        // Another bucket than the first.
        let second = match self.at((hash >> 20) as u32) {
            same if same == first => {
                if first == 0 {
                    1
                } else {
                    first - 1
                }
            }
            other => other,
        };
        Home { first, second, tag: tag(hash) }
    }

    /// Fetches the first bucket of a hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets[self.at(hash as u32)]);
    }

    /// After [`prefetch`](Self::prefetch), where a key of this hash is to be put in: fetches the second bucket if that will be asked.
    #[inline]
    pub(crate) fn prefetch_room(&self, hash: u64) {
        let home = self.home(hash);
        let first = &self.buckets[home.first];
        if first.displaced != 0 || is_crowded(first.free()) {
            prefetch(&self.buckets[home.second]);
        }
    }

    /// What the first bucket of a hash says, for a look at the entries later.
    #[inline]
    pub(crate) fn probe(&self, hash: u64) -> Probe<K> {
        let first = &self.buckets[self.at(hash as u32)];
        if let Some(key) = first.first_with(tag(hash)) {
            Probe::Candidate(key)
        } else if first.displaced == 0 {
            Probe::Absent
        } else {
            prefetch(&self.buckets[self.home(hash).second]);
            Probe::Second
        }
    }

    /// After [`Probe::Second`]: what the second bucket says.
    pub(crate) fn probe_second(&self, hash: u64) -> Option<K> {
        let home = self.home(hash);
        self.buckets[home.second].first_with(home.tag)
    }

    /// The first key of this hash for which `is` holds; `is` also sees a few keys of other hashes.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(K) -> bool) -> Option<K> {
        self.find_at(self.home(hash), is)
    }

    #[inline(always)]
    fn find_at(&self, home: Home, is: impl Fn(K) -> bool) -> Option<K> {
        let first = &self.buckets[home.first];
        if let Some(key) = Self::find_in(first, home.tag, &is) {
            return Some(key);
        }
        if first.displaced == 0 {
            return None;
        }
        Self::find_in(&self.buckets[home.second], home.tag, &is)
    }

    #[inline(always)]
    fn find_in(bucket: &Bucket, tag: u16, is: &impl Fn(K) -> bool) -> Option<K> {
        let mut places = bucket.places_with(tag);
        while places != 0 {
            let key = K::from_bits(bucket.keys[places.trailing_zeros() as usize]);
            if is(key) {
                return Some(key);
            }
            places &= places - 1;
        }
        None
    }

    /// [`find`](Self::find), and where there is none, where a key of this hash can be put.
    #[inline(always)]
    pub(crate) fn search(&self, hash: u64, is: impl Fn(K) -> bool) -> Search<K> {
        let home = self.home(hash);
        match self.find_at(home, is) {
            Some(key) => Search::Found(key),
            None => self.room_at(home).map_or(Search::Full, Search::Room),
        }
    }

    #[inline(always)]
    fn room_at(&self, home: Home) -> Option<Room> {
        let first = &self.buckets[home.first];
        let free = first.free();
        if !is_crowded(free) {
            return Some(Room { home, displaced: false, place: free.trailing_zeros() as usize });
        }
        let other = self.buckets[home.second].free();
        let displaced = other.count_ones() > free.count_ones();
        let free = if displaced { other } else { free };
        (free != 0).then_some(Room { home, displaced, place: free.trailing_zeros() as usize })
    }

    /// Puts a key where there is room for it.
    #[inline(always)]
    pub(crate) fn put(&mut self, room: Room, key: K) {
        let bucket = &mut self.buckets[room.bucket()];
        bucket.tags[room.place] = room.home.tag;
        bucket.keys[room.place] = key.to_bits();
        if room.displaced {
            self.buckets[room.home.first].displaced += 1;
        }
    }

    /// Puts two keys in, each where there was room for it before: both, or `false`, and no change.
    #[inline(always)]
    pub(crate) fn put_both(&mut self, first: Room, one: K, second: Room, other: K) -> bool {
        self.put(first, one);
        if second.bucket() == first.bucket() {
            return self.put_beside(first.home, one, second.home, other);
        }
        self.put(second, other);
        true
    }

    /// Puts a key in where another was just put, which goes again if there is no room left.
    #[cold]
    #[inline(never)]
    fn put_beside(&mut self, home: Home, one: K, second: Home, other: K) -> bool {
        match self.room_at(second) {
            Some(room) => self.put(room, other),
            None => {
                self.take_out(home, one);
                return false;
            }
        }
        true
    }

    /// Puts a key in: `false`, and no change, where there is no room.
    #[cfg(test)]
    pub(crate) fn insert(&mut self, hash: u64, key: K) -> bool {
        self.room_at(self.home(hash)).map(|room| self.put(room, key)).is_some()
    }

    /// Removes a key that was inserted with this hash.
    pub(crate) fn remove(&mut self, hash: u64, key: K) {
        self.take_out(self.home(hash), key);
    }

    fn take_out(&mut self, home: Home, key: K) {
        for at in [home.first, home.second] {
            let bucket = &mut self.buckets[at];
            let mut places = bucket.places_with(home.tag);
            while places != 0 {
                let place = places.trailing_zeros() as usize;
                if bucket.keys[place] == key.to_bits() {
                    bucket.tags[place] = 0;
                    if at == home.second {
                        self.buckets[home.first].displaced -= 1;
                    }
                    return;
                }
                places &= places - 1;
            }
        }
        debug_assert!(false, "{key:?} is not in the index");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bucket {
        fn used(&self) -> u32 {
            PLACES as u32 - self.free().count_ones()
        }
    }

    impl<K: Key> Index<K> {
        /// Keys in it.
        pub(crate) fn len(&self) -> usize {
            self.buckets.iter().map(|b| b.used() as usize).sum()
        }

        /// Bucket lines that a lookup of `key`, which is in it, reads.
        pub(crate) fn lines_to(&self, key: K, hash: u64) -> usize {
            let home = self.home(hash);
            let bucket = &self.buckets[home.first];
            if Self::find_in(bucket, home.tag, &|k| k == key).is_some() { 1 } else { 2 }
        }
    }

    /// splitmix64
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    impl Key for usize {
        fn from_bits(bits: u32) -> Self {
            bits as Self
        }

        fn to_bits(self) -> u32 {
            self as u32
        }
    }

    #[test]
    fn finds_what_was_inserted_until_it_is_removed() {
        let mut index = Index::new(1000);
        let mut seed = 1;
        let hashes: Vec<_> = (0..1000).map(|_| random(&mut seed)).collect();
        for (n, h) in hashes.iter().enumerate() {
            assert!(index.insert(*h, n));
        }
        for (n, h) in hashes.iter().enumerate() {
            assert_eq!(index.find(*h, |k| k == n), Some(n));
            index.remove(*h, n);
            assert_eq!(index.find(*h, |k| k == n), None);
        }
        assert_eq!(index.len(), 0);
        assert!(index.buckets.iter().all(|b| b.displaced == 0), "nothing is left behind");
    }

    #[test]
    fn a_probe_leads_where_a_search_does() {
        let mut index = Index::new(3000);
        let mut seed = 3;
        let hashes: Vec<_> = (0..3000).map(|_| random(&mut seed)).collect();
        for (n, h) in hashes.iter().enumerate() {
            assert!(index.insert(*h, n));
        }
        let absent: Vec<_> = (0..3000).map(|_| random(&mut seed)).collect();
        for h in hashes.iter().chain(&absent) {
            let led = match index.probe(*h) {
                Probe::Candidate(key) => Some(key),
                Probe::Absent => None,
                Probe::Second => index.probe_second(*h),
            };
            assert_eq!(led, index.find(*h, |_| true), "{h:x}");
        }
    }

    #[test]
    fn a_full_pair_of_buckets_refuses_and_stays_as_it_is() {
        let mut index = Index::new(100);
        let hash = 0x1234_0000_0000_0003;
        for n in 0..2 * PLACES {
            assert!(index.insert(hash, n), "{n}");
        }
        assert!(!index.insert(hash, 99));
        assert_eq!(index.find(hash, |k| k == 99), None);
        for n in 0..2 * PLACES {
            assert_eq!(index.find(hash, |k| k == n), Some(n));
        }
        index.remove(hash, 3);
        assert!(index.insert(hash, 99));
        assert_eq!(index.find(hash, |k| k == 99), Some(99));
    }

    /// The worst load that a capacity can lead to, filled and then churned.
    #[test]
    fn two_choices_suffice() {
        let buckets = 1 << 13;
        let keys = buckets * MEAN;
        let mut index = Index::new(keys);
        assert_eq!(index.buckets.len(), buckets);
        let mut seed = 7;
        let mut live: Vec<u64> = (0..keys).map(|_| random(&mut seed)).collect();
        for (n, h) in live.iter().enumerate() {
            assert!(index.insert(*h, n), "full at {n} of {keys}");
        }
        for round in 0..8 * keys {
            let n = random(&mut seed) as usize % keys;
            index.remove(live[n], n);
            live[n] = random(&mut seed);
            assert!(index.insert(live[n], n), "full in round {round}");
        }
        let displaced: u32 = index.buckets.iter().map(|b| b.displaced).sum();
        assert!((displaced as usize) < keys / 10, "{displaced} of {keys} lie in their second bucket");
    }
}
