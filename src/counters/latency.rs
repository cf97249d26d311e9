//! How long bursts and packets take: HdrHistograms that a worker records and the aggregator empties.
//!
//! Each worker has two sets of them. It records in one; when the aggregator has sent the other one back empty, the worker gives
//! the full one away between two bursts, through a ring: nobody waits, and nothing is lost where the aggregator is late. A burst in
//! [`ONE_IN`] is timed; what is recorded of it is exact to [`DIGITS`] decimal digits (Tene, HdrHistogram).

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use rtrb::{Consumer, Producer, RingBuffer};

/// Bursts of which one is timed.
pub const ONE_IN: u32 = 16;

/// Decimal digits that recorded times are exact to.
pub const DIGITS: u8 = 2;

/// What lasts longer is recorded as this, nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// Times of one kind, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Times {
    histogram: Histogram<u64>,
    /// The exact sum.
    nanos: u64,
}

impl Default for Times {
    fn default() -> Self {
        // These bounds are valid: an empty one of the type's own choice could not be recorded in without allocating.
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self { histogram: histogram.unwrap_or_else(|error| unreachable!("{error}")), nanos: 0 }
    }
}

impl Times {
    /// `n` times of so many nanoseconds. Allocates nothing.
    #[inline]
    pub fn record(&mut self, nanos: u64, n: u64) {
        self.histogram.saturating_record_n(nanos.max(1), n);
        self.nanos = self.nanos.wrapping_add(nanos.wrapping_mul(n));
    }

    /// Takes all that another has, and leaves that empty.
    pub fn drain(&mut self, other: &mut Self) {
        self.add(other);
        other.reset();
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        if !self.is_empty() {
            self.histogram.reset();
        }
        self.nanos = 0;
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// How many, and the seconds that they add up to.
    #[must_use]
    pub fn sum(&self) -> (u64, f64) {
        (self.histogram.len(), self.nanos as f64 / 1e9)
    }

    /// How many there are by the first of `bounds` (seconds) that they do not exceed; not cumulative.
    #[must_use]
    pub fn buckets(&self, bounds: &[f64]) -> Vec<u64> {
        let mut buckets = vec![0; bounds.len()];
        for step in self.histogram.iter_recorded() {
            // Of the values that cannot be told apart the lowest: a bound belongs to its bucket.
            let lowest = self.histogram.lowest_equivalent(step.value_iterated_to()) as f64 / 1e9;
            let bucket = bounds.partition_point(|bound| *bound < lowest);
            if let Some(bucket) = buckets.get_mut(bucket) {
                *bucket += step.count_since_last_iteration();
            }
        }
        buckets
    }

    /// What a share of the times do not exceed, seconds; none of nothing.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        (!self.is_empty()).then(|| self.histogram.value_at_quantile(share) as f64 / 1e9)
    }
}

/// All that is timed.
#[derive(Debug, Default, Clone)]
pub struct Latencies {
    /// Turns of the poll loop in which packets came.
    pub burst: Times,
    /// Forwarded packets, from the read of the RX queue that brought them to the end of the turn's TX bursts.
    pub residence: Times,
}

impl Latencies {
    /// Takes all that another has, and leaves that empty.
    pub fn drain(&mut self, other: &mut Self) {
        self.burst.drain(&mut other.burst);
        self.residence.drain(&mut other.residence);
    }
}

/// The worker's side.
#[derive(Debug)]
pub struct Meter {
    current: Box<Latencies>,
    full: Producer<Box<Latencies>>,
    empty: Consumer<Box<Latencies>>,
    tick: u32,
    bursts: u32,
}

impl Meter {
    /// Between two bursts: gives away what is recorded, once in a tick.
    #[inline]
    pub fn turn(&mut self, tick: u32) {
        if tick != self.tick {
            self.exchange(tick);
        }
    }

    #[cold]
    fn exchange(&mut self, tick: u32) {
        if let Ok(empty) = self.empty.pop() {
            let full = std::mem::replace(&mut self.current, empty);
            // There are two of them, and room for both.
            let _ = self.full.push(full);
            self.tick = tick;
        }
    }

    /// A burst has come: whether it is one to be timed.
    #[inline]
    pub fn burst(&mut self) -> bool {
        self.bursts = self.bursts.wrapping_add(1);
        self.bursts % ONE_IN == 1
    }

    /// Where to record.
    #[inline]
    pub fn record(&mut self) -> &mut Latencies {
        &mut self.current
    }
}

/// The aggregator's side, and the worker's until it is taken.
#[derive(Debug)]
pub(super) struct Exchange {
    meter: Mutex<Option<Meter>>,
    ends: Mutex<Ends>,
}

/// Full sets that come, and empty ones that go back.
#[derive(Debug)]
struct Ends {
    filled: Consumer<Box<Latencies>>,
    back: Producer<Box<Latencies>>,
}

impl Exchange {
    pub fn new() -> Self {
        let (full, filled) = RingBuffer::new(2);
        let (mut back, empty) = RingBuffer::new(2);
        let _ = back.push(Box::default());
        let meter = Meter { current: Box::default(), full, empty, tick: 0, bursts: 0 };
        Self { meter: Mutex::new(Some(meter)), ends: Mutex::new(Ends { filled, back }) }
    }

    pub fn meter(&self) -> Option<Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes what the worker has given away.
    pub fn take(&self, mut to: impl FnMut(&mut Latencies)) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let Ends { filled, back } = &mut *ends;
        while let Ok(mut latencies) = filled.pop() {
            to(&mut latencies);
            latencies.burst.reset();
            latencies.residence.reset();
            let _ = back.push(latencies);
        }
    }
}

#[cfg(all(test, not(pollux_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_arrives_once_however_late_the_aggregator_is() {
        let exchange = Exchange::new();
        let mut meter = exchange.meter().unwrap();
        assert!(exchange.meter().is_none(), "there is one writer");
        let mut all = Latencies::default();
        for tick in 1..=10 {
            meter.turn(tick);
            meter.record().burst.record(u64::from(tick) * 1000, 1);
            if tick % 4 == 0 {
                exchange.take(|latencies| all.drain(latencies));
            }
        }
        assert!(all.burst.sum().0 < 10);
        for tick in 11..=13 {
            exchange.take(|latencies| all.drain(latencies));
            meter.turn(tick);
        }
        exchange.take(|latencies| all.drain(latencies));
        let (count, seconds) = all.burst.sum();
        assert_eq!((count, (seconds * 1e6).round()), (10, 55.0));
    }

    #[test]
    fn buckets_and_quantiles_to_two_digits() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        for micros in 1..=1000 {
            times.record(micros * 1000, 1);
        }
        times.record(60_000_000_000, 2);
        let bounds = [1e-6, 1e-5, 1e-4, 1e-3];
        let buckets = times.buckets(&bounds);
        assert_eq!(buckets[..2], [1, 9]);
        assert!((88..=92).contains(&buckets[2]) && (890..=910).contains(&buckets[3]), "{buckets:?}");
        assert_eq!(times.sum().0, 1002);
        let median = times.quantile(0.5).unwrap();
        assert!((median - 501e-6).abs() < 6e-6, "{median}");
        assert!(times.quantile(1.0).unwrap() >= 9.9);
    }

    #[test]
    fn one_burst_in_sixteen() {
        let mut meter = Exchange::new().meter().unwrap();
        assert_eq!((0..160).filter(|_| meter.burst()).count(), 10);
    }
}
