//! The filter against libpcap's and tcpdump's own judgement, and the tap without an engine.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use pcap::{Capture, Linktype};
use proptest::prelude::*;

use super::tap::TapWriter;
use super::*;
use crate::ids::PortId;
use crate::pcap::{PcapWriter, Reader};
use crate::pipeline::{DropReason, VecFrame};
use crate::time::Instant;

/// Every kind of load, jump and arithmetic that libpcap makes for Ethernet.
const FILTERS: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp port 53",
    "udp dst portrange 50-60",
    "sctp",
    "icmp or icmp6",
    "host 198.51.100.3",
    "src host 198.51.100.3 and dst port 80",
    "net 198.51.100.0/30",
    "ip6 host 2001:db8::7",
    "not tcp and not udp",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):2] = 0x4845",
    "ip[8] < 5",
    "len > 100",
    "less 64",
    "greater 64",
    "ether host 02:00:00:00:00:02",
    "ether multicast",
    "vlan 7 and tcp port 80",
    "ip[6:2] & 0x1fff != 0",
    "ip[0] & 0xf > 5",
    "udp[4:2] * 2 + 1 - ip[2:2] / 3 > 7",
    "ip[2:2] % 7 = 3",
    "(ip[1] << 2 | ip[9]) ^ 3 != 18",
    "ip proto 17 and udp[8] = len",
];

fn ethernet(kind: u16, rest: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes(), rest].concat()
}

fn ipv4(protocol: u8, last: u8, ttl: u8, options: usize, fragment: u16, l4: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut ip = vec![0x40 | (header / 4) as u8, last, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0];
    ip[2..4].copy_from_slice(&((header + l4.len()) as u16).to_be_bytes());
    ip[6..8].copy_from_slice(&fragment.to_be_bytes());
    ip.extend([198, 51, 100, last, 203, 0, 113, 100]);
    ip.resize(header, 1);
    [ip, l4.to_vec()].concat()
}

fn l4(source: u16, destination: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend([0, 16, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

fn packets() -> Vec<Vec<u8>> {
    let mut packets = vec![vec![], vec![0xff; 13], ethernet(0x0806, &[0; 28]), vec![0xff; 70]];
    for last in 1..8_u8 {
        for (protocol, port, flags) in
            [(6, 80, 2), (6, 80, 16), (6, 443, 17), (17, 53, 0), (132, 9, 0), (1, 8, 0)]
        {
            let segment =
                l4(1000 + u16::from(last), port, flags, &b"HEAD and a tail"[..usize::from(last * 2)]);
            let ip = ipv4(protocol, last, last * 3, usize::from(last % 3) * 4, u16::from(last / 6), &segment);
            packets.push(ethernet(0x0800, &ip));
            packets.push(ethernet(0x8100, &[&[0, last, 8, 0][..], &ip].concat()));
            // Cut off in every header.
            let mut cut = ethernet(0x0800, &ip);
            cut.truncate(14 + usize::from(last) * 5);
            packets.push(cut);
            let mut ip6 = vec![0x60, 0, 0, 0, 0, segment.len() as u8, protocol, 64];
            ip6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            ip6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100]);
            packets.push(ethernet(0x86dd, &[ip6, segment].concat()));
        }
    }
    packets.push(ethernet(0x0800, &ipv4(17, 9, 9, 0, 0, &[0; 1400])));
    packets
}

#[test]
fn filters_judge_as_tcpdump_does() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
    let packets = packets();
    let mut writer = PcapWriter::new(std::fs::File::create(&input).unwrap()).unwrap();
    for (at, packet) in packets.iter().enumerate() {
        writer.write(at as u64 * 1_000_000_000, packet.len() as u32, packet).unwrap();
    }
    drop(writer);
    let mut both = [0, 0];
    for expression in FILTERS {
        let status = Command::new("tcpdump")
            .arg("-r")
            .arg(&input)
            .arg("-w")
            .arg(&output)
            .arg(expression)
            .stderr(Stdio::null())
            .status()
            .expect("tcpdump; is it installed?");
        assert!(status.success(), "{expression}");
        let mut theirs = BTreeSet::new();
        let mut reader = Reader::open(&output).unwrap();
        while let Some(record) = reader.next_packet().unwrap() {
            theirs.insert((record.time.unwrap() / 1_000_000_000) as usize);
        }
        let program = Program::new(&compile(expression).unwrap()).unwrap();
        for (at, packet) in packets.iter().enumerate() {
            let ours = program.matches(packet, packet.len() as u32);
            assert_eq!(ours, theirs.contains(&at), "{expression}: packet {at} {packet:02x?}");
            both[usize::from(ours)] += 1;
        }
    }
    assert!(both[0] > 500 && both[1] > 500, "{both:?}");
}

proptest! {
    /// Bytes that no stack sends, against libpcap's interpreter.
    #[test]
    fn mangled_packets_are_judged_as_libpcap_does(
        which in 0..FILTERS.len(),
        packet in 0..100_usize,
        changes in prop::collection::vec((0..120_usize, any::<u8>()), 0..20),
        cut in 0..200_usize,
    ) {
        let packets = packets();
        let mut packet = packets[packet % packets.len()].clone();
        for (at, byte) in changes {
            if let Some(old) = packet.get_mut(at) {
                *old = byte;
            }
        }
        packet.truncate(cut);
        let theirs = Capture::dead(Linktype::ETHERNET).unwrap().compile(FILTERS[which], true).unwrap();
        let ours = Program::new(&compile(FILTERS[which]).unwrap()).unwrap();
        prop_assert_eq!(ours.matches(&packet, packet.len() as u32), theirs.filter(&packet));
    }

    /// Whatever a client sends: refused, or run to an end.
    #[test]
    fn any_program_is_refused_or_ends(
        code in prop::collection::vec((0..0xb2_u16, 0..4_u8, 0..4_u8, prop_oneof![0..20_u32, any::<u32>()]), 0..12),
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut code = code;
        code.push((6, 0, 0, 1));
        if let Ok(program) = Program::new(&code) {
            let _ = program.matches(&data, 2000);
        }
        // The same without what would be refused.
        code.retain(|&instruction| Program::new(&[instruction, (6, 0, 0, 0), (6, 0, 0, 0), (6, 0, 0, 0), (6, 0, 0, 0)]).is_ok());
        code.extend([(0x16, 0, 0, 0); 4]);
        for instruction in &mut code {
            if instruction.0 == 5 {
                instruction.3 %= 4;
            }
        }
        let _ = Program::new(&code).unwrap().matches(&data, 2000);
    }
}

#[test]
fn programs_that_no_compiler_makes_are_refused() {
    let end = (6, 0, 0, 0);
    for (program, error) in [
        (vec![], BadProgram::Length(0)),
        (vec![end; MAX_INSTRUCTIONS + 1], BadProgram::Length(MAX_INSTRUCTIONS + 1)),
        (vec![(0x20, 0, 0, 0)], BadProgram::NoReturn),
        (vec![(0x05, 0, 0, 1), end], BadProgram::Instruction(0)),
        (vec![(0x05, 0, 0, u32::MAX), end], BadProgram::Instruction(0)),
        (vec![end, (0x15, 0, 1, 0), end], BadProgram::Instruction(1)),
        (vec![(0x34, 0, 0, 0), end], BadProgram::Instruction(0)),
        (vec![(0x60, 0, 0, 16), end], BadProgram::Instruction(0)),
        (vec![(0xffff, 0, 0, 0), end], BadProgram::Instruction(0)),
    ] {
        assert_eq!(Program::new(&program).unwrap_err(), error, "{program:?}");
    }
    for wrong in ["tcp and", "port http and", "no such thing", "udp\0"] {
        let said = compile(wrong).unwrap_err().to_string();
        assert!(!said.is_empty() && !said.contains('\n'), "{said}");
    }
}

// --- the tap

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);

fn tap(workers: usize, bytes: usize) -> (std::sync::Arc<Tap>, Vec<TapWriter>) {
    Tap::with_rings(workers, vec!["wan".into(), "lan".into()], bytes)
}

fn frames(n: usize, len: usize) -> Vec<VecFrame> {
    (0..n).map(|i| VecFrame::new(&vec![i as u8; len])).collect()
}

/// All that the session has, as a file and its tally.
fn read(session: &mut Session) -> (Vec<u8>, Tally) {
    while session.read(1000) {}
    session.finish(0);
    let mut file = Vec::new();
    let mut scanner = Scanner::new(&mut file);
    // In pieces of any size.
    for piece in session.take().chunks(7) {
        scanner.feed(piece).unwrap();
    }
    let tally = scanner.flush().unwrap();
    (file, tally)
}

fn lengths(file: &[u8]) -> Vec<(u64, usize)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, file).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next_packet().unwrap() {
        found.push((record.time.unwrap(), record.data.len()));
    }
    found
}

#[test]
fn nothing_is_copied_while_no_capture_is_on() {
    let (tap, mut writers) = tap(1, 10_000);
    let writer = &mut writers[0];
    writer.turn(Instant(1));
    writer.received(WAN, &frames(3, 60));
    assert!(writer.stage(LAN, &frames(3, 60)).is_none());
    let mut session = Session::begin(&tap, &Request::default(), 0).unwrap();
    assert!(!session.is_on());
    writer.turn(Instant(2));
    assert!(session.is_on());
    assert_eq!(read(&mut session).1, Tally { missed: Some(0), ..Tally::default() });
}

#[test]
fn packets_of_all_workers_come_by_time_with_their_kind() {
    let (tap, mut writers) = tap(2, 10_000);
    let mut session = Session::begin(&tap, &Request::default(), 1000).unwrap();
    for (worker, time) in [(0, 5), (1, 3), (0, 9), (1, 7)] {
        writers[worker].turn(Instant(time));
        writers[worker].received(WAN, &frames(1, 60 + time as usize));
    }
    let b = &mut writers[1];
    b.dropped(WAN, &frames(1, 90)[0], DropReason::NoService);
    b.refused(WAN, 9000, DropReason::Segmented);
    b.stage(LAN, &frames(3, 80)).unwrap().sent(2);
    b.not_sent(LAN, &frames(1, 80));
    let (file, tally) = read(&mut session);
    assert_eq!(tally, Tally { received: 5, sent: 2, dropped: 2, tx_full: 1, missed: Some(0) });
    let in_order: Vec<_> = lengths(&file).into_iter().take(3).collect();
    assert_eq!(in_order, [(1003, 63), (1005, 65), (1007, 67)]);
    for comment in ["no_service", "segmented", "tx_full"] {
        assert!(file.windows(comment.len()).any(|w| w == comment.as_bytes()), "{comment}");
    }
}

#[test]
fn port_drops_limit_and_filter_narrow_it() {
    let request = |json: &str| serde_json::from_str::<Request>(json).unwrap();
    for (json, want) in [
        ("{}", (10, 4, 1)),
        (r#"{"port": "wan"}"#, (10, 0, 1)),
        (r#"{"port": "lan"}"#, (0, 4, 0)),
        (r#"{"drops": true}"#, (0, 0, 1)),
        (r#"{"limit": 3}"#, (3, 0, 0)),
        // The first byte is 3.
        (r#"{"filter": [[48,0,0,0],[21,0,1,3],[6,0,0,65535],[6,0,0,0]]}"#, (1, 1, 0)),
    ] {
        let (tap, mut writers) = tap(1, 100_000);
        let mut session = Session::begin(&tap, &request(json), 0).unwrap();
        writers[0].turn(Instant(1));
        writers[0].received(WAN, &frames(10, 60));
        writers[0].dropped(WAN, &frames(1, 60)[0], DropReason::NoRoute);
        if let Some(staged) = writers[0].stage(LAN, &frames(4, 60)) {
            staged.sent(4);
        }
        let (_, tally) = read(&mut session);
        assert_eq!((tally.received, tally.sent, tally.dropped), want, "{json}");
    }
    assert!(serde_json::from_str::<Request>(r#"{"prot": "wan"}"#).is_err());
    let (tap, _writers) = tap(1, 1000);
    let error = Session::begin(&tap, &request(r#"{"port": "wam"}"#), 0).unwrap_err().to_string();
    assert_eq!(error, "there is no port wam: the engine has wan, lan");
}

#[test]
fn what_a_full_ring_cannot_take_is_counted() {
    let (tap, mut writers) = tap(1, 1000);
    let writer = &mut writers[0];
    for round in 0..5 {
        let mut session = Session::begin(&tap, &Request::default(), 0).unwrap();
        writer.turn(Instant(round));
        writer.received(WAN, &frames(20, 76)); // 100 bytes each
        // Full: all that are sent are missed, those not sent are not.
        let staged = writer.stage(LAN, &frames(5, 76)).unwrap();
        staged.sent(3);
        let (file, tally) = read(&mut session);
        assert_eq!((tally.received, tally.sent, tally.missed), (10, 0, Some(13)));
        assert_eq!(lengths(&file).len(), 10);
    }
    // A part of a burst, and the ring's end in the middle of a packet.
    let mut session = Session::begin(&tap, &Request::default(), 0).unwrap();
    writer.turn(Instant(9));
    writer.received(WAN, &frames(1, 333));
    writer.stage(LAN, &frames(9, 76)).unwrap().sent(8);
    let (file, tally) = read(&mut session);
    assert_eq!((tally.received, tally.sent, tally.missed), (1, 6, Some(2)));
    assert_eq!(lengths(&file)[1..], [(9, 76); 6]);
}

#[test]
fn one_at_a_time_and_nothing_of_the_one_before() {
    let (tap, mut writers) = tap(1, 10_000);
    let first = Session::begin(&tap, &Request::default(), 0).unwrap();
    assert!(matches!(Session::begin(&tap, &Request::default(), 0), Err(Refusal::Busy)));
    writers[0].turn(Instant(1));
    writers[0].received(WAN, &frames(3, 60));
    drop(first);
    let mut second = Session::begin(&tap, &Request::default(), 0).unwrap();
    // A worker that has not heard of the end.
    writers[0].received(WAN, &frames(2, 60));
    writers[0].turn(Instant(2));
    writers[0].received(WAN, &frames(1, 60));
    second.stop();
    assert!(!second.is_off());
    writers[0].turn(Instant(3));
    assert!(second.is_off());
    assert_eq!(read(&mut second).1.packets(), 1);
    // An engine that has ended is waited for by nobody.
    writers.clear();
    assert!(second.is_on());
}

#[test]
fn a_stream_that_is_cut_off_is_a_valid_file() {
    let (tap, mut writers) = tap(1, 10_000);
    let mut session = Session::begin(&tap, &Request::default(), 0).unwrap();
    writers[0].turn(Instant(1));
    writers[0].received(WAN, &frames(3, 61));
    while session.read(1000) {}
    let stream = session.take();
    for cut in 0..stream.len() {
        let mut file = Vec::new();
        let mut scanner = Scanner::new(&mut file);
        scanner.feed(&stream[..cut]).unwrap();
        let tally = scanner.flush().unwrap();
        assert_eq!(tally.missed, None);
        if !file.is_empty() {
            assert_eq!(lengths(&file).len() as u64, tally.received);
        }
    }
    assert!(Scanner::new(Vec::new()).feed(&[0; 8]).is_err());
}
