//! A total in two parts: what the last snapshot shows, and what came since.

/// Sums; wraps like the counters that it sums.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Up to the end of the last tick: what a snapshot shows.
    pub settled: u64,
    /// Folded since.
    pub tick: u64,
    /// What the last whole tick brought.
    pub last: u64,
}

impl Tally {
    pub fn add(&mut self, n: u64) {
        self.tick = self.tick.wrapping_add(n);
    }

    pub fn sub(&mut self, n: u64) {
        self.tick = self.tick.wrapping_sub(n);
    }

    /// Ends the tick; its amount.
    pub fn settle(&mut self) -> u64 {
        let tick = std::mem::take(&mut self.tick);
        self.settled = self.settled.wrapping_add(tick);
        self.last = tick;
        tick
    }

    /// Takes over all that another counted.
    pub fn absorb(&mut self, other: Self) {
        self.settled = self.settled.wrapping_add(other.settled);
        self.tick = self.tick.wrapping_add(other.tick);
    }
}
