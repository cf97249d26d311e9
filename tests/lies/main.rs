//! Mutated frames by the million into an engine that has 100 connections of the kernel's meanwhile.
//!
//! ```text
//!   client ── wan [ pollux ] lan ── server      veth pairs and packet sockets, TCP of the kernel's at both ends
//!                   liar                        a port of rings, in this process
//! ```
//!
//! The frames are the fuzzer's seeds, packets of the services of the liar's port, and packets with the addresses and ports of
//! the 100 connections, each changed at random; half of them with checksums made right again. What the liar must not do is
//! what anybody on the way could do to a connection, too: a frame that after its changes is a SYN, FIN or RST of one of the
//! 100 is taken back, and another one sent.
//!
//! `POLLUX_LIES=10000000` sends so many. One test: DPDK is initialised once in a process. Needs root.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the fuzzer's, of which this needs seeds and checksums")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod liar;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
#[allow(dead_code, reason = "the other tests', of which this needs a part")]
#[path = "../faults/rig.rs"]
mod rig;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
mod talk;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::config::{self, Config};
use pollux::dpdk::{Mbuf, Mempool, allowed_cpus, ring_port};
use pollux::engine::{Engine, EnginePort};

use liar::Liar;
use net::{Namespace, wire};
use rig::Shown;
use scrape::Scrape;
use talk::Talk;

/// Frames, where nobody says how many.
const LIES: u64 = 1_000_000;
const CONNECTIONS: usize = 100;
const BURST: usize = 32;

#[test]
fn connections_survive_lies() {
    net::remove_leftovers();
    let lies = std::env::var("POLLUX_LIES").map_or(LIES, |text| text.parse().unwrap());
    let [client, lb, server] = ["client", "lb", "server"].map(Namespace::new);
    wire((&client, "eth0"), (&lb, "wan"));
    wire((&server, "eth0"), (&lb, "lan"));
    client.interface("eth0", &["203.0.113.10/24"]);
    server.interface("eth0", &["10.1.0.11/24"]);
    lb.bare_interface("wan");
    lb.bare_interface("lan");
    server.sh("ip route add default via 10.1.0.1");

    let cpus = allowed_cpus();
    let config = configuration(&cpus);
    let eal = Engine::init_dpdk(&config).unwrap();
    let pool = Mempool::new(&eal, "liar", 16_383, 2048).unwrap();
    let mut wires = ring_port(&eal, "liar", 1, 1, 4096).unwrap();
    // Packet sockets are of the namespace in which they are made.
    let engine = lb.inside(|| {
        let socket = |number: u8, interface: &str| {
            let arguments = format!("iface={interface},blocksz=4096,framesz=2048,framecnt=8192,qpairs=1");
            eal.attach(&format!("net_af_packet{number}"), &arguments).unwrap().into()
        };
        let liar = EnginePort { device: wires.device, mac: Some(liar::MAC) };
        Engine::start_on(&eal, &config, vec![socket(0, "wan"), socket(1, "lan"), liar]).unwrap()
    });
    let shown = Shown::new(engine, &config);
    let mut talk = Talk::start(&client, &server, CONNECTIONS);
    let said_before = talk.rounds();

    let mut liar = Liar::new(talk.tuples());
    let (mut inject, mut collect) = (wires.inject.remove(0), wires.collect.remove(0));
    let (mut sent, mut sent_bytes) = (0_u64, 0_u64);
    let (mut came, mut came_bytes) = (0_u64, 0_u64);
    let mut take = |came: &mut u64, came_bytes: &mut u64| {
        *came += rig::drain(&mut collect, |frame| *came_bytes += frame.len() as u64) as u64;
    };
    let started = Instant::now();
    let mut next_look = started;
    let mut looks = 0;
    while sent < lies {
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        while !burst.is_full() {
            let bytes = liar.lie();
            let Some(frame) = pool.frame(bytes) else { break };
            sent += 1;
            sent_bytes += bytes.len() as u64;
            burst.push(frame);
        }
        while !burst.is_empty() {
            inject.send(&mut burst);
            take(&mut came, &mut came_bytes);
            if !burst.is_empty() {
                std::thread::yield_now();
            }
        }
        if Instant::now() > next_look {
            looks += 1;
            next_look = Instant::now() + Duration::from_secs(1);
            talk.assert_alive();
            // Both equations of the ledger, under fire. A machine that is too busy may be late with a snapshot.
            let (status, body) = shown.get("/metrics");
            if status == 200 {
                assert_eq!(Scrape::parse(&body).violations(), "");
            }
        }
    }
    let took = started.elapsed();
    rig::wait_until("the engine takes what was sent", 30, || {
        take(&mut came, &mut came_bytes);
        inject.waiting() == 0
    });

    // Every connection goes on, and says so after the last lie.
    let rounds = talk.rounds();
    rig::wait_until("every connection goes on", 30, || {
        take(&mut came, &mut came_bytes);
        talk.assert_alive();
        talk.rounds().iter().zip(&rounds).all(|(now, before)| *now >= before + 3)
    });
    let through = talk.rounds().iter().sum::<u64>() - said_before.iter().sum::<u64>();
    let talked = talk.finish();
    assert_eq!(talked, CONNECTIONS, "connections that came to a good end");

    // The liar's own ledger against the metrics.
    let deadline = Instant::now() + Duration::from_secs(30);
    let scrape = loop {
        take(&mut came, &mut came_bytes);
        let scrape = shown.settled();
        take(&mut came, &mut came_bytes);
        if scrape.get("pollux_port_tx_packets_total", &[("port", "liar")]) == came as f64 {
            break scrape;
        }
        assert!(Instant::now() < deadline, "{came} frames have come out, and the metrics say otherwise");
    };
    let port = |what: &str| scrape.get(&format!("pollux_port_{what}_total"), &[("port", "liar")]);
    assert_eq!((port("rx_packets"), port("rx_bytes")), (sent as f64, sent_bytes as f64));
    assert_eq!((port("tx_packets"), port("tx_bytes")), (came as f64, came_bytes as f64));
    let (dropped, forwarded) =
        (scrape.sum("pollux_dropped_packets_total"), scrape.value("pollux_forwarded_packets_total"));
    let reasons = scrape.family("pollux_dropped_packets_total").iter().filter(|(_, n)| *n > 0.0).count();
    eprintln!(
        "{sent} frames in {took:?}, {came} came out; {} about live connections, {} taken back; {forwarded} forwarded and {dropped} \
         dropped for {reasons} reasons; {looks} looks; {through} round trips on {CONNECTIONS} connections meanwhile",
        liar.about_live, liar.taken_back
    );
    assert!(came > lies / 200 && reasons >= 25, "they reach too little of the engine: {came}, {reasons}");
    assert!(liar.about_live > lies / 2000);
    shown.stop();
    assert_eq!(pool.in_use(), 0);
}

/// Two workers; a service for the kernel's connections, and on the liar's own link those that the seeds are about.
fn configuration(cpus: &[usize]) -> Config {
    let text = format!(
        r#"
[engine]
hugepages = false
memory_mb = 512
max_flows = 16_384
idle      = "backoff"
[[port]]
name      = "wan"
device    = "net_ring0"
role      = "client"
addresses = ["203.0.113.2/24"]
[[port]]
name      = "lan"
device    = "net_ring1"
role      = "server"
addresses = ["10.1.0.1/24"]
[[port]]
name      = "liar"
device    = "net_ring2"
role      = "both"
addresses = ["192.0.2.2/24", "2001:db8:c::2/64"]
{services}
[[service]]
name     = "talk"
vip      = "203.0.113.200:80"
protocol = "tcp"
[[service.endpoint]]
address = "10.1.0.11:8080"
[metrics]
tick              = "1s"
distribution_tick = "2s"
flow_series_limit = 64
[history]
path = ""
[control]
socket = ""
"#,
        services = liar::services()
    );
    let (mut config, _) = config::parse("test", &text).unwrap_or_else(|report| panic!("{report}"));
    config.engine.workers = (0..2).map(|i| cpus[i % cpus.len()]).collect();
    config.metrics.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}
