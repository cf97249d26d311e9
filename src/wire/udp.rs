//! UDP (RFC 768).

use super::{Error, u16_at};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Source port.
    pub const SPORT: Range<usize> = 0..2;
    /// Destination port.
    pub const DPORT: Range<usize> = 2..4;
    /// Header and payload, in bytes.
    pub const LENGTH: Range<usize> = 4..6;
    /// Checksum; 0: none.
    pub const CHECKSUM: Range<usize> = 6..8;
}

/// A datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// A view of the datagram that starts `bytes`. More may follow (RFC 9868 puts options there).
    ///
    /// # Errors
    /// [`Error::Short`]; [`Error::Malformed`] for a length below 8; [`Error::Truncated`] for one beyond the end.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = bytes.split_first_chunk().ok_or(Error::Short)?;
        let len = usize::from(u16_at::<{ field::LENGTH.start }, _>(header));
        let payload = rest.get(..len.checked_sub(HEADER_LEN).ok_or(Error::Malformed)?);
        Ok(Self { header, payload: payload.ok_or(Error::Truncated)? })
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn sport(&self) -> u16 {
        u16_at::<{ field::SPORT.start }, _>(self.header)
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn dport(&self) -> u16 {
        u16_at::<{ field::DPORT.start }, _>(self.header)
    }

    /// Checksum; 0: none.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16_at::<{ field::CHECKSUM.start }, _>(self.header)
    }

    /// The payload.
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
    fn the_length_is_checked() {
        let mut bytes = vec![0x0f, 0xa0, 0, 53, 0, 10, 0xab, 0xcd, 1, 2, 3];
        let udp = Udp::new_checked(&bytes).unwrap();
        assert_eq!((udp.sport(), udp.dport(), udp.checksum()), (4000, 53, 0xabcd));
        assert_eq!(udp.payload(), [1, 2]);
        assert_eq!(Udp::new_checked(&bytes[..7]).err(), Some(Error::Short));
        assert_eq!(Udp::new_checked(&bytes[..9]).err(), Some(Error::Truncated));
        bytes[field::LENGTH].copy_from_slice(&[0, 7]);
        assert_eq!(Udp::new_checked(&bytes).err(), Some(Error::Malformed));
        bytes[field::LENGTH].copy_from_slice(&[0, 8]);
        assert!(Udp::new_checked(&bytes).unwrap().payload().is_empty());
    }
}
