//! Accepting.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tracing::{debug, warn};

use super::connection::connection;
use super::gate::Gate;
use super::guard::guarded;
use super::tally::Rejection;

/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `public` to everybody who may connect, and `private` to those who may read, until `shutdown` comes. To be run on a tokio runtime
/// of the control threads.
///
/// # Errors
/// Where the listener cannot be registered with the runtime.
pub async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    (public, private): (Router, Router),
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = guarded(&gate, public, private);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let settings = gate.settings();
                    let Some(place) = gate.places.take(settings.limits.connections) else {
                        gate.tally.rejected(Rejection::Full);
                        debug!(%peer, "HTTP connection refused: all places are taken");
                        continue;
                    };
                    // Before the task runs: a change from here on is heard.
                    let changes = gate.changes();
                    let (gate, app) = (Arc::clone(&gate), app.clone());
                    tokio::spawn(connection(stream, peer, place, gate, settings, changes, app));
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
