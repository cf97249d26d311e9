//! Packets within packets, for endpoints that are reached through routers and answer the client themselves (`dsr-ipip`,
//! `dsr-gue`): the inner packet stays as it came, an outer header takes it to the endpoint.
//!
//! - IP in IP (RFC 2003, RFC 2473, RFC 4213): the outer header alone
//! - GUE, variant 1 (draft-ietf-intarea-gue §3.2): UDP and at once the inner packet, whose version nibble tells that no GUE header
//!   precedes it. What Linux takes with `ip fou add port 6080 gue`; the source port spreads connections over the paths
//!   and queues on the way

mod envelope;

use crate::addr::Addr;
use crate::wire::{ipv4, ipv6, udp};

pub use envelope::Envelope;

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
            let header = Envelope::new(tunnel).header(inner, entropy, id).unwrap();
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
        let tunnel = Envelope::new(Tunnel { kind: Kind::Gue(6080), src: V4.0, dst: V4.1 });
        let mut inner = vec![0x45; 65_535 - 28];
        assert!(tunnel.header(&inner, 0, 0).is_some());
        inner.push(0);
        assert!(tunnel.header(&inner, 0, 0).is_none());
        assert!(tunnel.header(&[], 0, 0).is_none());
    }
}
