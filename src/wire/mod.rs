//! Protocols as bytes: one file each, a checked view over a slice, and a builder for frames.

pub mod checksum;
pub mod crc32c;
