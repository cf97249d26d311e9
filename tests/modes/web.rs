//! nginx, which says who asks; and a client that checks what it says.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::net::{Namespace, connect_from};
use crate::nginx::Nginx;

/// Where nginx listens.
pub const PLAIN: u16 = 8080;
/// Where it listens for connections that begin with a PROXY header, and for those only.
pub const PROXIED: u16 = 8081;

/// One fetched page.
pub struct Page {
    pub body: Vec<u8>,
    /// Of the connection at the client.
    pub from_port: u16,
    /// Who the client is, as the PROXY header said.
    pub client: Option<(IpAddr, u16)>,
    /// Bytes of the request's padding that came back, all as sent.
    pub echoed: usize,
}

fn padding(len: usize) -> String {
    (0..len).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect()
}

/// One request, with so many bytes of padding, for so many bytes, over a connection of its own.
pub fn fetch(from: IpAddr, to: SocketAddr, pad: usize, size: usize) -> Result<Page, String> {
    let timeout = Duration::from_secs(20);
    let mut stream = connect_from(from, to, timeout).map_err(|e| format!("connect: {e}"))?;
    let from_port = stream.local_addr().map_err(|e| e.to_string())?.port();
    let pad = padding(pad);
    let request = format!("GET /{size} HTTP/1.1\r\nHost: lab\r\nX-Pad: {pad}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("request: {e}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| format!("after {} bytes: {e}", answer.len()))?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or("no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(head);
    }
    let header = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    let echoed = header("X-Echo: ");
    if echoed != pad {
        return Err(format!("{} bytes of padding came back as {}", pad.len(), echoed.len()));
    }
    let client = match (header("X-Client: "), header("X-Port: ")) {
        ("", _) => None,
        (addr, port) => Some((
            addr.parse().map_err(|e| format!("{addr}: {e}"))?,
            port.parse().map_err(|e| format!("{port}: {e}"))?,
        )),
    };
    let echoed = echoed.len();
    Ok(Page { body: answer.split_off(end + 4), from_port, client, echoed })
}

/// nginx with bodies under `dir`; returns once it accepts.
pub fn serve(ns: &Namespace, dir: &Path) -> Nginx {
    let dir = dir.join("nginx");
    std::fs::create_dir_all(dir.join("www")).expect("a folder for nginx");
    for size in [1, 10, 1000, 1440, 1460, 3000, 5000, 60_000, 65_536, 300_000] {
        std::fs::write(dir.join("www").join(size.to_string()), padding(size)).expect("a body");
    }
    let servers = format!(
        "large_client_header_buffers 4 64k;
         server {{
           listen {PLAIN} backlog=512; listen [::]:{PLAIN} ipv6only=on backlog=512;
           add_header X-Echo $http_x_pad;
         }}
         server {{
           listen {PROXIED} proxy_protocol; listen [::]:{PROXIED} ipv6only=on proxy_protocol;
           add_header X-Echo $http_x_pad;
           add_header X-Client $proxy_protocol_addr; add_header X-Port $proxy_protocol_port;
         }}"
    );
    let nginx = Nginx::start(ns, &dir, &servers);
    let deadline = Instant::now() + Duration::from_secs(10);
    let local = IpAddr::from([127, 0, 0, 1]);
    while ns.inside(|| fetch(local, SocketAddr::new(local, PLAIN), 1, 1)).is_err() {
        assert!(Instant::now() < deadline, "nginx does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    nginx
}
