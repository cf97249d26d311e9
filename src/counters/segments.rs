//! Counters that become more while they are written: segments of doubling size that never move.

use std::sync::OnceLock;

/// Slots of the first segment; loom counts every atomic.
const FIRST: usize = if cfg!(pollux_loom) { 1 } else { 256 };
/// Segments: room for 2²⁶ slots and more, so that no index misses the array.
const SEGMENTS: usize = 19;

/// Slots numbered from 0. Any thread may add some; who uses a slot has heard of it after it was added.
#[derive(Debug)]
pub(super) struct Segments<T>([OnceLock<Box<[T]>>; SEGMENTS]);

impl<T: Default> Segments<T> {
    /// With this many slots, at least.
    pub fn new(slots: usize) -> Self {
        let segments = Self(std::array::from_fn(|_| OnceLock::new()));
        segments.grow(slots);
        segments
    }

    /// Adds segments until there are this many slots; those that are there stay where they are.
    pub fn grow(&self, slots: usize) {
        let mut room = 0;
        for (number, segment) in self.0.iter().enumerate() {
            if room >= slots {
                return;
            }
            let len = FIRST << number;
            segment.get_or_init(|| (0..len).map(|_| T::default()).collect());
            room += len;
        }
    }
}

impl<T> Segments<T> {
    /// A slot, where it was added.
    #[inline]
    pub fn get(&self, slot: usize) -> Option<&T> {
        let at = slot + FIRST;
        let segment = (at.ilog2() - FIRST.ilog2()) as usize;
        self.0.get(segment)?.get()?.get(at - (FIRST << segment))
    }
}

impl<T> std::ops::Index<usize> for Segments<T> {
    type Output = T;

    /// A slot that was added; any other is an error of the program's.
    #[inline]
    fn index(&self, slot: usize) -> &T {
        let at = slot + FIRST;
        let segment = (at.ilog2() - FIRST.ilog2()) as usize;
        let slots = self.0[segment].get().map_or(&[][..], |slots| slots);
        &slots[at - (FIRST << segment)]
    }
}

#[cfg(all(test, not(pollux_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn slots_stay_where_they_are_when_there_are_more() {
        let slots = Segments::<AtomicUsize>::new(3);
        for n in 0..FIRST {
            slots[n].store(n, Ordering::Relaxed);
        }
        let first = &raw const slots[5];
        slots.grow(10_000);
        for n in FIRST..10_000 {
            slots[n].store(n, Ordering::Relaxed);
        }
        assert!((0..10_000).all(|n| slots[n].load(Ordering::Relaxed) == n), "each is one of its own");
        assert_eq!(first, &raw const slots[5]);
    }

    #[test]
    #[should_panic(expected = "out of bounds")]
    fn a_slot_that_was_not_added_is_an_error() {
        let _ = &Segments::<AtomicUsize>::new(0)[0];
    }
}
