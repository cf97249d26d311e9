//! The text of a snapshot.
//!
//! The bounded families go through the `metrics` facade into a recorder of metrics-exporter-prometheus that is built afresh each time, so
//! that what is no longer configured is no longer there. The recorder writes in the order of its hash maps; here the text is put in the order
//! of [`families::ALL`], which also gives the families without samples their headers. The families of endpoints and those with the label `sip`
//! are written straight into the text: there may be a million of each.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};

use metrics::Label;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::aggregator::Aggregator;
use super::encode::{header, sample, unveil, veil};
use super::families::{self, Family, Kind, Source};
use super::flows::{Amount, Labels, Pending, Sip, number};
use super::totals::{BAD_ENDS, LatencyTotals, REFUSALS, SNAT_STATES};
use crate::config::Protocol;
use crate::counters::{FlowState, HANDSHAKE_BOUNDS_US, Term};
use crate::health::{BOUNDS, Histogram};
use crate::listener::{CODES, REJECTIONS};
use crate::pipeline::DropReason;

/// Upper bounds of bursts and residence, seconds.
const LATENCY_BOUNDS: [f64; 16] = [
    1e-6, 2e-6, 4e-6, 8e-6, 16e-6, 32e-6, 64e-6, 128e-6, 256e-6, 512e-6, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3,
    128e-3,
];

/// Shares of the last tick's bursts and packets.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Samples on their way into the recorder that is local to this thread, and those that it cannot take.
#[derive(Default)]
pub(super) struct Samples {
    /// Counters with a fraction, and whole histograms.
    lines: Vec<(&'static Family, String)>,
    /// Families whose samples are in order already: what follows the name, line by line.
    ordered: Vec<(&'static Family, String)>,
}

fn labels(family: &Family, values: &[&str]) -> Vec<Label> {
    debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
    family.labels.iter().zip(values).map(|(&name, value)| Label::new(name, veil(value))).collect()
}

impl Samples {
    pub fn counter(&self, family: &'static Family, values: &[&str], value: u64) {
        debug_assert_eq!(family.kind, Kind::Counter, "{}", family.name);
        metrics::counter!(family.name, labels(family, values)).increment(value);
    }

    pub fn gauge(&self, family: &'static Family, values: &[&str], value: f64) {
        debug_assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
        metrics::gauge!(family.name, labels(family, values)).set(value);
    }

    fn fraction(&mut self, family: &'static Family, values: &[&str], value: f64) {
        // As the exporter's lines, which these are put among.
        let veiled: Vec<String> = values.iter().map(|value| veil(value)).collect();
        let veiled: Vec<&dyn Display> = veiled.iter().map(|value| value as &dyn Display).collect();
        let mut line = String::new();
        sample(&mut line, family, &veiled, value);
        self.lines.push((family, line));
    }

    /// A histogram: counts by the first bound that is not exceeded, of `count` values that add up to `sum`.
    pub fn histogram(
        &mut self,
        family: &'static Family,
        values: &[&str],
        (bounds, buckets): (&[f64], &[u64]),
        (count, sum): (u64, f64),
    ) {
        debug_assert_eq!(family.kind, Kind::Histogram, "{}", family.name);
        let pairs =
            family.labels.iter().zip(values).map(|(name, value)| format!("{name}=\"{}\"", veil(value)));
        let (name, labels) = (family.name, pairs.collect::<Vec<_>>().join(","));
        let comma = if labels.is_empty() { "" } else { "," };
        let all = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let mut lines = String::new();
        let mut below = 0;
        for (bound, bucket) in bounds.iter().zip(buckets) {
            below += bucket;
            let _ = writeln!(lines, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(lines, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
        let _ = writeln!(lines, "{name}_sum{all} {sum}");
        let _ = writeln!(lines, "{name}_count{all} {count}");
        self.lines.push((family, lines));
    }
}

impl Aggregator {
    /// The snapshot, and where its `sip`-labelled families begin. The `last` one of a process leaves nothing pending, and shows nothing of
    /// the machine.
    pub(super) fn text(&self, last: bool) -> (String, usize) {
        let pending = if last { Pending::default() } else { self.flows.pending() };
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let mut samples = Samples::default();
        let labels = Labels::new(&self.catalog);
        metrics::with_local_recorder(&recorder, || {
            for family in families::ALL {
                match family.kind {
                    Kind::Counter => metrics::describe_counter!(family.name, family.help()),
                    Kind::Gauge => metrics::describe_gauge!(family.name, family.help()),
                    // Written without the recorder.
                    Kind::Histogram => {}
                }
            }
            self.connections(&samples);
            self.services(&samples);
            self.handshakes(&mut samples);
            self.traffic(&mut samples, &labels);
            self.firewall(&samples);
            self.shares(&mut samples, &labels);
            self.rates(&samples);
            self.ledger(&samples);
            self.ports(&samples);
            self.snapshot(&samples, &pending);
            if !last {
                self.machine(&mut samples);
                self.health(&mut samples);
            }
        });
        let mut text = arrange(&handle.render(), &samples, self.settings.metrics.aliases);
        drop(samples);
        let flows = text.len();
        self.flow_families(&mut text, &labels, last);
        (text, flows)
    }

    fn active(&self) -> f64 {
        Protocol::ALL.into_iter().map(|p| self.totals.active(p)).sum::<i64>() as f64
    }

    fn connections(&self, to: &Samples) {
        let totals = &self.totals;
        to.gauge(&families::ACTIVE_CONNTRACK_COUNT, &[], self.active());
        for (family, protocol) in [
            (&families::ACTIVE_FLOW_COUNT_TCP, Protocol::Tcp),
            (&families::ACTIVE_FLOW_COUNT_UDP, Protocol::Udp),
            (&families::ACTIVE_FLOW_COUNT_SCTP, Protocol::Sctp),
        ] {
            to.gauge(family, &[], totals.active(protocol) as f64);
        }
        to.gauge(&families::INACTIVE_FLOW_COUNT, &[], totals.inactive() as f64);
        to.gauge(&families::NEW_FLOW_COUNT, &[], totals.last.created as f64);
        to.gauge(&families::CONNTRACK_CAPACITY, &[], self.settings.conntrack_capacity as f64);
        for protocol in Protocol::ALL {
            for state in FlowState::ALL {
                let values = [protocol.name(), state.label()];
                to.gauge(&families::CONNTRACK_ENTRIES, &values, totals.flows(protocol, state) as f64);
            }
        }
        to.counter(&families::CONNECTIONS, &[], totals.created.settled);
        for (reason, tally) in REFUSALS.into_iter().zip(&totals.refused) {
            to.counter(&families::REFUSED, &[reason], tally.settled);
            if !matches!(reason, "no_endpoint" | "no_snat_port") {
                to.counter(&families::CONNTRACK_INSERT_FAILURES, &[reason], tally.settled);
            }
        }
        for (addr, tallies) in self.catalog.snat.iter().zip(&totals.snat) {
            let addr = addr.to_string();
            for (state, tally) in SNAT_STATES.into_iter().zip(tallies) {
                to.gauge(&families::SNAT_PORTS, &[&addr, state], tally.settled as i64 as f64);
            }
        }
        to.counter(&families::TOA_LEFT_OUT, &[], totals.toa_left_out.settled);
        to.counter(&families::PROXY_SEGMENTS, &[], totals.proxy_segments.settled);
        to.counter(&families::STATELESS, &[], totals.stateless.settled);
        to.counter(&families::TUNNEL_ERRORS, &[], totals.tunnel_errors.settled);
        for (error, tally) in BAD_ENDS.into_iter().zip(&totals.ended_badly) {
            to.counter(&families::ENDED_BADLY, &[error], tally.settled);
        }
    }

    fn services(&self, to: &Samples) {
        let configured = &self.catalog.configured;
        to.gauge(&families::LB_RULE_COUNT, &[], configured.services as f64);
        to.gauge(&families::HEALTHY_ENDPOINTS_COUNT, &[], configured.healthy as f64);
        to.gauge(&families::UNHEALTHY_ENDPOINTS_COUNT, &[], configured.unhealthy as f64);
        to.counter(&families::TOTAL_REQUESTS, &[], self.totals.requests.settled);
        to.counter(&families::TOTAL_ERRORS, &[], self.totals.errors.settled);
        for (_, series) in &self.catalog.services {
            let service = [series.label.as_str()];
            to.counter(&families::TOTAL_REQUESTS_PER_SERVICE, &service, series.requests.settled);
            to.counter(&families::TOTAL_ERRORS_PER_SERVICE, &service, series.errors.settled);
            to.counter(&families::SERVICE_TRAFFIC_BYTES, &service, series.bytes.settled);
            to.counter(&families::SERVICE_TRAFFIC_PACKETS, &service, series.packets.settled);
            let (average, peak) = self.line.rates(&series.readings);
            to.gauge(&families::RPS_1M_AVG, &service, average);
            to.gauge(&families::RPS_1M_PEAK, &service, peak);
        }
    }

    fn handshakes(&self, to: &mut Samples) {
        let bounds = HANDSHAKE_BOUNDS_US.map(|micros| f64::from(micros) / 1e6);
        for (_, series) in &self.catalog.services {
            let Some(handshakes) = &series.handshakes else { continue };
            let buckets = handshakes.buckets.map(|tally| tally.settled);
            let sum = handshakes.micros.settled as f64 / 1e6;
            let all = (buckets.iter().sum(), sum);
            to.histogram(&families::SERVICE_HANDSHAKE_SECONDS, &[&series.label], (&bounds, &buckets), all);
        }
    }

    fn traffic(&self, to: &mut Samples, labels: &Labels) {
        let totals = &self.totals;
        to.counter(&families::PROCESSED_BYTES_TOTAL, &[], totals.bytes.settled);
        to.counter(&families::PROCESSED_PACKETS_TOTAL, &[], totals.packets.settled);
        for (bytes, packets, protocol) in [
            (&families::PROCESSED_TCP_BYTES, &families::PROCESSED_TCP_PACKETS, Protocol::Tcp),
            (&families::PROCESSED_UDP_BYTES, &families::PROCESSED_UDP_PACKETS, Protocol::Udp),
            (&families::PROCESSED_SCTP_BYTES, &families::PROCESSED_SCTP_PACKETS, Protocol::Sctp),
        ] {
            to.counter(bytes, &[], totals.protocol_bytes[protocol.index()].settled);
            to.counter(packets, &[], totals.protocol_packets[protocol.index()].settled);
        }
        let [mut bytes, mut handshakes, mut seconds] = [const { String::new() }; 3];
        for key in labels.ordered() {
            let series = &self.catalog.endpoints[key];
            labels.of_endpoint(&mut bytes, key, |out| number(out, series.bytes.settled));
            labels.of_endpoint(&mut handshakes, key, |out| number(out, series.handshakes.settled));
            labels.of_endpoint(&mut seconds, key, |out| {
                let _ = write!(out, "{}", series.handshake_us.settled as f64 / 1e6);
            });
        }
        to.ordered.extend([
            (&families::ENDPOINT_TRAFFIC_BYTES, bytes),
            (&families::HANDSHAKES, handshakes),
            (&families::HANDSHAKE_SECONDS, seconds),
        ]);
    }

    fn firewall(&self, to: &Samples) {
        to.gauge(&families::TOTAL_FW_DROPS, &[], self.totals.fw_drops.settled as f64);
        to.gauge(&families::FIREWALL_RULES_COUNT, &[], self.catalog.configured.rules as f64);
        for (_, series) in &self.catalog.rules {
            to.gauge(&families::TOTAL_FW_DROPS_PER_RULE, &[&series.name], series.drops.settled as f64);
        }
    }

    /// Shares of the last window's bytes among the endpoints that are configured now, so that the sums are 1 after a change too.
    fn shares(&self, to: &mut Samples, labels: &Labels) {
        let mut by_service: HashMap<usize, u64> = HashMap::new();
        for (_, series) in &self.catalog.endpoints {
            *by_service.entry(series.service).or_default() += series.last_window;
        }
        let all: u64 = by_service.values().sum();
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        for (key, series) in &self.catalog.services {
            let bytes = by_service.get(&key).copied().unwrap_or_default();
            to.gauge(&families::TOTAL_LOAD_DISTS_PER_SERVICE, &[&series.label], share(bytes, all));
        }
        let mut text = String::new();
        for key in labels.ordered() {
            let series = &self.catalog.endpoints[key];
            let whole = by_service.get(&series.service).copied().unwrap_or_default();
            let share = share(series.last_window, whole);
            labels.of_endpoint(&mut text, key, |out| {
                let _ = write!(out, "{share}");
            });
        }
        to.ordered.push((&families::ENDPOINT_LOAD_DISTS_PER_SERVICE, text));
    }

    fn rates(&self, to: &Samples) {
        let last = &self.totals.last;
        let bytes_per_second = last.per_second(last.bytes);
        to.gauge(&families::RPS_REQUESTS, &[], last.per_second(last.requests));
        to.gauge(&families::RPS_PPS, &[], last.per_second(last.packets));
        to.gauge(&families::RPS_BPS, &[], bytes_per_second);
        to.gauge(&families::RPS_EPS, &[], last.per_second(last.errors));
        let services = self.catalog.configured.services as f64;
        let lcus = self.active() / 2_160_000.0 + services / 1_000.0 + bytes_per_second * 8.0 / 1e9 / 3_600.0;
        to.gauge(&families::CONSUMED_LCUS, &[], lcus);
    }

    fn ledger(&self, to: &Samples) {
        let totals = &self.totals;
        for (family, term) in [
            (&families::RX_PACKETS, Term::Rx),
            (&families::FORWARDED, Term::Forwarded),
            (&families::PUNTED, Term::Punted),
            (&families::CONSUMED, Term::Consumed),
            (&families::ORIGINATED, Term::Originated),
            (&families::INJECTED, Term::Injected),
            (&families::EXTRA_FRAGMENTS, Term::ExtraFragments),
            (&families::TX_PACKETS, Term::Tx),
            (&families::TX_DROPPED, Term::TxDropped),
            (&families::HANDOFFS, Term::HandedOut),
        ] {
            to.counter(family, &[], totals.term(term));
        }
        to.gauge(&families::HELD, &[], totals.between(Term::HeldIn, Term::HeldOut) as f64);
        to.gauge(&families::HANDOFF_RING, &[], totals.between(Term::HandedOut, Term::HandedIn) as f64);
        for (reason, tally) in DropReason::ALL.iter().zip(&totals.dropped) {
            to.counter(&families::DROPPED, &[reason.label()], tally.settled);
        }
    }

    fn ports(&self, to: &Samples) {
        for (name, port) in self.settings.ports.iter().zip(&self.totals.ports) {
            let port_name = [name.as_str()];
            to.counter(&families::PORT_RX_PACKETS, &port_name, port.rx_packets.settled);
            to.counter(&families::PORT_RX_BYTES, &port_name, port.rx_bytes.settled);
            to.counter(&families::PORT_TX_PACKETS, &port_name, port.tx_packets.settled);
            to.counter(&families::PORT_TX_BYTES, &port_name, port.tx_bytes.settled);
            to.counter(&families::PORT_TX_DROPPED, &port_name, port.tx_dropped.settled);
        }
    }

    fn snapshot(&self, to: &Samples, pending: &Pending) {
        let unix = |at: crate::time::Instant| {
            (self.settings.unix_start + at.since(crate::time::Instant::ZERO)).as_secs_f64()
        };
        to.gauge(&families::CONFIG_GENERATION, &[], self.applied.generation as f64);
        let ok = f64::from(u8::from(self.applied.last_reload_ok));
        to.gauge(&families::CONFIG_LAST_RELOAD_SUCCESSFUL, &[], ok);
        to.gauge(&families::CONFIG_LAST_RELOAD_TIME, &[], unix(self.applied.at));
        to.gauge(&families::SNAPSHOT_TIMESTAMP, &[], unix(self.settled_at));
        to.gauge(&families::FLOW_SERIES, &[], self.flows.series() as f64);
        to.gauge(&families::FLOW_SERIES_LIMIT, &[], self.settings.metrics.flow_series_limit as f64);
        let (followed, bound) = self.flows.followed();
        to.gauge(&families::FLOW_PAIRS, &[], followed as f64);
        to.gauge(&families::FLOW_PAIRS_LIMIT, &[], bound as f64);
        let retired = &self.retired;
        for (family, retired, pending) in [
            (&families::TOTAL_REQUESTS_PER_SERVICE, retired.requests, 0),
            (&families::TOTAL_ERRORS_PER_SERVICE, retired.errors, 0),
            (&families::SERVICE_TRAFFIC_BYTES, retired.service_bytes, 0),
            (&families::SERVICE_TRAFFIC_PACKETS, retired.service_packets, 0),
            (&families::ENDPOINT_TRAFFIC_BYTES, retired.endpoint_bytes, 0),
            (&families::CLIENT_TRAFFIC_PACKETS, retired.client_packets, pending.client_packets),
            (&families::LB_RULE_INTERACTION_BYTES, retired.pair_bytes, pending.pair_bytes),
            (&families::LB_RULE_INTERACTION_PACKETS, retired.pair_packets, pending.pair_packets),
            (&families::TOTAL_FW_DROPS_PER_RULE, retired.fw_drops, 0),
        ] {
            to.counter(&families::RETIRED, &[family.name], retired.settled);
            to.gauge(&families::PENDING, &[family.name], pending as f64);
        }
        let build = [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, &self.settings.dpdk_version];
        to.gauge(&families::BUILD_INFO, &build, 1.0);
    }

    fn machine(&self, to: &mut Samples) {
        for port in &self.device_stats.ports {
            let Some(name) = self.settings.ports.get(port.port.index()) else { continue };
            to.gauge(&families::PORT_UP, &[name], f64::from(u8::from(port.link_up)));
            to.counter(&families::PORT_RX_MISSED, &[name], port.rx_missed);
            to.counter(&families::PORT_RX_NO_MBUF, &[name], port.rx_no_mbuf);
            to.counter(&families::PORT_RX_ERRORS, &[name], port.rx_errors);
            to.counter(&families::PORT_TX_ERRORS, &[name], port.tx_errors);
        }
        for pool in &self.device_stats.pools {
            to.gauge(&families::MEMPOOL_BUFFERS, &[&pool.name], pool.size as f64);
            to.gauge(&families::MEMPOOL_IN_USE, &[&pool.name], pool.in_use as f64);
        }
        let kernel = &self.device_stats.kernel;
        to.counter(&families::KERNEL_REFUSED, &[], kernel.refused);
        to.gauge(&families::KERNEL_ROUTES, &[], kernel.routes as f64);
        to.counter(&families::NEIGHBOR_UPDATES_LOST, &[], kernel.lost_updates);
        let listener = &self.device_stats.listener;
        for (code, requests) in CODES.into_iter().zip(listener.requests) {
            to.counter(&families::HTTP_REQUESTS, &[code], requests);
        }
        for (reason, connections) in REJECTIONS.into_iter().zip(listener.rejected) {
            to.counter(&families::HTTP_REJECTED, &[reason], connections);
        }
        to.gauge(&families::HTTP_CONNECTIONS, &[], listener.connections as f64);
        if let Some(expiry) = listener.certificate_expiry {
            to.gauge(&families::CERTIFICATE_EXPIRY, &[], expiry as f64);
        }
        let Some(reading) = &self.reading else { return };
        for (n, load) in self.totals.load.iter().enumerate() {
            let worker = n.to_string();
            to.gauge(&families::WORKER_BUSY_RATIO, &[&worker], load.busy_ratio);
            to.fraction(&families::WORKER_BUSY_SECONDS, &[&worker], load.busy_nanos.settled as f64 / 1e9);
            to.counter(&families::WORKER_POLLS, &[&worker], load.polls.settled);
            to.counter(&families::WORKER_BUSY_POLLS, &[&worker], load.busy_polls.settled);
            if let Some(cycles) = self.settings.cycles_per_nano.filter(|_| load.packets.last > 0) {
                let cycles = load.busy_nanos.last as f64 * cycles / load.packets.last as f64;
                to.gauge(&families::WORKER_CYCLES_PER_PACKET, &[&worker], cycles);
            }
        }
        self.latencies(to);
        let Histogram { buckets, count, sum } = self.publication.scrapes();
        to.histogram(&families::SCRAPE_SECONDS, &[], (&BOUNDS, &buckets), (count, sum));
        let process = reading.process;
        for (family, value) in [
            (&families::SYSTEM_CPU_UTILIZATION, reading.cpu_percent),
            (&families::SYSTEM_MEMORY_UTILIZATION, reading.memory_percent),
            (&families::SYSTEM_DISK_UTILIZATION, reading.disk_percent),
            (&families::TICK_DURATION, self.tick_seconds),
            (&families::PROCESS_RESIDENT_MEMORY, process.map(|p| p.resident_bytes)),
            (&families::PROCESS_VIRTUAL_MEMORY, process.map(|p| p.virtual_bytes)),
            (&families::PROCESS_OPEN_FDS, process.map(|p| p.open_fds)),
            (&families::PROCESS_THREADS, process.map(|p| p.threads)),
            (&families::PROCESS_START_TIME, process.map(|p| p.start_unix)),
        ] {
            if let Some(value) = value {
                to.gauge(family, &[], value);
            }
        }
        if let Some(process) = process {
            to.fraction(&families::PROCESS_CPU_SECONDS, &[], process.cpu_seconds);
        }
    }

    fn latencies(&self, to: &mut Samples) {
        let LatencyTotals { settled, last, .. } = &self.totals.latencies;
        for (family, quantiles, all, last) in [
            (&families::BURST_SECONDS, &families::BURST_QUANTILE, &settled.burst, &last.burst),
            (
                &families::RESIDENCE_SECONDS,
                &families::RESIDENCE_QUANTILE,
                &settled.residence,
                &last.residence,
            ),
        ] {
            to.histogram(family, &[], (&LATENCY_BOUNDS, &all.buckets(&LATENCY_BOUNDS)), all.sum());
            for share in QUANTILES {
                if let Some(seconds) = last.quantile(share) {
                    to.gauge(quantiles, &[&share.to_string()], seconds);
                }
            }
        }
    }

    /// The `sip`-labelled families, sorted by label.
    fn flow_families(&self, text: &mut String, labels: &Labels, last: bool) {
        let catalog = &self.catalog;
        let others = catalog
            .services
            .iter()
            .map(|(key, series)| (labels.service(key), Sip::Other, key, series.other_packets.settled));
        let clients = self.flows.shown_clients(last);
        let clients =
            clients.map(|(key, client, packets)| (labels.service(key), Sip::Client(client), key, packets));
        let mut clients: Vec<_> = others.chain(clients).collect();
        clients.sort_unstable();

        let place = |key: usize| {
            let series = &catalog.endpoints[key];
            (labels.service(series.service), series.dip)
        };
        let others = catalog.endpoints.iter().map(|(key, series)| {
            let (service, dip) = place(key);
            (service, Sip::Other, dip, key, series.other.packets.settled, series.other.bytes.settled)
        });
        let pairs = self.flows.shown(last).map(|(row, client, Amount { packets, bytes })| {
            let (service, dip) = place(row.endpoint as usize);
            (service, Sip::Client(client), dip, row.endpoint as usize, packets, bytes)
        });
        let mut pairs: Vec<_> = others.chain(pairs).collect();
        pairs.sort_unstable();

        text.reserve(120 * (clients.len() + 2 * pairs.len()));
        header(text, &families::CLIENT_TRAFFIC_PACKETS);
        for (_, sip, service, packets) in clients {
            labels.client(text, service, sip, packets);
        }
        header(text, &families::LB_RULE_INTERACTION_BYTES);
        for &(_, sip, _, endpoint, _, bytes) in &pairs {
            labels.pair(text, &families::LB_RULE_INTERACTION_BYTES, endpoint, sip, bytes);
        }
        header(text, &families::LB_RULE_INTERACTION_PACKETS);
        for &(_, sip, _, endpoint, packets, _) in &pairs {
            labels.pair(text, &families::LB_RULE_INTERACTION_PACKETS, endpoint, sip, packets);
        }
    }
}

/// Puts what the recorder rendered in order: families as in the table, samples by their labels. Every family of the table has its headers,
/// also one without samples. With `aliases` those follow, each with its family's samples.
fn arrange(rendered: &str, samples: &Samples, aliases: bool) -> String {
    let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in rendered.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        by_name.entry(&line[..end]).or_default().push(line);
    }
    for (family, line) in &samples.lines {
        by_name.entry(family.name).or_default().push(line.trim_end());
    }
    by_name.values_mut().for_each(|lines| lines.sort_unstable());
    let ordered: usize = samples.ordered.iter().map(|(_, lines)| lines.len()).sum();
    let mut text = String::with_capacity(rendered.len() + rendered.len() / 4 + 2 * ordered);
    let mut of = |family: &Family, shown: &Family| {
        header(&mut text, shown);
        let ordered = samples.ordered.iter().find(|(of, _)| of.name == family.name);
        for line in ordered.into_iter().flat_map(|(_, lines)| lines.lines()) {
            text.push_str(shown.name);
            text.push_str(line);
            text.push('\n');
        }
        for line in by_name.get(family.name).into_iter().flatten() {
            text.push_str(shown.name);
            text.push_str(&unveil(&line[family.name.len()..]));
            text.push('\n');
        }
    };
    let own = |family: &&&Family| !matches!(family.source, Source::Flows | Source::Pairs);
    families::ALL.iter().filter(own).for_each(|family| of(family, family));
    if aliases {
        families::ALIASES.iter().for_each(|(alias, family)| of(family, alias));
    }
    debug_assert!(by_name.keys().all(|name| families::ALL.iter().any(|family| family.name == *name)));
    text
}
