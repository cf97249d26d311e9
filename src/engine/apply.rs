//! Another configuration for the engine that runs.

use std::sync::{Arc, MutexGuard, PoisonError};

use thiserror::Error;

use super::{Engine, Stuck, learn};
use crate::config::Config;
use crate::route::Learned;
use crate::tables::{LinkInfo, Slots, SlotsFull, Tables};

/// What the next tables are compiled with.
#[derive(Debug)]
pub(super) struct Compiler {
    /// In force.
    pub config: Arc<Config>,
    pub slots: Slots,
    pub links: Vec<LinkInfo>,
    /// The kernel's routes in force.
    pub learned: Vec<Learned>,
}

/// Why the tables in force stay.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ApplyError {
    /// Too much is configured, or was since the start.
    #[error(transparent)]
    Full(#[from] SlotsFull),
    /// A worker hangs.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

impl Engine {
    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.compiler().config)
    }

    /// Goes over to another configuration, in which nothing may differ that takes a restart
    /// ([`Diff`](crate::reload::Diff)). `before` is called when nothing can fail any more and no worker has the tables yet: for
    /// what counts by them. Returns once every worker goes by them.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn apply(&self, config: Config, before: impl FnOnce(&Tables)) -> Result<Arc<Tables>, ApplyError> {
        let mut compiler = self.compiler();
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.ready()?;
        let Compiler { config: old, slots, links, learned } = &mut *compiler;
        slots.fits(&config)?;
        let mut tables = Tables::compile(&config, links, slots);
        tables.routes = learn::routes((old, &self.tables()), &config, learned);
        let tables = Arc::new(tables);
        compiler.config = Arc::new(config);
        before(&tables);
        if let Err(stuck) = publisher.publish(&tables) {
            // It was there a moment ago, and the tables wait for it.
            tracing::error!("worker {} is late to take the new configuration", stuck.0);
        }
        self.tables.send_replace(Arc::clone(&tables));
        Ok(tables)
    }

    fn compiler(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
