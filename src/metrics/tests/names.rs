//! No name breaks the exposition, whatever is in it. The configuration refuses control characters; here they are let through.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::ids::RuleId;

/// An engine whose services, rules and ports have these names, and a client of each.
fn shown(all: &BTreeSet<String>) -> String {
    let mut names = Names::default();
    for (n, name) in all.iter().enumerate().map(|(n, name)| (n as u32, name)) {
        let mut service = service(n, name, name, Protocol::Tcp);
        endpoint(n, &mut service, "10.0.0.1:1", EndpointState::Up);
        names.services.push(service);
        names.rules.push((RuleId(n), name.as_str().into()));
    }
    let mut settings = settings(10);
    settings.metrics.service_label = ServiceLabel::Name;
    settings.ports = all.iter().cloned().cycle().take(2).collect::<BTreeSet<_>>().into_iter().collect();
    let mut bench = Bench::with(settings, &names);
    for n in 0..all.len() as u32 {
        bench.traffic(n, n, client(1), 5);
    }
    bench.tick();
    bench.text()
}

fn values(scrape: &Scrape, family: &str, label: &str) -> BTreeSet<String> {
    let samples = scrape.samples.keys().filter(|(name, _)| name == family);
    samples
        .filter_map(|(_, labels)| labels.iter().find(|(name, _)| name == label))
        .map(|(_, v)| v.clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_back_is_what_was_meant(
        all in prop::collection::btree_set("(?s).{0,12}|[\\\\\"\n\r\t{},= #\u{e000}0-3a]{0,8}", 1..5)
    ) {
        let scrape = Scrape::parse(&shown(&all)).unwrap();
        for (family, label) in [
            ("total_requests_per_service", "service"),
            ("endpoint_traffic_bytes", "service"),
            ("client_traffic_packets", "service"),
            ("lb_rule_interaction_bytes", "service"),
            ("total_fw_drops_per_rule", "fw_rule"),
        ] {
            prop_assert_eq!(&values(&scrape, family, label), &all, "{}", family);
        }
        prop_assert!(values(&scrape, "pollux_port_rx_packets_total", "port").is_subset(&all));
    }
}

#[test]
fn prometheus_reads_the_worst_of_them() {
    let all = [
        "quo\"te",
        "back\\slash\\",
        "new\nline",
        "} 1\nup 5\n#",
        "größe 東京 🦀",
        "\u{1}\u{7f}\u{202e}\u{2028}\r\0",
        "\u{e000}0",
    ];
    let text = shown(&all.map(str::to_owned).into());
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr) + String::from_utf8_lossy(&out.stdout);
    // 3: it dislikes names, which are LoxiLB's; 1: it cannot read it.
    assert!(matches!(out.status.code(), Some(0 | 3)) && !said.contains("error while linting"), "{said}");
}
