//! Why a replay failed.

use std::io;
use std::path::PathBuf;

use crate::pcap;

/// Why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A `PORT=` that is no port.
    #[error("{}", unknown_port(port, nearest.as_deref(), known))]
    UnknownPort {
        /// What was asked for.
        port: String,
        /// The most similar name, if any is.
        nearest: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// Two outputs for one port, or two for all.
    #[error("{} has two outputs, {} and {}", name(port.as_deref()), first.display(), second.display())]
    TwoOutputs {
        /// The port, or none: the ports without an output of their own.
        port: Option<String>,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// An output that is an input or another output too.
    #[error("{} would be overwritten: it is {} as well", file.display(), other.display())]
    SameFile {
        /// What was to be written.
        file: PathBuf,
        /// What it is, too.
        other: PathBuf,
    },
    /// Nothing to replay.
    #[error("no input: name one with --in FILE or --in PORT=FILE")]
    NoInput,
    /// A capture cannot be read.
    #[error(transparent)]
    Capture(#[from] pcap::Error),
    /// A file cannot be written.
    #[error("{}: cannot write: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The engine miscounts.
    #[error("internal error: the packet ledger does not balance: {0}")]
    Ledger(String),
}

impl ReplayError {
    /// 2 where the command line was wrong, else 1.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::UnknownPort { .. } | Self::TwoOutputs { .. } | Self::SameFile { .. } | Self::NoInput => 2,
            Self::Capture(_) | Self::Write { .. } | Self::Ledger(_) => 1,
        }
    }
}

fn unknown_port(port: &str, nearest: Option<&str>, known: &[String]) -> String {
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("the configuration has {}", known.join(", ")),
    };
    format!("no port is called {port:?}: {hint} (write ./{port}=… for a file of that name)")
}

fn name(port: Option<&str>) -> String {
    port.map_or_else(|| "what leaves by all other ports".to_owned(), |port| format!("port {port:?}"))
}
