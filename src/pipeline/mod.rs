//! A packet's way through the core.
//!
//! [`Shard::receive`] → `burst` (parse, hash and look up the whole burst) → `plain` and `established` (the short ways of ordinary
//! packets of known connections) and `opening` (that of first ones), or `connection` (found: judge, step, translate;
//! new: firewall, service, endpoint, insert; fragments by way of `fragment`), `local` (ARP, neighbour discovery, echo) or
//! `kernel` (what a port's TAP gets) → `egress` (next hop, L2 header) →
//! [`Output`]. Everything in here is a function of bytes, tables and time.

mod burst;
mod choose;
mod connection;
mod drop_reason;
mod egress;
mod established;
mod foresee;
mod fragment;
mod frame;
mod kernel;
mod limiter;
mod local;
mod loss;
mod modes;
mod multihome;
mod opening;
mod output;
mod owner;
mod plain;
mod quic;
mod shard;

pub use choose::Errand;
pub use drop_reason::DropReason;
pub use frame::{Frame, RxChecksum, VecFrame};
pub use output::{Account, Handed, NeighborUpdate, Output};
pub use shard::{Resolution, Shard, ShardConfig};

/// Most packets that one burst may have.
pub const MAX_BURST: usize = 64;
