//! Chance that can be repeated.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014): small, and good enough for traffic.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub const fn next_u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// From `0..1`.
    pub const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low..=high`. The bias of the remainder does not matter here.
    pub const fn between(&mut self, low: u32, high: u32) -> u32 {
        low + (self.next_u32() as u64 % (high as u64 - low as u64 + 1)) as u32
    }

    /// True this often in a hundred.
    pub const fn percent(&mut self, share: u32) -> bool {
        self.between(0, 99) < share
    }

    /// From `low..high`, every order of magnitude as likely as another: few are large, as sizes of pages are.
    pub fn log_between(&mut self, low: f64, high: f64) -> u32 {
        (low * (high / low).powf(self.unit())) as u32
    }

    /// Time until the next of many independent events that come at `rate` per second.
    pub fn wait(&mut self, rate: f64) -> Duration {
        Duration::from_secs_f64((-(1.0 - self.unit()).ln() / rate).min(3600.0))
    }

    /// Milliseconds from `low..=high`.
    pub const fn millis(&mut self, low: u32, high: u32) -> Duration {
        Duration::from_millis(self.between(low, high) as u64)
    }

    /// An index into `weights`, in proportion.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (i, weight) in weights.enumerate() {
            if weight > 0.0 {
                last = i;
                if left < weight {
                    break;
                }
            }
            left -= weight;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_repeated_and_in_range() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for _ in 0..1000 {
            assert_eq!(a.next(), b.next());
            assert!((3..=9).contains(&a.between(3, 9)));
            b.next();
            assert!((10..1000).contains(&a.log_between(10.0, 1000.0)));
            b.next();
        }
    }

    #[test]
    fn weights_are_shares() {
        let (mut rng, mut hits) = (Rng::new(1), [0; 3]);
        for _ in 0..10_000 {
            hits[rng.weighted([1.0, 0.0, 3.0].into_iter())] += 1;
        }
        assert_eq!(hits[1], 0);
        assert!((2300..2700).contains(&hits[0]), "{hits:?}");
    }
}
