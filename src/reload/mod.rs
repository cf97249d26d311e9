//! Another configuration for a running engine: read, validated, compared, compiled, published; or refused, and then nothing
//! has changed. And what an administrator says of its endpoints meanwhile.

mod diff;
mod slow_start;
mod watch;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::diff::{Action, Change, Diff, Field, Thing};
pub use self::watch::watch;

use self::diff::address;
use self::slow_start::SlowStart;
use crate::addr::Addr;
use crate::config::{self, Config, EndpointState, Report, Warning};
use crate::engine::{ApplyError, Engine, Notifier};
use crate::health;
use crate::listener::{self, Gate, Limits, Loaded, Security};
use crate::metrics::Ticker;
use crate::tables::{Conditions, Tables};

/// How often slow starts and what is kept for removed endpoints are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Of those looks, every so many see to removed endpoints.
const DRAINS: u32 = 50;

/// Why the running configuration stays.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The file is no valid configuration.
    #[error("the configuration is not valid; the running one stays")]
    Invalid(Report),
    /// It asks for what only a restart gives.
    #[error("this needs a restart; the running configuration stays")]
    Restart(Vec<Change>),
    /// The engine cannot.
    #[error("{0}; the running configuration stays")]
    Apply(#[from] ApplyError),
}

/// What a reload has done.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration's number.
    pub generation: u64,
    /// What is different.
    pub changes: Vec<Change>,
    /// What was said at run time, and holds besides the file.
    pub runtime: Vec<Override>,
    /// What the file's reader should know.
    pub warnings: Vec<Warning>,
}

/// What a reload would do.
#[derive(Debug)]
pub struct Preview {
    /// What would be different.
    pub diff: Diff,
    /// What was said at run time, and would hold besides the file.
    pub runtime: Vec<Override>,
    /// What the file's reader should know.
    pub warnings: Vec<Warning>,
}

/// An endpoint that was drained at run time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Override {
    /// The service's name.
    pub service: String,
    /// The endpoint's address.
    pub endpoint: String,
    /// `drain`.
    pub state: String,
}

/// Why an endpoint's state stays. One line each, with what to do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DrainError {
    /// No such service.
    #[error("there is no service {0:?}; there are {1}")]
    NoService(String, String),
    /// No such endpoint in it.
    #[error("service {service:?} has no endpoint {endpoint:?}; it has {known}")]
    NoEndpoint {
        /// Asked for.
        service: String,
        /// Asked for.
        endpoint: String,
        /// The ones it has.
        known: String,
    },
    /// Several endpoints of this address.
    #[error("service {0:?} has several endpoints of this address; name one with its port: {1}")]
    Ambiguous(String, String),
    /// The file says so.
    #[error("endpoint {0} is {1} in the configuration file: change its `state` there, and reload")]
    Configured(String, &'static str),
    /// Nobody has.
    #[error("endpoint {0} was not drained")]
    NotDrained(String),
    /// The engine cannot.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Reloads and run-time changes, one at a time.
pub struct Reloader {
    engine: Arc<Engine>,
    ticker: Arc<Ticker>,
    notifier: Arc<Notifier>,
    gate: Arc<Gate>,
    /// One reload at a time, from its reading on. A large file takes its time, and no verdict of a probe waits for that.
    reading: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    path: PathBuf,
    starting: SlowStart,
    /// The endpoints that the engine began with have had their first probes: who comes up from now on comes later than others.
    settled: bool,
}

impl Reloader {
    /// For an engine that was started with this file, and its listener's gate.
    #[must_use]
    pub fn new(engine: Arc<Engine>, ticker: Arc<Ticker>, gate: Arc<Gate>, path: &Path) -> Self {
        let state = State {
            path: path.to_owned(),
            starting: SlowStart::default(),
            settled: engine.board().is_settled(),
        };
        let notifier = Arc::new(Notifier::silent());
        Self { engine, ticker, gate, notifier, reading: Mutex::default(), state: Mutex::new(state) }
    }

    /// Has each reload announced, whoever asks for it.
    #[must_use]
    pub fn announced_by(self, notifier: Arc<Notifier>) -> Self {
        Self { notifier, ..self }
    }

    /// The file that is read.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state().path.clone()
    }

    /// Reads the file again, or another one, which then is the engine's from now on. Takes its time: not on an async thread.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn reload(&self, other: Option<&Path>) -> Result<Outcome, Refusal> {
        let alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let _announced = self.notifier.reloading();
        let file = other.map_or_else(|| self.path(), Path::to_owned);
        let read = listener::load(&file, Some(&self.engine.config()));
        let done = read.map_err(Refusal::Invalid).and_then(|loaded| self.adopt(loaded));
        if done.is_ok() {
            self.state().path = file;
        }
        // Others may reload meanwhile: a snapshot of very many series takes its time.
        drop(alone);
        match &done {
            Ok(_) => self.ticker.catch_up(),
            Err(_) => self.ticker.reload_refused(),
        }
        done
    }

    /// What a [`reload`](Self::reload) does between reading and the metrics: when it is done, every worker goes by this configuration.
    /// Costs what is different, where the rest is [shared](config::load_with) with the one in force.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn adopt(&self, loaded: Loaded) -> Result<Outcome, Refusal> {
        let mut state = self.state();
        let Loaded { config: new, security, warnings } = loaded;
        let Diff { changes, restart } = self.diff(&new, &security);
        if !restart.is_empty() {
            return Err(Refusal::Restart(restart));
        }
        let before = self.engine.conditions();
        let mut conditions = (*before).clone();
        conditions.retain(&new.services);
        let now = Instant::now();
        let runtime = overrides(&conditions);
        let limits = Limits::of(&new.metrics);
        let tables = self.apply(Some(new), &before, conditions, &mut state, now)?;
        self.gate.exchange(limits, security);
        Ok(Outcome { generation: tables.generation, changes, runtime, warnings })
    }

    /// What a reload of this file would do.
    ///
    /// # Errors
    /// The file is no valid configuration.
    pub fn preview(&self, file: Option<&Path>) -> Result<Preview, Report> {
        let file = file.map_or_else(|| self.path(), Path::to_owned);
        let Loaded { config: new, security, warnings } = listener::load(&file, Some(&self.engine.config()))?;
        let mut conditions = (*self.engine.conditions()).clone();
        conditions.retain(&new.services);
        let diff = self.diff(&new, &security);
        Ok(Preview { diff, runtime: overrides(&conditions), warnings })
    }

    fn diff(&self, new: &Config, security: &Security) -> Diff {
        let rewritten = self.gate.security().rewritten(security);
        Diff::between(&self.engine.config(), new).with_rewritten(&rewritten)
    }

    /// Takes an endpoint out gracefully: it keeps its connections and gets no new ones. Holds also over reloads, until
    /// [`undrain`](Self::undrain) or until it is no longer configured.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn drain(&self, service: &str, endpoint: &str) -> Result<Override, DrainError> {
        self.set_drained(service, endpoint, true)
    }

    /// Takes back a [`drain`](Self::drain).
    ///
    /// # Errors
    /// There is no such endpoint, nobody has drained it, or the file has it drained.
    pub fn undrain(&self, service: &str, endpoint: &str) -> Result<Override, DrainError> {
        self.set_drained(service, endpoint, false)
    }

    fn set_drained(&self, service: &str, endpoint: &str, drained: bool) -> Result<Override, DrainError> {
        let mut state = self.state();
        let config = self.engine.config();
        let found = find(&config, service, endpoint)?;
        let key = (found.address, found.port);
        let name = address(found.address, found.port);
        let before = self.engine.conditions();
        let mut conditions = (*before).clone();
        let mut condition = conditions.of(service, key);
        if !drained && !condition.drained {
            return Err(match found.state {
                EndpointState::Up => DrainError::NotDrained(name),
                EndpointState::Drain => DrainError::Configured(name, "drained"),
                EndpointState::Down => DrainError::Configured(name, "down"),
            });
        }
        condition.drained = drained;
        conditions.set(service, key, condition);
        self.apply(None, &before, conditions, &mut state, Instant::now())?;
        let condition = self.engine.conditions().of(service, key);
        let word = match condition.on(found.state) {
            EndpointState::Up => "up",
            EndpointState::Drain => "drain",
            EndpointState::Down => "down",
        };
        Ok(Override { service: service.to_owned(), endpoint: name, state: word.to_owned() })
    }

    /// Makes hold what the probes say of the endpoints.
    ///
    /// # Errors
    /// The engine cannot.
    pub fn probed(&self) -> Result<(), ApplyError> {
        let mut state = self.state();
        let before = self.engine.conditions();
        let mut next = (*before).clone();
        self.engine.board().write(&self.engine.config(), &mut next);
        if next != *before {
            self.apply(None, &before, next, &mut state, Instant::now())?;
        }
        Ok(())
    }

    /// What is to be done now and then: slow starts, and what removed endpoints have left.
    pub fn look(&self, drains: bool) {
        // May wait for the aggregator, and nobody shall wait for that.
        let connections = (drains && self.engine.is_draining()).then(|| self.ticker.connections());
        let mut state = self.state();
        let released = connections.is_some_and(|connections| {
            self.engine.release(|id| connections.get(id.index()).is_none_or(|n| *n == 0))
        });
        if !released && state.starting.is_empty() {
            return;
        }
        let before = self.engine.conditions();
        let mut next = (*before).clone();
        state.starting.step(&self.engine.config(), &mut next, Instant::now());
        if (released || next != *before)
            && let Err(error) = self.apply(None, &before, next, &mut state, Instant::now())
        {
            tracing::warn!("the tables are not renewed: {error}");
        }
    }

    fn apply(
        &self,
        new: Option<Config>,
        before: &Conditions,
        mut conditions: Conditions,
        state: &mut State,
        now: Instant,
    ) -> Result<Arc<Tables>, ApplyError> {
        let old = self.engine.config();
        let config = new.as_ref().unwrap_or(&old);
        let board = self.engine.board();
        if let Some(new) = &new {
            board.plan(Some(&old), new);
        }
        board.write(config, &mut conditions);
        if state.settled {
            state.starting.begin((&old, before), (config, &conditions), now);
        }
        state.settled = board.is_settled();
        state.starting.step(config, &mut conditions, now);
        let (metrics, other) = (config.metrics.clone(), new.is_some());
        let applied = self.engine.apply(new, conditions, |tables, publish| {
            if other {
                self.ticker.reconfigure(&metrics, &tables.names, tables.generation, publish);
            } else {
                publish();
            }
        })?;
        if other {
            board.settle(self.engine.config());
        } else {
            self.ticker.recount(&applied.names);
        }
        Ok(applied)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes the endpoints, for as long as the runtime lives.
pub async fn probe(reloader: Arc<Reloader>) {
    let board = reloader.engine.board();
    health::keep(board, move || match reloader.probed() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("endpoints' states are not published: {error}");
            false
        }
    })
    .await;
}

/// Sees to what is to be done now and then, for as long as the runtime lives.
pub async fn keep(reloader: Arc<Reloader>) {
    for turn in 0_u32.. {
        tokio::time::sleep(LOOK).await;
        let reloader = Arc::clone(&reloader);
        let look = tokio::task::spawn_blocking(move || reloader.look(turn.is_multiple_of(DRAINS)));
        if look.await.is_err() {
            return;
        }
    }
}

fn overrides(conditions: &Conditions) -> Vec<Override> {
    let drained = conditions.iter().filter(|(_, _, condition)| condition.drained);
    let mut all: Vec<_> = drained
        .map(|(service, (addr, port), _)| Override {
            service: service.to_owned(),
            endpoint: address(addr, port),
            state: "drain".to_owned(),
        })
        .collect();
    all.sort_by(|a, b| (&a.service, &a.endpoint).cmp(&(&b.service, &b.endpoint)));
    all
}

/// An endpoint by its address as the file has it; without the port where there is one of that address.
fn find<'c>(config: &'c Config, service: &str, endpoint: &str) -> Result<&'c config::Endpoint, DrainError> {
    let Some(found) = config.services.iter().find(|s| s.name == service) else {
        return Err(DrainError::NoService(service.to_owned(), some(config.services.iter().map(|s| &s.name))));
    };
    let all = || some(found.endpoints.iter().map(|e| address(e.address, e.port)));
    if let Some(exact) = found.endpoints.iter().find(|e| address(e.address, e.port) == endpoint) {
        return Ok(exact);
    }
    let bare = endpoint.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(Addr::from).ok();
    let mut same = found.endpoints.iter().filter(|e| Some(e.address) == bare);
    match (same.next(), same.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(DrainError::Ambiguous(service.to_owned(), all())),
        (None, _) => Err(DrainError::NoEndpoint {
            service: service.to_owned(),
            endpoint: endpoint.to_owned(),
            known: all(),
        }),
    }
}

/// A few names, for a message.
fn some(names: impl Iterator<Item = impl ToString>) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<_> = names.map(|name| name.to_string()).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    names.join(", ")
}
