//! IPv4 (RFC 791).

use super::fragment::Fragment;
use super::{Error, array_at, checksum, u16_at};
use crate::addr::Addr;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Version and header length.
    pub const VERSION_IHL: usize = 0;
    /// DSCP and ECN.
    pub const TOS: usize = 1;
    /// Total length.
    pub const LENGTH: Range<usize> = 2..4;
    /// Identification.
    pub const ID: Range<usize> = 4..6;
    /// Flags and fragment offset.
    pub const FRAGMENT: Range<usize> = 6..8;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: Range<usize> = 10..12;
    /// Source address.
    pub const SRC: Range<usize> = 12..16;
    /// Destination address.
    pub const DST: Range<usize> = 16..20;
}

/// Flag in the fragment word: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag in the fragment word: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Fragment offset in the fragment word, in units of eight bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Option types that mean something here.
pub mod option {
    /// End of options.
    pub const END: u8 = 0;
    /// Padding of one byte.
    pub const NOP: u8 = 1;
    /// Loose source and record route.
    pub const LSRR: u8 = 131;
    /// Strict source and record route.
    pub const SSRR: u8 = 137;
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// A view of the packet that starts `bytes`; padding may follow.
    ///
    /// # Errors
    /// [`Error::Short`]; [`Error::Malformed`] for a wrong version, header length, or total length below it;
    /// [`Error::Truncated`] where the total length exceeds the bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Error::Short)?;
        let header_len = usize::from(header[field::VERSION_IHL] & 0x0f) * 4;
        let total = usize::from(u16_at::<{ field::LENGTH.start }, _>(header));
        if header[field::VERSION_IHL] >> 4 != 4 || header_len < HEADER_LEN || total < header_len {
            return Err(Error::Malformed);
        }
        let bytes = bytes.get(..total).ok_or(Error::Truncated)?;
        let (head, payload) = bytes.split_at_checked(header_len).ok_or(Error::Truncated)?;
        let options = head.get(HEADER_LEN..).ok_or(Error::Truncated)?;
        Ok(Self { header, options, payload })
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub const fn src(&self) -> Addr {
        Addr::v4(array_at::<{ field::SRC.start }, 4, _>(self.header))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub const fn dst(&self) -> Addr {
        Addr::v4(array_at::<{ field::DST.start }, 4, _>(self.header))
    }

    /// L4 protocol number.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.header[field::PROTOCOL]
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn tos(&self) -> u8 {
        self.header[field::TOS]
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.header[field::TTL]
    }

    /// Identification.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> u16 {
        u16_at::<{ field::ID.start }, _>(self.header)
    }

    /// Whether routers may not fragment it.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.fragment_word() & DONT_FRAGMENT != 0
    }

    /// Whether this is a piece of a datagram, the first one or a later one.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.fragment_word() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Where the payload belongs in the whole datagram, in bytes.
    #[must_use]
    pub const fn fragment_offset(&self) -> usize {
        (self.fragment_word() & FRAGMENT_OFFSET) as usize * 8
    }

    /// The packet's place in its datagram, if it is a fragment.
    #[inline]
    #[must_use]
    pub const fn fragment(&self) -> Option<Fragment> {
        if !self.is_fragment() {
            return None;
        }
        let more = self.fragment_word() & MORE_FRAGMENTS != 0;
        Some(Fragment { id: self.id() as u32, offset: self.fragment_offset() as u16, more })
    }

    const fn fragment_word(&self) -> u16 {
        u16_at::<{ field::FRAGMENT.start }, _>(self.header)
    }

    /// Header with options, in bytes.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Header and payload, in bytes, as the header says.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.header_len() + self.payload.len()
    }

    /// Whether the header checksum is right.
    #[inline]
    #[must_use]
    pub fn verify_checksum(&self) -> bool {
        let mut sum = checksum::sum(self.header);
        if !self.options.is_empty() {
            sum = checksum::add(sum, checksum::sum(self.options));
        }
        sum == 0xffff
    }

    /// The options, one after the other.
    #[must_use]
    pub const fn options(&self) -> Options<'a> {
        Options(self.options)
    }

    /// What follows the header, without padding.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The options of a header, up to the end-of-options mark: type and value, padding left out.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u8, &'a [u8]), Error>;

    /// [`Error::Malformed`] where a length is impossible, and nothing after it.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (kind, rest) = self.0.split_first()?;
            match *kind {
                option::END => return None,
                option::NOP => self.0 = rest,
                kind => {
                    let len = rest.first().map_or(0, |len| usize::from(*len));
                    let whole = if len < 2 { None } else { self.0.split_at_checked(len) };
                    let Some((head, rest)) = whole else {
                        self.0 = &[];
                        return Some(Err(Error::Malformed));
                    };
                    self.0 = rest;
                    return Some(Ok((kind, head.get(2..).unwrap_or_default())));
                }
            }
        }
    }
}

/// A header without options, as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    /// Source address, IPv4.
    pub src: Addr,
    /// Destination address, IPv4.
    pub dst: Addr,
    /// L4 protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// [`DONT_FRAGMENT`], [`MORE_FRAGMENTS`], offset in units of eight bytes.
    pub fragment: u16,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Repr {
    /// The bytes, with a right checksum. A total length above 65535 wraps.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let Self { src, dst, protocol, ttl, tos, id, fragment, payload_len } = *self;
        let word = |a: u16, b: u16| u32::from(a) << 16 | u32::from(b);
        let length = payload_len.wrapping_add(HEADER_LEN as u16);
        let life = u16::from_be_bytes([ttl, protocol]);
        // In words of 32 bits: bytes that were written one by one could not be summed up before all are in the cache.
        let words = [
            word(0x4500 | u16::from(tos), length),
            word(id, fragment),
            word(life, 0),
            src.0 as u32,
            dst.0 as u32,
        ];
        let sum = words.iter().map(|word| u64::from(*word)).sum();
        let [a, b, c, d, e] = words;
        let c = c | u32::from(!checksum::fold(sum));
        let mut out = [0; HEADER_LEN];
        for (out, word) in out.as_chunks_mut().0.iter_mut().zip([a, b, c, d, e]) {
            *out = word.to_be_bytes();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let repr = Repr {
            src: Addr::v4([192, 0, 2, 1]),
            dst: Addr::v4([192, 0, 2, 2]),
            protocol: 17,
            ttl: 61,
            tos: 0xb8,
            id: 0x1234,
            fragment: DONT_FRAGMENT,
            payload_len: 4,
        };
        [&repr.emit()[..], &[1, 2, 3, 4]].concat()
    }

    #[test]
    fn emitted_and_read_back() {
        let mut bytes = packet();
        bytes.extend([0; 22]);
        let ip = Ipv4::new_checked(&bytes).unwrap();
        assert_eq!(ip.src().to_string(), "192.0.2.1");
        assert_eq!(ip.dst().to_string(), "192.0.2.2");
        assert_eq!((ip.protocol(), ip.ttl(), ip.id()), (17, 61, 0x1234));
        assert!(ip.dont_fragment() && !ip.is_fragment());
        assert_eq!((ip.header_len(), ip.total_len(), ip.payload()), (20, 24, &[1, 2, 3, 4][..]));
        assert!(ip.verify_checksum());
        bytes[field::TTL] -= 1;
        assert!(!Ipv4::new_checked(&bytes).unwrap().verify_checksum());
    }

    #[test]
    fn lengths_and_version_are_checked() {
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = packet();
            change(&mut bytes);
            Ipv4::new_checked(&bytes).err()
        };
        assert_eq!(check(&|b| b.truncate(19)), Some(Error::Short));
        assert_eq!(check(&|b| b[0] = 0x65), Some(Error::Malformed));
        assert_eq!(check(&|b| b[0] = 0x44), Some(Error::Malformed));
        assert_eq!(check(&|b| b[3] = 19), Some(Error::Malformed));
        // Header of 28 bytes in a packet of 24.
        assert_eq!(check(&|b| b[0] = 0x47), Some(Error::Malformed));
        assert_eq!(check(&|b| b[3] = 25), Some(Error::Truncated));
    }

    #[test]
    fn fragments() {
        for (word, fragment, offset) in [
            (0x4000u16, false, 0),
            (0x2000, true, 0),
            (0x0001, true, 8),
            (0x3fff, true, 65528),
            (0x8000, false, 0),
        ] {
            let mut bytes = packet();
            bytes[field::FRAGMENT].copy_from_slice(&word.to_be_bytes());
            let ip = Ipv4::new_checked(&bytes).unwrap();
            assert_eq!((ip.is_fragment(), ip.fragment_offset()), (fragment, offset));
        }
    }

    #[test]
    fn options_are_walked_to_their_end() {
        let walk = |bytes| Options(bytes).collect::<Vec<_>>();
        assert_eq!(walk(&[]), []);
        assert_eq!(walk(&[1, 1, 0, 9]), []);
        assert_eq!(walk(&[148, 4, 0, 0]), [Ok((148, &[0, 0][..]))]);
        assert_eq!(walk(&[1, 131, 3, 4, 7, 2]), [Ok((131, &[4][..])), Ok((7, &[][..]))]);
        for bad in [&[7][..], &[7, 0], &[7, 1, 0], &[7, 5, 0, 0], &[7, 255]] {
            assert_eq!(walk(bad), [Err(Error::Malformed)]);
        }
    }
}
