//! `http` and `https`: a GET over HTTP/1.1 (RFC 9112).

use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::http::uri::Authority;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tls::Contexts;
use super::{Failure, Whom, connect};
use crate::config::Http;

/// A body is looked through as far as this.
const MAX_BODY: usize = 1 << 20;
const AGENT: &str = concat!("pollux/", env!("CARGO_PKG_VERSION"), " (health check)");

pub(super) async fn probe(whom: Whom<'_>, http: &Http, tls: &Contexts) -> Result<(), Failure> {
    let to = whom.socket();
    let (stream, _pass) = connect(whom).await?;
    match http.tls {
        None => ask(stream, to, http).await,
        Some(verify) => {
            let name = http.host.parse::<Authority>().map_or_else(|_| String::new(), |a| bare(&a).to_owned());
            ask(tls.connect(stream, verify, to, &name).await?, to, http).await
        }
    }
}

/// The host without port and brackets.
fn bare(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

async fn ask<S>(stream: S, to: SocketAddr, http: &Http) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = if http.host.is_empty() { to.to_string() } else { http.host.clone() };
    let request = Request::get(&http.path)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Unable(format!("no request can be made: {error}")))?;
    let said = |error: hyper::Error| Failure::bad(format!("HTTP: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(said)?;
        judge(response, http).await
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        done = &mut exchange => return done,
        // All has come; what is left to read is in between.
        _ = &mut connection => {}
    }
    exchange.await
}

async fn judge(response: Response<Incoming>, http: &Http) -> Result<(), Failure> {
    let status = response.status();
    if !http.expect.contains(status.as_u16()) {
        return Err(Failure::bad(format!("status {}, not {}", status.as_u16(), http.expect)));
    }
    let wanted = http.body.as_bytes();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut body = response.into_body();
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::bad(format!("HTTP body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        // The text may begin in what was read before.
        let from = seen.len().saturating_sub(wanted.len() - 1);
        seen.extend_from_slice(&data);
        if seen[from..].windows(wanted.len()).any(|window| window == wanted) {
            return Ok(());
        }
        if seen.len() > MAX_BODY {
            return Err(Failure::bad(format!("the first {MAX_BODY} bytes of the body lack {:?}", http.body)));
        }
    }
    Err(Failure::bad(format!("the body lacks {:?}", http.body)))
}
