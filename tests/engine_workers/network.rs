//! Who is around the engine, the frames that they send, and its configuration.

use std::net::Ipv4Addr;
use std::sync::OnceLock;

use pollux::addr::Mac;
use pollux::config::{self, Config};
use pollux::dpdk::allowed_cpus;

pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
pub const VIP: [u8; 4] = [203, 0, 113, 100];
/// Clients, by number.
pub const CLIENTS: u16 = 300;

pub fn endpoint_mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 2, last])
}

pub fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

pub fn request(client: u16, round: u16) -> Vec<u8> {
    let source = [198, 51, 100, (client % 200) as u8 + 1];
    let payload = vec![0x61; usize::from(client % 90 + round)];
    udp((GATEWAY_MAC, WAN_MAC), (source, 20_000 + client), (VIP, 53), &payload)
}

pub fn udp(macs: (Mac, Mac), from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let len = (28 + payload.len()) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    ip.extend(from.0);
    ip.extend(to.0);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [macs.1.0, macs.0.0].concat();
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend((len - 20).to_be_bytes());
    // No UDP checksum (RFC 768).
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

pub fn arp_reply(request: &[u8]) -> Vec<u8> {
    let asked = address(request, 38);
    let mac = endpoint_mac(asked.octets()[3]);
    let mut reply = [&request[6..12], &mac.0].concat();
    reply.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    reply.extend(mac.0);
    reply.extend(asked.octets());
    reply.extend(&request[22..32]);
    reply
}

/// RFC 1071; 0 over a header with a right one in it.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub fn config(workers: usize) -> Config {
    // As they were before DPDK's initialisation left this thread the control threads' CPUs only.
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    let cpus = CPUS.get_or_init(allowed_cpus);
    let (mut config, _) = config::parse("workers.toml", TEXT).unwrap_or_else(|report| panic!("{report}"));
    config.engine.workers = (0..workers).map(|i| cpus[i % cpus.len()]).collect();
    config
}

/// One endpoint is left to ARP.
const TEXT: &str = r#"
[engine]
hugepages = false
memory_mb = 384
max_flows = 8192
idle = "backoff"
[[port]]
name = "wan"
device = "net_ring_wan"
role = "client"
addresses = ["203.0.113.2/24"]
rx_descriptors = 256
tx_descriptors = 256
kernel = ""
[[port]]
name = "lan"
device = "net_ring_lan"
role = "server"
addresses = ["10.1.0.1/24"]
rx_descriptors = 256
tx_descriptors = 256
kernel = ""
[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"
[[neighbor]]
address = "203.0.113.1"
mac = "02:00:00:00:09:01"
port = "wan"
[[neighbor]]
address = "10.1.0.10"
mac = "02:00:00:00:02:0a"
port = "lan"
[[neighbor]]
address = "10.1.0.11"
mac = "02:00:00:00:02:0b"
port = "lan"
[[service]]
name = "dns"
vip = "203.0.113.100:53"
protocol = "udp"
maglev_size = 251
idle_timeout = "1m"
[[service.endpoint]]
address = "10.1.0.10:5353"
[[service.endpoint]]
address = "10.1.0.11:5353"
[[service.endpoint]]
address = "10.1.0.12:5353"
[metrics]
listen = "127.0.0.1:0"
tick = "1s"
distribution_tick = "10s"
flow_series_limit = 1000
[history]
path = ""
"#;
