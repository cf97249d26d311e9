//! Adds up what the workers count, second by second, and settles it into a snapshot tick by tick.
//!
//! Time is an argument: `run` drives this from a thread ([`super::Ticker`]), `replay` and the tests on virtual time. A round is
//!
//! 1. [`due`](Aggregator::due): when;
//! 2. [`ask`](Aggregator::ask) every worker for the next counter tick, which each enters between two bursts
//!    ([`Writer::turn`](crate::counters::Writer::turn));
//! 3. [`step`](Aggregator::step), once all have: folds the banks at rest, and settles where a `metrics.tick` has passed;
//! 4. [`publish`](Aggregator::publish) after each tick settled.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::{Catalog, Handshakes};
use super::device::{DeviceStats, HealthStats, KernelStats, PoolStats, PortStats};
use super::exposition::{Exposition, Publication};
use super::flows::{Amount, Flows, Frozen, Pair, most_followed, stray};
use super::handover::{Handover, Next};
use super::minute::TimeLine;
use super::system::{Machine, Reading};
use super::totals::{Retired, Totals};
use crate::config;
use crate::counters::{Bank, HandshakeCounters, Sizes, WorkerCounters};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::listener::ListenerStats;
use crate::tables::Names;
use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// What does not change while the engine runs, and the `[metrics]` that it starts with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[metrics]`.
    pub metrics: config::Metrics,
    /// Names of the ports, by [`crate::ids::PortId`].
    pub ports: Vec<String>,
    /// CPUs of the workers, by [`crate::ids::WorkerId`].
    pub worker_cpus: Vec<usize>,
    /// Connections that fit into the tables of all workers.
    pub conntrack_capacity: u64,
    /// Unix time of [`Instant::ZERO`].
    pub unix_start: Duration,
    /// Version of DPDK.
    pub dpdk_version: String,
    /// Cycles of the time stamp counter in a nanosecond, where it is the engine's clock.
    pub cycles_per_nano: Option<f64>,
}

/// What came of a [`step`](Aggregator::step).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A worker has not entered the tick asked for: nothing was folded, look again.
    Waiting,
    /// All banks were folded.
    Folded,
    /// All banks were folded, and a tick was settled: publish.
    Ticked,
}

/// Which configuration is in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    pub generation: u64,
    pub at: Instant,
    pub last_reload_ok: bool,
}

/// What devices said at the last snapshot.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub ports: Vec<PortStats>,
    pub pools: Vec<PoolStats>,
    pub kernel: KernelStats,
    pub listener: ListenerStats,
    pub health: HealthStats,
}

/// Totals of everything, and when they are due.
pub struct Aggregator {
    pub(super) settings: Settings,
    workers: Vec<Arc<WorkerCounters>>,
    pub(super) publication: Arc<Publication>,
    handover: Arc<Handover>,
    /// A configuration was taken over since the last snapshot.
    unpublished: bool,
    pub(super) totals: Totals,
    pub(super) retired: Retired,
    pub(super) catalog: Catalog,
    pub(super) flows: Flows,
    /// Of a bank, by endpoint: kept for its memory.
    sums: Vec<Amount>,
    pub(super) line: TimeLine,
    /// In all workers' tables, by endpoint.
    connections: Vec<u64>,
    /// The same as of the last tick.
    pub(super) settled_connections: Vec<u64>,
    pub(super) applied: Applied,
    /// The counter tick asked for; not `metrics.tick`.
    asked: u32,
    outstanding: bool,
    next_second: Instant,
    next_tick: Instant,
    next_window: Instant,
    /// Whether a distribution window was whole yet.
    window_seen: bool,
    pub(super) settled_at: Instant,
    folded_at: Instant,
    devices: Option<Box<dyn DeviceStats>>,
    machine: Option<Machine>,
    pub(super) device_stats: Devices,
    pub(super) reading: Option<Reading>,
    /// How long the last snapshot took to make, seconds.
    pub(super) tick_seconds: Option<f64>,
}

impl Aggregator {
    /// All totals at 0, every configured series there. Has no machine's or device's figures until given
    /// [`with_machine`](Self::with_machine) and [`with_devices`](Self::with_devices).
    #[must_use]
    pub fn new(
        settings: Settings,
        workers: Vec<Arc<WorkerCounters>>,
        names: &Names,
        generation: u64,
    ) -> Self {
        let sizes = workers
            .first()
            .map_or(Sizes { ports: 0, services: 0, endpoints: 0, rules: 0, snat: 0, pairs: 0 }, |worker| {
                worker.sizes()
            });
        let metrics = &settings.metrics;
        let (mut catalog, mut retired) = (Catalog::default(), Retired::default());
        catalog.reconfigure(names, metrics.service_label, &mut retired);
        Self {
            publication: Arc::new(Publication::new(workers.clone(), metrics.tick)),
            handover: Arc::default(),
            unpublished: true,
            totals: Totals::new(sizes, workers.len()),
            retired,
            catalog,
            flows: Flows::new(workers.len(), most_followed(metrics.flow_series_limit)),
            sums: Vec::new(),
            line: TimeLine::new(Instant::ZERO),
            connections: Vec::new(),
            settled_connections: Vec::new(),
            applied: Applied { generation, at: Instant::ZERO, last_reload_ok: true },
            asked: 0,
            outstanding: false,
            next_second: Instant::ZERO.after(SECOND),
            next_tick: Instant::ZERO.after(metrics.tick),
            next_window: Instant::ZERO.after(metrics.distribution_tick),
            window_seen: false,
            settled_at: Instant::ZERO,
            folded_at: Instant::ZERO,
            devices: None,
            machine: None,
            device_stats: Devices::default(),
            reading: None,
            tick_seconds: None,
            settings,
            workers,
        }
    }

    /// Shows the figures of this machine and process.
    #[must_use]
    pub fn with_machine(mut self) -> Self {
        self.machine = Some(Machine::new());
        self
    }

    /// Shows what devices and buffer pools count.
    #[must_use]
    pub fn with_devices(mut self, devices: Box<dyn DeviceStats>) -> Self {
        self.devices = Some(devices);
        self
    }

    /// Where [`publish`](Self::publish) puts snapshots.
    #[must_use]
    pub fn publication(&self) -> Arc<Publication> {
        Arc::clone(&self.publication)
    }

    /// Where another configuration is left for it.
    pub(super) fn handover(&self) -> Arc<Handover> {
        Arc::clone(&self.handover)
    }

    /// When the next fold is due: on every whole second and at the end of every tick.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.next_second.min(self.next_tick)
    }

    /// Asks every worker to count in its other bank. Once for each fold, however often called.
    pub fn ask(&mut self) {
        if !self.outstanding {
            self.asked = self.asked.wrapping_add(1);
            for worker in &self.workers {
                worker.ask(self.asked);
            }
            self.outstanding = true;
        }
    }

    /// Folds the banks at rest, where every worker has done what it was [asked](Self::ask), and settles the tick where it is over at
    /// `now`. Never of some workers only: a scrape shows one picture.
    pub fn step(&mut self, now: Instant) -> Step {
        if !self.fold(now) {
            return Step::Waiting;
        }
        if now >= self.next_second {
            self.line.close();
            for (_, series) in &mut self.catalog.services {
                self.line.clear(&mut series.readings);
            }
            self.next_second = on_grid_after(now, SECOND);
        }
        if now < self.next_tick {
            return Step::Folded;
        }
        self.next_tick = on_grid_after(now, self.settings.metrics.tick);
        let window_ends = now >= self.next_window;
        if window_ends {
            self.next_window = on_grid_after(now, self.settings.metrics.distribution_tick);
            self.window_seen = true;
        }
        self.settle(true, window_ends);
        Step::Ticked
    }

    fn fold(&mut self, now: Instant) -> bool {
        let agreed = |worker: &Arc<WorkerCounters>| worker.at_rest(self.asked).is_some();
        if !self.outstanding || !self.workers.iter().all(agreed) {
            return false;
        }
        self.outstanding = false;
        let handover = self.handover();
        let mut waiting = handover.open();
        self.take_over(waiting.drain(..));
        for n in 0..self.workers.len() {
            let worker = Arc::clone(&self.workers[n]);
            if let Some(bank) = worker.at_rest(self.asked) {
                self.totals.fold(n, bank);
                worker.take_latencies(|latencies| self.totals.latencies.open.drain(latencies));
                self.fold_services(worker.sizes(), bank);
                self.fold_rules(worker.sizes(), bank);
                self.fold_connections(worker.sizes(), bank);
                self.fold_pairs(n, &worker, bank);
            }
        }
        drop(waiting);
        self.line.extend(now);
        self.folded_at = now;
        true
    }

    fn take_over(&mut self, changes: impl Iterator<Item = Next>) {
        for next in changes {
            match next {
                Next::Configuration { at, metrics, names, generation } => {
                    self.go_over(at, &metrics, &names, generation);
                }
                Next::State(names) => self.catalog.recount(&names),
            }
        }
    }

    /// Takes over what was left at the [handover](Self::handover) and shows it, if there is anything to be shown.
    pub(super) fn catch_up(&mut self) {
        let waiting = std::mem::take(&mut *self.handover().open());
        self.take_over(waiting.into_iter());
        if self.unpublished {
            self.publish();
        }
    }

    fn fold_services(&mut self, sizes: Sizes, bank: &Bank) {
        for id in (0..sizes.services as u32).map(ServiceId) {
            let counters = bank.service(id);
            let delta = self.totals.fold_service(counters);
            self.fold_handshakes(id, &counters.handshakes);
            if let Some(protocol) = self.catalog.protocol(id) {
                self.totals.protocol_packets[protocol.index()].sub(delta.icmp_packets);
                self.totals.protocol_bytes[protocol.index()].sub(delta.icmp_bytes);
            }
            if delta.requests == 0 && delta.errors == 0 {
                continue;
            }
            if let Some(series) = self.catalog.service(id) {
                series.requests.add(delta.requests);
                series.errors.add(delta.errors);
                self.line.count(&mut series.readings, delta.requests);
            } else {
                self.retired.requests.add(delta.requests);
                self.retired.errors.add(delta.errors);
            }
        }
    }

    /// Of a service that is no longer configured they are of no interest.
    fn fold_handshakes(&mut self, id: ServiceId, counters: &HandshakeCounters) {
        match self.catalog.service(id).and_then(|series| series.handshakes.as_mut()) {
            Some(handshakes) => handshakes.fold(counters),
            None => Handshakes::default().fold(counters),
        }
    }

    fn fold_connections(&mut self, sizes: Sizes, bank: &Bank) {
        self.connections.resize(sizes.endpoints.max(self.connections.len()), 0);
        for (id, connections) in (0..).map(EndpointId).zip(&mut self.connections[..sizes.endpoints]) {
            let counters = bank.endpoint(id);
            *connections = connections.wrapping_add(counters.connections.take());
            let (handshakes, micros) = (counters.handshakes.take(), counters.handshake_us.take());
            // Of an endpoint that is no longer configured they are of no interest.
            if handshakes > 0
                && let Some(key) = self.catalog.endpoint_key(id)
            {
                let series = &mut self.catalog.endpoints[key];
                series.handshakes.add(handshakes);
                series.handshake_us.add(micros);
            }
        }
    }

    /// Connections in all workers' tables as of the last fold, by [`EndpointId`].
    #[must_use]
    pub fn endpoint_connections(&self) -> &[u64] {
        &self.connections
    }

    fn fold_rules(&mut self, sizes: Sizes, bank: &Bank) {
        for id in (0..sizes.rules as u32).map(RuleId) {
            let drops = bank.rule(id).take();
            self.totals.fw_drops.add(drops);
            match self.catalog.rule(id) {
                Some(series) => series.drops.add(drops),
                None => self.retired.fw_drops.add(drops),
            }
        }
    }

    /// Everything processed comes through here: each total and each series is a sum of these.
    fn fold_pairs(&mut self, n: usize, worker: &WorkerCounters, bank: &Bank) {
        let mut sums = std::mem::take(&mut self.sums);
        sums.clear();
        for slot in worker.pair_slots() {
            let counters = bank.pair(slot);
            let amount = Amount { packets: counters.packets.take(), bytes: counters.bytes.take() };
            if amount == Amount::default() {
                continue;
            }
            let (endpoint, client) = match slot.endpoint() {
                Some(endpoint) => (endpoint, None),
                None => {
                    let key = worker.pair_key(slot);
                    (key.endpoint, Some(key.client))
                }
            };
            if endpoint.index() >= sums.len() {
                sums.resize(endpoint.index() + 1, Amount::default());
            }
            sums[endpoint.index()].add(amount);
            let Some(series) = self.catalog.endpoint_key(endpoint) else { continue };
            let service = self.catalog.endpoints[series].service;
            let Some(client) = client else {
                stray(series, amount, &mut self.catalog);
                continue;
            };
            let pair = Pair { service: service as u32, endpoint: series as u32, client };
            self.flows.count((n, slot.index()), &pair, amount, &mut self.catalog, &mut self.retired);
        }
        for (endpoint, amount) in (0..).map(EndpointId).zip(&sums) {
            if *amount != Amount::default() {
                self.fold_endpoint(endpoint, *amount);
            }
        }
        self.sums = sums;
    }

    fn fold_endpoint(&mut self, endpoint: EndpointId, amount: Amount) {
        let Amount { packets, bytes } = amount;
        self.totals.packets.add(packets);
        self.totals.bytes.add(bytes);
        let service = self.catalog.home(endpoint);
        if let Some(protocol) = service.and_then(|id| self.catalog.protocol(id)) {
            self.totals.protocol_packets[protocol.index()].add(packets);
            self.totals.protocol_bytes[protocol.index()].add(bytes);
        }
        let key = self.catalog.endpoint_key(endpoint);
        let retired = &mut self.retired;
        match service.and_then(|id| self.catalog.service(id)) {
            Some(series) => {
                series.packets.add(packets);
                series.bytes.add(bytes);
                if key.is_none() {
                    series.other_packets.add(packets);
                    series.stray_packets.add(packets);
                }
            }
            None => {
                retired.service_packets.add(packets);
                retired.service_bytes.add(bytes);
                if key.is_none() {
                    retired.client_packets.add(packets);
                    retired.followed.client_packets.add(packets);
                }
            }
        }
        let Some(key) = key else {
            retired.endpoint_bytes.add(bytes);
            for (of_packets, of_bytes) in [
                (&mut retired.pair_packets, &mut retired.pair_bytes),
                (&mut retired.followed.pair_packets, &mut retired.followed.pair_bytes),
            ] {
                of_packets.add(packets);
                of_bytes.add(bytes);
            }
            return;
        };
        self.catalog.endpoints[key].bytes.add(bytes);
    }

    /// Ends the tick with what was folded last.
    fn settle(&mut self, whole: bool, window_ends: bool) {
        let seconds = self.folded_at.since(self.settled_at).as_secs_f64();
        self.totals.settle(seconds, whole);
        let limit = self.settings.metrics.flow_series_limit;
        self.flows.settle(limit, &mut self.catalog, &mut self.retired);
        self.catalog.settle(window_ends);
        self.retired.settle();
        self.settled_connections.clone_from(&self.connections);
        self.settled_at = self.folded_at;
    }

    /// Makes the last tick settled the newest snapshot.
    pub fn publish(&mut self) {
        let began = std::time::Instant::now();
        if let Some(devices) = &mut self.devices {
            self.device_stats = Devices {
                ports: devices.ports(),
                pools: devices.pools(),
                kernel: devices.kernel(),
                listener: devices.listener(),
                health: devices.health(),
            };
        }
        if let Some(machine) = &mut self.machine {
            let busy = self.totals.load.iter().map(|load| load.busy_ratio);
            let workers: Vec<_> = self.settings.worker_cpus.iter().copied().zip(busy).collect();
            self.reading = Some(machine.read(&workers));
        }
        self.unpublished = false;
        let (text, flows) = self.text(false);
        self.publication.put(Exposition::new(text, flows, self.settled_at, self.figures()));
        if self.machine.is_some() {
            self.tick_seconds = Some(began.elapsed().as_secs_f64());
        }
    }

    /// All client–endpoint pairs as of the last snapshot.
    pub fn freeze(&mut self) -> Arc<Frozen> {
        self.flows.freeze(&self.catalog, &self.retired)
    }

    /// Bytes of memory that client–endpoint pairs take here, and how many there are.
    #[must_use]
    pub fn pair_memory(&self) -> (usize, usize) {
        (self.flows.bytes(), self.flows.followed().0)
    }

    /// Goes over to another configuration and publishes its series at 0. No bank may be folded between the first worker's getting the new
    /// tables and this, so that a series is there when its first count comes.
    pub fn reconfigure(&mut self, now: Instant, metrics: &config::Metrics, names: &Names, generation: u64) {
        self.go_over(now, metrics, names, generation);
        self.publish();
    }

    fn go_over(&mut self, now: Instant, metrics: &config::Metrics, names: &Names, generation: u64) {
        let removed = self.catalog.reconfigure(names, metrics.service_label, &mut self.retired);
        self.flows.remove(&removed, &mut self.catalog, &mut self.retired);
        self.flows.thaw();
        self.flows.set_bound(most_followed(metrics.flow_series_limit));
        self.applied = Applied { generation, at: now, last_reload_ok: true };
        if metrics.tick != self.settings.metrics.tick {
            self.publication.set_tick(metrics.tick);
            self.next_tick = on_grid_after(now, metrics.tick);
        }
        if metrics.distribution_tick != self.settings.metrics.distribution_tick {
            self.next_window = on_grid_after(now, metrics.distribution_tick);
        }
        self.settings.metrics = metrics.clone();
        self.unpublished = true;
    }

    /// The run-time state alone is another: no series comes or goes.
    pub fn recount(&mut self, names: &Names) {
        self.catalog.recount(names);
    }

    /// A new configuration was refused: the old one stays.
    pub fn reload_refused(&mut self) {
        self.applied.last_reload_ok = false;
    }

    /// The exposition as of `now`, the end of a capture: with everything counted, nothing pending, and no figures of this machine. The
    /// workers must have been asked and have turned. A window or tick that never was whole shows as far as it went.
    #[must_use]
    pub fn render_final(&mut self, now: Instant) -> String {
        self.step(now);
        let window_ends = !self.window_seen;
        self.settle(false, window_ends);
        self.text(true).0
    }
}

/// The first multiple of `period` after `now`.
fn on_grid_after(now: Instant, period: Duration) -> Instant {
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    Instant((now.0 / period + 1).saturating_mul(period))
}
