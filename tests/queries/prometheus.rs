//! A Prometheus, and what it answers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// One sample: its labels without those of the scrape (`__name__`, `job`, `instance`), and its value.
pub type Samples = BTreeMap<BTreeMap<String, String>, f64>;

pub struct Prometheus {
    child: Child,
    listen: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes both each second, with all rules of `config/prometheus`, evaluated every two seconds, alerts without
    /// delay.
    pub fn start(dir: &Path, port: u16, engine: SocketAddr, ledger: SocketAddr) -> Self {
        fs::create_dir_all(dir).unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus/rules");
        for entry in fs::read_dir(rules).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let text: Vec<_> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("for:"))
                .map(
                    |line| if line.trim_start().starts_with("interval:") { "    interval: 2s" } else { line },
                )
                .collect();
            fs::write(dir.join(path.file_name().unwrap()), text.join("\n")).unwrap();
        }
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 30s }}\nrule_files: ['*.yml']\n\
             scrape_configs:\n\
             - {{ job_name: loxilb-enterprise, metrics_path: /netlox/v1/metrics, static_configs: [{{ targets: ['{engine}'] }}] }}\n\
             - {{ job_name: ledger, static_configs: [{{ targets: ['{ledger}'] }}] }}\n\
             - {{ job_name: prometheus, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}\n"
        );
        let file = dir.join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "prometheus"])
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { child, listen };
        let deadline = Instant::now() + Duration::from_secs(30);
        while prometheus.query("sum(up)", None).ok().and_then(|s| s.into_values().next()) != Some(3.0) {
            let log = fs::read_to_string(dir.join("log")).unwrap();
            assert!(Instant::now() < deadline, "Prometheus does not scrape all: {log}");
            std::thread::sleep(Duration::from_millis(200));
        }
        prometheus
    }

    /// An instant query at a time (none: now).
    pub fn query(&self, promql: &str, at: Option<f64>) -> Result<Samples, String> {
        let time = at.map_or_else(String::new, |at| format!("&time={at}"));
        let answer = self.get(&format!("/api/v1/query?query={}{time}", escaped(promql)))?;
        let data = &answer["data"];
        let result = data["result"].as_array().ok_or("no result")?;
        if data["resultType"] == "scalar" {
            return Ok(Samples::from([(BTreeMap::new(), number(&data["result"][1])?)]));
        }
        let mut samples = Samples::new();
        for series in result {
            let mut labels: BTreeMap<String, String> =
                serde_json::from_value(series["metric"].clone()).map_err(|e| e.to_string())?;
            // Of a selector over several metrics, the name is what tells them apart.
            if !promql.contains("__name__") {
                labels.retain(|name, _| name != "__name__");
            }
            labels.retain(|name, _| name != "job" && name != "instance");
            if samples.insert(labels, number(&series["value"][1])?).is_some() {
                return Err(format!("two series with the same labels: {answer}"));
            }
        }
        Ok(samples)
    }

    /// The values of a label over the series that a selector matches.
    pub fn label_values(&self, label: &str, selector: &str) -> Result<Vec<String>, String> {
        let answer = self.get(&format!("/api/v1/label/{label}/values?match[]={}", escaped(selector)))?;
        serde_json::from_value(answer["data"].clone()).map_err(|e| e.to_string())
    }

    /// Rules that Prometheus could not evaluate, each with the reason; and how many there are.
    pub fn rules(&self) -> (usize, Vec<String>) {
        let answer = self.get("/api/v1/rules").unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        let sick = rules.iter().filter(|rule| rule["health"] != "ok");
        (rules.len(), sick.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect())
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let talk = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.listen)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = talk().map_err(|e| e.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let answer: Value = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer),
            _ => Err(answer["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("no number: {value}"))
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
        .collect()
}
