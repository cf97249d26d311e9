//! What stands behind the VIPs: nginx with bodies that tell where they came from, and a UDP echo.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::net::{Namespace, connect_from};
use crate::nginx::Nginx;

/// Where nginx listens.
pub const HTTP_PORT: u16 = 8080;
/// Where the echo listens.
pub const ECHO_PORT: u16 = 7;

/// Sizes of the bodies that every server has.
pub const BODY_SIZES: [usize; 20] = [
    1, 2, 100, 535, 536, 1000, 1447, 1448, 1449, 1460, 2896, 4096, 10_000, 16_384, 65_535, 65_536, 100_000,
    262_144, 1_000_000, 5_000_000,
];

/// The body of `size` bytes that server `name` serves, and no other: xorshift64 seeded by both.
pub fn body(name: &str, size: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15 ^ size as u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// One fetched page.
pub struct Page {
    /// The `X-Server` header.
    pub server: String,
    pub body: Vec<u8>,
}

/// One HTTP GET over a connection of its own, from an address of the calling thread's namespace.
pub fn get(source: IpAddr, to: SocketAddr, path: &str, timeout: Duration) -> Result<Page, String> {
    let mut stream = connect_from(source, to, timeout).map_err(|e| format!("connect: {e}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("request: {e}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| format!("after {} bytes: {e}", answer.len()))?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or("no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(status.to_owned());
    }
    let server = lines.find_map(|l| l.strip_prefix("X-Server: ")).unwrap_or_default().to_owned();
    Ok(Page { server, body: answer.split_off(end + 4) })
}

/// nginx as server `name`, with all bodies under `dir`; returns once it accepts.
#[allow(dead_code, reason = "not every lab serves pages")]
pub fn serve(ns: &Namespace, name: &str, dir: &Path) -> Nginx {
    let dir = dir.join(name);
    std::fs::create_dir_all(dir.join("www")).expect("a folder for nginx");
    for size in BODY_SIZES {
        std::fs::write(dir.join("www").join(size.to_string()), body(name, size)).expect("a body");
    }
    let server = format!(
        "server {{
           listen {HTTP_PORT} backlog=512; listen [::]:{HTTP_PORT} ipv6only=on backlog=512;
           add_header X-Server {name};
         }}"
    );
    let nginx = Nginx::start(ns, &dir, &server);
    let deadline = Instant::now() + Duration::from_secs(10);
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse().expect("an address");
        let to = SocketAddr::new(address, HTTP_PORT);
        while ns.inside(|| get(address, to, "/1", Duration::from_secs(1))).is_err() {
            assert!(Instant::now() < deadline, "nginx {name} does not answer on {to}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    nginx
}

/// A thread in a namespace that sends every datagram back to where it came from.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts it.
    pub fn start(ns: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = ns.inside(|| UdpSocket::bind(("::", ECHO_PORT)).expect("the echo port is free"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !told.load(Ordering::Relaxed) {
                if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..n], from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
