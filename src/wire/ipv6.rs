//! IPv6 and its extension headers (RFC 8200; AH: RFC 4302).

use super::fragment::Fragment;
use super::{Error, array_at, protocol, u16_at, u32_at};
use crate::addr::Addr;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Extension headers that are walked; real packets have two at most, and a longer chain only costs time.
pub const MAX_EXTENSIONS: usize = 8;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Version, traffic class, flow label.
    pub const VERSION: Range<usize> = 0..4;
    /// Payload length: everything after the fixed header.
    pub const LENGTH: Range<usize> = 4..6;
    /// Next header.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SRC: Range<usize> = 8..24;
    /// Destination address.
    pub const DST: Range<usize> = 24..40;
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// A view of the packet that starts `bytes`; padding may follow. Jumbograms (RFC 2675) have payload length 0 and are seen as
    /// empty.
    ///
    /// # Errors
    /// [`Error::Short`]; [`Error::Malformed`] for a wrong version; [`Error::Truncated`] where the payload length exceeds the
    /// bytes.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Error::Short)?;
        if header[field::VERSION.start] >> 4 != 6 {
            return Err(Error::Malformed);
        }
        let len = usize::from(u16_at::<{ field::LENGTH.start }, _>(header));
        Ok(Self { header, payload: rest.get(..len).ok_or(Error::Truncated)? })
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub const fn src(&self) -> Addr {
        Addr::v6(array_at::<{ field::SRC.start }, 16, _>(self.header))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub const fn dst(&self) -> Addr {
        Addr::v6(array_at::<{ field::DST.start }, 16, _>(self.header))
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.header[0] << 4 | self.header[1] >> 4
    }

    /// What follows the fixed header.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.header[field::NEXT_HEADER]
    }

    /// Hop limit.
    #[inline]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.header[field::HOP_LIMIT]
    }

    /// Everything after the fixed header, without padding.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Fixed header and payload, in bytes.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Walks the extension headers.
    ///
    /// # Errors
    /// [`Error::Malformed`] for more than [`MAX_EXTENSIONS`], and hop-by-hop options elsewhere than first (RFC 8200 §4.1);
    /// [`Error::Truncated`] where one goes beyond the payload.
    #[inline]
    pub fn upper(&self) -> Result<Upper, Error> {
        match self.next_header() {
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => Ok(Upper::behind(self.next_header(), 0)),
            first => walk(first, self.payload),
        }
    }
}

/// What is behind the extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// Its protocol number.
    pub protocol: u8,
    /// Where it starts in the payload.
    pub offset: usize,
    /// This is a fragment; what `offset` points to is the start of the datagram's fragmentable part, or a later piece of it. An
    /// atomic fragment (RFC 6946) is none.
    pub fragment: Option<Fragment>,
    /// A routing header that has the packet visit others, or is of type 0 (RFC 5095).
    pub source_routed: bool,
}

impl Upper {
    const fn behind(protocol: u8, offset: usize) -> Self {
        Self { protocol, offset, fragment: None, source_routed: false }
    }
}

fn walk(first: u8, payload: &[u8]) -> Result<Upper, Error> {
    let mut upper = Upper::behind(first, 0);
    for seen in 0..=MAX_EXTENSIONS {
        match upper.protocol {
            protocol::HOP_BY_HOP if seen > 0 => return Err(Error::Malformed),
            protocol::HOP_BY_HOP
            | protocol::DESTINATION_OPTIONS
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH => {}
            _ => return Ok(upper),
        }
        // The shortest extension header has eight bytes.
        let rest = payload.get(upper.offset..).ok_or(Error::Truncated)?;
        let head: &[u8; 8] = rest.first_chunk().ok_or(Error::Truncated)?;
        let units = usize::from(head[1]);
        let len = match upper.protocol {
            protocol::FRAGMENT => 8,
            protocol::AH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        if len > rest.len() {
            return Err(Error::Truncated);
        }
        match upper.protocol {
            protocol::FRAGMENT => upper.fragment = fragment(head),
            protocol::ROUTING => upper.source_routed |= head[2] == 0 || head[3] != 0,
            _ => {}
        }
        upper.protocol = head[0];
        upper.offset += len;
        if upper.fragment.is_some() {
            return Ok(upper);
        }
    }
    Err(Error::Malformed)
}

/// What a fragment header says (RFC 8200 §4.5).
const fn fragment(header: &[u8; 8]) -> Option<Fragment> {
    let word = u16_at::<2, _>(header);
    if word & 0xfff9 == 0 {
        return None;
    }
    Some(Fragment { id: u32_at::<4, _>(header), offset: word & 0xfff8, more: word & 1 != 0 })
}

/// A fixed header, as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    /// Source address, IPv6.
    pub src: Addr,
    /// Destination address, IPv6.
    pub dst: Addr,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes that follow the fixed header.
    pub payload_len: u16,
}

impl Repr {
    /// The bytes; the flow label is 0.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[field::VERSION].copy_from_slice(&(6 << 28 | u32::from(self.traffic_class) << 20).to_be_bytes());
        out[field::LENGTH].copy_from_slice(&self.payload_len.to_be_bytes());
        out[field::NEXT_HEADER] = self.next_header;
        out[field::HOP_LIMIT] = self.hop_limit;
        out[field::SRC].copy_from_slice(&self.src.v6_octets());
        out[field::DST].copy_from_slice(&self.dst.v6_octets());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let repr = Repr {
            src: Addr::v6([0x20; 16]),
            dst: Addr::v6([0x21; 16]),
            next_header,
            hop_limit: 63,
            traffic_class: 0xb8,
            payload_len: payload.len() as u16,
        };
        [&repr.emit()[..], payload].concat()
    }

    fn upper(next_header: u8, payload: &[u8]) -> Result<Upper, Error> {
        Ipv6::new_checked(&packet(next_header, payload)).unwrap().upper()
    }

    #[test]
    fn emitted_and_read_back() {
        let mut bytes = packet(17, &[1, 2, 3]);
        bytes.extend([0; 9]);
        let ip = Ipv6::new_checked(&bytes).unwrap();
        assert_eq!((ip.src(), ip.dst()), (Addr::v6([0x20; 16]), Addr::v6([0x21; 16])));
        assert_eq!((ip.next_header(), ip.hop_limit()), (17, 63));
        assert_eq!((ip.total_len(), ip.payload()), (43, &[1, 2, 3][..]));
        assert_eq!(bytes[..4], [0x6b, 0x80, 0, 0]);
    }

    #[test]
    fn lengths_and_version_are_checked() {
        let bytes = packet(17, &[1, 2, 3]);
        assert_eq!(Ipv6::new_checked(&bytes[..39]).err(), Some(Error::Short));
        assert_eq!(Ipv6::new_checked(&bytes[..42]).err(), Some(Error::Truncated));
        let mut bytes = bytes;
        bytes[0] = 0x4b;
        assert_eq!(Ipv6::new_checked(&bytes).err(), Some(Error::Malformed));
    }

    #[test]
    fn a_chain_of_all_kinds() {
        let mut chain = Vec::new();
        chain.extend([43, 1].iter().chain(&[0; 14])); // hop-by-hop, 16 bytes
        chain.extend([60, 0, 2, 0, 0, 0, 0, 0]); // routing type 2, no segments left
        chain.extend([51, 0, 0, 0, 0, 0, 0, 0]); // destination options
        chain.extend([44, 4].iter().chain(&[0; 22])); // AH, 24 bytes
        chain.extend([6, 0, 0, 0, 0, 0, 0, 9]); // atomic fragment
        chain.extend([0xaa; 20]);
        let expected = Upper { protocol: 6, offset: 64, fragment: None, source_routed: false };
        assert_eq!(upper(0, &chain), Ok(expected));
        for len in 0..64 {
            assert_eq!(upper(0, &chain[..len]), Err(Error::Truncated), "cut at {len}");
        }
    }

    #[test]
    fn fragments() {
        let fragment = |word: u16| {
            let [a, b] = word.to_be_bytes();
            upper(44, &[60, 0, a, b, 0, 0, 0, 1, 6, 200]).unwrap()
        };
        // What is in a fragment is not walked: a later one does not start with a header.
        for word in [0x0001, 0x0008, 0xfff9] {
            let u = fragment(word);
            assert_eq!((u.offset, u.protocol), (8, 60));
            let fragment = Fragment { id: 1, offset: word & 0xfff8, more: word & 1 == 1 };
            assert_eq!(u.fragment, Some(fragment));
        }
        // The two reserved bits say nothing.
        assert_eq!(upper(44, &[6, 0, 0, 6, 0, 0, 0, 1]).map(|u| u.fragment), Ok(None));
    }

    #[test]
    fn source_routes() {
        let routing = |kind, left| upper(43, &[6, 0, kind, left, 0, 0, 0, 0]).unwrap().source_routed;
        assert!(routing(0, 0) && routing(0, 1) && routing(4, 1));
        assert!(!routing(4, 0));
    }

    #[test]
    fn order_and_number_are_limited() {
        let options = |n: usize, next: u8| {
            [[60, 0, 1, 4, 0, 0, 0, 0].repeat(n - 1), vec![next, 0, 1, 4, 0, 0, 0, 0]].concat()
        };
        assert_eq!(upper(60, &options(MAX_EXTENSIONS, 6)).map(|u| u.offset), Ok(64));
        assert_eq!(upper(60, &options(MAX_EXTENSIONS + 1, 6)), Err(Error::Malformed));
        // Hop-by-hop options behind another header.
        assert_eq!(upper(60, &options(1, 0)), Err(Error::Malformed));
        // Nothing behind the last one.
        assert_eq!(upper(60, &options(1, 59)).map(|u| (u.protocol, u.offset)), Ok((59, 8)));
    }
}
