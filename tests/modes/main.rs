//! Modes other than `dnat` with stacks of other people: the kernel's TCP as client and server, nginx behind the VIPs, each
//! in a network namespace of its own with `pollux run` between them. The server has no route to the client but for DSR: an
//! answer that is not the engine's to translate goes nowhere.
//!
//! Needs root, and the programs that `ci/test` installs.

#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/capture.rs"]
mod capture;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/engine.rs"]
mod engine;
#[path = "../lab/ground.rs"]
mod ground;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
#[path = "../lab/nginx.rs"]
mod nginx;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
mod toa;
mod topology;
mod web;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use engine::{Engine, METRICS};
use scrape::Scrape;
use topology::{CLIENT4, CLIENT6, CLIENTS4, CLIENTS6, Lab, SERVER4, VIP4, VIP6, config};
use web::{PLAIN, PROXIED, fetch};

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Fetches pages of several sizes from a VIP, several at once.
fn fetch_all(lab: &Lab, from: &str, to: SocketAddr) {
    let from = addr(from);
    std::thread::scope(|scope| {
        for n in 0..3_usize {
            scope.spawn(move || {
                lab.client.inside(|| {
                    for size in [1, 1000, 1440, 1460, 5000, 65_536, 300_000] {
                        let page = fetch(from, to, 100 * n, size)
                            .unwrap_or_else(|e| panic!("{size} bytes of {to}: {e}"));
                        assert_eq!(page.body.len(), size);
                    }
                });
            });
        }
    });
}

#[test]
fn full_nat_of_every_pair_of_families() {
    let lab = Lab::new(false);
    let wire = lab.capture_server();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    for (name, vip, port, from) in [
        ("v4", VIP4, 80, CLIENT4),
        ("v6", VIP6, 80, CLIENT6),
        ("nat64", VIP6, 64, CLIENT6),
        ("nat46", VIP4, 46, CLIENT4),
    ] {
        eprintln!("--- {name}");
        fetch_all(&lab, from, SocketAddr::new(addr(vip), port));
    }
    // The server as a client of the VIP that it stands behind.
    let to = SocketAddr::new(addr(VIP4), 80);
    let page =
        lab.server.inside(|| fetch(addr(SERVER4), to, 0, 5000)).unwrap_or_else(|e| panic!("hairpin: {e}"));
    assert_eq!(page.body.len(), 5000);

    let packets = wire.stop();
    let clients = [addr(CLIENT4), addr(CLIENT6)];
    assert!(packets.len() > 1000);
    assert!(
        packets.iter().all(|p| !clients.contains(&p.source) && !clients.contains(&p.destination)),
        "the server has seen the client's address"
    );
    let snat = [addr(topology::SNAT4), addr(topology::SNAT6)];
    assert!(packets.iter().any(|p| p.source == snat[0]) && packets.iter().any(|p| p.source == snat[1]));
    let scrape = Scrape::fetch(&lab.lb, METRICS);
    assert_eq!(scrape.violations(), "");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let scrape = Scrape::fetch(&lab.lb, METRICS);
        let ports = |state: &str| {
            [topology::SNAT4, topology::SNAT6]
                .iter()
                .map(|a| scrape.get("pollux_snat_ports", &[("address", *a), ("state", state)]))
                .sum::<f64>()
        };
        let requests = 4.0 * 21.0 + 1.0;
        if ports("used") + ports("resting") == requests {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{} used and {} resting of {requests}",
            ports("used"),
            ports("resting")
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(Scrape::fetch(&lab.lb, METRICS).value("total_errors"), 0.0);
    engine.finish();
}

#[test]
fn dsr_by_mac_address() {
    let lab = Lab::new(false);
    lab.give_server_the_vip();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    let wire = lab.capture_server();
    fetch_all(&lab, CLIENT4, SocketAddr::new(addr(topology::DSR_VIP), PLAIN));
    // The last ACKs.
    Scrape::settled(&lab.lb, METRICS);
    let packets = wire.stop();
    // Here only what the client has sent comes by.
    assert!(packets.len() > 100);
    assert!(packets.iter().all(|p| (p.source, p.destination) == (addr(CLIENT4), addr(topology::DSR_VIP))));
    let deadline = Instant::now() + Duration::from_secs(10);
    let requests = |scrape: &Scrape| {
        let label = SocketAddr::new(addr(topology::DSR_VIP), PLAIN).to_string();
        scrape.get("total_requests_per_service", &[("service", &label)])
    };
    loop {
        let scrape = Scrape::fetch(&lab.lb, METRICS);
        assert_eq!(scrape.violations(), "");
        if requests(&scrape) == 21.0 && scrape.value("processed_packets_total") == packets.len() as f64 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{} requests, {} packets; on the wire {}",
            requests(&scrape),
            scrape.value("processed_packets_total"),
            packets.len()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    engine.finish();
}

#[test]
fn dsr_through_tunnels() {
    let mut lab = Lab::new(false);
    lab.give_server_the_vip();
    lab.decapsulate();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    let wire = lab.capture_server();
    for vip in [topology::IPIP_VIP, topology::GUE_VIP] {
        let to = SocketAddr::new(addr(vip), PLAIN);
        fetch_all(&lab, CLIENT4, to);
        // Requests of full segments: the client learns that the way is narrower by the outer header.
        let page = lab.client.inside(|| fetch(addr(CLIENT4), to, 20_000, 10));
        assert_eq!(page.unwrap_or_else(|e| panic!("a long request to {to}: {e}")).echoed, 20_000);
    }
    std::thread::sleep(Duration::from_millis(500));
    let outer = wire.stop();
    // GUE is UDP, with a source port for each connection.
    let gue: Vec<_> = outer.iter().filter(|p| p.protocol == capture::UDP).collect();
    assert!(gue.len() > 100 && gue.iter().all(|p| p.destination_port == 6080 && p.source_port >= 49_152));
    let ports: std::collections::HashSet<_> = gue.iter().map(|p| p.source_port).collect();
    assert!(ports.len() > 15, "{} source ports of 22 connections", ports.len());
    engine.finish();
}

#[test]
fn nginx_learns_the_client_s_address_under_loss_and_reordering() {
    let lab = Lab::new(true);
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    for (vip, clients) in [(VIP4, CLIENTS4), (VIP6, CLIENTS6)] {
        let to = SocketAddr::new(addr(vip), PROXIED);
        std::thread::scope(|scope| {
            for n in 0..4_usize {
                let (lab, client) = (&lab, clients[n % clients.len()]);
                scope.spawn(move || {
                    lab.client.inside(|| {
                        // Requests of one segment and of many; answers likewise.
                        for (pad, size) in [(0, 10), (1300, 1000), (1448, 3000), (20_000, 10), (5000, 60_000)]
                        {
                            let page = fetch(addr(client), to, pad + n, size)
                                .unwrap_or_else(|e| panic!("{pad} up, {size} down, {to}: {e}"));
                            assert_eq!(page.client, Some((addr(client), page.from_port)), "{to}");
                            assert_eq!((page.echoed, page.body.len()), (pad + n, size));
                        }
                    });
                });
            }
        });
    }
    let said = lab.impairer();
    assert!(
        said.0 > 20 && said.1 > 20,
        "only {} frames lost and {} delayed: that shows nothing",
        said.0,
        said.1
    );
    engine.finish();
}

/// The server answers at its own address all the time: only as the VIP it does or does not.
#[test]
fn probes_through_the_vip() {
    let mut lab = Lab::new(false);
    lab.give_server_the_vip();
    lab.decapsulate();
    let engine = Engine::start(&lab.lb, lab.dir(), &probed_config());
    let services = [topology::DSR_VIP, topology::IPIP_VIP, topology::GUE_VIP];
    let of = |family: &str, vip: &str| {
        let scrape = Scrape::fetch(&lab.lb, METRICS);
        let service = SocketAddr::new(addr(vip), PLAIN).to_string();
        let endpoint = format!("{SERVER4}:0");
        scrape.get(family, &[("service", &service), ("endpoint", &endpoint)])
    };
    let up = |vip: &str| of("pollux_endpoint_up", vip);
    let wait = |what: &str, wanted: [f64; 3]| {
        let from = Instant::now();
        while services.map(up) != wanted {
            assert!(
                from.elapsed() < Duration::from_secs(10),
                "not {what}: {:?}\n{}",
                services.map(up),
                engine.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("all up", [1.0; 3]);
    let wire = lab.capture_server();
    // The second answer from now on is to a question of now, too.
    let answers = || services.map(|vip| of("pollux_probe_seconds_count", vip));
    let (first, deadline) = (answers(), Instant::now() + Duration::from_secs(20));
    while answers().iter().zip(&first).any(|(now, first)| *now < first + 2.0) {
        assert!(Instant::now() < deadline, "two probes of each: {first:?}, {:?}", answers());
        std::thread::sleep(Duration::from_millis(100));
    }
    let frames = wire.stop_frames();
    // Protocol, source and destination of all IPv4 packets.
    let seen: Vec<_> = frames
        .iter()
        .filter(|(_, frame)| frame[12..14] == [8, 0])
        .map(|(_, frame)| {
            let ip = |at: usize| IpAddr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
            (frame[23], ip(26), ip(30))
        })
        .collect();
    let (engine_own, server) = (addr("10.1.0.1"), addr(SERVER4));
    // By MAC address to the VIP itself, in tunnels to the server.
    for probe in [(6, topology::DSR_VIP), (4, SERVER4), (17, SERVER4)] {
        assert!(seen.contains(&(probe.0, engine_own, addr(probe.1))), "no {probe:?}: {seen:?}");
    }
    // Answers are the VIPs', and nobody speaks to the server as itself.
    for vip in services {
        assert!(seen.contains(&(6, addr(vip), engine_own)), "no answer of {vip}: {seen:?}");
    }
    assert!(
        !seen.iter().any(|(protocol, _, to)| (*protocol, *to) == (6, server)),
        "missed the VIP: {seen:?}"
    );
    for vip in services {
        fetch_all(&lab, CLIENT4, SocketAddr::new(addr(vip), PLAIN));
    }

    // Without the address, the server refuses or forwards what is for the VIP.
    for (down, wanted) in [(0, [0.0, 1.0, 1.0]), (1, [1.0, 0.0, 1.0]), (2, [1.0, 1.0, 0.0])] {
        let vip = services[down];
        lab.server.sh(&format!("ip address del {vip}/32 dev lo"));
        wait("one down", wanted);
        lab.server.sh(&format!("ip address add {vip}/32 dev lo"));
        wait("all up again", [1.0; 3]);
    }
    engine.finish();
}

/// The DSR services, each probed as its clients see it.
fn probed_config() -> String {
    let check = "\n[service.health_check]\nkind = \"http\"\ntarget = \"vip\"\npath = \"/1\"\nexpect = \"200\"\n\
                 interval = \"300ms\"\ntimeout = \"200ms\"\nrise = 1\nfall = 2\n";
    let mut config = config().replacen("kernel    = \"\"", "kernel    = \"px-wan\"", 1);
    config = config.replacen("kernel    = \"\"", "kernel    = \"px-lan\"", 1);
    for mode in ["dsr-l2", "dsr-ipip", "dsr-gue"] {
        config = config.replace(&format!("mode = \"{mode}\"\n"), &format!("mode = \"{mode}\"{check}"));
    }
    config
}

/// Every connection of every client's is named to the endpoint in its first segments, as the kernel's TCP sends them and as another
/// kernel's takes them; and says the same in each of them.
#[test]
fn the_client_s_address_is_in_the_segments_that_the_endpoint_gets() {
    let lab = Lab::new(false);
    let wire = lab.capture_server();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    let mut clients = BTreeSet::new();
    for (vip, port, from) in [
        (VIP4, topology::TOA, CLIENTS4),
        (VIP6, topology::TOA, CLIENTS6),
        (VIP6, topology::TOA + 1, CLIENTS6),
    ] {
        let to = SocketAddr::new(addr(vip), port);
        for from in from.map(addr) {
            for (pad, size) in [(0, 10), (1300, 1000), (1448, 3000), (20_000, 10), (5000, 60_000)] {
                let page = lab.client.inside(|| fetch(from, to, pad, size));
                let page = page.unwrap_or_else(|e| panic!("{pad} up, {size} down, {from} to {to}: {e}"));
                assert_eq!((page.echoed, page.body.len()), (pad, size));
                clients.insert(SocketAddr::new(from, page.from_port));
            }
        }
    }
    let scrape = Scrape::fetch(&lab.lb, METRICS);
    assert_eq!(scrape.violations(), "");
    assert_eq!(scrape.value("pollux_toa_left_out_total"), 0.0, "there was room in each");
    let told = toa::told(&wire.stop_frames(), PLAIN);
    assert_eq!(told.len(), 45, "connections of the SNAT addresses");
    let named: BTreeSet<_> = told.values().flatten().copied().collect();
    assert!(told.values().all(|clients| clients.len() == 1), "{told:?}");
    assert_eq!(named, clients);
    engine.finish();
}
