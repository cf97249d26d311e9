//! When a probe is due.
//!
//! Probes stand on a grid that is a twentieth denser than the interval, each at a place of its own, and start up to a twentieth
//! of the interval late, at random: so two starts never lie further apart than the interval, which is what bounds how long a dead
//! endpoint is taken for alive; many probes stay spread, however long they run; and none keeps step with anything else.

use std::time::{Duration, Instant};

/// A first probe comes within this time: until then its endpoint is of no use.
const FIRST: Duration = Duration::from_secs(1);
/// 2⁶⁴ divided by the golden ratio: multiples of it, modulo 2⁶⁴, are spread evenly, however many there are.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The starts of one probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    grid: Instant,
    period: Duration,
    jitter: Duration,
    first: Option<Instant>,
    random: u64,
}

impl Schedule {
    /// From `now` on, for the `place`-th probe.
    pub fn new(now: Instant, interval: Duration, place: u64, seed: u64) -> Self {
        let jitter = interval / 20;
        let period = interval - jitter;
        let part = (place.wrapping_mul(GOLDEN) >> 32) as f64 / (1_u64 << 32) as f64;
        let first = now + interval.min(FIRST).mul_f64(part);
        let mut grid = now + period.mul_f64(part);
        // Not twice at once.
        if grid < first + period / 20 {
            grid += period;
        }
        Self { grid, period, jitter, first: Some(first), random: mix(place ^ seed) }
    }

    /// When the next one starts: at `now` where that is past already.
    pub fn next(&mut self, now: Instant) -> Instant {
        if let Some(first) = self.first.take() {
            return first.max(now);
        }
        let due = self.grid + self.jitter.mul_f64(self.fraction());
        self.grid += self.period;
        // One that took longer than its interval has missed its turns.
        while self.grid <= now {
            self.grid += self.period;
        }
        due.max(now)
    }

    /// 0 to 1, by SplitMix64 (Steele et al., 2014): no secret.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(GOLDEN);
        (mix(self.random) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn starts(place: u64, count: usize) -> Vec<Duration> {
        let zero = Instant::now();
        let mut schedule = Schedule::new(zero, INTERVAL, place, 7);
        let mut now = zero;
        (0..count)
            .map(|_| {
                now = schedule.next(now);
                now - zero
            })
            .collect()
    }

    #[test]
    fn the_first_comes_within_a_second_and_no_two_are_further_apart_than_the_interval() {
        let mut gaps = Vec::new();
        for place in 0..500 {
            let starts = starts(place, 50);
            assert!(starts[0] < Duration::from_secs(1));
            assert!(starts[1] - starts[0] <= INTERVAL.mul_f64(1.05), "{place}: {:?}", &starts[..2]);
            for pair in starts[1..].windows(2) {
                let gap = pair[1] - pair[0];
                assert!(gap <= INTERVAL && gap >= INTERVAL.mul_f64(0.9), "{place}: {gap:?}");
                gaps.push(gap);
            }
        }
        gaps.sort();
        gaps.dedup();
        assert!(gaps.len() > 20_000, "no jitter: {} different gaps", gaps.len());
    }

    #[test]
    fn many_are_spread_over_the_interval_and_stay_so() {
        const MANY: u64 = 2_000;
        for round in [1, 40] {
            let period = INTERVAL.mul_f64(0.95).as_secs_f64();
            let mut tenths = [0_usize; 10];
            for place in 0..MANY {
                let at = starts(place, round + 1)[round].as_secs_f64();
                tenths[(at / period * 10.0) as usize % 10] += 1;
            }
            let fair = MANY as usize / 10;
            assert!(tenths.iter().all(|n| n.abs_diff(fair) < fair / 5), "round {round}: {tenths:?}");
        }
    }

    #[test]
    fn the_first_ones_are_spread_too() {
        let firsts: Vec<_> = (0..1000).map(|place| starts(place, 1)[0].as_millis() / 100).collect();
        for tenth in 0..10 {
            let here = firsts.iter().filter(|first| **first == tenth).count();
            assert!((90..=110).contains(&here), "{here}");
        }
    }

    #[test]
    fn one_that_takes_longer_than_its_interval_starts_again_at_once_and_catches_nothing_up() {
        let zero = Instant::now();
        let mut schedule = Schedule::new(zero, INTERVAL, 0, 7);
        assert_eq!(schedule.next(zero), zero);
        let late = zero + INTERVAL * 4;
        assert_eq!(schedule.next(late), late);
        let next = schedule.next(late);
        assert!(next - late <= INTERVAL);
        assert!(schedule.next(next) - next >= INTERVAL.mul_f64(0.9));
    }
}
