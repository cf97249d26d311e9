//! Random lives of an engine — workers that lag, connections, failures, reloads, few seats for many clients — with a ledger of their own
//! beside them. Every scrape is compared with the ledger, and with the scrape before.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::counters::{FlowState, ServiceCounters};

/// Label, protocol. The first two share a VIP and port.
const SERVICES: [(&str, Protocol); 4] = [
    ("203.0.113.1:80", Protocol::Tcp),
    ("203.0.113.1:80", Protocol::Udp),
    ("[2001:db8::1]:5000-5009", Protocol::Sctp),
    ("203.0.113.2:443", Protocol::Tcp),
];

/// Service, address. 0 and 1 share a `dip`, and 3 is the other service's with that label and `dip`.
const ENDPOINTS: [(u32, &str); 8] = [
    (0, "10.0.0.1:80"),
    (0, "10.0.0.1:81"),
    (0, "10.0.0.2:80"),
    (1, "10.0.0.1:53"),
    (2, "[2001:db8:1::1]:0"),
    (2, "[2001:db8:1::2]:0"),
    (3, "10.0.0.1:443"),
    (3, "10.0.0.3:443"),
];

const RULES: [&str; 2] = ["block_icmp", "block \"all\"\\"];

const CLIENTS: u8 = 12;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A connection of a worker: endpoint, client.
    Open(usize, usize, u8),
    /// Packets of some connection: which, how many, bytes each, ICMP errors.
    Send(usize, usize, u8, u16, bool),
    Close(usize, usize),
    /// A request that fails in one of eight ways.
    Fail(usize, usize, u8),
    FirewallDrop(usize, usize),
    /// Ends a second; the worker of this number, if there is one, answers only after more has happened.
    Round(usize),
    /// Services, endpoints, rules, and endpoints that are down, as bits.
    Reload(u8, u8, u8, u8),
    /// So many pairs may have a series, and are followed, from now on.
    Limit(usize, usize),
}

fn op(reloads: bool, limits: bool) -> impl Strategy<Value = Op> {
    let (w, nth) = (0..3_usize, any::<usize>());
    prop_oneof![
        5 => (w.clone(), 0..ENDPOINTS.len(), 0..CLIENTS).prop_map(|(w, e, c)| Op::Open(w, e, c)),
        8 => (w.clone(), nth, 1..6_u8, 20..1500_u16, prop::bool::weighted(0.1))
            .prop_map(|(w, i, n, b, icmp)| Op::Send(w, i, n, b, icmp)),
        3 => (w.clone(), nth).prop_map(|(w, i)| Op::Close(w, i)),
        2 => (w.clone(), 0..SERVICES.len(), 0..10_u8).prop_map(|(w, s, k)| Op::Fail(w, s, k)),
        1 => (w, 0..RULES.len()).prop_map(|(w, r)| Op::FirewallDrop(w, r)),
        7 => (0..12_usize).prop_map(Op::Round),
        u32::from(reloads) => (0..16_u8, any::<u8>(), 0..4_u8, any::<u8>()).prop_map(|(s, e, r, d)| Op::Reload(s, e, r, d)),
        u32::from(limits) => (0..20_usize, 1..40_usize).prop_map(|(limit, bound)| Op::Limit(limit, bound)),
    ]
}

/// What was counted, as the generator of the traffic knows it.
#[derive(Clone, Copy, Debug)]
enum Event {
    Traffic { endpoint: usize, client: Option<u8>, packets: u64, bytes: u64, icmp: bool },
    Request { service: usize, error: bool, created: bool },
    Error { service: usize },
    Drop { rule: usize },
    Flows(Protocol, i64),
}

#[derive(Clone, Copy, Debug)]
struct Masks {
    services: u8,
    endpoints: u8,
    rules: u8,
    down: u8,
}

impl Masks {
    const ALL: Self = Self { services: 0xf, endpoints: 0xff, rules: 3, down: 0 };

    fn service(self, n: usize) -> bool {
        self.services & 1 << n != 0
    }

    fn endpoint(self, n: usize) -> bool {
        self.endpoints & 1 << n != 0 && self.service(ENDPOINTS[n].0 as usize)
    }

    fn rule(self, n: usize) -> bool {
        self.rules & 1 << n != 0
    }

    fn names(self) -> Names {
        let mut services = Vec::new();
        for (of, (label, protocol)) in SERVICES.iter().enumerate().filter(|(n, _)| self.service(*n)) {
            let mut service = service(of as u32, &format!("s{of}"), label, *protocol);
            let own = ENDPOINTS.iter().enumerate().filter(|(n, e)| e.0 as usize == of && self.endpoint(*n));
            for (n, (_, address)) in own {
                let state = if self.down & 1 << n != 0 { EndpointState::Down } else { EndpointState::Up };
                endpoint(n as u32, &mut service, address, state);
            }
            services.push(service);
        }
        let rules = RULES.iter().enumerate().filter(|(n, _)| self.rule(*n));
        named(services, rules.map(|(n, name)| (RuleId(n as u32), (*name).into())).collect())
    }
}

type Series = BTreeMap<(&'static str, String, String), u64>;

/// Label values of the bounded series: service and dip, rule, or nothing.
#[derive(Default)]
struct Ledger {
    /// Bounded series that a scrape shows, by family, service or rule, and dip.
    shown: Series,
    retired: BTreeMap<&'static str, u64>,
    totals: BTreeMap<&'static str, u64>,
    flows: BTreeMap<&'static str, i64>,
    /// Processed by (label, client, dip) while the endpoint was configured, and by (label, dip) for clients without a slot.
    pairs: BTreeMap<(&'static str, u8, String), (u64, u64)>,
    /// The same up to the end of the last tick: what a snapshot shows that a reload in the middle of one publishes.
    settled_pairs: BTreeMap<(&'static str, u8, String), (u64, u64)>,
    created_in_tick: u64,
    at_tick_start: BTreeMap<&'static str, u64>,
    /// Services and endpoints that count for a series: the configured ones, and those removed whose label has lived on since.
    services: BTreeSet<usize>,
    endpoints: BTreeSet<usize>,
}

const PER_SERVICE: [&str; 4] = [
    "total_requests_per_service",
    "total_errors_per_service",
    "service_traffic_bytes",
    "service_traffic_packets",
];

fn dip(endpoint: usize) -> String {
    ENDPOINTS[endpoint].1.parse::<SocketAddr>().unwrap().ip().to_string()
}

impl Ledger {
    fn total(&mut self, name: &'static str, n: u64) {
        *self.totals.entry(name).or_default() += n;
    }

    fn credit(&mut self, family: &'static str, configured: bool, one: &str, two: &str, n: u64) {
        if configured {
            let key = (family, one.to_owned(), two.to_owned());
            *self.shown.get_mut(&key).unwrap_or_else(|| panic!("no {key:?}")) += n;
        } else {
            *self.retired.entry(family).or_default() += n;
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Traffic { endpoint, client, packets, bytes, icmp } => {
                let of = ENDPOINTS[endpoint].0 as usize;
                let (label, protocol) = SERVICES[of];
                self.total("processed_packets_total", packets);
                self.total("processed_bytes_total", bytes);
                if !icmp {
                    let names = match protocol {
                        Protocol::Tcp => ["processed_tcp_packets", "processed_tcp_bytes"],
                        Protocol::Udp => ["processed_udp_packets", "processed_udp_bytes"],
                        Protocol::Sctp => ["processed_sctp_packets", "processed_sctp_bytes"],
                    };
                    self.total(names[0], packets);
                    self.total(names[1], bytes);
                }
                self.credit("service_traffic_packets", self.services.contains(&of), label, "", packets);
                self.credit("service_traffic_bytes", self.services.contains(&of), label, "", bytes);
                let counts = self.endpoints.contains(&endpoint);
                self.credit("endpoint_traffic_bytes", counts, label, &dip(endpoint), bytes);
                if let (Some(client), true) = (client, counts) {
                    let pair = self.pairs.entry((label, client, dip(endpoint))).or_default();
                    *pair = (pair.0 + packets, pair.1 + bytes);
                }
            }
            Event::Request { service, error, created } => {
                self.total("total_requests", 1);
                let (label, configured) = (SERVICES[service].0, self.services.contains(&service));
                self.credit("total_requests_per_service", configured, label, "", 1);
                self.created_in_tick += u64::from(created);
                if error {
                    self.apply(Event::Error { service });
                }
            }
            Event::Error { service } => {
                self.total("total_errors", 1);
                let (label, configured) = (SERVICES[service].0, self.services.contains(&service));
                self.credit("total_errors_per_service", configured, label, "", 1);
            }
            Event::Drop { rule } => {
                self.total("total_fw_drops", 1);
                let configured = self.shown.contains_key(&(
                    "total_fw_drops_per_rule",
                    RULES[rule].to_owned(),
                    String::new(),
                ));
                self.credit("total_fw_drops_per_rule", configured, RULES[rule], "", 1);
            }
            Event::Flows(protocol, n) => *self.flows.entry(protocol.name()).or_default() += n,
        }
    }

    /// The series of a configuration: those that are new at 0, those that are gone retired.
    fn reload(&mut self, masks: Masks) {
        let mut labels = BTreeSet::new();
        for n in (0..SERVICES.len()).filter(|&n| masks.service(n)) {
            labels.extend(PER_SERVICE.map(|family| (family, SERVICES[n].0.to_owned(), String::new())));
        }
        for n in (0..ENDPOINTS.len()).filter(|&n| masks.endpoint(n)) {
            let service = SERVICES[ENDPOINTS[n].0 as usize].0.to_owned();
            labels.insert(("endpoint_traffic_bytes", service, dip(n)));
        }
        for n in (0..RULES.len()).filter(|&n| masks.rule(n)) {
            labels.insert(("total_fw_drops_per_rule", RULES[n].to_owned(), String::new()));
        }
        let gone: Vec<_> = self.shown.keys().filter(|key| !labels.contains(*key)).cloned().collect();
        for key in gone {
            let value = self.shown.remove(&key).unwrap_or_default();
            *self.retired.entry(key.0).or_default() += value;
        }
        for key in labels {
            self.shown.entry(key).or_default();
        }
        let shown =
            |family, label: &str, dip: String| self.shown.contains_key(&(family, label.to_owned(), dip));
        let of = |n: usize| SERVICES[ENDPOINTS[n].0 as usize].0;
        self.services.retain(|&n| shown("service_traffic_bytes", SERVICES[n].0, String::new()));
        self.services.extend((0..SERVICES.len()).filter(|&n| masks.service(n)));
        self.endpoints.retain(|&n| shown("endpoint_traffic_bytes", of(n), dip(n)));
        self.endpoints.extend((0..ENDPOINTS.len()).filter(|&n| masks.endpoint(n)));
        for pairs in [&mut self.pairs, &mut self.settled_pairs] {
            pairs.retain(|(label, _, at), _| {
                self.shown.contains_key(&("endpoint_traffic_bytes", (*label).to_owned(), at.clone()))
            });
        }
    }
}

struct Worker {
    writer: Writer,
    pairs: Pairs,
    /// Endpoint, client, slot.
    open: Vec<(usize, u8, PairSlot)>,
    /// Counted since the last turn to another bank, and in the bank at rest.
    active: Vec<Event>,
    rest: Vec<Event>,
}

struct World {
    aggregator: Aggregator,
    workers: Vec<Worker>,
    limit: usize,
    now: Instant,
    masks: Masks,
    /// As folded, and as the last snapshot shows.
    folded: Vec<Event>,
    ledger: Ledger,
    before: Option<Scrape>,
    pairs_before: Option<Scrape>,
    /// Pairs that are followed at most.
    bound: usize,
    /// Ticks seen.
    ticks: usize,
    settled_at: Instant,
    lagging: Option<usize>,
    generation: u64,
}

impl World {
    fn new(workers: usize, pairs: usize, limit: usize) -> Self {
        let sizes = Sizes {
            ports: 1,
            services: SERVICES.len(),
            endpoints: ENDPOINTS.len(),
            rules: 2,
            snat: 0,
            pairs,
        };
        let (shared, workers): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (shared, writer) = WorkerCounters::new(sizes);
                let pairs = Pairs::new(sizes, (5, 6));
                (shared, Worker { writer, pairs, open: vec![], active: vec![], rest: vec![] })
            })
            .unzip();
        let mut settings = settings(limit);
        settings.metrics.tick = Duration::from_secs(2);
        settings.metrics.distribution_tick = Duration::from_secs(6);
        let mut aggregator = Aggregator::new(settings, shared, &Masks::ALL.names(), 1);
        aggregator.publish();
        let mut ledger = Ledger::default();
        ledger.reload(Masks::ALL);
        Self {
            aggregator,
            workers,
            limit,
            now: Instant::ZERO,
            masks: Masks::ALL,
            folded: Vec::new(),
            ledger,
            before: None,
            pairs_before: None,
            bound: usize::MAX,
            ticks: 0,
            settled_at: Instant::ZERO,
            lagging: None,
            generation: 1,
        }
    }

    fn worker(&mut self, n: usize) -> &mut Worker {
        let n = n % self.workers.len();
        &mut self.workers[n]
    }

    fn run(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Open(w, endpoint, client) => {
                let of = ENDPOINTS[endpoint].0;
                let key = PairKey {
                    service: ServiceId(of),
                    endpoint: EndpointId(endpoint as u32),
                    client: super::client(client),
                };
                let protocol = SERVICES[of as usize].1;
                let w = self.worker(w);
                let slot = w.pairs.acquire(&w.writer, &key);
                w.open.push((endpoint, client, slot));
                w.writer.bank().service(ServiceId(of)).created.add(1);
                w.writer.bank().flows(protocol, FlowState::Established).add(1);
                w.active.push(Event::Request { service: of as usize, error: false, created: true });
                w.active.push(Event::Flows(protocol, 1));
            }
            Op::Send(w, i, packets, bytes, icmp_error) => {
                let w = self.worker(w);
                if w.open.is_empty() {
                    return Ok(());
                }
                let (endpoint, client, pair) = w.open[i % w.open.len()];
                let service = ServiceId(ENDPOINTS[endpoint].0);
                let account = Account {
                    flow: None,
                    pair,
                    bytes: u32::from(bytes),
                    icmp_error: icmp_error.then_some(service),
                };
                // Some clients weigh far more than others, or nobody would have to give up a seat.
                let packets = u64::from(packets) * if client % 3 == 0 { 30 } else { 1 };
                for _ in 0..packets {
                    w.writer.transmitted(PortId(0), usize::from(bytes) + 14, Some(&account));
                }
                w.active.push(Event::Traffic {
                    endpoint,
                    client: pair.endpoint().is_none().then_some(client),
                    packets,
                    bytes: packets * u64::from(bytes),
                    icmp: icmp_error,
                });
            }
            Op::Close(w, i) => {
                let w = self.worker(w);
                if w.open.is_empty() {
                    return Ok(());
                }
                let (endpoint, _, slot) = w.open.swap_remove(i % w.open.len());
                let protocol = SERVICES[ENDPOINTS[endpoint].0 as usize].1;
                w.pairs.release(&w.writer, slot);
                w.writer.bank().flows(protocol, FlowState::Established).sub(1);
                w.active.push(Event::Flows(protocol, -1));
            }
            Op::Fail(w, service, kind) => {
                let w = self.worker(w);
                let c: &ServiceCounters = w.writer.bank().service(ServiceId(service as u32));
                let refused = [
                    &c.refused_no_endpoint,
                    &c.refused_no_route,
                    &c.refused_table_full,
                    &c.refused_tuple,
                    &c.refused_no_snat_port,
                ];
                let bad = [
                    &c.error_refused,
                    &c.error_timed_out,
                    &c.error_server_reset,
                    &c.error_violation,
                    &c.error_abort,
                ];
                if let Some(counter) = refused.get(usize::from(kind)) {
                    counter.add(1);
                    w.active.push(Event::Request { service, error: true, created: false });
                } else {
                    c.created.add(1);
                    bad[usize::from(kind) - refused.len()].add(1);
                    w.active.push(Event::Request { service, error: true, created: true });
                }
            }
            Op::FirewallDrop(w, rule) => {
                let w = self.worker(w);
                w.writer.bank().rule(RuleId(rule as u32)).add(1);
                w.active.push(Event::Drop { rule });
            }
            Op::Round(lag) => return self.round(lag),
            Op::Limit(limit, bound) => {
                (self.limit, self.bound) = (limit, bound);
                let Masks { services, endpoints, rules, down } = self.masks;
                return self.run(Op::Reload(services, endpoints, rules, down));
            }
            Op::Reload(services, endpoints, rules, down) => {
                self.masks = Masks { services, endpoints, rules, down };
                self.generation += 1;
                let mut metrics = settings(self.limit).metrics;
                metrics.tick = Duration::from_secs(2);
                metrics.distribution_tick = Duration::from_secs(6);
                let names = self.masks.names();
                // What was folded since the last snapshot belongs to the series that were there when it was folded.
                self.aggregator.reconfigure(self.now, &metrics, &names, self.generation);
                self.aggregator.flows.set_bound(self.bound);
                let s = self.scrape()?;
                check_conservation(&s)?;
                if let Some(before) = &self.before {
                    check_monotony(before, &s)?;
                    for name in ["processed_packets_total", "total_requests", "rps_bps", "new_flow_count"] {
                        if s.get(name, &[]) != before.get(name, &[]) {
                            return Err(format!("{name} changed by a reload"));
                        }
                    }
                }
                self.ledger.reload(self.masks);
                self.check_all_pairs(&s)?;
                self.before = Some(s);
            }
        }
        Ok(())
    }

    fn round(&mut self, lag: usize) -> Result<(), String> {
        let due = self.aggregator.due();
        self.now = due.max(self.now);
        self.aggregator.ask();
        let late = self.lagging.take();
        let lags = late.is_none() && lag < self.workers.len();
        for (n, w) in self.workers.iter_mut().enumerate() {
            if (lags && n == lag) || late.is_some_and(|late| n != late) {
                continue;
            }
            w.writer.turn(self.now);
            w.rest.append(&mut w.active);
        }
        let step = self.aggregator.step(self.now);
        if lags {
            self.lagging = Some(lag);
            return if step == Step::Waiting { Ok(()) } else { Err("folded without all workers".into()) };
        }
        if step == Step::Waiting {
            return Err("all workers have answered".into());
        }
        for w in &mut self.workers {
            for event in w.rest.drain(..) {
                self.ledger.apply(event);
                self.folded.push(event);
            }
        }
        if step == Step::Ticked {
            self.aggregator.publish();
            self.ledger.settled_pairs.clone_from(&self.ledger.pairs);
            let s = self.scrape()?;
            self.check(&s)?;
            self.check_all_pairs(&s)?;
            self.ticks += 1;
            self.before = Some(s);
            self.settled_at = self.now;
            self.ledger.created_in_tick = 0;
            self.ledger.at_tick_start = self.ledger.totals.clone();
            self.folded.clear();
        }
        Ok(())
    }

    fn scrape(&self) -> Result<Scrape, String> {
        // Whether it is stale is not the question here.
        let newest =
            self.aggregator.publication().newest(self.settled_at).map_err(|stale| stale.to_string())?;
        Scrape::parse(std::str::from_utf8(&newest.text).map_err(|e| e.to_string())?)
    }

    fn check(&self, s: &Scrape) -> Result<(), String> {
        check_conservation(s)?;
        if let Some(before) = &self.before {
            check_monotony(before, s)?;
        }
        let expect = |what: &str, found: f64, expected: f64| {
            if (found - expected).abs() < 1e-9 {
                Ok(())
            } else {
                Err(format!("{what} is {found}, not {expected}"))
            }
        };
        for (name, &n) in &self.ledger.totals {
            expect(name, s.value(name, &[]), n as f64)?;
        }
        for protocol in Protocol::ALL {
            let n = self.ledger.flows.get(protocol.name()).copied().unwrap_or_default();
            let name = format!("active_flow_count_{}", protocol.name());
            expect(&name, s.value(&name, &[]), n as f64)?;
        }
        expect("new_flow_count", s.value("new_flow_count", &[]), self.ledger.created_in_tick as f64)?;
        let seconds = self.now.since(self.settled_at).as_secs_f64();
        for (rate, total) in [
            ("rps_requests", "total_requests"),
            ("rps_eps", "total_errors"),
            ("rps_pps", "processed_packets_total"),
            ("rps_bps", "processed_bytes_total"),
        ] {
            let of = |totals: &BTreeMap<&str, u64>| totals.get(total).copied().unwrap_or_default();
            let n = of(&self.ledger.totals) - of(&self.ledger.at_tick_start);
            expect(rate, s.value(rate, &[]), n as f64 / seconds)?;
        }
        self.check_bounded(s)?;
        self.check_flows(s)
    }

    /// Exactly the configured series, each with exactly what was counted.
    fn check_bounded(&self, s: &Scrape) -> Result<(), String> {
        let mut found = Series::new();
        for family in PER_SERVICE.into_iter().chain(["endpoint_traffic_bytes", "total_fw_drops_per_rule"]) {
            for (labels, value) in s.family(family) {
                let two = labels.get(1).map(|l| l.1.clone()).unwrap_or_default();
                found.insert((family, labels[0].1.clone(), two), value.parse().unwrap());
            }
            let retired = s.count("pollux_retired_total", &[("family", family)]);
            if retired != self.ledger.retired.get(family).copied().unwrap_or_default() {
                return Err(format!(
                    "retired of {family}: {retired}, not {:?}",
                    self.ledger.retired.get(family)
                ));
            }
        }
        if found != self.ledger.shown {
            return Err(format!("series {found:?}, not {:?}", self.ledger.shown));
        }
        let services = found.keys().filter(|key| key.0 == "service_traffic_bytes").count();
        for family in ["rps_1m_avg", "rps_1m_peak", "total_load_dists_per_service"] {
            if s.family(family).count() != services {
                return Err(format!("{family} does not have every service"));
            }
        }
        let names = self.masks.names();
        let endpoints: BTreeSet<_> =
            names.endpoints().map(|e| (e.address, SERVICES[e.service.index()].1)).collect();
        let found = s.count("healthy_endpoints_count", &[]) + s.count("unhealthy_endpoints_count", &[]);
        if found != endpoints.len() as u64 || s.count("lb_rule_count", &[]) != names.services.len() as u64 {
            return Err("configured counts".into());
        }
        Ok(())
    }

    fn check_flows(&self, s: &Scrape) -> Result<(), String> {
        let mut by_endpoint: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut pairs = 0;
        for (labels, value) in s.family("lb_rule_interaction_bytes") {
            let [(_, service), (_, sip), (_, dip)] = &labels[..] else { return Err("labels".into()) };
            pairs += usize::from(sip != "other");
            *by_endpoint.entry((service.clone(), dip.clone())).or_default() += value.parse::<u64>().unwrap();
        }
        if pairs > self.limit {
            return Err(format!("{pairs} pairs have a series, {} may", self.limit));
        }
        // `dip` is never folded: nothing of another endpoint's bytes appears under this one.
        for ((service, dip), bytes) in &by_endpoint {
            let most = s.count("endpoint_traffic_bytes", &[("service", service), ("dip", dip)]);
            if *bytes > most {
                return Err(format!("{service} {dip} has {bytes} bytes of clients, but {most}"));
            }
        }
        for (labels, _) in s.family("endpoint_traffic_bytes") {
            let other = [("service", &*labels[0].1), ("sip", "other"), ("dip", &*labels[1].1)];
            if s.get("lb_rule_interaction_packets", &other).is_none() {
                return Err(format!("no {other:?}"));
            }
        }
        // With a seat for everybody, each pair shows all of its own or, while it is new, 0.
        if self.limit < usize::from(CLIENTS) * ENDPOINTS.len() {
            return Ok(());
        }
        for ((service, client, dip), (packets, bytes)) in &self.ledger.pairs {
            let sip = super::client(*client).to_string();
            let key = [("service", *service), ("sip", &*sip), ("dip", dip)];
            let shown =
                (s.count("lb_rule_interaction_packets", &key), s.count("lb_rule_interaction_bytes", &key));
            let seen =
                self.before.as_ref().is_some_and(|b| b.get("lb_rule_interaction_bytes", &key) > Some("0"));
            if shown != (*packets, *bytes) && (seen || shown != (0, 0)) {
                return Err(format!("{key:?} shows {shown:?} of {:?}", (packets, bytes)));
            }
            if s.get("client_traffic_packets", &key[..2]).is_none() {
                return Err(format!("no client series {:?}", &key[..2]));
            }
        }
        Ok(())
    }

    /// `/metrics/flows` beside the page `s`.
    fn check_all_pairs(&mut self, s: &Scrape) -> Result<(), String> {
        let pairs = Scrape::parse(&whole(&self.aggregator.freeze(), &Selection::default()))?;
        check_pairs(&pairs, s)?;
        if let Some(before) = &self.pairs_before {
            check_pairs_grow(before, &pairs)?;
        }
        if self.bound == usize::MAX {
            for ((service, client, dip), (packets, bytes)) in &self.ledger.settled_pairs {
                let sip = super::client(*client).to_string();
                let key = [("service", *service), ("sip", &*sip), ("dip", dip)];
                let of = |family| pairs.get(family, &key).map(str::parse::<u64>);
                let shown = (of("lb_rule_interaction_packets"), of("lb_rule_interaction_bytes"));
                if shown != (Some(Ok(*packets)), Some(Ok(*bytes))) && shown != (Some(Ok(0)), Some(Ok(0))) {
                    return Err(format!("all pairs: {key:?} shows {shown:?} of {:?}", (packets, bytes)));
                }
            }
        }
        self.pairs_before = Some(pairs);
        Ok(())
    }

    /// Everything comes to rest, and the last page has it all.
    fn finish(mut self) -> Result<(), String> {
        if self.lagging.is_some() {
            self.round(usize::MAX)?;
        }
        for _ in 0..2 {
            self.round(usize::MAX)?;
        }
        self.aggregator.ask();
        for w in &mut self.workers {
            w.writer.turn(self.now);
        }
        let s = Scrape::parse(&self.aggregator.render_final(self.now))?;
        check_conservation(&s)?;
        if s.sum("pollux_pending") != 0 {
            return Err("the last page has something pending".into());
        }
        if self.limit >= usize::from(CLIENTS) * ENDPOINTS.len() {
            for ((service, client, dip), (packets, _)) in &self.ledger.pairs {
                let sip = super::client(*client).to_string();
                let key = [("service", *service), ("sip", &*sip), ("dip", dip)];
                if s.count("lb_rule_interaction_packets", &key) != *packets {
                    return Err(format!("{key:?} at the end"));
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_scrape_is_what_the_ledger_says(
        workers in 1..4_usize,
        pairs in prop_oneof![Just(4_usize), Just(200)],
        limit in prop_oneof![0..6_usize, Just(100)],
        // Without reloads seats are fought for, with them pairs seldom last.
        ops in prop_oneof![prop::collection::vec(op(true, false), 1..250), prop::collection::vec(op(false, false), 100..400)],
    ) {
        let mut world = World::new(workers, pairs, limit);
        for op in ops {
            world.run(op).map_err(|why| TestCaseError::fail(format!("{op:?}: {why}")))?;
        }
        world.finish().map_err(TestCaseError::fail)?;
    }
}

/// Reloads, limits that change, and seats that are fought for, over thousands of ticks: no scrape breaks a rule.
#[test]
fn thousands_of_ticks() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let ops = op(true, true);
    let mut world = World::new(3, 24, 6);
    while world.ticks < 2500 {
        let next = ops.new_tree(&mut runner).unwrap().current();
        world.run(next).unwrap_or_else(|why| panic!("tick {}: {next:?}: {why}", world.ticks));
    }
    world.finish().unwrap();
}
