//! Whole frames, described: `ip("10.0.0.1", "10.0.0.2").ttl(3).tcp(4000, 80).syn().frame()`.
//!
//! For fixtures, tests, fuzz seeds and the demo's traffic: it allocates, and panics on addresses that are none, so the data path
//! has no use for it. Checksums are right; what must be wrong is changed in the bytes.

mod icmp;
mod ip;
mod sctp;
#[cfg(test)]
pub mod strategy;
mod tcp;
mod udp;
mod verify;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use self::icmp::Icmp;
pub use self::ip::{Ip, Layer4, Packet, Raw};
pub use self::sctp::Sctp;
pub use self::tcp::Tcp;
pub use self::udp::Udp;
pub use self::verify::verify;

use super::arp;
use super::ethernet::{self, Ethernet, MIN_LEN, ethertype};
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use crate::addr::{Addr, Mac};

/// Source MAC of [`ip()`].
pub const SRC_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Destination MAC of [`ip()`].
pub const DST_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Starts a frame between two stations.
#[must_use]
pub const fn eth(src: Mac, dst: Mac) -> Ether {
    Ether { src, dst, vlan: None }
}

/// Starts an IP packet in a frame from [`SRC_MAC`] to [`DST_MAC`].
///
/// # Panics
/// As [`Ether::ip`].
#[must_use]
pub fn ip(src: impl IntoAddr, dst: impl IntoAddr) -> Ip {
    eth(SRC_MAC, DST_MAC).ip(src, dst)
}

/// The IP packet in `frame`, without Ethernet header, tag and padding; empty where there is no whole one. It is what an ICMP error
/// quotes, and its length what counts as bytes.
#[must_use]
pub fn l3(frame: &[u8]) -> &[u8] {
    let Ok(eth) = Ethernet::new_checked(frame) else { return &[] };
    let len = match eth.ethertype() {
        ethertype::IPV4 => Ipv4::new_checked(eth.payload()).map_or(0, |ip| ip.total_len()),
        ethertype::IPV6 => Ipv6::new_checked(eth.payload()).map_or(0, |ip| ip.total_len()),
        _ => 0,
    };
    eth.payload().get(..len).unwrap_or_default()
}

/// What is an address, or the text of one.
pub trait IntoAddr {
    /// The address.
    fn into_addr(self) -> Addr;
}

impl IntoAddr for Addr {
    fn into_addr(self) -> Addr {
        self
    }
}

impl IntoAddr for IpAddr {
    fn into_addr(self) -> Addr {
        self.into()
    }
}

impl IntoAddr for Ipv4Addr {
    fn into_addr(self) -> Addr {
        Addr::v4(self.octets())
    }
}

impl IntoAddr for Ipv6Addr {
    fn into_addr(self) -> Addr {
        Addr::v6(self.octets())
    }
}

impl IntoAddr for &str {
    fn into_addr(self) -> Addr {
        match self.parse::<IpAddr>() {
            Ok(ip) => ip.into(),
            Err(e) => panic!("{self}: {e}"),
        }
    }
}

/// An Ethernet header to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ether {
    src: Mac,
    dst: Mac,
    vlan: Option<u16>,
}

impl Ether {
    /// With an 802.1Q tag; 0 is a priority tag.
    #[must_use]
    pub const fn vlan(mut self, vid: u16) -> Self {
        self.vlan = Some(vid);
        self
    }

    /// Starts an IP packet.
    ///
    /// # Panics
    /// If an address is a text that is none, or the two are not of one family.
    #[must_use]
    pub fn ip(self, src: impl IntoAddr, dst: impl IntoAddr) -> Ip {
        Ip::new(self, src.into_addr(), dst.into_addr())
    }

    /// An ARP request of the frame's source, whose address is `sender`. It is sent to the frame's destination: most are to
    /// [`Mac::BROADCAST`].
    #[must_use]
    pub fn arp_request(self, sender: impl IntoAddr, target: impl IntoAddr) -> L2 {
        self.arp(&arp::Repr {
            operation: arp::REQUEST,
            sender_mac: self.src,
            sender_ip: sender.into_addr(),
            target_mac: Mac::default(),
            target_ip: target.into_addr(),
        })
    }

    /// An ARP reply of the frame's source, whose address is `sender`, to its destination, whose address is `target`.
    #[must_use]
    pub fn arp_reply(self, sender: impl IntoAddr, target: impl IntoAddr) -> L2 {
        self.arp(&arp::Repr {
            operation: arp::REPLY,
            sender_mac: self.src,
            sender_ip: sender.into_addr(),
            target_mac: self.dst,
            target_ip: target.into_addr(),
        })
    }

    /// Any ARP packet.
    #[must_use]
    pub fn arp(self, arp: &arp::Repr) -> L2 {
        self.payload(ethertype::ARP, arp.emit())
    }

    /// Any payload.
    #[must_use]
    pub fn payload(self, ethertype: u16, payload: impl AsRef<[u8]>) -> L2 {
        let mut bytes = ethernet::header(self.dst, self.src, 0, ethertype).to_vec();
        if let Some(vid) = self.vlan {
            let [a, b] = ethertype::VLAN.to_be_bytes();
            let [c, d] = vid.to_be_bytes();
            bytes.splice(12..12, [a, b, c, d]);
        }
        bytes.extend_from_slice(payload.as_ref());
        L2(bytes)
    }
}

/// A finished frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct L2(Vec<u8>);

impl L2 {
    /// The bytes.
    #[must_use]
    pub fn frame(self) -> Vec<u8> {
        self.0
    }

    /// The bytes, padded with zeros to the shortest frame that Ethernet sends.
    #[must_use]
    pub fn padded(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().max(MIN_LEN), 0);
        self.0
    }
}

#[cfg(test)]
mod tests;
