//! Another configuration for a running engine: read, validated, compared, compiled, published; or refused, and then nothing
//! has changed.

mod diff;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

pub use self::diff::{Action, Change, Diff, Field, Thing};

use crate::config::{self, Report, Style, Warning};
use crate::engine::{ApplyError, Engine};
use crate::metrics::Ticker;

/// Why the running configuration stays.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The file is no valid configuration.
    #[error("the configuration is not valid; the running one stays\n{}", .0.render(&Style::Plain))]
    Invalid(Report),
    /// It asks for what only a restart gives.
    #[error("this needs a restart; the running configuration stays\n{}", list(.0))]
    Restart(Vec<Change>),
    /// The engine cannot.
    #[error("{0}; the running configuration stays")]
    Apply(#[from] ApplyError),
}

fn list(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("  {change}\n")).collect()
}

/// What a reload has done.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration's number.
    pub generation: u64,
    /// What is different.
    pub changes: Vec<Change>,
    /// What the file's reader should know.
    pub warnings: Vec<Warning>,
}

/// Reloads, one at a time.
pub struct Reloader {
    engine: Arc<Engine>,
    ticker: Arc<Ticker>,
    path: Mutex<PathBuf>,
}

impl Reloader {
    /// For an engine that was started with this file.
    #[must_use]
    pub fn new(engine: Arc<Engine>, ticker: Arc<Ticker>, path: &Path) -> Self {
        Self { engine, ticker, path: Mutex::new(path.to_owned()) }
    }

    /// Reads the file again, or another one, which then is the engine's from now on. Takes its time: not on an async thread.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn reload(&self, other: Option<&Path>) -> Result<Outcome, Refusal> {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let file = other.unwrap_or(&path);
        let done = self.try_reload(file);
        match &done {
            Ok(_) => *path = file.to_owned(),
            Err(_) => self.ticker.reload_refused(),
        }
        done
    }

    fn try_reload(&self, file: &Path) -> Result<Outcome, Refusal> {
        let (new, warnings) = config::load(file).map_err(Refusal::Invalid)?;
        let Diff { changes, restart } = Diff::between(&self.engine.config(), &new);
        if !restart.is_empty() {
            return Err(Refusal::Restart(restart));
        }
        let metrics = new.metrics.clone();
        let tables = self.engine.apply(new, |tables| {
            self.ticker.reconfigure(&metrics, &tables.names, tables.generation);
        })?;
        Ok(Outcome { generation: tables.generation, changes, warnings })
    }
}
