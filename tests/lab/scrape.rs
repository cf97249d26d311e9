//! A scrape: the exposition fetched over HTTP, read into series, and what must hold for every one of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use crate::net::Namespace;

/// Status and body of an HTTP GET from within a namespace.
pub fn http_get(ns: &Namespace, to: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    ns.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // HTTP/1.0: no chunks in the answer.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {to}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok());
        Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
    })
}

/// Labels of a series in the order of their names.
pub type Labels = BTreeMap<String, String>;

/// One snapshot.
#[derive(Debug, Default, Clone)]
pub struct Scrape {
    series: BTreeMap<String, Vec<(Labels, f64)>>,
    types: BTreeMap<String, String>,
}

impl Scrape {
    /// Fetches `/metrics`.
    pub fn fetch(ns: &Namespace, from: SocketAddr) -> Self {
        Self::newest(|| http_get(ns, from, "/metrics").unwrap_or_else(|e| panic!("scrape: {e}")))
    }

    /// What `/metrics` says, asked by `get`. On a machine that is too busy to take snapshots in time it says just that, for as
    /// long; whether it does when it has to is another test's.
    pub fn newest(get: impl Fn() -> (u16, String)) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (status, body) = get();
            if status == 200 {
                return Self::parse(&body);
            }
            let late = ["the newest snapshot is", "has not answered"].iter().any(|says| body.contains(says));
            assert!(status == 503 && late && Instant::now() < deadline, "{status}: {body}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A snapshot that was taken after this call and in which every series shows all that it has.
    #[allow(dead_code, reason = "not every lab waits for it")]
    pub fn settled(ns: &Namespace, from: SocketAddr) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let scrape = Self::fetch(ns, from);
            assert_eq!(scrape.violations(), "");
            // A whole tick later: the worker's counts of that tick lie wholly after the last packet.
            if scrape.value("pollux_snapshot_timestamp_seconds") > now + 1.0 && scrape.nothing_pending() {
                return scrape;
            }
            assert!(Instant::now() < deadline, "the metrics do not settle");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Reads text format 0.0.4.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "two TYPE lines for {name}");
            } else if !line.starts_with('#') && !line.is_empty() {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = match series.split_once('{') {
                    Some((name, rest)) => (name, labels(rest)),
                    None => (series, Labels::new()),
                };
                let value = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
                let family = scrape.series.entry(name.to_owned()).or_default();
                assert!(family.iter().all(|(l, _)| *l != labels), "a series twice: {series}");
                family.push((labels, value));
            }
        }
        scrape
    }

    /// The `# TYPE` of a family.
    pub fn kind(&self, family: &str) -> Option<&str> {
        self.types.get(family).map(String::as_str)
    }

    /// All series of a family; panics when it is not there at all.
    pub fn family(&self, family: &str) -> &[(Labels, f64)] {
        self.series.get(family).unwrap_or_else(|| panic!("no family {family}"))
    }

    /// The one series of a family that has these labels, if it is there.
    pub fn find(&self, family: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let matches = |l: &Labels| {
            l.len() == wanted.len() && wanted.iter().all(|(k, v)| l.get(*k).is_some_and(|x| x == v))
        };
        self.series.get(family)?.iter().find(|(l, _)| matches(l)).map(|(_, v)| *v)
    }

    /// The same; panics when it is not there.
    pub fn get(&self, family: &str, wanted: &[(&str, &str)]) -> f64 {
        self.find(family, wanted).unwrap_or_else(|| panic!("no series {family}{wanted:?}"))
    }

    /// The value of a family without labels.
    pub fn value(&self, family: &str) -> f64 {
        self.get(family, &[])
    }

    /// Sum over a family; 0 where it has no series.
    pub fn sum(&self, family: &str) -> f64 {
        self.series.get(family).map_or(0.0, |s| s.iter().map(|(_, v)| v).sum())
    }

    /// What was dropped, by reason.
    #[allow(dead_code, reason = "not every lab asks")]
    pub fn drops(&self) -> Vec<(&str, f64)> {
        let all = self.series.get("pollux_dropped_packets_total").into_iter().flatten();
        all.filter(|(_, n)| *n > 0.0).map(|(labels, n)| (labels["reason"].as_str(), *n)).collect()
    }

    fn retired(&self, family: &str) -> f64 {
        self.find("pollux_retired_total", &[("family", family)]).unwrap_or(0.0)
    }

    fn pending(&self, family: &str) -> f64 {
        self.find("pollux_pending", &[("family", family)]).unwrap_or(0.0)
    }

    /// Whether every client and pair series shows all that it has.
    pub fn nothing_pending(&self) -> bool {
        self.sum("pollux_pending") == 0.0
    }

    /// What is wrong with the conservation rules (the metrics' third ground rule); empty when nothing is.
    pub fn violations(&self) -> String {
        let mut wrong = String::new();
        let mut same = |what: &str, a: f64, b: f64| {
            if a != b {
                let _ = writeln!(wrong, "{what}: {a} against {b}");
            }
        };
        for (total, parts) in [
            ("total_requests", "total_requests_per_service"),
            ("total_errors", "total_errors_per_service"),
            ("processed_bytes_total", "service_traffic_bytes"),
            ("processed_packets_total", "service_traffic_packets"),
            ("processed_bytes_total", "endpoint_traffic_bytes"),
            ("processed_bytes_total", "lb_rule_interaction_bytes"),
            ("processed_packets_total", "lb_rule_interaction_packets"),
            ("processed_packets_total", "client_traffic_packets"),
            ("total_fw_drops", "total_fw_drops_per_rule"),
        ] {
            let sum = self.sum(parts) + self.retired(parts) + self.pending(parts);
            same(&format!("{total} = Σ {parts}"), self.value(total), sum);
        }
        // The packet ledger: each received packet is in exactly one place.
        let ledger = |terms: &[&str]| terms.iter().map(|t| self.sum(&format!("pollux_{t}"))).sum::<f64>();
        same(
            "received = forwarded + punted + consumed + dropped + held + in rings",
            self.value("pollux_rx_packets_total"),
            ledger(&[
                "forwarded_packets_total",
                "punted_packets_total",
                "consumed_packets_total",
                "dropped_packets_total",
                "held_packets",
                "handoff_ring_packets",
            ]),
        );
        same(
            "sent + refused by the device = forwarded + originated + injected + extra fragments",
            ledger(&["tx_packets_total", "tx_dropped_packets_total"]),
            ledger(&[
                "forwarded_packets_total",
                "originated_packets_total",
                "injected_packets_total",
                "extra_fragments_total",
            ]),
        );
        let active: f64 =
            ["tcp", "udp", "sctp"].map(|p| self.value(&format!("active_flow_count_{p}"))).iter().sum();
        same("active_conntrack_count = tcp + udp + sctp", self.value("active_conntrack_count"), active);
        for unit in ["packets", "bytes"] {
            let parts: f64 =
                ["tcp", "udp", "sctp"].map(|p| self.value(&format!("processed_{p}_{unit}"))).iter().sum();
            if self.value(&format!("processed_{unit}_total")) < parts {
                let _ =
                    writeln!(wrong, "processed_{unit}_total < Σ processed_{{tcp,udp,sctp}}_{unit} = {parts}");
            }
        }
        if self.value("total_errors") > self.value("total_requests") {
            wrong.push_str("total_errors > total_requests\n");
        }
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        for (labels, share) in self.series.get("endpoint_load_dists_per_service").into_iter().flatten() {
            *shares.entry(&labels["service"]).or_default() += share;
        }
        for (service, sum) in shares {
            if sum != 0.0 && (sum - 1.0).abs() > 1e-9 {
                let _ = writeln!(wrong, "endpoint shares of {service} sum to {sum}");
            }
        }
        wrong
    }
}

/// `name="value",…}` with the escapes of the text format.
fn labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some_and(|c| *c != '}') {
        let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert_eq!(chars.next(), Some('"'), "labels {text}");
        let mut value = String::new();
        loop {
            match chars.next().expect("a closing quote") {
                '"' => break,
                '\\' => match chars.next() {
                    Some('n') => value.push('\n'),
                    Some(c) => value.push(c),
                    None => panic!("labels {text}"),
                },
                c => value.push(c),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
    }
    labels
}
