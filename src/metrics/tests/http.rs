use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::GzDecoder;
use tokio::sync::oneshot;

use super::*;
use crate::listener::bind;
use crate::metrics::http::{Context, serve};
use crate::metrics::{Clock, Publication};

/// A listener with snapshots from a bench, on a clock that stands.
struct Server {
    bench: Bench,
    publication: Arc<Publication>,
    clock: Arc<AtomicU64>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let bench = Bench::new(10, &names());
        let publication = bench.aggregator.publication();
        let clock = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&clock);
        let context = Context {
            publication: Arc::clone(&publication),
            clock: Arc::new(move || Instant(now.load(Ordering::Relaxed))) as Clock,
        };
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let end = async {
                let _ = stopped.await;
            };
            runtime.unwrap().block_on(serve(listener, context, end)).unwrap();
        });
        Self { bench, publication, clock, address, stop: Some(stop), runtime: Some(runtime) }
    }

    fn get(&self, path: &str, headers: &str) -> Reply {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"))
    }

    fn request(&self, text: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Reply { status: head[9..12].parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.runtime.take().unwrap().join().unwrap();
    }
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[test]
fn the_exposition_on_both_paths() {
    let mut server = Server::start();
    server.bench.traffic(0, 0, client(1), 3);
    server.bench.tick();
    let whole = server.bench.text();
    for path in ["/metrics", "/netlox/v1/metrics", "/metrics?x=1&flows=1", "/metrics?"] {
        for accept in ["", "Accept: application/openmetrics-text; version=1.0.0\r\n", "Accept: text/html\r\n"]
        {
            let reply = server.get(path, accept);
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            assert_eq!(reply.header("content-encoding"), None);
            assert_eq!(reply.text(), whole, "{path}");
        }
    }
}

#[test]
fn without_the_flow_families() {
    let mut server = Server::start();
    server.bench.traffic(0, 0, client(1), 3);
    server.bench.tick();
    let whole = server.bench.scrape();
    for path in ["/metrics?flows=0", "/netlox/v1/metrics?a=b&flows=0"] {
        let reply = server.get(path, "");
        let s = Scrape::parse(reply.text()).unwrap();
        assert!(!reply.text().contains("sip="));
        assert_eq!(s.types.len(), whole.types.len() - 3);
        assert!(s.samples.iter().all(|(key, value)| whole.samples[key] == *value));
        let zipped = server.get(path, "Accept-Encoding: gzip\r\n");
        let mut text = String::new();
        GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, reply.text());
    }
}

#[test]
fn gzip_where_it_is_taken() {
    let server = Server::start();
    let whole = server.bench.text();
    for accept in ["gzip", "deflate, gzip;q=0.5, br", "GZIP", "*", "gzip;q=1.0", "identity;q=0.5,gzip"] {
        let reply = server.get("/metrics", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(reply.header("content-encoding"), Some("gzip"), "{accept}");
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let mut text = String::new();
        GzDecoder::new(&reply.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, whole);
    }
    for accept in ["identity", "gzip;q=0", "gzip; q=0.0, *", "br", "*;q=0", "gzip;q=x", ""] {
        let reply = server.get("/metrics", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(reply.header("content-encoding"), None, "{accept}");
        assert_eq!(reply.text(), whole);
    }
}

#[test]
fn stale_is_503_on_every_path_that_tells_health() {
    let mut server = Server::start();
    server.bench.tick();
    server.publication.set_ready(true);
    let at = |seconds: u64| server.clock.store(second(seconds).0, Ordering::Relaxed);
    for (seconds, status) in [(10, 200), (40, 200), (41, 503), (400, 503), (11, 200)] {
        at(seconds);
        for path in ["/metrics", "/netlox/v1/metrics", "/healthz", "/readyz"] {
            assert_eq!(server.get(path, "").status, status, "{path} at {seconds} s");
        }
        assert_eq!(server.get("/", "").status, 200);
    }
    at(41);
    assert_eq!(server.get("/healthz", "").text(), "the newest snapshot is 31.0 s old\n");
}

#[test]
fn a_worker_without_heartbeat_is_503_though_the_snapshot_is_fresh() {
    let (shared, mut writer) = shared(SIZES);
    let mut aggregator = Aggregator::new(settings(1), vec![shared], &names(), 1);
    aggregator.ask();
    writer.turn(Instant::ZERO);
    aggregator.step(second(100));
    aggregator.publish();
    let publication = aggregator.publication();
    let stale = publication.newest(second(100)).unwrap_err();
    assert_eq!(stale.to_string(), "worker 0 has not answered for 100.0 s");
    writer.turn(second(80));
    assert!(publication.newest(second(100)).is_ok());
}

#[test]
fn ready_is_more_than_healthy() {
    let server = Server::start();
    assert_eq!((server.get("/healthz", "").status, server.get("/readyz", "").status), (200, 503));
    server.publication.set_ready(true);
    assert_eq!(server.get("/readyz", "").status, 200);
    server.publication.set_ready(false);
    assert_eq!(server.get("/readyz", "").status, 503);
}

#[test]
fn landing_page_404_and_405() {
    let server = Server::start();
    let page = server.get("/", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").is_some());
    for path in ["metrics", "netlox/v1/metrics", "healthz", "readyz"] {
        assert!(page.text().contains(&format!(" href=\"{path}\"")), "{path}");
    }
    let external = ["src=\"http", "href=\"http", "url(", "@import", "<script "];
    assert!(!external.iter().any(|e| page.text().contains(e)), "nothing from elsewhere");

    for path in ["/nothing", "/metrics/", "/metrics/flows", "/%2e%2e/etc/passwd"] {
        assert_eq!(server.get(path, "").status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/metrics", "/", "/healthz"] {
            let reply = server.request(&format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ));
            assert_eq!(reply.status, 405, "{method} {path}");
            assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")));
        }
    }
    let head = server.request("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(server.request("nonsense\r\n\r\n").status, 400);
}

#[test]
fn a_busy_address_is_one_clear_line() {
    let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = first.local_addr().unwrap();
    let message = bind(address).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot listen on {address}: the address is in use")), "{message}");
    assert!(message.contains("metrics.listen") && !message.contains('\n'), "{message}");
    let message = bind("192.0.2.77:9".parse().unwrap()).unwrap_err().to_string();
    assert!(message.starts_with("cannot listen on 192.0.2.77:9: no interface has"), "{message}");
}
