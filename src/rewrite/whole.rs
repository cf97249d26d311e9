//! The translation of whole packets without options, whose headers have one shape: each field is written at its fixed place.

use super::{Ends, TTL_DELTA};
use crate::conntrack::{Direction, Entry};
use crate::parse::Whole;
use crate::wire::checksum::{apply, apply_udp};

/// Makes a packet of a connection that [is plain](Entry::is_plain) that of its other side; `None`, and nothing worth sending, where
/// the bytes are not what the parser saw.
#[inline(always)]
pub fn translate_plain(bytes: &mut [u8], packet: &Whole, entry: &Entry, direction: Direction) -> Option<()> {
    let (addresses, ports) = entry.goes_v4(direction);
    let [l3_delta, l4_delta] = entry.delta(direction);
    let ip = bytes.get_mut(usize::from(packet.l3)..)?;
    let l4 = v4(ip, packet.ttl, addresses, l3_delta)?;
    upper(l4, packet.is_tcp, ports, l4_delta)
}

/// The same for any connection: makes it a packet between these ends, in the same family.
#[inline]
pub fn translate_whole(
    bytes: &mut [u8],
    packet: &Whole,
    ((src, sport), (dst, dport)): Ends,
    [l3_delta, l4_delta]: [u16; 2],
) -> Option<()> {
    let ip = bytes.get_mut(usize::from(packet.l3)..)?;
    let l4 = if packet.is_v4 {
        v4(ip, packet.ttl, (src.0 as u64) << 32 | u64::from(dst.0 as u32), l3_delta)?
    } else {
        let (header, l4) = ip.split_first_chunk_mut::<40>()?;
        header[7] = packet.ttl.wrapping_sub(1);
        header[8..24].copy_from_slice(&src.v6_octets());
        header[24..40].copy_from_slice(&dst.v6_octets());
        l4
    };
    upper(l4, packet.is_tcp, u32::from(sport) << 16 | u32::from(dport), l4_delta)
}

#[inline(always)]
fn v4(ip: &mut [u8], ttl: u8, addresses: u64, delta: u16) -> Option<&mut [u8]> {
    let (header, l4) = ip.split_first_chunk_mut::<20>()?;
    header[8] = ttl.wrapping_sub(1);
    let sum = apply_both(u16::from_be_bytes([header[10], header[11]]), delta, TTL_DELTA);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header[12..20].copy_from_slice(&addresses.to_be_bytes());
    Some(l4)
}

#[inline(always)]
fn upper(l4: &mut [u8], is_tcp: bool, ports: u32, delta: u16) -> Option<()> {
    if is_tcp {
        let header: &mut [u8; 18] = l4.first_chunk_mut()?;
        header[..4].copy_from_slice(&ports.to_be_bytes());
        let sum = apply(u16::from_be_bytes([header[16], header[17]]), delta);
        header[16..].copy_from_slice(&sum.to_be_bytes());
    } else {
        let header: &mut [u8; 8] = l4.first_chunk_mut()?;
        header[..4].copy_from_slice(&ports.to_be_bytes());
        let sum = apply_udp(u16::from_be_bytes([header[6], header[7]]), delta);
        header[6..].copy_from_slice(&sum.to_be_bytes());
    }
    Some(())
}

/// [`apply`] of two deltas at once.
#[inline(always)]
const fn apply_both(checksum: u16, a: u16, b: u16) -> u16 {
    let sum = !checksum as u32 + a as u32 + b as u32;
    // At most two carries are above the low half, and adding them makes at most one more.
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_deltas_at_once_are_one_after_the_other() {
        let interesting = [0, 1, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfefe, 0xfeff, 0xff00, 0xfffe, 0xffff];
        for checksum in interesting {
            for a in interesting {
                for b in interesting {
                    assert_eq!(apply_both(checksum, a, b), apply(apply(checksum, a), b));
                }
            }
        }
    }
}
