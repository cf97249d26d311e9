//! How long answers take.

use std::time::Duration;

/// The buckets' upper bounds, seconds.
pub const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Round-trip times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// By the first of [`BOUNDS`] that is not exceeded; not cumulative.
    pub buckets: [u64; BOUNDS.len()],
    /// All, those beyond the last bound too.
    pub count: u64,
    /// Seconds.
    pub sum: f64,
}

impl Histogram {
    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.buckets.iter_mut().zip(other.buckets) {
            *own += other;
        }
        self.count += other.count;
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        for ms in [0, 1, 2, 1000, 1001] {
            histogram.record(Duration::from_millis(ms));
        }
        assert_eq!(histogram.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(histogram.count == 5 && (histogram.sum - 2.004).abs() < 1e-9);
    }
}
