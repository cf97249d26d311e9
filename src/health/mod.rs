//! Whether endpoints are alive: each is probed at its interval, and what comes of it holds for the workers' tables.
//!
//! [`Board`] knows what is probed and what came of it; [`keep`] probes, from the control threads. A probe belongs to an endpoint and
//! the way in which it is probed, however many services share both. What the board says reaches the workers as a drain does: by tables
//! with other [conditions](crate::tables::Conditions), which [`Reloader::probed`](crate::reload::Reloader::probed) publishes.
//!
//! Probes are the kernel's packets, on the kernel's routes. One that is to go through a VIP is translated on its way to the wire and back
//! ([`ProbeNat`]).

mod board;
mod driver;
mod histogram;
mod machine;
mod nat;
mod probe;
mod schedule;
#[cfg(test)]
mod tests;

pub use board::{Board, EndpointHealth, ProbeHealth, Results};
pub use driver::{keep, raise_file_limit};
pub use histogram::{BOUNDS, Histogram};
pub use machine::Verdict;
pub use nat::ProbeNat;
