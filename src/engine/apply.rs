//! Another configuration for the engine that runs, or other routes of the kernel's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::watch;

use super::publish::Publisher;
use super::{Engine, Stuck};
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
    /// Routes of the kernel's.
    pub learned: Vec<Learned>,
}

/// The tables in force, and what makes and publishes the next ones.
#[derive(Debug)]
pub(super) struct Board {
    /// Who subscribes hears of new ones.
    pub tables: watch::Sender<Arc<Tables>>,
    pub publisher: Mutex<Publisher>,
    pub compiler: Mutex<Compiler>,
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
        Arc::clone(&self.board.compiler().config)
    }

    /// Goes over to another configuration, in which nothing may differ that takes a restart
    /// ([`Diff`](crate::reload::Diff)). `before` is called when nothing can fail any more and no worker has the tables yet: for
    /// what counts by them. Returns once every worker goes by them.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn apply(&self, config: Config, before: impl FnOnce(&Tables)) -> Result<Arc<Tables>, ApplyError> {
        self.board.apply(config, before)
    }
}

impl Board {
    /// As [`Engine::apply`].
    fn apply(&self, config: Config, before: impl FnOnce(&Tables)) -> Result<Arc<Tables>, ApplyError> {
        let mut compiler = self.compiler();
        let mut publisher = self.publisher();
        publisher.ready()?;
        let Compiler { slots, links, learned, .. } = &mut *compiler;
        slots.fits(&config)?;
        let mut tables = Tables::compile(&config, links, slots);
        if !learned.is_empty() {
            tables = tables.with_learned(&config, learned);
        }
        let tables = Arc::new(tables);
        compiler.config = Arc::new(config);
        before(&tables);
        self.publish(&mut publisher, &tables);
        Ok(tables)
    }

    /// Goes over to other routes of the kernel's; nothing else changes, and it is no new generation. Returns once every worker
    /// goes by them.
    ///
    /// # Errors
    /// A worker that hangs: nothing was changed.
    pub fn learn(&self, learned: Vec<Learned>) -> Result<(), Stuck> {
        let mut compiler = self.compiler();
        let mut publisher = self.publisher();
        publisher.ready()?;
        let tables = Arc::new(self.tables.borrow().with_learned(&compiler.config, &learned));
        compiler.learned = learned;
        self.publish(&mut publisher, &tables);
        Ok(())
    }

    fn publish(&self, publisher: &mut Publisher, tables: &Arc<Tables>) {
        if let Err(stuck) = publisher.publish(tables) {
            // It was there a moment ago, and the tables wait for it.
            tracing::error!("worker {} is late to take the new tables", stuck.0);
        }
        self.tables.send_replace(Arc::clone(tables));
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compiler(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
