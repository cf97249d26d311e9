//! A running engine whose traffic is a capture: everything that is sent is known, and nothing comes after it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pollux::addr::Mac;
use pollux::pcap::PcapWriter;
use pollux::wire::build::{Ip, eth};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");

/// Of DPDK's first port that plays a capture.
const WAN: Mac = Mac([0x02, 0x70, 0x63, 0x61, 0x70, 0x00]);
const CLIENTS: Mac = Mac([2, 0, 0, 0, 0, 9]);

pub const WEB: (&str, u16) = ("203.0.113.100", 80);
pub const DNS: (&str, u16) = ("203.0.113.100", 53);

fn ip(from: &str, to: &str) -> Ip {
    eth(CLIENTS, WAN).ip(from, to)
}

/// Each client's connections to the web service: SYN, ACK; a talk over UDP; what the firewall drops; what is no service's.
pub fn traffic() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for n in 0..40u16 {
        let client = format!("198.51.100.{}", 1 + n % 4);
        let tcp = || ip(&client, WEB.0).tcp(4000 + n, WEB.1);
        frames.push(tcp().syn().padded());
        frames.push(tcp().ack(1).payload(vec![7; usize::from(n) * 10]).padded());
    }
    for n in 0..5 {
        frames.push(ip("198.51.100.77", DNS.0).udp(5000 + n, DNS.1).payload(b"who").padded());
    }
    for _ in 0..3 {
        frames.push(ip("192.0.2.66", WEB.0).tcp(6000, WEB.1).syn().padded());
    }
    frames.push(ip("198.51.100.1", WEB.0).tcp(6000, 81).syn().padded());
    frames
}

pub struct Running {
    pub child: Child,
    pub folder: tempfile::TempDir,
    pub metrics: SocketAddr,
}

impl Running {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PcapWriter::new(fs::File::create(folder.path().join("in.pcap")).unwrap()).unwrap();
        for (n, frame) in traffic().iter().enumerate() {
            writer.write(n as u64 * 1_000, frame.len() as u32, frame).unwrap();
        }
        writer.finish().unwrap();
        let metrics = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child: Command::new("true").spawn().unwrap(), folder, metrics };
        running.child.wait().unwrap();
        fs::write(running.file(), running.text()).unwrap();
        let mut child = Command::new(POLLUX)
            .args(["run", "--config"])
            .arg(running.file())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        running.child = child;
        let mut all = String::new();
        while !all.contains("ready:") {
            assert!(said.read_line(&mut all).unwrap() > 0, "it does not start:\n{all}");
        }
        let (_, address) = all.rsplit_once("http://").unwrap();
        running.metrics = address.trim_end().strip_suffix("/metrics").unwrap().parse().unwrap();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut said, &mut std::io::sink());
        });
        running.settle();
        running
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("pollux.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("p.sock")
    }

    fn text(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            r#"
[engine]
workers = [0, 0]
hugepages = false
memory_mb = 128
max_flows = 1024
idle = "backoff"
[[port]]
name = "wan"
device = "net_pcap0,rx_pcap={folder}/in.pcap,tx_pcap={folder}/wan.pcap"
role = "client"
addresses = ["203.0.113.2/24"]
queues = 1
rx_descriptors = 256
tx_descriptors = 256
[[port]]
name = "lan"
device = "net_null0,no-rx=1"
role = "server"
addresses = ["10.1.0.1/24"]
queues = 1
rx_descriptors = 256
tx_descriptors = 256
[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"
[[neighbor]]
address = "10.1.0.10"
mac = "02:00:00:00:00:10"
port = "lan"
[[neighbor]]
address = "10.1.0.11"
mac = "02:00:00:00:00:11"
port = "lan"
[metrics]
listen = "127.0.0.1:0"
tick = "1s"
[control]
socket = "{}"
[[firewall]]
name = "block \"them\""
action = "drop"
source = ["192.0.2.0/24"]
protocol = "tcp"
destination_port = "1-1023"
port = "wan"
[[firewall]]
name = "pass"
action = "allow"
protocol = "udp"
[[service]]
name = "web"
vip = "203.0.113.100:80"
protocol = "tcp"
algorithm = "round-robin"
[[service.endpoint]]
address = "10.1.0.10:8080"
[[service.endpoint]]
address = "10.1.0.11:8080"
[[service.endpoint]]
address = "10.1.0.12:8080"
state = "down"
[[service]]
name = "dns"
vip = "203.0.113.100:53"
protocol = "udp"
[[service.endpoint]]
address = "10.1.0.10:53"
weight = 3
"#,
            self.socket().display()
        )
    }

    /// Until all traffic has been counted, and is pending no more.
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let samples = self.samples();
            let rx = samples.get("pollux_rx_packets_total").copied().unwrap_or_default();
            let pending =
                samples.iter().filter(|(name, _)| name.starts_with("pollux_pending")).map(|(_, v)| v);
            if rx == traffic().len() as f64 && pending.sum::<f64>() == 0.0 && samples["new_flow_count"] == 0.0
            {
                return;
            }
            assert!(Instant::now() < deadline, "the traffic has not come: {rx}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Exit status, standard output, standard error.
    pub fn ask(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(POLLUX);
        command.args(args).arg("--socket").arg(self.socket());
        let out = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let (status, out, err) = self.ask(&[args, &["--json"]].concat());
        assert_eq!((status, err.as_str()), (0, ""), "{args:?}");
        serde_json::from_str(&out).unwrap()
    }

    /// Status and body over HTTP.
    pub fn http(&self, method: &str, path: &str) -> (String, String) {
        talk(TcpStream::connect(self.metrics).unwrap(), method, path, "")
    }

    /// Status and body over the admin socket.
    pub fn admin(&self, method: &str, path: &str) -> (String, String) {
        self.tell(method, path, "")
    }

    /// The same, with a JSON body.
    pub fn tell(&self, method: &str, path: &str, json: &str) -> (String, String) {
        talk(UnixStream::connect(self.socket()).unwrap(), method, path, json)
    }

    /// The exposition's samples by name and labels.
    pub fn samples(&self) -> HashMap<String, f64> {
        let deadline = Instant::now() + Duration::from_secs(20);
        // Late on a machine that is too busy, and another one soon.
        let text = loop {
            let (status, text) = self.http("GET", "/metrics");
            if status == "200" {
                break text;
            }
            assert!(status == "503" && Instant::now() < deadline, "{status}: {text}");
            std::thread::sleep(Duration::from_millis(100));
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }
}

fn talk(mut stream: impl Read + Write, method: &str, path: &str, json: &str) -> (String, String) {
    let body = match json {
        "" => "\r\n".to_owned(),
        json => format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}", json.len()),
    };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{body}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let is_text = std::str::from_utf8(&answer).is_ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    // A capture's stream is no text, and stays as it came.
    let body = if is_text && head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    (answer[9..12].to_owned(), body)
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
        if length == 0 {
            break;
        }
    }
    whole
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
