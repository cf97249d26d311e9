//! `pollux run` as a process in a namespace.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::{Namespace, signal};
use crate::scrape::http_get;

/// Where the engine's HTTP listener is, in its own namespace.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// A running engine.
pub struct Engine {
    child: Child,
    file: PathBuf,
    log: PathBuf,
}

impl Engine {
    /// Starts it with this configuration; returns once `/readyz` says so.
    pub fn start(ns: &Namespace, dir: &Path, config: &str) -> Self {
        let mut engine = Self::spawn(ns, dir, config);
        engine.wait_until_ready(ns);
        engine
    }

    /// Starts it with this configuration.
    pub fn spawn(ns: &Namespace, dir: &Path, config: &str) -> Self {
        Self::spawn_by(ns, dir, config, &[env!("CARGO_BIN_EXE_pollux")], &[])
    }

    /// The same, as this command line starts it, which ends with the program; with these variables.
    pub fn spawn_by(
        ns: &Namespace,
        dir: &Path,
        config: &str,
        words: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let file = dir.join("pollux.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let log = dir.join("pollux.log");
        let out = std::fs::File::create(&log).expect("a log file");
        let child = ns
            .command(words[0])
            .args(&words[1..])
            .args(["run", "--config"])
            .arg(&file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("pollux starts");
        Self { child, file, log }
    }

    /// Returns once `/readyz` says so.
    pub fn wait_until_ready(&mut self, ns: &Namespace) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !http_get(ns, METRICS, "/readyz").is_ok_and(|(status, _)| status == 200) {
            if let Some(status) = self.child.try_wait().expect("its status") {
                panic!("pollux ended with {status}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "pollux is not ready after 30 s: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for an end that it finds for itself: its status, and what it has said.
    #[allow(dead_code, reason = "not every lab has devices that cannot be had")]
    pub fn outcome(&mut self, patience: Duration) -> Option<(ExitStatus, String)> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return Some((status, self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Gives it another configuration, and says so.
    #[allow(dead_code, reason = "not every lab reloads")]
    pub fn reload(&self, config: &str) {
        std::fs::write(&self.file, config).expect("a configuration file");
        signal(self.child.id(), Signal::HUP);
    }

    /// Its configuration file.
    #[allow(dead_code, reason = "not every lab changes it")]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its process.
    #[allow(dead_code, reason = "not every lab looks for what a process leaves")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal and waits for the end; panics where that takes more than `patience`.
    pub fn stop(mut self, sent: Signal, patience: Duration) -> ExitStatus {
        signal(self.child.id(), sent);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(Instant::now() < deadline, "still there {patience:?} after {sent:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM, and exit status 0.
    pub fn finish(self) {
        let log = self.log.clone();
        let status = self.stop(Signal::TERM, Duration::from_secs(10));
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{said}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- pollux said:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
