//! Every checksum of a frame, computed from scratch and in the plainest way: what the data path's arithmetic is held against.

use crate::wire::ethernet::{Ethernet, ethertype};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{icmpv4, icmpv6, protocol};

/// Checks the checksums of a frame: IPv4 header, TCP, UDP, SCTP, ICMP, and those of the packet that an ICMP error quotes as far
/// as it is there. Fragments are looked at no further than IP. ARP and unknown protocols have none and are right.
///
/// # Errors
/// What is wrong, with the value found and the right one, or why the frame cannot be read.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let eth = Ethernet::new_checked(frame).map_err(|e| format!("Ethernet: {e}"))?;
    match eth.ethertype() {
        ethertype::IPV4 => ipv4(eth.payload(), false),
        ethertype::IPV6 => ipv6(eth.payload(), false),
        _ => Ok(()),
    }
}

fn ipv4(bytes: &[u8], quoted: bool) -> Result<(), String> {
    let (header_len, src, dst, number, fragment, l4);
    match Ipv4::new_checked(bytes) {
        Ok(ip) => {
            header_len = ip.header_len();
            (src, dst, number) = (ip.src().v4_octets(), ip.dst().v4_octets(), ip.protocol());
            (fragment, l4) = (ip.is_fragment(), Some(ip.payload()));
        }
        // A quote may be cut anywhere behind the header.
        Err(_) if quoted && bytes.len() >= 20 && bytes.len() >= usize::from(bytes[0] & 15) * 4 => {
            header_len = usize::from(bytes[0] & 15) * 4;
            (src, dst, number, fragment, l4) = ([0; 4], [0; 4], bytes[9], false, None);
        }
        Err(e) => return Err(format!("IPv4: {e}")),
    }
    internet("IPv4 header", &bytes[..header_len], 10, &[])?;
    match l4 {
        Some(l4) if !fragment => {
            let len = (l4.len() as u16).to_be_bytes();
            let pseudo = [&src[..], &dst, &[0, number], &len].concat();
            layer4(number, protocol::ICMPV4, &pseudo, l4, quoted)
        }
        _ => Ok(()),
    }
}

fn ipv6(bytes: &[u8], quoted: bool) -> Result<(), String> {
    let ip = match Ipv6::new_checked(bytes) {
        Ok(ip) => ip,
        Err(_) if quoted => return Ok(()),
        Err(e) => return Err(format!("IPv6: {e}")),
    };
    let upper = ip.upper().map_err(|e| format!("IPv6 extension headers: {e}"))?;
    if upper.fragment.is_some() {
        return Ok(());
    }
    let l4 = &ip.payload()[upper.offset..];
    let len = (l4.len() as u32).to_be_bytes();
    let (src, dst) = (ip.src().v6_octets(), ip.dst().v6_octets());
    let pseudo = [&src[..], &dst, &len, &[0, 0, 0, upper.protocol]].concat();
    layer4(upper.protocol, protocol::ICMPV6, &pseudo, l4, quoted)
}

fn layer4(number: u8, icmp: u8, pseudo: &[u8], l4: &[u8], quoted: bool) -> Result<(), String> {
    match number {
        protocol::TCP => internet("TCP", l4, 16, pseudo),
        protocol::UDP => {
            // The datagram may be shorter than the packet, and the pseudo header says so too (RFC 768).
            let len = field(l4, 4).ok_or("UDP: too short")?;
            let datagram = l4.get(..len.into()).ok_or("UDP: length beyond the end")?;
            let mut pseudo = pseudo.to_vec();
            let at = if icmp == protocol::ICMPV4 { 10 } else { 34 };
            pseudo[at..at + 2].copy_from_slice(&len.to_be_bytes());
            match field(datagram, 6) {
                Some(0) if icmp == protocol::ICMPV4 => Ok(()),
                Some(0) => Err("UDP: no checksum, which IPv6 forbids (RFC 8200 §8.1)".to_owned()),
                _ => internet("UDP", datagram, 6, &pseudo),
            }
        }
        protocol::SCTP => sctp(l4),
        _ if number == icmp => {
            internet("ICMP", l4, 2, if icmp == protocol::ICMPV6 { pseudo } else { &[] })?;
            let (v4, kind) = (icmp == protocol::ICMPV4, l4[0]);
            let error = if v4 { icmpv4::is_error(kind) } else { icmpv6::is_error(kind) };
            let inner = l4.get(8..).unwrap_or_default();
            match (error && !quoted, v4) {
                (false, _) => Ok(()),
                (true, true) => ipv4(inner, true).map_err(|e| format!("quoted {e}")),
                (true, false) => ipv6(inner, true).map_err(|e| format!("quoted {e}")),
            }
        }
        _ => Ok(()),
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The Internet checksum at `at`, summed word by word. 0 and 0xffff are the same to a receiver, but only one of them is
/// what a sender computes: 0xffff for UDP, 0 for the others.
fn internet(what: &str, bytes: &[u8], at: usize, pseudo: &[u8]) -> Result<(), String> {
    let found = field(bytes, at).ok_or_else(|| format!("{what}: too short"))?;
    let mut zeroed = bytes.to_vec();
    zeroed[at..at + 2].fill(0);
    let mut sum: u32 = [pseudo, &zeroed]
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let mut right = !(sum as u16);
    if what == "UDP" && right == 0 {
        right = 0xffff;
    }
    if found == right {
        Ok(())
    } else {
        Err(format!("{what} checksum is {found:#06x}, should be {right:#06x}"))
    }
}

/// CRC32c bit by bit (RFC 9260 appendix A).
fn sctp(packet: &[u8]) -> Result<(), String> {
    let found: [u8; 4] =
        *packet.get(8..).and_then(<[u8]>::first_chunk).ok_or_else(|| "SCTP: too short".to_owned())?;
    let mut zeroed = packet.to_vec();
    zeroed[8..12].fill(0);
    let mut crc = !0u32;
    for b in zeroed {
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    let (found, right) = (u32::from_le_bytes(found), !crc);
    if found == right {
        Ok(())
    } else {
        Err(format!("SCTP CRC32c is {found:#010x}, should be {right:#010x}"))
    }
}
