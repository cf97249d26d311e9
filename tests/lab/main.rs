//! The whole engine on real wires: a kernel client, three nginx servers, and `pollux run` between them over DPDK ports,
//! each in a network namespace of its own. What the metrics say is compared with captures on both sides.
//!
//! Needs root, and the programs that `ci/test` installs.

mod bird;
mod capture;
mod engine;
mod ground;
mod health;
mod kernel;
mod lost;
mod net;
mod nginx;
mod prometheus;
mod routes;
mod scrape;
mod servers;
mod topology;
mod traffic;
mod wire;
mod witness;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::{Engine, METRICS};
use prometheus::Prometheus;
use rustix::process::Signal;
use scrape::Scrape;
use topology::{
    BLOCKED_PORT, ECHO4, ECHO6, EMPTY, Lab, REFUSED, SERVERS, SERVICES, WEB4, WEB6, config, server,
};
use wire::{Count, Wires};

/// The public families, as `# TYPE` must show them.
const GAUGES: &str = "active_conntrack_count active_flow_count_tcp active_flow_count_udp active_flow_count_sctp \
    inactive_flow_count new_flow_count lb_rule_count healthy_endpoints_count unhealthy_endpoints_count \
    system_cpu_utilization system_memory_utilization system_disk_utilization total_fw_drops total_fw_drops_per_rule \
    firewall_rules_count total_load_dists_per_service endpoint_load_dists_per_service rps_requests rps_pps rps_bps \
    rps_eps rps_1m_avg rps_1m_peak consumed_lcus";
const COUNTERS: &str = "total_requests total_requests_per_service total_errors total_errors_per_service \
    processed_bytes_total processed_packets_total processed_tcp_bytes processed_tcp_packets processed_udp_bytes \
    processed_udp_packets processed_sctp_bytes processed_sctp_packets service_traffic_bytes service_traffic_packets \
    endpoint_traffic_bytes client_traffic_packets lb_rule_interaction_bytes lb_rule_interaction_packets";

/// Scrapes until told to stop; every scrape must be sound. How many different snapshots were seen.
fn scrape_under_traffic(lab: &Lab, stop: &AtomicBool) -> usize {
    let (mut snapshots, mut last) = (0, 0.0);
    while !stop.load(Ordering::Relaxed) {
        let scrape = Scrape::fetch(&lab.lb, METRICS);
        assert_eq!(scrape.violations(), "");
        let taken = scrape.value("pollux_snapshot_timestamp_seconds");
        snapshots += usize::from(taken != last);
        last = taken;
        std::thread::sleep(Duration::from_millis(150));
    }
    snapshots
}

/// A scrape when all is counted.
fn settled(lab: &Lab) -> Scrape {
    Scrape::settled(&lab.lb, METRICS)
}

/// Every processed packet and byte in the metrics is one that left the engine, and the other way round.
fn assert_counted(scrape: &Scrape, wires: &Wires) {
    let number = |n: u64| n as f64;
    let same = |family: &str, labels: &[(&str, &str)], wire: u64| {
        let metric = scrape.get(family, labels);
        assert!(metric == number(wire), "{family}{labels:?} is {metric}, on the wire {wire}: {wires:#?}");
    };
    let all = wires.total(|_| true);
    assert_eq!(all.packets, wires.forwarded.packets + wires.returned.packets);
    same("processed_packets_total", &[], all.packets);
    same("processed_bytes_total", &[], all.bytes);
    for (protocol, number) in [("tcp", capture::TCP), ("udp", capture::UDP), ("sctp", 132)] {
        let Count { packets, bytes } = wires.protocol(number);
        same(&format!("processed_{protocol}_packets"), &[], packets);
        same(&format!("processed_{protocol}_bytes"), &[], bytes);
    }
    for s in &SERVICES {
        let label = s.label();
        let total = wires.total(|(name, ..)| *name == s.name);
        same("service_traffic_packets", &[("service", &label)], total.packets);
        same("service_traffic_bytes", &[("service", &label)], total.bytes);
        for i in 0..SERVERS.len() {
            let dip = server(i, s.address().is_ipv4());
            let total = wires.total(|(name, _, d)| *name == s.name && *d == dip);
            same("endpoint_traffic_bytes", &[("service", &label), ("dip", &dip.to_string())], total.bytes);
        }
        for sip in topology::clients(s.address().is_ipv4()) {
            let total = wires.total(|(name, c, _)| *name == s.name && *c == sip);
            if total.packets > 0 {
                same(
                    "client_traffic_packets",
                    &[("service", &label), ("sip", &sip.to_string())],
                    total.packets,
                );
            }
        }
    }
    for ((name, sip, dip), count) in &wires.pairs {
        let label = SERVICES.iter().find(|s| s.name == *name).expect("a service").label();
        let labels = [("service", &*label), ("sip", &sip.to_string()), ("dip", &dip.to_string())];
        same("lb_rule_interaction_packets", &labels, count.packets);
        same("lb_rule_interaction_bytes", &labels, count.bytes);
    }
    for (labels, packets) in scrape.family("lb_rule_interaction_packets") {
        let on_the_wire = wires.pairs.keys().any(|(_, sip, _)| labels["sip"] == sip.to_string());
        assert!(
            on_the_wire || (labels["sip"] == "other" && *packets == 0.0),
            "nobody was {labels:?}: {packets}"
        );
    }
}

/// Nothing was lost on the way through the engine; where something was, says whether the engine dropped it (and counted
/// it) or never saw it.
fn assert_lossless(lab: &Lab, scrape: &Scrape, wires: &Wires) {
    let drops: Vec<_> = scrape
        .family("pollux_dropped_packets_total")
        .iter()
        .filter(|(labels, n)| *n > 0.0 && labels["reason"] != "firewall" && labels["reason"] != "no_endpoint")
        .collect();
    let kernel = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let said = format!(
        "dropped by the engine: {drops:?}; what is missing beyond that was lost in a kernel queue \
         (softnet_stat, second column: {kernel}); {lab:?}",
        lab = lab.lb.run("ip -s link").stdout.escape_ascii().to_string().replace("\\n", "\n")
    );
    assert_eq!(wires.sent, wires.forwarded, "client to servers; {said}");
    assert_eq!(wires.answered, wires.returned, "servers to client; {said}");
}

#[test]
fn pages_and_echoes_are_balanced_and_counted_to_the_byte() {
    let lab = Lab::new();
    let captures = lab.capture();
    let engine = Engine::start(&lab.lb, lab.dir(), &config("[1]"));
    let prometheus = Prometheus::start(&lab.lb, lab.dir(), METRICS);

    let stop = AtomicBool::new(false);
    let snapshots = std::thread::scope(|scope| {
        let scraper = scope.spawn(|| scrape_under_traffic(&lab, &stop));
        for service in [&WEB4, &WEB6] {
            let served = traffic::fetch(&lab.client, service, 200);
            assert_eq!(served.values().sum::<usize>(), 200);
            assert_eq!(
                served.keys().collect::<Vec<_>>(),
                SERVERS.each_ref(),
                "all three servers, and no other"
            );
            assert!(served.values().all(|n| *n >= 30), "badly spread: {served:?}");
        }
        // More than a tick between them, so that there is a snapshot of each, however fast the machine.
        let tick = || std::thread::sleep(Duration::from_millis(1100));
        tick();
        traffic::echo(&lab.client, &ECHO4, 10);
        tick();
        traffic::echo(&lab.client, &ECHO6, 10);
        tick();
        traffic::expect_refused(&lab.client, &REFUSED, 5);
        tick();
        traffic::expect_refused(&lab.client, &EMPTY, 3);
        traffic::send_into_the_void(&lab.client, SocketAddr::new(ECHO4.address(), BLOCKED_PORT), 25);
        stop.store(true, Ordering::Relaxed);
        scraper.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
    });
    assert!(snapshots >= 3, "only {snapshots} snapshots under traffic");

    let scrape = settled(&lab);
    let wires = Wires::new(&captures.0.stop(), &captures.1.stop());
    assert_counted(&scrape, &wires);
    assert_lossless(&lab, &scrape, &wires);

    for (kind, families) in [("gauge", GAUGES), ("counter", COUNTERS)] {
        for family in families.split_whitespace() {
            assert_eq!(scrape.kind(family), Some(kind), "# TYPE of {family}");
            assert!(!scrape.family(family).is_empty(), "{family} has no series");
        }
    }
    for (family, configured) in [
        ("lb_rule_count", 6.0),
        ("firewall_rules_count", 1.0),
        ("healthy_endpoints_count", 15.0),
        ("unhealthy_endpoints_count", 3.0),
    ] {
        assert_eq!(scrape.value(family), configured, "{family}");
    }

    // The client's own ledger.
    assert_eq!(wires.blocked.packets, 25);
    assert_eq!(scrape.value("total_fw_drops"), 25.0);
    assert_eq!(scrape.get("total_fw_drops_per_rule", &[("fw_rule", "blocked")]), 25.0);
    for (service, requests, errors) in [
        (WEB4, 200.0, 0.0),
        (WEB6, 200.0, 0.0),
        (ECHO4, 10.0, 0.0),
        (ECHO6, 10.0, 0.0),
        (REFUSED, 5.0, 5.0),
        (EMPTY, wires.to_empty.packets as f64, wires.to_empty.packets as f64),
    ] {
        let label = service.label();
        let counted = ["total_requests_per_service", "total_errors_per_service"]
            .map(|family| scrape.get(family, &[("service", &label)]));
        assert_eq!(counted, [requests, errors], "requests and errors of {}", service.name);
    }
    // One SYN each, and more where the client has not got the refusal within a second.
    assert!(wires.to_empty.packets >= 3);
    assert_eq!(wires.refusals, wires.to_empty.packets, "each is refused");

    // Prometheus has the same numbers.
    let total = wires.total(|_| true);
    let web = wires.total(|(name, ..)| *name == WEB4.name);
    for (query, expected) in [
        ("processed_packets_total", total.packets),
        ("sum(service_traffic_bytes)", total.bytes),
        ("sum by () (lb_rule_interaction_packets)", total.packets),
        ("service_traffic_bytes{service=\"203.0.113.100:80\"}", web.bytes),
    ] {
        let deadline = Instant::now() + Duration::from_secs(5);
        while prometheus.query(&lab.lb, query) != Some(expected as f64) {
            let got = prometheus.query(&lab.lb, query);
            assert!(Instant::now() < deadline, "Prometheus says {got:?} to {query}, on the wire {expected}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    // Nothing talks any more: no connection is active.
    let deadline = Instant::now() + Duration::from_secs(10);
    while Scrape::fetch(&lab.lb, METRICS).value("active_conntrack_count") != 0.0 {
        assert!(Instant::now() < deadline, "connections stay active");
        std::thread::sleep(Duration::from_millis(200));
    }
    engine.finish();
}

#[test]
fn several_workers_on_one_queue_count_like_one() {
    for workers in ["[1, 1]", "[0, 1, 0, 1]"] {
        let lab = Lab::new();
        let captures = lab.capture();
        let engine = Engine::start(&lab.lb, lab.dir(), &config(workers));
        for service in [&WEB4, &WEB6] {
            let served = traffic::fetch(&lab.client, service, 60);
            assert_eq!(
                served.keys().collect::<Vec<_>>(),
                SERVERS.each_ref(),
                "all three servers, and no other"
            );
        }
        traffic::echo(&lab.client, &ECHO4, 10);
        traffic::echo(&lab.client, &ECHO6, 10);
        let scrape = settled(&lab);
        let wires = Wires::new(&captures.0.stop(), &captures.1.stop());
        assert_counted(&scrape, &wires);
        assert_lossless(&lab, &scrape, &wires);
        for (service, requests) in [(WEB4, 60.0), (WEB6, 60.0), (ECHO4, 10.0), (ECHO6, 10.0)] {
            let label = service.label();
            assert_eq!(scrape.get("total_requests_per_service", &[("service", &label)]), requests);
        }
        engine.finish();
    }
}

#[test]
fn vips_and_own_addresses_answer_arp_nd_and_ping() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &config("[1]"));
    let mac = lab.lb.mac("wan");
    for address in [WEB4.vip, "203.0.113.2", ECHO4.vip, WEB6.vip, "2001:db8:1::2", ECHO6.vip] {
        lab.client.ping(5, &format!("-s 1200 {address}"));
    }
    for address in [WEB4.vip, "203.0.113.2", WEB6.vip, "2001:db8:1::2"] {
        let entry = lab.client.sh(&format!("ip neigh show {address} dev eth0"));
        assert!(
            entry.contains(&format!("lladdr {mac}")),
            "the neighbour of {address} is {entry:?}, not {mac}"
        );
    }
    // Of addresses that nobody has, the engine claims none.
    for (ping, address) in [("ping", "203.0.113.99"), ("ping", "2001:db8:1::99")] {
        let nobody = lab.client.run(&format!("{ping} -n -c 1 -W 1 {address}"));
        assert!(!nobody.status.success(), "{address} answers");
    }
    let scrape = settled(&lab);
    assert_eq!(
        scrape.value("processed_packets_total"),
        0.0,
        "the engine's own answers are not processed traffic"
    );
    assert_eq!(scrape.value("active_conntrack_count"), 0.0, "an echo is no connection");
    engine.finish();
}

#[test]
fn stops_cleanly_at_either_signal_also_under_traffic() {
    let lab = Lab::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut engine = Engine::start(&lab.lb, lab.dir(), &config("[1]"));
        // A download that the stop cuts off.
        let (source, to): (IpAddr, _) = (topology::clients(true)[0], SocketAddr::new(WEB4.address(), 80));
        let status = std::thread::scope(|scope| {
            let lab = &lab;
            scope.spawn(move || {
                lab.client.inside(|| {
                    for _ in 0..20 {
                        if servers::get(source, to, "/5000000", Duration::from_secs(2)).is_err() {
                            return;
                        }
                    }
                });
            });
            std::thread::sleep(Duration::from_millis(500));
            assert!(engine.runs(), "{}", engine.log());
            engine.stop(signal, Duration::from_secs(5))
        });
        assert_eq!(status.code(), Some(0), "after {signal:?}");
    }
}
