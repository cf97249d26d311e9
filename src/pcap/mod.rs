//! Capture files: pcap and pcapng, read and written.
//!
//! [`Reader`] takes pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng) of either byte order and any time
//! resolution, of link types Ethernet and raw IP. [`PcapWriter`] and [`PcapngWriter`] write as packets come.
//!
//! A file that ends within a record was cut off by whoever wrote it: it is read to its last whole packet, and
//! [`Reader::cut_off`] says where it ends. A record that contradicts itself is an [`Error`] that names the file and the
//! offset, since nothing behind it can be trusted. No length field is believed before the bytes are there: what is kept
//! in memory is one packet of at most [`MAX_CAPTURED`] bytes, or one block of at most [`MAX_BLOCK`].

mod classic;
mod error;
mod link;
mod ng;
mod reader;
mod source;
mod write;

pub use error::Error;
pub use link::Link;
pub use reader::{Reader, Record};
pub use write::{Direction, PcapWriter, PcapngWriter};

/// Most bytes of a packet that a record may have: libpcap's own limit.
pub const MAX_CAPTURED: u32 = 262_144;

/// Most bytes of a pcapng block that is looked into; others are skipped whatever their length.
pub const MAX_BLOCK: u32 = 16 << 20;

/// The byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
