//! A frame as a station reads it: what is not for it to believe is refused, checksums first.

use crate::addr::Addr;
use crate::wire::arp::Arp;
use crate::wire::ethernet::{Ethernet, ethertype};
use crate::wire::icmp::Icmp;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::sctp::Sctp;
use crate::wire::tcp::Tcp;
use crate::wire::udp::Udp;
use crate::wire::{checksum, crc32c, protocol};

/// What a frame is.
pub(super) enum Frame<'a> {
    Arp(Arp<'a>),
    Ip(Packet<'a>),
}

/// An IP packet with all of its checksums right.
pub(super) struct Packet<'a> {
    pub src: Addr,
    pub dst: Addr,
    pub hops: u8,
    /// IP header and everything after it, without padding.
    pub l3: &'a [u8],
    /// What it carries, as bytes.
    pub payload: &'a [u8],
    pub body: Body<'a>,
}

/// What an IP packet carries.
pub(super) enum Body<'a> {
    Tcp(Tcp<'a>),
    Udp(Udp<'a>),
    Sctp(Sctp<'a>),
    Icmp(Icmp<'a>),
}

/// Reads a frame. `None` where anything is wrong with it, or it is of a protocol that nobody here speaks.
pub(super) fn read(frame: &[u8]) -> Option<Frame<'_>> {
    let eth = Ethernet::new_checked(frame).ok()?;
    let bytes = eth.payload();
    match eth.ethertype() {
        ethertype::ARP => Arp::new_checked(bytes).ok().map(Frame::Arp),
        ethertype::IPV4 => {
            let ip = Ipv4::new_checked(bytes).ok()?;
            if !ip.verify_checksum() || ip.is_fragment() {
                return None;
            }
            let l3 = bytes.get(..ip.total_len())?;
            packet(ip.src(), ip.dst(), ip.ttl(), l3, ip.protocol(), ip.payload()).map(Frame::Ip)
        }
        ethertype::IPV6 => {
            let ip = Ipv6::new_checked(bytes).ok()?;
            let l3 = bytes.get(..ip.total_len())?;
            packet(ip.src(), ip.dst(), ip.hop_limit(), l3, ip.next_header(), ip.payload()).map(Frame::Ip)
        }
        _ => None,
    }
}

fn packet<'a>(
    src: Addr,
    dst: Addr,
    hops: u8,
    l3: &'a [u8],
    number: u8,
    payload: &'a [u8],
) -> Option<Packet<'a>> {
    let right = match number {
        protocol::SCTP => crc32c::verify(payload),
        protocol::ICMPV4 => checksum::checksum(payload) == 0,
        _ => checksum::pseudo(src, dst, number, payload) == 0,
    };
    let body = match number {
        _ if !right => return None,
        protocol::TCP => Body::Tcp(Tcp::new_checked(payload).ok()?),
        protocol::UDP => Body::Udp(Udp::new_checked(payload).ok()?),
        protocol::SCTP => Body::Sctp(Sctp::new_checked(payload).ok()?),
        protocol::ICMPV4 | protocol::ICMPV6 => Body::Icmp(Icmp::new_checked(payload).ok()?),
        _ => return None,
    };
    Some(Packet { src, dst, hops, l3, payload, body })
}

/// What an ICMP error says of the packet that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quoted {
    pub protocol: u8,
    pub src: (Addr, u16),
    pub dst: (Addr, u16),
}

/// Reads the packet that an ICMP error quotes, of which the first eight bytes of L4 are there.
pub(super) fn quoted(l3: &[u8]) -> Option<Quoted> {
    let (protocol, src, dst, l4) = match l3.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = l3.first_chunk()?;
            let l4 = l3.get(usize::from(header[0] & 15) * 4..)?;
            let addr = |at: usize| Some(Addr::v4(*header.get(at..)?.first_chunk()?));
            (header[9], addr(12)?, addr(16)?, l4)
        }
        6 => {
            let header: &[u8; 40] = l3.first_chunk()?;
            let addr = |at: usize| Some(Addr::v6(*header.get(at..)?.first_chunk()?));
            (header[6], addr(8)?, addr(24)?, l3.get(40..)?)
        }
        _ => return None,
    };
    let &[a, b, c, d] = l4.first_chunk()?;
    let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Quoted { protocol, src: (src, sport), dst: (dst, dport) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{ip, l3};

    #[test]
    fn a_flipped_bit_is_noticed() {
        let frames = [
            ip("10.0.0.1", "10.0.0.2").tcp(1, 2).ack(3).payload(b"abc").padded(),
            ip("2001:db8::1", "2001:db8::2").udp(1, 2).payload(b"abcd").frame(),
            ip("10.0.0.1", "10.0.0.2").sctp(1, 2).tag(3).cookie_ack().frame(),
            ip("2001:db8::1", "2001:db8::2").echo_request(1, 2).frame(),
        ];
        for frame in frames {
            assert!(matches!(read(&frame), Some(Frame::Ip(_))));
            for at in 14..14 + l3(&frame).len() {
                let mut broken = frame.clone();
                broken[at] ^= 0x10;
                // IPv6 has no checksum over the hop limit and the traffic class.
                if frame[12] == 0x08 || !(14..18).contains(&at) && at != 21 {
                    assert!(read(&broken).is_none(), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn quotes_are_read() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            let asked = ip(a, b).udp(4000, 53).payload(b"x").frame();
            let error = ip(b, a).port_unreachable(l3(&asked)).frame();
            let Some(Frame::Ip(Packet { body: Body::Icmp(icmp), .. })) = read(&error) else { panic!("{a}") };
            let addr = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
            let about = Quoted { protocol: 17, src: (addr(a), 4000), dst: (addr(b), 53) };
            assert_eq!(quoted(icmp.payload()), Some(about));
        }
    }
}
