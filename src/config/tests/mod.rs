//! The whole format: what is accepted, and its defaults.

use std::time::Duration;

mod fuzz;
mod modes;
mod refuse;

use super::*;
use crate::addr::{Addr, Mac};

/// The annotated example of the format without what is not supported yet, every other key set.
const WHOLE: &str = r#"
[engine]
workers        = [2, 3, 4, 5]
main_cpu       = 0
hugepages      = true
memory_mb      = 1024
eal_args       = ["--log-level=8"]
max_flows      = 4_000_000
burst          = 32
idle           = "poll"
transit        = "drop"
on_unknown     = "drop"
shutdown_delay = "0s"

[[port]]
name      = "wan"
device    = "0000:3b:00.0"
role      = "client"
addresses = ["203.0.113.2/24", "2001:db8:1::2/64"]
mtu       = 1500
vlan      = 0
queues    = 0
rx_descriptors = 1024
tx_descriptors = 1024
kernel    = ""
[[port]]
name      = "lan"
device    = "0000:3b:00.1"
role      = "server"
addresses = ["10.1.0.1/24"]

[[route]]
prefix = "0.0.0.0/0"
via    = "203.0.113.1"
[[neighbor]]
address = "10.1.0.10"
mac     = "02:00:00:00:00:10"
port    = "lan"

[[service]]
name        = "web"
vip         = "203.0.113.100:80"
secondary_vips = []
protocol    = "tcp"
mode        = "dnat"
algorithm   = "maglev"
maglev_size = 65_537
persistence = "0s"
idle_timeout = "4m"
on_no_endpoint      = "drop"
on_endpoint_down    = "keep"
on_endpoint_removed = "drain"
slow_start  = "0s"
client_address = "none"
quic_server_id_bytes = 0
tunnel_source = ""
gue_port      = 6080
[service.health_check]
kind     = "none"
target   = "endpoint"
port     = 0
interval = "5s"
timeout  = "1s"
rise     = 2
fall     = 3
host     = ""
path     = "/healthz"
expect   = "200-399"
body     = ""
verify   = true
send     = ""
receive  = ""
[[service.endpoint]]
address = "10.1.0.10:8080"
secondary_addresses = []
weight  = 1
state   = "up"
server_id = ""
[[service.endpoint]]
address = "10.1.0.11:8080"
weight  = 2

[snat]
addresses = []
ports     = "1024-65535"

[[firewall]]
name        = "block_icmp"
action      = "drop"
protocol    = "icmp"
[[firewall]]
name        = "block_scanners"
action      = "drop"
source      = ["198.51.100.0/24", "2001:db8:bad::/48"]
destination = ["203.0.113.100/32"]
protocol    = "tcp"
source_port = "0-65535"
destination_port = "1-1023"
port        = "wan"

[limits]
syn_rate          = 0
connection_rate   = 0
connections       = 0
udp_packet_rate   = 0
udp_byte_rate     = 0
deny              = []
allow             = []

[metrics]
listen             = "127.0.0.1:8080"
tick               = "10s"
distribution_tick  = "2m"
service_label      = "address"
flow_series_limit  = 50_000
aliases            = false
bearer_token_file  = ""
tls_certificate    = ""
tls_key            = ""
tls_client_ca      = ""
max_connections    = 64
header_timeout     = "5s"
web_config         = ""

[history]
path       = ""
retention  = { "10s" = "7d", "1m" = "30d", "5m" = "365d" }
max_bytes  = 4_000_000_000
flow_series = 500
external_labels = { job = "pollux" }

[control]
socket = ""
watch  = false
"#;

/// The least that is a configuration.
const LEAST: &str = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\"]\n";

/// The configuration and its warnings, a line each.
fn good(text: &str) -> (Config, Vec<String>) {
    match parse("f", text) {
        Ok((config, warnings)) => (config, warnings.iter().map(Problem::line).collect()),
        Err(report) => panic!("{report}"),
    }
}

/// `line:column: message; cure` of every problem.
fn bad(text: &str) -> Vec<String> {
    let report = parse("f", text).expect_err("a bad configuration");
    report.lines().lines().map(|l| l.trim_start_matches("f:").to_owned()).collect()
}

/// As [`bad`], without the warnings.
fn errors(text: &str) -> Vec<String> {
    bad(text).into_iter().filter(|l| !l.contains(": warning: ")).collect()
}

fn line_of(text: &str, needle: &str) -> usize {
    let at = text.find(needle).unwrap_or_else(|| panic!("{needle}"));
    text[..at].matches('\n').count() + 1
}

/// Replaces a part of [`WHOLE`]; expects exactly one error, on the line of `place` and with every one of `says`.
#[track_caller]
fn refused(from: &str, to: &str, place: &str, says: &[&str]) {
    assert!(WHOLE.contains(from), "{from}");
    let text = WHOLE.replacen(from, to, 1);
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&format!("{}:", line_of(&text, place))), "{place}: {found:?}");
    for say in says {
        assert!(found[0].contains(say), "{say}: {found:?}");
    }
}

/// As [`refused`], for one line of [`WHOLE`].
#[track_caller]
fn refused_line(from: &str, to: &str, says: &[&str]) {
    refused(from, to, to, says);
}

#[track_caller]
fn warned(from: &str, to: &str, says: &str) {
    assert!(WHOLE.contains(from), "{from}");
    let (_, warnings) = good(&WHOLE.replacen(from, to, 1));
    assert!(warnings.iter().any(|w| w.contains(says)), "{warnings:?}");
}

fn v4(octets: [u8; 4]) -> Addr {
    Addr::v4(octets)
}

#[test]
fn everything_that_is_supported_is_read() {
    let (config, warnings) = good(WHOLE);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.engine.workers, [2, 3, 4, 5]);
    assert_eq!(config.engine.main_cpu, Some(0));
    assert_eq!(config.engine.eal_args, ["--log-level=8"]);
    assert_eq!(config.engine.max_flows, 4_000_000);
    assert_eq!(config.ports.len(), 2);
    assert_eq!(config.ports[0].role, Role::Client);
    assert_eq!(config.ports[0].addresses[1].to_string(), "2001:db8:1::2/64");
    assert_eq!(config.ports[1].device, "0000:3b:00.1");
    assert_eq!(config.routes[0].via, v4([203, 0, 113, 1]));
    let neighbor = Neighbor { address: v4([10, 1, 0, 10]), mac: Mac([2, 0, 0, 0, 0, 16]), port: 1 };
    assert_eq!(config.neighbors, [neighbor]);
    let web = &config.services[0];
    assert_eq!((web.vip, web.first_port, web.last_port), (v4([203, 0, 113, 100]), 80, 80));
    assert_eq!(web.algorithm, Algorithm::Maglev { size: 65_537 });
    assert_eq!(web.endpoints[1].weight, 2);
    assert_eq!(web.endpoints[1].port, 8080);
    assert_eq!(config.firewall[0].protocol, Some(1));
    let scanners = &config.firewall[1];
    assert_eq!(scanners.source_port, Some((0, 65_535)));
    assert_eq!(scanners.destination_port, Some((1, 1023)));
    assert_eq!(scanners.port, Some(0));
    assert_eq!(scanners.source.len(), 2);
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let text = LEAST.to_owned()
        + "[[service]]\nname = \"t\"\nvip = \"10.0.0.9:80\"\n[[service.endpoint]]\naddress = \"10.0.0.5:80\"\n\
           [[service]]\nname = \"u\"\nvip = \"10.0.0.9:80\"\nprotocol = \"udp\"\n\
           [[service.endpoint]]\naddress = \"10.0.0.5:80\"\n\
           [[service]]\nname = \"s\"\nvip = \"10.0.0.9:80\"\nprotocol = \"sctp\"\n\
           [[service.endpoint]]\naddress = \"10.0.0.5:80\"\n";
    let (config, warnings) = good(&text);
    assert_eq!(warnings, Vec::<String>::new());
    let engine = Engine {
        workers: vec![],
        main_cpu: None,
        hugepages: true,
        memory_mb: 1024,
        eal_args: vec![],
        max_flows: 4_000_000,
        burst: 32,
        idle: Idle::Poll,
        on_unknown: OnUnknown::Drop,
        transit: Transit::Drop,
        shutdown_delay: Duration::ZERO,
    };
    assert_eq!(config.engine, engine);
    let p = &config.ports[0];
    assert_eq!((p.mtu, p.vlan, p.queues, p.rx_descriptors, p.tx_descriptors), (1500, 0, 0, 1024, 1024));
    let idle: Vec<u64> = config.services.iter().map(|s| s.idle_timeout.as_secs()).collect();
    assert_eq!(idle, [240, 20, 240]);
    let s = &config.services[0];
    assert_eq!((s.protocol, s.on_no_endpoint), (Protocol::Tcp, Refusal::Drop));
    assert_eq!(s.algorithm, Algorithm::Maglev { size: 65_537 });
    assert_eq!((s.endpoints[0].weight, s.endpoints[0].state), (1, EndpointState::Up));
    let metrics = Metrics {
        listen: "127.0.0.1:8080".parse().unwrap(),
        tick: Duration::from_secs(10),
        distribution_tick: Duration::from_secs(120),
        service_label: ServiceLabel::Address,
        flow_series_limit: 50_000,
        aliases: false,
        max_connections: 64,
        header_timeout: Duration::from_secs(5),
        access: crate::config::Access::default(),
    };
    assert_eq!(config.metrics, metrics);
    assert_eq!(config.control, Control { socket: AdminSocket::Default, watch: false });
}

#[test]
fn what_becomes_of_connections_and_shares_is_read() {
    let (config, _) = good(WHOLE);
    let s = &config.services[0];
    assert_eq!(
        (s.on_endpoint_down, s.on_endpoint_removed, s.slow_start),
        (Loss::Keep, Loss::Keep, Duration::ZERO)
    );
    let text = WHOLE
        .replacen("on_endpoint_down    = \"keep\"", "on_endpoint_down = \"reset\"", 1)
        .replacen("on_endpoint_removed = \"drain\"", "on_endpoint_removed = \"reset\"", 1)
        .replacen("slow_start  = \"0s\"", "slow_start = \"30s\"", 1)
        .replacen("watch  = false", "watch = true", 1);
    let (config, _) = good(&text);
    let s = &config.services[0];
    assert_eq!((s.on_endpoint_down, s.on_endpoint_removed), (Loss::Reset, Loss::Reset));
    assert_eq!((s.slow_start, config.control.watch), (Duration::from_secs(30), true));
    refused_line("slow_start  = \"0s\"", "slow_start = \"25h\"", &["`slow_start` of service \"web\"", "25h"]);
}

#[test]
fn the_admin_socket_is_an_absolute_path_or_none() {
    let (config, _) = good(WHOLE);
    assert_eq!(config.control.socket, AdminSocket::Off);
    let at = "/run/pollux/other.sock";
    let (config, _) = good(&WHOLE.replacen("socket = \"\"", &format!("socket = \"{at}\""), 1));
    assert_eq!(config.control.socket, AdminSocket::At(at.into()));
    for wrong in ["pollux.sock", "/run/pollux/"] {
        let line = format!("socket = \"{wrong}\"");
        refused_line("socket = \"\"", &line, &["`socket` of [control]", "no absolute path"]);
    }
    let long = format!("socket = \"/{}\"", "x".repeat(107));
    refused_line("socket = \"\"", &long, &["a path of 108 bytes", "at most 107"]);
}

#[test]
fn every_example_is_valid_and_raises_no_warning_but_the_demos() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let (_, warnings) = load(&path).unwrap_or_else(|report| panic!("{report}"));
            let rendered = Style::Plain.render(&warnings);
            if path.ends_with("demo.toml") {
                // It shows refusals, by a service whose only endpoint is down.
                assert_eq!(warnings.len(), 1, "{rendered}");
                assert!(rendered.contains("\"reports\" has no endpoint that is up"), "{rendered}");
            } else {
                assert!(warnings.is_empty(), "{rendered}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

#[test]
fn port_ranges_keep_the_clients_port_or_send_to_one() {
    let service = "[[service]]\nname = \"r\"\nvip = \"10.0.0.9:5000-5999\"\n";
    let text = format!(
        "{LEAST}{service}[[service.endpoint]]\naddress = \"10.0.0.5\"\n\
         [[service.endpoint]]\naddress = \"10.0.0.6:70\"\n"
    );
    let (config, _) = good(&text);
    let s = &config.services[0];
    assert_eq!((s.first_port, s.last_port), (5000, 5999));
    assert_eq!((s.endpoints[0].port, s.endpoints[1].port), (0, 70));
}

#[test]
fn a_neighbors_port_may_be_left_out() {
    let (config, _) = good(&WHOLE.replacen("port    = \"lan\"", "", 1));
    assert_eq!(config.neighbors[0].port, 1);
    refused(
        "port    = \"lan\"",
        "port    = \"wan\"",
        "address = \"10.1.0.10\"",
        &["on no network of port \"wan\"", "port \"lan\""],
    );
    let text = WHOLE.replacen("port    = \"lan\"", "", 1).replacen("\"10.1.0.10\"", "\"10.2.0.10\"", 1);
    assert!(bad(&text)[0].contains("on no port's network"), "{:?}", bad(&text));
}

#[test]
fn no_port_is_an_error_and_no_service_a_warning() {
    for text in ["", "# nothing\n", "[engine]\n", "[metrics]\ntick = \"5s\"\n"] {
        let found = bad(text);
        assert!(found.iter().any(|l| l.starts_with("1:1: the configuration has no port")), "{found:?}");
    }
    let (_, warnings) = good(LEAST);
    assert!(warnings[0].contains("no service"), "{warnings:?}");
}

#[test]
fn ten_thousand_services_and_one_of_a_thousand_endpoints() {
    use std::fmt::Write as _;
    let mut text = LEAST.to_owned();
    for n in 0..10_000 {
        let endpoints = if n == 5_000 { 1_000 } else { 1 };
        let (high, low) = (n / 250, n % 250);
        let vip = format!("203.0.{high}.{low}:80");
        let _ = write!(text, "[[service]]\nname = \"s{n}\"\nvip = \"{vip}\"\nalgorithm = \"round-robin\"\n");
        for e in 0..endpoints {
            let _ = write!(text, "[[service.endpoint]]\naddress = \"10.{}.{}.2:8080\"\n", e / 250, e % 250);
        }
    }
    let (config, _) = good(&text);
    assert_eq!(config.services.len(), 10_000);
    assert_eq!(config.services[5_000].endpoints.len(), 1_000);
    // One too like another is found among them all.
    let found = errors(&text.replace("name = \"s9999\"", "name = \"s17\""));
    assert!(found[0].contains("s17"), "{found:?}");
    let found = errors(&text.replace("vip = \"203.0.39.249:80\"", "vip = \"203.0.0.3:80\""));
    assert!(found[0].contains("203.0.0.3"), "{found:?}");
}
