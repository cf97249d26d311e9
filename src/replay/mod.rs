//! `pollux replay`: the pipeline over captures, on virtual time. No device, no privileges, and the same bytes out of every run.
//!
//! The packets of all inputs, merged by time stamp, enter one shard, one packet a burst, whatever `engine.workers` says: what
//! becomes of a packet does not depend on the number of workers. Virtual time is the packet's time stamp less the first one's;
//! a stamp that lies behind an earlier packet's counts as that one's, and so does a packet without any. Every port is
//! promiscuous and has the MAC `02:00:00:00:00:<index + 1>`, to which packets of raw IP captures are addressed. Every next hop
//! counts as resolved ([`Resolution::Assume`](crate::pipeline::Resolution)). What is sent gets the time stamp of the packet
//! that caused it.
//!
//! A capture that is cut off at its end is replayed to its last whole packet, with a warning in the log; one that is broken, or
//! of a link type that cannot be replayed, is an error that names the file. Outputs then hold what was sent before.

mod engine;
mod error;
mod ledger;
mod merge;
mod output;
mod ports;

pub use error::ReplayError;
pub use ledger::Ledger;
pub use ports::PortFile;

use std::path::PathBuf;

use self::engine::Engine;
use self::merge::Merge;
use self::output::Outputs;
use crate::config::Config;

/// What to replay, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Captures to read; without a port they enter at the first.
    pub inputs: Vec<PortFile>,
    /// Captures to write; the one without a port gets what leaves by ports that have none of their own.
    pub outputs: Vec<PortFile>,
    /// Where the metrics as of the last packet's time go, as a Prometheus exposition.
    pub metrics: Option<PathBuf>,
    /// Of all randomness: hash keys, SNAT ports.
    pub seed: u64,
}

/// Replays.
///
/// # Errors
/// [`ReplayError`]; see [`ReplayError::exit_status`].
pub fn run(config: &Config, options: &Options) -> Result<Ledger, ReplayError> {
    let mut merge = Merge::open(config, &options.inputs)?;
    let mut outputs = Outputs::open(config, options)?;
    let mut engine = Engine::new(config, options, merge.bytes(), merge.first_time());
    while let Some(packet) = merge.next_packet()? {
        engine.packet(packet, &mut outputs)?;
    }
    let (ledger, metrics) = engine.finish(&mut outputs)?;
    outputs.finish(&metrics)?;
    Ok(ledger)
}
