//! Another configuration, or other run-time state, for the engine that runs.

use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use thiserror::Error;

use super::{Engine, Stuck, learn};
use crate::config::Config;
use crate::ids::EndpointId;
use crate::route::Learned;
use crate::tables::{Changes, Conditions, LinkInfo, Slots, SlotsFull, Sources, Tables};

/// What the next tables are compiled with.
#[derive(Debug)]
pub(super) struct Compiler {
    /// In force.
    pub config: Arc<Config>,
    /// In force.
    pub conditions: Arc<Conditions>,
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

    /// The run-time state in force.
    #[must_use]
    pub fn conditions(&self) -> Arc<Conditions> {
        Arc::clone(&self.compiler().conditions)
    }

    /// Goes over to another configuration, in which nothing may differ that takes a restart
    /// ([`Diff`](crate::reload::Diff)), where one is given; and to this run-time state. `around` is called when nothing can fail any
    /// more, and must call what it gets: that gives the tables to the workers, and returns once every worker goes by them. Who counts
    /// by the tables must not fold before that, nor after it go by the old ones.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn apply(
        &self,
        config: Option<Config>,
        conditions: Conditions,
        around: impl FnOnce(&Tables, &mut dyn FnMut()),
    ) -> Result<Arc<Tables>, ApplyError> {
        let mut compiler = self.compiler();
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.ready()?;
        let Compiler { config: old, conditions: old_conditions, slots, links, learned } = &mut *compiler;
        let applied = config.is_some();
        let config = config.map_or_else(|| Arc::clone(old), Arc::new);
        let before = self.tables();
        let sources = Sources { config: &config, links, conditions: &conditions };
        let old_sources = Sources { config: old, links, conditions: old_conditions };
        let changes = Changes::between(&old_sources, &sources);
        if applied {
            slots.have_room_for(changes.changed(&config), &config.firewall)?;
        }
        let mut tables = Tables::next(&sources, Some((&changes, &before)), slots, applied);
        tables.routes = learn::routes((old, &before), &config, learned);
        let tables = Arc::new(tables);
        let _replaced = (
            mem::replace(&mut compiler.config, config),
            mem::replace(&mut compiler.conditions, Arc::new(conditions)),
        );
        for worker in &self.counters {
            worker.grow(tables.sizes(0));
        }
        around(&tables, &mut || {
            if let Err(stuck) = publisher.publish(&tables) {
                // It was there a moment ago, and the tables wait for it.
                tracing::error!("worker {} is late to take the new tables", stuck.0);
            }
        });
        self.tables.send_replace(Arc::clone(&tables));
        // What is no longer needed is freed after all that, which may take its time.
        drop((publisher, compiler));
        Ok(tables)
    }

    /// Gives up what is kept for endpoints that are not configured any more, where they are `quiet`: without connections. Says
    /// whether tables without them can be published.
    pub fn release(&self, quiet: impl FnMut(EndpointId) -> bool) -> bool {
        self.compiler().slots.release(Instant::now(), quiet)
    }

    /// Whether anything is kept for endpoints that are not configured any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.compiler().slots.is_draining()
    }

    fn compiler(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
