//! `config/prometheus/prometheus-secured.yml` as it is, beside an engine with traffic.

use std::fs;
use std::path::Path;

use pollux::addr::Mac;
use pollux::pcap::PcapWriter;
use pollux::wire::build::{self, eth};

use super::*;

const CONFIGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus");
/// Of a port of `net_pcap`.
const MAC: Mac = Mac([2, 0x70, 0x63, 0x61, 0x70, 0]);
const CLIENTS: u8 = 3;
const EACH: u16 = 10;

/// Connections that clients begin: how many bytes they are.
fn traffic(file: &Path) -> usize {
    let mut writer = PcapWriter::new(fs::File::create(file).unwrap()).unwrap();
    let mut bytes = 0;
    for n in 0..EACH * u16::from(CLIENTS) {
        let client = format!("203.0.113.{}", 50 + n % u16::from(CLIENTS));
        let there = eth(Mac([2, 0, 0, 0, 0, 0x50]), MAC).ip(client.as_str(), "203.0.113.100");
        let frame = there.tcp(4000 + n, 80).syn().frame();
        bytes += build::l3(&frame).len();
        writer.write(u64::from(n) * 1000, frame.len() as u32, &frame).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// An engine that only who has the token may scrape, over TLS, under the name that the file has for it.
#[test]
fn prometheus_scrapes_as_our_own_file_says() {
    let ground = Ground::take();
    let dir = ground.path();
    let ns = Namespace::new("lb");
    certificates(dir, "loxilb");
    let bytes = traffic(&dir.join("in.pcap"));
    let device = format!("net_pcap0,rx_pcap={}/in.pcap,tx_pcap=/dev/null", dir.display());
    let secured =
        "bearer_token_file = \"tokens\"\ntls_certificate = \"server.pem\"\ntls_key = \"server.key\"";
    let mut engine = Engine::spawn(&ns, dir, &config(dir, secured).replace("net_null0", &device));

    let here = dir.join("prometheus");
    fs::create_dir_all(here.join("rules")).unwrap();
    for file in fs::read_dir(Path::new(CONFIGS).join("rules")).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&file, here.join("rules").join(file.file_name().unwrap())).unwrap();
    }
    let file = here.join("prometheus-secured.yml");
    fs::copy(Path::new(CONFIGS).join("prometheus-secured.yml"), &file).unwrap();
    fs::copy(dir.join("tokens"), here.join("pollux.token")).unwrap();
    fs::copy(dir.join("ca.pem"), here.join("pollux-ca.pem")).unwrap();
    let hosts = dir.join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost loxilb\n").unwrap();
    let ask = |more: &str| {
        let engine = "--resolve loxilb:8080:127.0.0.1 https://loxilb:8080/netlox/v1/metrics";
        let line = format!("curl --silent --cacert {}/ca.pem {more} {engine}", dir.display());
        String::from_utf8(ns.run(&line).stdout).unwrap()
    };
    // Before Prometheus' first look at the pairs, which it takes half a minute to repeat.
    let token = fs::read_to_string(dir.join("tokens")).unwrap();
    fs::write(dir.join("header"), format!("Authorization: Bearer {token}")).unwrap();
    let shown = format!(
        "lb_rule_interaction_packets{{service=\"203.0.113.100:80\",sip=\"203.0.113.50\",dip=\"203.0.113.10\"}} {EACH}\n"
    );
    let header = format!("--header @{}/header", dir.display());
    until("all that was sent shows", || ask(&header).contains(&shown));
    let prometheus = Prometheus::spawn_as_it_is(&ns, &here, &file, &hosts);

    let is = |query: &str, value: f64| until(query, || prometheus.query(&ns, query) == Some(value));
    is("up{job='loxilb-enterprise'}", 1.0);
    is("sum(processed_bytes_total)", bytes as f64);
    // All pairs come with the second job, every 30 s, and with it alone: sums are what was sent, not twice that.
    is("up{job='loxilb-enterprise-flows'}", 1.0);
    is("sum(lb_rule_interaction_bytes)", bytes as f64);
    is("sum(client_traffic_packets)", f64::from(EACH * u16::from(CLIENTS)));
    is("count(lb_rule_interaction_packets == 10)", f64::from(CLIENTS));
    assert_eq!(prometheus.query(&ns, "count({job='loxilb-enterprise', sip!=''})"), None);
    assert_eq!(prometheus.query(&ns, "pollux_http_requests_total{code='401'} > 0"), None);
    // For those who have no token there is nothing.
    assert_eq!(ask("--output /dev/null --write-out %{http_code}"), "401");
    drop(prometheus);
    assert!(engine.runs());
    engine.finish();
}
