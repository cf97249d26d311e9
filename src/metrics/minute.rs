//! One-second readings of the last minute, on one time line for all services.

use std::time::Duration;

use crate::time::Instant;

/// The open reading and the sixty before it.
const READINGS: usize = 61;

const MINUTE: Duration = Duration::from_secs(60);

/// A service's readings; nothing is kept of one without requests.
#[derive(Default, Debug)]
pub(super) struct Readings(Option<Box<[u64; READINGS]>>);

/// When the readings began and ended.
#[derive(Debug)]
pub(super) struct TimeLine {
    /// Begin and end, the open one's end being the last fold.
    spans: [(Instant, Instant); READINGS],
    open: usize,
}

impl TimeLine {
    pub fn new(start: Instant) -> Self {
        Self { spans: [(start, start); READINGS], open: 0 }
    }

    /// The open reading lasts until `now` at least.
    pub fn extend(&mut self, now: Instant) {
        self.spans[self.open].1 = now;
    }

    /// Closes the open reading, and opens one in the place of the oldest, which every service must [`clear`](Self::clear).
    pub fn close(&mut self) {
        let now = self.spans[self.open].1;
        self.open = (self.open + 1) % READINGS;
        self.spans[self.open] = (now, now);
    }

    /// Empties a service's place for the reading just opened.
    pub fn clear(&self, readings: &mut Readings) {
        if let Some(counts) = &mut readings.0 {
            counts[self.open] = 0;
            if counts.iter().all(|&n| n == 0) {
                readings.0 = None;
            }
        }
    }

    /// Counts in the open reading.
    pub fn count(&self, readings: &mut Readings, n: u64) {
        if n > 0 {
            readings.0.get_or_insert_with(|| Box::new([0; READINGS]))[self.open] += n;
        }
    }

    /// Requests in the last 60 s / 60, and the highest rate of a reading of a second or more in them. A reading belongs to the minute
    /// that its middle lies in.
    pub fn rates(&self, readings: &Readings) -> (f64, f64) {
        let Some(counts) = &readings.0 else { return (0.0, 0.0) };
        let now = self.spans[self.open].1;
        let (mut sum, mut peak) = (0, 0.0_f64);
        for (&n, &(begin, end)) in counts.iter().zip(&self.spans) {
            let length = end.since(begin);
            if n > 0 && now.since(begin.after(length / 2)) <= MINUTE {
                sum += n;
                peak = peak.max(n as f64 / length.as_secs_f64().max(1.0));
            }
        }
        (sum as f64 / MINUTE.as_secs_f64(), peak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Instant {
        Instant(n * 1_000_000_000)
    }

    #[test]
    fn average_and_peak_of_sixty_seconds() {
        let mut line = TimeLine::new(Instant::ZERO);
        let mut r = Readings::default();
        assert_eq!(line.rates(&r), (0.0, 0.0));
        for s in 1..=200 {
            line.count(&mut r, if s == 100 { 600 } else { 0 });
            line.extend(second(s));
            let (average, peak) = line.rates(&r);
            let within = (100..160).contains(&s);
            assert_eq!((average, peak), if within { (10.0, 600.0) } else { (0.0, 0.0) }, "second {s}");
            line.close();
            line.clear(&mut r);
        }
        assert!(r.0.is_none(), "idle services cost nothing");
    }

    #[test]
    fn steady_requests() {
        let mut line = TimeLine::new(Instant::ZERO);
        let mut r = Readings::default();
        for s in 1..=500 {
            line.count(&mut r, 7);
            // A few milliseconds late, every time by another amount.
            line.extend(Instant(second(s).0 + s % 5 * 1_000_000));
            if s > 60 {
                let (average, peak) = line.rates(&r);
                assert_eq!(average, 7.0, "second {s}");
                assert!((peak - 7.0).abs() < 0.04, "second {s}: {peak}");
            }
            line.close();
            line.clear(&mut r);
        }
    }

    #[test]
    fn a_late_reading_is_no_peak() {
        let mut line = TimeLine::new(Instant::ZERO);
        let mut r = Readings::default();
        line.count(&mut r, 50);
        line.extend(second(5));
        assert_eq!(line.rates(&r).1, 10.0);
    }

    #[test]
    fn a_first_fraction_of_a_second_is_no_peak() {
        let mut line = TimeLine::new(Instant::ZERO);
        let mut r = Readings::default();
        line.count(&mut r, 5);
        line.extend(Instant(1_000_000));
        assert_eq!(line.rates(&r).1, 5.0);
    }
}
