//! The atomics, or loom's model of them, so that the hand-over is checked as it is written.
//!
//! The cfg is our own: with loom's usual one tokio would be built for loom too, and without its network.

#[cfg(all(test, pollux_loom))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
/// An array of atomics at 0, as a box for loom, whose atomics are no plain data.
#[cfg(all(test, pollux_loom))]
pub(super) type Zeroes<T> = Box<[T]>;

#[cfg(all(test, pollux_loom))]
pub(super) fn zeroes<T: Default>(n: usize) -> Zeroes<T> {
    (0..n).map(|_| T::default()).collect()
}

/// An array of atomics at 0, in pages that are taken as they are first used.
#[cfg(not(all(test, pollux_loom)))]
pub(super) type Zeroes<T> = crate::dpdk::memory::Pages<T>;

#[cfg(not(all(test, pollux_loom)))]
pub(super) fn zeroes<T: bytemuck::Zeroable>(n: usize) -> Zeroes<T> {
    Zeroes::zeroed(n)
}

#[cfg(not(all(test, pollux_loom)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
