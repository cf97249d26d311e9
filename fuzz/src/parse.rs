//! The parser, the views of `wire` and the reader of quoted packets.

use pollux::addr::{Addr, Mac};
use pollux::parse::{self, L4, Link, Packet, Parsed};
use pollux::pipeline::RxChecksum;
use pollux::wire::{arp, build, ethernet, icmp, ipv4, ipv6, ndp, quic, sctp, tcp, udp};

use super::repair::repair;

/// The first byte says what the port is like and whether checksums are repaired; the rest is the frame.
pub fn parse(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let mut frame = bytes.to_vec();
    if how & 1 != 0 {
        repair(&mut frame);
    }
    let link = Link {
        mac: (how & 2 != 0).then_some(Mac([2, 0, 0, 0, 0, 2])),
        vlan: if how & 4 != 0 { 7 } else { 0 },
    };
    let checksum = [RxChecksum::Unknown, RxChecksum::Good, RxChecksum::Bad][usize::from(how >> 4 & 3) % 3];

    let parsed = parse::parse(&link, &frame, checksum);
    assert_eq!(parsed, parse::parse(&link, &frame, checksum), "the same again");
    let verified = build::verify(&frame);
    match parsed {
        Ok(Parsed::Ip(packet)) => {
            check(&link, &frame, &packet, checksum);
            // What an ICMP error quotes may be cut so short that nobody can say what is right.
            if how & 1 != 0 && !matches!(packet.l4_info, L4::Icmp { .. }) {
                verified.unwrap_or_else(|e| panic!("parsed, and yet {e}"));
            }
        }
        Ok(Parsed::Arp { offset }) => {
            arp::Arp::new_checked(&frame[offset..]).unwrap();
        }
        Err(_) => {}
    }
    views(&frame);
    let l3 = ethernet::Ethernet::new_checked(&frame).map_or(0, |e| e.header_len());
    // Headers that the layers around them would have kept away.
    for from in [0, l3, l3 + 20, l3 + 40] {
        views(frame.get(from..).unwrap_or_default());
    }
}

/// What later stages rely on.
fn check(link: &Link, frame: &[u8], packet: &Packet, checksum: RxChecksum) {
    let (l3, l4, end) =
        (usize::from(packet.l3), usize::from(packet.l4), usize::from(packet.l3) + packet.l3_len as usize);
    assert!(l3 < l4 && l4 <= end && end <= frame.len(), "{packet:?}");
    assert_eq!(packet.l4_len(), end - l4);
    assert_eq!(packet.src.is_v4() || packet.dst.is_v4(), frame[l3] >> 4 == 4);
    let least = match packet.l4_info {
        L4::Tcp { payload, .. } => 20 + payload as usize,
        L4::Udp { .. } | L4::Icmp { .. } => 8,
        L4::Sctp { .. } => 12,
        L4::Other => 0,
    };
    assert!(packet.l4_len() >= least, "{packet:?}");
    if matches!(packet.l4_info, L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. }) {
        let (sport, dport) = packet.ports();
        assert!(sport != 0 && dport != 0);
        let at = |at: usize| u16::from_be_bytes([frame[l4 + at], frame[l4 + at + 1]]);
        assert_eq!((at(0), at(2)), (sport, dport));
    }
    assert_eq!(parse::parse(link, &frame[..end], checksum), Ok(Parsed::Ip(*packet)), "padding means nothing");
    if let Some(quoted) = parse::quoted(frame, packet) {
        assert!(quoted.l3 >= l4 + 8 && quoted.l4 >= quoted.l3 + 20 && quoted.l4 + 4 <= end, "{quoted:?}");
    }
    assert_eq!(build::l3(frame).len(), packet.l3_len as usize);
}

/// What a QUIC packet's connection id names is in the packet, behind the first octet of the id, for any length.
fn server_ids(payload: &[u8]) {
    for len in 0..=quic::MAX_SERVER_ID {
        let id = quic::server_id(payload, len);
        let routable = payload.len() >= 2 + len && payload[0] & quic::LONG_HEADER == 0 && payload[1] < 0xe0;
        assert_eq!(id, routable.then(|| &payload[2..2 + len]));
    }
}

/// Every accessor of every view that takes these bytes.
fn views(bytes: &[u8]) {
    let (src, dst) = (Addr(1 << 100), Addr(1 << 101));
    if let Ok(v) = ethernet::Ethernet::new_checked(bytes) {
        let _ = (v.dst(), v.src(), v.vlan(), v.ethertype());
        assert_eq!(v.header_len() + v.payload().len(), bytes.len());
    }
    if let Ok(v) = arp::Arp::new_checked(bytes) {
        let _ = format!("{v:?}");
    }
    if let Ok(v) = ipv4::Ipv4::new_checked(bytes) {
        let _ = (v.verify_checksum(), v.ttl(), v.dont_fragment(), v.is_fragment());
        assert_eq!(v.header_len() + v.payload().len(), v.total_len());
        // Options of at least a byte each, and an error ends them.
        assert!(v.options().count() <= 40);
    }
    if let Ok(v) = ipv6::Ipv6::new_checked(bytes) {
        assert_eq!(40 + v.payload().len(), v.total_len());
        if let Ok(upper) = v.upper() {
            assert!(upper.offset <= v.payload().len(), "{upper:?}");
        }
    }
    if let Ok(v) = tcp::Tcp::new_checked(bytes) {
        let _ = (v.sport(), v.dport(), v.seq(), v.ack(), v.flags());
        assert!(v.payload().len() + 20 <= bytes.len());
    }
    if let Ok(v) = udp::Udp::new_checked(bytes) {
        let _ = (v.sport(), v.dport());
        server_ids(v.payload());
    }
    if let Ok(v) = sctp::Sctp::new_checked(bytes) {
        // A chunk has a header of 4 bytes.
        assert!(v.chunks().count() <= bytes.len() / 4);
        for chunk in v.chunks() {
            let _ = (chunk.initiate_tag(), chunk.is_reflected());
        }
    }
    if let Ok(v) = icmp::Icmp::new_checked(bytes) {
        let _ = (v.kind(), v.code());
    }
    let _ = ndp::Message::new_checked(bytes, src, dst, ndp::HOP_LIMIT);
}
