//! The engine's clock: nanoseconds since its start, cheap enough to be read every turn of a worker.

use std::time;

use super::Eal;
use crate::time::Instant;

/// A clock that all threads of the engine share, so that their instants can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The time stamp counter: its value at the start, and nanoseconds per cycle in 1/2³².
    Tsc { start: u64, scale: u64 },
    /// The kernel's monotonic clock.
    Monotonic(time::Instant),
}

impl Clock {
    /// A clock that starts at 0 now. Counts cycles where the CPU counts them at one rate on all cores, in sleep too.
    #[must_use]
    pub fn start(_eal: &Eal) -> Self {
        if !constant_tsc() {
            return Self::monotonic();
        }
        // SAFETY: EAL is initialised (`_eal`), which has found out the frequency.
        let hz = unsafe { dpdk_sys::rte_get_tsc_hz() };
        match (1_000_000_000_u64 << 32).checked_div(hz) {
            Some(scale) => Self(Source::Tsc { start: tsc(), scale }),
            None => Self::monotonic(),
        }
    }

    /// A clock over the kernel's monotonic one: where EAL is not needed.
    #[must_use]
    pub fn monotonic() -> Self {
        Self(Source::Monotonic(time::Instant::now()))
    }

    /// Cycles of the time stamp counter in a nanosecond; none where it is not used.
    #[must_use]
    pub fn cycles_per_nano(&self) -> Option<f64> {
        match self.0 {
            Source::Tsc { scale, .. } if scale != 0 => Some((1_u64 << 32) as f64 / scale as f64),
            _ => None,
        }
    }

    /// Now.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        match self.0 {
            Source::Tsc { start, scale } => {
                // A counter that is behind the start's on another core by a few cycles is 0, not 500 years.
                let cycles = tsc().saturating_sub(start);
                Instant(((u128::from(cycles) * u128::from(scale)) >> 32) as u64)
            }
            Source::Monotonic(start) => {
                Instant(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
        }
    }
}

#[inline]
fn tsc() -> u64 {
    // SAFETY: reads a register; no memory is touched.
    unsafe { dpdk_sys::px_tsc() }
}

fn constant_tsc() -> bool {
    if !cfg!(target_arch = "x86_64") {
        // The generic timer of the other architectures has one rate by definition.
        return true;
    }
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        text.lines().find(|line| line.starts_with("flags")).is_some_and(|flags| {
            ["constant_tsc", "nonstop_tsc"].iter().all(|f| flags.split_whitespace().any(|have| have == *f))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_starts_at_zero_and_goes_on() {
        let clock = Clock::monotonic();
        let first = clock.now();
        assert!(first.0 < 1_000_000_000);
        assert!(clock.now() >= first);
    }
}
