//! What the listener counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Status codes with a series of their own; all others are `other`.
pub const CODES: [&str; 13] =
    ["200", "400", "401", "404", "405", "413", "414", "429", "431", "500", "502", "503", "other"];

/// Why a connection was refused or cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// All places were taken by those who are being answered.
    Full,
    /// It was waited for, and its place was needed.
    Displaced,
    /// The TLS handshake did not end in time.
    HandshakeTimeout,
    /// The TLS handshake failed: no common version or cipher, a certificate that is missing or not trusted.
    HandshakeFailed,
    /// Plain HTTP on a listener with TLS.
    PlainHttp,
    /// A request's header did not end in time.
    HeaderTimeout,
    /// The answer, or the request's body, did not end in time.
    AnswerTimeout,
    /// The client took too little of its answer.
    SlowReader,
}

/// Why a connection was refused or cut off, as a label says it.
pub const REJECTIONS: [&str; 8] = [
    "full",
    "displaced",
    "handshake_timeout",
    "handshake_failed",
    "plain_http",
    "header_timeout",
    "answer_timeout",
    "slow_reader",
];

impl Rejection {
    pub const fn label(self) -> &'static str {
        REJECTIONS[self as usize]
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: [AtomicU64; CODES.len()],
    rejected: [AtomicU64; REJECTIONS.len()],
}

impl Tally {
    pub fn request(&self, code: u16) {
        let known = CODES.iter().position(|known| known.parse() == Ok(code));
        self.requests[known.unwrap_or(CODES.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn rejected(&self, why: Rejection) {
        self.rejected[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> ListenerStats {
        ListenerStats {
            requests: self.requests.each_ref().map(|n| n.load(Ordering::Relaxed)),
            rejected: self.rejected.each_ref().map(|n| n.load(Ordering::Relaxed)),
            connections: 0,
            certificate_expiry: None,
        }
    }
}

/// What the listener tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Requests answered, by [`CODES`].
    pub requests: [u64; CODES.len()],
    /// Connections refused or cut off, by [`REJECTIONS`].
    pub rejected: [u64; REJECTIONS.len()],
    /// Connections open now.
    pub connections: u64,
    /// When the first certificate of the chain expires, seconds since 1970; none without TLS.
    pub certificate_expiry: Option<i64>,
}
