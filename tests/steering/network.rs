//! The engine's configuration, and who is around it.

use pollux::addr::Mac;
use pollux::config::{self, Config};
use pollux::wire::build::{self, Ether};

pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xa1]);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xb1]);
const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ENDPOINT_MAC: Mac = Mac([2, 0, 0, 0, 0, 10]);
pub const GATEWAY: &str = "203.0.113.1";
pub const VIP: &str = "203.0.113.100";
pub const VIP6: &str = "2001:db8:1::100";

/// Every neighbour is known, since each worker would ask for itself.
const TEXT: &str = r#"
[engine]
hugepages = false
memory_mb = 384
max_flows = 8192
idle = "backoff"
[metrics]
listen = "127.0.0.1:0"
[history]
path = ""
[[port]]
name = "wan"
device = "net_ring_wan"
role = "client"
addresses = ["203.0.113.2/24", "2001:db8:1::2/64"]
kernel = ""
[[port]]
name = "lan"
device = "net_ring_lan"
role = "server"
addresses = ["10.1.0.1/24", "2001:db8:2::1/64"]
kernel = ""
[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"
[[route]]
prefix = "2001:db8:c::/48"
via = "2001:db8:1::1"
[[firewall]]
name = "block_scanners"
action = "drop"
source = ["192.0.2.0/24"]
"#;

/// For this many workers, on the CPUs that there are.
pub fn config(cpus: &[usize], workers: usize) -> Config {
    let mut text = TEXT.to_owned();
    let mut neighbor = |address: &str, mac: Mac, port: &str| {
        text += &format!("[[neighbor]]\naddress = \"{address}\"\nmac = \"{mac}\"\nport = \"{port}\"\n");
    };
    neighbor(GATEWAY, GATEWAY_MAC, "wan");
    neighbor("2001:db8:1::1", GATEWAY_MAC, "wan");
    for endpoint in ["10.1.0.10", "10.1.0.11", "10.1.0.12", "2001:db8:2::10", "2001:db8:2::11"] {
        neighbor(endpoint, ENDPOINT_MAC, "lan");
    }
    let mut service = |name: &str, vip: &str, protocol: &str, endpoints: &[&str]| {
        text += &format!("[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"\n");
        for endpoint in endpoints {
            text += &format!("[[service.endpoint]]\naddress = \"{endpoint}\"\n");
        }
    };
    service("web", "203.0.113.100:80", "tcp", &["10.1.0.10:8080", "10.1.0.11:8080", "10.1.0.12:8080"]);
    service("web6", "[2001:db8:1::100]:80", "tcp", &["[2001:db8:2::10]:8080", "[2001:db8:2::11]:8080"]);
    service("dns", "203.0.113.100:53", "udp", &["10.1.0.10:5353", "10.1.0.11:5353", "10.1.0.12:5353"]);
    service("dns6", "[2001:db8:1::100]:53", "udp", &["[2001:db8:2::10]:5353", "[2001:db8:2::11]:5353"]);
    service("s1ap", "203.0.113.100:36412", "sctp", &["10.1.0.10:36422", "10.1.0.11:36422"]);
    let (mut config, _) = config::parse("steering.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    config.engine.workers = (0..workers).map(|worker| cpus[worker % cpus.len()]).collect();
    config
}

/// From the clients' gateway.
pub fn from_wan() -> Ether {
    build::eth(GATEWAY_MAC, WAN_MAC)
}

/// From an endpoint.
pub fn from_lan() -> Ether {
    build::eth(ENDPOINT_MAC, LAN_MAC)
}
