//! Echo replies (RFC 792, RFC 4443 §4.2).

use super::{Reply, TTL, icmp_message, icmp_of};
use crate::parse::Packet;

/// Whether an ICMP type is an echo request of this protocol.
#[must_use]
pub const fn is_request(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (1, 8) | (58, 128))
}

/// Writes the reply to the echo request in `frame`. `None` where it has no ICMP header.
pub fn reply(out: &mut Vec<u8>, frame: &[u8], packet: &Packet, reply: &Reply) -> Option<()> {
    let end = packet.l3 as usize + packet.l3_len as usize;
    let (header, data) = frame.get(packet.l4 as usize..end)?.split_first_chunk::<8>()?;
    let kind = if packet.src.is_v4() { 0 } else { 129 };
    let header = [kind, 0, 0, 0, header[4], header[5], header[6], header[7]];
    let (src, dst) = (packet.dst, packet.src);
    reply.ip(out, src, dst, icmp_of(src), TTL, header.len() + data.len());
    icmp_message(out, src, dst, [&header, data]);
    Some(())
}
