//! Ethernet II, with one 802.1Q tag at most (IEEE 802.3 §3, 802.1Q §9).

use arrayvec::ArrayVec;

use super::{Error, array_at, u16_at};
use crate::addr::Mac;

/// Untagged header, bytes.
pub const HEADER_LEN: usize = 14;
/// What a tag adds, bytes.
pub const TAG_LEN: usize = 4;
/// Tagged header, bytes.
pub const TAGGED_LEN: usize = HEADER_LEN + TAG_LEN;
/// Shortest frame without FCS, bytes; what is shorter is padded.
pub const MIN_LEN: usize = 60;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Destination MAC.
    pub const DST: Range<usize> = 0..6;
    /// Source MAC.
    pub const SRC: Range<usize> = 6..12;
    /// `EtherType`, or the tag's.
    pub const ETHERTYPE: Range<usize> = 12..14;
    /// Tag control information, where there is a tag.
    pub const TCI: Range<usize> = 14..16;
}

/// `EtherType` numbers (IEEE registry).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// The VLAN id in the tag control information.
const VID: u16 = 0x0fff;

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    header: &'a [u8; HEADER_LEN],
    tci: Option<u16>,
    ethertype: u16,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// A view of `frame`.
    ///
    /// # Errors
    /// [`Error::Short`] where it ends within the header or the tag.
    #[inline]
    pub fn new_checked(frame: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = frame.split_first_chunk().ok_or(Error::Short)?;
        let ethertype = u16_at::<{ field::ETHERTYPE.start }, _>(header);
        if ethertype != ethertype::VLAN {
            return Ok(Self { header, tci: None, ethertype, payload });
        }
        let (tag, payload) = payload.split_first_chunk::<TAG_LEN>().ok_or(Error::Short)?;
        Ok(Self { header, tci: Some(u16_at::<0, _>(tag)), ethertype: u16_at::<2, _>(tag), payload })
    }

    /// Destination MAC.
    #[inline]
    #[must_use]
    pub const fn dst(&self) -> Mac {
        Mac(array_at::<{ field::DST.start }, 6, _>(self.header))
    }

    /// Source MAC.
    #[inline]
    #[must_use]
    pub const fn src(&self) -> Mac {
        Mac(array_at::<{ field::SRC.start }, 6, _>(self.header))
    }

    /// VLAN id of the tag, where there is one; 0 is a priority tag.
    #[inline]
    #[must_use]
    pub const fn vlan(&self) -> Option<u16> {
        match self.tci {
            Some(tci) => Some(tci & VID),
            None => None,
        }
    }

    /// `EtherType` of the payload, behind a tag. Below 0x600 it is the length of an 802.3 frame; [`ethertype::VLAN`] is a
    /// second tag.
    #[inline]
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        self.ethertype
    }

    /// Where the payload starts in the frame: 14 or 18.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        if self.tci.is_some() { TAGGED_LEN } else { HEADER_LEN }
    }

    /// The payload, with any padding.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A header, tagged where `vlan` is not 0.
#[must_use]
pub fn header(dst: Mac, src: Mac, vlan: u16, ethertype: u16) -> ArrayVec<u8, TAGGED_LEN> {
    let mut out = ArrayVec::new();
    out.extend(dst.0);
    out.extend(src.0);
    if vlan != 0 {
        out.extend(ethertype::VLAN.to_be_bytes());
        out.extend((vlan & VID).to_be_bytes());
    }
    out.extend(ethertype.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn with_and_without_a_tag() {
        for vlan in [0, 7, 4094] {
            let mut bytes = header(A, B, vlan, ethertype::IPV6).to_vec();
            let header_len = bytes.len();
            bytes.extend([1, 2, 3]);
            let eth = Ethernet::new_checked(&bytes).unwrap();
            assert_eq!((eth.dst(), eth.src(), eth.ethertype()), (A, B, ethertype::IPV6));
            assert_eq!(eth.vlan(), (vlan != 0).then_some(vlan));
            assert_eq!((eth.header_len(), eth.payload()), (header_len, &[1, 2, 3][..]));
        }
    }

    #[test]
    fn priority_bits_are_no_part_of_the_vlan() {
        let mut bytes = header(A, B, 7, ethertype::ARP);
        bytes[field::TCI.start] |= 0xf0;
        assert_eq!(Ethernet::new_checked(&bytes).unwrap().vlan(), Some(7));
    }

    #[test]
    fn every_cut_is_short() {
        for vlan in [0, 7] {
            let bytes = header(A, B, vlan, ethertype::IPV4);
            for len in 0..bytes.len() {
                assert_eq!(Ethernet::new_checked(&bytes[..len]).err(), Some(Error::Short));
            }
        }
    }
}
