//! The engine on each kind of device that a machine without a NIC can have: it starts, forwards, stops; links and peers go
//! away and come back. Each engine is a process of its own, since DPDK is initialised once in one.
//!
//! Needs root, and the programs that `ci/test` installs.

#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/engine.rs"]
mod engine;
mod files;
#[path = "../lab/ground.rs"]
mod ground;
mod kill;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/nginx.rs"]
mod nginx;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/servers.rs"]
mod servers;
mod topology;

use std::time::{Duration, Instant};

use engine::{Engine, METRICS};
use net::Namespace;
use rustix::process::Signal;
use scrape::{Scrape, http_get};
use topology::{Lab, af_packet, one_box, port, with_two_queues};

/// What `/readyz` answers.
fn ready(ns: &Namespace) -> u16 {
    http_get(ns, METRICS, "/readyz").map_or(0, |(status, _)| status)
}

fn wait_for_status(ns: &Namespace, wanted: u16) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ready(ns) != wanted {
        assert!(Instant::now() < deadline, "/readyz stays {} and does not become {wanted}", ready(ns));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The conservation rules hold.
fn assert_sound(ns: &Namespace) {
    assert_eq!(Scrape::fetch(ns, METRICS).violations(), "");
}

#[test]
fn packet_sockets() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &one_box(&af_packet(0, "wan"), &af_packet(1, "lan")));
    lab.echo(&lab.client, 50);
    let said = engine.log();
    for row in ["wan", "lan"] {
        let row = said.lines().find(|line| line.contains("net_af_packet") && line.contains(row));
        assert!(row.is_some_and(|row| row.contains("1 RX") && row.contains("link up")), "{said}");
    }
    assert_sound(&lab.lb);
    engine.finish();
}

#[test]
fn xdp_sockets() {
    let lab = Lab::new();
    let mut engine = Engine::spawn(
        &lab.lb,
        lab.dir(),
        &one_box("net_af_xdp0,iface=wan,force_copy=1", "net_af_xdp1,iface=lan,force_copy=1"),
    );
    engine.wait_until_ready(&lab.lb);
    lab.echo(&lab.client, 50);
    assert_sound(&lab.lb);
    engine.finish();
}

#[test]
fn a_tap() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &one_box("net_tap0,iface=px-tap", &af_packet(1, "lan")));
    // The client is the kernel at the TAP's other end.
    lab.lb.interface("px-tap", &[&format!("{}/24", topology::CLIENT)]);
    lab.echo(&lab.lb, 50);
    assert_sound(&lab.lb);
    engine.finish();
    assert!(!lab.lb.run("ip link show px-tap").status.success(), "the TAP goes with the engine");
}

/// The table's row of a port shows two queues each way, and that software does what the device does not.
fn assert_two_queues(said: &str, port: &str, device: &str) {
    let row = said.lines().find(|line| line.contains(&format!("  {port} ")) && line.contains(device));
    let row = row.unwrap_or_else(|| panic!("no row of {port}: {said}"));
    assert!(row.contains("2 RX, 2 TX") && row.contains("hand-off"), "{row}");
}

#[test]
fn packet_sockets_with_two_queues() {
    let lab = Lab::new();
    let config = one_box(&af_packet(0, "wan"), &af_packet(1, "lan"));
    let engine = Engine::start(&lab.lb, lab.dir(), &with_two_queues(&config));
    lab.echo(&lab.client, 100);
    assert_two_queues(&engine.log(), "wan", "net_af_packet0");
    assert_two_queues(&engine.log(), "lan", "net_af_packet1");
    assert_sound(&lab.lb);
    engine.finish();
    // More than the device has, which was made with one.
    let one_each = with_two_queues(&config).replace("qpairs=2", "qpairs=1");
    let mut engine = Engine::spawn(&lab.lb, lab.dir(), &one_each);
    let (status, said) = engine.outcome(Duration::from_secs(20)).expect("it ends");
    assert_ne!(status.code(), Some(0));
    assert!(said.contains("port wan: queues = 2, but net_af_packet has 1 here"), "{said}");
}

#[test]
fn a_tap_with_two_queues() {
    let lab = Lab::new();
    let config = with_two_queues(&one_box("net_tap0,iface=px-tap", &af_packet(1, "lan")));
    let engine = Engine::start(&lab.lb, lab.dir(), &config);
    lab.lb.interface("px-tap", &[&format!("{}/24", topology::CLIENT)]);
    lab.echo(&lab.lb, 100);
    assert_two_queues(&engine.log(), "wan", "net_tap0");
    assert_sound(&lab.lb);
    engine.finish();
}

#[test]
fn memif_with_two_queues() {
    let lab = Lab::new();
    let (near, far) = lab.chain(
        "net_memif0,role=client,socket=SOCKET,socket-abstract=no,id=7",
        "net_memif0,role=server,socket=SOCKET,socket-abstract=no,id=7",
    );
    let mut far = Engine::spawn(&lab.lb2, &lab.folder("b"), &with_two_queues(&far));
    lab.wait_for_socket(None);
    let near = Engine::start(&lab.lb, &lab.folder("a"), &with_two_queues(&near));
    far.wait_until_ready(&lab.lb2);
    lab.echo_soon(&lab.client);
    lab.echo(&lab.client, 100);
    for (engine, ns) in [(near, &lab.lb), (far, &lab.lb2)] {
        assert_two_queues(&engine.log(), "mid", "net_memif0");
        assert_sound(ns);
        engine.finish();
    }
}

#[test]
fn one_arm() {
    let lab = Lab::new();
    lab.join_by_a_switch();
    let port = port("arm", &af_packet(0, "arm"), "both", &["203.0.113.2/24", "10.1.0.1/24"], 0);
    let engine = Engine::start(&lab.lb, lab.dir(), &topology::config(&port, topology::ECHO));
    lab.echo(&lab.client, 50);
    assert_sound(&lab.lb);
    engine.finish();
}

#[test]
fn links_go_down_and_come_up() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &one_box(&af_packet(0, "wan"), &af_packet(1, "lan")));
    lab.echo(&lab.client, 10);
    for (ns, interface) in [(&lab.lb, "lan"), (&lab.lb, "wan"), (&lab.server, "eth0")] {
        ns.sh(&format!("ip link set {interface} down"));
        wait_for_status(&lab.lb, 503);
        assert!(!lab.tries_echo(&lab.client), "through a link that is down");
        ns.sh(&format!("ip link set {interface} up"));
        lab.routes();
        wait_for_status(&lab.lb, 200);
        lab.echo_soon(&lab.client);
        lab.echo(&lab.client, 10);
    }
    assert_sound(&lab.lb);
    engine.finish();
}

/// Two engines, the one's endpoint the other's VIP, with a link between them that is no interface of the kernel's.
fn chained(first: &str, second: &str) {
    let lab = Lab::new();
    let (near, far) = lab.chain(first, second);
    // Who listens on the socket comes first.
    let mut b = Engine::spawn(&lab.lb2, &lab.folder("b"), &far);
    lab.wait_for_socket(None);
    let mut a = Engine::spawn(&lab.lb, &lab.folder("a"), &near);
    a.wait_until_ready(&lab.lb);
    b.wait_until_ready(&lab.lb2);
    lab.echo_soon(&lab.client);
    lab.echo(&lab.client, 50);
    // The one that connects dies in traffic, and comes back.
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let traffic = scope.spawn(|| (0..4).filter(|_| lab.tries_echo(&lab.client)).count());
            std::thread::sleep(Duration::from_millis(20));
            a.stop(Signal::KILL, Duration::from_secs(30));
            let _ = traffic.join();
        });
        assert!(b.runs(), "its peer's death: {}", b.log());
        wait_for_status(&lab.lb2, 503);
        a = Engine::start(&lab.lb, &lab.folder("a"), &near);
        b.wait_until_ready(&lab.lb2);
        lab.echo_soon(&lab.client);
        lab.echo(&lab.client, 50);
    }
    // The one that listens dies. These drivers connect once, at their start: the other side lives on, says that it is not
    // ready, stops as it should, and connects when it is started again.
    b.stop(Signal::KILL, Duration::from_secs(30));
    wait_for_status(&lab.lb, 503);
    assert!(!lab.tries_echo(&lab.client));
    assert!(a.runs(), "its peer's death: {}", a.log());
    assert_sound(&lab.lb);
    a.finish();
    // Its socket is still there, in the way of the next one.
    let stale = lab.socket_file();
    assert!(stale.is_some(), "the socket of a killed process is gone");
    b = Engine::spawn(&lab.lb2, &lab.folder("b"), &far);
    lab.wait_for_socket(stale);
    a = Engine::start(&lab.lb, &lab.folder("a"), &near);
    b.wait_until_ready(&lab.lb2);
    lab.echo_soon(&lab.client);
    lab.echo(&lab.client, 50);
    assert_sound(&lab.lb);
    assert_sound(&lab.lb2);
    a.finish();
    b.finish();
}

#[test]
fn memif_and_the_death_of_a_peer() {
    chained(
        "net_memif0,role=client,socket=SOCKET,socket-abstract=no,id=7",
        "net_memif0,role=server,socket=SOCKET,socket-abstract=no,id=7",
    );
}

#[test]
fn virtio_user_on_vhost() {
    chained("net_virtio_user0,path=SOCKET,queues=1", "net_vhost0,iface=SOCKET,queues=1");
}

#[test]
fn files() {
    let lab = Lab::new();
    let dir = lab.dir().to_owned();
    files::write(&dir.join("in.pcap"), &files::requests(0, 30));
    let [rx, wan, lan] = ["in.pcap", "wan.pcap", "lan.pcap"].map(|f| dir.join(f).display().to_string());
    let config =
        one_box(&format!("net_pcap0,rx_pcap={rx},tx_pcap={wan}"), &format!("net_pcap1,tx_pcap={lan}"));
    let engine = Engine::start(&lab.lb, &dir, &(config + files::NEIGHBORS));
    files::wait_for_processed(&lab.lb, 30);
    assert_sound(&lab.lb);
    engine.finish();
    assert_eq!(files::read(&dir.join("lan.pcap")), [(0, topology::SERVER.parse().expect("an address")); 30]);
    assert_eq!(files::read(&dir.join("wan.pcap")), []);
}

#[test]
fn a_ring_on_itself() {
    let lab = Lab::new();
    let dir = lab.dir().to_owned();
    files::write(&dir.join("in.pcap"), &files::requests(0, 30));
    let config = one_box(&format!("net_pcap0,rx_pcap={}", dir.join("in.pcap").display()), "net_ring0");
    let engine = Engine::start(&lab.lb, &dir, &(config + files::NEIGHBORS));
    files::wait_for_processed(&lab.lb, 30);
    // What is sent there comes back, and is for another station.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let scrape = Scrape::fetch(&lab.lb, METRICS);
        assert_eq!(scrape.violations(), "");
        if scrape.get("pollux_port_rx_packets_total", &[("port", "lan")]) == 30.0 {
            break;
        }
        assert!(Instant::now() < deadline, "the ring does not give back what it got");
        std::thread::sleep(Duration::from_millis(100));
    }
    engine.finish();
}

#[test]
fn two_vlans_on_one_device() {
    let lab = Lab::new();
    let dir = lab.dir().to_owned();
    // A burst of one, a burst of the other: an answer never comes together with what it answers.
    let mut frames = files::requests(10, 32);
    frames.extend(files::answers(20, 32));
    // Of no port's VLAN.
    frames.extend(files::requests(30, 3));
    files::write(&dir.join("in.pcap"), &frames);
    let [rx, tx] = ["in.pcap", "out.pcap"].map(|f| dir.join(f).display().to_string());
    let device = format!("net_pcap0,rx_pcap={rx},tx_pcap={tx}");
    let ports = port("wan", &device, "client", &["203.0.113.2/24"], 10)
        + &port("lan", &device, "server", &["10.1.0.1/24"], 20);
    for workers in ["[1]", "[0, 1]"] {
        let config = topology::config(&ports, topology::ECHO).replace("[1]", workers) + files::NEIGHBORS;
        let engine = Engine::start(&lab.lb, &dir, &config);
        files::wait_for_processed(&lab.lb, 64);
        let scrape = files::wait_for(&lab.lb, "pollux_port_rx_packets_total", 64 + 3);
        assert_eq!(scrape.violations(), "");
        let port = |name: &str| scrape.get("pollux_port_rx_packets_total", &[("port", name)]);
        assert_eq!((port("wan"), port("lan")), (35.0, 32.0), "a tag of nobody's is the first port's");
        engine.finish();
        let out = files::read(&dir.join("out.pcap"));
        let count = |vlan, to: &str| out.iter().filter(|o| **o == (vlan, to.parse().expect("one"))).count();
        assert_eq!((count(20, topology::SERVER), count(10, topology::CLIENT), out.len()), (32, 32, 64));
    }
}
