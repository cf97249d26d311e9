//! systemd's end of sd_notify(3).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A socket that stands for systemd's.
pub struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listener {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, path }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path")
    }

    /// The next message within `patience`.
    pub fn next(&self, patience: Duration) -> Option<Vec<String>> {
        if patience.is_zero() {
            return None;
        }
        self.socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 4096];
        let n = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]);
        Some(text.lines().map(str::to_owned).collect())
    }

    /// All messages of the next `time`.
    pub fn during(&self, time: Duration) -> Vec<Vec<String>> {
        let end = Instant::now() + time;
        let mut all = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next(left) {
                Some(message) => all.push(message),
                None if left.is_zero() => return all,
                None => {}
            }
        }
    }

    /// The first message with a line that begins so, and those before it.
    #[track_caller]
    pub fn until(&self, begin: &str, seconds: u64) -> (Vec<Vec<String>>, Vec<String>) {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut before = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next(left) {
                Some(message) if has(&message, begin) => return (before, message),
                Some(message) => before.push(message),
                None => assert!(!left.is_zero(), "no {begin} within {seconds} s, but {before:?}"),
            }
        }
    }
}

/// Whether a message has a line that begins so.
pub fn has(message: &[String], begin: &str) -> bool {
    message.iter().any(|line| line.starts_with(begin))
}
