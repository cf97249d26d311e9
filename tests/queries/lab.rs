//! The engine, its traffic, and the two looks at it.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollux::config;
use pollux::dpdk::{Eal, Mempool, allowed_cpus, ring_port};
use pollux::engine::{self, Engine, EnginePort, Telemetry};
use pollux::reload::{self, Reloader};
use tokio::runtime::Runtime;

use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::panels;
use crate::prometheus::{Prometheus, now};
use crate::seed::{Moment, Seed};
use crate::traffic::{self, CLIENTS, CLIENTS_MAC, ENDPOINTS_MAC, Names, Traffic};

/// Steady traffic before the first look: some windows of `metrics.distribution_tick`, and thirty readings of `rps_1m_*`.
const CALM: Duration = Duration::from_secs(14);
/// The same before the look at services by name.
const BY_NAME: Duration = Duration::from_secs(9);
/// Until all that was counted shows: new series show 0 for two ticks.
const AFTER: Duration = Duration::from_secs(5);
/// From the storm to the look at what is of the last tick or window.
const TRICKLE: Duration = Duration::from_millis(4500);
/// The heaviest of the storm, on a busy machine.
const HEAVY: Duration = Duration::from_secs(15);
/// The engine's figures are as old as a tick and a scrape, the ledger's as a scrape: so far apart they are beside a full minute.
const APART: Duration = Duration::from_secs(4);

const BY_ADDRESS_LABELS: Names = Names {
    frontend: "192.168.1.100:80",
    dns: "192.168.1.100:53",
    s1ap: "192.168.1.100:36412",
    reports: "192.168.1.101:443",
};
const BY_NAME_LABELS: Names = Names { frontend: "frontend", dns: "dns", s1ap: "s1ap", reports: "reports" };

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let cpus = allowed_cpus();
    let text = |label: &str, endpoints: &str| configuration(cpus[cpus.len() - 1], label, endpoints);
    let (config, _) =
        config::parse("lab", &text("address", "up")).unwrap_or_else(|report| panic!("{report}"));
    let eal = Engine::init_dpdk(&config).unwrap();
    let pool = Mempool::new(&eal, "far ends", 8191, 9216).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // What the frontend's probes reach: they are the kernel's.
    for n in 10..13 {
        let listener = TcpListener::bind((Ipv4Addr::new(192, 168, 2, n), 8080)).unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    let mut machine = Machine::new();
    let mut seed = Seed::load();
    let mut wrong = Vec::new();

    machine.set(30.0, 40.0, 40.0);
    let file = folder.path().join("pollux.toml");
    fs::write(&file, text("address", "up")).unwrap();
    let started = Instant::now();
    let mut lab = Lab::start(&eal, &pool, &runtime, &file, ("a", 9091), BY_ADDRESS_LABELS);
    let live = lab.steady(&mut machine, CALM);
    wrong.extend(seed.look(Moment::Calm, &lab.prometheus, &lab.frontend(), live));
    eprintln!("calm: {:?}", started.elapsed());

    machine.set(97.0, 95.0, 95.0);
    // What rates of a minute are about comes last.
    lab.traffic.flows(90_000);
    lab.traffic.half_closed(11_000);
    lab.traffic.pings(36_000);
    lab.within_a_minute(&mut machine, HEAVY);
    let heavy = Instant::now();
    lab.traffic.elephant(85_000);
    lab.traffic.mice(720_000);
    lab.traffic.refused(8000);
    lab.traffic.mice(100);
    // Whoever reads of a wrong rate of a minute finds here whether the machine took longer than there was room for.
    eprintln!("storm: {:?}, the heaviest {:?} of {HEAVY:?}", started.elapsed(), heavy.elapsed());
    // All endpoints go, and 256 services come.
    fs::write(&file, text("address", "down")).unwrap();
    lab.reloader.reload(None).unwrap_or_else(|error| panic!("{error}"));
    lab.traffic.without_endpoints(200);
    lab.trickle(&mut machine, TRICKLE);
    let live = now();
    lab.turn(&mut machine, AFTER, false);
    wrong.extend(seed.look(Moment::Storm, &lab.prometheus, &lab.frontend(), live));
    let dashboards = panels::look(&lab.prometheus, &lab.frontend(), live);
    let (rules, sick) = lab.prometheus.rules();
    wrong.extend(dashboards);
    wrong.extend(sick);
    assert!(rules > 30, "{rules} rules");
    lab.exact();
    lab.stop();
    eprintln!("all by address: {:?}", started.elapsed());

    machine.set(30.0, 40.0, 40.0);
    fs::write(&file, text("name", "up")).unwrap();
    let mut lab = Lab::start(&eal, &pool, &runtime, &file, ("n", 9092), BY_NAME_LABELS);
    let live = lab.steady(&mut machine, BY_NAME);
    wrong.extend(seed.look(Moment::Named, &lab.prometheus, &lab.frontend(), live));
    lab.stop();
    eprintln!("{} queries, {:?}", seed.asked, started.elapsed());
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seed.asked > 400, "only {} queries", seed.asked);
}

struct Lab {
    engine: Arc<Engine>,
    telemetry: Telemetry,
    reloader: Arc<Reloader>,
    metrics: SocketAddr,
    traffic: Traffic,
    ledger: Ledger,
    prometheus: Prometheus,
    names: Names,
}

impl Lab {
    fn start(
        eal: &Eal,
        pool: &Mempool,
        runtime: &Runtime,
        file: &Path,
        (name, port): (&str, u16),
        names: Names,
    ) -> Self {
        let (config, _) = config::load(file).unwrap_or_else(|report| panic!("{report}"));
        let [wan, lan] =
            ["wan", "lan"].map(|side| ring_port(eal, &format!("{name}{side}"), 1, 1, 2048).unwrap());
        let (wan_side, lan_side) = (wan.inject, lan.inject);
        let devices = vec![
            EnginePort { device: wan.device, mac: Some(traffic::WAN) },
            EnginePort { device: lan.device, mac: Some(traffic::LAN) },
        ];
        let engine = Arc::new(Engine::start_on(eal, &config, devices).unwrap());
        let listener = pollux::listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let metrics = listener.local_addr().unwrap();
        let telemetry = engine::serve(
            listener,
            pollux::listener::Security::default(),
            &config,
            &engine,
            runtime.handle(),
        )
        .unwrap();
        let reloader =
            Arc::new(Reloader::new(Arc::clone(&engine), telemetry.ticker(), telemetry.gate(), file));
        runtime.spawn(reload::probe(Arc::clone(&reloader)));
        let ledger = Ledger::default();
        let wires = [(wan_side, wan.collect), (lan_side, lan.collect)];
        let traffic = Traffic::new(pool, wires, &ledger, names);
        let folder = file.with_file_name(format!("prometheus-{name}"));
        // Not before there is a snapshot, and everything at 0.
        let prometheus = Prometheus::start(&folder, port, metrics, ledger.serve());
        Self { engine, telemetry, reloader, metrics, traffic, ledger, prometheus, names }
    }

    /// The service that `$service` stands for, as Grafana puts it into a regular expression.
    fn frontend(&self) -> String {
        self.names.frontend.replace('.', r"\\.")
    }

    /// Steady traffic for so long, and rest, until all that has been shows. When the traffic stopped.
    fn steady(&mut self, machine: &mut Machine, time: Duration) -> f64 {
        self.within_a_minute(machine, time);
        self.traffic.hold();
        self.traffic.resume();
        self.turn(machine, time, true);
        self.traffic.quiet();
        let live = now();
        self.turn(machine, AFTER, false);
        live
    }

    /// Waits until what takes so long has no full minute in it or near it. A subquery looks at full minutes, and a rate sees nothing of
    /// what is counted between the last scrape of one minute and the first of the next: of a burst that a full minute meets, the engine's
    /// figures and the ledger's, which are not equally old, would show one all and the other nothing.
    fn within_a_minute(&mut self, machine: &mut Machine, time: Duration) {
        let (apart, minute) = (APART.as_secs_f64(), 60.0);
        let passed = now() % minute;
        let left = minute - passed;
        let wait = if passed < apart {
            apart - passed
        } else if left < time.as_secs_f64() + apart {
            left + apart
        } else {
            return;
        };
        self.turn(machine, Duration::from_secs_f64(wait), false);
    }

    /// A little traffic of the frontend's all the time, over connections that outlive their endpoints' being down: whichever distribution
    /// window was the last to end has some.
    fn trickle(&mut self, machine: &mut Machine, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.traffic.mice(10);
            self.turn(machine, Duration::from_millis(300), false);
        }
    }

    fn turn(&mut self, machine: &mut Machine, time: Duration, traffic: bool) {
        let end = Instant::now() + time;
        let mut clocks = Instant::now();
        while Instant::now() < end {
            if traffic {
                self.traffic.turn();
            } else {
                self.traffic.exchange();
            }
            if clocks.elapsed() > Duration::from_millis(200) {
                machine.turn();
                clocks = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the engine says in the end is what clients and endpoints have counted, to the byte.
    fn exact(&self) {
        let (packets, bytes) = self.ledger.lock().sum();
        let value = |metric: &str| {
            let found = self.prometheus.query(metric, Some(now())).unwrap();
            found.into_values().next().unwrap_or_else(|| panic!("no {metric} at {}", self.metrics))
        };
        assert_eq!(value("processed_packets_total"), packets as f64);
        assert_eq!(value("processed_bytes_total"), bytes as f64);
        assert_eq!(value("total_requests"), value("ledger_all_requests"));
        assert_eq!(value("total_errors"), value("ledger_all_errors"));
        assert_eq!(value("total_fw_drops"), value("ledger_drops"));
    }

    fn stop(self) {
        drop(self.prometheus);
        self.engine.stop();
        drop(self.telemetry);
    }
}

/// The documentation's addresses; endpoints are `up` or `down`, and with them come 256 more services.
fn configuration(cpu: usize, label: &str, endpoints: &str) -> String {
    let mut text = format!(
        r#"
[engine]
workers   = [{cpu}]
hugepages = false
memory_mb = 768
max_flows = 262_144
idle      = "backoff"
[[port]]
name      = "wan"
device    = "net_ring_wan"
role      = "client"
addresses = ["10.0.0.1/24"]
mtu       = 9000
kernel    = ""
[[port]]
name      = "lan"
device    = "net_ring_lan"
role      = "server"
addresses = ["192.168.2.1/24"]
mtu       = 9000
kernel    = ""
[metrics]
listen            = "127.0.0.1:0"
tick              = "1s"
distribution_tick = "3s"
service_label     = "{label}"
[history]
path = ""
[control]
socket = ""
[[firewall]]
name     = "block_icmp"
action   = "drop"
protocol = "icmp"
"#
    );
    let neighbors = (0..CLIENTS).map(|n| (format!("10.0.0.{}", 5 + n), CLIENTS_MAC, "wan"));
    let own = [10, 11, 12, 20, 21, 30, 40].map(|n| (format!("192.168.2.{n}"), ENDPOINTS_MAC, "lan"));
    for (address, mac, port) in neighbors.chain(own) {
        let _ = write!(text, "[[neighbor]]\naddress = \"{address}\"\nmac = \"{mac}\"\nport = \"{port}\"\n");
    }
    let services = [
        ("frontend", "192.168.1.100:80", "tcp", "round-robin", &["10:8080", "11:8080", "12:8080"][..]),
        ("dns", "192.168.1.100:53", "udp", "maglev", &["20:53", "21:53"]),
        ("s1ap", "192.168.1.100:36412", "sctp", "round-robin", &["30:36412"]),
        ("reports", "192.168.1.101:443", "tcp", "round-robin", &["40:443"]),
    ];
    for (name, vip, protocol, algorithm, own) in services {
        let _ = write!(
            text,
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"\nalgorithm = \"{algorithm}\"\n\
             idle_timeout = \"5m\"\n"
        );
        if name == "frontend" {
            text += "[service.health_check]\nkind = \"tcp\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n";
        }
        if algorithm == "maglev" {
            text += "maglev_size = 251\n";
        }
        for endpoint in own {
            let _ = write!(
                text,
                "[[service.endpoint]]\naddress = \"192.168.2.{endpoint}\"\nstate = \"{endpoints}\"\n"
            );
        }
    }
    if endpoints == "down" {
        for n in 0..256 {
            let _ = write!(
                text,
                "[[service]]\nname = \"more{n}\"\nvip = \"192.168.3.1:{}\"\nprotocol = \"tcp\"\nalgorithm = \"round-robin\"\n\
                 [[service.endpoint]]\naddress = \"192.168.2.10:{}\"\nstate = \"down\"\n",
                1000 + n,
                1000 + n
            );
        }
    }
    text
}
