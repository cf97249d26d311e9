//! What a worker does when it finds nothing to do.

use std::time::Duration;

use crate::config::Idle;

/// Empty turns before the first sleep.
const SPINS: u32 = 512;
/// The first sleep; each further one is twice as long.
const SHORTEST: Duration = Duration::from_micros(30);
/// The longest sleep: what a first packet may wait.
const LONGEST: Duration = Duration::from_millis(1);

/// Counts empty turns, and rests.
#[derive(Debug)]
pub(super) struct Rest {
    mode: Idle,
    empty: u32,
}

impl Rest {
    pub fn new(mode: Idle) -> Self {
        Self { mode, empty: 0 }
    }

    /// After a turn with work: back to polling.
    #[inline]
    pub fn worked(&mut self) {
        self.empty = 0;
    }

    /// After a turn without: spins, or sleeps for longer and longer where the configuration allows that.
    #[inline]
    pub fn idle(&mut self) {
        self.empty = self.empty.saturating_add(1);
        match self.sleep() {
            Some(sleep) => std::thread::sleep(sleep),
            None => std::hint::spin_loop(),
        }
    }

    fn sleep(&self) -> Option<Duration> {
        if self.mode == Idle::Poll || self.empty <= SPINS {
            return None;
        }
        let doublings = (self.empty - SPINS - 1).min(16);
        Some((SHORTEST * (1 << doublings)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_grow_and_a_packet_ends_them() {
        let mut rest = Rest::new(Idle::Backoff);
        rest.empty = SPINS;
        assert_eq!(rest.sleep(), None);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            rest.empty += 1;
            let sleep = rest.sleep().unwrap();
            assert!(sleep >= last && sleep <= LONGEST);
            last = sleep;
        }
        assert_eq!(last, LONGEST);
        rest.worked();
        assert_eq!(rest.sleep(), None);
    }

    #[test]
    fn poll_never_sleeps() {
        let rest = Rest { mode: Idle::Poll, empty: u32::MAX };
        assert_eq!(rest.sleep(), None);
    }
}
