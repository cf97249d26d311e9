//! Protocols as bytes: one file each, a checked view over a slice, and a builder for frames.
//!
//! A view's `new_checked` looks at lengths once and takes the fixed header as an array, so that no accessor can fail.
//! A `Repr` is a header as plain values; its `emit` gives the bytes.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod fragment;
pub mod icmp;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod protocol;
pub mod quic;
pub(crate) mod raw;
pub mod sctp;
pub mod sctp_params;
pub mod tcp;
pub mod udp;

/// What is wrong with bytes that claim to be of a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than the fixed header has.
    #[error("shorter than the fixed header")]
    Short,
    /// A field has a value that the protocol does not allow.
    #[error("a field with an impossible value")]
    Malformed,
    /// A length field points beyond the end of the bytes.
    #[error("length field beyond the end")]
    Truncated,
}

/// The 16-bit field at `AT` of a fixed header.
#[inline]
pub(crate) const fn u16_at<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_be_bytes(array_at::<AT, 2, N>(header))
}

/// The 32-bit field at `AT` of a fixed header.
#[inline]
pub(crate) const fn u32_at<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    u32::from_be_bytes(array_at::<AT, 4, N>(header))
}

/// `LEN` bytes at `AT` of a fixed header; the bounds are checked when this is compiled.
#[inline]
pub(crate) const fn array_at<const AT: usize, const LEN: usize, const N: usize>(
    header: &[u8; N],
) -> [u8; LEN] {
    const { assert!(AT + LEN <= N) };
    let mut out = [0; LEN];
    let mut i = 0;
    while i < LEN {
        out[i] = header[AT + i];
        i += 1;
    }
    out
}
