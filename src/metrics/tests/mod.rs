//! Tests of the whole: real counters and writers below, the text as a scraper sees it above.

mod families;
mod flows;
mod http;
mod model;
mod names;

mod parser;
mod render;
mod ticker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::parser::Scrape;
use super::{Aggregator, Frozen, Selection, Settings, Step};
use crate::addr::Addr;
use crate::config::{self, EndpointState, Protocol, ServiceLabel};
use crate::counters::{PairKey, Pairs, Sizes, WorkerCounters, Writer};
use crate::ids::{EndpointId, PairSlot, PortId, RuleId, ServiceId};
use crate::pipeline::Account;
use crate::tables::{EndpointName, Health, Names, ServiceName};
use crate::time::Instant;

const SIZES: Sizes = Sizes { ports: 2, services: 8, endpoints: 16, rules: 4, snat: 0, pairs: 64 };

fn settings(flow_series_limit: usize) -> Settings {
    Settings {
        metrics: config::Metrics {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tick: Duration::from_secs(10),
            distribution_tick: Duration::from_secs(120),
            service_label: ServiceLabel::Address,
            flow_series_limit,
            aliases: false,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            access: config::Access::default(),
        },
        ports: vec!["wan".into(), "lan".into()],
        worker_cpus: vec![1, 2, 3],
        conntrack_capacity: 1000,
        unix_start: Duration::from_secs(1_700_000_000),
        dpdk_version: "22.11".into(),
        cycles_per_nano: Some(2.25),
    }
}

fn service(id: u32, name: &str, address: &str, protocol: Protocol) -> Arc<ServiceName> {
    let (id, name, address) = (ServiceId(id), name.into(), address.into());
    Arc::new(ServiceName { id, name, address, protocol, endpoints: Vec::new() })
}

/// Gives a service one more endpoint.
fn endpoint(id: u32, service: &mut Arc<ServiceName>, address: &str, state: EndpointState) {
    let service = Arc::make_mut(service);
    let (of, protocol) = (service.id, service.protocol);
    let address = address.parse().unwrap();
    service.endpoints.push(EndpointName { id: EndpointId(id), service: of, address, protocol, state });
}

/// The names of these services, with their endpoints counted.
fn named(services: Vec<Arc<ServiceName>>, rules: Vec<(RuleId, String)>) -> Names {
    let mut up = BTreeMap::new();
    for e in services.iter().flat_map(|service| &service.endpoints) {
        *up.entry((e.address, e.protocol.number())).or_insert(false) |= e.state != EndpointState::Down;
    }
    let healthy = up.values().filter(|up| **up).count();
    let health = Health { healthy, unhealthy: up.len() - healthy };
    Names { services, rules, snat: vec![], health }
}

/// Two services, with two endpoints and one, and a rule.
fn names() -> Names {
    let mut web = service(0, "web", "203.0.113.100:80", Protocol::Tcp);
    let mut dns = service(1, "dns", "[2001:db8::100]:53", Protocol::Udp);
    endpoint(0, &mut web, "10.0.0.1:8080", EndpointState::Up);
    endpoint(1, &mut web, "10.0.0.2:8080", EndpointState::Up);
    endpoint(2, &mut dns, "[2001:db8:1::3]:53", EndpointState::Up);
    named(vec![web, dns], vec![(RuleId(0), "block_icmp".into())])
}

fn client(n: u8) -> Addr {
    Addr::v4([192, 0, 2, n])
}

fn second(n: u64) -> Instant {
    Instant(n * 1_000_000_000)
}

/// One worker and an aggregator on virtual time.
struct Bench {
    aggregator: Aggregator,
    writer: Writer,
    pairs: Pairs,
    now: Instant,
}

impl Bench {
    fn new(limit: usize, names: &Names) -> Self {
        Self::with(settings(limit), names)
    }

    fn with(settings: Settings, names: &Names) -> Self {
        Self::of_sizes(settings, names, SIZES)
    }

    fn of_sizes(settings: Settings, names: &Names, sizes: Sizes) -> Self {
        let (shared, writer) = WorkerCounters::new(sizes);
        let mut aggregator = Aggregator::new(settings, vec![shared], names, 1);
        aggregator.publish();
        Self { aggregator, writer, pairs: Pairs::new(sizes, (3, 4)), now: Instant::ZERO }
    }

    fn slot(&mut self, service: u32, endpoint: u32, client: Addr) -> PairSlot {
        let key = PairKey { service: ServiceId(service), endpoint: EndpointId(endpoint), client };
        self.pairs.acquire(&self.writer, &key)
    }

    /// `packets` of 100 bytes.
    fn traffic(&mut self, service: u32, endpoint: u32, client: Addr, packets: u64) {
        let pair = self.slot(service, endpoint, client);
        let account = Account { flow: None, pair, bytes: 100, icmp_error: None };
        for _ in 0..packets {
            self.writer.transmitted(PortId(1), 114, Some(&account));
        }
        self.pairs.release(&self.writer, pair);
    }

    /// One round, at the time when it is due.
    fn round(&mut self) -> Step {
        self.now = self.aggregator.due();
        self.aggregator.ask();
        self.writer.turn(self.now);
        self.aggregator.step(self.now)
    }

    /// To the end of the tick; what is published then.
    fn tick(&mut self) -> Scrape {
        while self.round() != Step::Ticked {}
        self.aggregator.publish();
        self.scrape()
    }

    fn text(&self) -> String {
        let newest = self.aggregator.publication().newest(self.now).unwrap();
        String::from_utf8(newest.text.to_vec()).unwrap()
    }

    fn scrape(&self) -> Scrape {
        Scrape::parse(&self.text()).unwrap()
    }

    /// `/metrics/flows`.
    fn pairs(&mut self, selection: &Selection) -> Scrape {
        Scrape::parse(&whole(&self.aggregator.freeze(), selection)).unwrap()
    }
}

/// A page of pairs, put together of its pieces.
fn whole(frozen: &Arc<Frozen>, selection: &Selection) -> String {
    let mut pieces = frozen.text(selection).unwrap();
    let mut text = String::new();
    while pieces.write(&mut text).unwrap() {}
    text
}

/// Ground rule 3 on the page of all pairs, beside the page of the same snapshot.
fn check_pairs(pairs: &Scrape, page: &Scrape) -> Result<(), String> {
    for (whole, family) in [
        ("processed_bytes_total", "lb_rule_interaction_bytes"),
        ("processed_packets_total", "lb_rule_interaction_packets"),
        ("processed_packets_total", "client_traffic_packets"),
    ] {
        let of = |name| pairs.count(name, &[("family", family)]);
        let parts = pairs.sum(family) + of("pollux_flows_retired_total") + of("pollux_flows_pending");
        if page.count(whole, &[]) != parts {
            return Err(format!("{whole} = {}, all {family} = {parts}", page.count(whole, &[])));
        }
    }
    Ok(())
}

/// A pair's series grows, or begins anew at 0 where it was given up meanwhile; none appears with a value.
fn check_pairs_grow(before: &Scrape, after: &Scrape) -> Result<(), String> {
    for ((name, labels), value) in
        after.samples.iter().filter(|((name, _), _)| after.types[name] == "counter")
    {
        let value: u64 = value.parse().unwrap();
        let old = before.samples.get(&(name.clone(), labels.clone())).map_or(0, |old| old.parse().unwrap());
        let known = before.samples.contains_key(&(name.clone(), labels.clone()));
        if value != 0 && (value < old || !known) {
            return Err(format!("all pairs: {name}{labels:?} is {value} after {old} (known: {known})"));
        }
    }
    Ok(())
}

/// What no scrape may break, whatever happened: ground rule 3, in whole numbers.
fn check_conservation(s: &Scrape) -> Result<(), String> {
    let total = |name: &str| s.count(name, &[]);
    let retired = |family: &str| s.count("pollux_retired_total", &[("family", family)]);
    let pending = |family: &str| s.count("pollux_pending", &[("family", family)]);
    for (whole, family) in [
        ("total_requests", "total_requests_per_service"),
        ("total_errors", "total_errors_per_service"),
        ("processed_bytes_total", "service_traffic_bytes"),
        ("processed_packets_total", "service_traffic_packets"),
        ("processed_bytes_total", "endpoint_traffic_bytes"),
        ("processed_bytes_total", "lb_rule_interaction_bytes"),
        ("processed_packets_total", "lb_rule_interaction_packets"),
        ("processed_packets_total", "client_traffic_packets"),
        ("total_fw_drops", "total_fw_drops_per_rule"),
    ] {
        let parts = s.sum(family) + retired(family) + pending(family);
        if total(whole) != parts {
            return Err(format!("{whole} = {}, {family} + retired + pending = {parts}", total(whole)));
        }
    }
    if total("total_errors") > total("total_requests") {
        return Err("more errors than requests".into());
    }
    for unit in ["bytes", "packets"] {
        let parts: u64 = ["tcp", "udp", "sctp"].iter().map(|p| total(&format!("processed_{p}_{unit}"))).sum();
        if total(&format!("processed_{unit}_total")) < parts {
            return Err(format!("protocols have more {unit} than there are"));
        }
    }
    let active: u64 = ["tcp", "udp", "sctp"].iter().map(|p| total(&format!("active_flow_count_{p}"))).sum();
    if total("active_conntrack_count") != active {
        return Err("active connections".into());
    }
    for (by, family) in
        [(&[][..], "total_load_dists_per_service"), (&["service"], "endpoint_load_dists_per_service")]
    {
        let mut sums = std::collections::BTreeMap::<_, f64>::new();
        for (labels, value) in s.family(family) {
            let group: Vec<_> =
                labels.iter().filter(|(name, _)| by.contains(&name.as_str())).cloned().collect();
            *sums.entry(group).or_default() += value.parse::<f64>().unwrap();
        }
        for (group, sum) in sums {
            if sum != 0.0 && (sum - 1.0).abs() > 1e-9 {
                return Err(format!("{family} of {group:?} sums up to {sum}"));
            }
        }
    }
    Ok(())
}

/// No series falls while it is shown, and none appears with a value.
fn check_monotony(before: &Scrape, after: &Scrape) -> Result<(), String> {
    // A histogram's samples have no type of their own.
    let counts = |name: &String| after.types.get(name).is_none_or(|kind| kind == "counter");
    let grows = |name: &String| counts(name) || name.starts_with("total_fw_drops");
    for ((name, labels), value) in after.samples.iter().filter(|((name, _), _)| grows(name)) {
        let value: f64 = value.parse().unwrap();
        match before.samples.get(&(name.clone(), labels.clone())) {
            Some(old) if old.parse::<f64>().unwrap() > value => {
                return Err(format!("{name}{labels:?} fell from {old} to {value}"));
            }
            None if value != 0.0 => return Err(format!("{name}{labels:?} appeared with {value}")),
            _ => {}
        }
    }
    Ok(())
}

fn shared(sizes: Sizes) -> (Arc<WorkerCounters>, Writer) {
    WorkerCounters::new(sizes)
}
