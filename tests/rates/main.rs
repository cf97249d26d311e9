//! What a real Prometheus makes of the flow families while pairs come and go, lose their series to others, and services are removed
//! and come back, with snapshots every half second: no rate is above what was sent, and no more is counted than was.
//!
//! The workers' counters are written here, as a worker writes them; aggregator, listener and Prometheus are the real ones. Needs root, and
//! the programs that `ci/test` installs.

#[path = "../lab/ground.rs"]
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
mod ground;
#[path = "../lab/net.rs"]
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
mod net;
#[path = "../lab/prometheus.rs"]
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
mod prometheus;
#[path = "../lab/scrape.rs"]
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
mod scrape;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ground::Ground;
use net::Namespace;
use pollux::addr::Addr;
use pollux::config::{EndpointState, Metrics, Protocol, ServiceLabel};
use pollux::counters::{PairKey, Pairs, Sizes, Term, WorkerCounters, Writer};
use pollux::ids::{EndpointId, PortId, ServiceId};
use pollux::metrics::http::{self, Context};
use pollux::metrics::{Aggregator, Clock, Settings, Ticker};
use pollux::pipeline::Account;
use pollux::tables::{EndpointName, Health, Names, ServiceName};
use pollux::time::Instant;
use prometheus::Prometheus;
use scrape::Scrape;

const TICK: Duration = Duration::from_millis(500);
/// Between two bursts of traffic.
const BEAT: Duration = Duration::from_millis(50);
const BEATS: u32 = 700;
/// Pairs with a series, of those with traffic.
const SERIES: usize = 12;
const ENDPOINTS: u32 = 3;
const SIZES: Sizes = Sizes { ports: 1, services: 2, endpoints: 6, rules: 0, snat: 0, pairs: 256 };
/// Most packets that a pair has in a beat.
const MOST: u64 = 40;

fn names(second: bool) -> Names {
    let services = if second { 0..2 } else { 0..1_u32 };
    let endpoint = |n: u32| EndpointName {
        id: EndpointId(n),
        service: ServiceId(n / ENDPOINTS),
        address: SocketAddr::from(([10, 0, 0, n as u8], 80)),
        protocol: Protocol::Tcp,
        state: EndpointState::Up,
    };
    let service = |n: u32| {
        Arc::new(ServiceName {
            id: ServiceId(n),
            name: format!("s{n}"),
            address: format!("203.0.113.{n}:80"),
            protocol: Protocol::Tcp,
            endpoints: (n * ENDPOINTS..(n + 1) * ENDPOINTS).map(endpoint).collect(),
        })
    };
    let health = Health { healthy: (services.end * ENDPOINTS) as usize, unhealthy: 0 };
    Names { snat: vec![], services: services.map(service).collect(), rules: vec![], health }
}

fn settings() -> Settings {
    Settings {
        metrics: Metrics {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tick: TICK,
            distribution_tick: Duration::from_secs(5),
            service_label: ServiceLabel::Address,
            flow_series_limit: SERIES,
            aliases: false,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            access: pollux::config::Access::default(),
        },
        ports: vec!["wan".into()],
        worker_cpus: vec![0],
        conntrack_capacity: 1000,
        unix_start: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock"),
        dpdk_version: String::new(),
        cycles_per_nano: None,
    }
}

/// Who sends what: deterministic, and known here alone.
struct Generator {
    writer: Writer,
    pairs: Pairs,
    random: u32,
    sent: u64,
    /// Most that all sent in a beat.
    most: u64,
}

impl Generator {
    fn next(&mut self) -> u32 {
        // Numerical Recipes' linear congruence; its upper bits.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random >> 8
    }

    /// Thirty pairs send, each as much in every beat of its life; who they are changes every few seconds.
    fn beat(&mut self, beat: u32) {
        let mut sum = 0;
        for place in 0..30 {
            let life = (beat + 17 * place) / 120;
            let client = Addr::v4([192, 0, 2, (place + 30 * (life % 5)) as u8]);
            let endpoint = (place * 7 + life) % (2 * ENDPOINTS);
            let packets = 1 + u64::from((place * 31 + life * 13) % MOST as u32).min(MOST - 1);
            let (service, endpoint) = (ServiceId(endpoint / ENDPOINTS), EndpointId(endpoint));
            let pair = self.pairs.acquire(&self.writer, &PairKey { service, endpoint, client });
            assert!(pair.endpoint().is_none(), "every pair has a slot");
            for term in [Term::Rx, Term::Forwarded] {
                self.writer.bank().term(term).add(packets);
            }
            let account = Account { flow: None, pair, bytes: 100, icmp_error: None };
            for _ in 0..packets {
                self.writer.transmitted(PortId(0), 114, Some(&account));
            }
            self.pairs.release(&self.writer, pair);
            sum += packets;
        }
        self.sent += sum;
        self.most = self.most.max(sum);
        // Not every beat is of the same length.
        let jitter = Duration::from_millis(u64::from(self.next() % 10));
        std::thread::sleep(BEAT - jitter / 2);
    }
}

#[test]
fn prometheus_sees_no_rate_above_what_was_sent() {
    let ground = Ground::take();
    let ns = Namespace::new("rates");
    let (shared, writer) = WorkerCounters::new(SIZES);
    let start = std::time::Instant::now();
    let clock: Clock = Arc::new(move || Instant(start.elapsed().as_nanos() as u64));
    let aggregator = Aggregator::new(settings(), vec![shared], &names(true), 1);
    let publication = aggregator.publication();
    let ticker = Arc::new(Ticker::start(aggregator, Arc::clone(&clock), || ()).expect("a thread"));
    let frozen = Arc::clone(&ticker);
    let listener =
        ns.inside(|| pollux::listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("a listener");
    let target = listener.local_addr().expect("its address");
    let time = Arc::clone(&clock);
    let context = Context { publication, clock, pairs: Arc::new(move || frozen.freeze()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.spawn(http::serve(listener, context, std::future::pending()));

    let pairs = Pairs::new(SIZES, (7, 8));
    let mut generator = Generator { writer, pairs, random: 1, sent: 0, most: 0 };
    // A worker answers all the time, also while Prometheus starts.
    let started = AtomicBool::new(false);
    let prometheus = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !started.load(Ordering::Acquire) {
                generator.writer.turn(time());
                std::thread::sleep(BEAT);
            }
        });
        let prometheus = Prometheus::start_as(&ns, ground.path(), target, "250ms", None);
        started.store(true, Ordering::Release);
        prometheus
    });
    let unix = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
    let began = unix();
    for beat in 0..BEATS {
        generator.writer.turn(time());
        generator.beat(beat);
        // The second service goes and comes back.
        if beat % 140 == 100 {
            ticker.reconfigure(&settings().metrics, &names(false), u64::from(beat) + 2, || ());
            ticker.catch_up();
        } else if beat % 140 == 139 {
            ticker.reconfigure(&settings().metrics, &names(true), u64::from(beat) + 2, || ());
            ticker.catch_up();
        }
        if beat % 20 == 0 {
            assert_eq!(Scrape::fetch(&ns, target).violations(), "", "beat {beat}");
        }
    }
    let took = start.elapsed();
    for _ in 0..60 {
        generator.writer.turn(time());
        std::thread::sleep(BEAT);
    }
    let (ended, last) = (unix(), Scrape::fetch(&ns, target));
    assert_eq!(last.value("processed_packets_total") as u64, generator.sent);
    assert!(last.get("pollux_retired_total", &[("family", "lb_rule_interaction_packets")]) > 0.0);
    assert!(last.sum("pollux_flow_series") as usize <= SERIES);

    let seconds = took.as_secs_f64();
    assert!(seconds > 20.0);
    // A beat lasts 45 ms at least. Prometheus extrapolates to the ends of its window, by one interval of the snapshots in ten.
    let per_second = |packets: u64| packets as f64 / 0.045 * 1.25;
    let peak = |promql: &str| {
        let values = prometheus.query_range(&ns, promql, (began, ended), 0.5);
        assert!(values.len() > 30, "{promql}: {values:?}");
        values.into_iter().fold(0.0_f64, f64::max)
    };
    for (family, most) in [
        ("max(rate(lb_rule_interaction_packets{sip!=\"other\"}[5s]))", MOST),
        // A client has a pair with one endpoint at a time.
        ("max(rate(client_traffic_packets{sip!=\"other\"}[5s]))", MOST),
        ("sum(rate(lb_rule_interaction_packets[5s]))", generator.most),
        ("sum(rate(client_traffic_packets[5s]))", generator.most),
        ("sum(rate(lb_rule_interaction_bytes[5s])) / 100", generator.most),
        ("rate(processed_packets_total[5s])", generator.most),
    ] {
        let (seen, most) = (peak(family), per_second(most));
        assert!(seen > most / 20.0, "{family}: {seen}, there is something to see");
        assert!(seen <= most, "{family} is {seen} packets a second, at most {most} were sent");
    }
    // All of the run in one window: what the series were credited with is not more than was sent.
    let window = (ended - began).ceil();
    let increase = |family: &str| {
        prometheus.query_at(&ns, &format!("sum(increase({family}[{window}s]))"), ended).unwrap_or_default()
    };
    let whole = increase("processed_packets_total");
    assert!((whole / generator.sent as f64 - 1.0).abs() < 0.05, "{whole} of {}", generator.sent);
    for family in ["lb_rule_interaction_packets", "client_traffic_packets"] {
        let seen = increase(family);
        assert!(seen <= generator.sent as f64 * 1.05, "{family}: {seen} of {}", generator.sent);
    }
}
