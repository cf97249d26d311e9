//! The aggregator's thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{self, Duration};

use super::aggregator::{Aggregator, Step};
use super::figures::Total;
use super::flows::Frozen;
use super::handover::{Handover, Next};
use crate::addr::Addr;
use crate::config;
use crate::ids::EndpointId;
use crate::tables::Names;
use crate::time::Instant;

/// The engine's time.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// How long workers are given to answer, once a second. None is waited for longer; the next second asks on.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long the thread has to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Between two looks whether they have answered.
const LOOK: Duration = Duration::from_micros(200);

/// Drives an [`Aggregator`] on real time, until it is dropped.
pub struct Ticker {
    aggregator: Arc<Mutex<Aggregator>>,
    handover: Arc<Handover>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Publishes a first snapshot, all 0, and starts the thread. `on_start` runs in it first: to move it to its CPU.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        mut aggregator: Aggregator,
        clock: Clock,
        on_start: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        aggregator.publish();
        let handover = aggregator.handover();
        let aggregator = Arc::new(Mutex::new(aggregator));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (aggregator, clock, stop) = (Arc::clone(&aggregator), Arc::clone(&clock), Arc::clone(&stop));
            thread::Builder::new().name("aggregator".into()).spawn(move || {
                on_start();
                run(&aggregator, &clock, &stop);
            })?
        };
        Ok(Self { aggregator, handover, clock, stop, thread: Some(thread) })
    }

    /// Has the aggregator go over to another configuration ([`Aggregator::reconfigure`]) before it folds anything more. `publish` gives it to
    /// the workers. Does not wait for the aggregator, which may be at a snapshot: [`catch_up`](Self::catch_up) does.
    pub fn reconfigure(
        &self,
        metrics: &config::Metrics,
        names: &Names,
        generation: u64,
        publish: impl FnOnce(),
    ) {
        let (metrics, names) = (Box::new(metrics.clone()), names.clone());
        let next = Next::Configuration { at: (self.clock)(), metrics, names, generation };
        self.handover.give(next, publish);
    }

    /// Tables with other run-time state are in force. Does not wait either.
    pub fn recount(&self, names: &Names) {
        self.handover.give(Next::State(names.clone()), || ());
    }

    /// Waits until the newest snapshot has the series of the configuration that was last [given](Self::reconfigure).
    pub fn catch_up(&self) {
        lock(&self.aggregator).catch_up();
    }

    /// Connections as of the last fold, by [`EndpointId`].
    #[must_use]
    pub fn connections(&self) -> Vec<u64> {
        lock(&self.aggregator).endpoint_connections().to_vec()
    }

    /// What each of these clients' pairs with an endpoint has counted as of the last tick, where it has a series of its own.
    #[must_use]
    pub fn pairs(&self, wanted: &[(EndpointId, Addr)]) -> Vec<Option<Total>> {
        let aggregator = lock(&self.aggregator);
        wanted.iter().map(|&(endpoint, client)| aggregator.pair(endpoint, client)).collect()
    }

    /// All client–endpoint pairs as of the last snapshot; see [`Aggregator::freeze`].
    #[must_use]
    pub fn freeze(&self) -> Arc<Frozen> {
        lock(&self.aggregator).freeze()
    }

    /// A new configuration was refused; see [`Aggregator::reload_refused`].
    pub fn reload_refused(&self) {
        lock(&self.aggregator).reload_refused();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let deadline = time::Instant::now() + FAREWELL;
            while !thread.is_finished() && time::Instant::now() < deadline {
                thread::sleep(LOOK);
            }
            // A device that does not say how it is must not keep the process. A panic there has been reported by its own thread.
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::error!("the aggregator did not stop within {} s", FAREWELL.as_secs());
            }
        }
    }
}

/// A reader that panicked has changed nothing.
fn lock(aggregator: &Mutex<Aggregator>) -> MutexGuard<'_, Aggregator> {
    aggregator.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(aggregator: &Mutex<Aggregator>, clock: &Clock, stop: &AtomicBool) {
    let mut due = lock(aggregator).due();
    while !stop.load(Ordering::Acquire) {
        let now = clock();
        if now < due {
            thread::park_timeout(due.since(now));
            continue;
        }
        lock(aggregator).ask();
        due = match wait(aggregator, clock, stop, now.after(PATIENCE)) {
            Step::Waiting => clock().after(PATIENCE),
            Step::Folded | Step::Ticked => lock(aggregator).due(),
        };
    }
}

/// Looks until all workers have answered, `deadline` has passed, or the end has come.
fn wait(aggregator: &Mutex<Aggregator>, clock: &Clock, stop: &AtomicBool, deadline: Instant) -> Step {
    loop {
        let now = clock();
        {
            let mut aggregator = lock(aggregator);
            let step = aggregator.step(now);
            if step == Step::Ticked {
                aggregator.publish();
            }
            if step != Step::Waiting || now >= deadline || stop.load(Ordering::Acquire) {
                return step;
            }
        }
        thread::sleep(LOOK);
    }
}
