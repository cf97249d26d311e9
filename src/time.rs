//! Time as the core sees it: an argument, never a clock call.

use std::time::Duration;

/// Nanoseconds since the engine started (`run`), or since the first packet (`replay`). Monotonic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// The instant `d` after this one; saturates.
    #[inline]
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos(d)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the start.
    #[inline]
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole microseconds since the start.
    #[inline]
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0 / 1_000
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
