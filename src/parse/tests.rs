use super::*;
use crate::wire::build::strategy::sample;
use crate::wire::build::{DST_MAC, Ip, SRC_MAC, eth, ip};
use crate::wire::ipv4;
use crate::wire::ndp;
use crate::wire::protocol;
use crate::wire::tcp::flag;
use proptest::collection::vec;
use proptest::prelude::*;

const A4: &str = "10.0.0.1";
const B4: &str = "10.0.0.2";
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8::2";

const LINK: Link = Link { mac: Some(DST_MAC), vlan: 0 };

fn parsed(frame: &[u8]) -> Result<Parsed, DropReason> {
    agreed(&LINK, frame, RxChecksum::Unknown)
}

/// The full parser's answer, which the short cut must not contradict.
fn agreed(link: &Link, frame: &[u8], checksum: RxChecksum) -> Result<Parsed, DropReason> {
    let full = parse(link, frame, checksum);
    let mut short = Whole::default();
    if whole(&Station::new(link), frame, || checksum, &mut short) {
        assert_eq!(full, Ok(Parsed::Ip(short.packet())), "{frame:02x?}");
    }
    full
}

#[track_caller]
fn dropped(frame: &[u8], reason: DropReason) {
    assert_eq!(parsed(frame), Err(reason));
}

#[track_caller]
fn passes(frame: &[u8]) -> Packet {
    match parsed(frame) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// A UDP frame over IPv4 with one byte of its IP header changed, and the header checksum made right again.
fn v4_with(at: usize, value: u8) -> Vec<u8> {
    let mut frame = ip(A4, B4).udp(1, 2).frame();
    frame[14 + at] = value;
    frame[24..26].fill(0);
    let sum = crate::wire::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn frame_too_short() {
    let frame = eth(SRC_MAC, DST_MAC).vlan(7).ip(A4, B4).udp(1, 2).frame();
    for len in 0..18 {
        dropped(&frame[..len], DropReason::FrameTooShort);
    }
}

#[test]
fn not_our_mac() {
    let frame = |dst| eth(SRC_MAC, dst).ip(A4, B4).udp(1, 2).frame();
    let other = frame(Mac([2, 0, 0, 0, 0, 9]));
    dropped(&other, DropReason::NotOurMac);
    assert!(!passes(&frame(DST_MAC)).to_group);
    assert!(passes(&frame(Mac::BROADCAST)).to_group);
    assert!(passes(&frame(Mac([1, 0, 0x5e, 0, 0, 1]))).to_group);
    assert!(parse(&Link { mac: None, vlan: 0 }, &other, RxChecksum::Unknown).is_ok());
}

#[test]
fn vlan_mismatch() {
    let ether = eth(SRC_MAC, DST_MAC);
    let tagged = |vid| ether.vlan(vid).ip(A4, B4).udp(1, 2).frame();
    let untagged = ether.ip(A4, B4).udp(1, 2).frame();
    let on = |vlan, frame: &[u8]| parse(&Link { vlan, ..LINK }, frame, RxChecksum::Unknown).map(|_| ());
    let mismatch = Err(DropReason::VlanMismatch);
    assert_eq!(on(0, &untagged), Ok(()));
    assert_eq!(on(0, &tagged(0)), Ok(()), "priority tag");
    assert_eq!(on(0, &tagged(7)), mismatch);
    assert_eq!(on(7, &tagged(7)), Ok(()));
    assert_eq!(on(7, &tagged(8)), mismatch);
    assert_eq!(on(7, &tagged(0)), mismatch);
    assert_eq!(on(7, &untagged), mismatch);
    let inner = &tagged(7)[12..];
    assert_eq!(on(7, &ether.vlan(7).payload(0x8100, &inner[2..]).frame()), mismatch, "two tags");
    assert_eq!(on(0, &ether.vlan(0).payload(0x8100, &inner[2..]).frame()), mismatch, "priority and tag");
}

#[test]
fn unknown_ethertype() {
    // LLDP; Q-in-Q; the length of an 802.3 frame.
    for ethertype in [0x88cc, 0x88a8, 0x0026] {
        dropped(&eth(SRC_MAC, DST_MAC).payload(ethertype, [0; 46]).frame(), DropReason::UnknownEthertype);
    }
}

#[test]
fn arp_malformed() {
    let frame = eth(SRC_MAC, Mac::BROADCAST).arp_request(A4, B4).padded();
    assert_eq!(parsed(&frame), Ok(Parsed::Arp { offset: 14 }));
    dropped(&frame[..41], DropReason::ArpMalformed);
    let mut token_ring = frame;
    token_ring[15] = 6;
    dropped(&token_ring, DropReason::ArpMalformed);
    let tagged = eth(SRC_MAC, DST_MAC).vlan(7).arp_reply(A4, B4).frame();
    let link = Link { vlan: 7, ..LINK };
    assert_eq!(parse(&link, &tagged, RxChecksum::Unknown), Ok(Parsed::Arp { offset: 18 }));
}

#[test]
fn ipv4_header() {
    dropped(&ip(A4, B4).udp(1, 2).frame()[..33], DropReason::Ipv4Header);
    dropped(&v4_with(0, 0x55), DropReason::Ipv4Header);
    dropped(&v4_with(0, 0x44), DropReason::Ipv4Header);
    dropped(&v4_with(3, 19), DropReason::Ipv4Header);
    // What segmentation offload leaves in captures.
    dropped(&v4_with(3, 0), DropReason::Ipv4Header);
}

#[test]
fn ipv4_truncated() {
    let frame = ip(A4, B4).udp(1, 2).payload([0; 40]).frame();
    dropped(&frame[..frame.len() - 1], DropReason::Ipv4Truncated);
    passes(&frame);
}

#[test]
fn ipv4_checksum() {
    let good = ip(A4, B4).udp(1, 2).frame();
    let mut bad = good.clone();
    bad[24] ^= 1;
    let check = |frame: &[u8], device| parse(&LINK, frame, device).map(|_| ());
    let wrong = Err(DropReason::Ipv4Checksum);
    assert_eq!(check(&bad, RxChecksum::Unknown), wrong);
    // The device's word is taken, both ways.
    assert_eq!(check(&bad, RxChecksum::Good), Ok(()));
    assert_eq!(check(&good, RxChecksum::Bad), wrong);
    let mut bad_option = ip(A4, B4).options([148, 4, 0, 0]).udp(1, 2).frame();
    passes(&bad_option);
    bad_option[36] ^= 1;
    assert_eq!(check(&bad_option, RxChecksum::Unknown), wrong);
}

#[test]
fn ipv4_options() {
    let with = |options: &[u8]| ip(A4, B4).options(options).udp(1, 2).frame();
    // Loose and strict source route, behind another option too; lengths 0, 1 and beyond the header.
    for bad in
        [&[131, 3, 4][..], &[1, 137, 3, 4], &[148, 4, 0, 0, 131, 3, 4], &[7, 0], &[7, 1], &[7, 5, 0, 0]]
    {
        dropped(&with(bad), DropReason::Ipv4Options);
    }
    // Router alert; record route; a source route behind the end of options is none.
    for good in [&[148, 4, 0, 0][..], &[7, 7, 4, 0, 0, 0, 0], &[0, 131, 3, 4]] {
        let packet = passes(&with(good));
        assert_eq!(packet.l4 - packet.l3, 20 + good.len().next_multiple_of(4) as u16);
    }
}

#[test]
fn ipv6_header() {
    let frame = ip(A6, B6).udp(1, 2).frame();
    dropped(&frame[..53], DropReason::Ipv6Header);
    let mut version = frame;
    version[14] = 0x40;
    dropped(&version, DropReason::Ipv6Header);
}

#[test]
fn ipv6_truncated() {
    let frame = ip(A6, B6).udp(1, 2).payload([0; 40]).frame();
    dropped(&frame[..frame.len() - 1], DropReason::Ipv6Truncated);
}

#[test]
fn ipv6_extension() {
    let v6 = || ip(A6, B6);
    let bad = [
        v6().routing(0, 0),
        v6().routing(0, 1),
        v6().routing(4, 1),
        v6().destination_options().hop_by_hop(),
        (0..9).fold(v6(), |ip, _| ip.destination_options()),
    ];
    for ip in bad {
        dropped(&ip.udp(1, 2).frame(), DropReason::Ipv6Extension);
    }
    // A header that ends beyond the packet.
    dropped(
        &v6().protocol(protocol::HOP_BY_HOP, [17, 1, 0, 0, 0, 0, 0, 0]).frame(),
        DropReason::Ipv6Extension,
    );
    let good: [(Ip, u16); 4] = [
        (v6().routing(4, 0), 8),
        (v6().hop_by_hop().destination_options(), 16),
        (v6().authentication(), 24),
        (v6().extension(protocol::DESTINATION_OPTIONS, [0; 2046]), 2048),
    ];
    for (ip, len) in good {
        let packet = passes(&ip.udp(1, 2).frame());
        assert_eq!((packet.l4 - packet.l3, packet.protocol), (40 + len, 17));
    }
}

#[test]
fn fragment() {
    for ip in [ip(A4, B4), ip(A6, B6)] {
        for (offset, more) in [(0, true), (8, true), (1480, false)] {
            let packet = passes(&ip.clone().id(7).fragment(offset, more).udp(1, 2).frame());
            assert_eq!(packet.fragment, Some(Fragment { id: 7, offset, more }));
            assert_eq!(packet.ports(), if offset == 0 { (1, 2) } else { (0, 0) });
        }
        let piece = |number: u8, offset, more, len| {
            ip.clone().fragment(offset, more).protocol(number, vec![1; len]).frame()
        };
        // A later fragment starts with anything, also what would be no header; nor need the lengths in one be its own.
        assert_eq!(passes(&piece(protocol::TCP, 24, false, 1)).l4_info, L4::Other);
        assert_eq!(passes(&piece(protocol::UDP, 0, true, 8)).ports(), (0x101, 0x101));
        for (number, offset, len) in [
            (protocol::TCP, 0, 16),
            (protocol::TCP, 8, 40),
            (protocol::TCP, 16, 8),
            (protocol::SCTP, 0, 8),
            (protocol::SCTP, 8, 8),
        ] {
            dropped(&piece(number, offset, true, len), DropReason::FragmentTiny);
        }
        for (offset, more, len) in [(8, true, 7), (8, false, 0), (65_528, false, 8), (0, true, 9)] {
            dropped(&piece(protocol::UDP, offset, more, len), DropReason::FragmentMalformed);
        }
        for number in
            [47, protocol::HOP_BY_HOP, protocol::DESTINATION_OPTIONS, protocol::ICMPV4, protocol::ICMPV6]
        {
            dropped(&piece(number, 0, true, 64), DropReason::Fragment);
            dropped(&piece(number, 64, false, 64), DropReason::Fragment);
        }
    }
    // Atomic (RFC 6946).
    assert_eq!(passes(&ip(A6, B6).fragment(0, false).udp(1, 2).frame()).ports(), (1, 2));
}

#[test]
fn martian_source() {
    for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"] {
        dropped(&ip(src, B4).udp(1, 2).frame(), DropReason::MartianSource);
    }
    for src in ["::", "::1", "ff02::1"] {
        dropped(&ip(src, B6).udp(1, 2).frame(), DropReason::MartianSource);
    }
    let v6 = ip(A6, B6).udp(1, 2).frame();
    let mut mapped = v6.clone();
    mapped[22..38].copy_from_slice(&Addr::v4([10, 0, 0, 1]).v6_octets());
    dropped(&mapped, DropReason::MartianSource);
    for src in ["1.0.0.0", "126.0.0.1", "128.0.0.1", "223.255.255.255", "240.0.0.1", "255.255.255.254"] {
        passes(&ip(src, B4).udp(1, 2).frame());
    }
    passes(&ip("::2", B6).udp(1, 2).frame());
}

#[test]
fn martian_destination() {
    for dst in ["0.0.0.0", "0.0.0.1", "127.0.0.1", "127.255.255.255"] {
        dropped(&ip(A4, dst).udp(1, 2).frame(), DropReason::MartianDestination);
    }
    for dst in ["::", "::1"] {
        dropped(&ip(A6, dst).udp(1, 2).frame(), DropReason::MartianDestination);
    }
    let mut mapped = ip(A6, B6).udp(1, 2).frame();
    mapped[38..54].copy_from_slice(&Addr::v4([10, 0, 0, 2]).v6_octets());
    dropped(&mapped, DropReason::MartianDestination);
}

#[test]
fn multicast() {
    for dst in ["224.0.0.1", "239.1.2.3", "255.255.255.255"] {
        dropped(&ip(A4, dst).udp(1, 2).frame(), DropReason::Multicast);
    }
    for dst in ["ff02::1", "ff02::2", "ff05::1:3", "ff02::1:ff00:1"] {
        dropped(&ip(A6, dst).udp(1, 2).frame(), DropReason::Multicast);
    }
    // Echo to all nodes; router solicitation; a solicitation to another group.
    dropped(&ip(A6, "ff02::1").echo_request(1, 1).frame(), DropReason::Multicast);
    dropped(&ip(A6, "ff02::2").icmp(133, 0, 0).frame(), DropReason::Multicast);
    dropped(&ip(A6, "ff02::2").neighbor_solicitation(B6).frame(), DropReason::Multicast);
}

#[test]
fn neighbour_discovery_passes() {
    let target = "2001:db8::12:3456";
    let group = "ff02::1:ff12:3456";
    let mac = Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    let solicit = |src| eth(SRC_MAC, mac).ip(src, group).neighbor_solicitation(target).frame();
    assert_eq!(passes(&solicit(A6)).l4_info, L4::Icmp { kind: 135, code: 0 });
    // Duplicate address detection.
    passes(&solicit("::"));
    passes(&ip(A6, "ff02::1").neighbor_solicitation(B6).frame());
    assert_eq!(passes(&ip(A6, "ff02::1").neighbor_advertisement(A6, ndp::OVERRIDE).frame()).ttl, 255);
    // Only a solicitation may come from nowhere.
    dropped(&ip("::", "ff02::1").neighbor_advertisement(A6, 0).frame(), DropReason::MartianSource);
    dropped(&ip("::", B6).echo_request(1, 1).frame(), DropReason::MartianSource);
    let frame = ip("::", group).fragment(8, true).neighbor_solicitation(target).frame();
    dropped(&frame, DropReason::MartianSource);
}

#[test]
fn tcp_header() {
    for number in [A4, A6].map(|a| if a == A4 { ip(A4, B4) } else { ip(A6, B6) }) {
        let l4 = number.clone().tcp(1, 2).syn().l3();
        let l4 = &l4[l4.len() - 20..];
        dropped(&number.clone().protocol(protocol::TCP, &l4[..19]).frame(), DropReason::TcpHeader);
        for offset in [0x40, 0x60, 0xf0] {
            let mut l4 = l4.to_vec();
            l4[12] = offset;
            dropped(&number.clone().protocol(protocol::TCP, &l4).frame(), DropReason::TcpHeader);
        }
    }
    // Padding does not count as header.
    dropped(&ip(A4, B4).protocol(protocol::TCP, [0; 8]).padded(), DropReason::TcpHeader);
}

#[test]
fn tcp_flags() {
    use flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
    let with = |flags| ip(A4, B4).tcp(1, 2).flags(flags).frame();
    for flags in [
        0,
        ECE | CWR,
        SYN | FIN,
        SYN | FIN | ACK,
        SYN | RST,
        SYN | RST | ACK,
        FIN,
        FIN | PSH | URG,
        FIN | RST,
        0xff,
    ] {
        dropped(&with(flags), DropReason::TcpFlags);
    }
    for flags in [
        SYN,
        SYN | ECE | CWR,
        SYN | ACK,
        SYN | PSH,
        ACK,
        ACK | PSH,
        ACK | FIN,
        RST,
        RST | ACK,
        RST | PSH | ACK,
        ACK | ECE,
    ] {
        passes(&with(flags));
    }
}

#[test]
fn udp_header() {
    let udp = |payload: &[u8]| ip(A4, B4).protocol(protocol::UDP, payload).frame();
    dropped(&udp(&[0, 1, 0, 2, 0, 8, 0]), DropReason::UdpHeader);
    dropped(&udp(&[0, 1, 0, 2, 0, 7, 0, 0]), DropReason::UdpHeader);
    dropped(&udp(&[0, 1, 0, 2, 0, 0, 0, 0]), DropReason::UdpHeader);
    dropped(&udp(&[0, 1, 0, 2, 0, 9, 0, 0]), DropReason::UdpHeader);
    // Shorter than the packet (RFC 9868).
    passes(&udp(&[0, 1, 0, 2, 0, 8, 0, 0, 9, 9]));
}

#[test]
fn sctp_header() {
    let whole = ip(A4, B4).sctp(1, 2).tag(3).cookie_echo(b"12345678").l3();
    let cut = |len: usize| ip(A4, B4).protocol(protocol::SCTP, &whole[20..20 + len]).frame();
    for len in 0..24 {
        dropped(&cut(len), DropReason::SctpHeader);
    }
    passes(&cut(24));
    // An INIT shorter than its fixed part.
    dropped(&ip(A4, B4).sctp(1, 2).chunk(1, 0, [1; 15]).frame(), DropReason::SctpHeader);
    dropped(&ip(A4, B4).sctp(1, 2).tag(3).chunk(2, 0, [1; 15]).frame(), DropReason::SctpHeader);
}

#[test]
fn sctp_chunk() {
    let sctp = || ip(A4, B4).sctp(1, 2);
    let bad = [
        sctp().init(7).cookie_ack(),
        sctp().init(7).init(7),
        sctp().init(7).chunk(0xc1, 0, []),
        sctp().tag(3).data(1, 0, b"x").init_ack(7, b"c"),
        sctp().tag(3).shutdown_complete(false).abort(false),
        sctp().tag(3).init(7),
        sctp().init(0),
        sctp().tag(3).init_ack(0, b"c"),
    ];
    for packet in bad {
        dropped(&packet.frame(), DropReason::SctpChunk);
    }
    let l4 = |packet: crate::wire::build::Packet<_>| match passes(&packet.frame()).l4_info {
        L4::Sctp { tag, chunks, initiate_tag, reflected, .. } => (tag, chunks, initiate_tag, reflected),
        other => panic!("{other:?}"),
    };
    assert_eq!(l4(sctp().init(7)), (0, 1 << 1, 7, false));
    assert_eq!(l4(sctp().tag(3).init_ack(8, b"c")), (3, 1 << 2, 8, false));
    assert_eq!(l4(sctp().tag(3).cookie_echo(b"c").data(1, 0, b"x")), (3, 1 << 10 | 1, 0, false));
    assert_eq!(l4(sctp().tag(3).abort(true)), (3, 1 << 6, 0, true));
    assert_eq!(l4(sctp().tag(3).shutdown_complete(true)), (3, 1 << 14, 0, true));
    assert_eq!(l4(sctp().tag(3).chunk(0x80, 0, []).cookie_ack()), (3, 1 << 11, 0, false));
}

#[test]
fn icmp_header() {
    dropped(
        &ip(A4, B4).protocol(protocol::ICMPV4, [8, 0, 0xf7, 0xff, 0, 0, 0]).frame(),
        DropReason::IcmpHeader,
    );
    dropped(&ip(A6, B6).protocol(protocol::ICMPV6, [128, 0, 0, 0]).frame(), DropReason::IcmpHeader);
}

#[test]
fn icmp_checksum() {
    for mut frame in [ip(A4, B4).echo_request(1, 2).frame(), ip(A6, B6).echo_request(1, 2).frame()] {
        passes(&frame);
        *frame.last_mut().unwrap() ^= 1;
        dropped(&frame, DropReason::IcmpChecksum);
    }
    // ICMPv6 without the pseudo header.
    let v4 = ip(A4, B4).icmp(128, 0, 1).l3();
    dropped(&ip(A6, B6).protocol(protocol::ICMPV6, &v4[20..]).frame(), DropReason::IcmpChecksum);
}

#[test]
fn port_zero() {
    for (sport, dport) in [(0, 2), (1, 0), (0, 0)] {
        dropped(&ip(A4, B4).tcp(sport, dport).syn().frame(), DropReason::PortZero);
        dropped(&ip(A4, B4).udp(sport, dport).frame(), DropReason::PortZero);
        dropped(&ip(A6, B6).sctp(sport, dport).init(1).frame(), DropReason::PortZero);
    }
}

#[test]
fn other_protocols_are_left_to_the_pipeline() {
    for (ip, number) in [(ip(A4, B4), 47), (ip(A4, B4), protocol::ICMPV6), (ip(A6, B6), protocol::ICMPV4)] {
        let packet = passes(&ip.protocol(number, [0; 3]).frame());
        assert_eq!((packet.l4_info, packet.protocol, packet.ports()), (L4::Other, number, (0, 0)));
    }
    assert_eq!(passes(&ip(A6, B6).protocol(protocol::NO_NEXT_HEADER, []).frame()).l4_len(), 0);
}

#[test]
fn padding_is_no_part_of_the_packet() {
    let frame = ip(A4, B4).tcp(1, 2).syn().padded();
    let packet = passes(&frame);
    assert_eq!((frame.len(), packet.l3_len, packet.l4_len()), (60, 40, 20));
    assert!(matches!(packet.l4_info, L4::Tcp { payload: 0, .. }));
}

#[test]
fn dont_fragment() {
    assert!(passes(&ip(A4, B4).df(true).udp(1, 2).frame()).dont_fragment);
    assert!(!passes(&ip(A4, B4).df(false).udp(1, 2).frame()).dont_fragment);
    assert!(passes(&ip(A6, B6).udp(1, 2).frame()).dont_fragment);
}

/// Frames with the checksums of IPv4 header and ICMP mended after a mutation, or most would get no further than these.
fn mend(frame: &mut [u8]) {
    let Ok(ip) = ipv4::Ipv4::new_checked(&frame[14..]) else { return };
    let end = 14 + ip.header_len();
    let Some(header) = frame.get_mut(14..end) else { return };
    header[10..12].fill(0);
    let sum = crate::wire::checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What later stages rely on, whatever the bytes.
fn check_bounds(frame: &[u8], parsed: Result<Parsed, DropReason>) -> Result<(), TestCaseError> {
    match parsed {
        Ok(Parsed::Arp { offset }) => prop_assert!(offset + 28 <= frame.len()),
        Ok(Parsed::Ip(p)) => {
            let (l3, l4, len) = (p.l3 as usize, p.l4 as usize, p.l3_len as usize);
            prop_assert!(l3 + len <= frame.len());
            let header = if p.src.is_v4() { 20 } else { 40 };
            prop_assert!(l3 + header <= l4 && l4 <= l3 + len);
            prop_assert_eq!(p.src.is_v4(), p.dst.is_v4());
            let least = match p.l4_info {
                L4::Tcp { .. } => 20,
                L4::Udp { .. } | L4::Icmp { .. } => 8,
                L4::Sctp { .. } => 16,
                L4::Other => 0,
            };
            prop_assert!(p.l4_len() >= least);
            if let Some(q) = quoted(frame, &p) {
                prop_assert!(q.l4 + 4 <= l3 + len && q.l3 < q.l4);
            }
        }
        Err(_) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_built_parses_back(s in sample()) {
        let link = Link { mac: Some(DST_MAC), vlan: s.vlan };
        prop_assert_eq!(parse(&link, &s.frame, RxChecksum::Unknown), Ok(Parsed::Ip(s.packet)));
    }

    #[test]
    fn the_short_cut_never_contradicts(
        s in sample(),
        at in 0..80_usize,
        to in any::<u8>(),
        cut in 0..80_usize,
        checksum in 0..3_usize,
    ) {
        let checksum = [RxChecksum::Good, RxChecksum::Bad, RxChecksum::Unknown][checksum];
        let mut frame = s.frame;
        if let Some(byte) = frame.get_mut(at) {
            *byte = to;
        }
        for frame in [&frame[..], &frame[..cut.min(frame.len())]] {
            for mac in [Some(DST_MAC), None] {
                for vlan in [0, s.vlan] {
                    let _ = agreed(&Link { mac, vlan }, frame, checksum);
                }
            }
        }
    }

    #[test]
    fn the_short_cut_is_taken(s in sample()) {
        let Packet { l4_info, fragment, l3, l4, .. } = s.packet;
        let transport = matches!(l4_info, L4::Tcp { .. } | L4::Udp { .. });
        let plain = usize::from(l4 - l3) == if s.packet.src.is_v4() { 20 } else { 40 };
        if transport && plain && fragment.is_none() && !s.packet.to_group && usize::from(l3) == if s.vlan == 0 { 14 } else { 18 } {
            let link = Link { mac: Some(DST_MAC), vlan: s.vlan };
            let mut short = Whole::default();
            prop_assert!(whole(&Station::new(&link), &s.frame, || RxChecksum::Unknown, &mut short));
            prop_assert_eq!(short.packet(), s.packet);
        }
    }

    #[test]
    fn arbitrary_bytes(frame in vec(any::<u8>(), 0..200), checksum in any::<bool>()) {
        let rx = if checksum { RxChecksum::Good } else { RxChecksum::Unknown };
        check_bounds(&frame, parse(&Link { mac: None, vlan: 0 }, &frame, rx))?;
    }

    #[test]
    fn mutated_frames(
        s in sample(),
        flips in vec(any::<(prop::sample::Index, u8)>(), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut frame = s.frame;
        for (at, value) in flips {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len() + 1));
        }
        let link = Link { mac: None, vlan: s.vlan };
        check_bounds(&frame, parse(&link, &frame, RxChecksum::Good))?;
        if s.vlan == 0 && frame.len() > 34 {
            mend(&mut frame);
            check_bounds(&frame, parse(&link, &frame, RxChecksum::Unknown))?;
        }
    }
}
