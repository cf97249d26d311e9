//! The API on the admin socket.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::capture::{self, Captures};
use super::{CAPTURE_PATH, DIFF_PATH, DRAIN_PATH, Listener, RELOAD_PATH, UNDRAIN_PATH, reload};
use crate::api::{self, Api};
use crate::capture::Tap;
use crate::dpdk::Clock;
use crate::reload::Reloader;

/// Connections served at once; others wait to be accepted.
const CONNECTIONS: u32 = 16;
/// For a request's header to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server of the admin socket.
#[derive(Debug)]
pub struct Admin {
    captures: Captures,
    free: Arc<Semaphore>,
    end: watch::Sender<bool>,
}

/// Serves what is asked on the socket, until [`Admin::finish`]. Without a `reloader` the configuration stays as it is; without
/// an `api` nobody hears of the state.
///
/// # Errors
/// Where the socket cannot be registered with the runtime.
pub fn serve(
    listener: Listener,
    tap: Arc<Tap>,
    clock: Clock,
    reloader: Option<Arc<Reloader>>,
    api: Option<Api>,
    runtime: &Handle,
) -> io::Result<Admin> {
    let _context = runtime.enter();
    let socket = tokio::net::UnixListener::from_std(listener.socket.try_clone()?)?;
    let captures = Captures::new(tap, clock);
    let app = router(captures.clone(), reloader, api);
    let free = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (end, ended) = watch::channel(false);
    let places = Arc::clone(&free);
    runtime.spawn(async move {
        let mut end_of_all = ended.clone();
        let accept = async {
            loop {
                let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
                match socket.accept().await {
                    Ok((stream, _)) => {
                        let app = if is_permitted(&stream) { app.clone() } else { refusal() };
                        let ended = ended.clone();
                        tokio::spawn(async move {
                            connection(stream, app, ended).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection on the admin socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = over(&mut end_of_all) => {}
        }
        drop(listener);
    });
    Ok(Admin { captures, free, end })
}

impl Admin {
    /// Ends captures with what they have, and the server. Waits for no more than `patience` until the answers have left.
    pub async fn finish(self, patience: Duration) {
        self.captures.end_all();
        self.end.send_replace(true);
        let _ = timeout(patience, self.free.acquire_many(CONNECTIONS)).await;
    }
}

async fn over(ended: &mut watch::Receiver<bool>) {
    // An error is the sender's end, which is one too.
    let _ = ended.wait_for(|&ended| ended).await;
}

async fn connection(stream: UnixStream, app: Router, mut ended: watch::Receiver<bool>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut served = pin!(served);
    let end = tokio::select! {
        end = served.as_mut() => end,
        () = over(&mut ended) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = end {
        debug!(%error, "admin connection");
    }
}

/// The file's mode says the same; this holds also while it is made, and whatever becomes of it.
fn is_permitted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => true,
        Ok(peer) => {
            warn!(uid = peer.uid(), pid = peer.pid(), "refused on the admin socket");
            false
        }
        Err(error) => {
            warn!(%error, "who is on the admin socket?");
            false
        }
    }
}

fn router(captures: Captures, reloader: Option<Arc<Reloader>>, api: Option<Api>) -> Router {
    let mut app = Router::new()
        .route(CAPTURE_PATH, post(capture::begin))
        .route(&format!("{CAPTURE_PATH}/{{id}}"), delete(capture::end))
        .with_state(captures);
    if let Some(reloader) = reloader {
        let changes = Router::new()
            .route(RELOAD_PATH, post(reload::reload))
            .route(DIFF_PATH, post(reload::diff))
            .route(DRAIN_PATH, post(reload::drain))
            .route(UNDRAIN_PATH, post(reload::undrain));
        app = app.merge(changes.with_state(reloader));
    }
    if let Some(api) = api {
        app = app.merge(api::router(api));
    }
    app.method_not_allowed_fallback(api::wrong_method).fallback(api::not_found)
}

/// For those who may not ask.
fn refusal() -> Router {
    Router::new()
        .fallback(async || answer(StatusCode::FORBIDDEN, "only root and the engine's own user may ask"))
}

/// A refusal, in one line.
pub(super) fn answer(status: StatusCode, line: &str) -> Response {
    api::Refused(status, line.to_owned()).into_response()
}
