use std::collections::HashSet;

use crate::metrics::families::{ALL, Family, Kind, markdown};

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
