//! `rate_limit` of a web configuration: a token bucket over all requests.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket that gets one token each `interval`, and holds `burst` of them.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    burst: u32,
    /// When the bucket would be, or would have been, empty but for what drips in.
    level: Mutex<(f64, Instant)>,
}

impl Rate {
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, level: Mutex::new((f64::from(burst), Instant::now())) }
    }

    /// Takes a token, if there is one.
    pub fn allows(&self, now: Instant) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let dripped = now.saturating_duration_since(level.1).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (level.0 + dripped).min(f64::from(self.burst));
        let allowed = tokens >= 1.0;
        *level = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_each_interval() {
        let rate = Rate::new(Duration::from_secs(1), 3);
        let began = Instant::now();
        let allowed = |ms: u64| rate.allows(began + Duration::from_millis(ms));
        assert_eq!([0, 10, 20, 30].map(allowed), [true, true, true, false]);
        assert_eq!([1100, 1200, 2100].map(allowed), [true, false, true]);
        assert_eq!(
            [9000, 9000, 9000, 9000].map(allowed),
            [true, true, true, false],
            "no more than the burst"
        );
        assert!(!Rate::new(Duration::from_secs(1), 0).allows(began), "none ever");
    }
}
