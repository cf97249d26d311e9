//! Stages that look at a packet alone: parse, checksum, rewrite.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pollux::addr::{Addr, Mac};
use pollux::config::Protocol;
use pollux::conntrack::{Direction, Flow};
use pollux::ids::{EndpointId, PairSlot, PortId, ServiceId};
use pollux::parse::{Link, Parsed, parse};
use pollux::pipeline::{Frame, RxChecksum, VecFrame};
use pollux::rewrite;
use pollux::wire::build::{DST_MAC, ip};
use pollux::wire::checksum::{apply, checksum, delta};

const LINK: Link = Link { mac: Some(DST_MAC), vlan: 0 };

fn frames() -> [(&'static str, Vec<u8>); 4] {
    let v4 = || ip("100.64.0.1", "203.0.113.100");
    let v6 = || ip("2001:db8:64::1", "2001:db8:1::100");
    [
        ("tcp4", v4().tcp(4000, 80).ack(1).payload([0; 6]).frame()),
        ("udp4", v4().udp(4000, 80).payload([0; 18]).frame()),
        ("tcp6", v6().tcp(4000, 80).ack(1).payload([0; 6]).frame()),
        ("tcp4-1500", v4().tcp(4000, 80).ack(1).payload([0; 1460]).frame()),
    ]
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in frames() {
        group.bench_function(name, |b| {
            b.iter(|| parse(&LINK, black_box(&frame), RxChecksum::Unknown));
        });
    }
}

fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20, 60, 1500] {
        let bytes = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len}"), |b| b.iter(|| checksum(black_box(&bytes))));
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("update", |b| {
        b.iter(|| apply(black_box(0x1234), delta(black_box(&[10, 0, 0, 1]), black_box(&[10, 1, 2, 3]))));
    });
}

fn rewriting(c: &mut Criterion) {
    let mut group = c.benchmark_group("rewrite");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in frames() {
        let Ok(Parsed::Ip(packet)) = parse(&LINK, &frame, RxChecksum::Unknown) else { panic!("{name}") };
        let v4 = packet.src.is_v4();
        let mut flow = Flow {
            client: packet.src,
            vip: packet.dst,
            endpoint: if v4 { Addr::v4([10, 1, 0, 10]) } else { Addr(0x2001_0db8 << 96 | 10) },
            client_port: 4000,
            vip_port: 80,
            endpoint_port: 8080,
            protocol: if name == "udp4" { Protocol::Udp } else { Protocol::Tcp },
            ingress: PortId(0),
            service: ServiceId(0),
            endpoint_id: EndpointId(0),
            pair: PairSlot(0),
            delta: [0; 2],
            next_hop: [0; 2],
            epoch: 0,
            idle_timeout_ms: 60_000,
            form: pollux::conntrack::Form::Dnat,
            source: pollux::ids::SourceId(0),
            source_port: 0,
        };
        flow.delta = rewrite::deltas(&flow);
        let fresh = VecFrame::new(&frame);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || fresh.clone(),
                |frame| rewrite::translate(frame, &packet, black_box(&flow), Direction::Original, None),
                BatchSize::SmallInput,
            );
        });
        assert_eq!(fresh.data()[..6], Mac(DST_MAC.0).0);
    }
}

criterion_group!(packet, parsing, sums, rewriting);
criterion_main!(packet);
