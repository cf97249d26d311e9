//! Where another configuration waits until the aggregator goes by it.
//!
//! Making a snapshot of very many series takes its time, and nobody who changes the configuration waits for that. What must not happen is
//! that banks are folded between the first worker's getting the new tables and the aggregator's going by them, or a series would not be
//! there when its first count comes. So both, the giving and the folding, are done under this lock, and each fold begins by taking
//! what waits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config;
use crate::tables::Names;
use crate::time::Instant;

/// What has changed.
#[derive(Debug)]
pub(super) enum Next {
    /// The configuration.
    Configuration { at: Instant, metrics: Box<config::Metrics>, names: Names, generation: u64 },
    /// The run-time state alone.
    State(Names),
}

/// The changes that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Handover(Mutex<Vec<Next>>);

impl Handover {
    /// Leaves a change and gives it to the workers by `publish`, while nothing is folded.
    pub fn give(&self, next: Next, publish: impl FnOnce()) {
        let mut waiting = self.open();
        if let (Some(Next::State(_)), Next::State(_)) = (waiting.last(), &next) {
            waiting.pop();
        }
        waiting.push(next);
        publish();
    }

    /// The changes that wait. As long as the result is held, none comes.
    pub fn open(&self) -> MutexGuard<'_, Vec<Next>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
