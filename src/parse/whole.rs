//! The packets that nearly all are: whole TCP segments and UDP datagrams, no IP options or extension headers, nothing about
//! them that decides anything but their connection. All else, and whatever is wrong with a packet, is the full parser's.

use super::{L4, Link, Packet};
use crate::addr::{Addr, Mac};
use crate::config::Protocol;
use crate::conntrack::Tuple;
use crate::pipeline::RxChecksum;
use crate::rewrite::Ends;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{array_at, ipv4, ipv6, protocol, raw, tcp, u16_at, udp};

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
/// would have to wait until those are in the cache. Pairs of fields that come and are compared together are one word, and those that
/// are only compared and replaced stay as they are on the wire (`wire::raw`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Whole {
    /// Of IPv4: source and destination address, as they are on the wire.
    pub v4: u64,
    /// Of TCP: sequence number, and in the lower half acknowledgement number.
    pub numbers: u64,
    /// Source and destination port, as they are on the wire.
    pub ports: u32,
    /// Bytes of payload, of TCP.
    pub payload: u32,
    /// IP header and everything after it, in bytes.
    pub l3_len: u32,
    /// Start of the IP header.
    pub l3: u16,
    /// Flags, of TCP; of UDP none.
    pub flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP or else UDP.
    pub is_tcp: bool,
    /// IPv4 or else IPv6.
    pub is_v4: bool,
    /// As in [`Packet`].
    pub dont_fragment: bool,
    /// Of IPv6: source and destination address.
    pub v6: [Addr; 2],
}

impl Whole {
    /// Source address.
    #[inline]
    #[must_use]
    pub const fn src(&self) -> Addr {
        if self.is_v4 { Addr::v4((self.v4 as u32).to_le_bytes()) } else { self.v6[0] }
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub const fn dst(&self) -> Addr {
        if self.is_v4 { Addr::v4(((self.v4 >> 32) as u32).to_le_bytes()) } else { self.v6[1] }
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn sport(&self) -> u16 {
        (self.ports as u16).swap_bytes()
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn dport(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }

    /// Sequence number, of TCP.
    #[inline]
    #[must_use]
    pub const fn seq(&self) -> u32 {
        (self.numbers >> 32) as u32
    }

    /// Acknowledgement number, of TCP.
    #[inline]
    #[must_use]
    pub const fn ack(&self) -> u32 {
        self.numbers as u32
    }

    /// TCP or UDP.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        if self.is_tcp { Protocol::Tcp } else { Protocol::Udp }
    }

    /// Source and destination, with their ports.
    #[inline]
    #[must_use]
    pub const fn ends(&self) -> Ends {
        ((self.src(), self.sport()), (self.dst(), self.dport()))
    }

    /// Its 5-tuple.
    #[inline]
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        Tuple {
            src: self.src(),
            dst: self.dst(),
            sport: self.sport(),
            dport: self.dport(),
            protocol: self.protocol(),
        }
    }

    /// As in [`Packet`].
    #[inline]
    #[must_use]
    pub const fn l4_info(&self) -> L4 {
        let (sport, dport) = (self.sport(), self.dport());
        if self.is_tcp {
            let Self { flags, payload, .. } = *self;
            L4::Tcp { sport, dport, flags, payload, seq: self.seq(), ack: self.ack() }
        } else {
            L4::Udp { sport, dport }
        }
    }

    /// What [`parse`](super::parse) says of it.
    #[must_use]
    pub const fn packet(&self) -> Packet {
        let Self { ttl, dont_fragment, l3, l3_len, is_v4, .. } = *self;
        let header_len = if is_v4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        Packet {
            src: self.src(),
            dst: self.dst(),
            protocol: if self.is_tcp { protocol::TCP } else { protocol::UDP },
            ttl,
            dont_fragment,
            to_group: false,
            l3,
            l4: l3 + header_len as u16,
            l3_len,
            l4_info: self.l4_info(),
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

impl Station {
    /// Whether a frame is for it.
    #[inline(always)]
    fn is_to(&self, eth: &[u8; ethernet::HEADER_LEN]) -> bool {
        let first = u64::from_le_bytes(array_at::<0, 8, _>(eth)) << 16;
        (first ^ self.mac) & self.mask == 0
    }
}

/// The group bit in the word of a [`Station`].
const GROUP: u64 = 1 << 16;

/// Shortest frame of the fields that are read of IPv4 and TCP; all frames on Ethernet are longer, even without padding's bytes
/// cut off.
const USUAL: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + tcp::HEADER_LEN;

/// Whether it is one of those; then `out` is what [`parse`](super::parse) says of it. `false` says nothing, and leaves anything in
/// `out`.
#[inline(always)]
#[must_use]
pub fn whole(
    station: &Station,
    frame: &[u8],
    checksum: impl Fn() -> RxChecksum + Copy,
    out: &mut Whole,
) -> bool {
    // Where the length is known the bounds of all fields are, too: they are not checked again one by one.
    let is_whole = if station.vlan == 0 && frame.len() >= USUAL {
        untagged(station, frame, checksum, out)
    } else {
        unusual(station, frame, checksum(), out)
    };
    is_whole.is_some()
}

/// With a tag, or UDP without padding.
#[inline(never)]
fn unusual(station: &Station, frame: &[u8], checksum: RxChecksum, out: &mut Whole) -> Option<()> {
    let checksum = || checksum;
    if station.vlan == 0 {
        return untagged(station, frame, checksum, out);
    }
    let (eth, rest) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
    let (tag, ip) = rest.split_first_chunk::<{ ethernet::TAG_LEN }>()?;
    let kind = u16_at::<{ ethernet::field::ETHERTYPE.start }, _>(eth);
    if !station.is_to(eth) || kind != ethertype::VLAN || u16_at::<0, _>(tag) & 0x0fff != station.vlan {
        return None;
    }
    network(raw::u16_at::<2, _>(tag), ip, ethernet::TAGGED_LEN as u16, checksum, out)
}

#[inline(always)]
fn untagged(
    station: &Station,
    frame: &[u8],
    checksum: impl Fn() -> RxChecksum,
    out: &mut Whole,
) -> Option<()> {
    let (eth, ip) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
    if !station.is_to(eth) {
        return None;
    }
    let kind = raw::u16_at::<{ ethernet::field::ETHERTYPE.start }, _>(eth);
    network(kind, ip, ethernet::HEADER_LEN as u16, checksum, out)
}

#[inline(always)]
fn network(kind: u16, ip: &[u8], l3: u16, checksum: impl Fn() -> RxChecksum, out: &mut Whole) -> Option<()> {
    const IPV4: u16 = raw::u16(ethertype::IPV4);
    const IPV6: u16 = raw::u16(ethertype::IPV6);
    match kind {
        IPV4 => v4(ip, l3, checksum, out),
        IPV6 => v6(ip, l3, out),
        _ => None,
    }
}

/// What an IPv4 header's first eight bytes must be, where [`FIXED`] has bits: version 4, no options, no fragment.
const PLAIN: u64 = u64::from_le_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
const FIXED: u64 = u64::from_le_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
/// "Don't fragment" in them.
const DONT_FRAGMENT: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0, (ipv4::DONT_FRAGMENT >> 8) as u8, 0]);

#[inline(always)]
fn v4(bytes: &[u8], l3: u16, checksum: impl Fn() -> RxChecksum, out: &mut Whole) -> Option<()> {
    use ipv4::field;
    let (header, rest) = bytes.split_first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let (first, second) = (raw::u64_at::<0, _>(header), raw::u64_at::<8, _>(header));
    let special =
        SPECIAL[usize::from(header[field::SRC.start])] | SPECIAL[usize::from(header[field::DST.start])];
    if first & FIXED != PLAIN || special {
        return None;
    }
    if checksum() != RxChecksum::Good && (checksum() == RxChecksum::Bad || !is_right(header, first, second)) {
        return None;
    }
    let total = u32::from(u16_at::<{ field::LENGTH.start }, _>(header));
    out.v4 = raw::u64_at::<{ field::SRC.start }, _>(header);
    out.is_v4 = true;
    out.ttl = header[field::TTL];
    out.dont_fragment = first & DONT_FRAGMENT != 0;
    out.l3 = l3;
    out.l3_len = total;
    l4(header[field::PROTOCOL], rest, total.checked_sub(ipv4::HEADER_LEN as u32)?, out)
}

/// Whether the checksum of a header without options is right; its first words are these.
#[inline(always)]
fn is_right(header: &[u8; ipv4::HEADER_LEN], first: u64, second: u64) -> bool {
    let last = u64::from(raw::u32_at::<16, _>(header));
    let (sum, carry) = first.overflowing_add(second);
    let (sum, again) = sum.overflowing_add(last + u64::from(carry));
    // After a carry little is left: there is no third one.
    let sum = sum.wrapping_add(u64::from(again));
    // Upper and lower half added crosswise: the upper one gets the carry out of the lower, which is its own.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    // All ones, of which there is one form, for a header is never all zero.
    sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
}

#[inline(never)]
fn v6(bytes: &[u8], l3: u16, out: &mut Whole) -> Option<()> {
    use ipv6::field;
    let (header, rest) = bytes.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let len = u32::from(u16_at::<{ field::LENGTH.start }, _>(header));
    let src = Addr::v6(array_at::<{ field::SRC.start }, 16, _>(header));
    let dst = Addr::v6(array_at::<{ field::DST.start }, 16, _>(header));
    let special = |addr: Addr| addr.0 <= 1 || addr.is_multicast() || addr.is_v4();
    if header[0] >> 4 != 6 || special(src) || special(dst) {
        return None;
    }
    out.v6 = [src, dst];
    out.is_v4 = false;
    out.ttl = header[field::HOP_LIMIT];
    out.dont_fragment = true;
    out.l3 = l3;
    out.l3_len = ipv6::HEADER_LEN as u32 + len;
    l4(header[field::NEXT_HEADER], rest, len, out)
}

/// `rest` begins with an L4 header and payload of `len` bytes, and may go on with padding.
#[inline(always)]
fn l4(number: u8, rest: &[u8], len: u32, out: &mut Whole) -> Option<()> {
    if len as usize > rest.len() {
        return None;
    }
    match number {
        protocol::TCP => {
            let header: &[u8; tcp::HEADER_LEN] = rest.first_chunk()?;
            let header_len = u32::from(header[tcp::field::OFFSET] >> 4) * 4;
            let flags = header[tcp::field::FLAGS];
            out.ports = ports(header)?;
            if header_len < tcp::HEADER_LEN as u32 || header_len > len || IMPOSSIBLE[usize::from(flags)] {
                return None;
            }
            out.numbers = u64::from_be_bytes(array_at::<{ tcp::field::SEQ.start }, 8, _>(header));
            out.payload = len - header_len;
            (out.flags, out.is_tcp) = (flags, true);
            Some(())
        }
        protocol::UDP => {
            let header: &[u8; udp::HEADER_LEN] = rest.first_chunk()?;
            let claimed = u32::from(u16_at::<{ udp::field::LENGTH.start }, _>(header));
            out.ports = ports(header)?;
            if claimed < udp::HEADER_LEN as u32 || claimed > len {
                return None;
            }
            (out.flags, out.is_tcp) = (0, false);
            Some(())
        }
        _ => None,
    }
}

/// Both ports; neither is 0.
#[inline(always)]
fn ports<const N: usize>(header: &[u8; N]) -> Option<u32> {
    let ports = raw::u32_at::<0, _>(header);
    (ports >> 16 != 0 && ports as u16 != 0).then_some(ports)
}
