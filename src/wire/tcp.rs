//! TCP (RFC 9293 §3.1).

use super::{Error, checksum, protocol, u16_at, u32_at};
use crate::addr::Addr;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Source port.
    pub const SPORT: Range<usize> = 0..2;
    /// Destination port.
    pub const DPORT: Range<usize> = 2..4;
    /// Sequence number.
    pub const SEQ: Range<usize> = 4..8;
    /// Acknowledgement number.
    pub const ACK: Range<usize> = 8..12;
    /// Data offset, in the high nibble.
    pub const OFFSET: usize = 12;
    /// The eight flags.
    pub const FLAGS: usize = 13;
    /// Window.
    pub const WINDOW: Range<usize> = 14..16;
    /// Checksum.
    pub const CHECKSUM: Range<usize> = 16..18;
    /// Urgent pointer.
    pub const URGENT: Range<usize> = 18..20;
}

/// The flags of byte 13.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// A view of the segment that `bytes` is.
    ///
    /// # Errors
    /// [`Error::Short`]; [`Error::Malformed`] for a data offset below 5; [`Error::Truncated`] for one beyond the end.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Error::Short)?;
        let header_len = usize::from(header[field::OFFSET] >> 4) * 4;
        if header_len < HEADER_LEN {
            return Err(Error::Malformed);
        }
        let (head, payload) = bytes.split_at_checked(header_len).ok_or(Error::Truncated)?;
        let options = head.get(HEADER_LEN..).ok_or(Error::Truncated)?;
        Ok(Self { header, options, payload })
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

    /// Sequence number.
    #[inline]
    #[must_use]
    pub const fn seq(&self) -> u32 {
        u32_at::<{ field::SEQ.start }, _>(self.header)
    }

    /// Acknowledgement number.
    #[inline]
    #[must_use]
    pub const fn ack(&self) -> u32 {
        u32_at::<{ field::ACK.start }, _>(self.header)
    }

    /// The eight flags, see [`flag`].
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.header[field::FLAGS]
    }

    /// Window, unscaled.
    #[must_use]
    pub const fn window(&self) -> u16 {
        u16_at::<{ field::WINDOW.start }, _>(self.header)
    }

    /// The options, as they are.
    #[must_use]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A header without options, as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The eight flags, see [`flag`].
    pub flags: u8,
    /// Window.
    pub window: u16,
}

impl Repr {
    /// The bytes of a segment without payload between two addresses, with a right checksum.
    #[must_use]
    pub fn emit(&self, src: Addr, dst: Addr) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[field::SPORT].copy_from_slice(&self.sport.to_be_bytes());
        out[field::DPORT].copy_from_slice(&self.dport.to_be_bytes());
        out[field::SEQ].copy_from_slice(&self.seq.to_be_bytes());
        out[field::ACK].copy_from_slice(&self.ack.to_be_bytes());
        out[field::OFFSET] = 5 << 4;
        out[field::FLAGS] = self.flags;
        out[field::WINDOW].copy_from_slice(&self.window.to_be_bytes());
        let sum = checksum::pseudo(src, dst, protocol::TCP, &out);
        out[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPR: Repr =
        Repr { sport: 4000, dport: 80, seq: 7, ack: 0x8000_0001, flags: flag::RST | flag::ACK, window: 512 };

    #[test]
    fn emitted_and_read_back() {
        let (a, b) = (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2]));
        let bytes = REPR.emit(a, b);
        assert_eq!(checksum::pseudo(a, b, protocol::TCP, &bytes), 0);
        let tcp = Tcp::new_checked(&bytes).unwrap();
        let back = Repr {
            sport: tcp.sport(),
            dport: tcp.dport(),
            seq: tcp.seq(),
            ack: tcp.ack(),
            flags: tcp.flags(),
            window: tcp.window(),
        };
        assert_eq!(back, REPR);
        assert!(tcp.options().is_empty() && tcp.payload().is_empty());
    }

    #[test]
    fn the_data_offset_is_checked() {
        let mut bytes = REPR.emit(Addr::v4([0; 4]), Addr::v4([0; 4])).to_vec();
        assert_eq!(Tcp::new_checked(&bytes[..19]).err(), Some(Error::Short));
        bytes[field::OFFSET] = 0x4f;
        assert_eq!(Tcp::new_checked(&bytes).err(), Some(Error::Malformed));
        bytes[field::OFFSET] = 0x60;
        assert_eq!(Tcp::new_checked(&bytes).err(), Some(Error::Truncated));
        bytes.extend([1, 2, 3, 4, 5]);
        let tcp = Tcp::new_checked(&bytes).unwrap();
        assert_eq!((tcp.options(), tcp.payload()), (&[1, 2, 3, 4][..], &[5][..]));
    }
}
