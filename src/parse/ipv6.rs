//! IPv6: fixed header, extension headers, addresses.

use super::{Packet, l4};
use crate::addr::Addr;
use crate::pipeline::DropReason;
use crate::wire::Error;
use crate::wire::ipv6::{HEADER_LEN, Ipv6, Upper};
use crate::wire::{icmpv6, ndp, protocol};

/// Parses the packet that starts `bytes`, `l3` bytes into the frame.
#[inline]
pub(super) fn parse(bytes: &[u8], l3: usize, to_group: bool) -> Result<Packet, DropReason> {
    let ip = Ipv6::new_checked(bytes).map_err(|e| match e {
        Error::Short | Error::Malformed => DropReason::Ipv6Header,
        Error::Truncated => DropReason::Ipv6Truncated,
    })?;
    let (src, dst) = (ip.src(), ip.dst());
    let upper = ip.upper().map_err(|_| DropReason::Ipv6Extension)?;
    // With segments left the destination is not the final one, which the L4 checksum covers (RFC 8200 §8.1).
    if upper.source_routed {
        return Err(DropReason::Ipv6Extension);
    }
    let payload = ip.payload().get(upper.offset..).ok_or(DropReason::Ipv6Extension)?;
    check_addresses(src, dst, &upper, payload)?;
    let l4_info = match &upper.fragment {
        None => l4::parse(upper.protocol, protocol::ICMPV6, src, dst, payload)?,
        // The payload length of the whole does not count the fixed header; what the pieces repeat is left out here.
        Some(fragment) => l4::parse_piece(upper.protocol, fragment, 0, payload)?,
    };
    Ok(Packet {
        src,
        dst,
        protocol: upper.protocol,
        ttl: ip.hop_limit(),
        dont_fragment: true,
        to_group,
        l3: l3 as u16,
        // At most eight extension headers of 2048 bytes.
        l4: (l3 + HEADER_LEN + upper.offset) as u16,
        l3_len: ip.total_len() as u32,
        l4_info,
        fragment: upper.fragment,
    })
}

const UNSPECIFIED: Addr = Addr(0);
const LOOPBACK: Addr = Addr(1);

/// RFC 6890 §2.2.3; what neighbour discovery needs passes.
#[inline]
fn check_addresses(src: Addr, dst: Addr, upper: &Upper, payload: &[u8]) -> Result<(), DropReason> {
    // IPv4-mapped addresses on the wire would meet IPv4's own in the tables.
    if src.0 <= LOOPBACK.0 || src.is_multicast() || src.is_v4() {
        let probe = src == UNSPECIFIED && discovery(upper, payload) == Some(icmpv6::NEIGHBOR_SOLICITATION);
        if !probe {
            return Err(DropReason::MartianSource);
        }
    }
    if dst == UNSPECIFIED || dst == LOOPBACK || dst.is_v4() {
        return Err(DropReason::MartianDestination);
    }
    if dst.is_multicast() {
        let ours = ndp::is_solicited_node(dst) || dst == ndp::ALL_NODES;
        if !ours || discovery(upper, payload).is_none() {
            return Err(DropReason::Multicast);
        }
    }
    Ok(())
}

/// The type of a neighbour solicitation or advertisement.
#[cold]
fn discovery(upper: &Upper, payload: &[u8]) -> Option<u8> {
    if upper.protocol != protocol::ICMPV6 || upper.fragment.is_some() {
        return None;
    }
    let kind = *payload.first()?;
    matches!(kind, icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT).then_some(kind)
}
