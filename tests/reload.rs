//! A running engine over reloads: connections that go on lose no packet, counters go on, conservation holds at every scrape, and a
//! bad file changes nothing. One test: DPDK is initialised once in a process.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::addr::Mac;
use pollux::config::{self, Config};
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer, RingProducer, ring_port};
use pollux::engine::{Engine, EnginePort, Telemetry, serve};
use pollux::pipeline::Frame;
use pollux::reload::{Action, Refusal, Reloader, Thing};
use pollux::wire::build::{self, eth};

const WAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);
const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
const VIP: [u8; 4] = [203, 0, 113, 100];
const CLIENTS: u16 = 60;
const WORKERS: usize = 2;

/// A configuration: endpoints with their weights, and whatever else.
fn text(endpoints: &[(u8, u32)], more: &str) -> String {
    let cpus = pollux::dpdk::allowed_cpus();
    let cpus: Vec<_> = (0..WORKERS).map(|n| cpus[n % cpus.len()]).collect();
    let mut text = format!(
        r#"
[engine]
workers = {cpus:?}
hugepages = false
memory_mb = 256
max_flows = 8192
idle = "backoff"
[[port]]
name = "wan"
device = "net_ring_wan"
role = "client"
addresses = ["203.0.113.2/24"]
rx_descriptors = 256
tx_descriptors = 256
[[port]]
name = "lan"
device = "net_ring_lan"
role = "server"
addresses = ["10.1.0.1/24"]
rx_descriptors = 256
tx_descriptors = 256
[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"
[[neighbor]]
address = "203.0.113.1"
mac = "02:00:00:00:09:01"
port = "wan"
[metrics]
listen = "127.0.0.1:0"
tick = "1s"
[control]
socket = ""
[[service]]
name = "dns"
vip = "203.0.113.100:53"
protocol = "udp"
maglev_size = 1009
"#
    );
    for (last, weight) in endpoints {
        text += &format!("[[service.endpoint]]\naddress = \"10.1.0.{last}:5353\"\nweight = {weight}\n");
    }
    for last in 10..30 {
        text += &format!(
            "[[neighbor]]\naddress = \"10.1.0.{last}\"\nmac = \"02:00:00:00:02:{last:02x}\"\nport = \"lan\"\n"
        );
    }
    text + more
}

fn endpoint_mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 2, last])
}

struct World {
    engine: Arc<Engine>,
    telemetry: Telemetry,
    reloader: Reloader,
    metrics: SocketAddr,
    file: PathBuf,
    pool: Mempool,
    wan_in: RingProducer,
    wan_out: RingConsumer,
    lan_in: RingProducer,
    lan_out: RingConsumer,
    /// Which endpoint each client's last request went to.
    at: BTreeMap<u16, u8>,
    /// Requests and replies that came through.
    requests: u64,
    replies: u64,
    bytes: u64,
}

impl World {
    fn start(eal: &Eal, pool: &Mempool, folder: &Path, runtime: &tokio::runtime::Runtime) -> Self {
        let file = folder.join("pollux.toml");
        fs::write(&file, text(&[(10, 1), (11, 1), (12, 1)], "")).unwrap();
        let (config, _) = config::load(&file).unwrap();
        let [wan, lan] = ["rlwan", "rllan"].map(|name| ring_port(eal, name, 1, 1, 2048).unwrap());
        let ports = vec![
            EnginePort { device: wan.device, mac: Some(WAN_MAC) },
            EnginePort { device: lan.device, mac: Some(LAN_MAC) },
        ];
        let engine = Arc::new(Engine::start_on(eal, &config, ports).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let metrics = listener.local_addr().unwrap();
        let telemetry =
            serve(listener, pollux::listener::Security::default(), &config, &engine, runtime.handle())
                .unwrap();
        let reloader = Reloader::new(Arc::clone(&engine), telemetry.ticker(), telemetry.gate(), &file);
        let only = |mut ends: Vec<_>| ends.pop().unwrap();
        Self {
            engine,
            telemetry,
            reloader,
            metrics,
            file,
            pool: pool.clone(),
            wan_in: only(wan.inject),
            wan_out: wan.collect.into_iter().next().unwrap(),
            lan_in: only(lan.inject),
            lan_out: lan.collect.into_iter().next().unwrap(),
            at: BTreeMap::new(),
            requests: 0,
            replies: 0,
            bytes: 0,
        }
    }

    fn write(&self, text: &str) {
        // As editors do: another file takes the name.
        let new = self.file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// A request of each of these clients. Does not wait.
    fn ask(&mut self, clients: impl IntoIterator<Item = u16>) -> usize {
        let mut sent = 0;
        for client in clients {
            let source = Ipv4Addr::new(198, 51, 100, 1);
            let frame = eth(GATEWAY_MAC, WAN_MAC)
                .ip(source, Ipv4Addr::from(VIP))
                .udp(20_000 + client, 53)
                .payload(b"question")
                .frame();
            let mut frames = ArrayVec::<Mbuf, 1>::from([self.pool.frame(&frame).unwrap()]);
            assert_eq!(self.wan_in.send(&mut frames), 1);
            sent += 1;
        }
        sent
    }

    /// Plays the endpoints and clients until so many more replies have come.
    fn answered(&mut self, replies: usize) {
        let target = self.replies + replies as u64;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.replies < target {
            assert!(Instant::now() < deadline, "{} of {target} replies: a packet was lost", self.replies);
            let mut frames = ArrayVec::<Mbuf, 64>::new();
            self.lan_out.receive(64, &mut frames);
            let mut answers = ArrayVec::<Mbuf, 64>::new();
            for frame in frames.drain(..) {
                let bytes = frame.data();
                build::verify(bytes).unwrap();
                assert_eq!(bytes[12..14], [8, 0], "all next hops are configured");
                let (last, port) = (bytes[33], u16::from_be_bytes([bytes[34], bytes[35]]));
                self.at.insert(port - 20_000, last);
                self.requests += 1;
                self.bytes += bytes.len() as u64 - 14;
                let answer = eth(endpoint_mac(last), LAN_MAC)
                    .ip(Ipv4Addr::new(10, 1, 0, last), Ipv4Addr::new(198, 51, 100, 1))
                    .udp(5353, port)
                    .payload(b"answer")
                    .frame();
                answers.push(self.pool.frame(&answer).unwrap());
            }
            let n = answers.len();
            assert_eq!(self.lan_in.send(&mut answers), n);
            self.wan_out.receive(64, &mut frames);
            for frame in &frames {
                build::verify(frame.data()).unwrap();
                assert_eq!(frame.data()[26..30], VIP);
                self.replies += 1;
                self.bytes += frame.data().len() as u64 - 14;
            }
        }
    }

    fn scrape(&self) -> Scrape {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut samples = HashMap::new();
        for line in answer.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                samples.insert(name.to_owned(), value);
            }
        }
        Scrape(samples)
    }

    /// Waits for a tick that has all that was counted.
    fn settled(&self, packets: u64) -> Scrape {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let scrape = self.scrape();
            scrape.conserved();
            if scrape.one("processed_packets_total") == packets as f64 {
                return scrape;
            }
            assert!(Instant::now() < deadline, "{packets} packets were not counted");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Samples by name and labels.
#[derive(Debug, PartialEq)]
struct Scrape(HashMap<String, f64>);

impl Scrape {
    fn one(&self, sample: &str) -> f64 {
        *self.0.get(sample).unwrap_or_else(|| panic!("no {sample}"))
    }

    fn sum(&self, family: &str) -> f64 {
        let of = |name: &&String| name.split('{').next() == Some(family);
        self.0.iter().filter(|(name, _)| of(name)).map(|(_, value)| value).sum()
    }

    fn retired(&self, family: &str) -> f64 {
        self.one(&format!("pollux_retired_total{{family=\"{family}\"}}"))
    }

    fn pending(&self, family: &str) -> f64 {
        self.one(&format!("pollux_pending{{family=\"{family}\"}}"))
    }

    /// Ground rule 3 of docs/metrics.md.
    fn conserved(&self) {
        for (total, family) in [
            ("total_requests", "total_requests_per_service"),
            ("total_errors", "total_errors_per_service"),
            ("processed_bytes_total", "service_traffic_bytes"),
            ("processed_packets_total", "service_traffic_packets"),
            ("processed_bytes_total", "endpoint_traffic_bytes"),
            ("processed_packets_total", "client_traffic_packets"),
            ("processed_bytes_total", "lb_rule_interaction_bytes"),
            ("processed_packets_total", "lb_rule_interaction_packets"),
            ("total_fw_drops", "total_fw_drops_per_rule"),
        ] {
            let sum = self.sum(family) + self.retired(family) + self.pending(family);
            assert_eq!(self.one(total), sum, "{family}");
        }
        let flows = ["tcp", "udp", "sctp"].map(|p| self.one(&format!("active_flow_count_{p}")));
        assert_eq!(self.one("active_conntrack_count"), flows.iter().sum::<f64>());
    }
}

#[test]
fn reloads() {
    let (config, _) = config::parse("t", &text(&[(10, 1)], "")).unwrap();
    let eal = Engine::init_dpdk(&config).unwrap();
    let pool = Mempool::new(&eal, "wire", 8191, 2048).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut world = World::start(&eal, &pool, folder.path(), &runtime);

    connections_go_on_under_a_hundred_reloads(&mut world);
    a_series_that_goes_is_retired_and_comes_back_at_0(&mut world);
    a_drained_endpoint_stays_drained_over_reloads(&mut world);
    a_file_that_takes_long_to_read_holds_nobody_up(&world);
    a_bad_file_changes_nothing(&world);
    what_takes_a_restart_is_refused_whole(&world);
    slots_are_added_as_they_are_needed(&mut world);

    world.engine.stop();
    let World { telemetry, reloader, engine, .. } = world;
    drop((telemetry, reloader, engine));
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Endpoints come, go and change their weight, rules and another service too, at whatever moment of the traffic. Who has an
/// endpoint keeps it; all packets come through; conservation holds at each scrape; only a changed firewall bumps the epoch.
fn connections_go_on_under_a_hundred_reloads(world: &mut World) {
    let sent = world.ask(0..CLIENTS);
    world.answered(sent);
    let first = world.at.clone();
    assert!([10, 11, 12].iter().all(|last| first.values().any(|at| at == last)), "{first:?}");
    let rule = "[[firewall]]\nname = \"r\"\naction = \"drop\"\nsource = [\"192.0.2.0/24\"]\n";
    let other = "[[service]]\nname = \"other\"\nvip = \"203.0.113.101:80\"\nalgorithm = \"round-robin\"\n\
                 [[service.endpoint]]\naddress = \"10.1.0.20:80\"\n";
    let mut generation = world.scrape().one("pollux_config_generation");
    let mut longest = Duration::ZERO;
    for round in 0..100_u32 {
        // 12 goes in every other round: its connections drain.
        let mut endpoints = vec![(10, 1 + round % 3), (11, 1)];
        if round % 2 == 0 {
            endpoints.push((12, 1));
        }
        if round % 5 == 0 {
            endpoints.push((13, 2));
        }
        let more = [other, rule, ""][round as usize % 3];
        world.write(&text(&endpoints, more));
        let sent = world.ask(0..CLIENTS);
        let began = Instant::now();
        let outcome = world.reloader.reload(None).unwrap();
        longest = longest.max(began.elapsed());
        generation += 1.0;
        assert_eq!(outcome.generation as f64, generation);
        assert!(!outcome.changes.is_empty());
        world.answered(sent);
        for (client, last) in &first {
            assert_eq!(world.at[client], *last, "round {round}: client {client} has moved");
        }
        let scrape = world.scrape();
        scrape.conserved();
        assert_eq!(scrape.one("pollux_config_generation"), generation);
        assert_eq!(scrape.one("pollux_config_last_reload_successful"), 1.0);
    }
    let scrape = world.settled(world.requests + world.replies);
    assert_eq!(scrape.one("processed_bytes_total"), world.bytes as f64);
    assert_eq!(scrape.one("total_requests"), f64::from(CLIENTS), "no connection was begun anew");
    assert_eq!(scrape.one("active_flow_count_udp"), f64::from(CLIENTS));
    assert_eq!(scrape.sum("pollux_dropped_packets_total"), 0.0);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

fn a_series_that_goes_is_retired_and_comes_back_at_0(world: &mut World) {
    let series = "endpoint_traffic_bytes{service=\"203.0.113.100:53\",dip=\"10.1.0.12\"}";
    world.write(&text(&[(10, 1), (11, 1), (12, 1)], ""));
    world.reloader.reload(None).unwrap();
    let sent = world.ask(0..CLIENTS);
    world.answered(sent);
    let before = world.settled(world.requests + world.replies);
    let had = before.one(series);
    assert!(had > 0.0);
    world.write(&text(&[(10, 1), (11, 1)], ""));
    world.reloader.reload(None).unwrap();
    let without = world.scrape();
    without.conserved();
    assert!(!without.0.contains_key(series));
    let retired = before.retired("endpoint_traffic_bytes") + had;
    assert_eq!(without.retired("endpoint_traffic_bytes"), retired);
    world.write(&text(&[(10, 1), (11, 1), (12, 1)], ""));
    world.reloader.reload(None).unwrap();
    let back = world.scrape();
    back.conserved();
    assert_eq!((back.one(series), back.retired("endpoint_traffic_bytes")), (0.0, retired));
}

fn a_drained_endpoint_stays_drained_over_reloads(world: &mut World) {
    let before = world.at.clone();
    let done = world.reloader.drain("dns", "10.1.0.10").unwrap();
    assert_eq!((done.endpoint.as_str(), done.state.as_str()), ("10.1.0.10:5353", "drain"));
    world.write(&text(&[(10, 7), (11, 1), (12, 1)], ""));
    let outcome = world.reloader.reload(None).unwrap();
    assert_eq!(
        outcome.runtime,
        [pollux::reload::Override {
            service: "dns".into(),
            endpoint: "10.1.0.10:5353".into(),
            state: "drain".into()
        }]
    );
    let preview = world.reloader.preview(None).unwrap();
    assert!(preview.diff.is_empty());
    assert_eq!(preview.runtime, outcome.runtime);
    // Those that are there stay, new ones go elsewhere.
    let sent = world.ask(0..2 * CLIENTS);
    world.answered(sent);
    for (client, last) in &world.at {
        match before.get(client) {
            Some(before) => assert_eq!(last, before),
            None => assert_ne!(*last, 10, "client {client}"),
        }
    }
    let up = |world: &World| world.scrape().one("healthy_endpoints_count");
    assert_eq!(up(world), 3.0, "draining is healthy");
    for (service, endpoint, says) in [
        ("web", "10.1.0.10", "there is no service \"web\"; there are dns"),
        (
            "dns",
            "10.1.0.9",
            "has no endpoint \"10.1.0.9\"; it has 10.1.0.10:5353, 10.1.0.11:5353, 10.1.0.12:5353",
        ),
    ] {
        let error = world.reloader.drain(service, endpoint).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(world.reloader.undrain("dns", "10.1.0.10:5353").unwrap().state, "up");
    let error = world.reloader.undrain("dns", "10.1.0.10:5353").unwrap_err().to_string();
    assert_eq!(error, "endpoint 10.1.0.10:5353 was not drained");
    let sent = world.ask(200..200 + CLIENTS);
    world.answered(sent);
    assert!((200..200 + CLIENTS).any(|client| world.at[&client] == 10));
}

/// The file is a pipe that is written to when a drain has been answered.
fn a_file_that_takes_long_to_read_holds_nobody_up(world: &World) {
    let pipe = world.file.with_extension("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let reloader = &world.reloader;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reloader.reload(Some(&pipe)));
        // Opened once it is being read.
        let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let (tell, told) = mpsc::channel();
        scope.spawn(move || {
            let drained = reloader.drain("dns", "10.1.0.11");
            let _ = tell.send(drained.and_then(|_| reloader.undrain("dns", "10.1.0.11")));
        });
        let told = told.recv_timeout(Duration::from_secs(10));
        writer.write_all(&fs::read(&world.file).unwrap()).unwrap();
        drop(writer);
        assert!(reading.join().unwrap().unwrap().changes.is_empty());
        assert_eq!(told.unwrap().unwrap().state, "up");
    });
    reloader.reload(Some(&world.file)).unwrap();
}

/// A thousand spoilt files in a row, each at another place.
fn a_bad_file_changes_nothing(world: &World) {
    let good = text(&[(20, 1)], "");
    let before =
        (world.engine.tables(), world.engine.config(), world.settled(world.requests + world.replies));
    let mut refused = 0;
    for n in 0_usize.. {
        if refused == 1000 {
            break;
        }
        let at = (n * 7919) % good.len();
        let mut spoilt = good.clone().into_bytes();
        match n % 4 {
            0 => spoilt.truncate(at),
            1 => spoilt[at] = 0xff,
            2 => spoilt.splice(at..at, *b"\n]=[\"").for_each(drop),
            _ => spoilt.splice(at..at, *b"\nnonsense = 1\n[").for_each(drop),
        }
        fs::write(&world.file, &spoilt).unwrap();
        match config::load(&world.file) {
            Ok((config, _)) => {
                // What is whole by chance: at the end, or in front of what it would have.
                assert!(n % 4 == 0, "{n}: {:?}", String::from_utf8_lossy(&spoilt));
                let _: Config = config;
            }
            Err(_) => {
                assert!(matches!(world.reloader.reload(None), Err(Refusal::Invalid(_))));
                refused += 1;
            }
        }
    }
    assert!(Arc::ptr_eq(&before.0, &world.engine.tables()), "other tables");
    assert!(Arc::ptr_eq(&before.1, &world.engine.config()));
    let deadline = Instant::now() + Duration::from_secs(5);
    let after = loop {
        let after = world.scrape();
        if after.one("pollux_config_last_reload_successful") == 0.0 {
            break after;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    };
    for family in
        ["pollux_config_generation", "lb_rule_count", "healthy_endpoints_count", "processed_bytes_total"]
    {
        assert_eq!(after.one(family), before.2.one(family), "{family}");
    }
}

fn what_takes_a_restart_is_refused_whole(world: &World) {
    let text = text(&[(20, 1)], "").replace("max_flows = 8192", "max_flows = 9000");
    world.write(&text.replace("role = \"server\"", "role = \"server\"\nmtu = 1400"));
    let before = world.engine.tables();
    let Err(Refusal::Restart(changes)) = world.reloader.reload(None) else { panic!() };
    let shown: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["~ engine: max_flows 8192 -> 9000", "~ port lan: mtu 1500 -> 1400"]);
    assert!(Arc::ptr_eq(&before, &world.engine.tables()));
    let preview = world.reloader.preview(None).unwrap();
    assert_eq!(preview.diff.restart, changes);
    assert!(preview.diff.changes.iter().any(|c| c.thing == Thing::Endpoint && c.action == Action::Removed));
}

/// Ten times as many services and endpoints as at the start; their counters are there, and exact.
fn slots_are_added_as_they_are_needed(world: &mut World) {
    let mut more = String::new();
    for n in 0..40 {
        more += &format!(
            "[[service]]\nname = \"s{n}\"\nvip = \"203.0.113.101:{}\"\nprotocol = \"udp\"\nalgorithm = \"round-robin\"\n",
            1000 + n
        );
        for last in 10..30 {
            more += &format!("[[service.endpoint]]\naddress = \"10.1.0.{last}:{}\"\n", 1000 + n);
        }
    }
    world.write(&text(&[(10, 1), (11, 1), (12, 1)], &more));
    let outcome = world.reloader.reload(None).unwrap();
    // And a weight, which the last round left at 7.
    assert_eq!(outcome.changes.len(), 40 * 21 + 1);
    let frame = eth(GATEWAY_MAC, WAN_MAC)
        .ip(Ipv4Addr::new(198, 51, 100, 9), Ipv4Addr::new(203, 0, 113, 101))
        .udp(4000, 1039)
        .payload(b"question")
        .frame();
    let mut frames = ArrayVec::<Mbuf, 1>::from([world.pool.frame(&frame).unwrap()]);
    assert_eq!(world.wan_in.send(&mut frames), 1);
    let mut out = ArrayVec::<Mbuf, 64>::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while out.is_empty() {
        assert!(Instant::now() < deadline);
        world.lan_out.receive(64, &mut out);
    }
    let scrape = world.settled(world.requests + world.replies + 1);
    assert_eq!(scrape.one("service_traffic_packets{service=\"203.0.113.101:1039\"}"), 1.0);
    assert_eq!(scrape.sum("lb_rule_count"), 41.0);
}
