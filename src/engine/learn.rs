//! Other routes of the kernel's for the engine that runs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Stuck;
use super::apply::Compiler;
use super::publish::Publisher;
use crate::config::Config;
use crate::route::{Learned, Routes};
use crate::tables::Tables;

/// What publishes tables with other routes.
#[derive(Debug)]
pub(super) struct Learner {
    /// Those in force.
    pub tables: watch::Sender<Arc<Tables>>,
    pub publisher: Arc<Mutex<Publisher>>,
    pub compiler: Arc<Mutex<Compiler>>,
}

impl Learner {
    /// Goes over to these routes of the kernel's; nothing else changes, and it is no new generation. Returns once every worker
    /// goes by them.
    ///
    /// # Errors
    /// A worker that hangs: nothing was changed.
    pub fn learn(&self, learned: Vec<Learned>) -> Result<(), Stuck> {
        let mut compiler = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.ready()?;
        let tables = self.tables.borrow().clone();
        let tables = Arc::new(tables.with_learned(&compiler.config, &learned));
        compiler.learned = learned;
        if let Err(stuck) = publisher.publish(&tables) {
            // It was there a moment ago, and the tables wait for it.
            tracing::error!("worker {} is late to take the new routes", stuck.0);
        }
        self.tables.send_replace(tables);
        Ok(())
    }
}

/// The routes of another configuration: those in force, as long as nothing about routes is different, so that connections keep
/// their next hops.
pub(super) fn routes((old, tables): (&Config, &Tables), new: &Config, learned: &[Learned]) -> Arc<Routes> {
    if (&old.ports, &old.routes) == (&new.ports, &new.routes) {
        Arc::clone(&tables.routes)
    } else {
        Arc::new(Routes::compile(&new.ports, &new.routes, learned))
    }
}
