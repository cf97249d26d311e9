//! What hangs turns `/healthz` and `/metrics` to 503 (ground rule 8), and back when it goes on.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pollux::dpdk::ring_port;
use pollux::engine::{Engine, EnginePort};
use pollux::metrics::{
    Aggregator, Clock, DeviceStats, KernelStats, PoolStats, PortStats, Settings, Ticker, http,
};
use pollux::wire::build;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::rig::{Bench, GATEWAY_MAC, LAN_MAC, Shown, VIP, WAN_MAC, config, drain, send, wait_until};

const TICK: Duration = Duration::from_millis(500);
const PATHS: [&str; 4] = ["/healthz", "/metrics", "/netlox/v1/metrics", "/readyz"];

/// A device that writes into a pipe which nobody reads: the worker that sends there stays in its driver.
pub fn a_worker_that_hangs(bench: &Bench) {
    let Bench { eal, pool, cpus } = bench;
    let mut config = config(cpus, "");
    config.metrics.tick = TICK;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    // Open at both ends, so that nobody waits for the other.
    let pipe = File::options().read(true).write(true).open(&path).unwrap();

    let mut wan = ring_port(eal, "hangs", 1, 1, 2048).unwrap();
    let lan = eal.attach("net_pcap0", &format!("tx_pcap={}", path.display())).unwrap();
    let ports = vec![
        EnginePort { device: wan.device, mac: Some(WAN_MAC) },
        EnginePort { device: lan, mac: Some(LAN_MAC) },
    ];
    let shown = Shown::new(Engine::start_on(eal, &config, ports).unwrap(), &config);
    // Before the engine in the order of ends: a worker that hangs cannot be stopped.
    let reader = Reader::new(pipe);
    wait_until("ready", 5, || PATHS.iter().all(|path| shown.status(path) == 200));

    let request =
        build::eth(GATEWAY_MAC, WAN_MAC).ip("198.51.100.1", VIP).udp(4000, 53).payload([7; 1400]).frame();
    let silence = |worker: usize| {
        let counters = shown.engine.counters();
        shown.engine.clock().now().since(counters[worker].heartbeat())
    };
    let mut sent = 0;
    // For longer than any worker is kept waiting for its CPU.
    wait_until("the worker that sends hangs", 30, || {
        for _ in 0..20 {
            sent += u64::from(send(pool, &mut wan.inject[0], &request));
        }
        silence(1) > TICK * 6
    });
    for path in PATHS {
        let (status, body) = shown.get(path);
        assert_eq!(status, 503, "{path}: {body}");
        assert!(body.contains("old") || body.contains("has not answered"), "{body}");
    }
    wait_until("the other worker does not", 5, || silence(0) < TICK);
    assert!(silence(1) > TICK * 6 && shown.status("/healthz") == 503, "it still hangs");

    reader.go_on();
    wait_until("it recovers", 5, || PATHS.iter().all(|path| shown.status(path) == 200));
    let scrape = shown.settled();
    assert_eq!(scrape.value("pollux_rx_packets_total"), sent as f64);
    drain(&mut wan.collect[0], |_| ());
    shown.stop();
}

/// Reads from a pipe once it may, also where the test fails.
struct Reader(Arc<AtomicBool>);

impl Reader {
    fn new(mut pipe: File) -> Self {
        let may = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&may);
        // It ends with the process.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                if told.load(Ordering::Relaxed) {
                    let _ = pipe.read(&mut buffer);
                } else {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self(may)
    }

    fn go_on(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.go_on();
    }
}

/// Devices that do not answer, as a driver in a bad way may.
struct Stuck {
    gate: Arc<Mutex<()>>,
    asked: Arc<AtomicUsize>,
}

impl DeviceStats for Stuck {
    fn ports(&mut self) -> Vec<PortStats> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock());
        Vec::new()
    }

    fn pools(&mut self) -> Vec<PoolStats> {
        Vec::new()
    }

    fn kernel(&mut self) -> KernelStats {
        KernelStats::default()
    }
}

pub fn an_aggregator_that_hangs(bench: &Bench) {
    let Bench { eal, cpus, .. } = bench;
    let mut config = config(cpus, "");
    config.metrics.tick = TICK;
    let [wan, lan] = ["calmwan", "calmlan"].map(|name| ring_port(eal, name, 1, 1, 64).unwrap());
    let ports = vec![
        EnginePort { device: wan.device, mac: Some(WAN_MAC) },
        EnginePort { device: lan.device, mac: Some(LAN_MAC) },
    ];
    let (shown, listener) = Shown::bare(Engine::start_on(eal, &config, ports).unwrap());
    let settings = Settings {
        metrics: config.metrics.clone(),
        ports: config.ports.iter().map(|port| port.name.clone()).collect(),
        worker_cpus: shown.engine.worker_cpus().to_vec(),
        conntrack_capacity: 8192,
        unix_start: Duration::ZERO,
        dpdk_version: String::new(),
        cycles_per_nano: None,
    };
    let tables = shown.engine.tables();
    let (gate, asked) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
    let devices = Stuck { gate: Arc::clone(&gate), asked: Arc::clone(&asked) };
    let aggregator = Aggregator::new(settings, shown.engine.counters(), &tables.names, tables.generation)
        .with_devices(Box::new(devices));
    let publication = aggregator.publication();
    let engine_clock = shown.engine.clock();
    let clock: Clock = Arc::new(move || engine_clock.now());
    let ticker = Ticker::start(aggregator, Arc::clone(&clock), || ()).unwrap();
    publication.set_ready(true);
    let ticker = Arc::new(ticker);
    let frozen = Arc::clone(&ticker);
    let context = http::Context { publication, clock, pairs: Arc::new(move || frozen.freeze()) };
    shown.runtime.spawn(http::serve(listener, context, std::future::pending()));
    wait_until("ready", 5, || PATHS.iter().all(|path| shown.status(path) == 200));

    for _ in 0..2 {
        let held = gate.lock();
        let before = asked.load(Ordering::Relaxed);
        wait_until("an aggregator that hangs is seen", 10, || shown.status("/healthz") == 503);
        assert!(asked.load(Ordering::Relaxed) > before, "it does not hang where it should");
        for path in PATHS {
            let (status, body) = shown.get(path);
            assert!(status == 503 && body.starts_with("the newest snapshot is "), "{path}: {status}, {body}");
        }
        wait_until("the workers do not care", 5, || {
            let now = shown.engine.clock().now();
            shown.engine.counters().iter().all(|worker| now.since(worker.heartbeat()) < TICK)
        });
        drop(held);
        wait_until("it recovers", 5, || PATHS.iter().all(|path| shown.status(path) == 200));
    }
    drop(ticker);
    shown.stop();
}
