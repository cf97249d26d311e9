//! Stages that look at tables: hash and lookup, insertion, the choice of an endpoint, counters.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pollux::addr::{Addr, Mac};
use pollux::config::{self, Protocol};
use pollux::conntrack::{Conntrack, Direction, Flow, Tuple};
use pollux::counters::{PairKey, Pairs, Sizes, WorkerCounters};
use pollux::ids::{EndpointId, PairSlot, PortId, ServiceId, WorkerId};
use pollux::parse::L4;
use pollux::pipeline::Account;
use pollux::service::Asker;
use pollux::tables::{LinkInfo, Slots, Tables};
use pollux::time::Instant;

/// Lookups that are made together, as those of a burst are.
const BURST: usize = 32;

/// What a connection here begins with.
const FIRST: L4 = L4::Udp { sport: 0, dport: 80 };

fn flow(n: u32, client: u128, port: u16) -> Flow {
    Flow {
        client: Addr(client),
        vip: Addr::v4([203, 0, 113, 100]),
        // Each connection has its own, so that replies differ as well.
        endpoint: Addr(0xffff_0a00_0000 | u128::from(n & 0xff_ffff)),
        client_port: port,
        vip_port: 80,
        endpoint_port: 8080,
        protocol: Protocol::Udp,
        ingress: PortId(0),
        service: ServiceId(0),
        endpoint_id: EndpointId(0),
        pair: PairSlot(0),
        delta: [0; 2],
        next_hop: [0; 2],
        epoch: 0,
        idle_timeout_ms: 3_600_000,
        form: pollux::conntrack::Form::Dnat,
        source: pollux::ids::SourceId(0),
        source_port: 0,
    }
}

fn ordinary(n: u32) -> Flow {
    flow(n, 0xffff_6440_0000 + u128::from(n / 8), 1024 + (n % 50_000) as u16)
}

/// Connections with one and the same CRC32c, which is affine over GF(2): for each port the upper 32 bits of the source address
/// are solved for.
fn colliding(count: u32) -> Vec<Flow> {
    let at = |free: u32, port: u16| flow(0, 0x1_0000_0000 | u128::from(free) << 64, port);
    let crc = |flow: &Flow| {
        let tuple = flow.tuple(Direction::Original);
        let bytes = [&tuple.src.0.to_be_bytes()[..], &tuple.dst.0.to_be_bytes(), &tuple.sport.to_be_bytes()];
        crc32c::crc32c(&bytes.concat())
    };
    let zero = crc(&at(0, 0));
    let mut rows: Vec<(u32, u32)> = (0..32).map(|bit| (crc(&at(1 << bit, 0)) ^ zero, 1 << bit)).collect();
    for bit in 0..32 {
        let pivot = (bit..32).find(|&row| rows[row].0 >> bit & 1 == 1).unwrap();
        rows.swap(bit, pivot);
        let with = rows[bit];
        for (row, entry) in rows.iter_mut().enumerate() {
            if row != bit && entry.0 >> bit & 1 == 1 {
                *entry = (entry.0 ^ with.0, entry.1 ^ with.1);
            }
        }
    }
    (0..count)
        .map(|n| {
            let effect = crc(&at(0, n as u16));
            let free =
                (0..32).filter(|bit| effect >> bit & 1 == 1).fold(0, |free, bit: usize| free ^ rows[bit].1);
            let solved = at(free, n as u16);
            assert_eq!(crc(&solved), 0);
            Flow { endpoint: Addr(0xffff_0a00_0000 | u128::from(n)), ..solved }
        })
        .collect()
}

fn table(flows: &[Flow]) -> (Conntrack, Vec<Tuple>) {
    let mut table = Conntrack::new(flows.len(), (1, 2));
    for flow in flows {
        table.insert(*flow, &FIRST, Instant::ZERO).unwrap();
    }
    let mut tuples: Vec<_> = flows.iter().map(|flow| flow.tuple(Direction::Original)).collect();
    let mut state = 7_u64;
    for n in (1..tuples.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tuples.swap(n, (state >> 33) as usize % (n + 1));
    }
    (table, tuples)
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(BURST as u64));
    let ordinary = |n| (0..n).map(ordinary).collect::<Vec<_>>();
    for (name, flows) in [
        ("1", ordinary(1)),
        ("65536", ordinary(65_536)),
        ("65536-crc32c-collisions", colliding(65_536)),
        ("1000000", ordinary(1_000_000)),
    ] {
        let (table, tuples) = table(&flows);
        let mut bursts = tuples.chunks(BURST).cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                let burst = bursts.next().unwrap();
                burst.iter().filter(|tuple| table.find(tuple, table.hash(tuple)).is_some()).count()
            });
        });
    }
}

fn insertion(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert");
    const N: u32 = 4096;
    group.throughput(Throughput::Elements(N.into()));
    group.bench_function("4096", |b| {
        b.iter_batched_ref(
            || Conntrack::new(N as usize, (1, 2)),
            |table| {
                for n in 0..N {
                    table.insert(ordinary(n), &FIRST, Instant::ZERO).unwrap();
                }
            },
            BatchSize::LargeInput,
        );
    });
}

fn counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("counters");
    group.throughput(Throughput::Elements(1));
    for pairs in [1_usize, 500_000] {
        let sizes = Sizes { ports: 2, services: 1, endpoints: 1, rules: 0, snat: 0, pairs };
        let (_shared, writer) = WorkerCounters::new(sizes);
        let mut index = Pairs::new(sizes, (1, 2));
        let slots: Vec<_> = (0..pairs)
            .map(|n| {
                let client = Addr(0xffff_6440_0000 + n as u128);
                index.acquire(&writer, &PairKey { service: ServiceId(0), endpoint: EndpointId(0), client })
            })
            .collect();
        let mut at = 0;
        group.bench_function(format!("transmitted/{pairs}"), |b| {
            b.iter(|| {
                // A step that leaves no line to a prefetcher.
                at = (at + 300_007) % pairs;
                let account = Account { flow: None, pair: slots[at], bytes: 64, icmp_error: None };
                writer.transmitted(PortId(1), 64, Some(black_box(&account)));
            });
        });
    }
}

/// What it costs to tell how long handshakes take: SYN-ACKs of as many connections, and the same without a word about it.
fn handshakes(c: &mut Criterion) {
    const N: u32 = 4096;
    let mut group = c.benchmark_group("SYN-ACK");
    group.throughput(Throughput::Elements(N.into()));
    let (client, server) = (1000, 5000);
    let tcp = |flags, seq, ack| L4::Tcp { sport: 0, dport: 0, flags, payload: 0, seq, ack };
    let (syn, syn_ack) = (tcp(0x02, client, 0), tcp(0x12, server, client + 1));
    let sizes = Sizes { ports: 2, services: 64, endpoints: 64, rules: 0, snat: 0, pairs: 1 };
    let (_shared, writer) = WorkerCounters::new(sizes);
    let mut told = |name: &str, tells: bool| {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || {
                    let mut table = Conntrack::new(N as usize, (1, 2));
                    let of = |n: u32| Flow {
                        protocol: Protocol::Tcp,
                        service: ServiceId(n % 64),
                        endpoint_id: EndpointId(n % 64),
                        ..ordinary(n)
                    };
                    let begun = |n| Instant(1_000 * u64::from(n % 997));
                    let ids =
                        (0..N).map(|n| table.insert(of(n), &syn, begun(n)).unwrap()).collect::<Vec<_>>();
                    (table, ids)
                },
                |(table, ids)| {
                    for id in ids {
                        let step = table.step(*id, Direction::Reply, &syn_ack, Instant(2_000_000));
                        if let Some(answered) = black_box(step.answered)
                            && tells
                        {
                            let view = table.view(*id);
                            writer.handshake(view.service(), view.endpoint_id(), answered);
                        }
                    }
                },
                BatchSize::LargeInput,
            );
        });
    };
    told("its connection's state", false);
    told("and how long it took, counted", true);
}

fn choice(c: &mut Criterion) {
    let (config, _) = config::parse("demo.toml", pollux::demo::CONFIG).unwrap();
    let link = LinkInfo { mac: Mac::default(), promiscuous: true };
    let tables = Tables::compile(&config, &vec![link; config.ports.len()], &mut Slots::default());
    let maglev = tables.services.iter().next().unwrap();
    let mut group = c.benchmark_group("pick");
    group.throughput(Throughput::Elements(1));
    let mut n = 0_u32;
    group.bench_function("maglev", |b| {
        b.iter(|| {
            n = n.wrapping_add(1);
            let client = Addr(0xffff_6440_0000 | u128::from(n >> 8));
            let (worker, now) = (WorkerId(0), Instant(0));
            let asker = Asker { client, client_port: n as u16, worker, peers: &[], now };
            maglev.pick(&asker).map(|endpoint| endpoint.addr)
        });
    });
    group.bench_function("service", |b| {
        b.iter(|| tables.services.lookup(black_box(maglev.vip), maglev.ports.0, maglev.protocol).is_some());
    });
}

criterion_group!(connections, lookups, insertion, choice, counting, handshakes);
criterion_main!(connections);
