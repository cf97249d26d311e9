//! What systemd hears, over a socket of the test's own.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pollux::addr::Mac;
use pollux::pcap::PcapWriter;
use pollux::wire::build;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::engine::{Engine, METRICS};
use crate::ground::Ground;
use crate::listener::{Listener, has};
use crate::net::{Namespace, signal};
use crate::rig::{Lab, config, wait_until};
use crate::scrape::http_get;

const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");
const WATCHDOG: Duration = Duration::from_secs(1);

fn start(ns: &Namespace, dir: &std::path::Path, config: &str, listener: &Listener) -> Engine {
    let usec = WATCHDOG.as_micros().to_string();
    let variables = [("NOTIFY_SOCKET", listener.path()), ("WATCHDOG_USEC", &usec)];
    Engine::spawn_by(ns, dir, config, &[POLLUX], &variables)
}

#[test]
fn systemd_hears_when_it_is_ready_alive_reloading_and_stopping() {
    let lab = Lab::new();
    let listener = Listener::new(lab.dir());
    lab.client.sh("ip link set eth0 down");
    let socket = lab.dir().join("p.sock").display().to_string();
    let text = config("shutdown_delay = \"1s\"", &socket);
    let mut engine = start(&lab.lb, lab.dir(), &text, &listener);

    // Without a link it is alive, but not ready.
    let (before, _) = listener.until("STATUS=not ready: port wan has no link", 90);
    assert!(before.iter().all(|message| !has(message, "READY=1")), "{before:?}");
    let (waiting, _) = listener.until("WATCHDOG=1", 30);
    let waiting = [waiting, listener.during(Duration::from_millis(1500))].concat();
    assert!(waiting.iter().all(|message| !has(message, "READY=1")), "{waiting:?}");
    assert_eq!(lab.status("/readyz"), 503);
    wait_until("it is alive", 10, || lab.status("/healthz") == 200);
    lab.client.sh("ip link set eth0 up");
    let (_, ready) = listener.until("READY=1", 30);
    assert_eq!(lab.status("/readyz"), 200);
    assert!(has(&ready, "STATUS=ready: configuration 1, 2 service(s) on 1 worker(s)"), "{ready:?}");

    // Twice in the watchdog's time.
    let alive = listener.during(WATCHDOG * 4).iter().filter(|message| has(message, "WATCHDOG=1")).count();
    // A busy machine skips some.
    assert!((3..=14).contains(&alive), "{alive}");

    // Each reload begins and ends, whoever asks for it, also one that is refused.
    let reloaded = |what: &str| {
        let began = Instant::now();
        let (_, message) = listener.until("RELOADING=1", 30);
        let monotonic = message.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let usec: u64 =
            monotonic.and_then(|usec| usec.parse().ok()).unwrap_or_else(|| panic!("{what}: {message:?}"));
        let up = std::fs::read_to_string("/proc/uptime").expect("an uptime");
        let up: f64 = up.split(' ').next().and_then(|up| up.parse().ok()).expect("seconds");
        assert!(
            (up - usec as f64 / 1e6).abs() < 10.0 + began.elapsed().as_secs_f64(),
            "{what}: {usec}, {up}"
        );
        listener.until("READY=1", 30);
    };
    engine.reload(&text.replace("shutdown_delay = \"1s\"", "shutdown_delay = \"2s\""));
    reloaded("SIGHUP");
    let by_hand = |expected| {
        let status =
            Command::new(POLLUX).args(["reload", "--socket", &socket]).output().expect("pollux runs").status;
        assert_eq!(status.code(), Some(expected));
    };
    by_hand(0);
    reloaded("pollux reload");
    std::fs::write(lab.dir().join("pollux.toml"), "nonsense").expect("a file");
    by_hand(1);
    reloaded("a refused reload");

    signal(engine.pid(), Signal::TERM);
    let (_, stopping) = listener.until("STOPPING=1", 30);
    assert!(has(&stopping, "STATUS=not ready any more; forwarding for 2 s yet"), "{stopping:?}");
    let extended = stopping.iter().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    assert!(extended.and_then(|usec| usec.parse::<u64>().ok()) >= Some(3_000_000), "{stopping:?}");
    let (status, said) = engine.outcome(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(0), "{said}");
    let after = listener.during(Duration::from_millis(100));
    assert!(
        after.iter().all(|message| !has(message, "READY=1") && !has(message, "STATUS=ready")),
        "{after:?}"
    );
}

/// DPDK's, of the first port that plays a capture.
const WAN: Mac = Mac([0x02, 0x70, 0x63, 0x61, 0x70, 0x00]);

/// A device that writes into a pipe, from which somebody reads as long as `reading` says: then its worker stays in its driver.
#[test]
fn a_worker_that_hangs_is_not_alive_and_does_not_keep_the_process() {
    let ground = Ground::take();
    let ns = Namespace::new("lb");
    let folder = ground.path().display().to_string();
    let listener = Listener::new(ground.path());
    let mut capture =
        PcapWriter::new(File::create(format!("{folder}/in.pcap")).expect("a file")).expect("a capture");
    let frame = build::eth(Mac([2, 0, 0, 0, 0, 9]), WAN)
        .ip("198.51.100.1", "203.0.113.100")
        .udp(4000, 53)
        .payload([7; 1000]);
    let frame = frame.frame();
    capture.write(0, frame.len() as u32, &frame).expect("a packet");
    capture.finish().expect("a capture");
    let path = format!("{folder}/pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    // Open at both ends, so that nobody waits for the other.
    let mut pipe = File::options().read(true).write(true).open(&path).expect("the pipe");
    let reading = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&reading);
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while told.load(Ordering::Relaxed) {
            let _ = pipe.read(&mut buffer);
        }
        pipe
    });

    let config = format!(
        r#"
[engine]
workers   = [0]
hugepages = false
memory_mb = 128
max_flows = 1024
[[port]]
name      = "wan"
device    = "net_pcap0,rx_pcap={folder}/in.pcap,infinite_rx=1,tx_pcap=/dev/null"
role      = "client"
addresses = ["203.0.113.2/24"]
rx_descriptors = 256
tx_descriptors = 256
[[port]]
name      = "lan"
device    = "net_pcap1,tx_pcap={path}"
role      = "server"
addresses = ["10.1.0.1/24"]
rx_descriptors = 256
tx_descriptors = 256
[[neighbor]]
address = "10.1.0.10"
mac     = "02:00:00:00:00:10"
port    = "lan"
[[route]]
prefix = "0.0.0.0/0"
via    = "203.0.113.1"
[[service]]
name     = "dns"
vip      = "203.0.113.100:53"
protocol = "udp"
[[service.endpoint]]
address = "10.1.0.10:53"
[metrics]
listen = "127.0.0.1:8080"
tick   = "1s"
[control]
socket = ""
"#
    );
    let mut engine = start(&ns, ground.path(), &config, &listener);
    listener.until("READY=1", 90);
    listener.until("WATCHDOG=1", 30);
    let health = || http_get(&ns, METRICS, "/healthz").map_or(0, |(status, _)| status);
    wait_until("it is alive", 10, || health() == 200);

    reading.store(false, Ordering::Relaxed);
    // It reads until then; what is open keeps the worker from an error.
    let _pipe = reader.join().expect("the reader");
    let (_, message) = listener.until("STATUS=unwell: worker 0 does not answer", 20);
    assert!(!has(&message, "WATCHDOG=1"), "{message:?}");
    assert_eq!(health(), 503);
    let after = listener.during(WATCHDOG * 2);
    assert!(after.iter().all(|message| !has(message, "WATCHDOG=1")), "{after:?}");

    let began = Instant::now();
    signal(engine.pid(), Signal::TERM);
    let (status, said) = engine.outcome(Duration::from_secs(20)).expect("it ends");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("pollux: worker 0 did not stop within 5 s"), "{said}");
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    wait_until("the listener goes with it", 5, || health() == 0);
}
