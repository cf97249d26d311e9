//! `pollux demo` as a user without privileges runs it: every public family is there and moves, every scrape is sound, and it
//! ends as it should.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use net::Namespace;
use scrape::{Scrape, http_get};
use tempfile::TempDir;

#[allow(dead_code)]
#[path = "lab/scrape.rs"]
mod scrape;

/// In place of the lab's: this process is where the demo is.
mod net {
    pub struct Namespace;

    impl Namespace {
        pub fn inside<T>(&self, f: impl FnOnce() -> T) -> T {
            f()
        }
    }
}

/// Counters, and gauges that only grow: more at each tick.
const GROWING: &str = "total_requests:counter total_requests_per_service:counter \
    processed_bytes_total:counter processed_packets_total:counter \
    processed_tcp_bytes:counter processed_udp_bytes:counter processed_sctp_bytes:counter \
    processed_tcp_packets:counter processed_udp_packets:counter processed_sctp_packets:counter \
    service_traffic_bytes:counter service_traffic_packets:counter endpoint_traffic_bytes:counter \
    client_traffic_packets:counter lb_rule_interaction_bytes:counter lb_rule_interaction_packets:counter \
    total_fw_drops:gauge total_fw_drops_per_rule:gauge";
/// Those that grow, but not at each tick, and gauges that go up and down: more than 0, and not always the same.
const MOVING: &str = "total_errors:counter total_errors_per_service:counter \
    active_conntrack_count:gauge active_flow_count_tcp:gauge active_flow_count_udp:gauge \
    active_flow_count_sctp:gauge inactive_flow_count:gauge new_flow_count:gauge system_cpu_utilization:gauge \
    system_memory_utilization:gauge total_load_dists_per_service:gauge endpoint_load_dists_per_service:gauge \
    rps_requests:gauge rps_pps:gauge rps_bps:gauge rps_eps:gauge rps_1m_avg:gauge rps_1m_peak:gauge \
    consumed_lcus:gauge";
/// As configured, and the disk: more than 0.
const STANDING: &str = "lb_rule_count:gauge firewall_rules_count:gauge healthy_endpoints_count:gauge \
    unhealthy_endpoints_count:gauge system_disk_utilization:gauge";

fn families(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.split_whitespace().map(|word| word.split_once(':').unwrap())
}

/// A demo that runs, as nobody where the tests run as root.
struct Demo {
    child: Child,
    _binary: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        // A copy that anybody can read: the build's folder may be closed to others.
        let binary =
            tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let path = binary.path().join("pollux");
        // By a process of its own: a child that another test starts meanwhile would hold a file open for writing that this one wrote,
        // and what is open for writing cannot be executed.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_pollux")).arg(&path).status().unwrap();
        assert!(copied.success());
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(&path);
            // Of the user that this is no more.
            command.env_remove("XDG_RUNTIME_DIR").env_remove("HOME");
            command
        } else {
            Command::new(&path)
        };
        command.arg("demo").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), _binary: binary }
    }

    /// Where it says that its metrics are.
    fn address(&mut self) -> SocketAddr {
        let stdout = BufReader::new(self.child.stdout.take().unwrap());
        for line in stdout.lines().map_while(Result::ok) {
            if let Some(at) = line.find("http://")
                && let Some(address) = line[at + 7..].strip_suffix("/metrics")
            {
                return address.parse().unwrap();
            }
        }
        panic!("no address was printed; stderr: {}", self.stderr());
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }

    fn end(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // No error where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    uids.split_whitespace().nth(1) == Some("0")
}

fn sound(address: SocketAddr) -> Scrape {
    let scrape = Scrape::fetch(&Namespace, address);
    assert_eq!(scrape.violations(), "");
    scrape
}

fn taken(scrape: &Scrape) -> f64 {
    scrape.value("pollux_snapshot_timestamp_seconds")
}

#[test]
fn after_half_a_minute_every_family_has_moved() {
    let mut demo = Demo::start(&["--for", "36s", "--listen", "127.0.0.1:0"]);
    let address = demo.address();
    let started = Instant::now();

    let mut scrapes = vec![sound(address)];
    while started.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(900));
        scrapes.push(sound(address));
    }
    let at_thirty = scrapes.len() - 1;
    let next_tick = taken(&scrapes[at_thirty]) + 0.5;
    while scrapes.last().is_none_or(|last| taken(last) < next_tick) {
        assert!(started.elapsed() < Duration::from_secs(34), "no tick");
        sleep(Duration::from_millis(100));
        scrapes.push(sound(address));
    }
    let (first, then, last) = (&scrapes[0], &scrapes[at_thirty], &scrapes[scrapes.len() - 1]);

    for (family, kind) in families(GROWING).chain(families(MOVING)).chain(families(STANDING)) {
        assert_eq!(then.kind(family), Some(kind), "{family}");
        assert!(scrapes.iter().any(|scrape| scrape.sum(family) > 0.0), "{family} is 0");
    }
    for (family, _) in families(GROWING) {
        assert!(then.sum(family) > first.sum(family), "{family} has not grown in half a minute");
        assert!(last.sum(family) > then.sum(family), "{family} has not grown in a tick");
    }
    for (family, _) in families(MOVING) {
        let moved = scrapes.iter().any(|scrape| {
            // Shares sum up to 1: their series move.
            scrape.family(family).iter().any(|(labels, value)| {
                let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                last.find(family, &labels) != Some(*value)
            })
        });
        assert!(moved, "{family} has not moved");
    }

    // All that the demo promises to show.
    let at = |family: &str, labels: &[(&str, &str)]| then.get(family, labels);
    for error in ["abort", "handshake_refused", "handshake_timed_out", "server_reset"] {
        assert!(at("pollux_connection_errors_total", &[("error", error)]) > 0.0, "{error}");
    }
    for reason in ["firewall", "no_endpoint", "no_service", "unknown_connection"] {
        assert!(at("pollux_dropped_packets_total", &[("reason", reason)]) > 0.0, "{reason}");
    }
    for rule in ["block_icmp", "block_scanners"] {
        assert!(at("total_fw_drops_per_rule", &[("fw_rule", rule)]) > 0.0, "{rule}");
    }
    assert!(then.family("client_traffic_packets").len() > 40, "few clients");

    assert_eq!(demo.end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(demo.stderr(), "");
}

#[test]
fn ctrl_c_ends_it() {
    for signal in ["-INT", "-TERM"] {
        let mut demo = Demo::start(&["--listen", "127.0.0.1:0"]);
        let address = demo.address();
        let pages = ["/", "/metrics", "/netlox/v1/metrics", "/healthz", "/readyz"];
        for page in pages {
            let deadline = Instant::now() + Duration::from_secs(5);
            while http_get(&Namespace, address, page).unwrap().0 != 200 {
                assert!(Instant::now() < deadline, "{page}");
                sleep(Duration::from_millis(50));
            }
        }
        let pid = demo.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(demo.end(Duration::from_secs(10)).code(), Some(0), "{signal}");
        assert_eq!(demo.stderr(), "", "{signal}");
    }
}

#[test]
fn commands_ask_it_where_it_has_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    // The demo is another user's.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = folder.path().join("demo.sock");
    let socket = socket.to_str().unwrap();
    let mut demo = Demo::start(&["--listen", "127.0.0.1:0", "--socket", socket]);
    demo.address();
    let ask = |arguments: &[&str]| {
        let pollux = env!("CARGO_BIN_EXE_pollux");
        let out = Command::new(pollux).args(arguments).args(["--socket", socket]).output().unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    for command in ["status", "services", "endpoints", "firewall", "ports", "workers"] {
        assert!(ask(&[command]).lines().count() > 1, "{command}");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask(&["flows", "--service", "api"]).contains("203.0.113.100:443") {
        assert!(Instant::now() < deadline, "no connections");
        sleep(Duration::from_millis(100));
    }
    assert!(ask(&["top", "--once"]).contains("api"));
    ask(&["drain", "api", "10.1.0.20:8443"]);
    assert!(ask(&["endpoints"]).contains("drain"));
    ask(&["undrain", "api", "10.1.0.20:8443"]);
    let pid = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(demo.end(Duration::from_secs(10)).code(), Some(0));
    assert_eq!(demo.stderr(), "");
}

#[test]
fn a_busy_address_is_said_with_the_cure() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let mut demo = Demo::start(&["--for", "1s", "--listen", &address]);
    assert_eq!(demo.end(Duration::from_secs(10)).code(), Some(1));
    let said = demo.stderr();
    assert!(said.starts_with("pollux: ") && said.lines().count() == 1, "{said}");
    assert!(said.contains(&address) && said.contains("in use") && said.contains("--listen"), "{said}");
}
