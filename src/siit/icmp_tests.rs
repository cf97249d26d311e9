//! Messages of one family in, of the other out.

use proptest::prelude::*;

use super::*;
use crate::addr::Mac;
use crate::wire::build::{self, Ether, verify};

/// Type and code, and what they become.
type Row = (u8, u8, Option<(u8, u8)>);

const ROUTER4: Addr = Addr::v4([10, 1, 0, 99]);
const SNAT4: (Addr, u16) = (Addr::v4([10, 1, 0, 2]), 30_000);
const ENDPOINT4: (Addr, u16) = (Addr::v4([10, 1, 0, 10]), 8080);
const ROUTER6: Addr = Addr(0x2001_0db8 << 96 | 0x99);
const CLIENT6: (Addr, u16) = (Addr(0x2001_0db8 << 96 | 7), 4000);
const VIP6: (Addr, u16) = (Addr(0x2001_0db8 << 96 | 0x100), 80);

fn eth() -> Ether {
    build::eth(Mac([2; 6]), Mac([4; 6]))
}

fn checked(packet: &[u8]) {
    let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    verify(&eth().payload(kind, packet).frame()).unwrap_or_else(|e| panic!("{e}: {packet:02x?}"));
}

/// An error of a router about what the engine sent to an IPv4 endpoint, for the IPv6 client.
fn up(kind: u8, code: u8, word: u32, quoted: &[u8]) -> Option<(u8, u8, u32, Vec<u8>)> {
    let packet = eth().ip(ROUTER4, SNAT4.0).icmp(kind, code, word).payload(quoted).l3();
    let out = to_v6(&packet, (VIP6.0, CLIENT6.0), 33, (CLIENT6, VIP6))?;
    let ip = Ipv6::new_checked(&out).unwrap();
    assert_eq!((ip.src(), ip.dst(), ip.hop_limit(), ip.next_header()), (VIP6.0, CLIENT6.0, 33, 58));
    let message = Icmp::new_checked(ip.payload()).unwrap();
    Some((message.kind(), message.code(), message.word(), out.to_vec()))
}

/// An error of a router about what the engine sent to an IPv6 endpoint, for the IPv4 client.
fn down(kind: u8, code: u8, word: u32, quoted: &[u8]) -> Option<(u8, u8, u32, Vec<u8>)> {
    let packet = eth().ip(ROUTER6, CLIENT6.0).icmp(kind, code, word).payload(quoted).l3();
    let out = to_v4(&packet, (ENDPOINT4.0, SNAT4.0), 33, 5, (SNAT4, ENDPOINT4))?;
    let ip = Ipv4::new_checked(&out).unwrap();
    assert_eq!((ip.src(), ip.dst(), ip.ttl(), ip.protocol()), (ENDPOINT4.0, SNAT4.0, 33, 1));
    let message = Icmp::new_checked(ip.payload()).unwrap();
    Some((message.kind(), message.code(), message.word(), out.to_vec()))
}

fn sent4() -> build::Packet<build::Tcp> {
    sent4_with(true)
}

fn sent4_with(df: bool) -> build::Packet<build::Tcp> {
    eth().ip(SNAT4.0, ENDPOINT4.0).df(df).ttl(9).tcp(SNAT4.1, ENDPOINT4.1).seq(77).ack(88).payload([9; 100])
}

fn sent6() -> build::Packet<build::Tcp> {
    eth().ip(CLIENT6.0, VIP6.0).ttl(9).tcp(CLIENT6.1, VIP6.1).seq(77).ack(88).payload([9; 100])
}

#[test]
fn types_and_codes_to_v6() {
    let quoted = sent4().l3();
    let table: &[Row] = &[
        (3, 0, Some((1, 0))),
        (3, 1, Some((1, 0))),
        (3, 2, Some((4, 1))),
        (3, 3, Some((1, 4))),
        (3, 4, Some((2, 0))),
        (3, 5, Some((1, 0))),
        (3, 8, Some((1, 0))),
        (3, 9, Some((1, 1))),
        (3, 10, Some((1, 1))),
        (3, 11, Some((1, 0))),
        (3, 12, Some((1, 0))),
        (3, 13, Some((1, 1))),
        (3, 14, None),
        (3, 15, Some((1, 1))),
        (3, 16, None),
        (11, 0, Some((3, 0))),
        (11, 1, Some((3, 1))),
        (12, 1, None),
        (12, 3, None),
        (4, 0, None),
        (5, 0, None),
    ];
    for &(kind, code, expected) in table {
        let got = up(kind, code, 1400, &quoted).map(|(kind, code, ..)| (kind, code));
        assert_eq!(got, expected, "type {kind} code {code}");
    }
    for (pointer, expected) in [
        (0, Some(0)),
        (1, Some(1)),
        (3, Some(4)),
        (4, None),
        (8, Some(7)),
        (9, Some(6)),
        (11, None),
        (13, Some(8)),
        (19, Some(24)),
        (20, None),
    ] {
        let got = up(12, 0, pointer << 24, &quoted).map(|(kind, code, word, _)| (kind, code, word));
        assert_eq!(got, expected.map(|p| (4, 0, p)), "pointer {pointer}");
    }
    assert_eq!(up(3, 2, 0, &quoted).unwrap().2, 6);
}

#[test]
fn types_and_codes_to_v4() {
    let quoted = sent6().l3();
    let table: &[Row] = &[
        (1, 0, Some((3, 1))),
        (1, 1, Some((3, 10))),
        (1, 2, Some((3, 1))),
        (1, 3, Some((3, 1))),
        (1, 4, Some((3, 3))),
        (1, 5, None),
        (2, 0, Some((3, 4))),
        (3, 0, Some((11, 0))),
        (3, 1, Some((11, 1))),
        (4, 1, Some((3, 2))),
        (4, 2, None),
        (5, 0, None),
    ];
    for &(kind, code, expected) in table {
        let got = down(kind, code, 1400, &quoted).map(|(kind, code, ..)| (kind, code));
        assert_eq!(got, expected, "type {kind} code {code}");
    }
    for (pointer, expected) in [
        (0, Some(0)),
        (1, Some(1)),
        (2, None),
        (5, Some(2)),
        (6, Some(9)),
        (7, Some(8)),
        (8, Some(12)),
        (39, Some(16)),
        (40, None),
    ] {
        let got = down(4, 0, pointer, &quoted).map(|(kind, code, word, _)| (kind, code, word));
        assert_eq!(got, expected.map(|p| (12, 0, p << 24)), "pointer {pointer}");
    }
}

#[test]
fn the_mtu_is_the_other_family_s() {
    let big = sent4().payload(vec![0; 1400]).l3();
    assert_eq!(up(3, 4, 1400, &big).unwrap().2, 1420);
    assert_eq!(up(3, 4, 576, &big).unwrap().2, 1280, "IPv6 knows nothing smaller");
    assert_eq!(up(3, 4, 0, &big).unwrap().2, 1280, "a plateau below 1440, 1006");
    let big = sent6().l3();
    assert_eq!(down(2, 0, 1500, &big).unwrap().2, 1480);
    assert_eq!(down(2, 0, 1280, &big).unwrap().2, 1260);
    assert_eq!(down(2, 0, 10, &big).unwrap().2, 68);
    assert_eq!(down(2, 0, u32::MAX, &big).unwrap().2, 65_535);
}

#[test]
fn the_quoted_packet_is_the_one_that_the_receiver_sent() {
    let (.., out) = up(3, 3, 0, &sent4().l3()).unwrap();
    checked(&out);
    assert_eq!(out[48..], sent6().l3());
    let (.., out) = down(1, 4, 0, &sent6().l3()).unwrap();
    checked(&out);
    assert_eq!(out[28..], sent4_with(false).l3());
}

proptest! {
    #[test]
    fn cut_anywhere_it_is_whole_or_nothing(cut in 0..200_usize, len in 0..1400_usize, udp in any::<bool>()) {
        let (v4, v6) = if udp {
            let to4 = eth().ip(SNAT4.0, ENDPOINT4.0).udp(SNAT4.1, ENDPOINT4.1).payload(vec![3; len]).l3();
            (to4, eth().ip(CLIENT6.0, VIP6.0).udp(CLIENT6.1, VIP6.1).payload(vec![3; len]).l3())
        } else {
            (sent4().payload(vec![3; len]).l3(), sent6().payload(vec![3; len]).l3())
        };
        // Errors quote from 28 bytes (RFC 792) to all that fits.
        let out = up(3, 3, 0, &v4[..v4.len().min(cut)]);
        prop_assert_eq!(out.is_some(), cut >= 20);
        if let Some((.., out)) = out { checked(&out); prop_assert!(out.len() <= 1280); }
        let out = up(3, 3, 0, &v4).unwrap().3;
        checked(&out);
        let out = down(1, 4, 0, &v6[..v6.len().min(cut)]);
        prop_assert_eq!(out.is_some(), cut >= 40);
        if let Some((.., out)) = out { checked(&out); }
        let out = down(1, 4, 0, &v6[..v6.len().min(1232)]).unwrap().3;
        checked(&out);
        prop_assert!(out.len() <= 576);
    }

    #[test]
    fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = to_v6(&bytes, (VIP6.0, CLIENT6.0), 1, (CLIENT6, VIP6));
        let _ = to_v4(&bytes, (SNAT4.0, ENDPOINT4.0), 1, 1, (SNAT4, ENDPOINT4));
        let _ = up(3, 3, 0, &bytes);
        let _ = down(1, 4, 0, &bytes);
    }
}
