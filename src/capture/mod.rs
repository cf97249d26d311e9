//! `pollux capture`: what a running engine receives, sends and drops, as pcapng.
//!
//! Each worker has a [`TapWriter`]: once a turn it looks at one word of shared memory, and while that says so it copies
//! packets into a ring of bytes of its own. What finds the ring full is counted and otherwise forgotten: a capture that
//! cannot keep up costs packets of the capture, never of the traffic. A [`Session`] on a control thread reads the rings,
//! runs the filter and writes the file. There is one at a time.

mod blocks;
mod bpf;
mod filter;
mod session;
mod tap;

use serde::{Deserialize, Serialize};

pub use blocks::{BrokenStream, Scanner, Tally};
pub use bpf::{BadProgram, Instruction, MAX_INSTRUCTIONS, Program};
pub use filter::{BadFilter, compile};
pub use session::{Refusal, Session};
pub use tap::{MAX_STAGED, RING_BYTES, SNAP, Staged, TX_FULL, Tap, TapWriter};

/// What to capture: the body of `POST /api/v1/pollux/capture`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Only this port.
    pub port: Option<String>,
    /// Only packets that this program of classic BPF takes; see [`compile`].
    pub filter: Option<Vec<Instruction>>,
    /// Only dropped packets.
    pub drops: bool,
    /// At most so many packets.
    pub limit: Option<u64>,
}

#[cfg(test)]
mod tests;
