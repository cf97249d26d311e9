//! A change among very many services: how long until the workers go by it.
//!
//! An engine on rings with `POLLUX_SERVICES` services (10 000) of 100 endpoints, half of them with a Maglev table of the default size.
//! Changes are of one endpoint: drained and undrained, as by `pollux drain` or a probe; and another weight in the file, as by
//! `pollux reload`. Each is the whole way from the call to the last worker's having taken the new tables, and a little more; of a reload
//! it begins when the file is read and valid. The worker sleeps when it has nothing to do, so that CPU time is the control threads'. One change follows the other, so the times are not Criterion's to take.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollux::addr::Mac;
use pollux::config;
use pollux::dpdk::ring_port;
use pollux::engine::{Engine, EnginePort, serve};
use pollux::listener::{self, Security};
use pollux::reload::Reloader;

const ENDPOINTS: usize = 100;
const ROUNDS: usize = 20;

fn text(services: usize, cpu: usize, weight: u32) -> String {
    let mut text = format!(
        r#"
[engine]
workers = [{cpu}]
hugepages = false
memory_mb = 256
max_flows = 8192
idle = "backoff"
[[port]]
name = "wan"
device = "net_ring_wan"
role = "client"
addresses = ["203.0.113.2/24"]
[[port]]
name = "lan"
device = "net_ring_lan"
role = "server"
addresses = ["10.255.255.254/8"]
[metrics]
listen = "127.0.0.1:0"
tick = "1h"
distribution_tick = "1h"
[control]
socket = ""
"#
    );
    for service in 0..services {
        let algorithm = ["maglev", "round-robin"][service % 2];
        let (high, low) = (service / 250, service % 250);
        let _ = write!(
            text,
            "[[service]]\nname = \"service-{service}\"\nvip = \"172.16.{high}.{low}:80\"\nalgorithm = \"{algorithm}\"\n"
        );
        for n in 0..ENDPOINTS {
            let id = service * ENDPOINTS + n;
            let (a, b, c) = (id / 62_500, id / 250 % 250, id % 250 + 1);
            let weight = if service == services / 2 && n == 50 { weight } else { 1 };
            let _ =
                write!(text, "[[service.endpoint]]\naddress = \"10.{a}.{b}.{c}:8080\"\nweight = {weight}\n");
        }
    }
    text
}

fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Time, and this process's on CPUs: where the machine is shared, the second one says more.
#[derive(Clone, Copy)]
struct Spent {
    at: Instant,
    cpu: Duration,
}

/// How long something took.
type Took = (Duration, Duration);

impl Spent {
    fn so_far() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec.unsigned_abs() as u32);
        Self { at: Instant::now(), cpu }
    }

    fn until_now(self) -> Took {
        let now = Self::so_far();
        (now.at - self.at, now.cpu - self.cpu)
    }
}

fn show(what: &str, mut times: Vec<Took>) {
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (least, (median, cpu), most) = (times[0].0, times[times.len() / 2], times[times.len() - 1].0);
    println!(
        "{what:44} {:9.1} ms, {:9.1} ms of CPU   ({:.1} to {:.1}, n = {})",
        ms(median),
        ms(cpu),
        ms(least),
        ms(most),
        times.len()
    );
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Took) {
    let began = Spent::so_far();
    let done = act();
    (done, began.until_now())
}

fn main() {
    let services = std::env::var("POLLUX_SERVICES").map_or(10_000, |n| n.parse().unwrap());
    println!("{services} services of {ENDPOINTS} endpoints");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pollux.toml");
    // Once: DPDK moves this thread.
    let cpu = pollux::dpdk::allowed_cpus().pop().unwrap();
    fs::write(&file, text(services, cpu, 1)).unwrap();
    let ((config, _), took) = timed(|| config::load(&file).unwrap());
    show("a file read and validated", vec![took]);
    let eal = Engine::init_dpdk(&config).unwrap();
    let before = memory();
    let ports = [("wan", 1), ("lan", 2)].map(|(name, n)| {
        let port = ring_port(&eal, name, 1, 1, 256).unwrap();
        // Its other ends are not needed.
        EnginePort { device: port.device, mac: Some(Mac([2, 0, 0, 0, 1, n])) }
    });
    let (engine, took) = timed(|| Engine::start_on(&eal, &config, ports.into()).unwrap());
    show("an engine started: all compiled", vec![took]);
    println!("{:44} {:9} MiB", "memory that it took", memory() - before);
    let engine = Arc::new(engine);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (telemetry, took) =
        timed(|| serve(listener, Security::default(), &config, &engine, runtime.handle()).unwrap());
    show("the first exposition", vec![took]);
    let reloader = Reloader::new(Arc::clone(&engine), telemetry.ticker(), telemetry.gate(), &file);

    let endpoint = config.services[services / 2].endpoints[50].clone();
    let name = format!("service-{}", services / 2);
    let address = std::net::SocketAddr::new(endpoint.address.into(), endpoint.port).to_string();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(timed(|| reloader.drain(&name, &address).unwrap()).1);
        times.push(timed(|| reloader.undrain(&name, &address).unwrap()).1);
    }
    show("an endpoint drained or undrained, live", times);

    let (mut read, mut live, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..8 {
        fs::write(&file, text(services, cpu, 2 + round % 2)).unwrap();
        let (loaded, took) = timed(|| listener::load(&file, Some(&engine.config())).unwrap());
        read.push(took);
        let (outcome, took) = timed(|| reloader.adopt(loaded).unwrap());
        assert_eq!(outcome.changes.len(), 1);
        live.push(took);
        told.push(timed(|| telemetry.ticker().catch_up()).1);
    }
    show("another weight: the file read and validated", read);
    show("from there compared, compiled and live", live);
    show("and in the metrics, with the text anew", told);
    drop((reloader, telemetry));
}
