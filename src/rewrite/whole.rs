//! The translation of whole packets without options, whose headers have one shape: each field is written at its fixed place.

use super::{End, TTL_DELTA};
use crate::addr::Addr;
use crate::conntrack::{Direction, Flow};
use crate::parse::Whole;
use crate::wire::checksum::{apply, apply_udp};

/// What the endpoint sees: as whom the packets come, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sides {
    /// The client, or a SNAT address and port.
    pub near: End,
    /// The endpoint, or, where that is not translated, the VIP.
    pub far: End,
}

/// Makes a packet of `flow` that of its other side, in the same family; `None`, and nothing worth sending, where the bytes are not
/// what the parser saw.
#[inline(always)]
pub fn translate_whole(
    bytes: &mut [u8],
    packet: &Whole,
    flow: &Flow,
    sides: &Sides,
    direction: Direction,
) -> Option<()> {
    let Sides { near, far } = *sides;
    let original = matches!(direction, Direction::Original);
    let [l3_delta, l4_delta] = flow.delta[direction as usize];
    let ip = bytes.get_mut(usize::from(packet.l3)..)?;
    // Directions come in no order: both sides are written, and no branch taken on them.
    let sport = if original { near.1 } else { flow.vip_port };
    let dport = if original { far.1 } else { flow.client_port };
    let l4 = if packet.is_v4() {
        let low = |addr: Addr| addr.0 as u32;
        let src = if original { low(near.0) } else { low(flow.vip) };
        let dst = if original { low(far.0) } else { low(flow.client) };
        let (header, l4) = ip.split_first_chunk_mut::<20>()?;
        header[8] = packet.ttl.wrapping_sub(1);
        let sum = apply(apply(u16::from_be_bytes([header[10], header[11]]), l3_delta), TTL_DELTA);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header[12..16].copy_from_slice(&src.to_be_bytes());
        header[16..20].copy_from_slice(&dst.to_be_bytes());
        l4
    } else {
        let src = if original { near.0 } else { flow.vip };
        let dst = if original { far.0 } else { flow.client };
        let (header, l4) = ip.split_first_chunk_mut::<40>()?;
        header[7] = packet.ttl.wrapping_sub(1);
        header[8..24].copy_from_slice(&src.v6_octets());
        header[24..40].copy_from_slice(&dst.v6_octets());
        l4
    };
    let header: &mut [u8; 8] = l4.first_chunk_mut()?;
    header[..2].copy_from_slice(&sport.to_be_bytes());
    header[2..4].copy_from_slice(&dport.to_be_bytes());
    if packet.is_tcp {
        let sum: &mut [u8; 2] = l4.get_mut(16..)?.first_chunk_mut()?;
        *sum = apply(u16::from_be_bytes(*sum), l4_delta).to_be_bytes();
    } else {
        let sum = apply_udp(u16::from_be_bytes([header[6], header[7]]), l4_delta);
        header[6..].copy_from_slice(&sum.to_be_bytes());
    }
    Some(())
}
