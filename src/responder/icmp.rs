//! ICMP errors of the engine's own (RFC 792, RFC 1812 §4.3, RFC 4443 §2.4, §3).

use super::{Reply, TTL, icmp_message, icmp_of};
use crate::addr::Addr;
use crate::parse::Packet;

/// An error that the engine reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// TTL or hop limit ran out.
    TimeExceeded,
    /// Larger than the MTU of the next link.
    TooBig {
        /// That MTU, bytes.
        mtu: u16,
    },
    /// Nobody serves this port.
    PortUnreachable,
    /// There is no way to the endpoint.
    HostUnreachable,
}

/// Of an IPv4 packet that much is quoted at most (RFC 1812 §4.3.2.3: the message is no longer than 576 bytes).
const QUOTE_V4: usize = 576 - 20 - 8;
/// And of an IPv6 packet (RFC 4443 §2.4 (c): the message fits into 1280 bytes).
const QUOTE_V6: usize = 1280 - 40 - 8;

/// Writes the error about the packet in `frame`, in the name of `from`. `None` where no error may be sent about it.
pub fn write(
    out: &mut Vec<u8>,
    frame: &[u8],
    packet: &Packet,
    from: Addr,
    reply: &Reply,
    error: Error,
) -> Option<()> {
    let v4 = packet.src.is_v4();
    let end = packet.l3 as usize + packet.l3_len as usize;
    let packet_bytes = frame.get(packet.l3 as usize..end)?;
    let quote = packet_bytes.get(..packet_bytes.len().min(if v4 { QUOTE_V4 } else { QUOTE_V6 }))?;
    let (kind, code, info) = match (error, v4) {
        (Error::TimeExceeded, true) => (11, 0, 0),
        (Error::TimeExceeded, false) => (3, 0, 0),
        (Error::TooBig { mtu }, true) => (3, 4, u32::from(mtu)),
        (Error::TooBig { mtu }, false) => (2, 0, u32::from(mtu)),
        (Error::PortUnreachable, true) => (3, 3, 0),
        (Error::PortUnreachable, false) => (1, 4, 0),
        (Error::HostUnreachable, true) => (3, 1, 0),
        (Error::HostUnreachable, false) => (1, 3, 0),
    };
    let [a, b, c, d] = info.to_be_bytes();
    let header = [kind, code, 0, 0, a, b, c, d];
    reply.ip(out, from, packet.src, icmp_of(from), TTL, header.len() + quote.len());
    icmp_message(out, from, packet.src, [&header, quote]);
    Some(())
}

/// Whether an ICMP type is an error that concerns the two ends of a connection: redirects are for the link, and source
/// quench is no more (RFC 6633).
#[must_use]
pub const fn is_for_ends(protocol: u8, kind: u8) -> bool {
    match protocol {
        super::ICMPV4 => matches!(kind, 3 | 11 | 12),
        super::ICMPV6 => matches!(kind, 1..=4),
        _ => false,
    }
}

/// Whether an ICMP type is an error of this protocol: errors are never sent about these.
#[must_use]
pub const fn is_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        super::ICMPV4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        super::ICMPV6 => kind < 128,
        _ => false,
    }
}
