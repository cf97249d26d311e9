//! The connection table beside what the machine can do at best and beside a general hash map: random keys, the tables' own misses
//! and nothing else. `chase` is one miss after the other; `lines` are independent ones, fetched a burst ahead: the floor of
//! whatever looks one cache line up for a packet.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hashbrown::HashTable;
use pollux::addr::Addr;
use pollux::config::Protocol;
use pollux::conntrack::{Conntrack, Direction, Flow, Form, Tuple};
use pollux::dpdk::memory::{Pages, prefetch};
use pollux::dpdk::{Eal, EalOptions, Hash, HashKey, allowed_cpus};
use pollux::ids::{EndpointId, PairSlot, PortId, ServiceId, SourceId};
use pollux::parse::{L4, Whole};
use pollux::time::Instant;

/// Lookups that are made together, as those of a burst are.
const BURST: usize = 32;
const CONNECTIONS: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const LINE: usize = 8;
const LINES_OF_A_NEW_ONE: usize = 10;

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn shuffled(n: usize) -> Vec<u32> {
    let mut seed = 7;
    let mut all: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        all.swap(i, (random(&mut seed) % (i as u64 + 1)) as usize);
    }
    all
}

fn flow(n: u32) -> Flow {
    Flow {
        client: Addr(0xffff_6440_0000 + u128::from(n / 8)),
        vip: Addr::v4([203, 0, 113, 100]),
        endpoint: Addr::v4([10, 1, 0, 10]),
        client_port: 1024 + (n % 8) as u16 * 7001,
        vip_port: 80,
        endpoint_port: 8080,
        protocol: Protocol::Tcp,
        ingress: PortId(0),
        service: ServiceId(0),
        endpoint_id: EndpointId(0),
        pair: PairSlot(0),
        delta: [0; 2],
        next_hop: [0; 2],
        epoch: 0,
        idle_timeout_ms: 3_600_000,
        form: Form::Dnat,
        source: SourceId(0),
        source_port: 0,
    }
}

/// A tuple as it is on the wire, and its protocol.
fn bytes(tuple: &Tuple) -> HashKey {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&tuple.src.v4_octets());
    bytes[4..8].copy_from_slice(&tuple.dst.v4_octets());
    bytes[8..10].copy_from_slice(&tuple.sport.to_be_bytes());
    bytes[10..12].copy_from_slice(&tuple.dport.to_be_bytes());
    bytes[12] = tuple.protocol.number();
    bytes
}

/// What the parser makes of a packet with this tuple, as far as a lookup asks.
fn packet(tuple: &Tuple) -> Whole {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = bytes(tuple);
    Whole {
        v4: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        ports: u32::from_le_bytes([i, j, k, l]),
        is_tcp: true,
        is_v4: true,
        ..Whole::default()
    }
}

const SYN: L4 = L4::Tcp { sport: 0, dport: 80, flags: 2, payload: 0, seq: 1, ack: 0 };

fn floor(c: &mut Criterion) {
    for n in CONNECTIONS {
        let order = shuffled(n);
        // As many lines as entries, on the same kind of pages.
        let mut lines = Pages::<[u64; LINE]>::zeroed(n);
        for (at, next) in order.iter().zip(order.iter().cycle().skip(1)) {
            lines[*at as usize][0] = u64::from(*next);
        }
        let mut group = c.benchmark_group(format!("table/{n}"));
        group.throughput(Throughput::Elements(BURST as u64));
        let mut at = 0_usize;
        group.bench_function("chase", |b| {
            b.iter(|| {
                for _ in 0..BURST {
                    at = lines[at][0] as usize;
                }
                at
            });
        });
        let mut bursts = order.chunks_exact(BURST).cycle();
        group.bench_function("lines", |b| {
            b.iter(|| {
                let burst = bursts.next().unwrap();
                for at in burst {
                    prefetch(&lines[*at as usize]);
                }
                burst.iter().map(|at| lines[*at as usize][0]).sum::<u64>()
            });
        });
        // What a new connection touches: ten lines, written, all to be fetched before the first is asked for.
        let mut places = order.chunks_exact(LINES_OF_A_NEW_ONE * BURST).cycle();
        group.bench_function("ten lines", |b| {
            b.iter(|| {
                let places = places.next().unwrap();
                for at in places {
                    prefetch(&lines[*at as usize]);
                }
                for at in places {
                    lines[*at as usize][1] += 1;
                }
            });
        });
        group.finish();
    }
}

fn lookup(c: &mut Criterion) {
    for n in CONNECTIONS {
        let mut table = Conntrack::new(n, (1, 2));
        for n in 0..n as u32 {
            table.insert(flow(n), &SYN, Instant::ZERO).unwrap();
        }
        let tuple = |n: &u32, at: usize| {
            flow(*n).tuple(if at.is_multiple_of(2) { Direction::Original } else { Direction::Reply })
        };
        let tuples: Vec<Tuple> = shuffled(n).iter().enumerate().map(|(at, n)| tuple(n, at)).collect();
        let packets: Vec<Whole> = tuples.iter().map(packet).collect();
        let mut group = c.benchmark_group(format!("table/{n}"));
        group.throughput(Throughput::Elements(BURST as u64));
        let mut bursts = tuples.chunks_exact(BURST).cycle();
        group.bench_function("one by one", |b| {
            b.iter(|| {
                let burst = bursts.next().unwrap();
                burst.iter().filter(|tuple| table.find(tuple, table.hash(tuple)).is_some()).count()
            });
        });
        let mut bursts = packets.chunks_exact(BURST).cycle();
        group.bench_function("burst", |b| {
            b.iter(|| {
                let burst: &[Whole; BURST] = bursts.next().unwrap().try_into().unwrap();
                let hashes = burst.each_ref().map(|packet| table.hash_of(packet));
                hashes.iter().for_each(|hash| table.prefetch(*hash));
                let leads = hashes.map(|hash| match table.probe(hash, false) {
                    further if further.is_further() => table.probe_further(hash, false),
                    lead => lead,
                });
                let confirmed =
                    leads.iter().zip(burst).filter(|(lead, packet)| table.confirm(**lead, packet).is_some());
                // To another connection with the same tag leads one in 6 500.
                let found = confirmed.count();
                assert!(found > BURST / 2, "only {found} are found");
                found
            });
        });
        let mut general = HashTable::<(Tuple, [u64; 2])>::with_capacity(2 * n);
        for n in 0..n as u32 {
            for direction in [Direction::Original, Direction::Reply] {
                let tuple = flow(n).tuple(direction);
                let place = (tuple, [u64::from(n), 0]);
                general.insert_unique(table.hash(&tuple), place, |(tuple, _)| table.hash(tuple));
            }
        }
        let mut bursts = tuples.chunks_exact(BURST).cycle();
        group.bench_function("hashbrown", |b| {
            b.iter(|| {
                let burst = bursts.next().unwrap();
                let found = burst
                    .iter()
                    .filter_map(|tuple| general.find(table.hash(tuple), |(theirs, _)| theirs == tuple));
                found
                    .inspect(|(_, [n, _])| {
                        black_box(*n);
                    })
                    .count()
            });
        });
        group.finish();
    }
}

/// `rte_hash` with the same keys, looked up in bulk, a quarter larger than that: full to the last place it takes no more. Its memory is EAL's: hugepages, 1.5 GiB of which must be reserved.
fn rte_hash(c: &mut Criterion) {
    let options =
        EalOptions { hugepages: true, memory_mb: 1500, cpus: allowed_cpus(), ..EalOptions::default() };
    let eal = match Eal::init(&options) {
        Ok(eal) => eal,
        Err(error) => {
            return eprintln!("without rte_hash, for which `sysctl vm.nr_hugepages=800` is needed: {error}");
        }
    };
    for n in CONNECTIONS {
        let mut table = Hash::new(&eal, c"bench", 2 * n as u32 / 4 * 5).unwrap();
        for n in 0..n as u32 {
            for direction in [Direction::Original, Direction::Reply] {
                table.insert(&bytes(&flow(n).tuple(direction)), n as usize).unwrap();
            }
        }
        let key = |(at, n): (usize, &u32)| {
            let direction = if at.is_multiple_of(2) { Direction::Original } else { Direction::Reply };
            bytes(&flow(*n).tuple(direction))
        };
        let keys: Vec<HashKey> = shuffled(n).iter().enumerate().map(key).collect();
        let mut bursts = keys.chunks_exact(BURST).cycle();
        let mut group = c.benchmark_group(format!("table/{n}"));
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function("rte_hash", |b| {
            b.iter(|| {
                let (found, sum) = table.find(bursts.next().unwrap().try_into().unwrap());
                assert_eq!(found as usize, BURST);
                sum
            });
        });
        group.finish();
    }
}

criterion_group! { name = tables; config = Criterion::default().sample_size(20); targets = floor, lookup, rte_hash }
criterion_main!(tables);
