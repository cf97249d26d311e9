//! What the engine says itself: ARP, neighbour discovery and echo for its own addresses and VIPs, ICMP errors, and resets.
//!
//! Everything here writes a whole frame into a buffer that the caller keeps, so that nothing is allocated for a packet.

pub mod arp;
pub mod echo;
pub mod icmp;
pub mod nd;
pub mod reset;

use crate::addr::{Addr, Mac};
use crate::wire::checksum;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// TTL and hop limit of what the engine originates (IANA's recommended default).
const TTL: u8 = 64;

/// Starts a frame: addresses, the port's VLAN tag if it has one, `EtherType`.
fn ethernet(out: &mut Vec<u8>, dst: Mac, src: Mac, vlan: u16, ethertype: u16) {
    out.clear();
    out.extend_from_slice(&dst.0);
    out.extend_from_slice(&src.0);
    if vlan != 0 {
        out.extend_from_slice(&0x8100_u16.to_be_bytes());
        out.extend_from_slice(&vlan.to_be_bytes());
    }
    out.extend_from_slice(&ethertype.to_be_bytes());
}

/// Who a reply goes to, on the link that the packet came in by.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The station that sent the packet.
    pub to: Mac,
    /// The port's MAC.
    pub from: Mac,
    /// The port's VLAN.
    pub vlan: u16,
}

impl Reply {
    /// Starts the reply to `frame`, which came in by a port with this MAC and VLAN.
    #[must_use]
    pub fn to(frame: &[u8], mac: Mac, vlan: u16) -> Option<Self> {
        let to = Mac(*frame.get(6..)?.first_chunk()?);
        (!to.is_group()).then_some(Self { to, from: mac, vlan })
    }

    /// Ethernet and IP headers for `payload` bytes of `protocol`, checksum and all; the family is that of the addresses.
    fn ip(&self, out: &mut Vec<u8>, src: Addr, dst: Addr, protocol: u8, hops: u8, payload: usize) {
        let ethertype = if src.is_v4() { IPV4 } else { IPV6 };
        ethernet(out, self.to, self.from, self.vlan, ethertype);
        ip_header(out, src, dst, protocol, hops, payload);
    }
}

fn ip_header(out: &mut Vec<u8>, src: Addr, dst: Addr, protocol: u8, hops: u8, payload: usize) {
    let payload = payload as u16;
    if src.is_v4() {
        let mut header = [0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(payload + 20).to_be_bytes());
        header[6] = 0x40; // don't fragment, so the id may be 0 (RFC 6864 §4)
        header[8] = hops;
        header[9] = protocol;
        header[12..16].copy_from_slice(&src.v4_octets());
        header[16..20].copy_from_slice(&dst.v4_octets());
        let sum = checksum::checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&header);
    } else {
        let mut header = [0; 40];
        header[0] = 0x60;
        header[4..6].copy_from_slice(&payload.to_be_bytes());
        header[6] = protocol;
        header[7] = hops;
        header[8..24].copy_from_slice(&src.v6_octets());
        header[24..40].copy_from_slice(&dst.v6_octets());
        out.extend_from_slice(&header);
    }
}

/// Appends an ICMP message of the family's protocol, with its checksum.
fn icmp_message(out: &mut Vec<u8>, src: Addr, dst: Addr, parts: [&[u8]; 2]) {
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    let message = &out[start..];
    let sum =
        if src.is_v4() { checksum::checksum(message) } else { checksum::pseudo(src, dst, ICMPV6, message) };
    out[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
}

/// IANA protocol numbers.
const ICMPV4: u8 = 1;
const ICMPV6: u8 = 58;

const fn icmp_of(addr: Addr) -> u8 {
    if addr.is_v4() { ICMPV4 } else { ICMPV6 }
}
