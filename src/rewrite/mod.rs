//! The bytes of a packet made those of its connection's other side, checksums kept right by difference (RFC 1624).

mod fragment;
mod full_nat;
mod icmp_error;
mod whole;

pub use fragment::{Rest, fragment};
pub use full_nat::{
    End, Ends, Renewed, deltas_between, ends, error_ends, other_family, quoted_ends, replace_addresses,
    replace_ports, translate_error,
};
pub use icmp_error::translate_icmp_error;
pub use whole::{Onto, OntoV4, OntoV6, deltas_v4, translate_whole};

use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Direction, Flow};
use crate::parse::Packet;
use crate::pipeline::{DropReason, Frame};
use crate::wire::checksum::{add, apply, apply_udp, sum_addr};
use crate::wire::crc32c;

/// Byte offsets in the headers that a rewrite touches.
mod at {
    pub const V4_TTL: usize = 8;
    pub const V4_CHECKSUM: usize = 10;
    pub const V4_SRC: usize = 12;
    pub const V4_DST: usize = 16;
    pub const V6_HOP_LIMIT: usize = 7;
    pub const V6_SRC: usize = 8;
    pub const V6_DST: usize = 24;
    pub const SPORT: usize = 0;
    pub const DPORT: usize = 2;
    pub const UDP_CHECKSUM: usize = 6;
    pub const TCP_CHECKSUM: usize = 16;
    pub const SCTP_CHECKSUM: usize = 8;
}

/// What one less in the TTL, the high byte of a 16-bit word, adds to the header checksum.
const TTL_DELTA: u16 = !0x0100;

/// Which address of a packet is translated, and to what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Translation {
    source: bool,
    from: (Addr, u16),
    to: (Addr, u16),
}

impl Translation {
    /// DNAT: towards the endpoint the destination becomes the endpoint, back the source becomes the VIP.
    #[inline]
    const fn of(flow: &Flow, direction: Direction) -> Self {
        let vip = (flow.vip, flow.vip_port);
        let endpoint = (flow.endpoint, flow.endpoint_port);
        match direction {
            Direction::Original => Self { source: false, from: vip, to: endpoint },
            Direction::Reply => Self { source: true, from: endpoint, to: vip },
        }
    }

    /// What the translation adds to the IPv4 header checksum, and to the L4 checksum.
    fn deltas(&self) -> [u16; 2] {
        let ((from, from_port), (to, to_port)) = (self.from, self.to);
        let (old, new) = (sum_addr(from), sum_addr(to));
        [add(!old, new), add(!add(old, from_port), add(new, to_port))]
    }
}

/// The checksum deltas for [`Flow::delta`].
#[must_use]
pub fn deltas(flow: &Flow) -> [u16; 2] {
    Translation::of(flow, Direction::Original).deltas()
}

/// Whether a packet of `flow` may be translated: where its SCTP CRC32c has to be computed anew because a port changes, it
/// must be right, or a broken packet would be made to look whole.
#[inline]
#[must_use]
pub fn is_intact(frame: &[u8], packet: &Packet, flow: &Flow) -> bool {
    let end = packet.l3 as usize + packet.l3_len as usize;
    !changes_crc(flow) || frame.get(packet.l4 as usize..end).is_some_and(crc32c::verify)
}

/// Translates a packet of `flow` that goes in `direction` and [is intact](is_intact), and takes one from its TTL, which
/// must be above 1. `offload` is the length of the L2 header that it will have, where the device may be asked to compute an
/// SCTP CRC32c.
///
/// # Errors
/// [`DropReason::FrameTooShort`] where the bytes are not what the parser saw.
#[inline]
pub fn translate<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    flow: &Flow,
    direction: Direction,
    offload: Option<usize>,
) -> Result<(), DropReason> {
    let Translation { source, to, .. } = Translation::of(flow, direction);
    let [l3_delta, l4_delta] = flow.delta_by(direction);
    let (l3, l4) = (packet.l3 as usize, packet.l4 as usize);
    let end = l3 + packet.l3_len as usize;
    let bytes = frame.data_mut();
    rewrite_ip(bytes, l3, source, to.0, l3_delta).ok_or(DropReason::FrameTooShort)?;
    let port = l4 + if source { at::SPORT } else { at::DPORT };
    put(bytes, port, to.1.to_be_bytes()).ok_or(DropReason::FrameTooShort)?;
    match flow.protocol {
        Protocol::Tcp => update(bytes, l4 + at::TCP_CHECKSUM, |sum| apply(sum, l4_delta)),
        Protocol::Udp => update(bytes, l4 + at::UDP_CHECKSUM, |sum| apply_udp(sum, l4_delta)),
        Protocol::Sctp if !changes_crc(flow) => Some(()),
        Protocol::Sctp if offload.is_some_and(|l2| frame.offload_sctp_crc(l2, l4 - l3)) => Some(()),
        Protocol::Sctp => set_sctp_crc(frame.data_mut(), l4, end),
    }
    .ok_or(DropReason::FrameTooShort)
}

/// Translates a fragment without L4 header of a packet of `flow`, as [`translate`] does with the first one.
///
/// # Errors
/// [`DropReason::FragmentSctp`].
pub fn translate_piece<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    flow: &Flow,
    direction: Direction,
) -> Result<(), DropReason> {
    if changes_crc(flow) {
        return Err(DropReason::FragmentSctp);
    }
    let Translation { source, to, .. } = Translation::of(flow, direction);
    let [l3_delta, _] = flow.delta_by(direction);
    rewrite_ip(frame.data_mut(), packet.l3 as usize, source, to.0, l3_delta).ok_or(DropReason::FrameTooShort)
}

/// Whether a translation changes what an SCTP packet's CRC32c covers, which no fragment alone can be mended for.
#[must_use]
pub fn changes_crc(flow: &Flow) -> bool {
    flow.protocol == Protocol::Sctp && (flow.form.is_full_nat() || flow.vip_port != flow.endpoint_port)
}

/// Replaces the source or destination address and takes one from the TTL.
#[inline]
fn rewrite_ip(bytes: &mut [u8], l3: usize, source: bool, to: Addr, l3_delta: u16) -> Option<()> {
    if to.is_v4() {
        put(bytes, l3 + if source { at::V4_SRC } else { at::V4_DST }, to.v4_octets())?;
        let ttl = bytes.get_mut(l3 + at::V4_TTL)?;
        *ttl = ttl.wrapping_sub(1);
        update(bytes, l3 + at::V4_CHECKSUM, |sum| apply(apply(sum, l3_delta), TTL_DELTA))
    } else {
        put(bytes, l3 + if source { at::V6_SRC } else { at::V6_DST }, to.v6_octets())?;
        let hops = bytes.get_mut(l3 + at::V6_HOP_LIMIT)?;
        *hops = hops.wrapping_sub(1);
        Some(())
    }
}

fn set_sctp_crc(bytes: &mut [u8], l4: usize, end: usize) -> Option<()> {
    let segment = bytes.get_mut(l4..end)?;
    put(segment, at::SCTP_CHECKSUM, [0; 4])?;
    let crc = crc32c::checksum(segment);
    put(segment, at::SCTP_CHECKSUM, crc.to_le_bytes())
}

#[inline]
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

#[inline]
fn update(bytes: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) -> Option<()> {
    let field: &mut [u8; 2] = bytes.get_mut(at..)?.first_chunk_mut()?;
    *field = change(u16::from_be_bytes(*field)).to_be_bytes();
    Some(())
}
