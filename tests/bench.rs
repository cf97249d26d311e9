//! `pollux bench` with sizes so small that it says nothing about speed: every case runs, forwards all of its packets, and
//! prints what the contract says.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

const CASES: [&str; 5] =
    ["established-hot", "established-cold", "new-connections", "new-and-expire", "handoff"];

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pollux")).arg("bench").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// As the contract has it, and sane.
fn check(case: &Value) {
    let text = |key: &str| case[key].as_str().unwrap_or_else(|| panic!("{key} in {case}"));
    let number = |key: &str| case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"));
    assert!(CASES.contains(&text("case")), "{case}");
    assert!(["dnat", "full-nat", "dsr-l2", "dsr-ipip", "dsr-gue"].contains(&text("mode")), "{case}");
    assert!(["tcp", "udp", "sctp"].contains(&text("protocol")), "{case}");
    assert!(["ipv4", "ipv6"].contains(&text("family")), "{case}");
    assert!(case["accounting"].is_boolean(), "{case}");
    for key in ["connections", "workers", "packets", "rounds"] {
        assert!(case[key].as_u64().unwrap() >= 1, "{key} in {case}");
    }
    for key in
        ["ns_per_packet", "reference_ns_per_packet", "mpps_per_worker", "bytes_per_connection", "ratio"]
    {
        let value = number(key);
        assert!(value.is_finite() && value > 0.0, "{key} in {case}");
    }
    let rate = 1000.0 / number("ns_per_packet");
    assert!((number("mpps_per_worker") / rate - 1.0).abs() < 0.05 || rate < 0.1, "{case}");
}

const SMALL: [&str; 6] = ["--frames", "1024", "--seconds", "0", "--no-tick", "--json"];

#[test]
fn every_case_forwards_all_of_its_packets() {
    let report = json(&[&["--connections", "2048"][..], &SMALL].concat());
    assert!(report["machine"].is_object());
    let cases = report["cases"].as_array().unwrap();
    cases.iter().for_each(check);
    let cpus = report["machine"]["cpus"].as_u64().unwrap();
    for name in CASES {
        let found = cases.iter().find(|case| case["case"] == name);
        if name == "handoff" && cpus < 2 {
            continue;
        }
        let found = found.unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(found["connections"], 2048);
        assert_eq!(found["workers"], if name == "handoff" { 2 } else { 1 });
        assert_eq!(found["accounting"], true);
        // Rounds, warm-up and connections' handshakes: every packet is one that came out.
        assert!(found["packets"].as_u64().unwrap() >= 3 * 2 * 1024, "{found}");
    }
}

#[test]
fn one_case_alone_is_what_is_asked_for() {
    let report = json(&[&["--case", "new-clients", "--connections", "2048"][..], &SMALL].concat());
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| case["case"] == "new-clients"), "{cases:?}");
    // Each connection has a pair of its own.
    assert!(cases[0]["bytes_per_connection"].as_f64().unwrap() > 180.0, "{cases:?}");
    let report =
        json(&[&["--case", "established-hot", "--flows", "1", "--packet-size", "200"][..], &SMALL].concat());
    let cases = report["cases"].as_array().unwrap();
    assert!(
        cases.iter().all(|case| case["case"] == "established-hot" && case["connections"] == 1),
        "{cases:?}"
    );
    assert_eq!(cases[0]["frame_bytes"], 14 + 200);
    cases.iter().for_each(check);
}

#[test]
fn a_tick_is_measured() {
    let report = json(&["--connections", "1024", "--frames", "1024", "--seconds", "0", "--json"]);
    if report["machine"]["cpus"].as_u64().unwrap() > 1 {
        let ratio = report["tick"]["throughput_ratio"].as_f64().unwrap();
        assert!(ratio > 0.0, "{}", report["tick"]);
        assert_eq!(report["tick"]["connections"], 1024);
    }
}

#[test]
fn a_device_is_measured_with_the_packets_of_a_capture() {
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("packets.pcap");
    let pcap = pcap.to_str().unwrap();
    assert_eq!(bench(&["--write-pcap", pcap, "--connections", "500"]).status.code(), Some(0));
    let device = format!("net_pcap0,rx_pcap={pcap},infinite_rx=1");
    let report = json(&["--port", &device, "--connections", "500", "--seconds", "0", "--json"]);
    let port = &report["port"];
    assert_eq!(port["device"], device.as_str());
    assert!(port["ns_per_packet"].as_f64().unwrap() > 0.0 && port["ratio"].as_f64().unwrap() > 0.0, "{port}");
    assert!(port["rx"].as_u64().unwrap() > 500, "{port}");
    // Whatever came in went out: what the capture has is all for the service.
    assert_eq!(port["rx"], port["tx"], "{port}");
    assert_eq!(port["dropped"], serde_json::json!({}));
}

#[test]
fn people_get_a_table() {
    let output =
        bench(&["--case", "established-hot", "--connections", "1", "--frames", "64", "--seconds", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("ordinary memory") && table.contains("established-hot"), "{table}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    for arguments in [
        &["--case", "fast"][..],
        &["--connections", "0"],
        &["--connections", "1", "--flows", "1"],
        &["--packet-size", "9001"],
        &["--seconds", "-1"],
    ] {
        assert_eq!(bench(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = bench(&["--port", "net_pcap0,rx_pcap=/nowhere/x.pcap", "--seconds", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output.stderr).contains("panicked") && output.stdout.is_empty());
}
