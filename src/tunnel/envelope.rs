//! An outer header written once, and filled in for every packet.

use arrayvec::ArrayVec;

use super::{HOP_LIMIT, Kind, MAX_OVERHEAD, Tunnel, source_port};
use crate::wire::checksum::{add, never_zero, pseudo_sum, sum};
use crate::wire::{ipv4, ipv6, protocol, udp};

/// A tunnel's outer header, but for what differs from packet to packet.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    tunnel: Tunnel,
    /// The IP header: lengths, traffic class, id, checksum and next protocol are left out.
    ip: [u8; ipv6::HEADER_LEN],
    /// Of IPv4: sum of the header as it is.
    sum: u16,
}

impl Envelope {
    /// Of a tunnel whose ends are of one family.
    #[must_use]
    pub fn new(tunnel: Tunnel) -> Self {
        let mut ip = [0; ipv6::HEADER_LEN];
        let Tunnel { src, dst, .. } = tunnel;
        if dst.is_v4() {
            ip[0] = 0x45;
            ip[ipv4::field::TTL] = HOP_LIMIT;
            ip[ipv4::field::SRC].copy_from_slice(&src.v4_octets());
            ip[ipv4::field::DST].copy_from_slice(&dst.v4_octets());
        } else {
            ip[0] = 0x60;
            ip[ipv6::field::HOP_LIMIT] = HOP_LIMIT;
            ip[ipv6::field::SRC].copy_from_slice(&src.v6_octets());
            ip[ipv6::field::DST].copy_from_slice(&dst.v6_octets());
        }
        Self { tunnel, ip, sum: sum(&ip[..ipv4::HEADER_LEN]) }
    }

    /// The tunnel.
    #[inline]
    #[must_use]
    pub const fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// The outer header for a whole IP packet, into the [bytes](Tunnel::overhead) before it. `entropy` is the same for all packets of a
    /// connection; `id` differs between any two packets of this tunnel within minutes (RFC 6864 §4.3), and is asked for where it
    /// means something. `None` where the result would be longer than IP allows, or `inner` is no IP packet.
    ///
    /// Outer DSCP and ECN are the inner ones (RFC 6040 §4.1, normal mode). "Don't fragment" is the inner one, and set for an
    /// inner IPv6 packet, which no router may fragment either.
    #[inline(always)]
    #[must_use]
    pub fn emit(&self, out: &mut [u8], inner: &[u8], entropy: u32, id: impl FnOnce() -> u16) -> Option<()> {
        let first: &[u8; 8] = inner.first_chunk()?;
        let inner_v4 = first[0] >> 4 == 4;
        let (tos, dont_fragment) = if inner_v4 {
            (first[1], u16::from_be_bytes([first[6], first[7]]) & ipv4::DONT_FRAGMENT)
        } else {
            (first[0] << 4 | first[1] >> 4, ipv4::DONT_FRAGMENT)
        };
        let udp_len = if let Kind::Gue(_) = self.tunnel.kind { udp::HEADER_LEN } else { 0 };
        let payload_len = u16::try_from(udp_len + inner.len()).ok()?;
        let next = match self.tunnel.kind {
            Kind::Ipip if inner_v4 => protocol::IPV4_IN_IP,
            Kind::Ipip => protocol::IPV6_IN_IP,
            Kind::Gue(_) => protocol::UDP,
        };
        let rest = if self.tunnel.dst.is_v4() {
            let total = payload_len.checked_add(ipv4::HEADER_LEN as u16)?;
            // An atomic datagram's means nothing (RFC 6864 §4.1).
            let id = if dont_fragment == 0 { id() } else { 0 };
            let (header, rest) = out.split_first_chunk_mut::<{ ipv4::HEADER_LEN }>()?;
            header.copy_from_slice(self.ip.first_chunk::<{ ipv4::HEADER_LEN }>()?);
            header[1] = tos;
            header[ipv4::field::LENGTH].copy_from_slice(&total.to_be_bytes());
            header[ipv4::field::ID].copy_from_slice(&id.to_be_bytes());
            header[ipv4::field::FRAGMENT].copy_from_slice(&dont_fragment.to_be_bytes());
            header[ipv4::field::PROTOCOL] = next;
            let sum = [tos.into(), total, id, dont_fragment, next.into()].into_iter().fold(self.sum, add);
            header[ipv4::field::CHECKSUM].copy_from_slice(&(!sum).to_be_bytes());
            rest
        } else {
            let (header, rest) = out.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
            *header = self.ip;
            // The flow label spreads as the UDP port does (RFC 6438).
            let word = 0x6000_0000 | u32::from(tos) << 20 | entropy & 0x000f_ffff;
            header[..4].copy_from_slice(&word.to_be_bytes());
            header[ipv6::field::LENGTH].copy_from_slice(&payload_len.to_be_bytes());
            header[ipv6::field::NEXT_HEADER] = next;
            rest
        };
        if let Kind::Gue(port) = self.tunnel.kind {
            *rest.first_chunk_mut()? = self.udp(inner, port, entropy, payload_len);
        }
        Some(())
    }

    /// [`emit`](Self::emit) by itself.
    #[must_use]
    pub fn header(&self, inner: &[u8], entropy: u32, id: u16) -> Option<ArrayVec<u8, MAX_OVERHEAD>> {
        let mut out = ArrayVec::from([0; MAX_OVERHEAD]);
        out.truncate(self.tunnel.overhead());
        self.emit(&mut out, inner, entropy, || id)?;
        Some(out)
    }

    #[inline(always)]
    fn udp(&self, inner: &[u8], port: u16, entropy: u32, len: u16) -> [u8; udp::HEADER_LEN] {
        let header = |checksum: u16| {
            let fields = [source_port(entropy), port, len, checksum];
            fields.iter().fold(0, |word, field| word << 16 | u64::from(*field)).to_be_bytes()
        };
        // Without one over IPv4, as tunnels do (RFC 8085 §3.4.1): the inner packet has its own. Over IPv6 receivers drop what has none
        // unless told otherwise (RFC 6935 §5), so there it is paid for.
        let Tunnel { src, dst, .. } = self.tunnel;
        if dst.is_v4() {
            return header(0);
        }
        let pseudo = pseudo_sum(src, dst, protocol::UDP, len.into());
        header(never_zero(!add(add(pseudo, sum(&header(0))), sum(inner))))
    }
}
