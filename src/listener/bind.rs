//! The listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};

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
