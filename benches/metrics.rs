//! What metrics cost with a million client–endpoint pairs: memory, the aggregator's second and tick, a scrape, and the stream of all pairs.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Wall};

use criterion::{Criterion, criterion_group, criterion_main};
use pollux::addr::Addr;
use pollux::config::{EndpointState, Metrics, Protocol, ServiceLabel};
use pollux::counters::{PairCounters, PairKey, Pairs, Sizes, WorkerCounters, Writer};
use pollux::ids::{EndpointId, PairSlot, ServiceId};
use pollux::metrics::http::{self, Context};
use pollux::metrics::{Aggregator, Selection, Settings, Step};
use pollux::tables::{EndpointName, Health, Names, ServiceName};
use pollux::time::Instant;

const PAIRS: u32 = 1_000_000;
/// Clients have a pair with each of so many endpoints.
const ENDPOINTS: u32 = 4;
/// Pairs with a series, the default.
const SERIES: usize = 50_000;

struct Bench {
    aggregator: Aggregator,
    writer: Writer,
    pairs: Pairs,
    slots: Vec<PairSlot>,
    now: Instant,
}

fn settings() -> Settings {
    Settings {
        metrics: Metrics {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tick: Duration::from_secs(10),
            distribution_tick: Duration::from_secs(120),
            service_label: ServiceLabel::Address,
            flow_series_limit: SERIES,
            aliases: false,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            access: pollux::config::Access::default(),
        },
        ports: vec!["wan".into(), "lan".into()],
        worker_cpus: vec![1],
        conntrack_capacity: 4_000_000,
        unix_start: Duration::from_secs(1_700_000_000),
        dpdk_version: String::new(),
        cycles_per_nano: None,
    }
}

fn names() -> Names {
    let endpoint = |n: u32| EndpointName {
        id: EndpointId(n),
        service: ServiceId(0),
        address: SocketAddr::from(([10, 0, 0, n as u8 + 1], 8080)),
        protocol: Protocol::Tcp,
        state: EndpointState::Up,
    };
    let web = ServiceName {
        id: ServiceId(0),
        name: "web".into(),
        address: "203.0.113.100:80".into(),
        protocol: Protocol::Tcp,
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
    };
    let health = Health { healthy: ENDPOINTS as usize, unhealthy: 0 };
    Names { snat: vec![], services: vec![Arc::new(web)], rules: vec![], health }
}

impl Bench {
    /// All pairs have had traffic for a few ticks, and as many as may have a series.
    fn new() -> Self {
        Self::with(ENDPOINTS, 2 * PAIRS)
    }

    /// The same, with so many pairs for each client, and so many slots in the worker.
    fn with(pairs_per_client: u32, slots: u32) -> Self {
        let sizes = Sizes {
            ports: 2,
            services: 1,
            endpoints: ENDPOINTS as usize,
            rules: 0,
            snat: 0,
            pairs: slots as usize,
        };
        let (shared, writer) = WorkerCounters::new(sizes);
        let aggregator = Aggregator::new(settings(), vec![shared], &names(), 1);
        let pairs = Pairs::new(sizes, (3, 4));
        let mut bench = Self { aggregator, writer, pairs, slots: Vec::new(), now: Instant::ZERO };
        let each = pairs_per_client;
        bench.slots = (0..PAIRS).map(|n| bench.slot(0x0a00_0000 + n / each, n % each)).collect();
        for _ in 0..4 {
            bench.tick();
        }
        bench
    }

    fn slot(&mut self, client: u32, endpoint: u32) -> PairSlot {
        let client = Addr::v4(client.to_be_bytes());
        let key = PairKey { service: ServiceId(0), endpoint: EndpointId(endpoint), client };
        self.pairs.acquire(&self.writer, &key)
    }

    /// Each pair has some.
    fn traffic(&self) {
        for (n, slot) in (0..).zip(&self.slots) {
            let counters = self.writer.bank().pair(*slot);
            counters.packets.add(3);
            counters.bytes.add(200 + n % 1400);
        }
    }

    /// A second: the bank is folded. How long it took, and what became of it.
    fn second(&mut self) -> (Duration, Step) {
        self.now = self.aggregator.due();
        self.aggregator.ask();
        self.writer.turn(self.now);
        let began = Wall::now();
        let step = self.aggregator.step(self.now);
        (began.elapsed(), step)
    }

    /// Traffic of every pair, and the end of the tick: how long its fold took, and settling and publishing.
    fn tick(&mut self) -> Duration {
        self.traffic();
        let (mut took, mut step) = self.second();
        while step != Step::Ticked {
            let last;
            (last, step) = self.second();
            if step == Step::Ticked {
                took += last;
            }
        }
        let began = Wall::now();
        self.aggregator.publish();
        took + began.elapsed()
    }
}

/// Bytes for each pair: what the worker's slots and the aggregator's tables say of themselves, and what the process has grown by.
fn memory(_: &mut Criterion) {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        4096 * statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
    };
    let worker = Pairs::bytes(PAIRS as usize) / PAIRS as usize + 2 * size_of::<PairCounters>();
    for pairs_per_client in [ENDPOINTS, 1] {
        let before = resident();
        let bench = Bench::with(pairs_per_client, PAIRS);
        let grown = (resident() - before) / PAIRS as usize;
        let (bytes, pairs) = bench.aggregator.pair_memory();
        let aggregator = bytes / pairs;
        eprintln!(
            "{pairs} pairs, {pairs_per_client} for each client: {worker} bytes each in the worker, {aggregator} in the aggregator; \
             the process has grown by {grown}"
        );
    }
}

fn ticks(c: &mut Criterion) {
    let mut group = c.benchmark_group("1 M pairs");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    let mut bench = Bench::new();
    let (bytes, pairs) = bench.aggregator.pair_memory();
    eprintln!("{pairs} pairs are followed, {} bytes each", bytes / pairs);
    group.bench_function("a second: fold", |b| {
        b.iter_custom(|iterations| {
            (0..iterations)
                .map(|_| {
                    bench.traffic();
                    let (took, step) = bench.second();
                    if step == Step::Ticked {
                        bench.aggregator.publish();
                    }
                    took
                })
                .sum()
        });
    });
    group.bench_function("a tick: fold, settle, write, compress, publish", |b| {
        b.iter_custom(|iterations| (0..iterations).map(|_| bench.tick()).sum());
    });
    group.bench_function("a tick in which 50 000 new clients come", |b| {
        let mut next = 0x2000_0000_u32;
        b.iter_custom(|iterations| {
            (0..iterations)
                .map(|_| {
                    for n in next..next + SERIES as u32 {
                        let slot = bench.slot(n, 0);
                        bench.writer.bank().pair(slot).bytes.add(60);
                        bench.pairs.release(&bench.writer, slot);
                    }
                    next += SERIES as u32;
                    bench.tick()
                })
                .sum()
        });
    });
    let (bytes, pairs) = bench.aggregator.pair_memory();
    eprintln!("after an attack: {pairs} pairs are followed, {} bytes each", bytes / pairs);
    group.bench_function("all pairs: copy", |b| {
        b.iter_custom(|iterations| {
            (0..iterations)
                .map(|_| {
                    bench.tick();
                    let began = Wall::now();
                    black_box(bench.aggregator.freeze());
                    began.elapsed()
                })
                .sum()
        });
    });
    group.bench_function("all pairs: text", |b| {
        let frozen = bench.aggregator.freeze();
        b.iter(|| {
            let mut text = frozen.text(&Selection::default()).unwrap();
            let (mut piece, mut bytes) = (String::new(), 0);
            while text.write(&mut piece).unwrap() {
                bytes += piece.len();
                piece.clear();
            }
            bytes
        });
    });
    group.finish();
}

/// A listener that serves the page of a bench.
fn scrapes(c: &mut Criterion) {
    let mut bench = Bench::new();
    bench.tick();
    let publication = bench.aggregator.publication();
    let now = bench.now;
    let bench = Arc::new(Mutex::new(bench));
    let pairs = Arc::clone(&bench);
    let context = Context {
        publication,
        clock: Arc::new(move || now),
        pairs: Arc::new(move || pairs.lock().unwrap().aggregator.freeze()),
    };
    let listener = pollux::listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(http::serve(listener, context, std::future::pending())).unwrap();
    });
    let get = |path: &str, headers: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200"));
        answer.len()
    };
    let mut group = c.benchmark_group("a scrape of 50 k series of pairs");
    group.sample_size(20);
    eprintln!("{} bytes, {} with gzip", get("/metrics", ""), get("/metrics", "Accept-Encoding: gzip\r\n"));
    group.bench_function("plain", |b| b.iter(|| get("/metrics", "")));
    group.bench_function("gzip", |b| b.iter(|| get("/metrics", "Accept-Encoding: gzip\r\n")));
    group.bench_function("without flows", |b| b.iter(|| get("/metrics?flows=0", "")));
    group
        .bench_function("the 1 000 heaviest of all pairs", |b| b.iter(|| get("/metrics/flows?top=1000", "")));
    group.finish();
}

criterion_group!(benches, memory, ticks, scrapes);
criterion_main!(benches);
