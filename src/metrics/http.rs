//! What the HTTP listener serves of the metrics: what the last tick made ready.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context as Polled, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use ring::digest::{SHA256, digest};

use super::exposition::Publication;
use super::pairs_page::{self, Pairs};
use super::ticker::Clock;
use crate::api;
use crate::listener::{self, Gate, Limits, Security};

/// What `Content-Type` says of the exposition, whatever `Accept` asks for.
pub const CONTENT_TYPE_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

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

/// Serves everything to everybody, within the default limits, until `shutdown` comes.
///
/// # Errors
/// Where the listener cannot be registered with the runtime.
pub async fn serve(
    listener: TcpListener,
    context: Context,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let gate = Gate::new(Limits::default(), Security::default());
    listener::serve(listener, gate, (pages(context.clone()), router(context)), shutdown).await
}

/// What is for everybody: how the engine is, and pages that say nothing of it.
pub fn pages(context: Context) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(api::wrong_method)
        .with_state(context)
}

/// What is for those who may read.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/netlox/v1/metrics", get(metrics))
        .route("/metrics/flows", get(pairs_page::page))
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
    let page = page.replace("LANDING_SCRIPT", LANDING_SCRIPT);
    ([(CONTENT_SECURITY_POLICY, LANDING_POLICY.as_str())], Html(page))
}

/// Asks for the token once where one is needed, and shows the state.
const LANDING_SCRIPT: &str = include_str!("landing.js");

/// The page's own script and nothing else, asked of this address alone.
static LANDING_POLICY: LazyLock<String> = LazyLock::new(|| {
    let script = BASE64_STANDARD.encode(digest(&SHA256, LANDING_SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
});

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
