//! The listener as clients meet it: over real sockets, with certificates that the tests make.

mod access;
mod bounds;
mod files;
mod pki;
mod tls;
mod web_config;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::tally::{CODES, REJECTIONS};
use super::{Gate, Limits, Security, bind, serve};

/// More than any buffers of the kernel's hold.
const BIG: usize = 64 << 20;

/// About as much as fifty thousand series, and no two pieces of it alike: the same for all, as a snapshot is.
static PAGE: LazyLock<Bytes> =
    LazyLock::new(|| (0..1 << 21).flat_map(u32::to_le_bytes).map(|byte| byte & 0x7f).collect());

/// Loose bounds, so that a busy machine is none.
fn limits() -> Limits {
    Limits {
        connections: 8,
        header_timeout: Duration::from_secs(20),
        idle: Duration::from_secs(20),
        stall: Duration::from_secs(20),
    }
}

/// A listener in a runtime of its own.
struct Server {
    gate: Arc<Gate>,
    address: SocketAddr,
    /// Lets one request to `/slow` end.
    go_on: Arc<Notify>,
    /// Requests to `/slow` that wait for it.
    waiting: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Server {
    fn start(limits: Limits, security: Security) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new(limits, security);
        let go_on = Arc::new(Notify::new());
        let waits = Arc::clone(&go_on);
        let waiting = Arc::new(AtomicUsize::new(0));
        let one_more = Arc::clone(&waiting);
        let public = Router::new().route("/", get(async || "page")).route("/healthz", get(async || "ok"));
        let private = Router::new()
            .route("/metrics", get(async || "up 1\n"))
            .route("/big", get(async || Body::from(vec![b'x'; BIG])))
            .route("/page", get(async || Body::from(PAGE.clone())))
            .route("/echo", post(async |body: String| body))
            .route(
                "/slow",
                get(async move || {
                    one_more.fetch_add(1, Ordering::Relaxed);
                    waits.notified().await;
                    "at last"
                }),
            );
        runtime.spawn(serve(listener, Arc::clone(&gate), (public, private), std::future::pending()));
        Self { gate, address, go_on, waiting, _runtime: runtime }
    }

    fn open(limits: Limits) -> Self {
        Self::start(limits, Security::default())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// One request on a connection of its own.
    fn get(&self, path: &str, headers: &str) -> Reply {
        self.try_get(path, headers).expect("an answer")
    }

    /// The same; none where the connection is refused or cut off.
    fn try_get(&self, path: &str, headers: &str) -> Option<Reply> {
        get_over(self.connect(), path, headers)
    }

    fn rejected(&self, reason: &str) -> u64 {
        self.gate.stats().rejected[REJECTIONS.iter().position(|known| *known == reason).unwrap()]
    }

    fn answered(&self, code: &str) -> u64 {
        self.gate.stats().requests[CODES.iter().position(|known| *known == code).unwrap()]
    }
}

/// Status, header and body.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Asks, and reads to the end; none where there is no answer.
fn talk(mut stream: impl Read + Write, request: &str) -> Option<Reply> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    // A peer that is cut off may end with an error.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some(Reply { status: head.get(9..12)?.parse().ok()?, head: head.to_owned(), body: body.to_owned() })
}

/// The one request of a connection.
fn get_over(stream: TcpStream, path: &str, headers: &str) -> Option<Reply> {
    talk(stream, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"))
}

/// Until it is so.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A configuration with these lines in `[metrics]`, in `folder`; what is wrong or worth a warning, one line each, and what came of it.
fn load(folder: &Path, lines: &str) -> (Option<Security>, Vec<String>) {
    let file = folder.join("pollux.toml");
    let text = format!(
        "[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\naddresses = [\"203.0.113.2/24\"]\n[metrics]\n{lines}\n"
    );
    std::fs::write(&file, text).unwrap();
    let (security, problems) = match super::load(&file, None) {
        Ok(loaded) => (Some(loaded.security), loaded.warnings),
        Err(report) => (None, report.problems().to_vec()),
    };
    let folder = format!("{}/", folder.display());
    let lines = problems.iter().map(|problem| problem.line().replace(&folder, ""));
    // That it balances nothing is not of interest.
    (security, lines.filter(|line| !line.contains("no service")).collect())
}

/// The same where nothing is wrong.
#[track_caller]
fn loaded(folder: &Path, lines: &str) -> Security {
    let (security, problems) = load(folder, lines);
    assert_eq!(problems, [""; 0]);
    security.unwrap()
}

/// A file that only its owner can read.
fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(folder.join(name), text).unwrap();
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}
