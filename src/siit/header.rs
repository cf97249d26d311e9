//! IP headers (RFC 7915 §4.1, §5.1).

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::wire::checksum::delta;
use crate::wire::fragment::Fragment;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6, Upper};
use crate::wire::protocol;

/// What an IPv4 packet without options grows by; a fragment by `FRAGMENT_LEN` more.
pub const V4_GROWS_BY: usize = ipv6::HEADER_LEN - ipv4::HEADER_LEN;

/// Bytes of an IPv6 fragment header.
const FRAGMENT_LEN: usize = 8;

/// Where the identification is in a header with fragment header.
pub const FRAGMENT_ID: std::ops::Range<usize> = 44..48;

/// Up to this length IPv4 packets are sent with "don't fragment" clear (RFC 7915 §5.1): as IPv6 packets they were no longer than
/// what every IPv6 link takes, so their sender will not make them smaller where an IPv4 link takes less.
const ATOMIC_ABOVE: usize = 1260;

/// A header of the other family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Translated {
    /// The header, with the fragment header of an IPv6 fragment. It takes the place of all before the L4 header.
    pub header: ArrayVec<u8, { ipv6::HEADER_LEN + FRAGMENT_LEN }>,
    /// Where the L4 header was in the old packet.
    pub l4: usize,
}

/// The IPv6 header for an IPv4 packet; options are left behind, as §4.1 says. `quoted` packets keep their hop limit, others
/// have one less than `ttl`. `None` for AH, whose integrity value covers addresses (§4.1).
#[must_use]
pub fn to_v6(packet: &Ipv4<'_>, (src, dst): (Addr, Addr), hop_limit: u8) -> Option<Translated> {
    v6(packet, packet.payload().len(), (src, dst), hop_limit)
}

/// The same where the packet is cut off: `payload_len` is what its header says.
pub(super) fn v6(
    packet: &Ipv4<'_>,
    payload_len: usize,
    (src, dst): (Addr, Addr),
    hop_limit: u8,
) -> Option<Translated> {
    let number = match packet.protocol() {
        protocol::AH => return None,
        protocol::ICMPV4 => protocol::ICMPV6,
        other => other,
    };
    let mut header = ArrayVec::new();
    let fragment = packet.fragment();
    let more = if fragment.is_some() { FRAGMENT_LEN } else { 0 };
    let repr = ipv6::Repr {
        src,
        dst,
        next_header: if fragment.is_some() { protocol::FRAGMENT } else { number },
        hop_limit,
        traffic_class: packet.tos(),
        payload_len: u16::try_from(payload_len + more).ok()?,
    };
    header.extend(repr.emit());
    if let Some(Fragment { id, offset, more }) = fragment {
        header.extend([number, 0]);
        header.extend((offset | u16::from(more)).to_be_bytes());
        header.extend(id.to_be_bytes());
    }
    Some(Translated { header, l4: packet.header_len() })
}

/// The IPv4 header for an IPv6 packet with what is behind its extension headers, which are left behind (§5.1). `id` goes into
/// packets that may be fragmented on the way; a fragment has its own (§5.1.1). `None` for AH.
#[must_use]
pub fn to_v4(
    packet: &Ipv6<'_>,
    upper: &Upper,
    (src, dst): (Addr, Addr),
    ttl: u8,
    id: u16,
) -> Option<Translated> {
    v4(packet, upper, packet.payload().len(), (src, dst), ttl, id)
}

/// The same where the packet is cut off: `payload_len` is what its header says.
pub(super) fn v4(
    packet: &Ipv6<'_>,
    upper: &Upper,
    payload_len: usize,
    (src, dst): (Addr, Addr),
    ttl: u8,
    id: u16,
) -> Option<Translated> {
    let number = match upper.protocol {
        protocol::AH => return None,
        protocol::ICMPV6 => protocol::ICMPV4,
        other => other,
    };
    let payload_len = u16::try_from(payload_len.checked_sub(upper.offset)?).ok()?;
    let len = ipv4::HEADER_LEN + usize::from(payload_len);
    let (id, fragment) = match upper.fragment {
        Some(Fragment { id, offset, more }) => {
            (id as u16, (offset / 8) | if more { ipv4::MORE_FRAGMENTS } else { 0 })
        }
        None if len > ATOMIC_ABOVE => (0, ipv4::DONT_FRAGMENT),
        None => (id, 0),
    };
    payload_len.checked_add(ipv4::HEADER_LEN as u16)?;
    let repr = ipv4::Repr {
        src,
        dst,
        protocol: number,
        ttl,
        tos: packet.traffic_class(),
        id,
        fragment,
        payload_len,
    };
    let mut header = ArrayVec::new();
    header.extend(repr.emit());
    Some(Translated { header, l4: ipv6::HEADER_LEN + upper.offset })
}

/// What other addresses and ports, of whatever family, add to the sum of a TCP segment's or UDP datagram's pseudo header and
/// ports. Its length and protocol number are the same in both families' pseudo headers; the prefix of
/// [`Addr`]'s IPv4 form, 0xffff, is zero in one's complement.
#[must_use]
pub fn ends_delta(old: ((Addr, u16), (Addr, u16)), new: ((Addr, u16), (Addr, u16))) -> u16 {
    let bytes = |((src, sport), (dst, dport)): ((Addr, u16), (Addr, u16))| {
        let mut out = [0; 36];
        out[..16].copy_from_slice(&src.v6_octets());
        out[16..32].copy_from_slice(&dst.v6_octets());
        out[32..34].copy_from_slice(&sport.to_be_bytes());
        out[34..].copy_from_slice(&dport.to_be_bytes());
        out
    };
    delta(&bytes(old), &bytes(new))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::Mac;
    use crate::config::Protocol;
    use crate::parse::Packet;
    use crate::wire::build::{self, strategy, verify};
    use crate::wire::checksum::{apply, apply_udp};

    const V4: (Addr, Addr) = (Addr::v4([10, 1, 0, 2]), Addr::v4([10, 1, 0, 10]));
    const V6: (Addr, Addr) = (Addr(0x2001_0db8 << 96 | 2), Addr(0x2001_0db8 << 96 | 0x10));

    /// The whole packet in the other family, with new ports.
    fn translate(frame: &[u8], packet: &Packet, ports: (u16, u16)) -> Vec<u8> {
        let l3 = &frame[packet.l3 as usize..(u32::from(packet.l3) + packet.l3_len) as usize];
        let (ends, translated) = if packet.src.is_v4() {
            (V6, to_v6(&Ipv4::new_checked(l3).unwrap(), V6, 63).unwrap())
        } else {
            let ip = Ipv6::new_checked(l3).unwrap();
            (V4, to_v4(&ip, &ip.upper().unwrap(), V4, 63, 77).unwrap())
        };
        let mut l4 = l3[translated.l4..].to_vec();
        let (sport, dport) = packet.ports();
        let delta =
            ends_delta(((packet.src, sport), (packet.dst, dport)), ((ends.0, ports.0), (ends.1, ports.1)));
        l4[..2].copy_from_slice(&ports.0.to_be_bytes());
        l4[2..4].copy_from_slice(&ports.1.to_be_bytes());
        let (at, apply): (usize, fn(u16, u16) -> u16) =
            if packet.protocol == Protocol::Tcp.number() { (16, apply) } else { (6, apply_udp) };
        let sum = apply(u16::from_be_bytes([l4[at], l4[at + 1]]), delta);
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        [&translated.header[..], &l4].concat()
    }

    proptest! {
        #[test]
        fn a_packet_is_whole_in_the_other_family(
            sample in strategy::sample().prop_filter("TCP or UDP", |s| matches!(s.packet.protocol, 6 | 17)),
            ports in (1_u16.., 1_u16..),
        ) {
            let packet = &sample.packet;
            let l4 = &sample.frame[packet.l4 as usize..];
            // RFC 7915 §4.5: without a checksum it is not to be translated like this.
            prop_assume!(packet.protocol != 17 || l4[6..8] != [0, 0]);
            let out = translate(&sample.frame, packet, ports);
            let kind = if packet.src.is_v4() { 0x86dd } else { 0x0800 };
            let frame = build::eth(Mac([2; 6]), Mac([4; 6])).payload(kind, &out).frame();
            verify(&frame).map_err(TestCaseError::fail)?;
            let old = &sample.frame[packet.l3 as usize..];
            if packet.src.is_v4() {
                let ip = Ipv6::new_checked(&out).unwrap();
                prop_assert_eq!((ip.src(), ip.dst(), ip.hop_limit(), ip.traffic_class()), (V6.0, V6.1, 63, old[1]));
                prop_assert_eq!((ip.next_header(), ip.payload().len()), (packet.protocol, packet.l4_len()));
            } else {
                let ip = Ipv4::new_checked(&out).unwrap();
                prop_assert_eq!((ip.src(), ip.dst(), ip.ttl(), out[1]), (V4.0, V4.1, 63, old[0] << 4 | old[1] >> 4));
                prop_assert_eq!((ip.protocol(), ip.payload().len()), (packet.protocol, packet.l4_len()));
                prop_assert_eq!(ip.dont_fragment(), out.len() > 1260);
                prop_assert_eq!(ip.id(), if out.len() > 1260 { 0 } else { 77 });
            }
        }
    }

    #[test]
    fn fragments_keep_their_place_and_id() {
        let eth = || build::eth(Mac([2; 6]), Mac([4; 6]));
        for (offset, more) in [(0, true), (1480, true), (2960, false)] {
            let v4 = eth().ip(V4.0, V4.1).id(0xabcd).fragment(offset, more).protocol(17, [7; 64]).l3();
            let out = to_v6(&Ipv4::new_checked(&v4).unwrap(), V6, 9).unwrap();
            let whole = [&out.header[..], &v4[out.l4..]].concat();
            let ip = Ipv6::new_checked(&whole).unwrap();
            let upper = ip.upper().unwrap();
            assert_eq!(upper.fragment, Some(Fragment { id: 0xabcd, offset, more }));
            assert_eq!((upper.protocol, &ip.payload()[upper.offset..]), (17, &[7; 64][..]));

            let back = to_v4(&ip, &upper, V4, 64, 1).unwrap();
            assert_eq!([&back.header[..], &whole[back.l4..]].concat(), v4);
        }
    }
}
