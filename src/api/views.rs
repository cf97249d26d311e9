//! From the figures of a snapshot, and the configuration in force, to what the API answers.

use std::collections::HashMap;
use std::time::Duration;

use super::model::{
    Bucket, Configuration, Connections, Endpoint, Endpoints, Firewall, Health, Ledger, Mempool, Port,
    PortRates, Rates, RoundTrips, Rule, Service, ServiceRates, Snapshot, Status, TopClient, Totals, Worker,
};
use crate::addr::Prefix;
use crate::config::{self, Action, Algorithm, Config, EndpointState, Protocol, Role};
use crate::counters::{FlowState, Term};
use crate::engine::PortStatus;
use crate::health::{BOUNDS, EndpointHealth, Histogram, ProbeHealth, Verdict};
use crate::metrics::{Count, Figures};
use crate::pipeline::DropReason;
use crate::tables::{Conditions, Tables};

/// What is in force.
pub(super) struct State<'a> {
    pub figures: &'a Figures,
    pub tables: &'a Tables,
    pub config: &'a Config,
    pub conditions: &'a Conditions,
    pub of: Snapshot,
}

pub(super) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

impl State<'_> {
    fn count(&self, count: Option<Count>) -> (u64, f64) {
        let count = count.unwrap_or_default();
        (count.total, self.figures.rate(count))
    }

    /// The configured services by name: the tables have them in the same order, but for a moment in a reload.
    fn configured(&self) -> HashMap<&str, &config::Service> {
        self.config.services.iter().map(|service| (service.name.as_str(), &**service)).collect()
    }

    pub fn status(self, ports: &[PortStatus], ready: bool, started: Duration, now: Duration) -> Status {
        let Self { figures, tables, .. } = self;
        let (healthy, unhealthy) = figures.endpoints_by_health;
        let [tcp, udp, sctp] = figures.active;
        let state = |state: FlowState| figures.states[state as usize];
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dpdk: figures.dpdk.clone(),
            ready,
            started: seconds(started),
            uptime_seconds: seconds(now.saturating_sub(started)),
            config: Configuration {
                generation: figures.generation,
                applied: seconds(figures.applied),
                last_reload_ok: figures.last_reload_ok,
            },
            services: tables.names.services.len(),
            endpoints: Endpoints { healthy, unhealthy },
            firewall_rules: tables.names.rules.len(),
            ports: ports.len(),
            ports_up: ports.iter().filter(|port| port.link_up).count(),
            workers: figures.load.len(),
            connections: Connections {
                active: tcp + udp + sctp,
                tcp,
                udp,
                sctp,
                half_open: state(FlowState::HalfOpen),
                established: state(FlowState::Established),
                closing: state(FlowState::Closing),
                closed: state(FlowState::Closed),
                capacity: figures.capacity,
            },
            totals: Totals {
                requests: figures.requests.total,
                errors: figures.errors.total,
                connections: figures.created.total,
                packets: figures.packets.total,
                bytes: figures.bytes.total,
            },
            rates: Rates {
                requests: figures.rate(figures.requests),
                errors: figures.rate(figures.errors),
                connections: figures.rate(figures.created),
                packets: figures.rate(figures.packets),
                bytes: figures.rate(figures.bytes),
            },
            ledger: ledger(figures),
            mempools: figures
                .pools
                .iter()
                .map(|pool| Mempool { name: pool.name.clone(), size: pool.size, in_use: pool.in_use })
                .collect(),
            top_clients: figures
                .top_clients
                .iter()
                .map(|&(client, bytes_per_second)| TopClient { client: client.to_string(), bytes_per_second })
                .collect(),
            of: self.of,
        }
    }

    pub fn services(&self) -> Vec<Service> {
        let configured = self.configured();
        let names = &self.tables.names;
        let rows = names.services.iter().map(|name| {
            let endpoints = &name.endpoints;
            let compiled = self.tables.services.by_id(name.id);
            let figures = self.figures.services.get(&name.id).copied().unwrap_or_default();
            let rate = |count| self.figures.rate(count);
            let config = configured.get(name.name.as_str());
            Service {
                name: name.name.clone(),
                address: name.address.clone(),
                protocol: name.protocol.name().to_owned(),
                mode: config.map_or("", |config| mode(config)).to_owned(),
                algorithm: config.map_or("", |config| algorithm(config.algorithm)).to_owned(),
                endpoints: endpoints.len(),
                endpoints_up: compiled.map_or(0, |s| s.endpoints.iter().filter(|e| e.takes_new()).count()),
                connections: endpoints
                    .iter()
                    .filter_map(|e| Some(self.figures.endpoints.get(&e.id)?.connections))
                    .sum(),
                requests: figures.requests.total,
                errors: figures.errors.total,
                packets: figures.packets.total,
                bytes: figures.bytes.total,
                rates: ServiceRates {
                    requests: rate(figures.requests),
                    errors: rate(figures.errors),
                    packets: rate(figures.packets),
                    bytes: rate(figures.bytes),
                },
                rps_1m_avg: figures.minute.0,
                rps_1m_peak: figures.minute.1,
            }
        });
        rows.collect()
    }

    pub fn endpoints(&self, probes: Vec<EndpointHealth>) -> Vec<Endpoint> {
        let mut probes: HashMap<_, _> = probes
            .into_iter()
            .filter_map(|health| Some(((health.service, health.endpoint), health.probe?)))
            .collect();
        let configured = self.configured();
        let names = &self.tables.names;
        let of_service = names
            .services
            .iter()
            .flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)));
        let rows = of_service.map(|(service, name)| {
            let key = (name.address.ip().into(), name.address.port());
            let config = configured.get(service.name.as_str()).and_then(|service| {
                service.endpoints.iter().find(|endpoint| (endpoint.address, endpoint.port) == key)
            });
            let condition = self.conditions.of(&service.name, key);
            let figures = self.figures.endpoints.get(&name.id).copied().unwrap_or_default();
            Endpoint {
                service: service.name.clone(),
                address: name.address.to_string(),
                state: state(name.state).to_owned(),
                configured: state(config.map_or(name.state, |config| config.state)).to_owned(),
                drained: condition.drained,
                health: probes.remove(&(service.name.clone(), name.address)).map(health),
                weight: config.map_or(0, |config| config.weight),
                weight_percent: condition.percent,
                connections: figures.connections,
                bytes: figures.bytes.total,
                bytes_per_second: self.figures.rate(figures.bytes),
                share: figures.share,
            }
        });
        rows.collect()
    }

    pub fn firewall(self) -> Firewall {
        let configured: HashMap<&str, &config::Rule> =
            self.config.firewall.iter().map(|rule| (rule.name.as_str(), rule)).collect();
        let text = |prefixes: &[Prefix]| prefixes.iter().map(ToString::to_string).collect();
        let rules = self.tables.names.rules.iter().filter_map(|(id, name)| {
            let rule = configured.get(name.as_str())?;
            let (drops, drops_per_second) = self.count(self.figures.rules.get(id).copied());
            Some(Rule {
                name: name.clone(),
                action: match rule.action {
                    Action::Drop => "drop",
                    Action::Allow => "allow",
                }
                .to_owned(),
                protocol: rule.protocol,
                source: text(&rule.source),
                destination: text(&rule.destination),
                source_port: rule.source_port,
                destination_port: rule.destination_port,
                port: rule.port.and_then(|port| Some(self.config.ports.get(port)?.name.clone())),
                drops,
                drops_per_second,
            })
        });
        Firewall { drops: self.figures.fw_drops.total, rules: rules.collect(), of: self.of }
    }

    pub fn ports(&self, ports: &[PortStatus]) -> Vec<Port> {
        let figures = |n: usize| self.figures.ports.get(n).copied().unwrap_or_default();
        let rate = |count| self.figures.rate(count);
        let rows = ports.iter().zip(&self.config.ports).enumerate().map(|(n, (port, config))| {
            let figures = figures(n);
            let device = figures.device;
            Port {
                name: port.name.clone(),
                device: port.device.clone(),
                driver: port.driver.clone(),
                mac: port.mac.to_string(),
                link_up: port.link_up,
                role: match config.role {
                    Role::Client => "client",
                    Role::Server => "server",
                    Role::Both => "both",
                }
                .to_owned(),
                addresses: config.addresses.iter().map(ToString::to_string).collect(),
                mtu: config.mtu,
                vlan: config.vlan,
                kernel: config.kernel.clone(),
                rx_queues: port.rx_queues,
                tx_queues: port.tx_queues,
                steered: port.steered,
                rx_packets: figures.rx_packets.total,
                rx_bytes: figures.rx_bytes.total,
                tx_packets: figures.tx_packets.total,
                tx_bytes: figures.tx_bytes.total,
                tx_dropped: figures.tx_dropped.total,
                rx_missed: device.map_or(0, |device| device.rx_missed),
                rx_no_mbuf: device.map_or(0, |device| device.rx_no_mbuf),
                rx_errors: device.map_or(0, |device| device.rx_errors),
                tx_errors: device.map_or(0, |device| device.tx_errors),
                rates: PortRates {
                    rx_packets: rate(figures.rx_packets),
                    rx_bytes: rate(figures.rx_bytes),
                    tx_packets: rate(figures.tx_packets),
                    tx_bytes: rate(figures.tx_bytes),
                },
            }
        });
        rows.collect()
    }

    pub fn workers(&self, cpus: &[usize], capacity: &[usize], silence: &[Duration]) -> Vec<Worker> {
        let rows = self.figures.load.iter().enumerate().map(|(n, load)| Worker {
            worker: n,
            cpu: cpus.get(n).copied().unwrap_or_default(),
            busy_ratio: load.busy_ratio,
            busy_seconds: load.busy_nanos as f64 / 1e9,
            polls: load.polls,
            busy_polls: load.busy_polls,
            connection_capacity: capacity.get(n).copied().unwrap_or_default(),
            heartbeat_seconds: silence.get(n).copied().map_or(0.0, seconds),
        });
        rows.collect()
    }
}

fn ledger(figures: &Figures) -> Ledger {
    let between = |entered, left| figures.term(entered).wrapping_sub(figures.term(left)).cast_signed();
    let dropped = || DropReason::ALL.iter().zip(&figures.dropped);
    Ledger {
        rx: figures.term(Term::Rx),
        forwarded: figures.term(Term::Forwarded),
        punted: figures.term(Term::Punted),
        consumed: figures.term(Term::Consumed),
        held: between(Term::HeldIn, Term::HeldOut),
        handoff_ring: between(Term::HandedOut, Term::HandedIn),
        dropped: dropped().map(|(reason, count)| (reason.label().to_owned(), count.total)).collect(),
        dropped_rates: dropped()
            .filter(|(_, count)| count.last > 0)
            .map(|(reason, count)| (reason.label().to_owned(), figures.rate(*count)))
            .collect(),
        originated: figures.term(Term::Originated),
        injected: figures.term(Term::Injected),
        extra_fragments: figures.term(Term::ExtraFragments),
        tx: figures.term(Term::Tx),
        tx_dropped: figures.term(Term::TxDropped),
    }
}

/// How a service forwards.
fn mode(service: &config::Service) -> &'static str {
    service.mode.name()
}

fn health(probe: ProbeHealth) -> Health {
    Health {
        state: match probe.verdict {
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Pending => "pending",
        }
        .to_owned(),
        reason: Some(probe.reason).filter(|reason| !reason.is_empty()),
        rtt_seconds: probe.rtt.map(|rtt| rtt.as_secs_f64()),
        round_trips: round_trips(&probe.round_trips),
        flaps: probe.flaps,
    }
}

fn round_trips(histogram: &Histogram) -> RoundTrips {
    let mut buckets = Vec::with_capacity(BOUNDS.len());
    let mut count = 0;
    for (le_seconds, own) in BOUNDS.into_iter().zip(histogram.buckets) {
        count += own;
        buckets.push(Bucket { le_seconds, count });
    }
    RoundTrips { count: histogram.count, sum_seconds: histogram.sum, buckets }
}

pub(crate) fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Maglev { .. } => "maglev",
        Algorithm::RoundRobin => "round-robin",
        Algorithm::LeastConnections => "least-connections",
        Algorithm::SourceHash { .. } => "source-hash",
    }
}

fn state(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Up => "up",
        EndpointState::Drain => "drain",
        EndpointState::Down => "down",
    }
}

/// As the configuration names it.
pub(super) fn protocol(protocol: Protocol) -> String {
    protocol.name().to_owned()
}
