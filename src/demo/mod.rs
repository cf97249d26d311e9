//! The world of `pollux demo`: clients, gateways and endpoints in this process, which talk through the engine.
//!
//! [`World`] is as pure as the core is: frames and time in, frames out, chance from a seed. It keeps a [`Ledger`] of its own,
//! against which the engine's counters can be held. [`run()`] puts it at the other end of a real engine's ports.

mod conn;
mod ledger;
mod mix;
mod net;
mod packet;
mod rng;
mod run;
mod sctp;
mod station;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod world;

pub use ledger::{End, Ledger, ServiceLedger, Traffic};
pub use run::{DemoError, Options, run};
pub use world::World;

/// The demo's configuration.
pub const CONFIG: &str = include_str!("../../config/demo.toml");
