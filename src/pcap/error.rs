//! What can be wrong with a capture file.

use std::io;
use std::path::PathBuf;

/// Why a capture file cannot be read (on).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("{}: cannot open: {source}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read on.
    #[error("{}: cannot read at byte {offset}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// How far it was read.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The magic number is neither pcap's nor pcapng's.
    #[error("{}: not a pcap or pcapng file: {found}", file.display())]
    NotACapture {
        /// The file.
        file: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// Packets of a link type that cannot be made Ethernet frames.
    #[error(
        "{}: link type {number}{} is not supported: only Ethernet (1) and raw IP (12, 14, 101, 228, 229) are",
        file.display(),
        name.map(|n| format!(" ({n})")).unwrap_or_default()
    )]
    LinkType {
        /// The file.
        file: PathBuf,
        /// The number in the file, of the LINKTYPE registry.
        number: u16,
        /// Its name, where known.
        name: Option<&'static str>,
    },
    /// The file contradicts itself.
    #[error("{}: broken at byte {offset}: {what}", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// Where the header, record or block begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}
