//! Both ends of a packet made those of its connection's other side (full NAT), in the same family or in the other.

use arrayvec::ArrayVec;

use super::{at, changes_crc, put, set_sctp_crc, update};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Direction, Flow};
use crate::parse::{Packet, Quoted};
use crate::pipeline::DropReason;
use crate::siit;
use crate::wire::checksum::{self, add, apply, apply_udp, delta, fold};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{ipv4, protocol, udp};

/// An address and port.
pub type End = (Addr, u16);

/// Source and destination.
pub type Ends = (End, End);

/// Source and destination of packets that go this way: as they come, and as they go on. `source` is the SNAT address.
#[must_use]
pub const fn ends(flow: &Flow, direction: Direction, source: Addr) -> (Ends, Ends) {
    let client_side = ((flow.client, flow.client_port), (flow.vip, flow.vip_port));
    let endpoint_side = ((source, flow.source_port), (flow.endpoint, flow.endpoint_port));
    match direction {
        Direction::Original => (client_side, endpoint_side),
        Direction::Reply => (reversed(endpoint_side), reversed(client_side)),
    }
}

const fn reversed((a, b): Ends) -> Ends {
    (b, a)
}

/// What replacing these ends by those adds to the IPv4 header checksum, and to the L4 checksum, of which IPv6 has none of the first.
#[inline]
#[must_use]
pub fn deltas_between(((src, sport), (dst, dport)): Ends, new: Ends) -> [u16; 2] {
    // Summed as words of 32 bits, and folded once (RFC 1071 §2).
    let words = |addr: Addr| {
        let halves = |half: u64| (half >> 32) + (half & 0xffff_ffff);
        halves((addr.0 >> 64) as u64) + halves(addr.0 as u64)
    };
    let ((new_src, new_sport), (new_dst, new_dport)) = new;
    let addresses = words(Addr(!src.0)) + words(Addr(!dst.0)) + words(new_src) + words(new_dst);
    let ports = [!sport, !dport, new_sport, new_dport].map(u64::from).iter().sum::<u64>();
    [fold(addresses), fold(addresses + ports)]
}

/// What the IP header gets besides addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewed {
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identification, where the packet has to have another.
    pub id: Option<u32>,
}

/// Replaces both addresses, of the family that they are of.
///
/// # Errors
/// [`DropReason::FrameTooShort`] where the bytes are not what the parser saw.
pub fn replace_addresses(
    bytes: &mut [u8],
    packet: &Packet,
    ((src, _), (dst, _)): Ends,
    renewed: Renewed,
    l3_delta: u16,
) -> Result<(), DropReason> {
    let l3 = packet.l3 as usize;
    let replaced = if src.is_v4() {
        replace_v4(bytes, l3, src, dst, renewed, l3_delta)
    } else {
        replace_v6(bytes, packet, src, dst, renewed)
    };
    replaced.ok_or(DropReason::FrameTooShort)
}

fn replace_v4(
    bytes: &mut [u8],
    l3: usize,
    src: Addr,
    dst: Addr,
    renewed: Renewed,
    l3_delta: u16,
) -> Option<()> {
    put(bytes, l3 + at::V4_SRC, src.v4_octets())?;
    put(bytes, l3 + at::V4_DST, dst.v4_octets())?;
    let mut change = l3_delta;
    let word: &mut [u8; 2] = bytes.get_mut(l3 + at::V4_TTL..)?.first_chunk_mut()?;
    let old = *word;
    word[0] = renewed.ttl;
    change = add(change, delta(&old, word));
    if let Some(id) = renewed.id {
        let field: &mut [u8; 2] = bytes.get_mut(l3 + ipv4::field::ID.start..)?.first_chunk_mut()?;
        let old = *field;
        *field = (id as u16).to_be_bytes();
        change = add(change, delta(&old, field));
    }
    update(bytes, l3 + at::V4_CHECKSUM, |sum| apply(sum, change))
}

fn replace_v6(bytes: &mut [u8], packet: &Packet, src: Addr, dst: Addr, renewed: Renewed) -> Option<()> {
    let l3 = packet.l3 as usize;
    put(bytes, l3 + at::V6_SRC, src.v6_octets())?;
    put(bytes, l3 + at::V6_DST, dst.v6_octets())?;
    *bytes.get_mut(l3 + at::V6_HOP_LIMIT)? = renewed.ttl;
    if let (Some(id), Some(_)) = (renewed.id, packet.fragment) {
        // The parser goes no further than the fragment header, whose last four bytes it is.
        put(bytes, (packet.l4 as usize).checked_sub(4)?, id.to_be_bytes())?;
    }
    Some(())
}

/// Replaces the ports, and mends the checksum of TCP and UDP for them and for the addresses. SCTP's is computed anew unless
/// the packet is a fragment, which then must not [change it](changes_crc).
///
/// # Errors
/// [`DropReason::FrameTooShort`] where the bytes are not what the parser saw; [`DropReason::FragmentNoChecksum`].
pub fn replace_ports(
    bytes: &mut [u8],
    packet: &Packet,
    flow: &Flow,
    new: Ends,
    l4_delta: u16,
) -> Result<(), DropReason> {
    let l4 = packet.l4 as usize;
    let end = packet.l3 as usize + packet.l3_len as usize;
    let ((src, sport), (dst, dport)) = new;
    let to_v6 = packet.src.is_v4() && !src.is_v4();
    let put_ports = |bytes: &mut [u8]| {
        put(bytes, l4 + at::SPORT, sport.to_be_bytes())?;
        put(bytes, l4 + at::DPORT, dport.to_be_bytes())
    };
    put_ports(bytes).ok_or(DropReason::FrameTooShort)?;
    match flow.protocol {
        Protocol::Tcp => update(bytes, l4 + at::TCP_CHECKSUM, |sum| apply(sum, l4_delta)),
        Protocol::Udp if to_v6 && has_no_checksum(bytes, l4) => {
            if packet.fragment.is_some() {
                return Err(DropReason::FragmentNoChecksum);
            }
            give_checksum(bytes, l4, end, src, dst)
        }
        Protocol::Udp => update(bytes, l4 + at::UDP_CHECKSUM, |sum| apply_udp(sum, l4_delta)),
        Protocol::Sctp if changes_crc(flow) => set_sctp_crc(bytes, l4, end),
        Protocol::Sctp => Some(()),
    }
    .ok_or(DropReason::FrameTooShort)
}

fn has_no_checksum(bytes: &[u8], l4: usize) -> bool {
    bytes.get(l4 + at::UDP_CHECKSUM..).and_then(|b| b.first_chunk()) == Some(&[0; 2])
}

/// IPv6 asks for one (RFC 7915 §4.5).
fn give_checksum(bytes: &mut [u8], l4: usize, end: usize, src: Addr, dst: Addr) -> Option<()> {
    let length: [u8; 2] = *bytes.get(l4..)?.get(udp::field::LENGTH)?.first_chunk()?;
    let datagram = bytes.get(l4..end.min(l4 + usize::from(u16::from_be_bytes(length))))?;
    let sum = checksum::never_zero(checksum::pseudo(src, dst, protocol::UDP, datagram));
    put(bytes, l4 + at::UDP_CHECKSUM, sum.to_be_bytes())
}

/// The header of the other family for the packet `l3`, which is whole, or a fragment; and where what it is for begins.
#[must_use]
pub fn other_family(l3: &[u8], ((src, _), (dst, _)): Ends, renewed: Renewed) -> Option<siit::Translated> {
    if src.is_v4() {
        let packet = Ipv6::new_checked(l3).ok()?;
        let mut upper = packet.upper().ok()?;
        if let (Some(fragment), Some(id)) = (&mut upper.fragment, renewed.id) {
            fragment.id = id;
        }
        siit::to_v4(&packet, &upper, (src, dst), renewed.ttl, renewed.id.unwrap_or(0) as u16)
    } else {
        let mut translated = siit::to_v6(&Ipv4::new_checked(l3).ok()?, (src, dst), renewed.ttl)?;
        if let (Some(id), Some(field)) = (renewed.id, translated.header.get_mut(siit::FRAGMENT_ID)) {
            field.copy_from_slice(&id.to_be_bytes());
        }
        Some(translated)
    }
}

/// Makes an ICMP error about a packet of a full NAT connection, that goes in `direction`, speak of it as the receiver knows it; in
/// the same family.
///
/// # Errors
/// [`DropReason::IcmpHeader`] where the bytes are not what the parser saw.
pub fn translate_error(
    bytes: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    flow: &Flow,
    direction: Direction,
    source: Addr,
) -> Result<(), DropReason> {
    error(bytes, packet, quoted, flow, direction, source).ok_or(DropReason::IcmpHeader)
}

/// Addresses of an error that goes in `direction`: a router on the way reports in its own name; the endpoint's own address is
/// hidden behind the VIP, and the client's behind SNAT's.
#[must_use]
pub fn error_ends(packet: &Packet, flow: &Flow, direction: Direction, source: Addr) -> (Addr, Addr) {
    let (((from, _), _), ((to, _), (dst, _))) = ends(flow, direction, source);
    let same_family = packet.src.is_v4() == to.is_v4();
    (if packet.src == from || !same_family { to } else { packet.src }, dst)
}

/// Source and destination of the quoted packet as the receiver of an error that goes in `direction` had sent it.
#[must_use]
pub const fn quoted_ends(flow: &Flow, direction: Direction, source: Addr) -> Ends {
    // The error travels against it.
    reversed(ends(flow, direction, source).1)
}

fn error(
    bytes: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    flow: &Flow,
    direction: Direction,
    source: Addr,
) -> Option<()> {
    let (l3, l4) = (packet.l3 as usize, packet.l4 as usize);
    let message = bytes.get_mut(..l3 + packet.l3_len as usize)?;
    let old = ((quoted.tuple.src, quoted.tuple.sport), (quoted.tuple.dst, quoted.tuple.dport));
    let new = quoted_ends(flow, direction, source);
    quote(message, quoted, flow, old, new)?;

    let (src, dst) = error_ends(packet, flow, direction, source);
    let renewed = Renewed { ttl: packet.ttl.wrapping_sub(1), id: None };
    let of = |src: Addr, dst: Addr| {
        let mut out = ArrayVec::<u8, 32>::new();
        out.extend(src.v6_octets());
        out.extend(dst.v6_octets());
        out
    };
    let l3_delta = delta(&of(packet.src, packet.dst), &of(src, dst));
    replace_addresses(message, packet, ((src, 0), (dst, 0)), renewed, l3_delta).ok()?;
    let icmp = message.get_mut(l4..)?;
    put(icmp, 2, [0; 2])?;
    let sum = if packet.protocol == protocol::ICMPV6 {
        checksum::pseudo(src, dst, protocol::ICMPV6, icmp)
    } else {
        checksum::checksum(icmp)
    };
    put(icmp, 2, sum.to_be_bytes())
}

fn quote(message: &mut [u8], quoted: &Quoted, flow: &Flow, old: Ends, new: Ends) -> Option<()> {
    let (l3, l4) = (quoted.l3, quoted.l4);
    let (((old_src, _), (old_dst, _)), ((src, sport), (dst, dport))) = (old, new);
    if src.is_v4() {
        put(message, l3 + at::V4_SRC, src.v4_octets())?;
        put(message, l3 + at::V4_DST, dst.v4_octets())?;
        let changed =
            add(delta(&old_src.v4_octets(), &src.v4_octets()), delta(&old_dst.v4_octets(), &dst.v4_octets()));
        update(message, l3 + at::V4_CHECKSUM, |sum| apply(sum, changed))?;
    } else {
        put(message, l3 + at::V6_SRC, src.v6_octets())?;
        put(message, l3 + at::V6_DST, dst.v6_octets())?;
    }
    put(message, l4 + at::SPORT, sport.to_be_bytes())?;
    put(message, l4 + at::DPORT, dport.to_be_bytes())?;
    let changed = siit::ends_delta(old, new);
    // Often cut off behind the first eight bytes: then there is no checksum to mend.
    let _ = match flow.protocol {
        Protocol::Tcp => update(message, l4 + at::TCP_CHECKSUM, |sum| apply(sum, changed)),
        Protocol::Udp => update(message, l4 + at::UDP_CHECKSUM, |sum| apply_udp(sum, changed)),
        Protocol::Sctp => None,
    };
    Some(())
}
