//! The header that `ICMPv4` and `ICMPv6` share (RFC 792; RFC 4443 §2.1).

use super::{Error, u16_at, u32_at};

/// Bytes of the header with its first word, which every message that matters here has.
pub const HEADER_LEN: usize = 8;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Type.
    pub const KIND: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum; under a pseudo header in `ICMPv6`.
    pub const CHECKSUM: Range<usize> = 2..4;
    /// The type's own first word: identifier and sequence number of an echo, MTU or unused in an error.
    pub const WORD: Range<usize> = 4..8;
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// A view of the message that `bytes` is. The checksum is not looked at.
    ///
    /// # Errors
    /// [`Error::Short`]
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = bytes.split_first_chunk().ok_or(Error::Short)?;
        Ok(Self { header, payload })
    }

    /// Type.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.header[field::KIND]
    }

    /// Code.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.header[field::CODE]
    }

    /// Identifier of an echo.
    #[must_use]
    pub const fn identifier(&self) -> u16 {
        u16_at::<{ field::WORD.start }, _>(self.header)
    }

    /// Sequence number of an echo.
    #[must_use]
    pub const fn sequence(&self) -> u16 {
        u16_at::<{ field::WORD.start + 2 }, _>(self.header)
    }

    /// The type's own first word.
    #[must_use]
    pub const fn word(&self) -> u32 {
        u32_at::<{ field::WORD.start }, _>(self.header)
    }

    /// What follows: an echo's data, the packet that an error quotes.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let bytes = [8, 1, 0xaa, 0xbb, 0, 5, 0, 6, 9];
        let icmp = Icmp::new_checked(&bytes).unwrap();
        assert_eq!((icmp.kind(), icmp.code(), icmp.identifier(), icmp.sequence()), (8, 1, 5, 6));
        assert_eq!((icmp.word(), icmp.payload()), (0x0005_0006, &[9][..]));
        assert_eq!(Icmp::new_checked(&bytes[..7]).err(), Some(Error::Short));
    }
}
