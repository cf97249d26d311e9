use std::collections::HashSet;

use crate::metrics::families::{ALIASES, ALL, Family, Kind, markdown};

/// The contract: name, type, labels. Dashboards and alerts depend on each of these.
const CONTRACT: &[(&str, &str, &[&str])] = &[
    ("active_conntrack_count", "gauge", &[]),
    ("active_flow_count_tcp", "gauge", &[]),
    ("active_flow_count_udp", "gauge", &[]),
    ("active_flow_count_sctp", "gauge", &[]),
    ("inactive_flow_count", "gauge", &[]),
    ("new_flow_count", "gauge", &[]),
    ("lb_rule_count", "gauge", &[]),
    ("total_requests", "counter", &[]),
    ("total_requests_per_service", "counter", &["service"]),
    ("total_errors", "counter", &[]),
    ("total_errors_per_service", "counter", &["service"]),
    ("healthy_endpoints_count", "gauge", &[]),
    ("unhealthy_endpoints_count", "gauge", &[]),
    ("processed_bytes_total", "counter", &[]),
    ("processed_packets_total", "counter", &[]),
    ("processed_tcp_bytes", "counter", &[]),
    ("processed_udp_bytes", "counter", &[]),
    ("processed_sctp_bytes", "counter", &[]),
    ("processed_tcp_packets", "counter", &[]),
    ("processed_udp_packets", "counter", &[]),
    ("processed_sctp_packets", "counter", &[]),
    ("system_cpu_utilization", "gauge", &[]),
    ("system_memory_utilization", "gauge", &[]),
    ("system_disk_utilization", "gauge", &[]),
    ("total_fw_drops", "gauge", &[]),
    ("total_fw_drops_per_rule", "gauge", &["fw_rule"]),
    ("firewall_rules_count", "gauge", &[]),
    ("service_traffic_bytes", "counter", &["service"]),
    ("service_traffic_packets", "counter", &["service"]),
    ("endpoint_traffic_bytes", "counter", &["service", "dip"]),
    ("client_traffic_packets", "counter", &["service", "sip"]),
    ("lb_rule_interaction_bytes", "counter", &["service", "sip", "dip"]),
    ("lb_rule_interaction_packets", "counter", &["service", "sip", "dip"]),
    ("total_load_dists_per_service", "gauge", &["service"]),
    ("endpoint_load_dists_per_service", "gauge", &["service", "dip"]),
    ("rps_requests", "gauge", &[]),
    ("rps_pps", "gauge", &[]),
    ("rps_bps", "gauge", &[]),
    ("rps_eps", "gauge", &[]),
    ("rps_1m_avg", "gauge", &["service"]),
    ("rps_1m_peak", "gauge", &["service"]),
    ("consumed_lcus", "gauge", &[]),
    ("pollux_dropped_packets_total", "counter", &["reason"]),
    ("pollux_retired_total", "counter", &["family"]),
    ("pollux_pending", "gauge", &["family"]),
    ("pollux_snapshot_timestamp_seconds", "gauge", &[]),
    ("pollux_config_generation", "gauge", &[]),
];

/// What the contract asks for by what it is about, and the families that answer. What is not here yet: the history's rows, size and errors.
const OWN: &[(&str, &[&str])] = &[
    ("packets dropped by reason", &["pollux_dropped_packets_total"]),
    (
        "the other terms of the packet ledger",
        &[
            "pollux_rx_packets_total",
            "pollux_forwarded_packets_total",
            "pollux_punted_packets_total",
            "pollux_consumed_packets_total",
            "pollux_held_packets",
            "pollux_originated_packets_total",
            "pollux_injected_packets_total",
            "pollux_extra_fragments_total",
            "pollux_tx_packets_total",
            "pollux_tx_dropped_packets_total",
        ],
    ),
    ("conntrack capacity, entries by state", &["pollux_conntrack_capacity", "pollux_conntrack_entries"]),
    ("insert failures", &["pollux_conntrack_insert_failures_total"]),
    ("SNAT ports used and free", &["pollux_snat_ports"]),
    (
        "NIC counters",
        &[
            "pollux_port_rx_missed_packets_total",
            "pollux_port_rx_no_mbuf_packets_total",
            "pollux_port_rx_errors_total",
            "pollux_port_tx_errors_total",
        ],
    ),
    ("mempool in use", &["pollux_mempool_buffers_in_use", "pollux_mempool_buffers"]),
    ("busy ratio, cycles per packet", &["pollux_worker_busy_ratio", "pollux_worker_cycles_per_packet"]),
    ("latency", &["pollux_burst_seconds", "pollux_packet_residence_seconds"]),
    (
        "handshakes",
        &["pollux_handshake_seconds", "pollux_handshakes_total", "pollux_handshake_seconds_total"],
    ),
    ("certificate expiry", &["pollux_certificate_expiry_timestamp_seconds"]),
    ("hand-off depth", &["pollux_handoff_ring_packets", "pollux_handoff_packets_total"]),
    (
        "endpoints",
        &[
            "pollux_endpoint_up",
            "pollux_service_endpoints",
            "pollux_probe_seconds",
            "pollux_endpoint_flaps_total",
        ],
    ),
    (
        "configuration",
        &[
            "pollux_config_generation",
            "pollux_config_last_reload_successful",
            "pollux_config_last_reload_success_timestamp_seconds",
        ],
    ),
    ("tick and scrape duration", &["pollux_tick_duration_seconds", "pollux_scrape_duration_seconds"]),
    ("retired and pending", &["pollux_retired_total", "pollux_pending"]),
    (
        "process",
        &[
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
        ],
    ),
    ("build", &["pollux_build_info"]),
];

/// The aliases of the contract, without their `loxilb_`.
const CONVENTIONAL: &[&str] = &[
    "active_conntrack_entries",
    "conntrack_max_entries",
    "active_flow_count_tcp",
    "active_flow_count_udp",
    "active_flow_count_sctp",
    "new_flows",
    "lb_rules",
    "requests_total",
    "service_requests_total",
    "errors_total",
    "service_errors_total",
    "healthy_endpoints",
    "unhealthy_endpoints",
    "fw_drop_packets_total",
    "fw_rule_drop_packets_total",
    "firewall_rules",
    "system_cpu_utilization_percent",
    "system_memory_utilization_percent",
    "system_disk_utilization_percent",
    "processed_bytes_total",
    "processed_packets_total",
    "processed_tcp_bytes_total",
    "processed_tcp_packets_total",
    "processed_udp_bytes_total",
    "processed_udp_packets_total",
    "processed_sctp_bytes_total",
    "processed_sctp_packets_total",
    "service_traffic_bytes_total",
    "service_traffic_packets_total",
    "endpoint_traffic_bytes_total",
];

#[test]
fn all_that_the_contract_asks_of_the_engine_is_there() {
    for (about, names) in OWN {
        for name in *names {
            assert!(ALL.iter().any(|family| family.name == *name), "{about}: {name} is missing");
        }
    }
    let aliases: Vec<_> =
        ALIASES.iter().map(|(alias, _)| alias.name.strip_prefix("loxilb_").unwrap()).collect();
    assert_eq!(aliases, CONVENTIONAL);
}

#[test]
fn aliases_are_conventional_and_never_of_flows() {
    for (alias, family) in ALIASES {
        assert!(!family.labels.contains(&"sip"), "{}", alias.name);
        assert_eq!(alias.name.ends_with("_total"), alias.kind == Kind::Counter, "{}", alias.name);
        assert_eq!(alias.labels, family.labels);
    }
}

/// With `metrics.aliases`, each alias shows what its family does, and nothing else is another.
#[test]
fn aliases_show_the_samples_of_their_families() {
    let mut settings = super::settings(10);
    settings.metrics.aliases = true;
    let mut b = super::Bench::with(settings, &super::names());
    b.traffic(0, 0, super::client(1), 7);
    let (plain, text) = (super::Bench::new(10, &super::names()).tick(), b.tick());
    assert_eq!(text.types.len(), plain.types.len() + ALIASES.len());
    for (alias, family) in ALIASES {
        let of = |name: &str| -> Vec<_> {
            text.family(name).map(|(labels, value)| (labels.clone(), value.to_owned())).collect()
        };
        assert_eq!(of(alias.name), of(family.name), "{}", alias.name);
        assert_eq!(text.types[alias.name], alias.kind.name());
    }
    assert_eq!(text.count("loxilb_processed_packets_total", &[]), 7);
}

#[test]
fn the_contract_is_kept() {
    for &(name, kind, labels) in CONTRACT {
        let family = ALL.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((family.kind.name(), family.labels), (kind, labels), "{name}");
    }
    let own = |f: &&&Family| f.name.starts_with("pollux_") || f.name.starts_with("process_");
    for family in ALL.iter().filter(|f| !own(f)) {
        assert!(
            CONTRACT.iter().any(|c| c.0 == family.name),
            "{} is neither the contract's nor named as our own",
            family.name
        );
    }
}

#[test]
fn names_and_labels_are_valid_and_conventional() {
    let mut seen = HashSet::new();
    for family in ALL {
        assert!(seen.insert(family.name), "{} is there twice", family.name);
        for word in family.labels.iter().chain([&family.name]) {
            assert!(
                word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{word}"
            );
        }
        if family.name.starts_with("pollux_") {
            let total = family.name.ends_with("_total");
            assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
        }
        assert!(family.help().ends_with('.') && !family.help().contains(['\n', '|']), "{}", family.name);
    }
}

/// `POLLUX_UPDATE_DOCS=1 cargo test families` writes the tables anew.
#[test]
fn the_documentation_shows_this_table() {
    const MARKS: [&str; 2] = ["<!-- families -->\n", "<!-- /families -->\n"];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(MARKS[0]).unwrap();
    let (tables, after) = rest.split_once(MARKS[1]).unwrap();
    if std::env::var_os("POLLUX_UPDATE_DOCS").is_some() {
        std::fs::write(path, [before, MARKS[0], &markdown(), MARKS[1], after].concat()).unwrap();
    } else {
        assert_eq!(tables, markdown(), "POLLUX_UPDATE_DOCS=1 cargo test families writes them anew");
    }
}
