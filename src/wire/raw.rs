//! Fields as they are on the wire: words whose lowest byte is the one that came first. What is only compared, replaced or summed
//! (RFC 1071 §2.B: the sum does not depend on the order of bytes) need not be turned round.

use super::array_at;

/// A field's value as it is on the wire, and back.
#[inline(always)]
pub(crate) const fn u16(value: u16) -> u16 {
    u16::from_le_bytes(value.to_be_bytes())
}

/// Two ports, the source's first.
#[inline(always)]
pub(crate) const fn ports(source: u16, destination: u16) -> u32 {
    self::u16(source) as u32 | (self::u16(destination) as u32) << 16
}

/// Two IPv4 addresses as numbers, the source's first.
#[inline(always)]
pub(crate) const fn addresses(source: u32, destination: u32) -> u64 {
    self::u32(source) as u64 | (self::u32(destination) as u64) << 32
}

/// A field's value as it is on the wire, and back.
#[inline(always)]
pub(crate) const fn u32(value: u32) -> u32 {
    u32::from_le_bytes(value.to_be_bytes())
}

/// The 16-bit field at `AT` of a fixed header.
#[inline(always)]
pub(crate) const fn u16_at<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_le_bytes(array_at::<AT, 2, N>(header))
}

/// The 32-bit field at `AT` of a fixed header.
#[inline(always)]
pub(crate) const fn u32_at<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    u32::from_le_bytes(array_at::<AT, 4, N>(header))
}

/// The 64 bits at `AT` of a fixed header.
#[inline(always)]
pub(crate) const fn u64_at<const AT: usize, const N: usize>(header: &[u8; N]) -> u64 {
    u64::from_le_bytes(array_at::<AT, 8, N>(header))
}
