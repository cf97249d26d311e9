//! What is probed, and what came of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::histogram::Histogram;
use super::machine::{Machine, Verdict};
use super::nat::{ProbeNat, ThroughVip};
use super::probe::Failure;
use crate::addr::Addr;
use crate::config::{
    Config, Endpoint, EndpointState, Finder, HealthCheck, Mode, ProbeTarget, Protocol, Service,
};
use crate::tables::{Condition, Conditions, Names};

/// Traffic may be sent here after this time, also where first probes are still pending.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two complaints that probes cannot be made.
const COMPLAINT: Duration = Duration::from_secs(10);

/// What one probe is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub address: Addr,
    /// 0 for an echo request.
    pub port: u16,
    /// How. Its own `port` is 0: services that name it otherwise share the probe.
    pub check: Arc<HealthCheck>,
    /// The way there, where that is the service's own.
    pub through: Option<ThroughVip>,
}

impl Hash for Target {
    /// Few probes ask one port in different ways, and a check is long: it takes more time than all else that a result costs.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.port).hash(state);
    }
}

impl Target {
    fn of(service: &Service, check: &Arc<HealthCheck>, endpoint: &Endpoint) -> Option<Self> {
        let own_port = if service.first_port == service.last_port { service.first_port } else { 0 };
        let tunnel = match service.mode {
            Mode::DsrTunnel { kind, source } => Some((kind, source)),
            _ => None,
        };
        let through = (check.target == ProbeTarget::Vip).then_some(ThroughVip { vip: service.vip, tunnel });
        // Nothing comes of probing one that the file calls down.
        (endpoint.state != EndpointState::Down).then(|| Self {
            address: endpoint.address,
            port: service.health_check.as_ref().map_or(0, |check| check.port_of(endpoint, own_port)),
            check: Arc::clone(check),
            through,
        })
    }

    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::from(self.address), self.port)
    }
}

/// How a service's endpoints are probed, without the port.
fn check_of(service: &Service) -> Option<Arc<HealthCheck>> {
    service.health_check.as_ref().map(|check| Arc::new(HealthCheck { port: 0, ..check.clone() }))
}

#[derive(Clone, Debug)]
struct Entry {
    machine: Machine,
    health: ProbeHealth,
    /// Its turn among all.
    place: u64,
}

impl Entry {
    fn new(verdict: Verdict, place: u64) -> Self {
        let health = ProbeHealth {
            kind: "",
            verdict,
            since: SystemTime::now(),
            reason: String::new(),
            rtt: None,
            flaps: 0,
            round_trips: Histogram::default(),
        };
        Self { machine: Machine::new(verdict), health, place }
    }
}

/// What an endpoint's probe has found.
#[derive(Clone, PartialEq, Debug)]
pub struct ProbeHealth {
    /// `tcp`, `udp`, `http`, `https`, `sctp`, `ping`.
    pub kind: &'static str,
    /// What follows from its results.
    pub verdict: Verdict,
    /// For how long that has been so.
    pub since: SystemTime,
    /// What the last failure was, or the last probe that could not be made; empty after a success.
    pub reason: String,
    /// How long the last answer took.
    pub rtt: Option<Duration>,
    /// How often it went up or down since it is probed, the first result not counted.
    pub flaps: u64,
    /// How long all answers took.
    pub round_trips: Histogram,
}

/// An endpoint as its service has it now.
#[derive(Clone, PartialEq, Debug)]
pub struct EndpointHealth {
    /// The service's name.
    pub service: String,
    /// `VIP:port`, as in the label `service`.
    pub service_address: String,
    /// L4 protocol of the service.
    pub protocol: Protocol,
    /// Address and port (0: the client's).
    pub endpoint: SocketAddr,
    /// What holds for it: of the file, of `pollux drain` and of its probe the strictest.
    pub state: EndpointState,
    /// What its probe says; none where it is not probed.
    pub probe: Option<ProbeHealth>,
}

impl EndpointHealth {
    /// `up`, `drain`, `down`, `pending`.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        let pending = self.probe.as_ref().is_some_and(|probe| probe.verdict == Verdict::Pending);
        match self.state {
            EndpointState::Up => "up",
            EndpointState::Drain => "drain",
            EndpointState::Down if pending => "pending",
            EndpointState::Down => "down",
        }
    }
}

/// How many probes of a kind ended how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Results {
    /// As expected.
    pub good: u64,
    /// Otherwise.
    pub failed: u64,
    /// They could not be made, for a reason of this machine: they say nothing of the endpoint.
    pub unable: u64,
}

/// All probes.
#[derive(Debug)]
pub struct Board {
    probes: Mutex<HashMap<Target, Entry>>,
    /// What is probed in whose name.
    config: Mutex<Option<Arc<Config>>>,
    results: Mutex<HashMap<&'static str, Results>>,
    places: AtomicU64,
    /// For the schedules.
    pub(super) seed: u64,
    nat: Arc<ProbeNat>,
    /// Some verdict is another.
    pub(super) changed: Notify,
    /// Something else is to be probed.
    pub(super) planned: Notify,
    settled: AtomicBool,
    began: Instant,
    complained: Mutex<Option<Instant>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            probes: Mutex::default(),
            config: Mutex::default(),
            results: Mutex::default(),
            places: AtomicU64::new(0),
            seed: RandomState::new().hash_one("probe"),
            nat: Arc::default(),
            changed: Notify::new(),
            planned: Notify::new(),
            settled: AtomicBool::new(false),
            began: Instant::now(),
            complained: Mutex::default(),
        }
    }
}

impl Board {
    /// Takes in what `new` wants to have probed, besides what is probed already. An endpoint that is in force in `old` keeps what is
    /// said of it there until enough results of its new probe speak against it; any other one is pending.
    pub fn plan(&self, old: Option<&Config>, new: &Config) {
        let mut probes = self.probes();
        let before = old.map(Finder::new);
        let mut coming: HashMap<Target, Verdict> = HashMap::new();
        for (place, service) in new.services.iter().enumerate() {
            // What is as it was is probed already.
            if before.as_ref().is_some_and(|before| before.same(place, service).is_some()) {
                continue;
            }
            let Some(check) = check_of(service) else { continue };
            let old = before.as_ref().and_then(|before| before.find(place, &service.name));
            let old_check = old.and_then(check_of);
            let old_endpoints: HashMap<_, _> = match old {
                Some(old)
                    if old.health_check != service.health_check || old.endpoints != service.endpoints =>
                {
                    old.endpoints.iter().map(|e| ((e.address, e.port), e)).collect()
                }
                _ => HashMap::new(),
            };
            for endpoint in &service.endpoints {
                let Some(target) = Target::of(service, &check, endpoint) else { continue };
                if probes.contains_key(&target) {
                    continue;
                }
                let was = old.zip(old_endpoints.get(&(endpoint.address, endpoint.port)));
                let was = was.map_or(Verdict::Pending, |(old, endpoint)| match &old_check {
                    _ if endpoint.state == EndpointState::Down => Verdict::Pending,
                    None => Verdict::Up,
                    Some(check) => Target::of(old, check, endpoint)
                        .and_then(|target| probes.get(&target))
                        .map_or(Verdict::Pending, |entry| entry.machine.verdict()),
                });
                let verdict = coming.entry(target).or_insert(was);
                if was == Verdict::Up || *verdict == Verdict::Pending {
                    *verdict = was;
                }
            }
        }
        for (target, verdict) in coming {
            let entry = Entry::new(verdict, self.places.fetch_add(1, Ordering::Relaxed));
            probes.insert(target, entry);
        }
    }

    /// Forgets what a configuration does not want to have probed, and has everything else probed.
    pub fn settle(&self, config: Arc<Config>) {
        let mut probes = self.probes();
        let mut kept = HashMap::with_capacity(probes.len());
        for service in &config.services {
            let Some(check) = check_of(service) else { continue };
            for endpoint in &service.endpoints {
                if let Some(target) = Target::of(service, &check, endpoint)
                    && let Some(entry) = probes.remove(&target)
                {
                    kept.insert(target, entry);
                }
            }
        }
        *probes = kept;
        drop(probes);
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        self.planned.notify_one();
    }

    /// Says of every endpoint whether it is down by its probe.
    pub fn write(&self, config: &Config, conditions: &mut Conditions) {
        for service in &config.services {
            let check = check_of(service);
            if check.is_none() && !conditions.has(&service.name) {
                continue;
            }
            // Service by service: results must not wait for all of them.
            let probes = self.probes();
            for endpoint in &service.endpoints {
                let target = check.as_ref().and_then(|check| Target::of(service, check, endpoint));
                let down = target.is_some_and(|target| {
                    probes.get(&target).is_none_or(|entry| entry.machine.verdict() != Verdict::Up)
                });
                let key = (endpoint.address, endpoint.port);
                let condition = conditions.of(&service.name, key);
                if condition.down != down {
                    conditions.set(&service.name, key, Condition { down, ..condition });
                }
            }
        }
    }

    /// What translates the probes that go through VIPs: for whoever carries frames between the kernel and the wire.
    #[must_use]
    pub fn nat(&self) -> Arc<ProbeNat> {
        Arc::clone(&self.nat)
    }

    /// What all probes are for, with their places.
    pub(super) fn targets(&self) -> Vec<(Target, u64)> {
        self.probes().iter().map(|(target, entry)| (target.clone(), entry.place)).collect()
    }

    /// Takes in a result. What is not probed any more has none.
    pub(super) fn record(&self, target: &Target, result: Result<(), Failure>, took: Duration) {
        let kind = target.check.probe.kind();
        let mut probes = self.probes();
        let Some(Entry { machine, health, .. }) = probes.get_mut(target) else { return };
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let count = results.entry(kind).or_default();
        let good = match result {
            Ok(()) => {
                count.good += 1;
                health.round_trips.record(took);
                health.rtt = Some(took);
                health.reason.clear();
                true
            }
            Err(Failure::Bad(reason)) => {
                count.failed += 1;
                health.reason = reason;
                false
            }
            Err(Failure::Unable(reason)) => {
                count.unable += 1;
                self.complain(target, &reason);
                health.reason = format!("cannot be probed: {reason}");
                return;
            }
        };
        let HealthCheck { rise, fall, .. } = *target.check;
        if !machine.take(good, rise, fall) {
            return;
        }
        health.flaps += u64::from(health.verdict != Verdict::Pending);
        health.verdict = machine.verdict();
        health.since = SystemTime::now();
        let reason = health.reason.clone();
        drop((results, probes));
        self.changed.notify_one();
        // Behind the locks: whoever reads this may be slow.
        let shown = target.socket();
        let through = target.through.map_or_else(String::new, |way| format!(" through {}", way.vip));
        if good {
            tracing::info!("endpoint {shown} is up, by its {kind} probe{through}");
        } else {
            tracing::warn!("endpoint {shown} is down, by its {kind} probe{through}: {reason}");
        }
    }

    fn complain(&self, target: &Target, reason: &str) {
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            *last = Some(Instant::now());
            tracing::warn!("endpoint {} and maybe others cannot be probed: {reason}", target.socket());
        }
    }

    /// Every endpoint of these tables: its state, and what its probe says. Asks for no lock of the engine's.
    #[must_use]
    pub fn endpoints(&self, names: &Names) -> Vec<EndpointHealth> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let services: HashMap<&str, &Service> =
            config.iter().flat_map(|config| &config.services).map(|s| (s.name.as_str(), &**s)).collect();
        let mut all = Vec::new();
        for service in &names.services {
            let mut probes = services.get(service.name.as_str()).map(|s| self.of(s)).unwrap_or_default();
            all.extend(service.endpoints.iter().map(|endpoint| EndpointHealth {
                service: service.name.clone(),
                service_address: service.address.clone(),
                protocol: service.protocol,
                endpoint: endpoint.address,
                state: endpoint.state,
                probe: probes.remove(&(endpoint.address.ip().into(), endpoint.address.port())),
            }));
        }
        all
    }

    fn of(&self, service: &Service) -> HashMap<(Addr, u16), ProbeHealth> {
        let Some(check) = check_of(service) else { return HashMap::new() };
        let probes = self.probes();
        let found = service.endpoints.iter().filter_map(|endpoint| {
            let entry = probes.get(&Target::of(service, &check, endpoint)?)?;
            let health = ProbeHealth { kind: check.probe.kind(), ..entry.health.clone() };
            Some(((endpoint.address, endpoint.port), health))
        });
        found.collect()
    }

    /// How the probes of each kind ended, by kind.
    #[must_use]
    pub fn results(&self) -> Vec<(&'static str, Results)> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.iter().map(|(kind, results)| (*kind, *results)).collect()
    }

    /// Whether every first probe has had its answer, or its time to.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        if self.settled.load(Ordering::Relaxed) {
            return true;
        }
        let pending = |entry: &Entry| entry.machine.verdict() == Verdict::Pending;
        let settled = self.began.elapsed() >= PATIENCE || !self.probes().values().any(pending);
        self.settled.store(settled, Ordering::Relaxed);
        settled
    }

    fn probes(&self) -> MutexGuard<'_, HashMap<Target, Entry>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
