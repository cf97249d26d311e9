//! Asking a running engine.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;

/// Most bytes of a refusal that are read.
const MAX_REFUSAL: usize = 4096;

/// Why there is no answer. One line each.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody there.
    #[error(
        "no engine is running here: nothing answers on {} (start one with `pollux run`, or name its admin socket with \
         --socket)", .0.display()
    )]
    NoEngine(PathBuf),
    /// Somebody, but not for this user.
    #[error("{}: permission denied; run this as root or as the engine's own user", .0.display())]
    Permission(PathBuf),
    /// Another error of the system.
    #[error("{}: {error}", .path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the engine on {}: {error}", .path.display())]
    Http {
        /// The socket.
        path: PathBuf,
        /// What broke.
        error: hyper::Error,
    },
    /// The engine refuses, for this reason.
    #[error("the engine refuses: {0}")]
    Refused(String),
}

/// A running engine, by its admin socket.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Sends a request with a JSON body; the answer where its status is a good one. Must be called on a runtime.
    ///
    /// # Errors
    /// [`AskError`], in one line.
    pub async fn ask(
        &self,
        method: Method,
        target: &str,
        json: String,
    ) -> Result<Response<Incoming>, AskError> {
        let response = self.send(method, target, json).await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    /// Sends a request with a JSON body; the status and the JSON of the answer, also of a refusal that is JSON. Must be called on
    /// a runtime.
    ///
    /// # Errors
    /// [`AskError`], in one line.
    pub async fn ask_json(
        &self,
        method: Method,
        target: &str,
        json: String,
    ) -> Result<(StatusCode, Value), AskError> {
        let response = self.send(method, target, json).await?;
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_none_or(|kind| !kind.starts_with("application/json")) {
            return Err(refused(response).await);
        }
        let broken = |error| AskError::Http { path: self.path.clone(), error };
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let value = serde_json::from_slice(&body).map_err(|error| AskError::System {
            path: self.path.clone(),
            error: io::Error::other(format!("{target}: {error}")),
        })?;
        Ok((status, value))
    }

    async fn send(&self, method: Method, target: &str, json: String) -> Result<Response<Incoming>, AskError> {
        let broken = |error| AskError::Http { path: self.path.clone(), error };
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the answer's body; what broke is said there.
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(json)));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|error| AskError::System {
            path: self.path.clone(),
            error: io::Error::other(format!("{target}: {error}")),
        })?;
        let headers = request.headers_mut();
        headers.insert(HOST, hyper::header::HeaderValue::from_static("pollux"));
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        sender.send_request(request).await.map_err(broken)
    }

    fn unreachable(&self, error: io::Error) -> AskError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                AskError::NoEngine(path)
            }
            io::ErrorKind::PermissionDenied => AskError::Permission(path),
            _ => AskError::System { path, error },
        }
    }
}

/// What a refusal says, or its first line.
async fn refused(response: Response<Incoming>) -> AskError {
    let status = response.status();
    let mut body = response.into_body();
    let mut said = Vec::new();
    while said.len() < MAX_REFUSAL
        && let Some(Ok(frame)) = body.frame().await
    {
        said.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    let line = match serde_json::from_slice::<Value>(&said) {
        Ok(value) => value["error"].as_str().map(str::to_owned),
        Err(_) => String::from_utf8_lossy(&said).lines().next().map(str::to_owned),
    };
    AskError::Refused(line.unwrap_or_else(|| status.to_string()))
}
