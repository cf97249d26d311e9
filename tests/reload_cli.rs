//! `pollux reload`, `diff`, `drain`, `undrain`, SIGHUP, the watched file and SIGTERM against a running engine: what they do, say
//! and exit with.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");

struct Running {
    child: Child,
    folder: tempfile::TempDir,
    metrics: SocketAddr,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child: Command::new("true").spawn().unwrap(), folder, metrics };
        running.child.wait().unwrap();
        running.write(&running.text());
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
        running
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pollux.toml")
    }

    fn socket(&self) -> String {
        self.folder.path().join("p.sock").display().to_string()
    }

    fn text(&self) -> String {
        format!(
            r#"
[engine]
hugepages = false
memory_mb = 128
max_flows = 1024
idle = "backoff"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["203.0.113.2/24"]
rx_descriptors = 256
tx_descriptors = 256
[metrics]
listen = "127.0.0.1:0"
tick = "1s"
[control]
socket = "{}"
[[service]]
name = "web"
vip = "203.0.113.100:80"
[[service.endpoint]]
address = "203.0.113.10:80"
[[service.endpoint]]
address = "203.0.113.11:80"
weight = 3
"#,
            self.socket()
        )
    }

    fn write(&self, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    /// Exit status, standard output, standard error.
    fn ask(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(POLLUX);
        command.args(args).args(["--socket", &self.socket()]);
        if args[0] == "diff" {
            command.arg("--config").arg(self.file());
        }
        let out = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    /// Whether the engine goes by the file, sooner or later.
    #[track_caller]
    fn follows(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.ask(&["diff"]).1.contains("would change nothing") {
            assert!(Instant::now() < deadline, "the file was not read");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn status_of(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn reload_diff_drain_and_the_end() {
    let mut engine = Running::start();
    let text = engine.text();

    let nothing = (0, "nothing has changed\nconfiguration 2 is in force\n".to_owned(), String::new());
    assert_eq!(engine.ask(&["reload"]), nothing);

    // What diff says, reload does.
    engine.write(&text.replace("weight = 3", "weight = 4"));
    let change = "~ endpoint web 203.0.113.11:80: weight 3 -> 4\n";
    assert_eq!(engine.ask(&["diff"]), (0, change.to_owned(), String::new()));
    assert_eq!(engine.ask(&["reload"]).1, format!("{change}configuration 3 is in force\n"));
    assert_eq!(engine.ask(&["diff"]).1, "a reload would change nothing\n");
    let (status, json, _) = engine.ask(&["reload", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &json["generation"], &json["changes"]), (0, &4.into(), &serde_json::json!([])));

    // A bad file.
    engine.write(&text.replace("weight = 3", "weigth = 3"));
    let (status, out, err) = engine.ask(&["reload"]);
    assert_eq!((status, out.as_str()), (1, ""));
    let mut lines = err.lines();
    assert_eq!(lines.next(), Some("pollux: the configuration is not valid; the running one stays"));
    assert!(err.contains("pollux.toml:25:1: error: unknown key `weigth`") && err.contains("^^^^^^"), "{err}");
    let (status, _, err) = engine.ask(&["diff"]);
    assert!(status == 2 && err.contains("unknown key `weigth`"), "{status} {err}");

    // What takes a restart.
    engine.write(&text.replace("max_flows = 1024", "max_flows = 2048"));
    let (status, _, err) = engine.ask(&["reload"]);
    let says =
        "pollux: this needs a restart; the running configuration stays\n  ~ engine: max_flows 1024 -> 2048\n";
    assert_eq!((status, err.as_str()), (1, says));
    let (status, out, _) = engine.ask(&["diff"]);
    assert_eq!(status, 0);
    assert!(out.contains("weight 4 -> 3") && out.contains("only a restart"), "{out}");

    // Drained at run time, over a reload.
    engine.write(&text);
    let drained = "web 203.0.113.10:80: drain\n";
    assert_eq!(engine.ask(&["drain", "web", "203.0.113.10"]), (0, drained.to_owned(), String::new()));
    let (status, out, _) = engine.ask(&["reload"]);
    assert!(
        status == 0 && out.contains("drained at run time, whatever the file says: web 203.0.113.10:80"),
        "{out}"
    );
    let (status, out, err) = engine.ask(&["drain", "web", "203.0.113.12:80"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "pollux: service \"web\" has no endpoint \"203.0.113.12:80\"; it has 203.0.113.10:80, 203.0.113.11:80\n"
    );
    assert_eq!(engine.ask(&["undrain", "web", "203.0.113.10:80"]).1, "web 203.0.113.10:80: up\n");
    assert_eq!(engine.ask(&["undrain", "web", "203.0.113.10:80"]).0, 1);

    // Another file, which is the engine's from then on.
    let other = engine.folder.path().join("other.toml");
    fs::write(&other, text.replace("weight = 3", "weight = 5")).unwrap();
    let (status, out, _) = engine.ask(&["reload", "--config", other.to_str().unwrap()]);
    assert!(status == 0 && out.contains("weight 3 -> 5"), "{out}");
    assert_eq!(engine.ask(&["reload"]).1, "nothing has changed\nconfiguration 7 is in force\n");
    let (status, ..) = engine.ask(&["reload", "--config", engine.file().to_str().unwrap()]);
    assert_eq!(status, 0);

    // SIGHUP, and the watched file.
    engine.write(&text.replace("weight = 3", "weight = 6"));
    engine.signal(Signal::HUP);
    engine.follows();
    let watching = text.replace("[control]\n", "[control]\nwatch = true\n");
    engine.write(&watching);
    assert_eq!(engine.ask(&["reload"]).0, 0);
    std::thread::sleep(Duration::from_millis(1200));
    for weight in [7, 8] {
        engine.write(&watching.replace("weight = 3", &format!("weight = {weight}")));
        engine.follows();
    }

    // The end: not ready at once, there for the delay.
    let delayed = watching.replace("[engine]\n", "[engine]\nshutdown_delay = \"5s\"\n");
    engine.write(&delayed);
    engine.follows();
    assert_eq!(engine.status_of("/readyz"), "200");
    let began = Instant::now();
    engine.signal(Signal::TERM);
    while engine.status_of("/readyz") != "503" {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(engine.status_of("/metrics"), "200");
    assert_eq!(engine.ask(&["diff"]).0, 0, "it runs yet");
    assert_eq!(engine.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(5));

    for args in [&["reload"][..], &["drain", "web", "203.0.113.10:80"]] {
        let (status, out, err) = engine.ask(args);
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(err.starts_with("pollux: no engine is running here"), "{err}");
    }
}
