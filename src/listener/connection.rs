//! One connection: TLS where it is asked for, then requests and answers within the limits.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use http_body_util::Limited;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::gate::{Gate, Settings};
use super::life::{Cut, Life, Metered};
use super::places::Place;
use super::tally::Rejection;
use super::{MAX_BODY, MAX_HEADER, SEND_BUFFER};

/// The first byte of a TLS record that begins a handshake.
const HANDSHAKE: u8 = 0x16;

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 46\r\n\r\n\
    HTTPS is spoken here: ask with https:// before";

/// Serves it to its end.
pub(super) async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    gate: Arc<Gate>,
    settings: Arc<Settings>,
    changes: watch::Receiver<()>,
    app: Router,
) {
    // Without either it works, too.
    let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let _ = stream.set_nodelay(true);
    let life = &place.life;
    let serving = Serving { life, gate: &gate, settings: &settings, changes, app };
    let done = match settings.security.tls() {
        None => serving.http(Metered { stream, life: Arc::clone(life) }).await,
        Some(tls) => match life.watch(&settings.limits, handshake(stream, tls, life)).await {
            Ok(Ok(stream)) => serving.http(stream).await,
            Ok(Err(why)) => Err(Cut::Rejected(why)),
            Err(cut) => Err(cut),
        },
    };
    match done {
        Ok(()) | Err(Cut::Idle) => {}
        Err(Cut::Rejected(why)) => {
            gate.tally.rejected(why);
            debug!(%peer, reason = why.label(), "HTTP connection cut off");
        }
    }
}

async fn handshake(
    stream: TcpStream,
    tls: TlsAcceptor,
    life: &Arc<Life>,
) -> Result<tokio_rustls::server::TlsStream<Metered>, Rejection> {
    let mut first = [0];
    let some = stream.peek(&mut first).await;
    if matches!(some, Ok(1)) && first[0] != HANDSHAKE && first[0].is_ascii_alphabetic() {
        // There is room for so little; and what is read does not turn the end into a reset that overtakes the answer.
        let _ = stream.try_read(&mut [0; MAX_HEADER]);
        let _ = stream.try_write(PLAIN_HTTP);
        return Err(Rejection::PlainHttp);
    }
    let stream = Metered { stream, life: Arc::clone(life) };
    tls.accept(stream).await.map_err(|error| {
        debug!(%error, "TLS handshake");
        Rejection::HandshakeFailed
    })
}

struct Serving<'a> {
    life: &'a Arc<Life>,
    gate: &'a Gate,
    settings: &'a Settings,
    changes: watch::Receiver<()>,
    app: Router,
}

impl Serving<'_> {
    async fn http(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Cut> {
        self.life.open();
        let (gate, headers) = (self.gate, self.settings.security.headers());
        let answer = service_fn(|request| {
            self.life.request();
            answer(request, self.app.clone(), Arc::clone(self.life), gate, headers)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            // Time is this module's.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEADER)
            .serve_connection(TokioIo::new(stream), answer);
        let mut served = pin!(served);
        let mut changed = pin!(self.changes.changed());
        let mut told = false;
        let whole = poll_fn(|cx| {
            if !told && changed.as_mut().poll(cx).is_ready() {
                told = true;
                served.as_mut().graceful_shutdown();
            }
            served.as_mut().poll(cx)
        });
        if let Err(error) = self.life.watch(&self.settings.limits, whole).await? {
            // Answered by hyper itself.
            if error.is_parse_too_large() {
                gate.tally.request(431);
            } else if error.is_parse() {
                gate.tally.request(400);
            }
            debug!(%error, "HTTP connection");
        }
        Ok(())
    }
}

async fn answer(
    request: Request<Incoming>,
    app: Router,
    life: Arc<Life>,
    gate: &Gate,
    headers: &HeaderMap,
) -> Result<Response<Tracked>, Infallible> {
    let said = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut response = if said.unwrap_or(0) > MAX_BODY as u64 {
        let line = format!("a request's body has at most {MAX_BODY} bytes here\n");
        let mut response = (StatusCode::PAYLOAD_TOO_LARGE, line).into_response();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    } else {
        let request = request.map(|body| Limited::new(body, MAX_BODY));
        match TowerToHyperService::new(app).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    for (name, value) in headers {
        // What a page says of itself is kept.
        if !response.headers().contains_key(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    gate.tally.request(response.status().as_u16());
    Ok(response.map(|body| Tracked { body, life }))
}

/// An answer's body: its end is the beginning of the wait for the next request.
struct Tracked {
    body: Body,
    life: Arc<Life>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.life.answered();
    }
}
