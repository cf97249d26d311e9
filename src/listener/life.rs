//! How long a connection may take for what it is at.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use super::tally::Rejection;
use super::{ANSWER_TIME, LEAST_TAKEN, Limits};

/// What a connection is at. Its task writes it; who needs a place reads it.
#[derive(Debug)]
pub(super) struct Life {
    state: Mutex<State>,
    displaced: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// The client takes nothing more at the moment.
    blocked: Option<Blocked>,
    /// When the client last took something.
    taken_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The TLS handshake.
    Opening,
    /// A request's header is awaited: the first one of a connection, or the rest of one that has begun.
    Header,
    /// The next request is.
    Idle,
    /// A request is being answered.
    Busy,
    /// The answer is made, and has not left yet. Whether the next request has begun to come.
    Leaving { next: bool },
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    since: Instant,
    taken: u64,
}

/// Why a connection ended before it was at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    Rejected(Rejection),
    /// Nothing more was asked on a connection that was kept open.
    Idle,
}

/// How willingly a connection's place is given to another, the lesser the sooner.
pub(super) type Rank = (Class, Instant);

/// Whose places are given away, first those of the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// They have nothing to ask, or take long for it.
    Waited,
    /// They do not read.
    Blocked,
    /// They have just come, and are about to ask.
    Fresh,
}

/// A client that asks or takes nothing for so long may lose its place to another.
const PATIENCE: Duration = Duration::from_secs(1);

impl Life {
    pub fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State { phase: Phase::Opening, since: now, blocked: None, taken_at: now };
        Arc::new(Self { state: Mutex::new(state), displaced: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        (state.phase, state.since) = (phase, Instant::now());
    }

    /// The first request is awaited.
    pub fn open(&self) {
        self.enter(Phase::Header);
    }

    /// A request's header is there.
    pub fn request(&self) {
        self.enter(Phase::Busy);
    }

    /// The whole answer was handed on: it may still have to leave.
    pub fn answered(&self) {
        self.enter(Phase::Leaving { next: false });
    }

    fn received(&self) {
        let phase = self.state().phase;
        match phase {
            Phase::Idle => self.enter(Phase::Header),
            Phase::Leaving { next: false } => self.enter(Phase::Leaving { next: true }),
            _ => {}
        }
    }

    fn took(&self, bytes: usize) {
        let mut state = self.state();
        state.taken_at = Instant::now();
        if let Some(blocked) = &mut state.blocked {
            blocked.taken += bytes as u64;
            if blocked.taken >= LEAST_TAKEN {
                state.blocked = None;
            }
        }
    }

    fn blocks(&self) {
        let mut state = self.state();
        if state.blocked.is_none() {
            state.blocked = Some(Blocked { since: Instant::now(), taken: 0 });
        }
    }

    fn flushed(&self) {
        let phase = {
            let mut state = self.state();
            state.blocked = None;
            state.phase
        };
        if let Phase::Leaving { next } = phase {
            self.enter(if next { Phase::Header } else { Phase::Idle });
        }
    }

    /// Whether its place may go to another one, and how soon: of a class, by how long. A header that comes byte by byte makes nothing better,
    /// and whoever reads, however much there is to read, keeps its place.
    pub fn rank(&self, now: Instant) -> Option<Rank> {
        let State { phase, since, blocked, .. } = *self.state();
        if let Some(blocked) = blocked {
            return (now - blocked.since >= PATIENCE).then_some((Class::Blocked, blocked.since));
        }
        match phase {
            Phase::Idle => Some((Class::Waited, since)),
            Phase::Opening | Phase::Header if now - since >= PATIENCE => Some((Class::Waited, since)),
            Phase::Opening | Phase::Header => Some((Class::Fresh, since)),
            Phase::Busy | Phase::Leaving { .. } => None,
        }
    }

    /// Ends it: another one has its place.
    pub fn displace(&self) {
        self.displaced.notify_one();
    }

    fn deadline(&self, limits: &Limits) -> (Instant, Cut) {
        let State { phase, since, blocked, taken_at } = *self.state();
        if let Some(blocked) = blocked {
            return (blocked.since + limits.stall, Cut::Rejected(Rejection::SlowReader));
        }
        match phase {
            Phase::Opening => (since + limits.header_timeout, Cut::Rejected(Rejection::HandshakeTimeout)),
            Phase::Header => (since + limits.header_timeout, Cut::Rejected(Rejection::HeaderTimeout)),
            Phase::Idle => (since + limits.idle, Cut::Idle),
            Phase::Busy | Phase::Leaving { .. } => {
                (since.max(taken_at) + ANSWER_TIME, Cut::Rejected(Rejection::AnswerTimeout))
            }
        }
    }

    /// Does the connection's work, as long as it keeps its time and its place.
    pub async fn watch<T>(&self, limits: &Limits, work: impl Future<Output = T>) -> Result<T, Cut> {
        let mut work = pin!(work);
        let mut displaced = pin!(self.displaced.notified());
        let mut sleep: Pin<&mut Sleep> = pin!(sleep_until(self.deadline(limits).0));
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if displaced.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Cut::Rejected(Rejection::Displaced)));
            }
            // Whatever has woken the work may have moved the deadline.
            loop {
                let (deadline, cut) = self.deadline(limits);
                if sleep.deadline() != deadline {
                    sleep.as_mut().reset(deadline);
                }
                match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) if self.deadline(limits).0 <= Instant::now() => {
                        return Poll::Ready(Err(cut));
                    }
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// A connection's bytes, as its [`Life`] hears of them.
pub(super) struct Metered {
    pub stream: TcpStream,
    pub life: Arc<Life>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.life.received();
        }
        done
    }
}

impl Metered {
    fn note(&self, done: &Poll<io::Result<usize>>) {
        match done {
            Poll::Pending => self.life.blocks(),
            Poll::Ready(Ok(bytes)) => self.life.took(*bytes),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&done);
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for once all that was to be written is.
        self.life.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
