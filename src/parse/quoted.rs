//! The packet that an ICMP error quotes: enough of it to find its connection (RFC 792; RFC 4443 §3).

use super::Packet;
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::Tuple;
use crate::wire::protocol::{FRAGMENT, IPV4_IN_IP, IPV6_IN_IP, UDP};
use crate::wire::{ipv4, ipv6, udp};

/// Extension headers that are skipped in a quoted IPv6 packet.
const MAX_EXTENSIONS: usize = 4;
/// ICMP header before the quoted packet.
const ICMP_HEADER: usize = 8;

/// A quoted packet. Offsets count from the start of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Its 5-tuple.
    pub tuple: Tuple,
    /// Start of its IP header.
    pub l3: usize,
    /// Start of its L4 header, of which at least the ports are there.
    pub l4: usize,
}

/// Reads the packet that the ICMP error `packet` quotes. `None` where it is cut too short, of the other family, a later
/// fragment, or of a protocol without connections.
#[must_use]
pub fn quoted(frame: &[u8], packet: &Packet) -> Option<Quoted> {
    let end = packet.l3 as usize + packet.l3_len as usize;
    let l3 = packet.l4 as usize + ICMP_HEADER;
    let bytes = frame.get(..end)?.get(l3..)?;
    let (src, dst, number, header_len) = if packet.src.is_v4() { ipv4(bytes)? } else { ipv6(bytes)? };
    let protocol = Protocol::ALL.into_iter().find(|p| p.number() == number)?;
    let ports: &[u8; 4] = bytes.get(header_len..)?.first_chunk()?;
    let [a, b, c, d] = *ports;
    let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Quoted { tuple: Tuple { src, dst, sport, dport, protocol }, l3, l4: l3 + header_len })
}

/// A quoted packet that has another one in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunneled {
    /// Where the outer packet was sent to.
    pub to: Addr,
    /// Its protocol: IP in IP, or UDP to this port.
    pub gue_port: Option<u16>,
    /// The inner packet.
    pub inner: Quoted,
    /// As much of it as is quoted.
    pub inner_len: usize,
}

/// Reads the inner packet where the one that the ICMP error `packet` quotes is a tunnel's: IP in IP, or GUE of variant 1. `None`
/// also where it is cut before the inner packet's ports.
#[must_use]
pub fn tunneled(frame: &[u8], packet: &Packet) -> Option<Tunneled> {
    let end = packet.l3 as usize + packet.l3_len as usize;
    let l3 = packet.l4 as usize + ICMP_HEADER;
    let bytes = frame.get(..end)?.get(l3..)?;
    let (_, to, number, header_len) = if packet.src.is_v4() { ipv4(bytes)? } else { ipv6(bytes)? };
    let (gue_port, inner_at) = match number {
        IPV4_IN_IP | IPV6_IN_IP => (None, header_len),
        UDP => {
            let port = bytes.get(header_len..)?.get(udp::field::DPORT)?.first_chunk()?;
            (Some(u16::from_be_bytes(*port)), header_len + udp::HEADER_LEN)
        }
        _ => return None,
    };
    let inner = bytes.get(inner_at..)?;
    let v4 = match (number, inner.first()? >> 4) {
        (IPV4_IN_IP | UDP, 4) => true,
        (IPV6_IN_IP | UDP, 6) => false,
        _ => return None,
    };
    let (src, dst, number, header_len) = if v4 { ipv4(inner)? } else { ipv6(inner)? };
    let len = if v4 {
        u16::from_be_bytes(*inner.get(ipv4::field::LENGTH)?.first_chunk()?).into()
    } else {
        ipv6::HEADER_LEN + usize::from(u16::from_be_bytes(*inner.get(ipv6::field::LENGTH)?.first_chunk()?))
    };
    let protocol = Protocol::ALL.into_iter().find(|p| p.number() == number)?;
    let [a, b, c, d] = *inner.get(header_len..)?.first_chunk()?;
    let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let l3 = l3 + inner_at;
    let tuple = Tuple { src, dst, sport, dport, protocol };
    let inner_len = inner.len().min(len);
    Some(Tunneled { to, gue_port, inner: Quoted { tuple, l3, l4: l3 + header_len }, inner_len })
}

fn ipv4(bytes: &[u8]) -> Option<(Addr, Addr, u8, usize)> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    if header[0] >> 4 != 4 || header_len < 20 || later_fragment {
        return None;
    }
    let (_, addresses) = header.split_last_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *addresses;
    Some((Addr::v4([a, b, c, d]), Addr::v4([e, f, g, h]), header[9], header_len))
}

fn ipv6(bytes: &[u8]) -> Option<(Addr, Addr, u8, usize)> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let src = Addr::v6(*header[8..].first_chunk()?);
    let dst = Addr::v6(*header[24..].first_chunk()?);
    let (mut next, mut at) = (header[6], 40);
    for _ in 0..=MAX_EXTENSIONS {
        // Hop-by-hop, routing and destination options: the same layout (RFC 8200 §4).
        if !matches!(next, 0 | 43 | FRAGMENT | 60) {
            return Some((src, dst, next, at));
        }
        let extension: &[u8; 4] = bytes.get(at..)?.first_chunk()?;
        let [following, units, high, low] = *extension;
        let len = if next == FRAGMENT { 8 } else { (usize::from(units) + 1) * 8 };
        let later_fragment = next == FRAGMENT && u16::from_be_bytes([high, low]) & 0xfff8 != 0;
        if later_fragment {
            return None;
        }
        next = following;
        at += len;
    }
    None
}
