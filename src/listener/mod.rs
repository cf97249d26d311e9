//! The HTTP listener: who may connect, who may read, and what nobody can take from others.
//!
//! [`load`] reads the files that secure it, [`Gate`] holds what is in force and goes over to another at a reload, [`serve()`] accepts.
//! A connection passes the places (`places`), TLS (`tls`), the bounds of its own life (`life`); a request for data passes the guard
//! (`guard`). What is served is put together by others.

mod basic;
mod bind;
mod connection;
mod files;
mod gate;
mod guard;
mod life;
mod places;
mod rate;
mod security;
mod serve;
mod tally;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod verify;
mod web_config;

use std::time::Duration;

use crate::config::Metrics;

pub use self::bind::{BindError, bind};
pub use self::gate::Gate;
pub use self::security::{Loaded, Security, load};
pub use self::serve::serve;
pub use self::tally::{CODES, ListenerStats, REJECTIONS};

/// What clients may take of the listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at once, `metrics.max_connections`.
    pub connections: usize,
    /// For the TLS handshake, and again for a request's header: `metrics.header_timeout`.
    pub header_timeout: Duration,
    /// For the next request on a connection that is kept open. Longer than usual scrape intervals.
    pub idle: Duration,
    /// In which a client has to take [`LEAST_TAKEN`] bytes of an answer.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            header_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            stall: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// As they are configured.
    #[must_use]
    pub fn of(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.max_connections,
            header_timeout: metrics.header_timeout,
            ..Self::default()
        }
    }
}

/// Bytes that a client which is being waited for has to take in [`Limits::stall`].
pub const LEAST_TAKEN: u64 = 256 << 10;

/// For an answer to be made, in which nothing is waited for but the engine, or the end of a request's body.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Bytes of a request's header.
const MAX_HEADER: usize = 8 << 10;

/// Bytes of a request's body.
const MAX_BODY: usize = 64 << 10;

/// Bytes that the kernel keeps for a client that does not read, and the grain in which its progress is seen (three times as fine).
const SEND_BUFFER: usize = 256 << 10;
