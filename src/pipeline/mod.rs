//! A packet's way through the core.

mod drop_reason;
mod frame;
mod output;
mod shard;

pub use drop_reason::DropReason;
pub use frame::{Frame, RxChecksum, VecFrame};
pub use output::{Account, NeighborUpdate, Output};
pub use shard::{Resolution, Shard, ShardConfig};

/// Most packets that one burst may have.
pub const MAX_BURST: usize = 64;
