//! `/metrics/flows`: all client–endpoint pairs, or those that are asked for, as a stream that is made while it is read.

use std::io::Write;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Polled, Poll};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;
use serde::Deserialize;

use super::flows::{Cut, Frozen, Selection, Text};
use super::http::{CONTENT_TYPE_TEXT, Context, accepts_gzip, unavailable};

/// Copies the pairs of the last snapshot, or gives the copy that another reads already.
pub type Pairs = Arc<dyn Fn() -> Arc<Frozen> + Send + Sync>;

/// Text that is compressed at a time, in pieces: what a thread of the runtime does between two looks at its sockets.
const PIECES: usize = 4;

/// What is asked. What is empty is not asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    service: Option<String>,
    client: Option<String>,
    endpoint: Option<String>,
    top: Option<String>,
}

impl Asked {
    fn selection(self) -> Result<Selection, String> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let address = |name: &str, text: String| match text.parse::<IpAddr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => Err(format!("{name} is {text:?}, which is no IP address")),
        };
        let top = |text: String| match text.parse::<usize>() {
            Ok(top) if top > 0 => Ok(top),
            _ => Err(format!("top is {text:?}; it takes a number from 1 on")),
        };
        Ok(Selection {
            service: given(self.service),
            client: given(self.client).map(|text| address("client", text)).transpose()?,
            endpoint: given(self.endpoint).map(|text| address("endpoint", text)).transpose()?,
            top: given(self.top).map(top).transpose()?,
        })
    }
}

pub(super) async fn page(
    State(context): State<Context>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    if let Err(stale) = context.publication.newest((context.clock)()) {
        return unavailable(stale);
    }
    let bad = |line: String| (StatusCode::BAD_REQUEST, format!("{line}\n")).into_response();
    let selection = match asked.map_err(|error| error.body_text()).and_then(|Query(asked)| asked.selection())
    {
        Ok(selection) => selection,
        Err(line) => return bad(line),
    };
    let pairs = Arc::clone(&context.pairs);
    // A copy of a million pairs takes tens of milliseconds.
    let text = tokio::task::spawn_blocking(move || pairs().text(&selection)).await;
    let text = match text {
        Ok(Ok(text)) => text,
        Ok(Err(unknown)) => return (StatusCode::NOT_FOUND, format!("{unknown}\n")).into_response(),
        Err(_) => return unavailable("stopping"),
    };
    let zip = accepts_gzip(&headers);
    let mut response = Response::new(Body::new(Pieces::new(text, zip)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_TEXT));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if zip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The body: each piece is written when the one before has gone out, so that none wait in memory.
struct Pieces {
    text: Option<Text>,
    zip: Option<GzEncoder<Vec<u8>>>,
}

impl Pieces {
    fn new(text: Text, zip: bool) -> Self {
        Self { text: Some(text), zip: zip.then(|| GzEncoder::new(Vec::new(), Compression::fast())) }
    }

    /// Plain text, until there is none.
    fn plain(&mut self) -> Result<Option<String>, Cut> {
        let Some(text) = &mut self.text else { return Ok(None) };
        let mut piece = String::new();
        if !text.write(&mut piece)? {
            self.text = None;
        }
        Ok(Some(piece))
    }

    fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        if self.zip.is_none() {
            return Ok(self.plain()?.map(Bytes::from));
        }
        for _ in 0..PIECES {
            let Some(piece) = self.plain()? else {
                // Writing to memory cannot fail; if it did, the end of the stream is missing and is seen.
                let rest = self.zip.take().and_then(|zip| zip.finish().ok());
                return Ok(rest.map(Bytes::from));
            };
            if let Some(zip) = &mut self.zip {
                let _ = zip.write_all(piece.as_bytes());
            }
        }
        Ok(self.zip.as_mut().map(|zip| std::mem::take(zip.get_mut()).into()))
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Polled<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.text.is_none() && self.zip.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(self.next().map(|piece| piece.map(Frame::data)).transpose())
    }
}
