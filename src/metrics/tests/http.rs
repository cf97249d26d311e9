use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::GzDecoder;
use tokio::sync::oneshot;

use super::*;
use crate::listener::bind;
use crate::metrics::http::{Context, serve};
use crate::metrics::{Clock, Cut, Publication};

/// A listener with snapshots from a bench, on a clock that stands.
struct Server {
    bench: Bench,
    publication: Arc<Publication>,
    clock: Arc<AtomicU64>,
    frozen: Arc<Mutex<Option<Arc<Frozen>>>>,
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
        let frozen: Arc<Mutex<Option<Arc<Frozen>>>> = Arc::default();
        let pairs = Arc::clone(&frozen);
        let context = Context {
            publication: Arc::clone(&publication),
            clock: Arc::new(move || Instant(now.load(Ordering::Relaxed))) as Clock,
            pairs: Arc::new(move || pairs.lock().unwrap().clone().expect("frozen by the test")),
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
        Self { bench, publication, clock, frozen, address, stop: Some(stop), runtime: Some(runtime) }
    }

    /// What `/metrics/flows` shows from now on.
    fn freeze(&mut self) {
        *self.frozen.lock().unwrap() = Some(self.bench.aggregator.freeze());
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

/// A body without its chunks (RFC 9112 §7.1).
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        body = &body[end + 2..];
        if size == 0 {
            return bytes;
        }
        bytes.extend_from_slice(&body[..size]);
        body = &body[size + 2..];
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

    for path in ["/nothing", "/metrics/", "/metrics/pairs", "/%2e%2e/etc/passwd"] {
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

#[test]
fn all_pairs_as_they_are_asked_for() {
    let mut server = Server::start();
    for n in 1..=30 {
        server.bench.traffic(0, u32::from(n % 2), client(n), u64::from(n));
        server.bench.traffic(1, 2, client(n), 1);
    }
    for _ in 0..3 {
        server.bench.tick();
    }
    server.freeze();
    let page = |server: &Server, query: &str| {
        let reply = server.get(&format!("/metrics/flows{query}"), "");
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Scrape::parse(std::str::from_utf8(&unchunked(&reply.body)).unwrap()).unwrap()
    };
    let packets = |s: &Scrape| {
        let family = s.family("lb_rule_interaction_packets");
        let clients = family.filter(|(labels, _)| labels[1].1 != "other");
        clients.map(|(_, value)| value.parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let all = page(&server, "");
    assert_eq!((packets(&all).len(), packets(&all).iter().sum::<u64>()), (60, 31 * 15 + 30));
    check_pairs(&all, &server.bench.scrape()).unwrap();
    assert_eq!(packets(&page(&server, "?service=&client=&endpoint=&top=")).len(), 60, "nothing is asked for");

    let web = page(&server, "?service=203.0.113.100:80");
    assert_eq!(packets(&web).len(), 30);
    assert!(web.family("pollux_flows_retired_total").count() == 0, "sums belong to the whole");
    let one = page(&server, "?service=203.0.113.100%3A80&client=192.0.2.7");
    assert_eq!(packets(&one), [7]);
    assert_eq!(
        one.count("client_traffic_packets", &[("service", "203.0.113.100:80"), ("sip", "192.0.2.7")]),
        7
    );
    assert_eq!(packets(&page(&server, "?endpoint=10.0.0.2")).iter().sum::<u64>(), 15 * 15);
    let mut top = packets(&page(&server, "?top=3"));
    top.sort_unstable();
    assert_eq!(top, [28, 29, 30]);
    assert_eq!(packets(&page(&server, "?top=3&endpoint=2001:db8:1::3")), [1, 1, 1]);

    let zipped = server.get("/metrics/flows", "Accept-Encoding: gzip\r\n");
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(&unchunked(&zipped.body)[..]).read_to_string(&mut text).unwrap();
    assert_eq!(Scrape::parse(&text).unwrap().samples, all.samples);

    for (query, status, says) in [
        ("?top=0", 400, "top is \"0\"; it takes a number from 1 on"),
        ("?top=many", 400, "top is \"many\""),
        ("?client=x", 400, "client is \"x\", which is no IP address"),
        ("?endpoint=10.0.0.1:80", 400, "endpoint is \"10.0.0.1:80\", which is no IP address"),
        ("?clients=192.0.2.1", 400, "unknown field `clients`"),
        ("?top=1&top=2", 400, "duplicate field `top`"),
        ("?service=web", 404, "there is no service \"web\""),
        ("?endpoint=10.9.9.9", 404, "there is no endpoint 10.9.9.9"),
    ] {
        let reply = server.get(&format!("/metrics/flows{query}"), "");
        assert_eq!(reply.status, status, "{query}");
        assert!(reply.text().contains(says), "{query}: {}", reply.text());
    }
    server.clock.store(u64::MAX / 2, Ordering::Relaxed);
    assert_eq!(server.get("/metrics/flows", "").status, 503);
}

/// Whoever reads too slowly is cut off by those who come two ticks later, and keeps no memory.
#[test]
fn a_slow_reader_of_all_pairs_is_given_up() {
    let mut b = Bench::new(10, &names());
    b.traffic(0, 0, client(1), 3);
    b.tick();
    let first = b.aggregator.freeze();
    let mut slow = first.text(&Selection::default()).unwrap();
    assert!(Arc::ptr_eq(&first, &b.aggregator.freeze()), "one copy for all of a tick");
    b.tick();
    let second = b.aggregator.freeze();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(first.text(&Selection::default()).unwrap().write(&mut String::new()).is_ok(), "two are kept");
    b.tick();
    let _third = b.aggregator.freeze();
    assert_eq!(slow.write(&mut String::new()), Err(Cut));
    assert!(second.text(&Selection::default()).unwrap().write(&mut String::new()).is_ok());
}
