//! The admin socket: the API over a unix socket, for root and the engine's own user.

mod capture;
mod client;
mod reload;
mod server;
mod socket;

use std::path::Path;

use crate::config::AdminSocket;

pub use self::capture::CAPTURE_ID;
pub use self::client::{AskError, Client};
pub use self::reload::{EndpointRequest, FileRequest};
pub use self::server::{Admin, serve};
pub(crate) use self::socket::is_abandoned;
pub use self::socket::{BindError, Listener, bind};

/// Where the admin socket is if nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/pollux/pollux.sock";

/// The path of the API's capture.
pub const CAPTURE_PATH: &str = "/api/v1/pollux/capture";

/// The path of the API's reload.
pub const RELOAD_PATH: &str = "/api/v1/pollux/reload";
/// What a reload would change.
pub const DIFF_PATH: &str = "/api/v1/pollux/diff";
/// Takes an endpoint out gracefully.
pub const DRAIN_PATH: &str = "/api/v1/pollux/drain";
/// Puts a drained endpoint back.
pub const UNDRAIN_PATH: &str = "/api/v1/pollux/undrain";

/// Longest path of a unix socket, in bytes: `sun_path` without its NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// The socket that a configuration asks for.
#[derive(Debug)]
pub enum Bound {
    /// None.
    Off,
    /// It is there.
    At(Listener),
    /// Nobody asked for it by name, and the default's path cannot be had: worth a warning.
    Missing(BindError),
}

/// Binds the socket that is configured.
///
/// # Errors
/// A path that was configured and cannot be had; another engine that answers on it.
pub fn bind_configured(socket: &AdminSocket) -> Result<Bound, BindError> {
    match socket {
        AdminSocket::Off => Ok(Bound::Off),
        AdminSocket::At(path) => bind(path).map(Bound::At),
        AdminSocket::Default => match bind(Path::new(DEFAULT_SOCKET)) {
            Ok(listener) => Ok(Bound::At(listener)),
            Err(live @ BindError::Live { .. }) => Err(live),
            Err(error) => Ok(Bound::Missing(error)),
        },
    }
}
