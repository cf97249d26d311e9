//! An ICMP error about a packet of a connection, made to speak of it as the receiver knows it (RFC 5508 §4, RFC 792).

use super::{Translation, at, put, rewrite_ip, update};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Direction, Flow};
use crate::parse::{Packet, Quoted};
use crate::pipeline::DropReason;
use crate::wire::checksum::{self, apply, apply_udp};

/// Offset of the checksum in an ICMP message.
const ICMP_CHECKSUM: usize = 2;
const ICMPV6: u8 = 58;

/// Translates an ICMP error that travels in `direction` of `flow`, and takes one from its TTL, which must be above 1. The
/// quoted packet is one of the other direction as the engine had sent it; the receiver must see it as it had sent it itself.
///
/// # Errors
/// [`DropReason::IcmpHeader`] where the bytes are not what the parser saw.
pub fn translate_icmp_error(
    bytes: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    flow: &Flow,
    direction: Direction,
) -> Result<(), DropReason> {
    rewrite(bytes, packet, quoted, flow, direction).ok_or(DropReason::IcmpHeader)
}

fn rewrite(
    bytes: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    flow: &Flow,
    direction: Direction,
) -> Option<()> {
    let (l3, l4) = (packet.l3 as usize, packet.l4 as usize);
    let end = l3 + packet.l3_len as usize;
    let message = bytes.get_mut(..end)?;
    rewrite_quoted(message, quoted, flow, direction)?;

    let (mut src, mut dst) = (packet.src, packet.dst);
    let outer = Translation::of(flow, direction);
    // A router on the way reports in its own name; only the endpoint's own address has to be hidden behind the VIP.
    let (from, to) = (outer.from.0, outer.to.0);
    let touched = if outer.source { &mut src } else { &mut dst };
    if *touched == from {
        *touched = to;
    }
    let new = if outer.source { src } else { dst };
    let old = if outer.source { packet.src } else { packet.dst };
    rewrite_ip(message, l3, outer.source, new, address_delta(old, new))?;

    let icmp = message.get_mut(l4..)?;
    put(icmp, ICMP_CHECKSUM, [0; 2])?;
    let sum = if packet.protocol == ICMPV6 {
        checksum::pseudo(src, dst, ICMPV6, icmp)
    } else {
        checksum::checksum(icmp)
    };
    put(icmp, ICMP_CHECKSUM, sum.to_be_bytes())
}

fn rewrite_quoted(message: &mut [u8], quoted: &Quoted, flow: &Flow, direction: Direction) -> Option<()> {
    // The quoted packet went the other way and was translated so; undo that.
    let other = match direction {
        Direction::Original => Direction::Reply,
        Direction::Reply => Direction::Original,
    };
    let done = Translation::of(flow, other);
    let undo = Translation { source: done.source, from: done.to, to: done.from };
    let [l3_delta, l4_delta] = undo.deltas();
    let (l3, l4) = (quoted.l3, quoted.l4);
    let to = undo.to.0;
    if to.is_v4() {
        put(message, l3 + if undo.source { at::V4_SRC } else { at::V4_DST }, to.v4_octets())?;
        update(message, l3 + at::V4_CHECKSUM, |sum| apply(sum, l3_delta))?;
    } else {
        put(message, l3 + if undo.source { at::V6_SRC } else { at::V6_DST }, to.v6_octets())?;
    }
    put(message, l4 + if undo.source { at::SPORT } else { at::DPORT }, undo.to.1.to_be_bytes())?;
    // Often cut off behind the first eight bytes: then there is no checksum to mend.
    let _ = match flow.protocol {
        Protocol::Tcp => update(message, l4 + at::TCP_CHECKSUM, |sum| apply(sum, l4_delta)),
        Protocol::Udp => update(message, l4 + at::UDP_CHECKSUM, |sum| apply_udp(sum, l4_delta)),
        Protocol::Sctp => None,
    };
    Some(())
}

fn address_delta(old: Addr, new: Addr) -> u16 {
    checksum::delta(&old.v6_octets(), &new.v6_octets())
}
