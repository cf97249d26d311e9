//! Checksums made right: no fuzzer guesses a checksum, and behind it is most of the code.

use pollux::addr::Addr;
use pollux::wire::ethernet::{Ethernet, ethertype};
use pollux::wire::ipv4::Ipv4;
use pollux::wire::ipv6::Ipv6;
use pollux::wire::{checksum, crc32c, icmpv4, icmpv6, protocol};

/// Makes every checksum of a frame right that the lengths in it let one find, those of the packet that an ICMP error quotes
/// included. A UDP datagram without a checksum stays without.
pub fn repair(frame: &mut [u8]) {
    let Ok(eth) = Ethernet::new_checked(frame) else { return };
    let (l3, kind) = (eth.header_len(), eth.ethertype());
    packet(&mut frame[l3..], kind == ethertype::IPV4, kind == ethertype::IPV6, false);
}

fn packet(bytes: &mut [u8], v4: bool, v6: bool, quoted: bool) {
    if v4 {
        ipv4(bytes, quoted);
    } else if v6 {
        ipv6(bytes, quoted);
    }
}

fn ipv4(bytes: &mut [u8], quoted: bool) {
    let header_len = bytes.first().map_or(0, |b| usize::from(b & 15) * 4);
    if header_len < 20 || bytes.len() < header_len {
        return;
    }
    let l4 = Ipv4::new_checked(bytes).ok().filter(|ip| !ip.is_fragment());
    let l4 = l4.map(|ip| (ip.protocol(), ip.src(), ip.dst(), ip.total_len()));
    set(&mut bytes[..header_len], 10, checksum::checksum);
    if let Some((number, src, dst, total_len)) = l4 {
        layer4(number, (src, dst), &mut bytes[header_len..total_len], quoted);
    }
}

fn ipv6(bytes: &mut [u8], quoted: bool) {
    let Ok(ip) = Ipv6::new_checked(bytes) else { return };
    let (src, dst, total_len) = (ip.src(), ip.dst(), ip.total_len());
    let Ok(upper) = ip.upper() else { return };
    let (number, fragment, start) =
        (upper.protocol, upper.fragment, total_len - ip.payload().len() + upper.offset);
    if fragment.is_none() && start <= total_len {
        layer4(number, (src, dst), &mut bytes[start..total_len], quoted);
    }
}

fn layer4(number: u8, (src, dst): (Addr, Addr), l4: &mut [u8], quoted: bool) {
    let v4 = src.is_v4();
    match number {
        protocol::TCP => set(l4, 16, |l4| checksum::pseudo(src, dst, number, l4)),
        protocol::UDP => {
            let Some([a, b, c, d]) = l4.get(4..8).map(|b| [b[0], b[1], b[2], b[3]]) else { return };
            let len = usize::from(u16::from_be_bytes([a, b]));
            if len >= 8 && len <= l4.len() && !(v4 && [c, d] == [0, 0]) {
                set(&mut l4[..len], 6, |l4| match checksum::pseudo(src, dst, number, l4) {
                    0 => 0xffff,
                    sum => sum,
                });
            }
        }
        protocol::SCTP if l4.len() >= 12 => {
            l4[8..12].fill(0);
            let crc = crc32c::checksum(l4);
            l4[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        protocol::ICMPV4 | protocol::ICMPV6 if v4 == (number == protocol::ICMPV4) && l4.len() >= 8 => {
            let error = if v4 { icmpv4::is_error(l4[0]) } else { icmpv6::is_error(l4[0]) };
            if error && !quoted {
                packet(&mut l4[8..], v4, !v4, true);
            }
            set(l4, 2, |l4| if v4 { checksum::checksum(l4) } else { checksum::pseudo(src, dst, number, l4) });
        }
        _ => {}
    }
}

/// Puts a checksum, computed with 0 in its place.
fn set(bytes: &mut [u8], at: usize, sum: impl FnOnce(&[u8]) -> u16) {
    if at + 2 <= bytes.len() {
        bytes[at..at + 2].fill(0);
        let sum = sum(bytes);
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
