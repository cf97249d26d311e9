//! A real Prometheus that scrapes the engine.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::{Namespace, signal};
use crate::scrape::http_get;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

/// A running Prometheus.
pub struct Prometheus(Child);

impl Prometheus {
    /// Starts one that scrapes `target` each second.
    pub fn start(ns: &Namespace, dir: &Path, target: SocketAddr) -> Self {
        Self::start_with_rules(ns, dir, target, None)
    }

    /// The same, with a file of alerts.
    pub fn start_with_rules(ns: &Namespace, dir: &Path, target: SocketAddr, rules: Option<&Path>) -> Self {
        let rules = rules.map_or_else(String::new, |file| format!("rule_files: [{}]\n", file.display()));
        let prometheus = Self::spawn(ns, dir, target, &rules, "");
        let deadline = Instant::now() + Duration::from_secs(30);
        while prometheus.query(ns, "up") != Some(1.0) {
            assert!(Instant::now() < deadline, "Prometheus does not scrape {target}");
            std::thread::sleep(Duration::from_millis(200));
        }
        prometheus
    }

    /// Starts one with this at the beginning of its configuration and that at the end of its job, and waits for nothing.
    pub fn spawn(ns: &Namespace, dir: &Path, target: SocketAddr, rules: &str, job: &str) -> Self {
        let config = dir.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "{rules}scrape_configs:\n  - job_name: pollux\n    scrape_interval: 1s\n    scrape_timeout: 1s\n    \
                 static_configs: [{{ targets: ['{target}'] }}]\n{job}"
            ),
        )
        .expect("prometheus.yml");
        let log = std::fs::File::create(dir.join("prometheus.log")).expect("a log file");
        let child = ns
            .command("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={LISTEN}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        Self(child)
    }

    /// The value of an instant query that gives one series.
    #[allow(clippy::unused_self)] // Only a running one can be asked.
    pub fn query(&self, ns: &Namespace, promql: &str) -> Option<f64> {
        let escaped: String = promql
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
            .collect();
        let (status, body) = http_get(ns, LISTEN, &format!("/api/v1/query?query={escaped}")).ok()?;
        if status != 200 {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_str(&body).expect("Prometheus answers in JSON");
        let result = answer["data"]["result"].as_array()?;
        assert!(result.len() <= 1, "more than one series: {body}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        signal(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}
