//! The figures of a snapshot as numbers, for the API: the same that its text shows, from the same sums.

use std::collections::HashMap;
use std::time::Duration;

use super::aggregator::Aggregator;
use super::device::{KernelStats, PoolStats, PortStats};
use super::flows::Pair;
use super::tally::Tally;
use crate::addr::Addr;
use crate::config::Protocol;
use crate::counters::{FlowState, Term};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::pipeline::DropReason;
use crate::time::Instant;

/// Clients that a snapshot names.
const TOP_CLIENTS: usize = 20;

/// Packets and L3 bytes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Total {
    /// Packets.
    pub packets: u64,
    /// L3 bytes.
    pub bytes: u64,
}

/// A counter: its value, and what the last tick brought.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Count {
    /// The counter.
    pub total: u64,
    /// In the last tick.
    pub last: u64,
}

impl From<&Tally> for Count {
    fn from(tally: &Tally) -> Self {
        Self { total: tally.settled, last: tally.last }
    }
}

/// Of the series that a service counts for, which services on one VIP and port share.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct ServiceFigures {
    /// `total_requests_per_service`
    pub requests: Count,
    /// `total_errors_per_service`
    pub errors: Count,
    /// `service_traffic_packets`
    pub packets: Count,
    /// `service_traffic_bytes`
    pub bytes: Count,
    /// `rps_1m_avg`, `rps_1m_peak`
    pub minute: (f64, f64),
}

/// Of the series that an endpoint counts for, which endpoints of a service with one address share.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct EndpointFigures {
    /// Connections in all workers' tables: the endpoint's own.
    pub connections: u64,
    /// `endpoint_traffic_bytes`
    pub bytes: Count,
    /// Its part of its service's bytes in the last distribution window; `endpoint_load_dists_per_service`.
    pub share: f64,
}

/// What a port has counted.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct PortFigures {
    /// `pollux_port_rx_packets_total`
    pub rx_packets: Count,
    /// `pollux_port_rx_bytes_total`
    pub rx_bytes: Count,
    /// `pollux_port_tx_packets_total`
    pub tx_packets: Count,
    /// `pollux_port_tx_bytes_total`
    pub tx_bytes: Count,
    /// `pollux_port_tx_dropped_packets_total`
    pub tx_dropped: Count,
    /// What its device says.
    pub device: Option<PortStats>,
}

/// How a worker spent its time.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Load {
    /// `pollux_worker_busy_ratio`
    pub busy_ratio: f64,
    /// Nanoseconds; `pollux_worker_busy_seconds_total`
    pub busy_nanos: u64,
    /// `pollux_worker_polls_total`
    pub polls: u64,
    /// `pollux_worker_busy_polls_total`
    pub busy_polls: u64,
}

/// All figures of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// When it was taken, since 1970.
    pub unix: Duration,
    /// Length of the last tick, seconds; 0 before the first.
    pub tick_seconds: f64,
    /// `pollux_config_generation`
    pub generation: u64,
    /// When that was applied, since 1970.
    pub applied: Duration,
    /// `pollux_config_last_reload_successful`
    pub last_reload_ok: bool,
    /// Version of DPDK.
    pub dpdk: String,
    /// Healthy and unhealthy endpoints.
    pub endpoints_by_health: (usize, usize),
    /// Half-open and established connections, by protocol.
    pub active: [i64; Protocol::ALL.len()],
    /// Connections by state.
    pub states: [i64; FlowState::ALL.len()],
    /// `pollux_conntrack_capacity`
    pub capacity: u64,
    /// `total_requests`
    pub requests: Count,
    /// `total_errors`
    pub errors: Count,
    /// `processed_packets_total`
    pub packets: Count,
    /// `processed_bytes_total`
    pub bytes: Count,
    /// `pollux_connections_total`
    pub created: Count,
    /// `total_fw_drops`
    pub fw_drops: Count,
    /// The ledger, in the order of [`Term::ALL`].
    pub terms: [u64; Term::ALL.len()],
    /// In the order of [`DropReason::ALL`].
    pub dropped: Vec<Count>,
    /// By service.
    pub services: HashMap<ServiceId, ServiceFigures>,
    /// By endpoint.
    pub endpoints: HashMap<EndpointId, EndpointFigures>,
    /// By rule; `total_fw_drops_per_rule`
    pub rules: HashMap<RuleId, Count>,
    /// By port.
    pub ports: Vec<PortFigures>,
    /// By worker.
    pub load: Vec<Load>,
    /// Clients with most traffic, and their bytes per second, smoothed over some sixteen ticks.
    pub top_clients: Vec<(Addr, f64)>,
    /// Packet buffers.
    pub pools: Vec<PoolStats>,
    /// Between workers and the kernel.
    pub kernel: KernelStats,
}

impl Figures {
    /// Per second over the last tick.
    #[must_use]
    pub fn rate(&self, count: Count) -> f64 {
        if self.tick_seconds > 0.0 { count.last as f64 / self.tick_seconds } else { 0.0 }
    }

    /// A term of the ledger.
    #[must_use]
    pub fn term(&self, term: Term) -> u64 {
        self.terms[term as usize]
    }
}

impl Aggregator {
    /// The snapshot as numbers.
    pub(super) fn figures(&self) -> Figures {
        let totals = &self.totals;
        let unix = |at: Instant| self.settings.unix_start + at.since(Instant::ZERO);
        let last = &totals.last;
        let count = |tally: &Tally, last| Count { total: tally.settled, last };
        let state = |state| Protocol::ALL.into_iter().map(|p| totals.flows(p, state)).sum();
        let catalog = &self.catalog;
        let mut windows: HashMap<usize, u64> = HashMap::new();
        for (_, series) in &self.catalog.endpoints {
            *windows.entry(series.service).or_default() += series.last_window;
        }
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let device = |n: usize| self.device_stats.ports.iter().find(|stats| stats.port.index() == n).copied();
        Figures {
            unix: unix(self.settled_at),
            tick_seconds: last.seconds,
            generation: self.applied.generation,
            applied: unix(self.applied.at),
            last_reload_ok: self.applied.last_reload_ok,
            dpdk: self.settings.dpdk_version.clone(),
            endpoints_by_health: (self.catalog.configured.healthy, self.catalog.configured.unhealthy),
            active: Protocol::ALL.map(|protocol| totals.active(protocol)),
            states: FlowState::ALL.map(state),
            capacity: self.settings.conntrack_capacity,
            requests: count(&totals.requests, last.requests),
            errors: count(&totals.errors, last.errors),
            packets: count(&totals.packets, last.packets),
            bytes: count(&totals.bytes, last.bytes),
            created: count(&totals.created, last.created),
            fw_drops: (&totals.fw_drops).into(),
            terms: Term::ALL.map(|term| totals.term(term)),
            dropped: DropReason::ALL.iter().zip(&totals.dropped).map(|(_, tally)| tally.into()).collect(),
            services: catalog
                .by_service()
                .map(|(id, series)| {
                    let figures = ServiceFigures {
                        requests: (&series.requests).into(),
                        errors: (&series.errors).into(),
                        packets: (&series.packets).into(),
                        bytes: (&series.bytes).into(),
                        minute: self.line.rates(&series.readings),
                    };
                    (id, figures)
                })
                .collect(),
            endpoints: catalog
                .by_endpoint()
                .map(|(id, series)| {
                    let whole = windows.get(&series.service).copied().unwrap_or_default();
                    let figures = EndpointFigures {
                        connections: self.settled_connections.get(id.index()).copied().unwrap_or_default(),
                        bytes: (&series.bytes).into(),
                        share: share(series.last_window, whole),
                    };
                    (id, figures)
                })
                .collect(),
            rules: catalog.by_rule().map(|(id, series)| (id, (&series.drops).into())).collect(),
            ports: totals
                .ports
                .iter()
                .enumerate()
                .map(|(n, port)| PortFigures {
                    rx_packets: (&port.rx_packets).into(),
                    rx_bytes: (&port.rx_bytes).into(),
                    tx_packets: (&port.tx_packets).into(),
                    tx_bytes: (&port.tx_bytes).into(),
                    tx_dropped: (&port.tx_dropped).into(),
                    device: device(n),
                })
                .collect(),
            load: totals
                .load
                .iter()
                .map(|load| Load {
                    busy_ratio: load.busy_ratio,
                    busy_nanos: load.busy_nanos.settled,
                    polls: load.polls.settled,
                    busy_polls: load.busy_polls.settled,
                })
                .collect(),
            top_clients: {
                let tick = self.settings.metrics.tick.as_secs_f64().max(1e-3);
                let clients = self.flows.heaviest(TOP_CLIENTS).into_iter();
                clients.map(|(client, bytes)| (client, bytes / tick)).collect()
            },
            pools: self.device_stats.pools.clone(),
            kernel: self.device_stats.kernel,
        }
    }

    /// What a client's pair with an endpoint has counted as of the last tick, where it has a series of its own.
    pub(super) fn pair(&self, endpoint: EndpointId, client: Addr) -> Option<Total> {
        let key = self.catalog.endpoint_key(endpoint)?;
        let service = self.catalog.endpoints[key].service as u32;
        let counted = self.flows.counted(&Pair { service, endpoint: key as u32, client })?;
        Some(Total { packets: counted.packets, bytes: counted.bytes })
    }
}
