//! The packets that nearly all are: whole TCP segments and UDP datagrams, no IP options or extension headers, nothing about
//! them that decides anything but their connection. All else, and whatever is wrong with a packet, is the full parser's.

use super::{L4, Link, Packet};
use crate::addr::{Addr, Mac};
use crate::config::Protocol;
use crate::conntrack::Tuple;
use crate::pipeline::RxChecksum;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{array_at, ipv4, ipv6, protocol, tcp, u16_at, u32_at, udp};

/// First octets of IPv4 addresses that the full parser judges: 0, 127, 224–239, 255.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    special[0] = true;
    special[127] = true;
    special[255] = true;
    let mut octet = 224;
    while octet < 240 {
        special[octet] = true;
        octet += 1;
    }
    special
};

/// Flags that the full parser refuses.
const IMPOSSIBLE: [bool; 256] = {
    let mut impossible = [false; 256];
    let mut flags = 0;
    while flags < 256 {
        impossible[flags] = super::l4::impossible(flags as u8);
        flags += 1;
    }
    impossible
};

/// One of those. All of it is scalars that are written and read one by one where they lie: a copy of what was just written in pieces
/// would have to wait until those are in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Whole {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Sequence number, of TCP.
    pub seq: u32,
    /// Acknowledgement number, of TCP.
    pub ack: u32,
    /// Bytes of payload, of TCP.
    pub payload: u32,
    /// IP header and everything after it, in bytes.
    pub l3_len: u32,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Start of the IP header.
    pub l3: u16,
    /// Start of the L4 header.
    pub l4: u16,
    /// Flags, of TCP.
    pub flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP or else UDP.
    pub is_tcp: bool,
    /// As in [`Packet`].
    pub dont_fragment: bool,
}

impl Whole {
    /// Whether it is of IPv4.
    #[inline]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.l4 - self.l3 == ipv4::HEADER_LEN as u16
    }

    /// Its 5-tuple.
    #[inline]
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        let Self { src, dst, sport, dport, is_tcp, .. } = *self;
        Tuple { src, dst, sport, dport, protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp } }
    }

    /// As in [`Packet`].
    #[inline]
    #[must_use]
    pub const fn l4_info(&self) -> L4 {
        let Self { sport, dport, flags, payload, seq, ack, .. } = *self;
        if self.is_tcp {
            L4::Tcp { sport, dport, flags, payload, seq, ack }
        } else {
            L4::Udp { sport, dport }
        }
    }

    /// What [`parse`](super::parse) says of it.
    #[must_use]
    pub const fn packet(&self) -> Packet {
        let Self { src, dst, ttl, dont_fragment, l3, l4, l3_len, .. } = *self;
        let protocol = if self.is_tcp { protocol::TCP } else { protocol::UDP };
        let l4_info = self.l4_info();
        Packet {
            src,
            dst,
            protocol,
            ttl,
            dont_fragment,
            to_group: false,
            l3,
            l4,
            l3_len,
            l4_info,
            fragment: None,
        }
    }
}

/// What a frame's first bytes must be at a port.
#[derive(Clone, Copy, Debug)]
pub struct Station {
    /// Its address in the upper bytes of a word that is read from the frame's start.
    mac: u64,
    /// What of that word is compared: all of it, or the group bit where frames to any station are taken.
    mask: u64,
    vlan: u16,
}

impl Station {
    /// Of a port.
    #[inline]
    #[must_use]
    pub const fn new(link: &Link) -> Self {
        let Link { mac, vlan } = *link;
        match mac {
            Some(Mac([a, b, c, d, e, f])) => {
                let mac = u64::from_le_bytes([0, 0, a, b, c, d, e, f]);
                // Frames to a group are the full parser's.
                Self { mac: mac & !GROUP, mask: u64::MAX << 16, vlan }
            }
            None => Self { mac: 0, mask: GROUP, vlan },
        }
    }
}

/// The group bit in the word of a [`Station`].
const GROUP: u64 = 1 << 16;

/// Whether it is one of those; then `out` is what [`parse`](super::parse) says of it. `false` says nothing, and leaves anything in
/// `out`.
#[inline]
#[must_use]
pub fn whole(station: &Station, frame: &[u8], checksum: RxChecksum, out: &mut Whole) -> bool {
    is_whole(station, frame, checksum, out).is_some()
}

#[inline(always)]
fn is_whole(station: &Station, frame: &[u8], checksum: RxChecksum, out: &mut Whole) -> Option<()> {
    let (eth, rest) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
    let first = u64::from_le_bytes(array_at::<0, 8, _>(eth)) << 16;
    if (first ^ station.mac) & station.mask != 0 {
        return None;
    }
    let mut kind = u16_at::<{ ethernet::field::ETHERTYPE.start }, _>(eth);
    let (mut ip, mut l3) = (rest, ethernet::HEADER_LEN as u16);
    if station.vlan != 0 {
        let (tag, rest) = rest.split_first_chunk::<{ ethernet::TAG_LEN }>()?;
        if kind != ethertype::VLAN || u16_at::<0, _>(tag) & 0x0fff != station.vlan {
            return None;
        }
        kind = u16_at::<2, _>(tag);
        (ip, l3) = (rest, ethernet::TAGGED_LEN as u16);
    }
    match kind {
        ethertype::IPV4 => v4(ip, l3, checksum, out),
        ethertype::IPV6 => v6(ip, l3, out),
        _ => None,
    }
}

/// What an IPv4 header's first eight bytes must be, where [`FIXED`] has bits: version 4, no options, no fragment.
const PLAIN: u64 = u64::from_le_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
const FIXED: u64 = u64::from_le_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);

#[inline(always)]
fn v4(bytes: &[u8], l3: u16, checksum: RxChecksum, out: &mut Whole) -> Option<()> {
    use ipv4::field;
    let header: &[u8; ipv4::HEADER_LEN] = bytes.first_chunk()?;
    let word = |bytes| u64::from_le_bytes(bytes);
    let (first, second) = (word(array_at::<0, 8, _>(header)), word(array_at::<8, 8, _>(header)));
    let special =
        SPECIAL[usize::from(header[field::SRC.start])] | SPECIAL[usize::from(header[field::DST.start])];
    if first & FIXED != PLAIN || special {
        return None;
    }
    if checksum != RxChecksum::Good && (checksum == RxChecksum::Bad || !is_right(header, first, second)) {
        return None;
    }
    let total = usize::from(u16_at::<{ field::LENGTH.start }, _>(header));
    out.src = Addr::v4(array_at::<{ field::SRC.start }, 4, _>(header));
    out.dst = Addr::v4(array_at::<{ field::DST.start }, 4, _>(header));
    out.ttl = header[field::TTL];
    out.dont_fragment = header[field::FRAGMENT.start] & (ipv4::DONT_FRAGMENT >> 8) as u8 != 0;
    out.l3 = l3;
    out.l4 = l3 + ipv4::HEADER_LEN as u16;
    out.l3_len = total as u32;
    l4(header[field::PROTOCOL], bytes.get(ipv4::HEADER_LEN..total)?, out)
}

/// Whether the checksum of a header without options is right; its first words are these.
#[inline(always)]
fn is_right(header: &[u8; ipv4::HEADER_LEN], first: u64, second: u64) -> bool {
    let last = u64::from(u32::from_le_bytes(array_at::<16, 4, _>(header)));
    let (sum, carry) = first.overflowing_add(second);
    let (sum, again) = sum.overflowing_add(last + u64::from(carry));
    // All ones, of which there are two forms before the last carry is in; a header is never all zero.
    let sum = (sum & 0xffff_ffff) + (sum >> 32) + u64::from(again);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

#[inline(always)]
fn v6(bytes: &[u8], l3: u16, out: &mut Whole) -> Option<()> {
    use ipv6::field;
    let header: &[u8; ipv6::HEADER_LEN] = bytes.first_chunk()?;
    let total = ipv6::HEADER_LEN + usize::from(u16_at::<{ field::LENGTH.start }, _>(header));
    let src = Addr::v6(array_at::<{ field::SRC.start }, 16, _>(header));
    let dst = Addr::v6(array_at::<{ field::DST.start }, 16, _>(header));
    let special = |addr: Addr| addr.0 <= 1 || addr.is_multicast() || addr.is_v4();
    if header[0] >> 4 != 6 || special(src) || special(dst) {
        return None;
    }
    out.src = src;
    out.dst = dst;
    out.ttl = header[field::HOP_LIMIT];
    out.dont_fragment = true;
    out.l3 = l3;
    out.l4 = l3 + ipv6::HEADER_LEN as u16;
    out.l3_len = total as u32;
    l4(header[field::NEXT_HEADER], bytes.get(ipv6::HEADER_LEN..total)?, out)
}

#[inline(always)]
fn l4(number: u8, bytes: &[u8], out: &mut Whole) -> Option<()> {
    match number {
        protocol::TCP => {
            let header: &[u8; tcp::HEADER_LEN] = bytes.first_chunk()?;
            let header_len = usize::from(header[tcp::field::OFFSET] >> 4) * 4;
            let flags = header[tcp::field::FLAGS];
            let (sport, dport) = (u16_at::<0, _>(header), u16_at::<2, _>(header));
            if header_len < tcp::HEADER_LEN
                || header_len > bytes.len()
                || IMPOSSIBLE[usize::from(flags)]
                || sport == 0
                || dport == 0
            {
                return None;
            }
            out.seq = u32_at::<{ tcp::field::SEQ.start }, _>(header);
            out.ack = u32_at::<{ tcp::field::ACK.start }, _>(header);
            out.payload = (bytes.len() - header_len) as u32;
            out.flags = flags;
            (out.sport, out.dport, out.is_tcp) = (sport, dport, true);
            Some(())
        }
        protocol::UDP => {
            let header: &[u8; udp::HEADER_LEN] = bytes.first_chunk()?;
            let len = usize::from(u16_at::<{ udp::field::LENGTH.start }, _>(header));
            let (sport, dport) = (u16_at::<0, _>(header), u16_at::<2, _>(header));
            if len < udp::HEADER_LEN || len > bytes.len() || sport == 0 || dport == 0 {
                return None;
            }
            (out.sport, out.dport, out.is_tcp) = (sport, dport, false);
            Some(())
        }
        _ => None,
    }
}
