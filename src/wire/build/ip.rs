//! IPv4 and IPv6 packets.

use super::{Ether, Icmp, L2, Sctp, Tcp, Udp};
use crate::addr::Addr;
use crate::wire::ethernet::ethertype;
use crate::wire::{checksum, icmpv4, icmpv6, ipv4, ipv6, ndp, protocol};

/// An IP header to be: TTL 64, "don't fragment", no options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ip {
    pub(super) eth: Ether,
    pub(super) src: Addr,
    pub(super) dst: Addr,
    ttl: u8,
    tos: u8,
    id: u16,
    fragment: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
}

impl Ip {
    pub(super) fn new(eth: Ether, src: Addr, dst: Addr) -> Self {
        assert_eq!(src.is_v4(), dst.is_v4(), "{src} and {dst} are not of one family");
        Self {
            eth,
            src,
            dst,
            ttl: 64,
            tos: 0,
            id: 0,
            fragment: ipv4::DONT_FRAGMENT,
            options: Vec::new(),
            extensions: Vec::new(),
        }
    }

    pub(super) const fn is_v4(&self) -> bool {
        self.src.is_v4()
    }

    /// TTL or hop limit.
    #[must_use]
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// DSCP and ECN.
    #[must_use]
    pub const fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// Identification, also of an IPv6 fragment that is declared later.
    #[must_use]
    pub const fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// IPv4's "don't fragment".
    #[must_use]
    pub const fn df(mut self, on: bool) -> Self {
        self.fragment =
            if on { self.fragment | ipv4::DONT_FRAGMENT } else { self.fragment & !ipv4::DONT_FRAGMENT };
        self
    }

    /// A fragment: `offset` in bytes, a multiple of 8. In IPv6 this adds a fragment header, an atomic one for `(0, false)`. The
    /// payload is to be the piece itself, see [`Ip::protocol`]; a first fragment may as well be an L4 packet.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        if self.is_v4() {
            let flag = if more { ipv4::MORE_FRAGMENTS } else { 0 };
            self.fragment = (offset / 8) | flag;
            return self;
        }
        let [a, b] = (offset & !7 | u16::from(more)).to_be_bytes();
        let [c, d] = self.id.to_be_bytes();
        self.extension(protocol::FRAGMENT, [a, b, 0, 0, c, d])
    }

    /// IPv4 options, padded to a multiple of four bytes with end-of-options marks; 40 bytes at most.
    #[must_use]
    pub fn options(mut self, options: impl AsRef<[u8]>) -> Self {
        let options = options.as_ref();
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), ipv4::option::END);
        self
    }

    /// An IPv6 extension header: `body` is what follows its next header and length, and is padded with zeros to a whole number
    /// of units.
    #[must_use]
    pub fn extension(mut self, kind: u8, body: impl AsRef<[u8]>) -> Self {
        self.extensions.push((kind, body.as_ref().to_vec()));
        self
    }

    /// IPv6 hop-by-hop options: padding.
    #[must_use]
    pub fn hop_by_hop(self) -> Self {
        self.extension(protocol::HOP_BY_HOP, [1, 4])
    }

    /// IPv6 destination options: padding.
    #[must_use]
    pub fn destination_options(self) -> Self {
        self.extension(protocol::DESTINATION_OPTIONS, [1, 4])
    }

    /// An IPv6 routing header without addresses.
    #[must_use]
    pub fn routing(self, kind: u8, segments_left: u8) -> Self {
        self.extension(protocol::ROUTING, [kind, segments_left])
    }

    /// An authentication header with an integrity value of 12 bytes, all zero.
    #[must_use]
    pub fn authentication(self) -> Self {
        self.extension(protocol::AH, [0; 22])
    }

    /// A TCP segment without flags.
    #[must_use]
    pub fn tcp(self, sport: u16, dport: u16) -> Packet<Tcp> {
        Packet { ip: self, l4: Tcp::new(sport, dport) }
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(self, sport: u16, dport: u16) -> Packet<Udp> {
        Packet { ip: self, l4: Udp::new(sport, dport) }
    }

    /// An SCTP packet without chunks.
    #[must_use]
    pub fn sctp(self, sport: u16, dport: u16) -> Packet<Sctp> {
        Packet { ip: self, l4: Sctp::new(sport, dport) }
    }

    /// Any ICMP message; `word` is what follows the checksum.
    #[must_use]
    pub fn icmp(self, kind: u8, code: u8, word: u32) -> Packet<Icmp> {
        Packet { ip: self, l4: Icmp::new(kind, code, word) }
    }

    /// An echo request.
    #[must_use]
    pub fn echo_request(self, id: u16, seq: u16) -> Packet<Icmp> {
        let kind = if self.is_v4() { icmpv4::ECHO_REQUEST } else { icmpv6::ECHO_REQUEST };
        self.icmp(kind, 0, u32::from(id) << 16 | u32::from(seq))
    }

    /// An echo reply.
    #[must_use]
    pub fn echo_reply(self, id: u16, seq: u16) -> Packet<Icmp> {
        let kind = if self.is_v4() { icmpv4::ECHO_REPLY } else { icmpv6::ECHO_REPLY };
        self.icmp(kind, 0, u32::from(id) << 16 | u32::from(seq))
    }

    /// Destination unreachable, about the IP packet `quoted` (see [`super::l3`]), as much of it as an error may carry.
    #[must_use]
    pub fn unreachable(self, code: u8, quoted: &[u8]) -> Packet<Icmp> {
        let kind = if self.is_v4() { icmpv4::UNREACHABLE } else { icmpv6::UNREACHABLE };
        self.error(kind, code, 0, quoted)
    }

    /// Port unreachable, about the IP packet `quoted`.
    #[must_use]
    pub fn port_unreachable(self, quoted: &[u8]) -> Packet<Icmp> {
        let code = if self.is_v4() { icmpv4::PORT_UNREACHABLE } else { icmpv6::PORT_UNREACHABLE };
        self.unreachable(code, quoted)
    }

    /// TTL or hop limit exceeded in transit, about the IP packet `quoted`.
    #[must_use]
    pub fn time_exceeded(self, quoted: &[u8]) -> Packet<Icmp> {
        let kind = if self.is_v4() { icmpv4::TIME_EXCEEDED } else { icmpv6::TIME_EXCEEDED };
        self.error(kind, 0, 0, quoted)
    }

    /// Fragmentation needed, or packet too big, about the IP packet `quoted`.
    #[must_use]
    pub fn too_big(self, mtu: u16, quoted: &[u8]) -> Packet<Icmp> {
        if self.is_v4() {
            self.error(icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, mtu.into(), quoted)
        } else {
            self.error(icmpv6::PACKET_TOO_BIG, 0, mtu.into(), quoted)
        }
    }

    fn error(self, kind: u8, code: u8, word: u32, quoted: &[u8]) -> Packet<Icmp> {
        let most = if self.is_v4() { icmpv4::MAX_QUOTE } else { icmpv6::MAX_QUOTE };
        self.icmp(kind, code, word).payload(&quoted[..quoted.len().min(most)])
    }

    /// A neighbour solicitation of the frame's source; without its MAC where the packet's source is `::`. The hop limit
    /// becomes 255.
    #[must_use]
    pub fn neighbor_solicitation(self, target: impl super::IntoAddr) -> Packet<Icmp> {
        let message = ndp::solicitation(self.src, self.dst, target.into_addr(), self.eth.src);
        let len = if self.src == Addr::default() { ndp::LEN } else { ndp::LEN_WITH_MAC };
        self.discovery(&message[..len])
    }

    /// A neighbour advertisement of the frame's source; `flags` as in [`ndp`]. The hop limit becomes 255.
    #[must_use]
    pub fn neighbor_advertisement(self, target: impl super::IntoAddr, flags: u8) -> Packet<Icmp> {
        let message = ndp::advertisement(self.src, self.dst, target.into_addr(), self.eth.src, flags);
        self.discovery(&message)
    }

    fn discovery(self, message: &[u8]) -> Packet<Icmp> {
        let [kind, code, _, _, a, b, c, d, ref payload @ ..] = *message else {
            unreachable!("24 bytes at least")
        };
        self.ttl(ndp::HOP_LIMIT).icmp(kind, code, u32::from_be_bytes([a, b, c, d])).payload(payload)
    }

    /// Any payload: a later fragment, a protocol that is not known here.
    #[must_use]
    pub fn protocol(self, number: u8, payload: impl AsRef<[u8]>) -> Packet<Raw> {
        Packet { ip: self, l4: Raw { number, bytes: payload.as_ref().to_vec() } }
    }

    fn emit(&self, number: u8, payload: &[u8]) -> Vec<u8> {
        if self.is_v4() { self.emit_v4(number, payload) } else { self.emit_v6(number, payload) }
    }

    fn emit_v4(&self, number: u8, payload: &[u8]) -> Vec<u8> {
        let options = &self.options[..self.options.len().min(40)];
        let repr = ipv4::Repr {
            src: self.src,
            dst: self.dst,
            protocol: number,
            ttl: self.ttl,
            tos: self.tos,
            id: self.id,
            fragment: self.fragment,
            payload_len: length(options.len() + payload.len()),
        };
        let mut out = repr.emit().to_vec();
        out.extend_from_slice(options);
        if !options.is_empty() {
            out[ipv4::field::VERSION_IHL] = 0x40 | (out.len() / 4) as u8;
            out[ipv4::field::CHECKSUM].fill(0);
            let sum = checksum::checksum(&out);
            out[ipv4::field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        }
        out.extend_from_slice(payload);
        out
    }

    fn emit_v6(&self, number: u8, payload: &[u8]) -> Vec<u8> {
        // From the innermost outwards, since each names the next.
        let mut next = number;
        let mut inner = payload.to_vec();
        for (kind, body) in self.extensions.iter().rev() {
            let mut header = vec![next, 0];
            header.extend_from_slice(body);
            // AH is the one that counts in words, and from 2 (RFC 4302 §2.2).
            let (unit, less) = if *kind == protocol::AH { (4, 2) } else { (8, 1) };
            header.resize(header.len().next_multiple_of(unit), 0);
            if *kind != protocol::FRAGMENT {
                header[1] = (header.len() / unit - less) as u8;
            }
            header.append(&mut inner);
            inner = header;
            next = *kind;
        }
        let repr = ipv6::Repr {
            src: self.src,
            dst: self.dst,
            next_header: next,
            hop_limit: self.ttl,
            traffic_class: self.tos,
            payload_len: length(inner.len()),
        };
        [&repr.emit()[..], &inner].concat()
    }
}

/// A length field; what does not fit says the most that does.
pub(super) fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// What an IP packet carries.
pub trait Layer4 {
    /// Its protocol number, in IPv4 or not.
    fn number(&self, v4: bool) -> u8;

    /// Header and payload between two addresses, with a right checksum.
    fn emit(&self, src: Addr, dst: Addr) -> Vec<u8>;
}

/// An IP packet with all that it carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet<L> {
    pub(super) ip: Ip,
    pub(super) l4: L,
}

impl<L: Layer4> Packet<L> {
    /// The IP packet alone.
    #[must_use]
    pub fn l3(&self) -> Vec<u8> {
        let l4 = self.l4.emit(self.ip.src, self.ip.dst);
        self.ip.emit(self.l4.number(self.ip.is_v4()), &l4)
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.l2().frame()
    }

    /// The frame, padded with zeros to the shortest that Ethernet sends.
    #[must_use]
    pub fn padded(&self) -> Vec<u8> {
        self.l2().padded()
    }

    fn l2(&self) -> L2 {
        let ethertype = if self.ip.is_v4() { ethertype::IPV4 } else { ethertype::IPV6 };
        self.ip.eth.payload(ethertype, self.l3())
    }
}

/// A payload given as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    number: u8,
    bytes: Vec<u8>,
}

impl Layer4 for Raw {
    fn number(&self, _: bool) -> u8 {
        self.number
    }

    fn emit(&self, _: Addr, _: Addr) -> Vec<u8> {
        self.bytes.clone()
    }
}
