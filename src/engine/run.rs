//! `pollux run`: the engine in the foreground, until a signal ends it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::notify::{self, Notifier};
use super::{Engine, EngineError, Hung, PATIENCE, inventory, serve};
use crate::config::{Config, Style};
use crate::control::{self, Bound};
use crate::health;
use crate::listener::{self, BindError, Security};
use crate::reload::{self, Outcome, Refusal, Reloader};

/// How long clients of the admin socket have to take the ends of their answers.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why `pollux run` ends with a failure.
#[derive(Debug, ThisError)]
pub enum RunError {
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The control threads or signal handlers cannot be had.
    #[error("control threads: {0}")]
    Runtime(#[from] std::io::Error),
    /// The metrics cannot be served where they should be.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The admin socket cannot be where it should be.
    #[error(transparent)]
    Admin(#[from] control::BindError),
    /// It has run, and does not end: to be followed by [`exit_at_once`](crate::dpdk::exit_at_once).
    #[error(transparent)]
    Hung(#[from] Hung),
}

/// Runs the engine with the configuration of `file` and what secures its listener, which SIGHUP reads again, until SIGTERM or SIGINT; then stops it after
/// `engine.shutdown_delay`. Once it is ready it calls `ready`:
/// what is said there comes after the reason of a failure to start.
///
/// # Errors
/// What kept it from starting; nothing runs then. Or what keeps it from ending.
pub fn run(config: &Config, security: Security, file: &Path, ready: impl FnOnce()) -> Result<(), RunError> {
    // Before the engine, which takes a while: a busy address is found at once.
    let listener = listener::bind(config.metrics.listen)?;
    // Where the configured port is 0, it has one now.
    let served_at = listener.local_addr().unwrap_or(config.metrics.listen);
    let socket = control::bind_configured(&config.control.socket)?;
    // Before the threads, so that they inherit the control threads' CPUs from this one.
    let engine = Arc::new(Engine::start(config)?);
    let runtime =
        Builder::new_multi_thread().worker_threads(2).thread_name("pollux-ctl").enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals::new()?
    };
    let telemetry = serve(listener, security, config, &engine, runtime.handle())?;
    let notifier = Arc::new(Notifier::from_env());
    let reloader = Reloader::new(Arc::clone(&engine), telemetry.ticker(), telemetry.gate(), file);
    let reloader = Arc::new(reloader.announced_by(Arc::clone(&notifier)));
    health::raise_file_limit();
    let probing = runtime.spawn(reload::probe(Arc::clone(&reloader)));
    let (admin, missing) = match socket {
        Bound::At(socket) => (
            Some(control::serve(
                socket,
                engine.tap(),
                engine.clock(),
                Some(Arc::clone(&reloader)),
                Some(telemetry.api()),
                runtime.handle(),
            )?),
            None,
        ),
        Bound::Missing(error) => (None, Some(error)),
        Bound::Off => (None, None),
    };

    eprint!("{}", inventory::table(&engine.ports()));
    eprintln!("pollux: {}", ready_line(config, &engine, telemetry.gate().security().is_tls(), served_at));
    ready();
    if let Some(error) = missing {
        tracing::warn!("{error}; going on without");
    }
    runtime.spawn(notify::keep(Arc::clone(&notifier), Arc::clone(&engine), telemetry.publication()));
    runtime.spawn(reload::keep(Arc::clone(&reloader)));
    runtime.spawn({
        let (engine, changed) = (Arc::clone(&engine), Arc::clone(&reloader));
        let wanted = move || engine.config().control.watch;
        reload::watch(Arc::clone(&reloader), wanted, move || {
            let reloader = Arc::clone(&changed);
            async move { reload_now(&reloader).await }
        })
    });
    runtime.block_on(async {
        signals.until_end(&reloader).await;
        engine.retire();
        telemetry.retire();
        let delay = engine.config().engine.shutdown_delay;
        notifier.stopping(delay, 2 * (PATIENCE + FAREWELL));
        if delay > Duration::ZERO {
            eprintln!("pollux: stopping in {} s; a second signal stops at once", delay.as_secs_f32());
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = signals.until_end(&reloader) => {}
            }
        }
    });
    probing.abort();
    // The last counts are served until the workers have ended.
    engine.stop_within(PATIENCE)?;
    if let Some(admin) = admin {
        runtime.block_on(admin.finish(FAREWELL));
    }
    drop(reloader);
    drop(telemetry);
    runtime.shutdown_timeout(Duration::from_secs(1));
    eprintln!("pollux: stopped");
    Ok(())
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Reloads at each SIGHUP meanwhile.
    async fn until_end(&mut self, reloader: &Arc<Reloader>) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.hup.recv() => reload_now(reloader).await,
            }
        }
    }
}

async fn reload_now(reloader: &Arc<Reloader>) {
    let reloader = Arc::clone(reloader);
    match tokio::task::spawn_blocking(move || reloader.reload(None)).await {
        Ok(Ok(Outcome { generation, changes, warnings, .. })) => {
            eprint!("{}", Style::for_stderr().render(&warnings));
            for change in &changes {
                tracing::info!("reload: {change}");
            }
            tracing::info!("reload: configuration {generation} is in force, {} change(s)", changes.len());
        }
        Ok(Err(refusal)) => {
            tracing::error!("reload: {refusal}");
            match refusal {
                Refusal::Invalid(report) => eprint!("{}", report.render(&Style::for_stderr())),
                Refusal::Restart(changes) => changes.iter().for_each(|change| eprintln!("  {change}")),
                Refusal::Apply(_) => {}
            }
        }
        Err(error) => tracing::error!("reload: {error}"),
    }
}

fn ready_line(config: &Config, engine: &Engine, tls: bool, served_at: SocketAddr) -> String {
    let ports: Vec<_> = engine
        .ports()
        .iter()
        .map(|port| {
            let link = if port.link_up { "up" } else { "down" };
            format!("{} ({}, {}, link {link})", port.name, port.device, port.mac)
        })
        .collect();
    let workers = engine.worker_cpus().len();
    format!(
        "ready: {} service(s) on {workers} worker(s), ports {}; metrics on {}://{served_at}/metrics",
        config.services.len(),
        ports.join(", "),
        if tls { "https" } else { "http" }
    )
}
