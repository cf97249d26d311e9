//! Packets within packets, for endpoints that are reached through routers and answer the client themselves (`dsr-ipip`,
//! `dsr-gue`): the inner packet stays as it came, an outer header takes it to the endpoint.
//!
//! - IP in IP (RFC 2003, RFC 2473, RFC 4213): the outer header alone
//! - GUE, variant 1 (draft-ietf-intarea-gue §3.2): UDP and at once the inner packet, whose version nibble tells that no GUE header
//!   precedes it. What Linux takes with `ip fou add port 6080 gue`; the source port spreads connections over the paths
//!   and queues on the way

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::wire::checksum::{add, never_zero, pseudo_sum, sum};
use crate::wire::{ipv4, ipv6, protocol, udp};

/// Hop limit of outer headers: the recommended default (RFC 2003 §3.1, RFC 2473 §6.3).
const HOP_LIMIT: u8 = 64;

/// The longest outer header: IPv6 and UDP.
pub const MAX_OVERHEAD: usize = ipv6::HEADER_LEN + udp::HEADER_LEN;

/// How packets are wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// IP in IP.
    Ipip,
    /// GUE, variant 1, to this port.
    Gue(u16),
}

/// The two ends, of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// How packets are wrapped.
    pub kind: Kind,
    /// Outer source.
    pub src: Addr,
    /// Outer destination: the endpoint.
    pub dst: Addr,
}

impl Tunnel {
    /// Bytes that the outer header takes of the MTU.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        overhead(self.kind, self.dst)
    }

    /// The outer header for a whole IP packet. `entropy` is the same for all packets of a connection; `id` differs between any two
    /// packets of this tunnel within minutes (RFC 6864 §4.3). `None` where the result would be longer than IP allows, or
    /// `inner` is no IP packet.
    ///
    /// Outer DSCP and ECN are the inner ones (RFC 6040 §4.1, normal mode). "Don't fragment" is the inner one, and set for an
    /// inner IPv6 packet, which no router may fragment either.
    #[must_use]
    pub fn header(&self, inner: &[u8], entropy: u32, id: u16) -> Option<ArrayVec<u8, MAX_OVERHEAD>> {
        let mut out = ArrayVec::from([0; MAX_OVERHEAD]);
        out.truncate(self.overhead());
        self.emit(&mut out, inner, entropy, id)?;
        Some(out)
    }

    /// [`header`](Self::header) into the [bytes](Self::overhead) before the packet.
    #[inline(always)]
    #[must_use]
    pub fn emit(&self, out: &mut [u8], inner: &[u8], entropy: u32, id: u16) -> Option<()> {
        let first: &[u8; 8] = inner.first_chunk()?;
        let inner_v4 = first[0] >> 4 == 4;
        let (tos, dont_fragment) = if inner_v4 {
            (first[1], u16::from_be_bytes([first[6], first[7]]) & ipv4::DONT_FRAGMENT)
        } else {
            (first[0] << 4 | first[1] >> 4, ipv4::DONT_FRAGMENT)
        };
        let udp_len = if let Kind::Gue(_) = self.kind { udp::HEADER_LEN } else { 0 };
        let payload_len = u16::try_from(udp_len + inner.len()).ok()?;
        let next = match self.kind {
            Kind::Ipip if inner_v4 => protocol::IPV4_IN_IP,
            Kind::Ipip => protocol::IPV6_IN_IP,
            Kind::Gue(_) => protocol::UDP,
        };
        let rest = if self.dst.is_v4() {
            payload_len.checked_add(ipv4::HEADER_LEN as u16)?;
            let header = ipv4::Repr {
                src: self.src,
                dst: self.dst,
                protocol: next,
                ttl: HOP_LIMIT,
                tos,
                // An atomic datagram's means nothing (RFC 6864 §4.1).
                id: if dont_fragment == 0 { id } else { 0 },
                fragment: dont_fragment,
                payload_len,
            };
            let (out, rest) = out.split_first_chunk_mut()?;
            *out = header.emit();
            rest
        } else {
            let header = ipv6::Repr {
                src: self.src,
                dst: self.dst,
                next_header: next,
                hop_limit: HOP_LIMIT,
                traffic_class: tos,
                payload_len,
            };
            let (out, rest) = out.split_first_chunk_mut()?;
            *out = header.emit();
            // The flow label spreads as the UDP port does (RFC 6438).
            let [_, a, b, c] = (entropy & 0x000f_ffff).to_be_bytes();
            out[1] |= a;
            [out[2], out[3]] = [b, c];
            rest
        };
        if let Kind::Gue(port) = self.kind {
            *rest.first_chunk_mut()? = self.udp(inner, port, entropy, payload_len);
        }
        Some(())
    }

    #[inline(always)]
    fn udp(&self, inner: &[u8], port: u16, entropy: u32, len: u16) -> [u8; udp::HEADER_LEN] {
        let header = |checksum: u16| {
            let fields = [source_port(entropy), port, len, checksum];
            fields.iter().fold(0, |word, field| word << 16 | u64::from(*field)).to_be_bytes()
        };
        // Without one over IPv4, as tunnels do (RFC 8085 §3.4.1): the inner packet has its own. Over IPv6 receivers drop what has none
        // unless told otherwise (RFC 6935 §5), so there it is paid for.
        if self.dst.is_v4() {
            return header(0);
        }
        let pseudo = pseudo_sum(self.src, self.dst, protocol::UDP, len.into());
        header(never_zero(!add(add(pseudo, sum(&header(0))), sum(inner))))
    }
}

/// Bytes that the outer header to an endpoint takes of the MTU.
#[must_use]
pub const fn overhead(kind: Kind, endpoint: Addr) -> usize {
    let ip = if endpoint.is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    match kind {
        Kind::Ipip => ip,
        Kind::Gue(_) => ip + udp::HEADER_LEN,
    }
}

/// One of the dynamic ports, 49152 to 65535 (RFC 8085 §5.1.1).
#[must_use]
pub const fn source_port(entropy: u32) -> u16 {
    0xc000 | (entropy ^ entropy >> 16) as u16 & 0x3fff
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::build::{self, strategy, verify};

    const V4: (Addr, Addr) = (Addr::v4([10, 1, 0, 1]), Addr::v4([10, 9, 0, 10]));
    const V6: (Addr, Addr) = (Addr(0x2001_0db8 << 96 | 1), Addr(0x2001_0db8 << 96 | 0xa));

    proptest! {
        #[test]
        fn the_outer_packet_is_whole_and_the_inner_one_intact(
            sample in strategy::sample(),
            v6 in any::<bool>(),
            gue in any::<bool>(),
            entropy in any::<u32>(),
            id in any::<u16>(),
        ) {
            let (src, dst) = if v6 { V6 } else { V4 };
            let kind = if gue { Kind::Gue(6080) } else { Kind::Ipip };
            let tunnel = Tunnel { kind, src, dst };
            let packet = &sample.packet;
            let inner = &sample.frame[packet.l3 as usize..(u32::from(packet.l3) + packet.l3_len) as usize];
            let header = tunnel.header(inner, entropy, id).unwrap();
            prop_assert_eq!(header.len(), tunnel.overhead());
            let outer = [&header[..], inner].concat();
            let kind = if v6 { 0x86dd } else { 0x0800 };
            let eth = build::eth(crate::addr::Mac([2; 6]), crate::addr::Mac([4; 6]));
            verify(&eth.payload(kind, &outer).frame()).map_err(TestCaseError::fail)?;

            let inner_v4 = packet.src.is_v4();
            let tos = if inner_v4 { inner[1] } else { inner[0] << 4 | inner[1] >> 4 };
            let (number, payload) = if v6 {
                let ip = ipv6::Ipv6::new_checked(&outer).unwrap();
                prop_assert_eq!((ip.src(), ip.dst(), ip.hop_limit(), outer[0] << 4 | outer[1] >> 4), (src, dst, 64, tos));
                (ip.next_header(), ip.payload())
            } else {
                let ip = ipv4::Ipv4::new_checked(&outer).unwrap();
                prop_assert_eq!((ip.src(), ip.dst(), ip.ttl(), outer[1]), (src, dst, 64, tos));
                prop_assert_eq!(ip.dont_fragment(), packet.dont_fragment);
                prop_assert!(ip.dont_fragment() || ip.id() == id);
                (ip.protocol(), ip.payload())
            };
            if gue {
                let udp = udp::Udp::new_checked(payload).unwrap();
                prop_assert_eq!((number, udp.dport()), (17, 6080));
                prop_assert!(udp.sport() >= 49152);
                prop_assert_eq!(udp.checksum() == 0, !v6);
                prop_assert_eq!(udp.payload(), inner);
            } else {
                prop_assert_eq!(number, if inner_v4 { 4 } else { 41 });
                prop_assert_eq!(payload, inner);
            }
        }
    }

    #[test]
    fn connections_have_different_source_ports() {
        let ports: HashSet<u16> = (0..1000_u32).map(|n| source_port(n.wrapping_mul(0x9e37_79b9))).collect();
        assert!(ports.len() > 950, "{}", ports.len());
    }

    #[test]
    fn what_does_not_fit_an_ip_packet_is_refused() {
        let tunnel = Tunnel { kind: Kind::Gue(6080), src: V4.0, dst: V4.1 };
        let mut inner = vec![0x45; 65_535 - 28];
        assert!(tunnel.header(&inner, 0, 0).is_some());
        inner.push(0);
        assert!(tunnel.header(&inner, 0, 0).is_none());
        assert!(tunnel.header(&[], 0, 0).is_none());
    }
}
