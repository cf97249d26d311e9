//! A routing daemon in a namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::{Namespace, run, signal};

/// BIRD with a configuration and a control socket of its own.
pub struct Bird {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Bird {
    /// Starts it; returns once it answers.
    pub fn start(ns: &Namespace, dir: &Path, name: &str, config: &str) -> Self {
        let [conf, socket, log] =
            ["conf", "ctl", "log"].map(|suffix| dir.join(format!("bird-{name}.{suffix}")));
        std::fs::write(&conf, config).expect("bird's configuration");
        let out = std::fs::File::create(&log).expect("bird's log");
        let child = ns
            .command("bird")
            .args(["-f", "-c"])
            .arg(&conf)
            .arg("-s")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("bird starts");
        let bird = Self { child, socket, log };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !bird.ask("show status").contains("Daemon is up") {
            assert!(Instant::now() < deadline, "bird of {name} does not answer: {}", bird.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        bird
    }

    /// What it answers to a command; nothing where it does not answer.
    pub fn ask(&self, command: &str) -> String {
        let out = run(&format!("birdc -s {} {command}", self.socket.display()));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- bird said:\n{}{}{}",
                self.log(),
                self.ask("show protocols"),
                self.ask("show route")
            );
        }
        signal(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
    }
}
