//! Neighbour discovery: solicitation and advertisement (RFC 4861 §4.3, §4.4, §4.6).

use super::{Error, array_at, checksum, icmp, icmpv6, protocol};
use crate::addr::{Addr, Mac};

/// Bytes of either message without options.
pub const LEN: usize = 24;
/// Bytes of either message with one link-layer address option.
pub const LEN_WITH_MAC: usize = LEN + 8;
/// The hop limit that every message has, as proof that no router forwarded it (RFC 4861 §7.1).
pub const HOP_LIMIT: u8 = 255;

/// Where the fields are, from the start of the ICMP message.
pub mod field {
    use std::ops::Range;

    /// Flags of an advertisement.
    pub const FLAGS: usize = 4;
    /// Target address.
    pub const TARGET: Range<usize> = 8..24;
    /// Options.
    pub const OPTIONS: usize = 24;
}

/// Flag of an advertisement: the sender is a router.
pub const ROUTER: u8 = 0x80;
/// Flag of an advertisement: it answers a solicitation.
pub const SOLICITED: u8 = 0x40;
/// Flag of an advertisement: what was known before is to be replaced.
pub const OVERRIDE: u8 = 0x20;

/// Option type: the source's link-layer address.
const SOURCE_MAC: u8 = 1;
/// Option type: the target's link-layer address.
const TARGET_MAC: u8 = 2;

/// ff02::1.
pub const ALL_NODES: Addr = Addr(0xff02 << 112 | 1);

const SOLICITED_NODE: u128 = 0xff02 << 112 | 0x0001_ff00_0000;

/// The solicited-node multicast address of a unicast address (RFC 4291 §2.7.1).
#[must_use]
pub const fn solicited_node(addr: Addr) -> Addr {
    Addr(SOLICITED_NODE | (addr.0 & 0xff_ffff))
}

/// Whether an address is a solicited-node multicast address.
#[must_use]
pub const fn is_solicited_node(addr: Addr) -> bool {
    addr.0 >> 24 == SOLICITED_NODE >> 24
}

/// The group MAC of an IPv6 multicast address (RFC 2464 §7).
#[must_use]
pub const fn multicast_mac(addr: Addr) -> Mac {
    let [a, b, c, d] = (addr.0 as u32).to_be_bytes();
    Mac([0x33, 0x33, a, b, c, d])
}

/// A valid message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Who has `target`?
    Solicitation {
        /// Whose MAC is asked for.
        target: Addr,
        /// Who asks; absent in duplicate address detection.
        source_mac: Option<Mac>,
    },
    /// `target` is at.
    Advertisement {
        /// Whose MAC is told.
        target: Addr,
        /// The MAC; absent in some answers to unicast solicitations: then it is the one known.
        target_mac: Option<Mac>,
        /// [`ROUTER`], [`SOLICITED`], [`OVERRIDE`].
        flags: u8,
    },
}

impl Message {
    /// Reads and validates the ICMP message `bytes`, the checksum of which is right, from a packet with these addresses and
    /// hop limit (RFC 4861 §7.1.1, §7.1.2).
    ///
    /// # Errors
    /// [`Error::Short`]; [`Error::Malformed`] for everything else that makes it invalid.
    pub fn new_checked(bytes: &[u8], src: Addr, dst: Addr, hop_limit: u8) -> Result<Self, Error> {
        let (header, options) = bytes.split_first_chunk::<LEN>().ok_or(Error::Short)?;
        let target = Addr::v6(array_at::<{ field::TARGET.start }, 16, _>(header));
        if hop_limit != HOP_LIMIT || header[icmp::field::CODE] != 0 || target.is_multicast() {
            return Err(Error::Malformed);
        }
        match header[icmp::field::KIND] {
            icmpv6::NEIGHBOR_SOLICITATION => {
                let source_mac = mac_option(options, SOURCE_MAC)?;
                if src == Addr::default() && (source_mac.is_some() || !is_solicited_node(dst)) {
                    return Err(Error::Malformed);
                }
                Ok(Self::Solicitation { target, source_mac })
            }
            icmpv6::NEIGHBOR_ADVERTISEMENT => {
                let flags = header[field::FLAGS] & (ROUTER | SOLICITED | OVERRIDE);
                if dst.is_multicast() && flags & SOLICITED != 0 {
                    return Err(Error::Malformed);
                }
                Ok(Self::Advertisement { target, target_mac: mac_option(options, TARGET_MAC)?, flags })
            }
            _ => Err(Error::Malformed),
        }
    }
}

/// The first link-layer address option of this type. All options are walked, since one of length 0 makes the message invalid;
/// each takes eight bytes at least, so the walk is bounded by the frame.
fn mac_option(mut options: &[u8], kind: u8) -> Result<Option<Mac>, Error> {
    let mut found = None;
    while !options.is_empty() {
        let [this, units, ..] = *options else { return Err(Error::Malformed) };
        let len = usize::from(units) * 8;
        let (option, rest) = options.split_at_checked(len).ok_or(Error::Malformed)?;
        let head: &[u8; 8] = option.first_chunk().ok_or(Error::Malformed)?;
        if this == kind && found.is_none() {
            let mac = Mac(array_at::<2, 6, _>(head));
            // No station has a group MAC: RFC 1812 §3.3.2 says so for ARP.
            if mac.is_group() {
                return Err(Error::Malformed);
            }
            found = Some(mac);
        }
        options = rest;
    }
    Ok(found)
}

/// The ICMP message by which the station `mac` at `src` asks `dst` (see [`solicited_node`]) for `target`, with its checksum.
#[must_use]
pub fn solicitation(src: Addr, dst: Addr, target: Addr, mac: Mac) -> [u8; LEN_WITH_MAC] {
    message(icmpv6::NEIGHBOR_SOLICITATION, 0, src, dst, target, (SOURCE_MAC, mac))
}

/// The ICMP message by which `src` tells `dst` that `target` is at `mac`, with its checksum.
#[must_use]
pub fn advertisement(src: Addr, dst: Addr, target: Addr, mac: Mac, flags: u8) -> [u8; LEN_WITH_MAC] {
    message(icmpv6::NEIGHBOR_ADVERTISEMENT, flags, src, dst, target, (TARGET_MAC, mac))
}

fn message(kind: u8, flags: u8, src: Addr, dst: Addr, target: Addr, option: (u8, Mac)) -> [u8; LEN_WITH_MAC] {
    let mut out = [0; LEN_WITH_MAC];
    out[icmp::field::KIND] = kind;
    out[field::FLAGS] = flags;
    out[field::TARGET].copy_from_slice(&target.v6_octets());
    out[field::OPTIONS] = option.0;
    out[field::OPTIONS + 1] = 1;
    out[field::OPTIONS + 2..].copy_from_slice(&option.1.0);
    let sum = checksum::pseudo(src, dst, protocol::ICMPV6, &out);
    out[icmp::field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Addr = Addr(0x2001_0db8 << 96 | 0x11_2233);
    const B: Addr = Addr(0x2001_0db8 << 96 | 0x44_5566);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NONE: Addr = Addr(0);

    #[test]
    fn addresses() {
        assert_eq!(solicited_node(A).to_string(), "ff02::1:ff11:2233");
        assert!(is_solicited_node(solicited_node(B)) && !is_solicited_node(ALL_NODES));
        assert_eq!(multicast_mac(solicited_node(A)).to_string(), "33:33:ff:11:22:33");
        assert_eq!(ALL_NODES.to_string(), "ff02::1");
    }

    #[test]
    fn emitted_and_read_back() {
        let dst = solicited_node(B);
        let ns = solicitation(A, dst, B, MAC);
        assert_eq!(checksum::pseudo(A, dst, protocol::ICMPV6, &ns), 0);
        let read = Message::new_checked(&ns, A, dst, 255);
        assert_eq!(read, Ok(Message::Solicitation { target: B, source_mac: Some(MAC) }));
        let na = advertisement(B, A, B, MAC, SOLICITED | OVERRIDE);
        assert_eq!(checksum::pseudo(B, A, protocol::ICMPV6, &na), 0);
        let flags = SOLICITED | OVERRIDE;
        let read = Message::new_checked(&na, B, A, 255);
        assert_eq!(read, Ok(Message::Advertisement { target: B, target_mac: Some(MAC), flags }));
    }

    #[test]
    fn a_probe_has_no_source() {
        let ns = solicitation(NONE, solicited_node(B), B, MAC);
        let read = Message::new_checked(&ns[..LEN], NONE, solicited_node(B), 255);
        assert_eq!(read, Ok(Message::Solicitation { target: B, source_mac: None }));
        // With a source address option, or not to the solicited-node address (RFC 4861 §7.1.1).
        assert_eq!(Message::new_checked(&ns, NONE, solicited_node(B), 255), Err(Error::Malformed));
        assert_eq!(Message::new_checked(&ns[..LEN], NONE, ALL_NODES, 255), Err(Error::Malformed));
    }

    #[test]
    fn invalid_messages() {
        let dst = solicited_node(B);
        let ns = solicitation(A, dst, B, MAC);
        let check = |bytes: &[u8], hops| Message::new_checked(bytes, A, dst, hops);
        let changed = |at: usize, value: u8| {
            let mut bytes = ns;
            bytes[at] = value;
            check(&bytes, 255)
        };
        assert_eq!(check(&ns[..23], 255), Err(Error::Short));
        assert_eq!(check(&ns, 254), Err(Error::Malformed));
        assert_eq!(check(&ns[..25], 255), Err(Error::Malformed), "half an option");
        assert_eq!(changed(0, 134), Err(Error::Malformed), "kind");
        assert_eq!(changed(1, 1), Err(Error::Malformed), "code");
        assert_eq!(changed(8, 0xff), Err(Error::Malformed), "multicast target");
        assert_eq!(changed(25, 0), Err(Error::Malformed), "option of length 0");
        assert_eq!(changed(25, 2), Err(Error::Malformed), "option beyond the end");
        assert_eq!(changed(26, 3), Err(Error::Malformed), "group MAC");
        let na = advertisement(B, ALL_NODES, B, MAC, SOLICITED);
        assert_eq!(Message::new_checked(&na, B, ALL_NODES, 255), Err(Error::Malformed));
    }
}
