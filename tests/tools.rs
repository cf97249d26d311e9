//! The commands that need no engine: trace, import, completions, man.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::Command;

use pollux::config;
use pollux::import;
use pollux::trace::{self, Described};

const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");

const CONFIG: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
role = "client"
addresses = ["203.0.113.2/24"]
[[port]]
name = "lan"
device = "net_null1"
role = "server"
addresses = ["10.1.0.1/24"]
mtu = 600
[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"
[[neighbor]]
address = "10.1.0.10"
mac = "02:00:00:00:00:10"
port = "lan"
[[firewall]]
name = "block_scanners"
action = "drop"
source = ["192.0.2.0/24"]
[[service]]
name = "web"
vip = "203.0.113.100:80"
[[service.endpoint]]
address = "10.1.0.10:8080"
[[service]]
name = "dns"
vip = "203.0.113.100:53"
protocol = "udp"
endpoint = [{ address = "10.1.0.10:53", state = "drain" }]
"#;

/// Stages with their decisions, the verdict or the reason, and what left.
fn traced(packet: &str) -> (Vec<(&'static str, String)>, &'static str, Vec<String>) {
    traced_in(CONFIG, packet)
}

fn traced_in(config: &str, packet: &str) -> (Vec<(&'static str, String)>, &'static str, Vec<String>) {
    let (config, _) = config::parse("pollux.toml", config).unwrap();
    let trace = trace::run(&config, &Described::parse(packet).unwrap()).unwrap();
    let steps = trace.steps.into_iter().map(|step| (step.stage, step.decision)).collect();
    let out = trace.out.into_iter().map(|sent| format!("{}: {}", sent.port, sent.packet)).collect();
    (steps, trace.reason.unwrap_or(trace.verdict), out)
}

#[test]
fn a_syn_from_end_to_end() {
    let (steps, verdict, out) = traced("tcp 198.51.100.7:4000 > 203.0.113.100:80 syn");
    let steps: Vec<_> = steps.iter().map(|(stage, decision)| (*stage, decision.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("rx", "in by port wan (02:00:00:00:00:01)"),
            ("parse", "tcp 198.51.100.7:4000 > 203.0.113.100:80 syn, ttl 64, 40 bytes"),
            ("conntrack", "of no known connection"),
            ("firewall", "pass"),
            ("service", "web"),
            ("endpoint", "10.1.0.10:8080"),
            ("conntrack", "entered, half-open; idle timeout 240 s"),
            ("rewrite", "destination 203.0.113.100:80 -> 10.1.0.10:8080, ttl 64 -> 63"),
            ("next hop", "10.1.0.10 at 02:00:00:00:00:10"),
            ("tx", "out by port lan"),
            ("verdict", "forward by port lan"),
        ]
    );
    assert_eq!(verdict, "forward");
    let sent = "lan: 02:00:00:00:00:02 > 02:00:00:00:00:10, tcp 198.51.100.7:4000 > 10.1.0.10:8080 syn, ttl 63, 40 bytes";
    assert_eq!(out, [sent]);
}

#[test]
fn every_end_says_why() {
    for (packet, verdict, stage, decision) in [
        ("tcp 192.0.2.7:4000 > 203.0.113.100:80", "firewall", "firewall", "drop"),
        ("tcp 198.51.100.7:4000 > 203.0.113.100:81", "no_service", "service", "none"),
        ("udp 198.51.100.7:4000 > 203.0.113.100:53", "no_endpoint", "endpoint", "none"),
        ("udp 198.51.100.7:4000 > 8.8.8.8:53", "transit", "service", "none"),
        (
            "tcp 198.51.100.7:4000 > 203.0.113.100:80 ack",
            "unknown_connection",
            "conntrack",
            "it opens no connection: mid-stream",
        ),
        ("tcp 198.51.100.7:4000 > 203.0.113.100:80 syn ttl 1", "ttl_expired", "service", "web"),
        (
            "tcp 198.51.100.7:4000 > 203.0.113.100:80 syn len 1000 df",
            "mtu_exceeded",
            "endpoint",
            "10.1.0.10:8080",
        ),
        ("tcp 198.51.100.7:4000 > 203.0.113.100:80 syn fin", "tcp_flags", "parse", "not sane"),
        ("tcp 198.51.100.7:0 > 203.0.113.100:80", "port_zero", "parse", "not sane"),
        ("icmp 198.51.100.7 > 203.0.113.100", "consume", "local", "203.0.113.100 is a VIP"),
        (
            "sctp 198.51.100.7:4000 > 203.0.113.100:80 init in lan",
            "no_service",
            "rx",
            "in by port lan (02:00:00:00:00:02)",
        ),
    ] {
        let (steps, is, _) = traced(packet);
        assert_eq!(is, verdict, "{packet}");
        assert!(steps.contains(&(stage, decision.to_owned())), "{packet}: {steps:?}");
    }
    let (_, verdict, out) = traced("tcp 198.51.100.7:4000 > 203.0.113.100:80 syn len 1000");
    assert_eq!((verdict, out.len()), ("forward", 2), "fragments: {out:?}");
}

/// A service of each mode other than `dnat`.
const MODES: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["203.0.113.2/24", "2001:db8:1::2/64"]
[[port]]
name = "lan"
device = "net_null1"
role = "server"
addresses = ["10.1.0.1/24", "2001:db8:2::1/64"]
[snat]
addresses = ["10.1.0.2", "2001:db8:2::2"]
ports = "20000-20000"
[[service]]
name = "full"
vip = "203.0.113.100:80"
mode = "full-nat"
endpoint = [{ address = "10.1.0.10:8080" }]
[[service]]
name = "nat64"
vip = "[2001:db8:1::100]:80"
mode = "full-nat"
client_address = "toa"
endpoint = [{ address = "10.1.0.10:8080" }]
[[service]]
name = "l2"
vip = "203.0.113.101:80"
mode = "dsr-l2"
endpoint = [{ address = "10.1.0.10" }]
[[service]]
name = "ipip"
vip = "203.0.113.102:80"
mode = "dsr-ipip"
endpoint = [{ address = "10.1.0.10" }]
[[service]]
name = "gue"
vip = "203.0.113.103:53"
protocol = "udp"
mode = "dsr-gue"
tunnel_source = "2001:db8:2::77"
endpoint = [{ address = "2001:db8:2::10" }]
"#;

#[test]
fn every_mode_says_what_it_does_to_the_packet() {
    let expect = |packet: &str, name: &str, stage: &str, decision: &str, sent: &str| {
        let (steps, verdict, out) = traced_in(MODES, packet);
        assert_eq!(verdict, "forward", "{packet}: {steps:?}");
        assert!(steps.contains(&("service", name.to_owned())), "{steps:?}");
        let found = steps.iter().find(|(is, _)| *is == stage).map(|(_, decision)| decision.as_str());
        assert_eq!(found, Some(decision), "{steps:?}");
        let [out] = &out[..] else { panic!("{out:?}") };
        assert!(out.ends_with(sent), "{out}");
    };
    expect(
        "tcp 203.0.113.7:4000 > 203.0.113.100:80",
        "full",
        "rewrite",
        "source 203.0.113.7:4000 -> 10.1.0.2:20000, destination 203.0.113.100:80 -> 10.1.0.10:8080, ttl 64 -> 63",
        "tcp 10.1.0.2:20000 > 10.1.0.10:8080 syn, ttl 63, 40 bytes",
    );
    expect(
        "tcp [2001:db8:1::7]:4000 > [2001:db8:1::100]:80",
        "nat64",
        "rewrite",
        "source [2001:db8:1::7]:4000 -> 10.1.0.2:20000, destination [2001:db8:1::100]:80 -> 10.1.0.10:8080, ttl 64 -> 63",
        "tcp 10.1.0.2:20000 > 10.1.0.10:8080 syn, ttl 63, 40 bytes",
    );
    expect(
        "tcp 203.0.113.7:4000 > 203.0.113.101:80",
        "l2",
        "rewrite",
        "ttl 64 -> 63",
        "tcp 203.0.113.7:4000 > 203.0.113.101:80 syn, ttl 63, 40 bytes",
    );
    expect(
        "tcp 203.0.113.7:4000 > 203.0.113.102:80",
        "ipip",
        "tunnel",
        "IP in IP 10.1.0.1 > 10.1.0.10",
        "another protocol 10.1.0.1 > 10.1.0.10, ttl 64, 60 bytes",
    );
    let (steps, _, out) = traced_in(MODES, "udp 203.0.113.7:4000 > 203.0.113.103:53 len 32");
    let (_, way) = steps.iter().find(|(stage, _)| *stage == "tunnel").unwrap();
    // One of the dynamic ports, from the connection.
    let ends = way.strip_prefix("GUE [2001:db8:2::77]:").unwrap();
    let (port, to) = ends.split_once(" > ").unwrap();
    assert!(port.parse::<u16>().unwrap() >= 49_152 && to == "[2001:db8:2::10]:6080", "{way}");
    assert!(out[0].ends_with("ttl 64, 108 bytes"), "{out:?}");
}

#[test]
fn what_the_modes_refuse_says_why() {
    let why = |packet: &str| {
        let (config, _) = config::parse("pollux.toml", MODES).unwrap();
        trace::run(&config, &Described::parse(packet).unwrap()).unwrap().to_string()
    };
    // An answer to a port that no connection has.
    let answer = why("tcp 10.1.0.10:8080 > 10.1.0.2:20000 syn ack in lan");
    assert!(answer.contains("10.1.0.2 is a SNAT address, and no connection has this port"), "{answer}");
    // As much longer as its outer header.
    let long = why("tcp 203.0.113.7:4000 > 203.0.113.102:80 syn len 1441 df");
    assert!(long.contains("mtu_exceeded"), "{long}");
    let fits = why("tcp 203.0.113.7:4000 > 203.0.113.102:80 syn len 1440 df");
    assert!(
        fits.contains("20 bytes are put before it") && fits.contains("1500 bytes, the MTU is 1500"),
        "{fits}"
    );
}

#[test]
fn descriptions_that_are_none() {
    for (packet, word) in [
        ("", "no packet"),
        ("gre 1.1.1.1 > 2.2.2.2", "gre"),
        ("tcp 1.1.1.1 > 2.2.2.2:80", "ADDRESS:PORT"),
        ("tcp 1.1.1.1:1 2.2.2.2:80", "> is wanted"),
        ("tcp 1.1.1.1:1 > [::1]:80", "different families"),
        ("tcp 1.1.1.1:1 > 2.2.2.2:80 sin", "sin"),
        ("udp 1.1.1.1:1 > 2.2.2.2:80 syn", "syn"),
        ("tcp 1.1.1.1:1 > 2.2.2.2:80 ttl 300", "300"),
        ("tcp 1.1.1.1:1 > 2.2.2.2:80 len", "nothing behind it"),
    ] {
        let error = Described::parse(packet).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{packet}: {error}");
    }
    let (config, _) = config::parse("pollux.toml", CONFIG).unwrap();
    let described = Described::parse("udp 1.1.1.1:1 > 2.2.2.2:80 in dmz").unwrap();
    assert_eq!(
        trace::run(&config, &described).unwrap_err().to_string(),
        "there is no port \"dmz\"; the configuration has wan, lan"
    );
}

#[test]
fn trace_at_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pollux.toml");
    fs::write(&file, CONFIG).unwrap();
    let run = |more: &[&str]| {
        let out = Command::new(POLLUX).args(["trace", "--config"]).arg(&file).args(more).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (status, out, _) = run(&["tcp 198.51.100.7:4000 > 203.0.113.100:80 syn"]);
    assert_eq!(status, Some(0));
    assert!(out.contains("service    web") && out.ends_with("40 bytes\n"), "{out}");
    // Also as words of their own.
    assert_eq!(run(&["tcp", "198.51.100.7:4000", ">", "203.0.113.100:80", "syn"]).1, out);
    let (_, json, _) = run(&["--json", "tcp 192.0.2.1:4000 > 203.0.113.100:80"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["verdict"], &json["reason"]), (&"drop".into(), &"firewall".into()));
    let (status, out, err) = run(&["tcp nonsense"]);
    assert!(
        status == Some(2) && out.is_empty() && err.starts_with("pollux: the packet: source: \"nonsense\""),
        "{err}"
    );
}

const IPVS: &str = "\
-A -t 203.0.113.100:80 -s wrr -p 600
-a -t 203.0.113.100:80 -r 10.1.0.10:8080 -m -w 3
-a -t 203.0.113.100:80 -r 10.1.0.11:8080 -m -w 0
-A -u 203.0.113.100:53 -s mh -b mh-port
-a -u 203.0.113.100:53 -r 10.1.0.10:53 -m -w 1
-A -t [2001:db8:1::100]:443 -s sed
-a -t [2001:db8:1::100]:443 -r [2001:db8:2::10]:443 -g -w 1 -x 100 -y 0
-A -f 7 -s rr
-a -f 7 -r 10.1.0.10:0 -g -w 1
-A -t 203.0.113.100:80 -s rr
-a -t 203.0.113.100:80 -r 10.1.0.12:8080 -m -w 1
";

#[test]
fn ipvsadm() {
    let imported = import::ipvsadm(IPVS).unwrap();
    assert_eq!(imported.services, 3);
    let (config, _) = config::parse("imported.toml", &imported.text).unwrap();
    let [web, dns, v6] = &*config.services else { panic!("{}", imported.text) };
    assert_eq!(web.algorithm, config::Algorithm::RoundRobin);
    assert_eq!(web.persistence.as_secs(), 600);
    assert_eq!(web.endpoints.iter().map(|e| e.weight).collect::<Vec<_>>(), [3, 0, 1]);
    assert!(matches!(dns.algorithm, config::Algorithm::Maglev { .. }));
    assert_eq!((dns.protocol, dns.first_port), (config::Protocol::Udp, 53));
    assert_eq!((v6.vip.to_string().as_str(), v6.mode.name()), ("2001:db8:1::100", "dsr-l2"));
    let notes = imported.notes.join("\n");
    for word in [
        "line 8: a service by firewall mark",
        "scheduler sed",
        "option -x 100",
        "line 10 (203.0.113.100:80 tcp): left out",
    ] {
        assert!(notes.contains(word), "{word:?} in {notes}");
        assert!(imported.text.contains(word), "as a comment, too: {word:?}");
    }
    assert!(!notes.contains("-y"), "a threshold of 0 is none: {notes}");
    for none in ["", "# nothing\n", "hello\n", "-A -t 1.2.3.4:http -s rr\n"] {
        assert!(import::ipvsadm(none).is_err(), "{none:?}");
    }
}

const LOXI: &str = r#"{"lbAttr":[
 {"serviceArguments":{"externalIP":"192.168.80.80","port":6443,"protocol":"tcp","sel":0,"mode":0,"BGP":true,"Monitor":true,"inactiveTimeOut":300,"block":0,"name":"k8s \"api\""},
  "secondaryIPs":null,"allowedSources":[{"prefix":"10.0.0.0/8"}],
  "endpoints":[{"endpointIP":"192.168.81.10","targetPort":6443,"weight":1,"state":"active","counter":""},
               {"endpointIP":"192.168.81.11","targetPort":6443,"weight":1,"state":"inactive","counter":""}]},
 {"serviceArguments":{"externalIP":"192.168.80.81","port":5000,"portMax":5010,"protocol":"udp","sel":3,"mode":2,"persistTimeout":120},
  "endpoints":[{"endpointIP":"192.168.81.10","targetPort":5000,"weight":5}]},
 {"serviceArguments":{"externalIP":"192.168.80.82","port":443,"protocol":"tcp","sel":0,"mode":4},"endpoints":[]},
 {"serviceArguments":{"externalIP":"192.168.80.83","protocol":"icmp","sel":0},"endpoints":[]},
 {"serviceArguments":{"externalIP":"0.0.0.0","port":0,"protocol":"tcp","snat":true,"block":536870913},"endpoints":[]},
 {"serviceArguments":{"externalIP":"192.168.80.84","port":443,"protocol":"tcp","sel":1,"mode":0,"security":1,"block":7},
  "endpoints":[{"endpointIP":"192.168.81.12","targetPort":8443,"weight":1,"state":"active","counter":"12:3456"}]}
]}"#;

#[test]
fn loxilb() {
    let imported = import::loxilb(LOXI).unwrap();
    let (config, _) = config::parse("imported.toml", &imported.text).unwrap();
    assert_eq!((imported.services, config.services.len()), (3, 3));
    let (api, media) = (&config.services[0], &config.services[1]);
    assert_eq!(api.name, "k8s \"api\"");
    assert_eq!((api.algorithm, api.idle_timeout.as_secs()), (config::Algorithm::RoundRobin, 300));
    assert_eq!(api.endpoints.len(), 2);
    assert_eq!((api.mode.name(), media.mode.name()), ("dnat", "full-nat"));
    assert_eq!((media.first_port, media.last_port, media.persistence.as_secs()), (5000, 5010, 120));
    assert_eq!(media.endpoints[0].weight, 1, "round-robin looks at none");
    // Only its sources may use it.
    let rules: Vec<_> = config.firewall.iter().map(|rule| (rule.action, rule.source.len())).collect();
    assert_eq!(rules, [(config::Action::Allow, 1), (config::Action::Drop, 0)]);
    assert_eq!(config.firewall[1].destination_port, Some((6443, 6443)));
    let notes = imported.notes.join("\n");
    for word in [
        "bgp",
        "weight 5",
        "lbAttr[2]: mode 4, fullproxy",
        "lbAttr[3]: protocol \"icmp\"",
        "lbAttr[4]: a source NAT rule",
        "security 1: TLS passes",
        "block 7",
    ] {
        assert!(notes.contains(word), "{word:?} in {notes}");
    }
    for none in ["", "{}", "[1", "{\"lbAttr\": 3}"] {
        assert!(import::loxilb(none).is_err(), "{none:?}");
    }
    assert!(import::loxilb("{\"lbAttr\": [3, {}]}").is_ok_and(|imported| imported.services == 0));
}

#[test]
fn import_at_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (dump, file) = (folder.path().join("dump"), folder.path().join("pollux.toml"));
    for (format, text) in [("ipvsadm", IPVS), ("loxilb", LOXI)] {
        fs::write(&dump, text).unwrap();
        let out = Command::new(POLLUX).args(["import", format]).arg(&dump).output().unwrap();
        assert!(out.status.success());
        let err = String::from_utf8(out.stderr).unwrap();
        assert!(
            err.starts_with("pollux: ") && err.contains("services translated; not translated:\n  "),
            "{err}"
        );
        let text = String::from_utf8(out.stdout).unwrap();
        fs::write(&file, &text).unwrap();
        let check = Command::new(POLLUX).args(["check", "--config"]).arg(&file).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let out = Command::new(POLLUX).args(["import", "--json", format]).arg(&dump).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!((json["configuration"].as_str(), out.stderr.len()), (Some(&*text), 0));
        assert_eq!(
            (&json["services"], json["not_translated"].as_array().unwrap().len()),
            (&3.into(), err.lines().count() - 1)
        );
    }
    let out = Command::new(POLLUX).args(["import", "loxilb", "/nonexistent"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8(out.stderr).unwrap().starts_with("pollux: /nonexistent: "));
}

#[test]
fn completions_and_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let out = Command::new(POLLUX).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success());
        for word in ["flows", "endpoints", "socket"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(Command::new(POLLUX).args(["completions", "dos"]).output().unwrap().status.code(), Some(2));
    let script = Command::new(POLLUX).args(["completions", "bash"]).output().unwrap().stdout;
    let syntax = Command::new("bash").args(["-n", "-c"]).arg(String::from_utf8(script).unwrap()).status();
    assert!(syntax.unwrap().success(), "bash does not understand it");

    let folder = tempfile::tempdir().unwrap();
    assert!(Command::new(POLLUX).arg("man").arg(folder.path()).status().unwrap().success());
    for (page, word) in [("pollux.1", "EXTRA"), ("pollux-flows.1", "limit"), ("pollux-trace.1", "PACKET")] {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.starts_with(".ie") && text.contains(word), "{page}: {text}");
    }
    let out = Command::new(POLLUX).args(["man", "/nonexistent"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
}
