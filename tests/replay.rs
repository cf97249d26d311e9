//! `pollux replay` on captures made here.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pollux::addr::Mac;
use pollux::config::{self, Config};
use pollux::pcap::{Direction, PcapWriter, PcapngWriter, Reader};
use pollux::replay::{self, Ledger, Options, PortFile};
use pollux::wire::build::{Ip, eth, l3, verify};
use tempfile::TempDir;

const CLIENT: (&str, u16) = ("198.51.100.7", 4000);
const VIP: (&str, u16) = ("203.0.113.100", 80);
const SERVER: (&str, u16) = ("100.127.254.10", 8080);

const PORTS: &str = r#"
metrics.flow_series_limit = 1000
[[port]]
name = "wan"
device = "net_null0"
role = "client"
addresses = ["100.127.255.2/24"]
[[port]]
name = "lan"
device = "net_null1"
role = "server"
addresses = ["100.127.254.1/24"]
[[route]]
prefix = "0.0.0.0/0"
via = "100.127.255.1"
"#;

const SERVICES: &str = r#"
[[service]]
name = "web"
vip = "203.0.113.100:80"
protocol = "tcp"
endpoint = [{ address = "100.127.254.10:8080" }]
[[service]]
name = "dns"
vip = "203.0.113.100:53"
protocol = "udp"
endpoint = [{ address = "100.127.254.10:53" }]
"#;

fn config(services: &str) -> Config {
    config::parse("pollux.toml", &format!("{PORTS}{services}")).unwrap_or_else(|e| panic!("{e}")).0
}

fn web() -> Config {
    config(SERVICES)
}

/// An IP packet between stations of which none is ours.
fn ip(src: &str, dst: &str) -> Ip {
    eth(Mac([0x52, 0x54, 0, 0, 0, 8]), Mac([0x52, 0x54, 0, 0, 0, 9])).ip(src, dst)
}

/// A TCP segment, in a frame of the least length or more.
fn tcp(src: (&str, u16), dst: (&str, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    ip(src.0, dst.0).tcp(src.1, dst.1).flags(flags).payload(payload).padded()
}

/// A UDP datagram, likewise.
fn udp(src: (&str, u16), dst: (&str, u16), payload: &[u8]) -> Vec<u8> {
    ip(src.0, dst.0).udp(src.1, dst.1).payload(payload).padded()
}

const SYN: u8 = 2;
const ACK: u8 = 16;

/// Time stamps in nanoseconds, and bytes.
type Packets = Vec<(u64, Vec<u8>)>;

/// A folder for captures.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> PortFile {
        fs::write(self.path(name), bytes).unwrap();
        self.file(name)
    }
    fn file(&self, name: &str) -> PortFile {
        PortFile { port: None, file: self.path(name) }
    }
    fn at(&self, port: &str, name: &str) -> PortFile {
        PortFile { port: Some(port.to_owned()), file: self.path(name) }
    }
    fn read(&self, name: &str) -> Packets {
        packets(&self.path(name))
    }
}

fn packets(path: &Path) -> Packets {
    let mut reader = Reader::open(path).unwrap();
    let mut packets = Vec::new();
    while let Some(record) = reader.next_packet().unwrap() {
        packets.push((record.time.unwrap(), record.data.to_vec()));
    }
    assert_eq!(reader.cut_off(), None);
    packets
}

fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    for (time, data) in packets {
        writer.write(*time, data.len() as u32, data).unwrap();
    }
    writer.finish().unwrap()
}

fn io(inputs: &[PortFile], outputs: &[PortFile]) -> Options {
    Options { inputs: inputs.to_vec(), outputs: outputs.to_vec(), ..Options::default() }
}

fn run(config: &Config, options: &Options) -> Ledger {
    let ledger = replay::run(config, options).unwrap();
    ledger.check().unwrap();
    ledger
}

const S: u64 = 1_000_000_000;
const T0: u64 = 1_700_000_000 * S + 123_456_000;

/// A handshake and a request, as seen on both sides of the balancer, and a packet for nobody.
fn conversation() -> (Packets, Packets) {
    let wan = vec![
        (T0, tcp(CLIENT, VIP, SYN, b"")),
        (T0 + 2_000_000, tcp(CLIENT, VIP, ACK, b"")),
        (T0 + 3_000_000, tcp(CLIENT, VIP, ACK, b"GET / HTTP/1.0\r\n\r\n")),
        (T0 + 3_000_000, tcp(CLIENT, ("203.0.113.100", 81), SYN, b"")),
    ];
    let lan = vec![
        (T0 + 1_000_000, tcp(SERVER, CLIENT, SYN | ACK, b"")),
        (T0 + 4_000_000, tcp(SERVER, CLIENT, ACK, b"HTTP/1.0 200 OK\r\n")),
    ];
    (wan, lan)
}

/// The IP packets in frames.
fn raw(packets: &[(u64, Vec<u8>)]) -> Packets {
    packets.iter().map(|(time, frame)| (*time, l3(frame).to_vec())).collect()
}

#[test]
fn a_connection_through_two_ports() {
    let folder = Folder::new();
    let (wan, lan) = conversation();
    folder.put("wan.pcap", &pcap(&wan));
    folder.put("lan.pcap", &pcap(&lan));
    // The port that answers is named first: the time stamps decide, not the order of the inputs.
    let options = io(
        &[folder.at("lan", "lan.pcap"), folder.at("wan", "wan.pcap")],
        &[folder.at("wan", "to-wan.pcap"), folder.at("lan", "to-lan.pcap")],
    );
    let ledger = run(&web(), &options);
    assert_eq!(
        ledger,
        Ledger { rx: 6, forwarded: 5, tx: 5, dropped: [("no_service", 1)].into(), ..Ledger::default() }
    );

    let to_lan = folder.read("to-lan.pcap");
    assert_eq!(to_lan.iter().map(|p| p.0 - T0).collect::<Vec<_>>(), [0, 2_000_000, 3_000_000]);
    let to_wan = folder.read("to-wan.pcap");
    assert_eq!(to_wan.iter().map(|p| p.0 - T0).collect::<Vec<_>>(), [1_000_000, 4_000_000]);
    for (_, frame) in to_lan.iter().chain(&to_wan) {
        verify(frame).unwrap();
    }
    // To the endpoint, whose MAC is assumed from its address, by the second port's.
    assert_eq!(to_lan[0].1[..12], [0x02, 0, 100, 127, 254, 10, 0x02, 0, 0, 0, 0, 2]);
    assert_eq!(to_lan[0].1[26..38], [198, 51, 100, 7, 100, 127, 254, 10, 0x0f, 0xa0, 0x1f, 0x90]);
    assert_eq!(to_lan[0].1[22], 63, "TTL");
    assert_eq!(to_lan[2].1.len(), 14 + 40 + 18, "padding is not forwarded");
    // Back to the client by the gateway.
    assert_eq!(to_wan[0].1[..12], [0x02, 0, 100, 127, 255, 1, 0x02, 0, 0, 0, 0, 1]);
    assert_eq!(to_wan[0].1[26..38], [203, 0, 113, 100, 198, 51, 100, 7, 0, 80, 0x0f, 0xa0]);
}

/// The value of a series of an exposition, named with its labels.
fn metric(exposition: &str, series: &str) -> f64 {
    let line = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{exposition}")).parse().unwrap()
}

#[test]
fn metrics_as_of_the_last_packet() {
    let folder = Folder::new();
    let (wan, mut lan) = conversation();
    // The last packet comes when the connection has idled out (240 s), and an hour of silence has gone by.
    lan.push((T0 + 3_600 * S, tcp(SERVER, CLIENT, ACK, b"")));
    folder.put("wan.pcap", &pcap(&wan));
    folder.put("lan.pcap", &pcap(&lan));
    let inputs = [folder.at("wan", "wan.pcap"), folder.at("lan", "lan.pcap")];
    let options = Options { metrics: Some(folder.path("metrics")), ..io(&inputs, &[]) };
    let ledger = run(&web(), &options);
    assert_eq!((ledger.rx, ledger.forwarded, ledger.dropped["transit"]), (7, 5, 1));

    let text = fs::read_to_string(folder.path("metrics")).unwrap();
    let bytes: u64 = wan[..3].iter().chain(&lan[..2]).map(|p| l3(&p.1).len() as u64).sum();
    for (series, value) in [
        ("processed_packets_total", 5.0),
        ("processed_bytes_total", bytes as f64),
        ("processed_tcp_packets", 5.0),
        ("processed_udp_packets", 0.0),
        ("total_requests", 1.0),
        ("total_errors", 0.0),
        (r#"service_traffic_packets{service="203.0.113.100:80"}"#, 5.0),
        (r#"endpoint_traffic_bytes{service="203.0.113.100:80",dip="100.127.254.10"}"#, bytes as f64),
        (
            r#"lb_rule_interaction_packets{service="203.0.113.100:80",sip="198.51.100.7",dip="100.127.254.10"}"#,
            5.0,
        ),
        ("active_conntrack_count", 0.0),
        ("inactive_flow_count", 0.0),
        ("rps_pps", 0.0),
        ("pollux_conntrack_capacity", 4_000_000.0),
        (r#"pollux_dropped_packets_total{reason="no_service"}"#, 1.0),
        (r#"pollux_dropped_packets_total{reason="transit"}"#, 1.0),
        ("pollux_snapshot_timestamp_seconds", (T0 / S + 3600) as f64 + 0.123_456),
    ] {
        let found = metric(&text, series);
        assert!((found - value).abs() < 1e-3, "{series} {found}, not {value}");
    }
    let machine = text.lines().find(|line| line.starts_with("system_") || line.starts_with("process_"));
    assert_eq!(machine, None, "no figures of the machine");

    // Without the last packet the connection lives.
    folder.put("lan.pcap", &pcap(&lan[..2]));
    run(&web(), &options);
    let text = fs::read_to_string(folder.path("metrics")).unwrap();
    assert_eq!(metric(&text, "active_conntrack_count"), 1.0);
    assert_eq!(metric(&text, "active_flow_count_tcp"), 1.0);
}

/// The same packets in every format: pcap and pcapng, both byte orders, both resolutions, Ethernet and raw IP.
#[test]
fn every_format_gives_the_same_bytes() {
    let folder = Folder::new();
    let (wan, _) = conversation();
    let mut outcomes = Vec::new();
    for big in [false, true] {
        for nanos in [false, true] {
            for (link, is_raw) in [(1, false), (101, true), (228, true)] {
                for ng in [false, true] {
                    let packets = if is_raw { raw(&wan) } else { wan.clone() };
                    let bytes = capture(big, nanos, link, ng, &packets);
                    let name = format!("{big}-{nanos}-{link}-{ng}");
                    let input = folder.put(&name, &bytes);
                    let out = format!("{name}.out");
                    let ledger = run(&web(), &io(&[input], &[folder.file(&out)]));
                    outcomes.push((name, ledger, fs::read(folder.path(&out)).unwrap()));
                }
            }
        }
    }
    let (_, ledger, bytes) = &outcomes[0];
    assert_eq!((ledger.rx, ledger.forwarded), (4, 3));
    for (name, l, b) in &outcomes {
        assert_eq!(l, ledger, "{name}");
        assert!(b == bytes, "{name}");
    }
}

/// A capture, byte by byte.
fn capture(big: bool, nanos: bool, link: u16, ng: bool, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let u16 = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let u32 = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut file = Vec::new();
    let block = |kind: u32, body: &[u8]| {
        let body = [body, &[0; 3][..body.len().wrapping_neg() & 3]].concat();
        let len = u32(body.len() as u32 + 12);
        [&u32(kind)[..], &len, &body, &len].concat()
    };
    if ng {
        file.extend(block(0x0a0d_0d0a, &[&u32(0x1a2b_3c4d)[..], &u16(1), &u16(0), &[0xff; 8]].concat()));
        let tsresol = [&u16(9)[..], &u16(1), &[9, 0, 0, 0], &[0; 4]].concat();
        let options = if nanos { &tsresol[..] } else { &[] };
        file.extend(block(1, &[&u16(link)[..], &u16(0), &u32(0), options].concat()));
    } else {
        file.extend(u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
        file.extend([u16(2), u16(4)].concat());
        file.extend([u32(0), u32(0), u32(65535), u32(u32::from(link))].concat());
    }
    for (time, data) in packets {
        let len = u32(data.len() as u32);
        let ticks = if nanos { *time } else { time / 1000 };
        if ng {
            let header = [u32(0), u32((ticks >> 32) as u32), u32(ticks as u32), len, len].concat();
            file.extend(block(6, &[&header[..], data].concat()));
        } else {
            let per_second = if nanos { S } else { S / 1000 };
            file.extend(
                [u32((ticks / per_second) as u32), u32((ticks % per_second) as u32), len, len].concat(),
            );
            file.extend(data);
        }
    }
    file
}

#[test]
fn two_runs_give_the_same_bytes() {
    let folder = Folder::new();
    let many: Vec<_> = (0..500u16)
        .map(|i| (T0 + u64::from(i) * 1_000_000, udp((CLIENT.0, 1024 + i), (VIP.0, 53), &[i as u8; 30])))
        .collect();
    let input = folder.put("in.pcap", &pcap(&many));
    let endpoints = [10, 11, 12, 13].map(|i| format!("{{ address = \"100.127.254.{i}:53\" }}")).join(", ");
    let config = config(&format!(
        "[[service]]\nname = 'dns'\nvip = '203.0.113.100:53'\nprotocol = 'udp'\nendpoint = [{endpoints}]"
    ));
    let mut outcomes = Vec::new();
    for i in 0..2 {
        let out = format!("out{i}");
        let ledger = run(&config, &io(std::slice::from_ref(&input), &[folder.file(&out)]));
        assert_eq!(ledger.forwarded, 500);
        outcomes.push((ledger.to_json(), fs::read(folder.path(&out)).unwrap()));
    }
    assert!(outcomes[0] == outcomes[1]);
}

#[test]
fn time_is_the_captures() {
    let folder = Folder::new();
    let query = udp(CLIENT, (VIP.0, 53), b"question");
    let answer = udp((SERVER.0, 53), CLIENT, b"answer");
    let answered_after = |nanos: u64| {
        folder.put("q", &pcap(&[(T0, query.clone())]));
        folder.put("a", &pcap(&[(T0 + nanos, answer.clone())]));
        let inputs = [folder.at("wan", "q"), folder.at("lan", "a")];
        run(&web(), &io(&inputs, &[])).forwarded == 2
    };
    assert!(answered_after(0));
    assert!(answered_after(5 * S));
    assert!(!answered_after(100 * S), "the idle timeout is 20 s");
    // A pause of a century does not take one.
    assert!(!answered_after(80 * 365 * 86_400 * S));
}

#[test]
fn time_may_end() {
    let folder = Folder::new();
    let mut writer = PcapngWriter::new(Vec::new(), "test").unwrap();
    writer.interface("one").unwrap();
    // The last one is told that its time is exceeded, at whatever rate that is allowed.
    let dying = ip(CLIENT.0, VIP.0).ttl(1).tcp(CLIENT.1, VIP.1).syn().padded();
    for time in [0, u64::MAX - 1, u64::MAX, u64::MAX] {
        writer.write(0, time, 60, &dying, Direction::Inbound, None).unwrap();
    }
    let input = folder.put("in.pcapng", &writer.finish().unwrap());
    let (done, wait) = std::sync::mpsc::channel();
    let options = io(&[input], &[]);
    std::thread::spawn(move || done.send(run(&web(), &options)));
    let ledger = wait.recv_timeout(Duration::from_secs(50)).expect("an end");
    assert_eq!((ledger.rx, ledger.originated), (4, 4));
}

#[test]
fn time_does_not_go_back() {
    let folder = Folder::new();
    let packets: Vec<_> = [5, 3, 7, 0].map(|s| (T0 + s * S, udp(CLIENT, (VIP.0, 53), b"?"))).into();
    let input = folder.put("in", &pcap(&packets));
    let ledger = run(&web(), &io(&[input], &[folder.file("out")]));
    assert_eq!(ledger.forwarded, 4);
    let times: Vec<_> = folder.read("out").iter().map(|p| (p.0 - T0) / S).collect();
    assert_eq!(times, [5, 5, 7, 7]);
}

#[test]
fn packets_without_a_time_go_at_once() {
    let folder = Folder::new();
    let frame = udp(CLIENT, (VIP.0, 53), b"?");
    let mut file = capture(false, true, 1, true, &[(T0, frame.clone()), (T0 + 9 * S, frame.clone())]);
    let mut simple =
        [3u32.to_le_bytes(), (16 + frame.len() as u32).to_le_bytes(), (frame.len() as u32).to_le_bytes()]
            .concat();
    simple.extend(&frame);
    simple.extend((16 + frame.len() as u32).to_le_bytes());
    assert_eq!(frame.len() % 4, 0);
    file.extend(simple);
    let input = folder.put("in", &file);
    run(&web(), &io(&[input], &[folder.file("out")]));
    assert_eq!(folder.read("out").iter().map(|p| (p.0 - T0) / S).collect::<Vec<_>>(), [0, 9, 9]);
}

#[test]
fn stable_where_time_stamps_are_equal() {
    let folder = Folder::new();
    let frame = |n: u8| udp(CLIENT, (VIP.0, 53), &[n]);
    let inputs: Vec<_> = (0..4u8)
        .map(|i| folder.put(&format!("in{i}"), &pcap(&[(T0, frame(10 * i)), (T0, frame(10 * i + 1))])))
        .collect();
    run(&web(), &io(&inputs, &[folder.file("out")]));
    let order: Vec<_> = folder.read("out").iter().map(|p| p.1[42]).collect();
    assert_eq!(order, [0, 1, 10, 11, 20, 21, 30, 31]);
}

#[test]
fn truncated_packets_are_dropped_by_the_parser() {
    let folder = Folder::new();
    let frame = tcp(CLIENT, VIP, SYN, &[0; 100]);
    let mut writer = PcapngWriter::new(Vec::new(), "test").unwrap();
    writer.interface("eth0").unwrap();
    for len in [0, 13, 14, 33, 60, frame.len()] {
        writer.write(0, T0, frame.len() as u32, &frame[..len], Direction::Inbound, None).unwrap();
    }
    let input = folder.put("in", &writer.finish().unwrap());
    let ledger = run(&web(), &io(&[input], &[]));
    assert_eq!((ledger.rx, ledger.forwarded, ledger.dropped.values().sum::<u64>()), (6, 1, 5), "{ledger}");
    assert_eq!(ledger.dropped["frame_too_short"], 2);
}

#[test]
fn a_cut_capture_is_replayed_to_its_last_whole_packet() {
    let folder = Folder::new();
    let bytes = pcap(&conversation().0);
    let input = folder.put("in", &bytes[..bytes.len() - 1]);
    assert_eq!(run(&web(), &io(&[input], &[])).rx, 3);
}

#[test]
fn no_packets() {
    let folder = Folder::new();
    let input = folder.put("in", &pcap(&[]));
    assert_eq!(run(&web(), &io(&[input], &[folder.file("out")])), Ledger::default());
    assert!(folder.read("out").is_empty());
}

fn failure(options: &Options) -> (u8, String) {
    let error = replay::run(&web(), options).unwrap_err();
    (error.exit_status(), error.to_string())
}

#[test]
fn captures_that_cannot_be_replayed() {
    let folder = Folder::new();
    let (status, text) = failure(&io(&[folder.file("absent")], &[]));
    assert_eq!(status, 1);
    assert!(text.contains("absent: cannot open: No such file"), "{text}");

    for (bytes, expect) in [
        (vec![], "it is empty"),
        (b"PK\x03\x04 and so on".to_vec(), "not a pcap or pcapng file: it begins with 50 4b 03 04"),
        (capture(true, false, 113, false, &[]), "link type 113 (LINUX_SLL) is not supported"),
        (capture(true, false, 127, true, &[(T0, vec![0; 9])]), "link type 127 (IEEE802_11_RADIOTAP) is not"),
        ([pcap(&conversation().0), vec![0xff; 16]].concat(), "broken at byte 340: a packet of 4294967295"),
    ] {
        let input = folder.put("bad.pcap", &bytes);
        let (status, text) = failure(&io(&[input], &[]));
        assert_eq!(status, 1);
        assert!(text.contains("bad.pcap: ") && text.contains(expect), "{text}");
        assert!(!text.contains('\n'));
    }
}

#[test]
fn wrong_use() {
    let folder = Folder::new();
    let input = folder.put("in", &pcap(&conversation().0));
    let inputs = std::slice::from_ref(&input);
    let wrong = |options: &Options, expect: &str| {
        let (status, text) = failure(options);
        assert_eq!(status, 2, "{text}");
        assert!(text.contains(expect), "{text}");
    };
    wrong(&Options::default(), "no input");
    wrong(&io(&[folder.at("wann", "in")], &[]), r#"no port is called "wann": did you mean "wan"?"#);
    wrong(
        &io(inputs, &[folder.at("storage", "out")]),
        r#"no port is called "storage": the configuration has wan, lan"#,
    );
    wrong(&io(inputs, &[folder.at("lan", "a"), folder.at("lan", "b")]), r#"port "lan" has two outputs"#);
    wrong(&io(inputs, &[folder.file("a"), folder.file("b")]), "has two outputs");
    wrong(&io(inputs, &[folder.file("in")]), "would be overwritten");
    wrong(&io(inputs, &[folder.at("wan", "out"), folder.file("out")]), "would be overwritten");
    wrong(&Options { metrics: Some(folder.path("in")), ..io(inputs, &[]) }, "would be overwritten");
    assert_eq!(packets(&input.file).len(), 4, "the input is as it was");

    let (status, text) = failure(&io(inputs, &[PortFile { port: None, file: "/nonexistent/out".into() }]));
    assert_eq!(status, 1);
    assert!(text.starts_with("/nonexistent/out: cannot write: "), "{text}");
}

#[test]
fn outputs_of_some_ports() {
    let folder = Folder::new();
    let (wan, lan) = conversation();
    folder.put("wan.pcap", &pcap(&wan));
    folder.put("lan.pcap", &pcap(&lan));
    let inputs = [folder.at("wan", "wan.pcap"), folder.at("lan", "lan.pcap")];
    run(&web(), &io(&inputs, &[folder.at("wan", "only-wan")]));
    assert_eq!(folder.read("only-wan").len(), 2);
    run(&web(), &io(&inputs, &[folder.at("wan", "wan"), folder.file("rest")]));
    assert_eq!((folder.read("wan").len(), folder.read("rest").len()), (2, 3));
    run(&web(), &io(&inputs, &[folder.file("all")]));
    assert_eq!(folder.read("all").len(), 5);
    let null = PortFile { port: None, file: "/dev/null".into() };
    run(&web(), &io(&inputs, &[folder.at("wan", "wan"), null]));
}

#[test]
fn captures_of_a_vlan_and_for_a_vlan() {
    let folder = Folder::new();
    let mut config = web();
    config.ports[0].vlan = 7;
    let frame = udp(CLIENT, (VIP.0, 53), b"?");
    let raw = folder.put("raw", &capture(false, true, 101, false, &[(T0, l3(&frame).to_vec())]));
    let tagged = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
    let tagged = folder.put("tagged", &pcap(&[(T0, tagged), (T0, frame)]));
    let ledger = run(&config, &io(&[raw, tagged], &[]));
    assert_eq!((ledger.forwarded, ledger.dropped["vlan_mismatch"]), (2, 1));
}

/// Every next hop counts as resolved, also one that says otherwise.
#[test]
fn what_is_overheard_changes_no_next_hop() {
    let folder = Folder::new();
    let arp = [
        &[0xff; 6][..],
        &[0x52, 0x54, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 1, 100, 127, 254, 10],
        &[0, 0, 0, 0, 0, 0, 100, 127, 254, 1],
    ]
    .concat();
    folder.put("lan", &pcap(&[(T0, arp)]));
    let packets: Vec<_> = (0..100).map(|s| (T0 + s * S, udp(CLIENT, (VIP.0, 53), b"?"))).collect();
    folder.put("wan", &pcap(&packets));
    let ledger = run(
        &web(),
        &io(
            &[folder.at("lan", "lan"), folder.at("wan", "wan")],
            &[folder.at("lan", "out"), folder.at("wan", "arp")],
        ),
    );
    assert_eq!((ledger.consumed, ledger.originated, ledger.forwarded), (1, 1, 100), "{ledger}");
    assert!(folder.read("out").iter().skip(1).all(|p| p.1[..6] == [2, 0, 100, 127, 254, 10]));
}
