//! The atomics, or loom's model of them, so that the hand-over is checked as it is written.
//!
//! The cfg is our own: with loom's usual one tokio would be built for loom too, and without its network.

#[cfg(all(test, pollux_loom))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(all(test, pollux_loom)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
