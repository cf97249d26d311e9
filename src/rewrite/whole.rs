//! The translation of whole packets without options, whose headers have one shape: each field is written at its fixed place.

use super::{Ends, TTL_DELTA};
use crate::addr::Addr;
use crate::parse::Whole;
use crate::wire::checksum::{apply, apply_udp, fold};
use crate::wire::{ipv4, ipv6, raw, tcp};

/// What a whole packet is made when it goes on: other ends, and what those add to its checksums, which are as on the wire
/// (`wire::raw`), as ports are.
pub trait Onto {
    /// Writes that into a packet whose IP header starts at `L3`. `None`, and no change, where the frame ends before a TCP header would: a
    /// datagram without padding, or not what the parser saw.
    fn write<const L3: usize>(self, bytes: &mut [u8], packet: &Whole) -> Option<()>;
}

/// [`Onto`] other ends of IPv4.
#[derive(Clone, Copy, Debug)]
pub struct OntoV4 {
    /// Source and destination: addresses, as on the wire, and ports.
    pub ends: (u64, u32),
    /// To the header's checksum, and to the L4 checksum.
    pub deltas: [u16; 2],
}

impl Onto for OntoV4 {
    #[inline(always)]
    fn write<const L3: usize>(self, bytes: &mut [u8], packet: &Whole) -> Option<()> {
        // Now all bounds are known, and none is looked at again.
        if bytes.len() < L3 + ipv4::HEADER_LEN + tcp::HEADER_LEN {
            return None;
        }
        let Self { ends: (addresses, ports), deltas: [l3_delta, l4_delta] } = self;
        let l4 = v4(&mut bytes[L3..], packet.ttl, addresses, l3_delta)?;
        upper(l4, packet.is_tcp, ports, l4_delta)
    }
}

/// [`Onto`] other ends of IPv6.
#[derive(Clone, Copy, Debug)]
pub struct OntoV6 {
    /// Source and destination: addresses and ports.
    pub ends: ([Addr; 2], u32),
    /// To the L4 checksum.
    pub delta: u16,
}

impl Onto for OntoV6 {
    #[inline(always)]
    fn write<const L3: usize>(self, bytes: &mut [u8], packet: &Whole) -> Option<()> {
        // As above.
        if bytes.len() < L3 + ipv6::HEADER_LEN + tcp::HEADER_LEN {
            return None;
        }
        let Self { ends: (addresses, ports), delta } = self;
        let l4 = v6(&mut bytes[L3..], packet.ttl, addresses)?;
        upper(l4, packet.is_tcp, ports, delta)
    }
}

/// What replacing both ends of a packet of IPv4 by others adds to its header's checksum and to its L4 checksum; all as on the
/// wire (`wire::raw`).
#[inline(always)]
#[must_use]
pub const fn deltas_v4((addresses, ports): (u64, u32), (new_addresses, new_ports): (u64, u32)) -> [u16; 2] {
    // Summed as words of 32 bits, and folded once (RFC 1071 §2).
    const fn words(both: u64) -> u64 {
        (both & 0xffff_ffff) + (both >> 32)
    }
    let l3 = words(!addresses) + words(new_addresses);
    [fold(l3), fold(l3 + !ports as u64 + new_ports as u64)]
}

/// The same for any connection: makes it a packet between these ends, in the same family. The deltas are as checksums are on the
/// wire (`wire::raw`).
#[inline]
pub fn translate_whole(
    bytes: &mut [u8],
    packet: &Whole,
    ((src, sport), (dst, dport)): Ends,
    [l3_delta, l4_delta]: [u16; 2],
) -> Option<()> {
    let ip = bytes.get_mut(usize::from(packet.l3)..)?;
    let l4 = if packet.is_v4 {
        v4(ip, packet.ttl, raw::addresses(src.0 as u32, dst.0 as u32), l3_delta)?
    } else {
        v6(ip, packet.ttl, [src, dst])?
    };
    upper(l4, packet.is_tcp, raw::ports(sport, dport), l4_delta)
}

#[inline(always)]
fn v4(ip: &mut [u8], ttl: u8, addresses: u64, delta: u16) -> Option<&mut [u8]> {
    let (header, l4) = ip.split_first_chunk_mut::<20>()?;
    header[8] = ttl.wrapping_sub(1);
    let sum = apply(apply(u16::from_le_bytes([header[10], header[11]]), delta), raw::u16(TTL_DELTA));
    header[10..12].copy_from_slice(&sum.to_le_bytes());
    header[12..20].copy_from_slice(&addresses.to_le_bytes());
    Some(l4)
}

#[inline(always)]
fn v6(ip: &mut [u8], ttl: u8, [src, dst]: [Addr; 2]) -> Option<&mut [u8]> {
    let (header, l4) = ip.split_first_chunk_mut::<40>()?;
    header[7] = ttl.wrapping_sub(1);
    header[8..24].copy_from_slice(&src.v6_octets());
    header[24..40].copy_from_slice(&dst.v6_octets());
    Some(l4)
}

#[inline(always)]
fn upper(l4: &mut [u8], is_tcp: bool, ports: u32, delta: u16) -> Option<()> {
    if is_tcp {
        let header: &mut [u8; 18] = l4.first_chunk_mut()?;
        header[..4].copy_from_slice(&ports.to_le_bytes());
        let sum = apply(u16::from_le_bytes([header[16], header[17]]), delta);
        header[16..].copy_from_slice(&sum.to_le_bytes());
    } else {
        let header: &mut [u8; 8] = l4.first_chunk_mut()?;
        header[..4].copy_from_slice(&ports.to_le_bytes());
        let sum = apply_udp(u16::from_le_bytes([header[6], header[7]]), delta);
        header[6..].copy_from_slice(&sum.to_le_bytes());
    }
    Some(())
}
