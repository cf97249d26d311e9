//! Every capture of `../shared/corpora`, most of them malformed on purpose, through `pollux replay`: no crash, no hang, a ledger
//! that balances, the same bytes out of two runs. Where that folder is absent the test says so and passes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pollux::addr::{Addr, Mac};
use pollux::config::{self, Config, Protocol};
use pollux::pcap::{self, Link, Reader};
use pollux::replay::{self, Ledger, Options, PortFile, ReplayError};

/// No capture takes a debug build on a busy machine anywhere near this.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const MOST_SERVICES: usize = 4;

fn captures() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
    // A work tree may lie one folder deeper.
    let folder = [folder, Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora")]
        .into_iter()
        .find(|f| f.is_dir())?;
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "pcap" || e == "pcapng") {
                files.push(path);
            }
        }
    }
    files.sort();
    Some(files)
}

/// Where packets open connections to, with how many do, and the VLANs that frames are in.
#[derive(Default)]
struct Seen {
    targets: HashMap<(Addr, u16, Protocol), u32>,
    vlans: HashMap<u16, u32>,
}

impl Seen {
    /// A scanner of its own, much more credulous than the parser.
    fn scan(&mut self, frame: &[u8]) -> Option<()> {
        let (mut at, mut vlan) = (12, 0);
        if frame.get(at..at + 2)? == [0x81, 0] {
            vlan = u16::from_be_bytes([*frame.get(at + 2)? & 0xf, *frame.get(at + 3)?]);
            at += 4;
        }
        let ip = frame.get(at + 2..)?;
        let (protocol, dst, l4) = match frame.get(at..at + 2)? {
            [0x08, 0x00] => {
                let dst = Addr::v4(*ip.get(16..)?.first_chunk()?);
                (*ip.get(9)?, dst, ip.get(usize::from(*ip.first()? & 15) * 4..)?)
            }
            [0x86, 0xdd] => (*ip.get(6)?, Addr::v6(*ip.get(24..)?.first_chunk()?), ip.get(40..)?),
            _ => return None,
        };
        let port = u16::from_be_bytes(*l4.get(2..)?.first_chunk()?);
        let (protocol, opens) = match protocol {
            6 => (Protocol::Tcp, l4.get(13)? & 0x12 == 0x02),
            17 => (Protocol::Udp, true),
            132 => (Protocol::Sctp, *l4.get(12)? == 1),
            _ => return None,
        };
        let unicast = match IpAddr::from(dst) {
            IpAddr::V4(a) => {
                !a.is_multicast() && !a.is_broadcast() && !a.is_loopback() && !a.is_unspecified()
            }
            IpAddr::V6(a) => {
                !a.is_multicast() && !a.is_loopback() && !a.is_unspecified() && !dst.is_link_local_v6()
            }
        };
        if opens && port != 0 && unicast {
            *self.targets.entry((dst, port, protocol)).or_default() += 1;
            *self.vlans.entry(vlan).or_default() += 1;
        }
        Some(())
    }

    /// A configuration that balances the most frequent targets over two endpoints each.
    fn config(self) -> Config {
        let mut targets: Vec<_> = self.targets.into_iter().map(|(target, n)| (Reverse(n), target)).collect();
        targets.sort_unstable_by_key(|&(n, (vip, port, protocol))| (n, protocol, vip, port));
        let services: Vec<_> =
            targets.into_iter().take(MOST_SERVICES).map(|(_, target)| service(target)).collect();
        let vlan = self.vlans.into_iter().max_by_key(|&(vlan, n)| (n, vlan)).map_or(0, |(vlan, _)| vlan);
        let text = PORTS.replace("vlan = 0", &format!("vlan = {vlan}")) + &services.join("");
        config::parse("made.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}")).0
    }
}

const PORTS: &str = r#"
engine.max_flows = 65_536
metrics.flow_series_limit = 1000
[[port]]
name = "wan"
device = "net_null0"
role = "client"
addresses = ["100.127.255.2/24", "fd00:ffff:1::2/64"]
vlan = 0
[[port]]
name = "lan"
device = "net_null1"
role = "server"
addresses = ["100.127.254.1/24", "fd00:ffff:2::1/64"]
[[route]]
prefix = "0.0.0.0/0"
via = "100.127.255.1"
[[route]]
prefix = "::/0"
via = "fd00:ffff:1::1"
"#;

fn service((vip, port, protocol): (Addr, u16, Protocol)) -> String {
    let vip = SocketAddr::new(vip.into(), port);
    let (a, b) = if vip.is_ipv4() {
        ("100.127.254.10", "100.127.254.11")
    } else {
        ("[fd00:ffff:2::10]", "[fd00:ffff:2::11]")
    };
    let protocol = protocol.name();
    format!(
        "[[service]]\nname = '{protocol} {vip}'\nvip = '{vip}'\nprotocol = '{protocol}'\nmaglev_size = 251\n\
         endpoint = [{{ address = '{a}:{port}' }}, {{ address = '{b}:{port}' }}]\n"
    )
}

fn config_for(file: &Path) -> Result<Config, pcap::Error> {
    let mut seen = Seen::default();
    let mut reader = Reader::open(file)?;
    let mut frame = Vec::new();
    while let Some(record) = reader.next_packet()? {
        record.link.frame(record.data, Mac::default(), 0, &mut frame);
        seen.scan(&frame);
    }
    Ok(seen.config())
}

/// The link type of a pcap file, from its header; none for pcapng.
fn link_type(file: &Path) -> Option<u16> {
    let bytes = fs::read(file).unwrap();
    match bytes[..4] {
        [0xa1, ..] => Some(u16::from_be_bytes([bytes[22], bytes[23]])),
        [.., 0xa1] => Some(u16::from_le_bytes([bytes[20], bytes[21]])),
        _ => None,
    }
}

struct Outcome {
    ledger: Ledger,
    services: usize,
}

/// Two runs over one capture; the same, or a panic.
fn replay(file: &Path) -> Result<Outcome, ReplayError> {
    let config = match config_for(file) {
        Ok(config) => config,
        Err(_) => Seen::default().config(), // Replaying it finds the same fault.
    };
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for run in 0..2 {
        let path = |name: &str| folder.path().join(format!("{name}-{run}"));
        let out = |port: &str| PortFile { port: Some(port.to_owned()), file: path(port) };
        let options = Options {
            inputs: vec![PortFile { port: None, file: file.to_owned() }],
            outputs: vec![out("wan"), out("lan")],
            metrics: Some(path("metrics")),
            seed: 7,
        };
        let ledger = replay::run(&config, &options)?;
        ledger.check().unwrap();
        let written = ["wan", "lan", "metrics"].map(|file| fs::read(path(file)).unwrap());
        runs.push((ledger.to_json(), written, ledger));
    }
    let (second, first) = (runs.pop().unwrap(), runs.pop().unwrap());
    assert_eq!(first.0, second.0, "{}: two runs, two ledgers", file.display());
    assert!(first.1 == second.1, "{}: two runs, different bytes", file.display());
    Ok(Outcome { ledger: first.2, services: config.services.len() })
}

/// [`replay`] within the time limit.
fn replay_in_time(file: &Path) -> Result<Outcome, ReplayError> {
    let (done, result) = mpsc::channel();
    let owned = file.to_owned();
    let runner = thread::spawn(move || {
        let _ = done.send(replay(&owned));
    });
    match result.recv_timeout(TIME_LIMIT) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{}: hangs", file.display()),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let _ = runner.join();
            panic!("{}: panicked", file.display())
        }
    }
}

#[test]
fn every_capture() {
    let Some(files) = captures() else {
        eprintln!("\n*** LEFT OUT: ../shared/corpora is not there: no capture was replayed ***\n");
        return;
    };
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = replay_in_time(file);
                    outcomes.lock().unwrap().insert(file, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert_eq!(outcomes.len(), files.len());

    let (mut replayed, mut refused, mut with_services, mut forwarding) = (0, 0, 0, 0);
    let mut total = Ledger::default();
    for (file, outcome) in outcomes {
        match outcome {
            Ok(Outcome { ledger, services }) => {
                replayed += 1;
                with_services += usize::from(services > 0);
                forwarding += usize::from(ledger.forwarded > 0);
                total.rx += ledger.rx;
                total.forwarded += ledger.forwarded;
                total.consumed += ledger.consumed;
                total.originated += ledger.originated;
                total.extra_fragments += ledger.extra_fragments;
                total.tx += ledger.tx;
                for (reason, n) in ledger.dropped {
                    *total.dropped.entry(reason).or_default() += n;
                }
                let supported = link_type(file).is_none_or(|number| Link::from_number(number).is_some());
                assert!(supported, "{}: replayed in spite of its link type", file.display());
            }
            Err(error @ ReplayError::Capture(pcap::Error::LinkType { .. })) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.starts_with(&file.display().to_string()), "{text}");
                if let Some(number) = link_type(file) {
                    assert!(Link::from_number(number).is_none(), "{text}");
                    assert!(text.contains(&format!(": link type {number} ")), "{text}");
                }
            }
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
    total.check().unwrap();
    println!(
        "{replayed} captures replayed, {refused} refused for their link type; {with_services} with services, {forwarding} \
         forward packets\n{total}"
    );
    assert!(forwarding >= 30, "only {forwarding} captures forward packets");
}
