//! A real Prometheus that scrapes the engine.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::{Namespace, signal};
use crate::scrape::http_get;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

/// A running Prometheus.
pub struct Prometheus(Child);

impl Prometheus {
    /// Starts one that scrapes `target` each second.
    #[allow(dead_code, reason = "not every lab scrapes so seldom")]
    pub fn start(ns: &Namespace, dir: &Path, target: SocketAddr) -> Self {
        Self::start_as(ns, dir, target, "1s", None)
    }

    /// The same, with a file of alerts.
    #[allow(dead_code, reason = "not every lab has alerts")]
    pub fn start_with_rules(ns: &Namespace, dir: &Path, target: SocketAddr, rules: Option<&Path>) -> Self {
        Self::start_as(ns, dir, target, "1s", rules)
    }

    /// Starts one that scrapes `target` at this interval.
    pub fn start_as(
        ns: &Namespace,
        dir: &Path,
        target: SocketAddr,
        interval: &str,
        rules: Option<&Path>,
    ) -> Self {
        let rules = rules.map_or_else(String::new, |file| format!("rule_files: [{}]\n", file.display()));
        let prometheus = Self::spawn(ns, dir, target, interval, (&rules, ""));
        let deadline = Instant::now() + Duration::from_secs(30);
        while prometheus.query(ns, "up") != Some(1.0) {
            assert!(Instant::now() < deadline, "Prometheus does not scrape {target}");
            std::thread::sleep(Duration::from_millis(200));
        }
        prometheus
    }

    /// Starts one with these rules before its job and that at the job's end, and waits for nothing.
    pub fn spawn(
        ns: &Namespace,
        dir: &Path,
        target: SocketAddr,
        interval: &str,
        (rules, job): (&str, &str),
    ) -> Self {
        let config = dir.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "{rules}scrape_configs:\n  - job_name: pollux\n    scrape_interval: {interval}\n    scrape_timeout: {interval}\n    \
                 static_configs: [{{ targets: ['{target}'] }}]\n{job}"
            ),
        )
        .expect("prometheus.yml");
        Self::launch(ns.command("prometheus"), dir, &config)
    }

    /// Starts one with this configuration as it is, where the hosts that it names are found in `hosts`, and waits for nothing.
    #[allow(dead_code, reason = "few labs have a configuration that others wrote")]
    pub fn spawn_as_it_is(ns: &Namespace, dir: &Path, config: &Path, hosts: &Path) -> Self {
        let mut command = ns.command("unshare");
        let script = r#"mount --bind "$1" /etc/hosts; shift; exec prometheus "$@""#;
        command.args(["--mount", "bash", "-euc", script, "bash"]).arg(hosts);
        Self::launch(command, dir, config)
    }

    fn launch(mut command: Command, dir: &Path, config: &Path) -> Self {
        let log = std::fs::File::create(dir.join("prometheus.log")).expect("a log file");
        let child = command
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

    /// The values of a range query that gives one series: Unix times, both included, and the step in seconds.
    #[allow(clippy::unused_self)] // Only a running one can be asked.
    #[allow(dead_code, reason = "not every lab asks")]
    pub fn query_range(&self, ns: &Namespace, promql: &str, (from, to): (f64, f64), step: f64) -> Vec<f64> {
        let path = format!("/api/v1/query_range?query={}&start={from}&end={to}&step={step}", escaped(promql));
        let (status, body) = http_get(ns, LISTEN, &path).unwrap_or_else(|e| panic!("{promql}: {e}"));
        assert_eq!(status, 200, "{promql}: {body}");
        let answer: serde_json::Value = serde_json::from_str(&body).expect("Prometheus answers in JSON");
        let result = answer["data"]["result"].as_array().expect("a matrix");
        assert!(result.len() <= 1, "more than one series: {body}");
        let values = result.first().and_then(|series| series["values"].as_array());
        let value = |sample: &serde_json::Value| sample[1].as_str().and_then(|text| text.parse().ok());
        values.into_iter().flatten().filter_map(value).collect()
    }

    /// The value of an instant query that gives one series.
    pub fn query(&self, ns: &Namespace, promql: &str) -> Option<f64> {
        self.query_with(ns, promql, "")
    }

    /// The same as of a time.
    #[allow(dead_code, reason = "not every lab asks for the past")]
    pub fn query_at(&self, ns: &Namespace, promql: &str, time: f64) -> Option<f64> {
        self.query_with(ns, promql, &format!("&time={time}"))
    }

    #[allow(clippy::unused_self)] // Only a running one can be asked.
    fn query_with(&self, ns: &Namespace, promql: &str, more: &str) -> Option<f64> {
        let path = format!("/api/v1/query?query={}{more}", escaped(promql));
        let (status, body) = http_get(ns, LISTEN, &path).ok()?;
        if status != 200 {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_str(&body).expect("Prometheus answers in JSON");
        let result = answer["data"]["result"].as_array()?;
        assert!(result.len() <= 1, "more than one series: {body}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }
}

fn escaped(promql: &str) -> String {
    let escape =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") };
    promql.bytes().map(escape).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        signal(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}
