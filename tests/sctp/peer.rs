//! A program of other people's, here the C program next door, spoken to over its stdin and stdout.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::net::Namespace;

/// How long a peer may take for its next word.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compiles it into a folder; the program.
pub fn compile(dir: &Path) -> PathBuf {
    let program = dir.join("peer");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sctp/peer.c");
    let out = Command::new("gcc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &source])
        .args(["-lusrsctp", "-lpthread"])
        .output()
        .expect("gcc");
    assert!(
        out.status.success(),
        "gcc: {}; is libusrsctp-dev installed?",
        String::from_utf8_lossy(&out.stderr)
    );
    program
}

/// A running peer.
pub struct Peer {
    child: Child,
    said: Receiver<String>,
}

impl Peer {
    /// Starts it in a namespace.
    pub fn start(ns: &Namespace, program: &Path, args: &[&str]) -> Self {
        let mut child = ns
            .command(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, said) = channel();
        // Ends with the peer, whose stdout is closed then.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, said }
    }

    /// Its next line; none at its end.
    pub fn line(&self) -> Option<String> {
        match self.said.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("a peer says nothing for {PATIENCE:?}"),
        }
    }

    /// Its next line must be this one.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.line().as_deref(), Some(line));
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("the peer listens");
    }

    /// What it has said until it answers a question after its statistics.
    pub fn statistics(&mut self) -> Vec<String> {
        self.tell("stats");
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.starts_with("stats")) {
            lines.push(self.line().expect("statistics"));
        }
        lines
    }

    /// Waits until it knows that so many of the other side's addresses are there.
    #[allow(dead_code, reason = "not every lab has several")]
    pub fn wait_for_paths(&mut self, paths: usize) {
        let wanted = format!("paths active={paths}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.tell("paths");
            // It may say something else first.
            let mut line = String::new();
            while !line.starts_with("paths") {
                line = self.line().expect("its paths");
            }
            if line == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "not {wanted:?} but {line:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("its status");
        assert!(status.success(), "the peer ended with {status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
