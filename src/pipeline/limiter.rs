//! Token buckets: for what the engine originates about others' packets (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)), and for what
//! it gives to the kernel.

use crate::time::Instant;

/// The bucket.
#[derive(Debug)]
pub struct Limiter {
    nanos_a_token: u64,
    /// Time that a full bucket stands for.
    full_nanos: u64,
    /// When the bucket was or will be empty, on a clock that starts with a full bucket: tokens are the time since.
    empty_at: u64,
}

impl Limiter {
    /// ICMP errors: a second, and at once, as in Linux (`icmp_msgs_per_sec`, `icmp_msgs_burst`).
    pub const ICMP: Self = Self::new(1000, 50);

    /// A full bucket of `burst` tokens that gets `rate` a second.
    pub const fn new(rate: u64, burst: u64) -> Self {
        let nanos_a_token = 1_000_000_000 / rate;
        Self { nanos_a_token, full_nanos: burst * nanos_a_token, empty_at: 0 }
    }

    /// Takes a token, if there is one.
    pub fn allow(&mut self, now: Instant) -> bool {
        let empty_at = self.empty_at.max(now.0);
        if empty_at - now.0 > self.full_nanos - self.nanos_a_token {
            return false;
        }
        // A capture's clock may stand at the end of time.
        self.empty_at = empty_at.saturating_add(self.nanos_a_token);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::ICMP;
        let start = 10_000_000_000;
        let at_once = (0..1000).filter(|_| limiter.allow(Instant(start))).count();
        assert_eq!(at_once, 50);
        let later = (0..100_000).filter(|i| limiter.allow(Instant(start + i * 10_000))).count();
        assert!((999..=1001).contains(&later), "{later} in a second");
    }

    #[test]
    fn time_may_end() {
        let mut limiter = Limiter::ICMP;
        assert!(limiter.allow(Instant(u64::MAX)));
        assert!(limiter.allow(Instant(u64::MAX)));
    }
}
