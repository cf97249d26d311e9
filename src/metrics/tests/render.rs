use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::config::{EndpointState, Protocol, ServiceLabel};
use crate::conntrack::Answered;
use crate::counters::{FlowState, HANDSHAKE_BOUNDS_US, Term};
use crate::health::{EndpointHealth, Histogram, ProbeHealth, Results, Verdict};
use crate::listener::ListenerStats;
use crate::metrics::families::{self, Kind};
use crate::metrics::{DeviceStats, HealthStats, KernelStats, PoolStats, PortStats};
use crate::pipeline::DropReason;

const WEB: &str = "203.0.113.100:80";
const DNS: &str = "[2001:db8::100]:53";

#[test]
fn every_family_has_its_headers_also_without_samples() {
    let mut b = Bench::new(10, &Names::default());
    let s = b.tick();
    let here = || families::ALL.iter().filter(|family| family.source != families::Source::Pairs);
    for family in here() {
        assert_eq!(s.types.get(family.name).map(String::as_str), Some(family.kind.name()), "{}", family.name);
        assert_eq!(s.help[family.name], family.help());
    }
    assert_eq!(s.types.len(), here().count());
    let pairs = b.pairs(&Selection::default());
    let there = |family: &&&families::Family| {
        !here().any(|other| other.name == family.name) || family.labels.contains(&"sip")
    };
    assert_eq!(pairs.types.len(), families::ALL.iter().filter(there).count());
    assert_eq!(s.family("service_traffic_bytes").count(), 0);
}

/// What the facade and its exporter make of the table is what the table says: no suffix, no unit, the same text.
#[test]
fn the_exporter_writes_the_headers_of_the_table() {
    let recorder = PrometheusBuilder::new().build_recorder();
    // Histograms are written without it.
    let its = || families::ALL.iter().filter(|family| family.kind != Kind::Histogram);
    metrics::with_local_recorder(&recorder, || {
        for family in its() {
            match family.kind {
                Kind::Histogram => {}
                Kind::Counter => {
                    metrics::describe_counter!(family.name, family.help());
                    metrics::counter!(family.name).increment(u64::MAX - 1);
                }
                Kind::Gauge => {
                    metrics::describe_gauge!(family.name, family.help());
                    metrics::gauge!(family.name).set(9_007_199_254_740_991.0);
                }
            }
        }
    });
    let rendered = recorder.handle().render();
    let ours: String = its()
        .map(|family| {
            let mut text = String::new();
            crate::metrics::encode::header(&mut text, family);
            let value = if family.kind == Kind::Counter { u64::MAX - 1 } else { (1 << 53) - 1 };
            text + &format!("{} {value}\n", family.name)
        })
        .collect();
    let sorted = |text: &str| {
        let mut blocks: Vec<String> = text.split("# HELP").map(|block| block.trim().to_owned()).collect();
        blocks.sort();
        blocks
    };
    assert_eq!(sorted(&rendered), sorted(&ours));
}

#[test]
fn counters_are_exact_beyond_what_a_float_can_hold() {
    let mut b = Bench::new(10, &names());
    let odd = (1_u64 << 53) + 1;
    b.writer.bank().term(Term::Rx).add(odd);
    b.writer.bank().service(ServiceId(0)).created.add(odd);
    let pair = b.slot(0, 0, client(1));
    b.writer.bank().pair(pair).bytes.add(odd);
    for _ in 0..2 {
        b.tick();
    }
    let s = b.tick();
    assert_eq!(s.count("pollux_rx_packets_total", &[]), odd);
    assert_eq!(s.count("total_requests", &[]), odd);
    assert_eq!(s.count("total_requests_per_service", &[("service", WEB)]), odd);
    assert_eq!(s.count("processed_tcp_bytes", &[]), odd);
    assert_eq!(s.sum("lb_rule_interaction_bytes"), odd);
}

#[test]
fn no_name_breaks_the_exposition() {
    let nasty = [
        "quo\"te",
        "back\\slash",
        "back\\\\slashes",
        "end\\",
        "end\\\\",
        "\\\"",
        "new\nline",
        "\\\nx",
        "\\n",
        "} 1\nrps_pps 5",
        "größe 東京 🦀",
        "\u{e000}",
        "\u{e000}0",
        "cr\r",
        "\u{2028}",
        "",
        " ",
        "a,b=\"c\"",
    ];
    let (mut services, mut rules) = (Vec::new(), Vec::new());
    for (n, name) in nasty.iter().enumerate() {
        let id = n as u32;
        let mut service = service(id, name, name, Protocol::Tcp);
        endpoint(id, &mut service, "10.0.0.1:1", EndpointState::Up);
        services.push(service);
        rules.push((RuleId(id), (*name).into()));
    }
    let names = named(services, rules);
    let mut settings = settings(10);
    settings.metrics.service_label = ServiceLabel::Name;
    settings.ports = vec!["wa\"n\\".into(), "l\nan".into()];
    let mut b = Bench::with(settings, &names);
    b.traffic(7, 7, client(1), 5);
    let s = b.tick();
    for name in nasty {
        for family in ["total_requests_per_service", "rps_1m_avg", "service_traffic_bytes"] {
            assert!(s.get(family, &[("service", name)]).is_some(), "{family} {name:?}");
        }
        assert!(s.get("total_fw_drops_per_rule", &[("fw_rule", name)]).is_some(), "{name:?}");
        assert!(s.get("client_traffic_packets", &[("service", name), ("sip", "other")]).is_some());
        let dips = [("service", name), ("dip", "10.0.0.1")];
        assert!(s.get("endpoint_traffic_bytes", &dips).is_some());
        assert!(s.get("endpoint_load_dists_per_service", &dips).is_some());
    }
    assert_eq!(s.family("service_traffic_bytes").count(), nasty.len());
    assert_eq!(s.count("service_traffic_packets", &[("service", nasty[7])]), 5);
    assert_eq!(s.count("pollux_port_tx_packets_total", &[("port", "l\nan")]), 5);
}

#[test]
fn series_are_there_at_0_before_anything_happens() {
    let b = Bench::new(10, &names());
    let s = b.scrape();
    for service in [WEB, DNS] {
        for family in ["total_requests_per_service", "total_errors_per_service", "service_traffic_bytes"] {
            assert_eq!(s.count(family, &[("service", service)]), 0);
        }
    }
    for dip in ["10.0.0.1", "10.0.0.2"] {
        assert_eq!(s.count("endpoint_traffic_bytes", &[("service", WEB), ("dip", dip)]), 0);
    }
    assert_eq!(s.count("total_fw_drops_per_rule", &[("fw_rule", "block_icmp")]), 0);
    for reason in DropReason::ALL {
        assert_eq!(s.count("pollux_dropped_packets_total", &[("reason", reason.label())]), 0);
    }
    for family in ["pollux_retired_total", "pollux_pending"] {
        assert_eq!(s.family(family).count(), 9);
    }
    check_conservation(&s).unwrap();
}

#[test]
fn requests_errors_and_connections() {
    let mut b = Bench::new(10, &names());
    let bank = b.writer.bank();
    let web = bank.service(ServiceId(0));
    web.created.add(100);
    web.refused_no_endpoint.add(3);
    web.refused_no_route.add(1);
    web.refused_table_full.add(2);
    web.refused_tuple.add(1);
    web.error_refused.add(5);
    web.error_timed_out.add(4);
    web.error_server_reset.add(3);
    web.error_violation.add(2);
    web.error_abort.add(1);
    bank.service(ServiceId(1)).created.add(10);
    bank.flows(Protocol::Tcp, FlowState::HalfOpen).add(7);
    bank.flows(Protocol::Tcp, FlowState::Established).add(50);
    bank.flows(Protocol::Tcp, FlowState::Closing).add(2);
    bank.flows(Protocol::Tcp, FlowState::Closed).add(1);
    bank.flows(Protocol::Udp, FlowState::HalfOpen).add(9);
    let s = b.tick();
    assert_eq!(s.count("total_requests", &[]), 117);
    assert_eq!(s.count("total_requests_per_service", &[("service", WEB)]), 107);
    assert_eq!(s.count("total_requests_per_service", &[("service", DNS)]), 10);
    assert_eq!(s.count("total_errors", &[]), 22);
    assert_eq!(s.count("total_errors_per_service", &[("service", WEB)]), 22);
    assert_eq!(s.count("new_flow_count", &[]), 110);
    assert_eq!(s.value("rps_requests", &[]), 11.7);
    assert_eq!(s.value("rps_eps", &[]), 2.2);
    assert_eq!(s.count("active_conntrack_count", &[]), 66);
    assert_eq!(s.count("active_flow_count_tcp", &[]), 57);
    assert_eq!(s.count("active_flow_count_udp", &[]), 9);
    assert_eq!(s.count("active_flow_count_sctp", &[]), 0);
    assert_eq!(s.count("inactive_flow_count", &[]), 3);
    assert_eq!(s.count("pollux_conntrack_entries", &[("protocol", "tcp"), ("state", "closing")]), 2);
    assert_eq!(s.count("pollux_conntrack_insert_failures_total", &[("reason", "table_full")]), 2);
    assert_eq!(s.count("pollux_refused_requests_total", &[("reason", "no_endpoint")]), 3);
    assert_eq!(s.count("pollux_connection_errors_total", &[("error", "server_reset")]), 3);
    assert_eq!(s.count("pollux_conntrack_capacity", &[]), 1000);

    let bank = b.writer.bank();
    bank.flows(Protocol::Tcp, FlowState::Established).sub(50);
    let s = b.tick();
    assert_eq!(s.count("active_flow_count_tcp", &[]), 7);
    assert_eq!((s.count("new_flow_count", &[]), s.value("rps_requests", &[])), (0, 0.0));
}

#[test]
fn traffic_by_protocol_leaves_icmp_errors_out() {
    let mut b = Bench::new(10, &names());
    b.traffic(0, 0, client(1), 10);
    b.traffic(1, 2, client(1), 4);
    let pair = b.slot(0, 1, client(1));
    let error = Account { flow: None, pair, bytes: 56, icmp_error: Some(ServiceId(0)) };
    b.writer.transmitted(PortId(0), 70, Some(&error));
    let s = b.tick();
    assert_eq!((s.count("processed_packets_total", &[]), s.count("processed_bytes_total", &[])), (15, 1456));
    assert_eq!((s.count("processed_tcp_packets", &[]), s.count("processed_tcp_bytes", &[])), (10, 1000));
    assert_eq!((s.count("processed_udp_packets", &[]), s.count("processed_udp_bytes", &[])), (4, 400));
    assert_eq!(s.count("service_traffic_bytes", &[("service", WEB)]), 1056);
    assert_eq!(s.count("endpoint_traffic_bytes", &[("service", WEB), ("dip", "10.0.0.2")]), 56);
    assert_eq!((s.value("rps_pps", &[]), s.value("rps_bps", &[])), (1.5, 145.6));
    let lcus = 2.0 / 1000.0 + 145.6 * 8.0 / 1e9 / 3600.0;
    assert!((s.value("consumed_lcus", &[]) - lcus).abs() < 1e-15);
    check_conservation(&s).unwrap();
}

#[test]
fn shares_of_the_last_distribution_window() {
    let mut b = Bench::new(10, &names());
    let share = |s: &Scrape, service: &str, dip: &str| {
        s.value("endpoint_load_dists_per_service", &[("service", service), ("dip", dip)])
    };
    for tick in 1..=24 {
        if tick <= 12 {
            b.traffic(0, 0, client(1), 3);
            b.traffic(0, 1, client(1), 1);
            b.traffic(1, 2, client(1), 6);
        }
        let s = b.tick();
        check_conservation(&s).unwrap();
        let expected = if (12..24).contains(&tick) { [0.75, 0.25, 1.0] } else { [0.0; 3] };
        let found =
            [("10.0.0.1", WEB), ("10.0.0.2", WEB), ("2001:db8:1::3", DNS)].map(|(d, v)| share(&s, v, d));
        assert_eq!(found, expected, "tick {tick}");
        let total = [WEB, DNS].map(|v| s.value("total_load_dists_per_service", &[("service", v)]));
        assert_eq!(total, if (12..24).contains(&tick) { [0.4, 0.6] } else { [0.0; 2] });
    }
}

#[test]
fn shares_add_up_after_an_endpoint_was_removed() {
    let mut b = Bench::new(10, &names());
    b.traffic(0, 0, client(1), 3);
    b.traffic(0, 1, client(1), 1);
    for _ in 0..12 {
        b.tick();
    }
    let mut fewer = names();
    Arc::make_mut(&mut fewer.services[0]).endpoints.remove(0);
    b.aggregator.reconfigure(b.now, &settings(10).metrics, &fewer, 2);
    let s = b.scrape();
    let key = [("service", WEB), ("dip", "10.0.0.2")];
    assert_eq!(s.value("endpoint_load_dists_per_service", &key), 1.0);
    check_conservation(&s).unwrap();
}

#[test]
fn one_minute_average_and_peak() {
    let mut b = Bench::new(10, &names());
    for s in 0..70 {
        b.writer.bank().service(ServiceId(0)).created.add(if s == 33 { 121 } else { 1 });
        b.round();
    }
    b.aggregator.publish();
    let s = b.scrape();
    assert_eq!(s.value("rps_1m_avg", &[("service", WEB)]), 3.0);
    assert_eq!(s.value("rps_1m_peak", &[("service", WEB)]), 121.0);
    assert_eq!(s.value("rps_1m_avg", &[("service", DNS)]), 0.0);
}

#[test]
fn healthy_is_what_is_up_or_draining_in_any_service() {
    let mut web = service(0, "web", "203.0.113.100:80", Protocol::Tcp);
    let mut dns = service(1, "dns", "[2001:db8::100]:53", Protocol::Udp);
    let mut more = service(2, "more", "203.0.113.101:80", Protocol::Tcp);
    endpoint(0, &mut web, "10.0.0.1:80", EndpointState::Up);
    endpoint(1, &mut web, "10.0.0.2:80", EndpointState::Drain);
    endpoint(2, &mut web, "10.0.0.3:80", EndpointState::Down);
    endpoint(3, &mut dns, "10.0.0.3:80", EndpointState::Down); // another protocol: another endpoint
    endpoint(4, &mut more, "10.0.0.1:80", EndpointState::Down); // up in the first service
    endpoint(5, &mut more, "10.0.0.1:81", EndpointState::Down); // another port
    let names = named(vec![web, dns, more], vec![(RuleId(0), "block_icmp".into())]);
    let s = Bench::new(10, &names).scrape();
    assert_eq!((s.count("healthy_endpoints_count", &[]), s.count("unhealthy_endpoints_count", &[])), (2, 3));
    assert_eq!((s.count("lb_rule_count", &[]), s.count("firewall_rules_count", &[])), (3, 1));
}

#[test]
fn a_removed_series_is_retired_and_comes_back_at_0() {
    let mut b = Bench::new(10, &names());
    b.traffic(0, 0, client(1), 3);
    b.traffic(0, 1, client(1), 2);
    b.writer.bank().service(ServiceId(0)).created.add(4);
    b.writer.bank().rule(RuleId(0)).add(6);
    b.tick();
    b.traffic(0, 0, client(1), 1); // folded, but of no snapshot yet
    b.writer.bank().rule(RuleId(0)).add(1);
    b.round();

    let metrics = settings(10).metrics;
    let mut fewer = names();
    fewer.services.remove(0);
    fewer.rules.clear();
    b.aggregator.reconfigure(b.now, &metrics, &fewer, 2);
    let s = b.scrape();
    check_conservation(&s).unwrap();
    let retired = |s: &Scrape, family: &str| s.count("pollux_retired_total", &[("family", family)]);
    assert_eq!(s.family("service_traffic_bytes").count(), 1);
    assert_eq!(s.family("lb_rule_interaction_bytes").count(), 1, "other of the endpoint that is left");
    assert_eq!(s.family("total_fw_drops_per_rule").count(), 0);
    assert_eq!(retired(&s, "service_traffic_packets"), 5, "as of the last snapshot");
    assert_eq!(retired(&s, "lb_rule_interaction_packets"), 5);
    assert_eq!(retired(&s, "client_traffic_packets"), 5);
    assert_eq!(retired(&s, "total_requests_per_service"), 4);
    assert_eq!(retired(&s, "total_fw_drops_per_rule"), 6);
    assert_eq!(s.count("pollux_config_generation", &[]), 2);

    // Its connections go on for a while.
    b.traffic(0, 0, client(1), 10);
    let s = b.tick();
    check_conservation(&s).unwrap();
    assert_eq!(retired(&s, "service_traffic_packets"), 16);
    assert_eq!(retired(&s, "total_fw_drops_per_rule"), 7);
    assert_eq!(s.count("processed_tcp_packets", &[]), 16);

    b.aggregator.reconfigure(b.now, &metrics, &names(), 3);
    let s = b.scrape();
    assert_eq!(s.count("service_traffic_packets", &[("service", WEB)]), 0);
    assert_eq!(s.count("total_fw_drops_per_rule", &[("fw_rule", "block_icmp")]), 0);
    b.traffic(0, 0, client(1), 2);
    let s = b.tick();
    assert_eq!(s.count("service_traffic_packets", &[("service", WEB)]), 2);
    check_conservation(&s).unwrap();
}

#[test]
fn services_of_one_label_share_a_series_that_never_falls() {
    let mut names = names();
    names.services.push(service(2, "web3", WEB, Protocol::Sctp));
    endpoint(3, &mut names.services[2], "10.0.0.1:9", EndpointState::Up);
    endpoint(4, &mut names.services[0], "10.0.0.1:9090", EndpointState::Up);
    let mut b = Bench::new(10, &names);
    b.traffic(0, 0, client(1), 1);
    b.traffic(0, 4, client(1), 2);
    b.traffic(2, 3, client(1), 4);
    b.tick();
    b.tick();
    let s = b.tick();
    let key = [("service", WEB), ("sip", "192.0.2.1"), ("dip", "10.0.0.1")];
    assert_eq!(s.count("service_traffic_packets", &key[..1]), 7);
    assert_eq!(s.count("endpoint_traffic_bytes", &[key[0], key[2]]), 700);
    assert_eq!(s.count("lb_rule_interaction_packets", &key), 7);
    assert_eq!(s.count("client_traffic_packets", &key[..2]), 7);
    assert_eq!(s.count("processed_sctp_packets", &[]), 4);
    assert_eq!(s.count("lb_rule_count", &[]), 3);

    names.services.pop();
    b.aggregator.reconfigure(b.now, &settings(10).metrics, &names, 2);
    let s = b.scrape();
    assert_eq!(s.count("service_traffic_packets", &key[..1]), 7);
    assert_eq!(s.count("lb_rule_interaction_packets", &key), 7);
    check_conservation(&s).unwrap();
}

#[test]
fn connections_of_a_renamed_service_stay_in_its_series() {
    let mut b = Bench::new(10, &names());
    for _ in 0..3 {
        b.traffic(0, 0, client(1), 1);
        b.tick();
    }
    let mut renamed = names();
    renamed.services[0] = service(5, "www", WEB, Protocol::Tcp);
    endpoint(5, &mut renamed.services[0], "10.0.0.1:8080", EndpointState::Up);
    endpoint(6, &mut renamed.services[0], "10.0.0.2:8080", EndpointState::Up);
    b.aggregator.reconfigure(b.now, &settings(10).metrics, &renamed, 2);
    b.traffic(0, 0, client(1), 10); // an old connection
    b.traffic(5, 5, client(1), 100); // a new one
    let s = b.tick();
    let key = [("service", WEB), ("sip", "192.0.2.1"), ("dip", "10.0.0.1")];
    assert_eq!(s.count("service_traffic_packets", &key[..1]), 113);
    assert_eq!(s.count("lb_rule_interaction_packets", &key), 113);
    assert_eq!(s.sum("pollux_retired_total"), 0);
    // The name does not keep the series when it is removed at last.
    renamed.services.remove(0);
    b.aggregator.reconfigure(b.now, &settings(10).metrics, &renamed, 3);
    let s = b.scrape();
    assert_eq!(s.get("service_traffic_packets", &key[..1]), None);
    check_conservation(&s).unwrap();
}

#[test]
fn the_packet_ledger() {
    let mut b = Bench::new(10, &names());
    let bank = b.writer.bank();
    for (n, term) in Term::ALL.into_iter().enumerate() {
        bank.term(term).add(100 + n as u64);
    }
    bank.term(Term::HeldIn).add(9);
    bank.dropped(DropReason::NoRoute).add(5);
    bank.port(PortId(0)).rx_packets.add(11);
    bank.port(PortId(0)).rx_bytes.add(1100);
    bank.port(PortId(1)).tx_dropped.add(2);
    bank.load.polls.add(10);
    let s = b.tick();
    let names = ["rx", "forwarded", "punted", "consumed"];
    for (n, name) in names.into_iter().enumerate() {
        assert_eq!(s.count(&format!("pollux_{name}_packets_total"), &[]), 100 + n as u64);
    }
    assert_eq!(s.value("pollux_held_packets", &[]), 8.0);
    assert_eq!(s.value("pollux_handoff_ring_packets", &[]), -1.0);
    assert_eq!(s.count("pollux_handoff_packets_total", &[]), 106);
    assert_eq!(s.count("pollux_originated_packets_total", &[]), 108);
    assert_eq!(s.count("pollux_extra_fragments_total", &[]), 109);
    assert_eq!(s.count("pollux_injected_packets_total", &[]), 110);
    assert_eq!(s.count("pollux_tx_packets_total", &[]), 111);
    assert_eq!(s.count("pollux_tx_dropped_packets_total", &[]), 112);
    assert_eq!(s.count("pollux_dropped_packets_total", &[("reason", "no_route")]), 5);
    assert_eq!(s.count("pollux_port_rx_bytes_total", &[("port", "wan")]), 1100);
    assert_eq!(s.count("pollux_port_tx_dropped_packets_total", &[("port", "lan")]), 2);
    assert_eq!(s.value("pollux_snapshot_timestamp_seconds", &[]), 1_700_000_010.0);
}

struct Fake;

impl DeviceStats for Fake {
    fn ports(&mut self) -> Vec<PortStats> {
        let port = PortId(1);
        vec![PortStats { port, link_up: true, rx_missed: 1, rx_no_mbuf: 2, rx_errors: 3, tx_errors: 4 }]
    }

    fn pools(&mut self) -> Vec<PoolStats> {
        vec![PoolStats { name: "rx".into(), size: 4096, in_use: 17 }]
    }

    fn kernel(&mut self) -> KernelStats {
        KernelStats { refused: 5, routes: 6, lost_updates: 7 }
    }

    fn listener(&mut self) -> ListenerStats {
        ListenerStats { connections: 3, certificate_expiry: Some(1_900_000_000), ..ListenerStats::default() }
    }

    fn health(&mut self) -> HealthStats {
        let endpoint = |last: u8, protocol, state, probe| EndpointHealth {
            service: "a\"b".into(),
            service_address: WEB.into(),
            protocol,
            endpoint: SocketAddr::from(([10, 1, 0, last], 80)),
            state,
            probe,
        };
        let mut round_trips = Histogram::default();
        for ms in [1, 3, 2000] {
            round_trips.record(Duration::from_millis(ms));
        }
        let probe = |verdict| ProbeHealth {
            kind: "tcp",
            verdict,
            since: SystemTime::UNIX_EPOCH,
            reason: String::new(),
            rtt: None,
            flaps: 3,
            round_trips,
        };
        let endpoints = vec![
            endpoint(10, Protocol::Tcp, EndpointState::Up, Some(probe(Verdict::Up))),
            endpoint(10, Protocol::Udp, EndpointState::Down, Some(probe(Verdict::Down))),
            endpoint(11, Protocol::Tcp, EndpointState::Down, Some(probe(Verdict::Pending))),
            endpoint(12, Protocol::Tcp, EndpointState::Drain, None),
        ];
        HealthStats { endpoints, probes: vec![("tcp", Results { good: 8, failed: 2, unable: 1 })] }
    }
}

#[test]
fn endpoints_health() {
    for (label, service) in [(ServiceLabel::Address, WEB), (ServiceLabel::Name, "a\"b")] {
        let (shared, _) = shared(SIZES);
        let mut settings = settings(1);
        settings.metrics.service_label = label;
        let mut aggregator =
            Aggregator::new(settings, vec![shared], &names(), 1).with_devices(Box::new(Fake));
        aggregator.publish();
        let newest = aggregator.publication().newest(second(0)).unwrap();
        let s = Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap();
        let endpoint = |family: &str, last: u8| {
            s.count(family, &[("service", service), ("endpoint", &format!("10.1.0.{last}:80"))])
        };
        assert_eq!([10, 11, 12].map(|last| endpoint("pollux_endpoint_up", last)), [1, 0, 1]);
        assert_eq!(endpoint("pollux_endpoint_flaps_total", 10), 6, "of both");
        for (state, count) in [("up", 1), ("drain", 1), ("down", 1), ("pending", 1)] {
            let labels = [("service", service), ("state", state)];
            assert_eq!(s.count("pollux_service_endpoints", &labels), count);
        }
        for (result, count) in [("good", 8), ("failed", 2), ("unable", 1)] {
            assert_eq!(s.count("pollux_probes_total", &[("kind", "tcp"), ("result", result)]), count);
        }
        let text = std::str::from_utf8(&newest.text).unwrap();
        let shown = format!("service=\"{}\",endpoint=\"10.1.0.11:80\"", service.replace('"', "\\\""));
        let lines: Vec<_> =
            text.lines().filter(|l| l.starts_with("pollux_probe_seconds") && l.contains(&shown)).collect();
        let expected: Vec<_> =
            ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "+Inf"]
                .into_iter()
                .zip([1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3])
                .map(|(le, n)| format!("pollux_probe_seconds_bucket{{{shown},le=\"{le}\"}} {n}"))
                .chain([
                    format!("pollux_probe_seconds_sum{{{shown}}} 2.004"),
                    format!("pollux_probe_seconds_count{{{shown}}} 3"),
                ])
                .collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn handshakes_of_an_endpoint() {
    let mut b = Bench::new(10, &names());
    let dip = |s: &Scrape, family: &str| {
        s.family(family).map(|(labels, value)| (labels[1].1.clone(), value.to_owned())).collect::<Vec<_>>()
    };
    let before = b.tick();
    assert!(dip(&before, "pollux_handshakes_total").iter().all(|(_, value)| value == "0"));
    let counters = b.writer.bank().endpoint(EndpointId(0));
    counters.handshakes.add(3);
    counters.handshake_us.add(4_250_001);
    let after = b.tick();
    let moved = |family| {
        dip(&after, family).into_iter().filter(|(_, value)| value != "0").map(|(_, v)| v).collect::<Vec<_>>()
    };
    assert_eq!(moved("pollux_handshakes_total"), ["3"]);
    assert_eq!(moved("pollux_handshake_seconds_total"), ["4.250001"]);
    assert_eq!(dip(&after, "pollux_handshakes_total").len(), dip(&after, "endpoint_traffic_bytes").len());
}

#[test]
fn handshakes_of_a_service_by_how_long_they_took() {
    let mut b = Bench::new(10, &names());
    let all = |text: &str| {
        let of_services = |line: &&str| {
            ["bucket{", "sum{", "count{"]
                .iter()
                .any(|end| line.starts_with(&format!("pollux_handshake_seconds_{end}")))
        };
        text.lines().filter(of_services).map(str::to_owned).collect::<Vec<_>>()
    };
    b.tick();
    // Of a service of UDP there is nothing to tell.
    assert_eq!(all(&b.text()).len(), HANDSHAKE_BOUNDS_US.len() + 3);
    let handshakes = &b.writer.bank().service(ServiceId(0)).handshakes;
    for (micros, at_most) in [(80, 80), (100, 100), (2000, 3000), (3_000_000, 3_000_000)] {
        handshakes.count(Answered { micros, at_most });
    }
    b.tick();
    let service = "service=\"203.0.113.100:80\"";
    let wanted: Vec<_> = [
        "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
        "1", "+Inf",
    ]
    .into_iter()
    .zip([2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4])
    .map(|(le, n)| format!("pollux_handshake_seconds_bucket{{{service},le=\"{le}\"}} {n}"))
    .chain([
        format!("pollux_handshake_seconds_sum{{{service}}} 3.00218"),
        format!("pollux_handshake_seconds_count{{{service}}} 4"),
    ])
    .collect();
    assert_eq!(all(&b.text()), wanted);
    // Its total is there once, whatever the configuration does meanwhile.
    b.aggregator.reconfigure(b.now, &settings(10).metrics, &names(), 2);
    b.tick();
    assert_eq!(all(&b.text()), wanted);
}

#[test]
fn machine_devices_and_workers() {
    let (shared, mut writer) = shared(SIZES);
    let mut aggregator =
        Aggregator::new(settings(1), vec![shared], &names(), 1).with_machine().with_devices(Box::new(Fake));
    writer.bank().load.busy_nanos.add(2_500_000_000);
    writer.bank().load.total_nanos.add(10_000_000_000);
    writer.bank().load.busy_polls.add(3);
    for _ in 0..2 {
        aggregator.ask();
        writer.turn(second(10));
        aggregator.step(second(10));
        aggregator.publish();
    }
    let newest = aggregator.publication().newest(second(10)).unwrap();
    let s = Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap();
    assert_eq!(s.count("pollux_port_up", &[("port", "lan")]), 1);
    assert_eq!(s.count("pollux_port_rx_no_mbuf_packets_total", &[("port", "lan")]), 2);
    assert_eq!(s.count("pollux_mempool_buffers_in_use", &[("pool", "rx")]), 17);
    assert_eq!(s.count("pollux_kernel_refused_packets_total", &[]), 5);
    assert_eq!(s.count("pollux_kernel_routes", &[]), 6);
    assert_eq!(s.count("pollux_http_connections", &[]), 3);
    assert_eq!(s.count("pollux_certificate_expiry_timestamp_seconds", &[]), 1_900_000_000);
    assert_eq!(s.count("pollux_neighbor_updates_lost_total", &[]), 7);
    assert_eq!(s.value("pollux_worker_busy_ratio", &[("worker", "0")]), 0.25);
    assert_eq!(s.value("pollux_worker_busy_seconds_total", &[("worker", "0")]), 2.5);
    assert_eq!(s.count("pollux_worker_busy_polls_total", &[("worker", "0")]), 3);
    for family in families::ALL.iter().filter(|f| f.labels.is_empty() && f.kind != Kind::Histogram) {
        assert!(s.get(family.name, &[]).is_some(), "{} has no sample", family.name);
    }
    for name in ["cpu", "memory", "disk"] {
        assert!((0.0..=100.0).contains(&s.value(&format!("system_{name}_utilization"), &[])), "{name}");
    }
}

#[test]
fn the_last_page_of_a_replay() {
    let page = || {
        let mut b = Bench::new(10, &names());
        b.traffic(0, 0, client(1), 3);
        b.traffic(0, 1, client(2), 1);
        b.writer.bank().service(ServiceId(0)).created.add(2);
        let end = Instant(4_500_000_000);
        while b.aggregator.due() < end {
            b.round();
        }
        b.traffic(0, 1, client(3), 5);
        b.aggregator.ask();
        b.writer.turn(end);
        b.aggregator.render_final(end)
    };
    let text = page();
    for _ in 0..5 {
        assert_eq!(page(), text, "the same bytes every time");
    }
    let s = Scrape::parse(&text).unwrap();
    check_conservation(&s).unwrap();
    assert_eq!(s.family("pollux_pending").map(|(_, v)| v).collect::<Vec<_>>(), ["0"; 9]);
    let key = [("service", WEB), ("sip", "192.0.2.3"), ("dip", "10.0.0.2")];
    assert_eq!(s.count("lb_rule_interaction_packets", &key), 5);
    assert_eq!(s.count("client_traffic_packets", &key[..2]), 5);
    assert_eq!(s.count("processed_packets_total", &[]), 9);
    assert_eq!((s.value("rps_pps", &[]), s.count("new_flow_count", &[])), (2.0, 2));
    assert_eq!(s.value("rps_1m_peak", &[("service", WEB)]), 2.0);
    let share = [("service", WEB), ("dip", "10.0.0.2")];
    assert!((s.value("endpoint_load_dists_per_service", &share) - 6.0 / 9.0).abs() < 1e-12);
    let machine = families::ALL.iter().filter(|f| f.source == families::Source::Machine);
    for family in machine {
        assert_eq!(s.family(family.name).count(), 0, "{}", family.name);
    }
    assert_eq!(s.value("pollux_snapshot_timestamp_seconds", &[]), 1_700_000_004.5);
}

#[test]
fn a_worker_that_does_not_answer_holds_back_the_snapshot_only() {
    let ((one, mut first), (two, mut second_writer)) = (shared(SIZES), shared(SIZES));
    let mut aggregator = Aggregator::new(settings(1), vec![one, two], &names(), 1);
    let publication = aggregator.publication();
    assert!(publication.newest(Instant::ZERO).is_err(), "nothing was published");
    aggregator.publish();
    let mut now = Instant::ZERO;
    for s in 1..=30 {
        now = second(s);
        first.bank().term(Term::Rx).add(1);
        second_writer.bank().term(Term::Rx).add(100);
        aggregator.ask();
        first.turn(now);
        assert_eq!(aggregator.step(now), Step::Waiting, "second {s}");
    }
    assert!(publication.newest(now).is_ok());
    let stale = publication.newest(now.after(Duration::from_secs(1))).unwrap_err();
    assert_eq!(stale.to_string(), "the newest snapshot is 31.0 s old");
    // It answers at last: all of it is there, each bank folded once.
    second_writer.turn(now);
    assert_eq!(aggregator.step(now), Step::Ticked);
    aggregator.publish();
    let text = publication.newest(now).unwrap().text.clone();
    let s = Scrape::parse(std::str::from_utf8(&text).unwrap()).unwrap();
    assert_eq!(s.count("pollux_rx_packets_total", &[]), 3001, "29 of the first lie in its other bank");
    aggregator.ask();
    first.turn(now);
    second_writer.turn(now);
    now = second(31);
    assert_eq!(aggregator.step(now), Step::Folded);
    let late = now.after(Duration::from_secs(30));
    assert_eq!(publication.newest(late).unwrap_err().to_string(), "the newest snapshot is 31.0 s old");
}
