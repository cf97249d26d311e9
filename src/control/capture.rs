//! `POST /api/v1/pollux/capture`: a capture as a stream of pcapng; `DELETE …/capture/ID` ends it, and the stream with what
//! is known at the end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::server::answer;
use crate::capture::{Refusal, Request, Session, Tap};
use crate::dpdk::Clock;

/// The answer's header that says the capture's number.
pub const CAPTURE_ID: HeaderName = HeaderName::from_static("pollux-capture");

/// Between two looks at empty rings: a ring holds more than workers fill in that time, but for small packets at full rate.
const LOOK: Duration = Duration::from_millis(1);
/// For all workers to hear of a beginning or an end; a worker that hangs is not waited for longer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes that are taken from the rings at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the client.
const PIECES: usize = 4;

/// What captures need.
#[derive(Clone, Debug)]
pub(super) struct Captures {
    tap: Arc<Tap>,
    clock: Clock,
    /// Captures up to this number are to end.
    ended: Arc<watch::Sender<u32>>,
}

impl Captures {
    pub fn new(tap: Arc<Tap>, clock: Clock) -> Self {
        Self { tap, clock, ended: Arc::new(watch::Sender::new(0)) }
    }

    /// Ends the one that is on, and lets none begin.
    pub fn end_all(&self) {
        self.ended.send_replace(u32::MAX);
    }
}

pub(super) async fn begin(
    State(captures): State<Captures>,
    request: Result<Json<Request>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(error) => return answer(error.status(), &error.body_text()),
    };
    let mut session = match Session::begin(&captures.tap, &request, epoch(captures.clock)) {
        Ok(session) => session,
        Err(refusal @ Refusal::Busy) => return answer(StatusCode::CONFLICT, &refusal.to_string()),
        Err(refusal) => return answer(StatusCode::BAD_REQUEST, &refusal.to_string()),
    };
    // Once the answer is there, every packet is seen.
    wait(&mut session, Session::is_on).await;
    let id = session.number();
    let (to, pieces) = mpsc::channel(PIECES);
    tokio::spawn(stream(session, captures, to));
    let mut response = Response::new(Body::new(Pieces(pieces)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-pcapng"));
    headers.insert(CAPTURE_ID, HeaderValue::from(id));
    response
}

pub(super) async fn end(State(captures): State<Captures>, id: Result<Path<u32>, PathRejection>) -> Response {
    let Path(id) = match id {
        Ok(id) => id,
        Err(error) => return answer(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    captures.ended.send_if_modified(|ended| {
        let later = id > *ended;
        *ended = id.max(*ended);
        later
    });
    (StatusCode::ACCEPTED, Json(json!({ "ending": id }))).into_response()
}

/// From the rings to the client, until one of them, the limit or `DELETE` ends it.
async fn stream(mut session: Session, captures: Captures, to: mpsc::Sender<Bytes>) {
    let mut ended = captures.ended.subscribe();
    let number = session.number();
    if !send(&mut session, &to).await {
        return;
    }
    let mut going = true;
    while going && !session.is_full() {
        let more = session.read(PIECE);
        if !send(&mut session, &to).await {
            return;
        }
        if *ended.borrow_and_update() >= number {
            break;
        }
        if !more {
            tokio::select! {
                () = sleep(LOOK) => {}
                // The engine or somebody who asks; the client.
                end = ended.wait_for(|&ended| ended >= number) => going = end.is_ok_and(|_| false),
                () = to.closed() => return,
            }
        }
    }
    session.stop();
    wait(&mut session, Session::is_off).await;
    while !session.is_full() && session.read(PIECE) {
        if !send(&mut session, &to).await {
            return;
        }
    }
    session.finish(captures.clock.now().0);
    send(&mut session, &to).await;
}

/// Whether the client is there.
async fn send(session: &mut Session, to: &mpsc::Sender<Bytes>) -> bool {
    let piece = session.take();
    piece.is_empty() || to.send(piece.into()).await.is_ok()
}

async fn wait(session: &mut Session, done: fn(&Session) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(session) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

/// The engine clock's 0, in nanoseconds since 1970.
fn epoch(clock: Clock) -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX).saturating_sub(clock.now().0)
}

/// The body: pieces as they come.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
