//! The HTTP listener. It only reads, and serves what the last tick made ready.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Polled, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::exposition::Publication;
use super::pairs_page::{self, Pairs};
use super::ticker::Clock;
use crate::api;

/// What `Content-Type` says of the exposition, whatever `Accept` asks for.
pub const CONTENT_TYPE_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What clients may take of the listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once, `metrics.max_connections`; others wait to be accepted.
    pub connections: usize,
    /// For a request's header to arrive, and for the next one on a connection that is kept open: `metrics.header_timeout`.
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, header_timeout: Duration::from_secs(5) }
    }
}

/// A connection that is open for so long is closed after the answer under way, which has as long again: nobody holds one for ever by
/// reading slowly.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What handlers need.
#[derive(Clone)]
pub struct Context {
    /// Where snapshots come from.
    pub publication: Arc<Publication>,
    /// The engine's time.
    pub clock: Clock,
    /// Where `/metrics/flows` has its pairs from.
    pub pairs: Pairs,
}

/// The listen address cannot be used: one line that names it, and the cure.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", cure(.error))]
pub struct BindError {
    /// `metrics.listen`.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

fn cure(error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => "the address is in use; stop what listens there, or choose another one",
        io::ErrorKind::AddrNotAvailable => "no interface has this address; choose another one",
        io::ErrorKind::PermissionDenied => {
            "not permitted; a port below 1024 needs CAP_NET_BIND_SERVICE, choose another one"
        }
        _ => return error.to_string(),
    };
    format!("{cure} (metrics.listen, or --listen)")
}

/// Binds the listener: a step of its own, before the engine starts, so that a busy address is found in time.
///
/// # Errors
/// [`BindError`], in one line with the cure.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error| BindError { address, error })
}

/// Serves within the default limits until `shutdown` comes; see [`serve_within`].
///
/// # Errors
/// Where the listener cannot be registered with the runtime.
pub async fn serve(
    listener: TcpListener,
    context: Context,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::default(), listener, router(context), shutdown).await
}

/// Serves `app` until `shutdown` comes. To be run on a tokio runtime of the control threads.
///
/// # Errors
/// Where the listener cannot be registered with the runtime.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let free = Arc::new(Semaphore::new(limits.connections));
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let app = app.clone();
                    tokio::spawn(async move {
                        connection(stream, app, limits.header_timeout).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    Ok(())
}

async fn connection(stream: TcpStream, app: Router, header_timeout: Duration) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut served = pin!(served);
    if let Ok(end) = timeout(CONNECTION_TIME, served.as_mut()).await {
        if let Err(error) = end {
            debug!(%error, "HTTP connection");
        }
        return;
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(CONNECTION_TIME, served).await;
}

/// All paths.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics))
        .route("/netlox/v1/metrics", get(metrics))
        .route("/metrics/flows", get(pairs_page::page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(api::wrong_method)
        .fallback(api::not_found)
        .with_state(context)
}

async fn metrics(State(context): State<Context>, uri: Uri, headers: HeaderMap) -> Response {
    let began = Instant::now();
    let exposition = match context.publication.newest((context.clock)()) {
        Ok(exposition) => exposition,
        Err(stale) => return unavailable(stale),
    };
    let flows = !uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "flows=0"));
    let zip = accepts_gzip(&headers);
    let body = match (flows, zip) {
        (true, true) => &exposition.gzip,
        (true, false) => &exposition.text,
        (false, true) => &exposition.gzip_without_flows,
        (false, false) => &exposition.text_without_flows,
    };
    let body =
        Timed { bytes: Some(Bytes::clone(body)), began, publication: Arc::clone(&context.publication) };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_TEXT));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if zip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A snapshot on its way, which tells when it is gone.
struct Timed {
    bytes: Option<Bytes>,
    began: Instant,
    publication: Arc<Publication>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Polled<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.publication.scraped(self.began.elapsed());
    }
}

async fn healthz(State(context): State<Context>) -> Response {
    match context.publication.newest((context.clock)()) {
        Ok(_) => "ok\n".into_response(),
        Err(stale) => unavailable(stale),
    }
}

async fn readyz(State(context): State<Context>) -> Response {
    match context.publication.newest((context.clock)()) {
        Ok(_) if context.publication.is_ready() => "ready\n".into_response(),
        Ok(_) => unavailable("starting, a port or its kernel interface is down, or shutting down"),
        Err(stale) => unavailable(stale),
    }
}

async fn landing(State(context): State<Context>, headers: HeaderMap) -> impl IntoResponse {
    // As the browser knows this address; what is no host and port could be markup.
    let plain = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b));
    let host =
        headers.get(HOST).and_then(|host| host.to_str().ok()).filter(plain).unwrap_or("127.0.0.1:8080");
    let tick = format!("{}s", context.publication.tick().as_secs().max(1));
    let page = include_str!("landing.html").replace("LISTEN_ADDRESS", host).replace("METRICS_TICK", &tick);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(page))
}

pub(super) fn unavailable(why: impl Display) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

/// Whether `Accept-Encoding` (RFC 9110 §12.5.3) takes gzip: by name or by `*`, and not with a weight of 0.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for value in headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
        for coding in value.split(',') {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            let taken = weight.is_ok_and(|q| q > 0.0);
            match name.trim() {
                name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                    return taken;
                }
                "*" => any = taken,
                _ => {}
            }
        }
    }
    any
}
