//! First stage: bytes to [`Parsed`], or the reason to drop them.

mod ipv4;
mod ipv6;
mod l4;
mod quoted;
#[cfg(test)]
mod tests;
mod whole;

pub use quoted::{Quoted, Tunneled, quoted, tunneled};
pub use whole::{Station, Whole, whole};

use crate::addr::{Addr, Mac};
use crate::pipeline::{DropReason, RxChecksum};
use crate::wire::arp::Arp;
use crate::wire::ethernet::{Ethernet, ethertype};
use crate::wire::fragment::Fragment;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// ARP for IPv4 over Ethernet; the 28 bytes start at this offset.
    Arp {
        /// Offset of the ARP header in the frame.
        offset: usize,
    },
    /// A sane IPv4 or IPv6 packet.
    Ip(Packet),
}

/// The offsets and fields of an IP packet that later stages need. Offsets count from the start of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// L4 protocol number, behind any IPv6 extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 "don't fragment"; always set for IPv6.
    pub dont_fragment: bool,
    /// Whether the frame was sent to a group MAC address.
    pub to_group: bool,
    /// Start of the IP header.
    pub l3: u16,
    /// Start of the L4 header.
    pub l4: u16,
    /// IP header and everything after it, in bytes, as the IP header says (without Ethernet padding).
    pub l3_len: u32,
    /// What the L4 header says; of a fragment but the first one it is [`L4::Other`].
    pub l4_info: L4,
    /// Its place in its datagram, of a fragment of TCP, UDP or SCTP; other fragments do not get through the parser.
    pub fragment: Option<Fragment>,
}

impl Packet {
    /// Source and destination port of TCP, UDP and SCTP; (0, 0) for all else.
    #[inline]
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        match self.l4_info {
            L4::Tcp { sport, dport, .. } | L4::Udp { sport, dport } | L4::Sctp { sport, dport, .. } => {
                (sport, dport)
            }
            L4::Icmp { .. } | L4::Other => (0, 0),
        }
    }

    /// L4 header and payload, in bytes.
    #[inline]
    #[must_use]
    pub const fn l4_len(&self) -> usize {
        self.l3_len as usize - (self.l4 - self.l3) as usize
    }
}

/// The parts of the L4 header that decide something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    /// TCP.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// The eight flags CWR…FIN, as in byte 13 of the header.
        flags: u8,
        /// Bytes of payload.
        payload: u32,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// SCTP.
    Sctp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Verification tag.
        tag: u32,
        /// Every chunk type below 16 that the packet contains, as a bit (bit 1: INIT, bit 6: ABORT, …).
        chunks: u16,
        /// Initiate tag of an INIT or INIT ACK, else 0.
        initiate_tag: u32,
        /// ABORT or SHUTDOWN COMPLETE with the T bit: the tag is the receiver's own, reflected.
        reflected: bool,
    },
    /// `ICMPv4` or `ICMPv6`, told apart by [`Packet::protocol`].
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Anything else.
    Other,
}

/// What the parser must know of the port that a frame came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The station address; `None` takes frames to any (captures were taken elsewhere).
    pub mac: Option<Mac>,
    /// The VLAN whose tag frames must carry; 0: none (a priority tag, VLAN 0, is accepted).
    pub vlan: u16,
}

/// Parses and checks one frame, from the link inwards: the reason given is that of the outermost flaw.
///
/// # Errors
/// The reason to drop it.
#[inline]
pub fn parse(link: &Link, frame: &[u8], checksum: RxChecksum) -> Result<Parsed, DropReason> {
    let eth = Ethernet::new_checked(frame).map_err(|_| DropReason::FrameTooShort)?;
    let to_group = eth.dst().is_group();
    if !to_group && link.mac.is_some_and(|mac| mac != eth.dst()) {
        return Err(DropReason::NotOurMac);
    }
    // A priority tag is as good as none; on a tagged port it is not the port's VLAN.
    if eth.vlan().unwrap_or(0) != link.vlan {
        return Err(DropReason::VlanMismatch);
    }
    let l3 = eth.header_len();
    match eth.ethertype() {
        ethertype::IPV4 => ipv4::parse(eth.payload(), l3, to_group, checksum).map(Parsed::Ip),
        ethertype::IPV6 => ipv6::parse(eth.payload(), l3, to_group).map(Parsed::Ip),
        ethertype::ARP => match Arp::new_checked(eth.payload()) {
            Ok(_) => Ok(Parsed::Arp { offset: l3 }),
            Err(_) => Err(DropReason::ArpMalformed),
        },
        // A second tag: of no VLAN that a port can have.
        ethertype::VLAN => Err(DropReason::VlanMismatch),
        _ => Err(DropReason::UnknownEthertype),
    }
}
