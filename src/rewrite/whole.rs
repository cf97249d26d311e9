//! The translation of whole packets without options, whose headers have one shape: each field is written at its fixed place.

use std::hint::select_unpredictable;

use super::TTL_DELTA;
use crate::conntrack::{Direction, Flow};
use crate::parse::Whole;
use crate::wire::checksum::{add, apply, apply_udp};

/// As [`translate`](super::translate); `None`, and nothing worth sending, where the bytes are not what the parser saw.
#[inline(always)]
pub fn translate_whole(bytes: &mut [u8], packet: &Whole, flow: &Flow, direction: Direction) -> Option<()> {
    let original = matches!(direction, Direction::Original);
    let [l3_delta, l4_delta] = flow.delta[direction as usize];
    let ip = bytes.get_mut(usize::from(packet.l3)..)?;
    // Directions come in no order: what is written, and where, is selected, and no branch taken on them.
    let at = usize::from(original);
    let addr = select_unpredictable(original, &flow.endpoint, &flow.vip);
    let port = select_unpredictable(original, flow.endpoint_port, flow.vip_port);
    let l4 = if packet.is_v4() {
        let (header, l4) = ip.split_first_chunk_mut::<20>()?;
        header[8] = packet.ttl.wrapping_sub(1);
        let sum = apply(u16::from_be_bytes([header[10], header[11]]), add(l3_delta, TTL_DELTA));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        *header[12..].as_chunks_mut().0.get_mut(at)? = (addr.0 as u32).to_be_bytes();
        l4
    } else {
        let (header, l4) = ip.split_first_chunk_mut::<40>()?;
        header[7] = packet.ttl.wrapping_sub(1);
        *header[8..].as_chunks_mut().0.get_mut(at)? = addr.v6_octets();
        l4
    };
    let header: &mut [u8; 8] = l4.first_chunk_mut()?;
    *header[..4].as_chunks_mut().0.get_mut(at)? = port.to_be_bytes();
    if packet.is_tcp {
        let sum: &mut [u8; 2] = l4.get_mut(16..)?.first_chunk_mut()?;
        *sum = apply(u16::from_be_bytes(*sum), l4_delta).to_be_bytes();
    } else {
        let sum = apply_udp(u16::from_be_bytes([header[6], header[7]]), l4_delta);
        header[6..].copy_from_slice(&sum.to_be_bytes());
    }
    Some(())
}
