//! What the API answers. `openapi.json` describes it field by field; the units are there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which snapshot the figures are of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken, Unix time: `pollux_snapshot_timestamp_seconds`.
    pub snapshot: f64,
    /// Why it is too old, where it is.
    pub stale: Option<String>,
}

/// `status`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which snapshot.
    #[serde(flatten)]
    pub of: Snapshot,
    /// Of the engine.
    pub version: String,
    /// Of DPDK.
    pub dpdk: String,
    /// As `/readyz` says.
    pub ready: bool,
    /// Unix time.
    pub started: f64,
    /// Since then.
    pub uptime_seconds: f64,
    /// The configuration in force.
    pub config: Configuration,
    /// Configured services.
    pub services: usize,
    /// Endpoints by health.
    pub endpoints: Endpoints,
    /// Configured rules.
    pub firewall_rules: usize,
    /// Configured ports.
    pub ports: usize,
    /// Those whose link is up.
    pub ports_up: usize,
    /// Workers.
    pub workers: usize,
    /// In the table.
    pub connections: Connections,
    /// Since the start.
    pub totals: Totals,
    /// Per second over the last tick.
    pub rates: Rates,
    /// The packet ledger.
    pub ledger: Ledger,
    /// Packet buffers.
    pub mempools: Vec<Mempool>,
    /// Clients with most traffic.
    pub top_clients: Vec<TopClient>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its number.
    pub generation: u64,
    /// When it was applied, Unix time.
    pub applied: f64,
    /// Whether the last reload was applied.
    pub last_reload_ok: bool,
}

/// Endpoints by health: the same one in two services counts once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `healthy_endpoints_count`
    pub healthy: usize,
    /// `unhealthy_endpoints_count`
    pub unhealthy: usize,
}

/// Connections in the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Half-open and established: `active_conntrack_count`.
    pub active: i64,
    /// Of these, TCP.
    pub tcp: i64,
    /// Of these, UDP.
    pub udp: i64,
    /// Of these, SCTP.
    pub sctp: i64,
    /// By state.
    pub half_open: i64,
    /// By state.
    pub established: i64,
    /// By state.
    pub closing: i64,
    /// By state.
    pub closed: i64,
    /// That fit.
    pub capacity: u64,
}

/// Counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// `total_requests`
    pub requests: u64,
    /// `total_errors`
    pub errors: u64,
    /// `pollux_connections_total`
    pub connections: u64,
    /// `processed_packets_total`
    pub packets: u64,
    /// `processed_bytes_total`
    pub bytes: u64,
}

/// The same per second over the last tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// `rps_requests`
    pub requests: f64,
    /// `rps_eps`
    pub errors: f64,
    /// Connections created.
    pub connections: f64,
    /// `rps_pps`
    pub packets: f64,
    /// `rps_bps`
    pub bytes: f64,
}

/// Where every packet went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Received.
    pub rx: u64,
    /// Verdict forward.
    pub forwarded: u64,
    /// To the kernel.
    pub punted: u64,
    /// For the engine itself.
    pub consumed: u64,
    /// Waiting.
    pub held: i64,
    /// Between workers.
    pub handoff_ring: i64,
    /// By reason, all of them.
    pub dropped: BTreeMap<String, u64>,
    /// Per second over the last tick, by reason, where there were any.
    pub dropped_rates: BTreeMap<String, f64>,
    /// Of the engine's own.
    pub originated: u64,
    /// From the kernel.
    pub injected: u64,
    /// Beyond the first of a packet.
    pub extra_fragments: u64,
    /// Taken by devices.
    pub tx: u64,
    /// Refused by full queues.
    pub tx_dropped: u64,
}

/// A pool of packet buffers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mempool {
    /// Its name.
    pub name: String,
    /// Buffers.
    pub size: u64,
    /// Of these, in use.
    pub in_use: u64,
}

/// A client with much traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopClient {
    /// Its address.
    pub client: String,
    /// Smoothed over some sixteen ticks.
    pub bytes_per_second: f64,
}

/// `services`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceList {
    /// Which snapshot.
    #[serde(flatten)]
    pub of: Snapshot,
    /// In file order.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Configured name.
    pub name: String,
    /// `VIP:port`
    pub address: String,
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
    /// `dnat`…
    pub mode: String,
    /// `maglev`…
    pub algorithm: String,
    /// Configured endpoints.
    pub endpoints: usize,
    /// Of these, those that take new connections.
    pub endpoints_up: usize,
    /// Connections with these endpoints.
    pub connections: u64,
    /// `total_requests_per_service`
    pub requests: u64,
    /// `total_errors_per_service`
    pub errors: u64,
    /// `service_traffic_packets`
    pub packets: u64,
    /// `service_traffic_bytes`
    pub bytes: u64,
    /// Per second over the last tick.
    pub rates: ServiceRates,
    /// `rps_1m_avg`
    pub rps_1m_avg: f64,
    /// `rps_1m_peak`
    pub rps_1m_peak: f64,
}

/// A service's rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceRates {
    /// Requests.
    pub requests: f64,
    /// Errors.
    pub errors: f64,
    /// Packets.
    pub packets: f64,
    /// Bytes.
    pub bytes: f64,
}

/// `endpoints`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointList {
    /// Which snapshot.
    #[serde(flatten)]
    pub of: Snapshot,
    /// By service, in file order.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The service's name.
    pub service: String,
    /// Address and port.
    pub address: String,
    /// In force: `up`, `drain`, `down`.
    pub state: String,
    /// In the file.
    pub configured: String,
    /// Drained at run time.
    pub drained: bool,
    /// What probes say, where there are any.
    pub health: Option<Health>,
    /// Configured weight.
    pub weight: u32,
    /// The part of it that counts now, in percent.
    pub weight_percent: u8,
    /// In the table.
    pub connections: u64,
    /// `endpoint_traffic_bytes`
    pub bytes: u64,
    /// Over the last tick.
    pub bytes_per_second: f64,
    /// `endpoint_load_dists_per_service`
    pub share: f64,
}

/// What probes say of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `up`, `down`, `pending`
    pub state: String,
    /// Of the last failure, or why it cannot be probed; none after a success.
    pub reason: Option<String>,
    /// Of the last probe that was answered.
    pub rtt_seconds: Option<f64>,
    /// Of all that were.
    pub round_trips: RoundTrips,
    /// Changes of state.
    pub flaps: u64,
}

/// How long probes took that were answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// All.
    pub count: u64,
    /// Together.
    pub sum_seconds: f64,
    /// By ascending bounds, cumulative.
    pub buckets: Vec<Bucket>,
}

/// A bucket of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper bound.
    pub le_seconds: f64,
    /// Up to there.
    pub count: u64,
}

impl RoundTrips {
    /// The least bound that this part of them did not exceed; none where that is beyond all bounds, or there are none.
    #[must_use]
    pub fn bound(&self, part: f64) -> Option<f64> {
        let wanted = self.count as f64 * part;
        let within = self.buckets.iter().find(|bucket| bucket.count as f64 >= wanted && bucket.count > 0);
        within.map(|bucket| bucket.le_seconds)
    }
}

/// `firewall`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Firewall {
    /// Which snapshot.
    #[serde(flatten)]
    pub of: Snapshot,
    /// `total_fw_drops`
    pub drops: u64,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A rule; an empty list and null take everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// `drop`, `allow`
    pub action: String,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Prefixes.
    pub source: Vec<String>,
    /// Prefixes.
    pub destination: Vec<String>,
    /// First and last.
    pub source_port: Option<(u16, u16)>,
    /// First and last.
    pub destination_port: Option<(u16, u16)>,
    /// Ingress port.
    pub port: Option<String>,
    /// `total_fw_drops_per_rule`
    pub drops: u64,
    /// Over the last tick.
    pub drops_per_second: f64,
}

/// `ports`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortList {
    /// Which snapshot.
    #[serde(flatten)]
    pub of: Snapshot,
    /// In file order.
    pub ports: Vec<Port>,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// DPDK's name of the device.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// Station address.
    pub mac: String,
    /// Now.
    pub link_up: bool,
    /// `client`, `server`, `both`
    pub role: String,
    /// Interface addresses.
    pub addresses: Vec<String>,
    /// L3, bytes.
    pub mtu: u16,
    /// 0: untagged.
    pub vlan: u16,
    /// The kernel's interface.
    pub kernel: Option<String>,
    /// RX queues.
    pub rx_queues: u16,
    /// TX queues.
    pub tx_queues: u16,
    /// The NIC brings packets to their owners.
    pub steered: bool,
    /// `pollux_port_rx_packets_total`
    pub rx_packets: u64,
    /// `pollux_port_rx_bytes_total`
    pub rx_bytes: u64,
    /// `pollux_port_tx_packets_total`
    pub tx_packets: u64,
    /// `pollux_port_tx_bytes_total`
    pub tx_bytes: u64,
    /// `pollux_port_tx_dropped_packets_total`
    pub tx_dropped: u64,
    /// `pollux_port_rx_missed_packets_total`
    pub rx_missed: u64,
    /// `pollux_port_rx_no_mbuf_packets_total`
    pub rx_no_mbuf: u64,
    /// `pollux_port_rx_errors_total`
    pub rx_errors: u64,
    /// `pollux_port_tx_errors_total`
    pub tx_errors: u64,
    /// Per second over the last tick.
    pub rates: PortRates,
}

/// A port's rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortRates {
    /// Frames received.
    pub rx_packets: f64,
    /// Bytes received.
    pub rx_bytes: f64,
    /// Frames sent.
    pub tx_packets: f64,
    /// Bytes sent.
    pub tx_bytes: f64,
}

/// `workers`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerList {
    /// Which snapshot.
    #[serde(flatten)]
    pub of: Snapshot,
    /// In the order of `engine.workers`.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub worker: usize,
    /// Its CPU.
    pub cpu: usize,
    /// `pollux_worker_busy_ratio`
    pub busy_ratio: f64,
    /// `pollux_worker_busy_seconds_total`
    pub busy_seconds: f64,
    /// `pollux_worker_polls_total`
    pub polls: u64,
    /// `pollux_worker_busy_polls_total`
    pub busy_polls: u64,
    /// Connections that its table holds at most.
    pub connection_capacity: usize,
    /// Since it last went round its loop.
    pub heartbeat_seconds: f64,
}

/// `flows`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowList {
    /// In the order of the workers' tables.
    pub flows: Vec<Flow>,
    /// Says as `cursor` where to go on; null at the end.
    pub next: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The service's name; null for one that is not configured any more.
    pub service: Option<String>,
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
    /// Address and port.
    pub client: String,
    /// Address and port.
    pub vip: String,
    /// Address and port.
    pub endpoint: String,
    /// `half_open`, `established`, `closing`, `closed`
    pub state: String,
    /// Since its timer was set anew.
    pub idle_seconds: f64,
    /// Since it was created.
    pub age_seconds: f64,
    /// Until it expires.
    pub expires_seconds: f64,
    /// The worker that has it.
    pub worker: usize,
    /// Packets that it has let pass, of both directions.
    pub packets: u64,
    /// Their L3 bytes, as received.
    pub bytes: u64,
    /// Of all the client's connections with the endpoint; null where they have no series.
    pub pair_packets: Option<u64>,
    /// Likewise, L3 bytes.
    pub pair_bytes: Option<u64>,
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, in one line.
    pub error: String,
}
