//! The newest snapshot as it is served: made once a tick, shared by all who scrape.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::figures::Figures;
use crate::counters::WorkerCounters;
use crate::health::Histogram;
use crate::time::Instant;

/// Ticks after which a snapshot, and a worker's last sign of life, are too old (ground rule 8).
const STALE_TICKS: u32 = 3;

/// One snapshot in text format 0.0.4.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// All families.
    pub text: Bytes,
    /// The same, gzip.
    pub gzip: Bytes,
    /// Without the `sip`-labelled families.
    pub text_without_flows: Bytes,
    /// The same, gzip.
    pub gzip_without_flows: Bytes,
    /// The end of the tick that it shows.
    pub taken_at: Instant,
    /// The same figures, for the API.
    pub figures: Figures,
}

impl Exposition {
    /// Of a text whose `sip`-labelled families begin at `flows`.
    pub(super) fn new(text: String, flows: usize, taken_at: Instant, figures: Figures) -> Self {
        let text = Bytes::from(text);
        let text_without_flows = text.slice(..flows);
        Self {
            gzip: gzip(&text),
            gzip_without_flows: gzip(&text_without_flows),
            text,
            text_without_flows,
            taken_at,
            figures,
        }
    }
}

fn gzip(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    // Writing to memory cannot fail; if it did, an empty body is no valid gzip and is seen.
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default().into()
}

/// Where the aggregator puts snapshots and HTTP takes them from.
#[derive(Debug)]
pub struct Publication {
    newest: ArcSwapOption<Exposition>,
    workers: Vec<Arc<WorkerCounters>>,
    tick_nanos: AtomicU64,
    ready: AtomicBool,
    scrapes: Mutex<Histogram>,
}

/// Why there is nothing to serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stale {
    /// No snapshot was taken yet.
    Nothing,
    /// The newest is this old.
    Snapshot(Duration),
    /// This worker has not gone round its loop for this long.
    Worker(usize, Duration),
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no snapshot yet"),
            Self::Snapshot(age) => write!(f, "the newest snapshot is {:.1} s old", age.as_secs_f64()),
            Self::Worker(n, age) => write!(f, "worker {n} has not answered for {:.1} s", age.as_secs_f64()),
        }
    }
}

impl Publication {
    pub(super) fn new(workers: Vec<Arc<WorkerCounters>>, tick: Duration) -> Self {
        let publication = Self {
            newest: ArcSwapOption::empty(),
            workers,
            tick_nanos: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            scrapes: Mutex::default(),
        };
        publication.set_tick(tick);
        publication
    }

    pub(super) fn set_tick(&self, tick: Duration) {
        let nanos = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
        self.tick_nanos.store(nanos, Ordering::Relaxed);
    }

    /// How often snapshots are taken.
    #[must_use]
    pub fn tick(&self) -> Duration {
        Duration::from_nanos(self.tick_nanos.load(Ordering::Relaxed))
    }

    pub(super) fn put(&self, exposition: Exposition) {
        self.newest.store(Some(Arc::new(exposition)));
    }

    /// The newest snapshot, however old it is; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Exposition>> {
        self.newest.load_full()
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// [`Stale`], where it is too old at `now`, or a worker is.
    pub fn newest(&self, now: Instant) -> Result<Arc<Exposition>, Stale> {
        let newest = self.newest.load_full().ok_or(Stale::Nothing)?;
        let age = now.since(newest.taken_at);
        if age > self.patience() {
            return Err(Stale::Snapshot(age));
        }
        match self.silent(now) {
            None => Ok(newest),
            Some((worker, silence)) => Err(Stale::Worker(worker, silence)),
        }
    }

    /// A worker that has not gone round its loop for too long at `now`, and for how long. The aggregator waits for it, so that
    /// snapshots grow old as well.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Option<(usize, Duration)> {
        let silences = self.workers.iter().map(|worker| now.since(worker.heartbeat()));
        silences.enumerate().find(|(_, silence)| *silence > self.patience())
    }

    fn patience(&self) -> Duration {
        self.tick() * STALE_TICKS
    }

    /// A scrape was answered: from its request until the last of the answer was taken over by the connection.
    pub fn scraped(&self, took: Duration) {
        self.scrapes.lock().unwrap_or_else(PoisonError::into_inner).record(took);
    }

    /// How long scrapes took.
    pub(super) fn scrapes(&self) -> Histogram {
        *self.scrapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the ports are up and a configuration is applied; no longer so while shutting down.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether [`set_ready`](Self::set_ready) said so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
