//! Numbers of which each is free, in use, or at rest; one that is free is found at random, in the same time whether many are
//! or one.

use std::time::Duration;

use super::scale;
use crate::dpdk::memory::prefetch;
use crate::time::Instant;

/// A port rests at least this long, and half as long again at most. RFC 6888 §3 REQ-8: no external port is given out again
/// before 120 seconds have passed, which is RFC 9293's maximum segment lifetime, and twice what Linux stays in TIME-WAIT.
pub const MIN_REST: Duration = Duration::from_secs(120);

/// Those who begin to rest in the same turn end it together. Two whole turns lie between, so that it was long enough for the
/// last of them.
const TURN: Duration = Duration::from_secs(MIN_REST.as_secs() / 2);
const TURNS: usize = 3;

/// In use, and at rest since each of the turns: 64 numbers.
#[derive(Clone, Copy, Default, Debug)]
struct Word {
    used: u64,
    resting: [u64; TURNS],
}

impl Word {
    #[inline]
    const fn free(&self, valid: u64) -> u64 {
        let [a, b, c] = self.resting;
        valid & !(self.used | a | b | c)
    }
}

/// Numbers from 0.
#[derive(Debug)]
pub(super) struct Set {
    words: Box<[Word]>,
    /// A bit for each word: none of its numbers is free.
    full: Box<[u64]>,
    len: u32,
    used: u32,
    resting: [u32; TURNS],
    /// The turn that it is.
    turn: u64,
}

impl Set {
    /// This many numbers, all free.
    pub fn new(len: usize) -> Self {
        let words = len.div_ceil(64);
        Self {
            words: vec![Word::default(); words].into_boxed_slice(),
            full: vec![0; words.div_ceil(64)].into_boxed_slice(),
            len: len as u32,
            used: 0,
            resting: [0; TURNS],
            turn: 0,
        }
    }

    pub const fn used(&self) -> u32 {
        self.used
    }

    pub fn resting(&self) -> u32 {
        self.resting.iter().sum()
    }

    pub fn free(&self) -> u32 {
        self.len - self.used - self.resting()
    }

    /// Takes one that is free, as the random bits say.
    pub fn take(&mut self, random: u64, now: Instant) -> Option<u32> {
        self.wake(now);
        if self.free() == 0 {
            return None;
        }
        let at = self.word_with_room(scale(random, self.words.len()))?;
        let valid = self.valid(at);
        let word = self.words.get_mut(at)?;
        let free = word.free(valid);
        // The low half has chosen the word.
        let bit = nth(free, ((random >> 40) as u32) % free.count_ones().max(1));
        word.used |= bit;
        self.used += 1;
        if word.free(valid) == 0 {
            self.full[at / 64] |= 1 << (at % 64);
        }
        Some((at * 64) as u32 + bit.trailing_zeros())
    }

    /// Fetches what [`take`](Self::take) will read, and says from which number on one of 64 is the likeliest to be taken.
    #[inline]
    pub fn prefetch(&self, random: u64) -> usize {
        let at = scale(random, self.words.len());
        if let Some(word) = self.words.get(at) {
            prefetch(word);
        }
        at * 64
    }

    /// Gives one back that is in use.
    pub fn give_back(&mut self, number: u32, rest: bool, now: Instant) {
        self.wake(now);
        let (at, bit) = (number as usize / 64, 1 << (number % 64));
        let Some(word) = self.words.get_mut(at).filter(|word| word.used & bit != 0) else { return };
        word.used &= !bit;
        self.used -= 1;
        if rest {
            let turn = (self.turn % TURNS as u64) as usize;
            word.resting[turn] |= bit;
            self.resting[turn] += 1;
        } else {
            self.full[at / 64] &= !(1 << (at % 64));
        }
    }

    /// Ends the rest of those who have rested long enough.
    pub fn wake(&mut self, now: Instant) {
        let turn = now.0 / TURN.as_nanos() as u64;
        if turn <= self.turn {
            return;
        }
        let passed = (turn - self.turn).min(TURNS as u64);
        for n in 0..passed {
            self.wake_turn(((turn - n) % TURNS as u64) as usize);
        }
        self.turn = turn;
    }

    /// Once a turn at most, and not where none rests: the one thing that looks at all words, of which there are 1024 at most.
    fn wake_turn(&mut self, turn: usize) {
        if std::mem::take(&mut self.resting[turn]) == 0 {
            return;
        }
        for (at, word) in self.words.iter_mut().enumerate() {
            if std::mem::take(&mut word.resting[turn]) != 0 {
                self.full[at / 64] &= !(1 << (at % 64));
            }
        }
    }

    /// The first word from `start` on, around, that is not full.
    fn word_with_room(&self, start: usize) -> Option<usize> {
        let summaries = self.full.len();
        for n in 0..=summaries {
            let at = (start / 64 + n) % summaries;
            let words = (self.words.len() - at * 64).min(64);
            let mut room = !self.full[at] & u64::MAX >> (64 - words);
            if n == 0 {
                room &= u64::MAX << (start % 64);
            }
            if room != 0 {
                return Some(at * 64 + room.trailing_zeros() as usize);
            }
        }
        None
    }

    /// The bits of a word that are numbers.
    fn valid(&self, word: usize) -> u64 {
        let left = self.len as usize - word * 64;
        if left < 64 { (1 << left) - 1 } else { u64::MAX }
    }
}

/// The set bit that has `n` set bits below it.
#[inline]
const fn nth(bits: u64, n: u32) -> u64 {
    let (mut rest, mut n, mut at, mut width) = (bits, n, 0, 32);
    // Which half it is in, and of that which half.
    while width > 0 {
        let ones = (rest & ((1 << width) - 1)).count_ones();
        if n >= ones {
            (n, at, rest) = (n - ones, at + width, rest >> width);
        }
        width /= 2;
    }
    bits & 1 << at
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Now {
        Used,
        Resting(Instant),
    }

    proptest! {
        /// Against a map from number to what it is.
        #[test]
        fn gives_out_what_is_free_and_nothing_else(
            len in prop_oneof![0..200_usize, 1000..1100_usize],
            // A few more than there are, so that it runs dry.
            steps in prop::collection::vec((any::<u64>(), 0..10_u8, 0..40_u64), 1..300),
            fill in any::<bool>(),
        ) {
            let mut set = Set::new(len);
            let mut model: HashMap<u32, Now> = HashMap::new();
            let mut used: Vec<u32> = Vec::new();
            let mut now = Instant(0);
            let fill = (0..if fill { len } else { 0 }).map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).map(|r| (r, 0, 0));
            for (random, what, seconds) in fill.chain(steps) {
                now = now.after(Duration::from_secs(seconds));
                if what < 6 || used.is_empty() {
                    match set.take(random, now) {
                        Some(n) => {
                            prop_assert!((n as usize) < len);
                            match model.insert(n, Now::Used) {
                                Some(Now::Used) => prop_assert!(false, "{n} given out twice"),
                                Some(Now::Resting(since)) => prop_assert!(now.since(since) >= MIN_REST),
                                None => {}
                            }
                            used.push(n);
                        }
                        None => {
                            let rested = Duration::from_secs(180);
                            prop_assert_eq!(model.len(), len);
                            let busy = |s: &Now| match s {
                                Now::Used => true,
                                Now::Resting(since) => now.since(*since) < rested,
                            };
                            prop_assert!(model.values().all(busy));
                        }
                    }
                } else {
                    let n = used.swap_remove(random as usize % used.len());
                    set.give_back(n, what < 9, now);
                    if what < 9 { model.insert(n, Now::Resting(now)); } else { model.remove(&n); }
                }
                prop_assert_eq!(set.used() as usize, used.len());
                prop_assert_eq!(set.free() + set.used() + set.resting(), len as u32);
            }
        }
    }

    #[test]
    fn every_number_is_given_out_before_it_is_dry() {
        for len in [0, 1, 63, 64, 65, 4095, 4096, 4097, 64_512] {
            let mut set = Set::new(len);
            let mut seen = vec![false; len];
            for n in 0..len as u64 {
                let got = set.take(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), Instant::ZERO).unwrap();
                assert!(!std::mem::replace(&mut seen[got as usize], true));
            }
            assert_eq!(set.take(7, Instant::ZERO), None);
        }
    }

    #[test]
    fn what_was_never_given_out_cannot_be_given_back() {
        let mut set = Set::new(10);
        set.give_back(3, false, Instant::ZERO);
        set.give_back(99, true, Instant::ZERO);
        assert_eq!((set.used(), set.free()), (0, 10));
    }
}
