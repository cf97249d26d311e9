//! The configurations that the pipeline is fuzzed with: the same addresses in all, so that one packet means something in each.

use std::sync::OnceLock;

use pollux::addr::{Addr, Mac};
use pollux::config;
use pollux::pipeline::Resolution;
use pollux::tables::{LinkInfo, Slots, Tables};
use pollux::wire::build::IntoAddr;

pub const PORT_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 0xa1]), Mac([2, 0, 0, 0, 0, 0xb1])];
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 10]);

/// VIP port and endpoint port of each service, and two ports without one.
pub const SERVICES: [(u16, u16); 9] = [
    (80, 8080),
    (53, 5353),
    (5000, 5000),
    (36412, 36412),
    (2905, 2906),
    (81, 8081),
    (82, 82),
    (7, 7),
    (179, 80),
];

/// Addresses by family (IPv4, IPv6) and what they are.
pub fn vip(v4: bool) -> Addr {
    if v4 { "203.0.113.100" } else { "2001:db8:1::100" }.into_addr()
}

pub fn client(v4: bool, n: u8) -> Addr {
    match (n & 7, v4) {
        // One whom the firewall does not let in.
        (7, true) => Addr::v4([192, 0, 2, 7]),
        // One that is on the link.
        (6, true) => Addr::v4([203, 0, 113, 9]),
        (6, false) => Addr(0x2001_0db8_0001 << 80 | 9),
        (n, true) => Addr::v4([198, 51, 100, n + 1]),
        (n, false) => Addr(0x2001_0db8_000c << 80 | u128::from(n + 1)),
    }
}

pub fn endpoint(v4: bool, n: u8) -> Addr {
    let n = 10 + n % 2;
    if v4 { Addr::v4([10, 1, 0, n]) } else { Addr(0x2001_0db8_0002 << 80 | u128::from(n)) }
}

/// What full NAT sends from.
pub fn snat(v4: bool) -> Addr {
    if v4 { "10.1.0.2" } else { "2001:db8:2::2" }.into_addr()
}

/// The second VIP of the multi-homed service, and the address of its first endpoint that stands behind it.
pub fn second(v4: bool) -> (Addr, Addr) {
    let (vip, endpoint) =
        if v4 { ("203.0.113.101", "10.1.0.20") } else { ("2001:db8:1::101", "2001:db8:2::20") };
    (vip.into_addr(), endpoint.into_addr())
}

/// A port's own address.
pub fn own(v4: bool, port: usize) -> Addr {
    match (port, v4) {
        (0, true) => "203.0.113.2",
        (0, false) => "2001:db8:1::2",
        (_, true) => "10.1.0.1",
        (_, false) => "2001:db8:2::1",
    }
    .into_addr()
}

const PORTS: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
role = "client"
addresses = ["203.0.113.2/24", "2001:db8:1::2/64"]
[[port]]
name = "lan"
device = "net_null1"
role = "server"
addresses = ["10.1.0.1/24", "2001:db8:2::1/64"]
[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"
[[route]]
prefix = "2001:db8:c::/48"
via = "2001:db8:1::1"
"#;

/// All next hops: the gateways and the endpoints, the second path's included.
const NEIGHBORS: &str = r#"
[[neighbor]]
address = "203.0.113.1"
mac = "02:00:00:00:00:01"
port = "wan"
[[neighbor]]
address = "2001:db8:1::1"
mac = "02:00:00:00:00:01"
port = "wan"
[[neighbor]]
address = "10.1.0.10"
mac = "02:00:00:00:00:0a"
port = "lan"
[[neighbor]]
address = "2001:db8:2::a"
mac = "02:00:00:00:00:0a"
port = "lan"
[[neighbor]]
address = "10.1.0.11"
mac = "02:00:00:00:00:0b"
port = "lan"
[[neighbor]]
address = "2001:db8:2::b"
mac = "02:00:00:00:00:0b"
port = "lan"
[[neighbor]]
address = "10.1.0.20"
mac = "02:00:00:00:00:14"
port = "lan"
[[neighbor]]
address = "2001:db8:2::20"
mac = "02:00:00:00:00:14"
port = "lan"
"#;

const FIREWALL: &str = r#"
[[firewall]]
name = "scanners"
action = "drop"
source = ["192.0.2.0/24"]
"#;

/// What a reload adds before it.
const STRICTER: &str = r#"
[[firewall]]
name = "odd_ports"
action = "drop"
source_port = "4001"
"#;

/// What a service is in a world: protocol, ports, further keys; whether its endpoints are of the other family.
struct Plan {
    protocol: &'static str,
    keys: &'static str,
    crosses: bool,
}

const fn plan(protocol: &'static str, keys: &'static str) -> Plan {
    Plan { protocol, keys, crosses: false }
}

const fn across(protocol: &'static str, keys: &'static str) -> Plan {
    Plan { protocol, keys, crosses: true }
}

const SMALL: &str = "maglev_size = 251";
const QUIC: &str = "maglev_size = 13\nquic_server_id_bytes = 1";
const FULL: &str = "maglev_size = 13\nmode = \"full-nat\"";
const TOA: &str = "maglev_size = 13\nmode = \"full-nat\"\nclient_address = \"toa\"";
const PROXY: &str = "algorithm = \"least-connections\"\nmode = \"full-nat\"\nclient_address = \"proxy-v2\"";
const L2: &str = "maglev_size = 13\nmode = \"dsr-l2\"";
const IPIP: &str = "algorithm = \"source-hash\"\nmaglev_size = 13\nmode = \"dsr-ipip\"";
const GUE: &str = "maglev_size = 13\nmode = \"dsr-gue\"";

/// The services of a world, in the order of [`SERVICES`].
fn plans(world: u8) -> [Plan; 7] {
    match world {
        4 => [
            plan("tcp", TOA),
            plan("udp", FULL),
            plan("udp", "maglev_size = 13\nquic_server_id_bytes = 1\nmode = \"full-nat\""),
            plan("sctp", FULL),
            plan("sctp", "maglev_size = 13\nMULTIHOMED"),
            plan("tcp", PROXY),
            across("udp", FULL),
        ],
        5 => [
            across("tcp", PROXY),
            plan("udp", IPIP),
            plan("udp", "maglev_size = 13\nquic_server_id_bytes = 1\nmode = \"dsr-gue\""),
            plan("sctp", IPIP),
            plan("sctp", L2),
            across("tcp", GUE),
            plan("udp", L2),
        ],
        6 => [
            plan("tcp", IPIP),
            plan("udp", GUE),
            across("udp", IPIP),
            plan("sctp", GUE),
            across("sctp", FULL),
            across("tcp", TOA),
            plan("udp", L2),
        ],
        _ => [
            plan("tcp", SMALL),
            plan("udp", "algorithm = \"round-robin\""),
            plan("udp", QUIC),
            plan("sctp", SMALL),
            plan("sctp", SMALL),
            plan("tcp", SMALL),
            plan("udp", SMALL),
        ],
    }
}

fn services(world: u8) -> String {
    let mut text = String::new();
    let plain = world < 4;
    for v4 in [true, false] {
        for (i, (Plan { protocol, keys, crosses }, (vip_port, endpoint_port))) in
            plans(world).into_iter().zip(SERVICES).enumerate()
        {
            let ports = if i == 2 { "5000-5999".to_owned() } else { vip_port.to_string() };
            let host = |a: Addr| if a.is_v4() { a.to_string() } else { format!("[{a}]") };
            let (vip2, endpoint2) = second(v4);
            let keys = keys.replace("MULTIHOMED", &format!("secondary_vips = [\"{vip2}\"]"));
            text += &format!(
                "[[service]]\nname = \"s{i}_{v4}\"\nvip = \"{}:{ports}\"\nprotocol = \"{protocol}\"\n{keys}\nIDLE\n",
                host(vip(v4))
            );
            let multihomed = keys.contains("secondary_vips");
            for n in 0..if multihomed { 1 } else { 2 } {
                let at = endpoint(v4 != crosses, n);
                // What does not change ports has the service's own.
                let own_port = i == 2 || keys.contains("dsr-");
                let to = if own_port { at.to_string() } else { format!("{}:{endpoint_port}", host(at)) };
                let down = plain && (i == 5 || i == 0 && n == 1);
                let state = if down { "down" } else { "up" };
                // The first one goes with the reload, where connections are reset for it.
                let goes = if !plain && n == 0 { "GOES" } else { state };
                text += &format!("[[service.endpoint]]\naddress = \"{to}\"\nstate = \"{goes}\"\n");
                if i == 2 && keys.contains("quic") {
                    text += &format!("server_id = \"0{}\"\n", n + 1);
                }
                if multihomed {
                    text += &format!("secondary_addresses = [\"{endpoint2}\"]\n");
                }
            }
        }
    }
    text
}

/// Every endpoint has a next hop that is known, or the worlds in which all is known would be about unknown ones.
#[test]
fn endpoints_are_neighbors() {
    for v4 in [true, false] {
        for addr in [endpoint(v4, 0), endpoint(v4, 1), second(v4).1, snat(v4)] {
            let known = NEIGHBORS.contains(&format!("\"{addr}\""));
            assert_eq!(known, addr != snat(v4), "{addr}");
        }
    }
}

/// A configuration, and the same after a reload that makes the firewall stricter.
pub struct World {
    pub tables: [Tables; 2],
    pub workers: u8,
    pub max_flows: usize,
    pub pairs: usize,
    pub resolution: Resolution,
}

/// How many there are: the last three have services in every mode.
pub const COUNT: u8 = 7;

/// The configuration of this number, compiled once.
pub fn world(n: u8) -> &'static World {
    static WORLDS: OnceLock<Vec<World>> = OnceLock::new();
    let worlds = WORLDS.get_or_init(|| (0..COUNT).map(make).collect());
    &worlds[usize::from(n) % worlds.len()]
}

fn make(n: u8) -> World {
    let (engine, ports, neighbors, idle) = match n {
        // Two arms, everything known.
        0 => ("", PORTS.to_owned(), NEIGHBORS, ""),
        // Two workers; connections are picked up; neighbours are to be found; the client's side is tagged.
        1 => ("[engine]\non_unknown = \"pickup\"\n", PORTS.replacen("role =", "vlan = 7\nrole =", 1), "", ""),
        // A narrow link towards the endpoints, refusals that are told, small tables.
        2 => (
            "[engine]\non_unknown = \"reset\"\n",
            PORTS.replace("role = \"server\"", "role = \"server\"\nmtu = 1280"),
            NEIGHBORS,
            "idle_timeout = \"1s\"\non_no_endpoint = \"reject\"",
        ),
        // Full NAT, with everything known; connections of lost endpoints are reset.
        4 => ("", PORTS.to_owned(), NEIGHBORS, "on_endpoint_down = \"reset\""),
        // Of the other family, and DSR; two workers; clients keep their endpoints.
        5 => (
            "[engine]\non_unknown = \"pickup\"\n",
            PORTS.to_owned(),
            NEIGHBORS,
            "on_endpoint_down = \"reset\"\npersistence = \"1s\"",
        ),
        // Tunnels over a narrow link, and a table for a handful.
        6 => (
            "[engine]\non_unknown = \"reset\"\n",
            PORTS.replace("role = \"server\"", "role = \"server\"\nmtu = 1300"),
            NEIGHBORS,
            "idle_timeout = \"1s\"\non_no_endpoint = \"reject\"\non_endpoint_down = \"reset\"",
        ),
        // One arm, or two of which one is enough; two workers; next hops taken for known; a table for a handful; clients keep
        // their endpoints.
        _ => (
            "",
            PORTS.replace("role = \"client\"", "role = \"both\""),
            "",
            "idle_timeout = \"100ms\"\npersistence = \"1s\"",
        ),
    };
    let snat =
        format!("[snat]\naddresses = [\"{}\", \"{}\"]\nports = \"20000-20015\"\n", snat(true), snat(false));
    let snat = if n < 4 { "" } else { &snat };
    let text = format!("{engine}{ports}{neighbors}{snat}{}", services(n).replace("IDLE", idle));
    let mut slots = Slots::default();
    let links = PORT_MACS.map(|mac| LinkInfo { mac, promiscuous: n == 3 });
    let texts = [
        format!("{}{FIREWALL}", text.replace("GOES", "up")),
        format!("{}{STRICTER}{FIREWALL}", text.replace("GOES", "down")),
    ];
    let tables = texts.map(|text| {
        let (config, _) = config::parse("fuzz.toml", &text).unwrap_or_else(|e| panic!("{}\n{e}", e.lines()));
        Tables::compile(&config, &links, &mut slots)
    });
    World {
        tables,
        workers: if n & 1 == 0 { 1 } else { 2 },
        max_flows: [64, 64, 8, 3, 64, 64, 4][usize::from(n)],
        pairs: [64, 4, 2, 1, 64, 4, 2][usize::from(n)],
        resolution: if n == 3 { Resolution::Assume } else { Resolution::Discover },
    }
}
