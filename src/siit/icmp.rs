//! ICMP errors of the other family (RFC 7915 §4.2, §4.3, §5.2, §5.3).

use arrayvec::ArrayVec;

use super::header::{self, V4_GROWS_BY, ends_delta};
use crate::addr::Addr;
use crate::wire::checksum::{self, apply, apply_udp};
use crate::wire::icmp::{self, Icmp};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{icmpv4, icmpv6, protocol};

/// The longest translated message: the minimum MTU of IPv6 (RFC 4443 §2.4 c).
pub const MAX_LEN: usize = 1280;

/// Addresses and ports of the packet that is quoted.
pub type Ends = ((Addr, u16), (Addr, u16));

/// The first words of a message: type, code, and what follows the checksum.
type Head = (u8, u8, u32);

/// Plateaus of RFC 1191 §7.1: what to assume where a router does not tell its MTU.
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// The `ICMPv6` error, with IP header, for an `ICMPv4` one, which `packet` is: between these addresses, about a packet that the
/// receiver knows by `quoted`. `None` for what has no counterpart, and must be dropped.
#[must_use]
pub fn to_v6(
    packet: &[u8],
    ends: (Addr, Addr),
    hop_limit: u8,
    quoted: Ends,
) -> Option<ArrayVec<u8, MAX_LEN>> {
    let outer = Ipv4::new_checked(packet).ok()?;
    let message = Icmp::new_checked(outer.payload()).ok()?;
    let quote = message.payload();
    let head = v6_head(&message, quote)?;

    let inner = CutV4::new(quote)?;
    let view = inner.view()?;
    let from = header::v6(&view, inner.payload_len, (quoted.0.0, quoted.1.0), inner.ttl)?;
    let old = (view.src(), view.dst());
    let l4 = translate_l4(quote.get(from.l4..)?, inner.protocol, old, quoted);

    let mut out = ArrayVec::new();
    let room = MAX_LEN - ipv6::HEADER_LEN - icmp::HEADER_LEN - from.header.len();
    let l4 = l4.get(..l4.len().min(room))?;
    let len = icmp::HEADER_LEN + from.header.len() + l4.len();
    let repr = ipv6::Repr {
        src: ends.0,
        dst: ends.1,
        next_header: protocol::ICMPV6,
        hop_limit,
        traffic_class: outer.tos(),
        payload_len: len as u16,
    };
    out.try_extend_from_slice(&repr.emit()).ok()?;
    push_message(&mut out, head, &[&from.header, l4])?;
    let sum = checksum::pseudo(ends.0, ends.1, protocol::ICMPV6, out.get(ipv6::HEADER_LEN..)?);
    set_checksum(&mut out, ipv6::HEADER_LEN, sum)?;
    Some(out)
}

/// The `ICMPv4` error for an `ICMPv6` one; as [`to_v6`]. `id` is the new packet's.
#[must_use]
pub fn to_v4(
    packet: &[u8],
    ends: (Addr, Addr),
    ttl: u8,
    id: u16,
    quoted: Ends,
) -> Option<ArrayVec<u8, MAX_LEN>> {
    let outer = Ipv6::new_checked(packet).ok()?;
    let behind = outer.upper().ok()?;
    let message = Icmp::new_checked(outer.payload().get(behind.offset..)?).ok()?;
    let head = v4_head(&message)?;
    let quote = message.payload();

    let (fixed, payload) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let said = u16::from_be_bytes([fixed[4], fixed[5]]);
    // The view wants all that the header says: it is told that there is no more than what was quoted.
    let mut whole = *fixed;
    whole[ipv6::field::LENGTH].copy_from_slice(&u16::try_from(payload.len()).ok()?.to_be_bytes());
    let cut: ArrayVec<u8, MAX_LEN> = whole.iter().chain(payload).copied().take(MAX_LEN).collect();
    let len = u16::try_from(cut.len() - ipv6::HEADER_LEN).ok()?;
    let mut cut = cut;
    cut.get_mut(ipv6::field::LENGTH)?.copy_from_slice(&len.to_be_bytes());
    let view = Ipv6::new_checked(&cut).ok()?;
    let upper = view.upper().ok()?;
    let new = (quoted.0.0, quoted.1.0);
    let from = header::v4(&view, &upper, said.into(), new, view.hop_limit(), 0)?;
    let old = (view.src(), view.dst());
    let l4 = translate_l4(cut.get(from.l4..)?, upper.protocol, old, quoted);

    let mut out = ArrayVec::new();
    let l4 = l4.get(..l4.len().min(icmpv4::MAX_QUOTE - from.header.len()))?;
    let len = icmp::HEADER_LEN + from.header.len() + l4.len();
    let repr = ipv4::Repr {
        src: ends.0,
        dst: ends.1,
        protocol: protocol::ICMPV4,
        ttl,
        tos: outer.traffic_class(),
        id,
        fragment: 0,
        payload_len: len as u16,
    };
    out.try_extend_from_slice(&repr.emit()).ok()?;
    push_message(&mut out, head, &[&from.header, l4])?;
    let sum = checksum::checksum(out.get(ipv4::HEADER_LEN..)?);
    set_checksum(&mut out, ipv4::HEADER_LEN, sum)?;
    Some(out)
}

/// RFC 7915 §4.2.
fn v6_head(message: &Icmp<'_>, quote: &[u8]) -> Option<Head> {
    let pointer = || v6_pointer(message.word().to_be_bytes()[0]).map(u32::from);
    Some(match (message.kind(), message.code()) {
        (icmpv4::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (icmpv6::UNREACHABLE, icmpv6::NO_ROUTE, 0),
        // Protocol unreachable: an unrecognised next header, which is where it is.
        (icmpv4::UNREACHABLE, 2) => (icmpv6::PARAMETER_PROBLEM, 1, 6),
        (icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE) => (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE, 0),
        (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => {
            let told = message.word() as u16;
            let mtu = if told == 0 { plateau(quote)? } else { told };
            // Less than its minimum means nothing in IPv6; what is no longer may be fragmented behind us.
            (icmpv6::PACKET_TOO_BIG, 0, (u32::from(mtu) + V4_GROWS_BY as u32).max(MAX_LEN as u32))
        }
        (icmpv4::UNREACHABLE, 9 | 10 | 13 | 15) => (icmpv6::UNREACHABLE, icmpv6::PROHIBITED, 0),
        (icmpv4::TIME_EXCEEDED, code) => (icmpv6::TIME_EXCEEDED, code, 0),
        (icmpv4::PARAMETER_PROBLEM, 0 | 2) => (icmpv6::PARAMETER_PROBLEM, 0, pointer()?),
        _ => return None,
    })
}

/// RFC 7915 §5.2.
fn v4_head(message: &Icmp<'_>) -> Option<Head> {
    Some(match (message.kind(), message.code()) {
        (icmpv6::UNREACHABLE, icmpv6::NO_ROUTE | 2 | icmpv6::ADDRESS_UNREACHABLE) => {
            (icmpv4::UNREACHABLE, icmpv4::HOST_UNREACHABLE, 0)
        }
        (icmpv6::UNREACHABLE, icmpv6::PROHIBITED) => (icmpv4::UNREACHABLE, 10, 0),
        (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE) => (icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE, 0),
        (icmpv6::PACKET_TOO_BIG, _) => {
            let mtu = message.word().saturating_sub(V4_GROWS_BY as u32).clamp(68, 65_535);
            (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, mtu)
        }
        (icmpv6::TIME_EXCEEDED, code) => (icmpv4::TIME_EXCEEDED, code, 0),
        (icmpv6::PARAMETER_PROBLEM, 0) => {
            (icmpv4::PARAMETER_PROBLEM, 0, u32::from(v4_pointer(message.word())?) << 24)
        }
        (icmpv6::PARAMETER_PROBLEM, 1) => (icmpv4::UNREACHABLE, 2, 0),
        _ => return None,
    })
}

/// Figure 3.
const fn v6_pointer(pointer: u8) -> Option<u8> {
    Some(match pointer {
        0 | 1 => pointer,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// Figure 6.
const fn v4_pointer(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 | 1 => pointer as u8,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// The next plateau below the length of the quoted packet (RFC 1191 §5).
fn plateau(quote: &[u8]) -> Option<u16> {
    let len = u16::from_be_bytes(*quote.get(ipv4::field::LENGTH)?.first_chunk()?);
    PLATEAUS.into_iter().find(|mtu| *mtu < len)
}

/// An IPv4 packet that is cut off somewhere behind its header.
struct CutV4 {
    header: ArrayVec<u8, 60>,
    /// What its header says.
    payload_len: usize,
    ttl: u8,
    protocol: u8,
}

impl CutV4 {
    fn new(quote: &[u8]) -> Option<Self> {
        let header_len = usize::from(*quote.first()? & 15) * 4;
        let mut header = ArrayVec::new();
        header.try_extend_from_slice(quote.get(..header_len)?).ok()?;
        let len = usize::from(u16::from_be_bytes(*header.get(ipv4::field::LENGTH)?.first_chunk()?));
        let payload_len = len.checked_sub(header_len)?;
        // The view wants all that the header says.
        header.get_mut(ipv4::field::LENGTH)?.copy_from_slice(&(header_len as u16).to_be_bytes());
        let (ttl, protocol) = (*header.get(ipv4::field::TTL)?, *header.get(ipv4::field::PROTOCOL)?);
        Some(Self { header, payload_len, ttl, protocol })
    }

    fn view(&self) -> Option<Ipv4<'_>> {
        Ipv4::new_checked(&self.header).ok()
    }
}

/// The L4 header and what else is quoted, with the ports and, as far as it is there, the checksum that the receiver had sent.
fn translate_l4(l4: &[u8], number: u8, old: (Addr, Addr), new: Ends) -> ArrayVec<u8, MAX_LEN> {
    let mut out: ArrayVec<u8, MAX_LEN> = l4.iter().copied().take(MAX_LEN).collect();
    let Some(ports) = out.first_chunk_mut::<4>() else { return out };
    let [a, b, c, d] = *ports;
    let old = ((old.0, u16::from_be_bytes([a, b])), (old.1, u16::from_be_bytes([c, d])));
    ports[..2].copy_from_slice(&new.0.1.to_be_bytes());
    ports[2..].copy_from_slice(&new.1.1.to_be_bytes());
    let delta = ends_delta(old, new);
    let (at, apply): (usize, fn(u16, u16) -> u16) = match number {
        protocol::TCP => (16, apply),
        protocol::UDP => (6, apply_udp),
        _ => return out,
    };
    if let Some(field) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *field = apply(u16::from_be_bytes(*field), delta).to_be_bytes();
    }
    out
}

fn push_message(out: &mut ArrayVec<u8, MAX_LEN>, (kind, code, word): Head, parts: &[&[u8]]) -> Option<()> {
    out.try_extend_from_slice(&[kind, code, 0, 0]).ok()?;
    out.try_extend_from_slice(&word.to_be_bytes()).ok()?;
    for part in parts {
        out.try_extend_from_slice(part).ok()?;
    }
    Some(())
}

fn set_checksum(out: &mut ArrayVec<u8, MAX_LEN>, at: usize, sum: u16) -> Option<()> {
    out.get_mut(at..)?.get_mut(icmp::field::CHECKSUM)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
