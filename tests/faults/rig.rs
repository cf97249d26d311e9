//! The engine on ring ports, and its metrics over HTTP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::addr::Mac;
use pollux::config::{self, Config};
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer, RingProducer};
use pollux::engine::{self, Engine, Telemetry};
use pollux::pipeline::Frame;
use tokio::runtime::Runtime;

use crate::scrape::Scrape;

pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
pub const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 2, 10]);
pub const VIP: &str = "203.0.113.100";
pub const SERVER: &str = "10.1.0.10";

/// What all engines of the process share.
pub struct Bench {
    pub eal: Eal,
    /// Buffers of the other ends of the wires.
    pub pool: Mempool,
    /// Those of the process before DPDK's initialisation left this thread the control threads' only.
    pub cpus: Vec<usize>,
}

/// Two workers, two ports, TCP port 80 and UDP port 53 of the VIP; `more` is further lines.
pub fn config(cpus: &[usize], more: &str) -> Config {
    let text = format!(
        r#"
[engine]
hugepages = false
memory_mb = 384
max_flows = 8192
idle      = "backoff"
[[port]]
name      = "wan"
device    = "net_ring0"
role      = "client"
addresses = ["203.0.113.2/24"]
rx_descriptors = 256
tx_descriptors = 256
[[port]]
name      = "lan"
device    = "net_ring1"
role      = "server"
addresses = ["10.1.0.1/24"]
rx_descriptors = 256
tx_descriptors = 256
[[route]]
prefix = "0.0.0.0/0"
via    = "203.0.113.1"
[[neighbor]]
address = "203.0.113.1"
mac     = "{GATEWAY_MAC}"
[[neighbor]]
address = "{SERVER}"
mac     = "{SERVER_MAC}"
[[service]]
name     = "web"
vip      = "{VIP}:80"
protocol = "tcp"
[[service.endpoint]]
address = "{SERVER}:8080"
[[service]]
name     = "dns"
vip      = "{VIP}:53"
protocol = "udp"
[[service.endpoint]]
address = "{SERVER}:5353"
{more}
[metrics]
tick              = "1s"
distribution_tick = "2s"
flow_series_limit = 64
[history]
path = ""
[control]
socket = ""
"#
    );
    let (mut config, _) = config::parse("test", &text).unwrap_or_else(|report| panic!("{report}"));
    config.engine.workers = (0..2).map(|i| cpus[i % cpus.len()]).collect();
    config.metrics.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

/// A running engine that shows its metrics.
pub struct Shown {
    pub engine: Arc<Engine>,
    pub address: SocketAddr,
    pub runtime: Runtime,
    telemetry: Option<Telemetry>,
}

impl Shown {
    /// As `pollux run` does it.
    pub fn new(engine: Engine, config: &Config) -> Self {
        let (engine, runtime, listener, address) = Self::parts(engine);
        let telemetry =
            engine::serve(listener, pollux::listener::Security::default(), config, &engine, runtime.handle())
                .unwrap();
        Self { engine, address, runtime, telemetry: Some(telemetry) }
    }

    /// With what serves it left to the caller.
    pub fn bare(engine: Engine) -> (Self, TcpListener) {
        let (engine, runtime, listener, address) = Self::parts(engine);
        (Self { engine, address, runtime, telemetry: None }, listener)
    }

    fn parts(engine: Engine) -> (Arc<Engine>, Runtime, TcpListener, SocketAddr) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = pollux::listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        (Arc::new(engine), runtime, listener, address)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn status(&self, path: &str) -> u16 {
        self.get(path).0
    }

    /// The newest snapshot, sound.
    pub fn scrape(&self) -> Scrape {
        let scrape = Scrape::newest(|| self.get("/metrics"));
        assert_eq!(scrape.violations(), "");
        scrape
    }

    /// A snapshot of which a whole tick lies after this call.
    pub fn settled(&self) -> Scrape {
        let since = |scrape: &Scrape| scrape.value("pollux_snapshot_timestamp_seconds");
        let first = since(&self.scrape());
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let scrape = self.scrape();
            if since(&scrape) > first + 1.5 && scrape.nothing_pending() {
                return scrape;
            }
            assert!(Instant::now() < deadline, "the metrics do not settle");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn stop(mut self) {
        self.engine.stop();
        drop(self.telemetry.take());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Takes all that is in a ring, and gives each frame to `f`.
pub fn drain(ring: &mut RingConsumer, mut f: impl FnMut(&[u8])) -> usize {
    let mut n = 0;
    loop {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        if ring.receive(64, &mut frames) == 0 {
            return n;
        }
        n += frames.len();
        for frame in &frames {
            f(frame.data());
        }
    }
}

/// Puts a frame into a ring; whether there was room.
pub fn send(pool: &Mempool, ring: &mut RingProducer, bytes: &[u8]) -> bool {
    let Some(frame) = pool.frame(bytes) else { return false };
    ring.send(&mut ArrayVec::<Mbuf, 1>::from([frame])) == 1
}

/// What a frame without IP options and tags says: addresses, ports.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub src: (Ipv4Addr, u16),
    pub dst: (Ipv4Addr, u16),
}

impl Told {
    pub fn of(frame: &[u8]) -> Option<Self> {
        if frame.len() < 42 || frame[12..15] != [8, 0, 0x45] {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        Some(Self { src: (address(26), port(34)), dst: (address(30), port(36)) })
    }
}

/// Until it holds; panics after so many seconds.
pub fn wait_until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
