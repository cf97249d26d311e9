//! Every family that is served: name, type, labels and meaning, in the order of the page. `docs/metrics.md` is made of this table.

use std::fmt::Write;

/// Prometheus type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution of values: samples `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// As `# TYPE` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Where a family's samples come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The engine: the same of a capture replayed as of live traffic.
    Engine,
    /// The engine; one series for each client–endpoint pair, streamed behind all others and left out by `?flows=0`.
    Flows,
    /// The engine; on `/metrics/flows` alone.
    Pairs,
    /// This machine and process: not shown by `replay`.
    Machine,
}

/// One metric family.
#[derive(Debug)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Label names, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// Where its samples come from.
    pub source: Source,
    /// Heading that it stands under in the documentation.
    pub section: &'static str,
    doc: &'static str,
}

impl Family {
    /// What it means, in one sentence or two; the text of `# HELP`.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.doc.trim()
    }
}

macro_rules! families {
    ($($section:literal, $source:ident { $($(#[doc = $doc:literal])+ $id:ident = $kind:ident $name:literal [$($label:literal),*];)+ })+) => {
        $($(
            $(#[doc = $doc])+
            pub static $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                source: Source::$source,
                section: $section,
                doc: concat!($($doc),+),
            };
        )+)+

        /// All of them, in the order of the page.
        pub static ALL: &[&Family] = &[$($(&$id),+),+];
    };
}

families! {
    "Connections", Engine {
        /// Connections in the table that are half-open or established.
        ACTIVE_CONNTRACK_COUNT = Gauge "active_conntrack_count" [];
        /// TCP connections that are half-open or established.
        ACTIVE_FLOW_COUNT_TCP = Gauge "active_flow_count_tcp" [];
        /// UDP flows that are half-open or established.
        ACTIVE_FLOW_COUNT_UDP = Gauge "active_flow_count_udp" [];
        /// SCTP associations that are half-open or established.
        ACTIVE_FLOW_COUNT_SCTP = Gauge "active_flow_count_sctp" [];
        /// Closing or closed connections that still hold a table entry; active + inactive = entries used.
        INACTIVE_FLOW_COUNT = Gauge "inactive_flow_count" [];
        /// Connections created during the last whole tick.
        NEW_FLOW_COUNT = Gauge "new_flow_count" [];
    }
    "Load balancer", Engine {
        /// Configured services: one per VIP, port or port range, and protocol.
        LB_RULE_COUNT = Gauge "lb_rule_count" [];
        /// Connections created, and first packets that matched a service but were refused.
        TOTAL_REQUESTS = Counter "total_requests" [];
        /// Connections created, and first packets that were refused, per service.
        TOTAL_REQUESTS_PER_SERVICE = Counter "total_requests_per_service" ["service"];
        /// Refused attempts, and connections that ended badly; at most one per request.
        TOTAL_ERRORS = Counter "total_errors" [];
        /// Refused attempts, and connections that ended badly, per service.
        TOTAL_ERRORS_PER_SERVICE = Counter "total_errors_per_service" ["service"];
        /// Distinct endpoints (address, port, protocol) that are up or draining, and whose probe, where they have one, is good.
        HEALTHY_ENDPOINTS_COUNT = Gauge "healthy_endpoints_count" [];
        /// Distinct endpoints that are down, or wait for their first probe.
        UNHEALTHY_ENDPOINTS_COUNT = Gauge "unhealthy_endpoints_count" [];
    }
    "Traffic", Engine {
        /// L3 bytes as received of the packets forwarded for services, both directions.
        PROCESSED_BYTES_TOTAL = Counter "processed_bytes_total" [];
        /// Packets forwarded for services, both directions.
        PROCESSED_PACKETS_TOTAL = Counter "processed_packets_total" [];
        /// L3 bytes of TCP packets forwarded for services.
        PROCESSED_TCP_BYTES = Counter "processed_tcp_bytes" [];
        /// L3 bytes of UDP packets forwarded for services.
        PROCESSED_UDP_BYTES = Counter "processed_udp_bytes" [];
        /// L3 bytes of SCTP packets forwarded for services.
        PROCESSED_SCTP_BYTES = Counter "processed_sctp_bytes" [];
        /// TCP packets forwarded for services.
        PROCESSED_TCP_PACKETS = Counter "processed_tcp_packets" [];
        /// UDP packets forwarded for services.
        PROCESSED_UDP_PACKETS = Counter "processed_udp_packets" [];
        /// SCTP packets forwarded for services.
        PROCESSED_SCTP_PACKETS = Counter "processed_sctp_packets" [];
        /// Processed L3 bytes, per service.
        SERVICE_TRAFFIC_BYTES = Counter "service_traffic_bytes" ["service"];
        /// Processed packets, per service.
        SERVICE_TRAFFIC_PACKETS = Counter "service_traffic_packets" ["service"];
        /// Processed L3 bytes, per endpoint.
        ENDPOINT_TRAFFIC_BYTES = Counter "endpoint_traffic_bytes" ["service", "dip"];
    }
    "Clients", Flows {
        /// Processed packets, per client; sip="other": clients without a series.
        CLIENT_TRAFFIC_PACKETS = Counter "client_traffic_packets" ["service", "sip"];
        /// Processed L3 bytes, per client and endpoint; sip="other": pairs without a series.
        LB_RULE_INTERACTION_BYTES = Counter "lb_rule_interaction_bytes" ["service", "sip", "dip"];
        /// Processed packets, per client and endpoint; sip="other": pairs without a series.
        LB_RULE_INTERACTION_PACKETS = Counter "lb_rule_interaction_packets" ["service", "sip", "dip"];
    }
    "All pairs", Pairs {
        /// On /metrics/flows: what pairs and clients of a family counted that are no longer followed.
        FLOWS_RETIRED = Counter "pollux_flows_retired_total" ["family"];
        /// On /metrics/flows: what pairs and clients of a family have counted that show 0 because they are new.
        FLOWS_PENDING = Gauge "pollux_flows_pending" ["family"];
    }
    "System", Machine {
        /// CPU utilization in percent: of a worker's CPU the share of useful work, of others the busy time without iowait.
        SYSTEM_CPU_UTILIZATION = Gauge "system_cpu_utilization" [];
        /// Memory in use in percent, without hugepages.
        SYSTEM_MEMORY_UTILIZATION = Gauge "system_memory_utilization" [];
        /// Space in use on the root file system in percent.
        SYSTEM_DISK_UTILIZATION = Gauge "system_disk_utilization" [];
    }
    "Firewall", Engine {
        /// Packets dropped by firewall rules whose action is drop; only ever grows.
        TOTAL_FW_DROPS = Gauge "total_fw_drops" [];
        /// Packets dropped, per firewall rule; only ever grows.
        TOTAL_FW_DROPS_PER_RULE = Gauge "total_fw_drops_per_rule" ["fw_rule"];
        /// Configured firewall rules.
        FIREWALL_RULES_COUNT = Gauge "firewall_rules_count" [];
    }
    "Distribution", Engine {
        /// The service's share of all service bytes in the last distribution window; the sum over services is 1.
        TOTAL_LOAD_DISTS_PER_SERVICE = Gauge "total_load_dists_per_service" ["service"];
        /// The endpoint's share of its service's bytes in the last distribution window; the sum over dip is 1.
        ENDPOINT_LOAD_DISTS_PER_SERVICE = Gauge "endpoint_load_dists_per_service" ["service", "dip"];
    }
    "Rates", Engine {
        /// Requests per second over the last tick.
        RPS_REQUESTS = Gauge "rps_requests" [];
        /// Processed packets per second over the last tick.
        RPS_PPS = Gauge "rps_pps" [];
        /// Processed bytes (not bits) per second over the last tick.
        RPS_BPS = Gauge "rps_bps" [];
        /// Errors per second over the last tick.
        RPS_EPS = Gauge "rps_eps" [];
        /// Requests of the last 60 seconds, per second.
        RPS_1M_AVG = Gauge "rps_1m_avg" ["service"];
        /// Highest one-second request rate of the last 60 seconds.
        RPS_1M_PEAK = Gauge "rps_1m_peak" ["service"];
        /// Load balancer capacity units: active connections / 2160000 + services / 1000 + (Gbit/s over the last tick) / 3600.
        CONSUMED_LCUS = Gauge "consumed_lcus" [];
    }
    "Packet ledger", Engine {
        /// Packets received from devices.
        RX_PACKETS = Counter "pollux_rx_packets_total" [];
        /// Packets with the verdict forward.
        FORWARDED = Counter "pollux_forwarded_packets_total" [];
        /// Packets given to the kernel's interface of their port.
        PUNTED = Counter "pollux_punted_packets_total" [];
        /// Packets that the engine itself was the destination of.
        CONSUMED = Counter "pollux_consumed_packets_total" [];
        /// Packets dropped, by reason.
        DROPPED = Counter "pollux_dropped_packets_total" ["reason"];
        /// Packets that wait: for a next hop's MAC, or fragments for the first one of their datagram.
        HELD = Gauge "pollux_held_packets" [];
        /// Packets in the rings between workers.
        HANDOFF_RING = Gauge "pollux_handoff_ring_packets" [];
        /// Frames of the engine's own that were given to a TX queue.
        ORIGINATED = Counter "pollux_originated_packets_total" [];
        /// Frames from the kernel's interfaces that were given to a TX queue.
        INJECTED = Counter "pollux_injected_packets_total" [];
        /// Fragments beyond the first of forwarded packets.
        EXTRA_FRAGMENTS = Counter "pollux_extra_fragments_total" [];
        /// Frames that devices took.
        TX_PACKETS = Counter "pollux_tx_packets_total" [];
        /// Frames that full TX queues refused.
        TX_DROPPED = Counter "pollux_tx_dropped_packets_total" [];
        /// Packets handed to the worker that owns their connection.
        HANDOFFS = Counter "pollux_handoff_packets_total" [];
    }
    "Connection table", Engine {
        /// Connections that the table can hold.
        CONNTRACK_CAPACITY = Gauge "pollux_conntrack_capacity" [];
        /// Connections in the table, by protocol and state.
        CONNTRACK_ENTRIES = Gauge "pollux_conntrack_entries" ["protocol", "state"];
        /// Connections that were not entered, by reason.
        CONNTRACK_INSERT_FAILURES = Counter "pollux_conntrack_insert_failures_total" ["reason"];
        /// Connections created.
        CONNECTIONS = Counter "pollux_connections_total" [];
        /// First packets refused, by reason.
        REFUSED = Counter "pollux_refused_requests_total" ["reason"];
        /// Connections that ended badly, by how.
        ENDED_BADLY = Counter "pollux_connection_errors_total" ["error"];
    }
    "Handshakes", Engine {
        /// How long clients of a service waited for the endpoint's SYN-ACK or INIT ACK, from their first SYN or INIT, as the engine saw them: to the microsecond, of SCTP rounded up to the next millisecond. With DSR none is seen; services of UDP alone have no sample.
        SERVICE_HANDSHAKE_SECONDS = Histogram "pollux_handshake_seconds" ["service"];
        /// TCP and SCTP handshakes that an endpoint answered with a SYN-ACK or INIT ACK; with DSR none is seen.
        HANDSHAKES = Counter "pollux_handshakes_total" ["service", "dip"];
        /// How long these answers took in all, from the client's first SYN or INIT as the engine saw them: to the microsecond, of SCTP to the millisecond.
        HANDSHAKE_SECONDS = Counter "pollux_handshake_seconds_total" ["service", "dip"];
    }
    "Modes", Engine {
        /// Ports of a SNAT address over all groups of endpoints: used, resting before they are used again, free.
        SNAT_PORTS = Gauge "pollux_snat_ports" ["address", "state"];
        /// Segments that had no room for the TCP option with the client's address, and went without.
        TOA_LEFT_OUT = Counter "pollux_toa_left_out_total" [];
        /// PROXY headers that had no room in the client's segment, and went in one of their own.
        PROXY_SEGMENTS = Counter "pollux_proxy_header_segments_total" [];
        /// Packets of DSR services that were forwarded without an entry because the connection table was full.
        STATELESS = Counter "pollux_stateless_forwarded_packets_total" [];
        /// ICMP errors of routers on the way through a tunnel of which the client was told.
        TUNNEL_ERRORS = Counter "pollux_tunnel_errors_relayed_total" [];
    }
    "Ports", Engine {
        /// Frames received.
        PORT_RX_PACKETS = Counter "pollux_port_rx_packets_total" ["port"];
        /// Bytes received, Ethernet header included.
        PORT_RX_BYTES = Counter "pollux_port_rx_bytes_total" ["port"];
        /// Frames that the device took.
        PORT_TX_PACKETS = Counter "pollux_port_tx_packets_total" ["port"];
        /// Bytes that the device took, Ethernet header included.
        PORT_TX_BYTES = Counter "pollux_port_tx_bytes_total" ["port"];
        /// Frames that a full TX queue refused.
        PORT_TX_DROPPED = Counter "pollux_port_tx_dropped_packets_total" ["port"];
    }
    "Devices", Machine {
        /// Whether the link is up.
        PORT_UP = Gauge "pollux_port_up" ["port"];
        /// Frames that the device dropped because its RX queues were full.
        PORT_RX_MISSED = Counter "pollux_port_rx_missed_packets_total" ["port"];
        /// Frames that the device dropped because no buffer was free.
        PORT_RX_NO_MBUF = Counter "pollux_port_rx_no_mbuf_packets_total" ["port"];
        /// Frames that the device found broken.
        PORT_RX_ERRORS = Counter "pollux_port_rx_errors_total" ["port"];
        /// Frames that the device failed to send.
        PORT_TX_ERRORS = Counter "pollux_port_tx_errors_total" ["port"];
        /// Packet buffers that the pool has.
        MEMPOOL_BUFFERS = Gauge "pollux_mempool_buffers" ["pool"];
        /// Packet buffers in use.
        MEMPOOL_IN_USE = Gauge "pollux_mempool_buffers_in_use" ["pool"];
    }
    "Kernel", Machine {
        /// Punted frames that the kernel's interface did not take: it is down, or has no memory.
        KERNEL_REFUSED = Counter "pollux_kernel_refused_packets_total" [];
        /// Routes of the kernel's that balanced traffic can take.
        KERNEL_ROUTES = Gauge "pollux_kernel_routes" [];
        /// Neighbours that a worker was not told of, because it took nothing from its ring: it asks for itself.
        NEIGHBOR_UPDATES_LOST = Counter "pollux_neighbor_updates_lost_total" [];
    }
    "HTTP listener", Machine {
        /// Requests answered, by status code; code="other": all that have no series of their own.
        HTTP_REQUESTS = Counter "pollux_http_requests_total" ["code"];
        /// Connections open now.
        HTTP_CONNECTIONS = Gauge "pollux_http_connections" [];
        /// Connections refused or cut off, by reason: see "Securing the listener".
        HTTP_REJECTED = Counter "pollux_http_rejected_connections_total" ["reason"];
        /// When the listener's certificate, or one of its chain, expires, in seconds since 1970; no sample without TLS.
        CERTIFICATE_EXPIRY = Gauge "pollux_certificate_expiry_timestamp_seconds" [];
    }
    "Health checks", Machine {
        /// Whether an endpoint is up or draining (1), or down or waiting for its first probe (0).
        ENDPOINT_UP = Gauge "pollux_endpoint_up" ["service", "endpoint"];
        /// Endpoints of a service by state: up, drain, down, pending (its first probe).
        SERVICE_ENDPOINTS = Gauge "pollux_service_endpoints" ["service", "state"];
        /// How often an endpoint went up or down by its probe, the first result not counted.
        ENDPOINT_FLAPS = Counter "pollux_endpoint_flaps_total" ["service", "endpoint"];
        /// How long answers to an endpoint's probe took.
        PROBE_SECONDS = Histogram "pollux_probe_seconds" ["service", "endpoint"];
        /// Probes by kind and result: good, failed, unable (it could not be made, and says nothing of the endpoint).
        PROBES = Counter "pollux_probes_total" ["kind", "result"];
    }
    "Workers", Machine {
        /// Share of the last tick that the worker spent on packets and other work, 0 to 1.
        WORKER_BUSY_RATIO = Gauge "pollux_worker_busy_ratio" ["worker"];
        /// Time that the worker spent on packets and other work.
        WORKER_BUSY_SECONDS = Counter "pollux_worker_busy_seconds_total" ["worker"];
        /// Turns of the poll loop.
        WORKER_POLLS = Counter "pollux_worker_polls_total" ["worker"];
        /// Turns of the poll loop that found work.
        WORKER_BUSY_POLLS = Counter "pollux_worker_busy_polls_total" ["worker"];
        /// Cycles of the time stamp counter that the worker spent on work in the last tick, per packet from devices and other workers.
        WORKER_CYCLES_PER_PACKET = Gauge "pollux_worker_cycles_per_packet" ["worker"];
    }
    "Latency", Machine {
        /// How long turns of the poll loop that brought packets took. Sampled: one burst in 16 is timed; exact to two digits.
        BURST_SECONDS = Histogram "pollux_burst_seconds" [];
        /// What a share of the bursts timed in the last tick did not exceed.
        BURST_QUANTILE = Gauge "pollux_burst_quantile_seconds" ["quantile"];
        /// How long forwarded packets were here, from the read of their RX queue to the end of the TX bursts of that turn, those handed to another worker or held apart. Sampled: packets of one burst in 16; exact to two digits.
        RESIDENCE_SECONDS = Histogram "pollux_packet_residence_seconds" [];
        /// What a share of the packets timed in the last tick did not exceed.
        RESIDENCE_QUANTILE = Gauge "pollux_packet_residence_quantile_seconds" ["quantile"];
    }
    "Configuration and snapshot", Engine {
        /// Goes up with every configuration applied.
        CONFIG_GENERATION = Gauge "pollux_config_generation" [];
        /// Whether the last reload was applied (1) or refused (0).
        CONFIG_LAST_RELOAD_SUCCESSFUL = Gauge "pollux_config_last_reload_successful" [];
        /// When the configuration in force was applied, Unix time.
        CONFIG_LAST_RELOAD_TIME = Gauge "pollux_config_last_reload_success_timestamp_seconds" [];
        /// When this snapshot was taken, Unix time.
        SNAPSHOT_TIMESTAMP = Gauge "pollux_snapshot_timestamp_seconds" [];
        /// Client–endpoint pairs with a series of their own.
        FLOW_SERIES = Gauge "pollux_flow_series" [];
        /// Most client–endpoint pairs that may have one (metrics.flow_series_limit).
        FLOW_SERIES_LIMIT = Gauge "pollux_flow_series_limit" [];
        /// Client–endpoint pairs that are followed: all that /metrics/flows shows.
        FLOW_PAIRS = Gauge "pollux_flow_pairs" [];
        /// Most client–endpoint pairs that are followed.
        FLOW_PAIRS_LIMIT = Gauge "pollux_flow_pairs_limit" [];
        /// What the series of a family counted that have disappeared.
        RETIRED = Counter "pollux_retired_total" ["family"];
        /// What the series of a family have counted that show 0 because they are new.
        PENDING = Gauge "pollux_pending" ["family"];
        /// Version of this engine.
        BUILD_INFO = Gauge "pollux_build_info" ["version", "arch", "dpdk"];
    }
    "Process", Machine {
        /// How long it took to settle and write the snapshot before this one.
        TICK_DURATION = Gauge "pollux_tick_duration_seconds" [];
        /// How long scrapes of /metrics took, from the request until the connection had all of the answer.
        SCRAPE_SECONDS = Histogram "pollux_scrape_duration_seconds" [];
        /// User and system CPU time spent, spinning workers included.
        PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total" [];
        /// Resident memory, without hugepages.
        PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" [];
        /// Virtual memory.
        PROCESS_VIRTUAL_MEMORY = Gauge "process_virtual_memory_bytes" [];
        /// Open file descriptors.
        PROCESS_OPEN_FDS = Gauge "process_open_fds" [];
        /// Threads.
        PROCESS_THREADS = Gauge "process_threads" [];
        /// When the process started, Unix time.
        PROCESS_START_TIME = Gauge "process_start_time_seconds" [];
    }
}

macro_rules! aliases {
    ($($kind:ident $name:literal = $family:ident;)+) => {
        /// Conventional names of families, as newer LoxiLB releases have them, and the families whose samples they show; none is
        /// labelled `sip`. Served with `metrics.aliases`.
        pub static ALIASES: &[(Family, &Family)] = &[$(
            (
                Family {
                    name: $name,
                    kind: Kind::$kind,
                    labels: $family.labels,
                    source: $family.source,
                    section: "Aliases",
                    doc: $family.doc,
                },
                &$family,
            ),
        )+];
    };
}

aliases! {
    Gauge "loxilb_active_conntrack_entries" = ACTIVE_CONNTRACK_COUNT;
    Gauge "loxilb_conntrack_max_entries" = CONNTRACK_CAPACITY;
    Gauge "loxilb_active_flow_count_tcp" = ACTIVE_FLOW_COUNT_TCP;
    Gauge "loxilb_active_flow_count_udp" = ACTIVE_FLOW_COUNT_UDP;
    Gauge "loxilb_active_flow_count_sctp" = ACTIVE_FLOW_COUNT_SCTP;
    Gauge "loxilb_new_flows" = NEW_FLOW_COUNT;
    Gauge "loxilb_lb_rules" = LB_RULE_COUNT;
    Counter "loxilb_requests_total" = TOTAL_REQUESTS;
    Counter "loxilb_service_requests_total" = TOTAL_REQUESTS_PER_SERVICE;
    Counter "loxilb_errors_total" = TOTAL_ERRORS;
    Counter "loxilb_service_errors_total" = TOTAL_ERRORS_PER_SERVICE;
    Gauge "loxilb_healthy_endpoints" = HEALTHY_ENDPOINTS_COUNT;
    Gauge "loxilb_unhealthy_endpoints" = UNHEALTHY_ENDPOINTS_COUNT;
    Counter "loxilb_fw_drop_packets_total" = TOTAL_FW_DROPS;
    Counter "loxilb_fw_rule_drop_packets_total" = TOTAL_FW_DROPS_PER_RULE;
    Gauge "loxilb_firewall_rules" = FIREWALL_RULES_COUNT;
    Gauge "loxilb_system_cpu_utilization_percent" = SYSTEM_CPU_UTILIZATION;
    Gauge "loxilb_system_memory_utilization_percent" = SYSTEM_MEMORY_UTILIZATION;
    Gauge "loxilb_system_disk_utilization_percent" = SYSTEM_DISK_UTILIZATION;
    Counter "loxilb_processed_bytes_total" = PROCESSED_BYTES_TOTAL;
    Counter "loxilb_processed_packets_total" = PROCESSED_PACKETS_TOTAL;
    Counter "loxilb_processed_tcp_bytes_total" = PROCESSED_TCP_BYTES;
    Counter "loxilb_processed_tcp_packets_total" = PROCESSED_TCP_PACKETS;
    Counter "loxilb_processed_udp_bytes_total" = PROCESSED_UDP_BYTES;
    Counter "loxilb_processed_udp_packets_total" = PROCESSED_UDP_PACKETS;
    Counter "loxilb_processed_sctp_bytes_total" = PROCESSED_SCTP_BYTES;
    Counter "loxilb_processed_sctp_packets_total" = PROCESSED_SCTP_PACKETS;
    Counter "loxilb_service_traffic_bytes_total" = SERVICE_TRAFFIC_BYTES;
    Counter "loxilb_service_traffic_packets_total" = SERVICE_TRAFFIC_PACKETS;
    Counter "loxilb_endpoint_traffic_bytes_total" = ENDPOINT_TRAFFIC_BYTES;
}

/// The tables of `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::new();
    let mut section = "";
    for family in ALL {
        if family.section != section {
            section = family.section;
            let _ =
                write!(page, "\n### {section}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n");
        }
        let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.name(),
            labels.join(", "),
            family.help()
        );
    }
    page.push_str(
        "\n### Aliases\n\nWith `metrics.aliases = true`.\n\n| name | type | samples of |\n|---|---|---|\n",
    );
    for (alias, family) in ALIASES {
        let _ = writeln!(page, "| `{}` | {} | `{}` |", alias.name, alias.kind.name(), family.name);
    }
    page
}
