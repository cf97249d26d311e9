//! What systemd hears of the engine (sd_notify(3)): that it is ready, alive, reloading, stopping, and in a line how it is.
//!
//! Without `NOTIFY_SOCKET` nobody listens, and nothing is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::Engine;
use crate::metrics::{Publication, Stale};
use crate::time;

/// Between two looks at the engine.
const LOOK: Duration = Duration::from_millis(250);
/// How long systemd is asked to wait on for what the engine waits for (a link, next hops, first probes)…
const EXTENSION: Duration = Duration::from_secs(30);
/// …and how often.
const EXTEND: Duration = Duration::from_secs(10);

/// The way to systemd.
#[derive(Debug)]
pub struct Notifier {
    listened_to: bool,
    /// `READY=1` was said, and nothing of an end.
    ready: AtomicBool,
}

impl Notifier {
    /// To whom `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_env() -> Self {
        Self { listened_to: std::env::var_os("NOTIFY_SOCKET").is_some(), ready: AtomicBool::new(false) }
    }

    /// To nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self { listened_to: false, ready: AtomicBool::new(false) }
    }

    fn send(&self, message: &[NotifyState]) {
        if self.listened_to
            && let Err(error) = sd_notify::notify(message)
        {
            tracing::warn!("sd_notify: {error}");
        }
    }

    /// A reload is on until this is dropped. Before `READY=1` that goes without saying: systemd would take the reload's end for it.
    pub(crate) fn reloading(&self) -> Reloading<'_> {
        let said = self.ready.load(Ordering::Acquire);
        if said && let Ok(usec) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, usec]);
        }
        Reloading { notifier: self, said }
    }

    /// The end has begun, and may take `delay`.
    pub(super) fn stopping(&self, delay: Duration, patience: Duration) {
        self.ready.store(false, Ordering::Release);
        let status = match delay {
            Duration::ZERO => "stopping".to_owned(),
            delay => format!("not ready any more; forwarding for {} s yet", delay.as_secs_f32()),
        };
        let all = NotifyState::ExtendTimeoutUsec(micros(delay + patience));
        self.send(&[NotifyState::Stopping, NotifyState::Status(&status), all]);
    }
}

/// `READY=1` when it ends.
pub(crate) struct Reloading<'n> {
    notifier: &'n Notifier,
    said: bool,
}

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        // Not after an end that has begun meanwhile.
        if self.said && self.notifier.ready.load(Ordering::Acquire) {
            self.notifier.send(&[NotifyState::Ready]);
        }
    }
}

/// Tells systemd, for as long as the runtime lives.
pub(super) async fn keep(notifier: Arc<Notifier>, engine: Arc<Engine>, publication: Arc<Publication>) {
    if !notifier.listened_to {
        return;
    }
    let mut herald = Herald::new(Instant::now(), sd_notify::watchdog_enabled());
    loop {
        let now = Instant::now();
        let seen = Seen {
            // What /healthz and /readyz say.
            sick: cause(&publication, engine.clock().now()),
            ready: publication.is_ready(),
            retired: engine.is_retired(),
            waits_for: engine.waits_for(),
            in_force: in_force(&engine),
        };
        let told = herald.tell(now, &seen);
        if told.ready {
            notifier.ready.store(true, Ordering::Release);
        }
        let mut message = Vec::new();
        message.extend(told.ready.then_some(NotifyState::Ready));
        message.extend(told.alive.then_some(NotifyState::Watchdog));
        message.extend(told.extend.then(|| NotifyState::ExtendTimeoutUsec(micros(EXTENSION))));
        message.extend(told.status.as_deref().map(NotifyState::Status));
        if !message.is_empty() {
            notifier.send(&message);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why `/healthz` fails, without its time, or it would be another status at each look.
fn cause(publication: &Publication, now: time::Instant) -> Option<String> {
    let stale = publication.newest(now).err()?;
    Some(match (publication.silent(now), stale) {
        (Some((worker, _)), _) | (None, Stale::Worker(worker, _)) => {
            format!("worker {worker} does not answer")
        }
        (None, Stale::Snapshot(_)) => "the aggregator takes no snapshots".to_owned(),
        (None, Stale::Nothing) => "no snapshot yet".to_owned(),
    })
}

fn in_force(engine: &Engine) -> String {
    let tables = engine.tables();
    let services = tables.services.iter().count();
    format!(
        "configuration {}, {services} service(s) on {} worker(s)",
        tables.generation,
        engine.worker_cpus().len()
    )
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The engine at a look.
struct Seen {
    sick: Option<String>,
    ready: bool,
    retired: bool,
    waits_for: Option<String>,
    in_force: String,
}

/// What is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    ready: bool,
    alive: bool,
    extend: bool,
    status: Option<String>,
}

/// Decides what is told, and when.
struct Herald {
    ready: bool,
    status: String,
    watchdog: Option<Duration>,
    /// When systemd last heard that it is alive, and that it waits.
    alive: Option<Instant>,
    extended: Instant,
}

impl Herald {
    fn new(now: Instant, watchdog: Option<Duration>) -> Self {
        Self { ready: false, status: String::new(), watchdog, alive: None, extended: now }
    }

    fn tell(&mut self, now: Instant, seen: &Seen) -> Told {
        let mut told = Told::default();
        let well = seen.sick.is_none();
        if !self.ready && well && seen.ready {
            (self.ready, told.ready) = (true, true);
        }
        // Half of the watchdog's time, as sd_watchdog_enabled(3) recommends.
        let due = |last: Option<Instant>, every| last.is_none_or(|last| now.duration_since(last) >= every);
        if let Some(time) = self.watchdog
            && well
            && due(self.alive, time / 2)
        {
            (self.alive, told.alive) = (Some(now), true);
        }
        if !self.ready && well && due(Some(self.extended), EXTEND) {
            (self.extended, told.extend) = (now, true);
        }
        let status = match (&seen.sick, &seen.waits_for) {
            // That of the end stays.
            _ if seen.retired => return told,
            (Some(sick), _) => format!("unwell: {sick}"),
            (None, Some(what)) => format!("not ready: {what}"),
            (None, None) => format!("ready: {}", seen.in_force),
        };
        if status != self.status {
            self.status.clone_from(&status);
            told.status = Some(status);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sick: Option<&str>, waits_for: Option<&str>) -> Seen {
        Seen {
            sick: sick.map(str::to_owned),
            ready: waits_for.is_none(),
            retired: false,
            waits_for: waits_for.map(str::to_owned),
            in_force: "configuration 1".into(),
        }
    }

    #[test]
    fn ready_once_when_nothing_is_waited_for() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut herald = Herald::new(began, None);
        let told = herald.tell(at(0), &seen(None, Some("port wan has no link")));
        assert_eq!(told, Told { status: Some("not ready: port wan has no link".into()), ..Told::default() });
        assert_eq!(herald.tell(at(9_900), &seen(None, Some("port wan has no link"))), Told::default());
        let told = herald.tell(at(10_000), &seen(None, Some("port wan has no link")));
        assert_eq!(told, Told { extend: true, ..Told::default() });
        assert!(!herald.tell(at(10_250), &seen(Some("x"), None)).ready);
        let told = herald.tell(at(10_500), &seen(None, None));
        assert_eq!(
            told,
            Told { ready: true, status: Some("ready: configuration 1".into()), ..Told::default() }
        );
        assert_eq!(herald.tell(at(30_000), &seen(None, None)), Told::default());
        // A link that goes later takes nothing back but is said.
        let told = herald.tell(at(31_000), &seen(None, Some("port wan has no link")));
        assert_eq!(told, Told { status: Some("not ready: port wan has no link".into()), ..Told::default() });
        let ended = Seen { retired: true, ..seen(None, Some("the end")) };
        assert_eq!(herald.tell(at(32_000), &ended), Told::default());
    }

    #[test]
    fn the_watchdog_hears_of_the_living_alone() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut herald = Herald::new(began, Some(Duration::from_secs(2)));
        let alive = |herald: &mut Herald, ms, sick| herald.tell(at(ms), &seen(sick, None)).alive;
        assert!(alive(&mut herald, 0, None));
        assert!(!alive(&mut herald, 750, None));
        assert!(alive(&mut herald, 1_000, None));
        assert!(!alive(&mut herald, 2_000, Some("worker 1 does not answer")));
        assert!(!alive(&mut herald, 9_000, Some("worker 1 does not answer")));
        assert!(alive(&mut herald, 9_250, None), "at once");
    }
}
