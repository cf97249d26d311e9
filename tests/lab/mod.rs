//! Configurations and packets for the tests of `replay`.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::IpAddr;
use std::time::Duration;

use pollux::addr::{Addr, Prefix};
use pollux::config::{
    Algorithm, Config, Endpoint, EndpointState, Engine, Idle, Metrics, OnUnknown, Port, Protocol, Refusal,
    Role, Route, Service, ServiceLabel,
};

pub fn addr(s: &str) -> Addr {
    s.parse::<IpAddr>().unwrap().into()
}

pub fn prefix(s: &str) -> Prefix {
    let (addr, len) = s.split_once('/').unwrap();
    Prefix { addr: self::addr(addr), len: len.parse().unwrap() }
}

pub fn port(name: &str, role: Role, addresses: &[&str]) -> Port {
    Port {
        name: name.to_owned(),
        device: format!("net_null_{name}"),
        role,
        addresses: addresses.iter().map(|a| prefix(a)).collect(),
        mtu: 1500,
        vlan: 0,
        queues: 0,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
    }
}

/// A service whose endpoints keep the port that they are given.
pub fn service(vip: Addr, port: u16, protocol: Protocol, endpoints: &[(Addr, u16)]) -> Service {
    Service {
        name: format!("{}-{vip}-{port}", protocol.name()),
        vip,
        first_port: port,
        last_port: port,
        protocol,
        algorithm: Algorithm::Maglev { size: 251 },
        idle_timeout: Duration::from_secs(if protocol == Protocol::Udp { 20 } else { 240 }),
        on_no_endpoint: Refusal::Drop,
        endpoints: endpoints
            .iter()
            .map(|&(address, port)| Endpoint { address, port, weight: 1, state: EndpointState::Up })
            .collect(),
    }
}

/// Ports `wan` and `lan`, a gateway of either family behind `wan`.
pub fn config(services: Vec<Service>) -> Config {
    Config {
        engine: Engine {
            workers: vec![0, 1],
            main_cpu: None,
            hugepages: false,
            memory_mb: 64,
            eal_args: Vec::new(),
            max_flows: 65_536,
            burst: 32,
            idle: Idle::Poll,
            on_unknown: OnUnknown::Drop,
            shutdown_delay: Duration::ZERO,
        },
        ports: vec![
            port("wan", Role::Client, &["100.127.255.2/24", "fd00:ffff:1::2/64"]),
            port("lan", Role::Server, &["100.127.254.1/24", "fd00:ffff:2::1/64"]),
        ],
        routes: vec![
            Route { prefix: prefix("0.0.0.0/0"), via: addr("100.127.255.1") },
            Route { prefix: prefix("::/0"), via: addr("fd00:ffff:1::1") },
        ],
        neighbors: Vec::new(),
        services,
        firewall: Vec::new(),
        metrics: Metrics {
            listen: ([127, 0, 0, 1], 0).into(),
            tick: Duration::from_secs(10),
            distribution_tick: Duration::from_secs(120),
            service_label: ServiceLabel::Address,
            flow_series_limit: 50_000,
        },
    }
}

fn sum(bytes: &[u8], mut sum: u32) -> u32 {
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    sum
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of an L4 header and payload of an IPv4 packet; 0 where it is right.
fn l4_checksum(src: [u8; 4], dst: [u8; 4], protocol: u8, l4: &[u8]) -> u16 {
    let pseudo = [&src[..], &dst, &[0, protocol], &(l4.len() as u16).to_be_bytes()].concat();
    fold(sum(l4, sum(&pseudo, 0)))
}

/// An IPv4 packet without options, checksums right (`at`: where L4 keeps its own).
fn ipv4(src: &str, dst: &str, protocol: u8, mut l4: Vec<u8>, at: usize) -> Vec<u8> {
    let (src, dst) = (addr(src).v4_octets(), addr(dst).v4_octets());
    let checksum = l4_checksum(src, dst, protocol, &l4);
    l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&(20 + l4.len() as u16).to_be_bytes());
    header.extend(src);
    header.extend(dst);
    let checksum = fold(sum(&header, 0));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header.extend(l4);
    header
}

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

/// A TCP segment with this payload in an IPv4 packet.
pub fn tcp(src: (&str, u16), dst: (&str, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut l4 = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    l4.extend([0, 0, 0, 1, 0, 0, 0, if flags & ACK == 0 { 0 } else { 2 }, 0x50, flags, 255, 255, 0, 0, 0, 0]);
    l4.extend(payload);
    ipv4(src.0, dst.0, 6, l4, 16)
}

/// A UDP datagram in an IPv4 packet.
pub fn udp(src: (&str, u16), dst: (&str, u16), payload: &[u8]) -> Vec<u8> {
    let mut l4 =
        [src.1.to_be_bytes(), dst.1.to_be_bytes(), (8 + payload.len() as u16).to_be_bytes()].concat();
    l4.extend([0, 0]);
    l4.extend(payload);
    ipv4(src.0, dst.0, 17, l4, 6)
}

/// The packet in an Ethernet frame, from one station to another, neither of them ours; padded to the least length.
pub fn ethernet(ip: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if ip[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    let mut frame = [&[0x52, 0x54, 0, 0, 0, 9][..], &[0x52, 0x54, 0, 0, 0, 8], &ethertype, ip].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Panics unless the checksums of an IPv4 TCP or UDP frame are right.
pub fn verify(frame: &[u8]) {
    let ip = &frame[14..];
    let (header, rest) = ip.split_at(20);
    assert_eq!(fold(sum(header, 0)), 0, "IPv4 header checksum");
    let l4 = &rest[..usize::from(u16::from_be_bytes([ip[2], ip[3]])) - 20];
    let (src, dst) = (header[12..16].try_into().unwrap(), header[16..20].try_into().unwrap());
    assert_eq!(l4_checksum(src, dst, header[9], l4), 0, "L4 checksum");
}
