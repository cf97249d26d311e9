use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::config::Role;

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix { addr: addr.parse::<IpAddr>().unwrap().into(), len: len.parse().unwrap() }
}

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn port(addresses: Vec<Prefix>) -> config::Port {
    config::Port {
        name: String::new(),
        device: String::new(),
        role: Role::Both,
        addresses,
        mtu: 1500,
        vlan: 0,
        queues: 0,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        kernel: None,
    }
}

fn route(to: &str, via: &str) -> config::Route {
    config::Route { prefix: prefix(to), via: addr(via) }
}

fn hop(port: u8, to: &str) -> Option<Hop> {
    Some(Hop { port: PortId(port), addr: addr(to) })
}

fn two_ports() -> Vec<config::Port> {
    vec![
        port(vec![prefix("203.0.113.2/24"), prefix("2001:db8:1::2/64")]),
        port(vec![prefix("10.1.0.1/24"), prefix("2001:db8:2::1/64")]),
    ]
}

#[test]
fn a_connected_network_is_its_own_next_hop() {
    let routes = Routes::compile(&two_ports(), &[], &[]);
    assert_eq!(routes.lookup(addr("10.1.0.10")), hop(1, "10.1.0.10"));
    assert_eq!(routes.lookup(addr("10.1.0.1")), hop(1, "10.1.0.1"), "own addresses are no exception here");
    assert_eq!(routes.lookup(addr("2001:db8:1::9")), hop(0, "2001:db8:1::9"));
    assert_eq!(routes.lookup(addr("10.2.0.10")), None);
    assert_eq!(routes.lookup(addr("2001:db8:3::9")), None);
}

#[test]
fn the_longest_prefix_wins_and_a_gateway_has_its_port() {
    let routes = Routes::compile(
        &two_ports(),
        &[
            route("0.0.0.0/0", "203.0.113.1"),
            route("10.0.0.0/8", "10.1.0.254"),
            route("10.9.0.0/16", "203.0.113.9"),
            route("::/0", "2001:db8:2::fe"),
        ],
        &[],
    );
    assert_eq!(routes.lookup(addr("8.8.8.8")), hop(0, "203.0.113.1"));
    assert_eq!(routes.lookup(addr("10.2.0.1")), hop(1, "10.1.0.254"));
    assert_eq!(routes.lookup(addr("10.9.0.1")), hop(0, "203.0.113.9"));
    assert_eq!(routes.lookup(addr("10.1.0.7")), hop(1, "10.1.0.7"));
    assert_eq!(routes.lookup(addr("2620:fe::fe")), hop(1, "2001:db8:2::fe"));
}

#[test]
fn the_ipv6_default_route_takes_no_ipv4() {
    let routes = Routes::compile(&two_ports(), &[route("::/0", "2001:db8:2::fe")], &[]);
    assert_eq!(routes.lookup(addr("8.8.8.8")), None);
}

#[test]
fn of_equal_prefixes_the_connected_one_wins_then_the_first() {
    let routes = Routes::compile(
        &two_ports(),
        &[
            route("10.1.0.0/24", "203.0.113.1"),
            route("0.0.0.0/0", "203.0.113.1"),
            route("0.0.0.0/0", "10.1.0.2"),
        ],
        &[],
    );
    assert_eq!(routes.lookup(addr("10.1.0.7")), hop(1, "10.1.0.7"));
    assert_eq!(routes.lookup(addr("8.8.8.8")), hop(0, "203.0.113.1"));
}

#[test]
fn a_gateway_is_not_resolved_by_a_route() {
    // 203.0.113.129 is on the wan; the more specific static route must not drag the gateway to the lan.
    let routes = Routes::compile(
        &two_ports(),
        &[route("203.0.113.128/25", "10.1.0.2"), route("0.0.0.0/0", "203.0.113.129")],
        &[],
    );
    assert_eq!(routes.lookup(addr("8.8.8.8")), hop(0, "203.0.113.129"));
}

fn learned(to: &str, metric: u32, paths: &[(u8, Option<&str>, u16)]) -> Learned {
    let path = |&(port, via, weight): &(u8, Option<&str>, u16)| {
        (Path { port: PortId(port), gateway: via.map(addr) }, weight)
    };
    Learned { prefix: prefix(to), metric, paths: paths.iter().map(path).collect() }
}

#[test]
fn the_kernels_routes_come_after_the_files_and_the_lowest_metric_first() {
    let routes = Routes::compile(
        &two_ports(),
        &[route("0.0.0.0/0", "203.0.113.1")],
        &[
            learned("10.1.0.0/24", 0, &[(0, Some("203.0.113.9"), 1)]),
            learned("0.0.0.0/0", 0, &[(1, Some("10.1.0.9"), 1)]),
            learned("192.0.2.0/24", 32, &[(0, Some("203.0.113.8"), 1)]),
            learned("192.0.2.0/24", 20, &[(1, Some("10.1.0.8"), 1)]),
            learned("192.0.2.128/25", 4_000, &[(0, Some("203.0.113.7"), 1)]),
            learned("198.18.0.0/15", 0, &[(1, None, 1)]),
            learned("172.16.0.0/12", 0, &[(1, Some("fe80::1"), 1)]),
            learned("172.16.0.0/24", 0, &[]),
        ],
    );
    assert_eq!(routes.lookup(addr("10.1.0.7")), hop(1, "10.1.0.7"), "connected");
    assert_eq!(routes.lookup(addr("8.8.8.8")), hop(0, "203.0.113.1"), "the file's");
    assert_eq!(routes.lookup(addr("192.0.2.1")), hop(1, "10.1.0.8"), "the lower metric");
    assert_eq!(
        routes.lookup(addr("192.0.2.129")),
        hop(0, "203.0.113.7"),
        "the longer prefix, whatever its metric"
    );
    assert_eq!(routes.lookup(addr("198.19.0.1")), hop(1, "198.19.0.1"), "on the link");
    assert_eq!(routes.lookup(addr("172.16.0.1")), hop(1, "fe80::1"), "IPv4 over an IPv6 gateway (RFC 8950)");
    let mut gateways: Vec<_> = routes.gateways().into_iter().map(|hop| (hop.port.0, hop.addr)).collect();
    gateways.sort_unstable();
    let mut wanted =
        [(0, "203.0.113.1"), (0, "203.0.113.7"), (1, "10.1.0.8"), (1, "fe80::1")].map(|(p, a)| (p, addr(a)));
    wanted.sort_unstable();
    assert_eq!(gateways, wanted, "those that are in use");
}

#[test]
fn paths_of_equal_cost_share_destinations_by_weight() {
    let paths = [(0, Some("203.0.113.8"), 1), (1, Some("10.1.0.8"), 3)];
    let routes = Routes::compile(&two_ports(), &[], &[learned("172.16.0.0/12", 0, &paths)]);
    let over_lan = (0..4_000_u32).filter(|i| {
        let dst = Addr::v4((0xac10_0000 + i).to_be_bytes());
        let hop = routes.lookup(dst).unwrap();
        assert_eq!(routes.lookup(dst), Some(hop));
        hop.port == PortId(1)
    });
    let over_lan = over_lan.count();
    assert!((2_850..3_150).contains(&over_lan), "{over_lan} of 4000, where 3000 are due");
}

/// Few bits differ, so that prefixes nest and repeat.
fn any_addr() -> impl Strategy<Value = Addr> {
    prop_oneof![
        (0..8u8, 0..4u8).prop_map(|(a, b)| Addr::v4([10, a << 5, 0, b])),
        (0..8u8, 0..4u8).prop_map(|(a, b)| Addr(0x2001 << 112 | u128::from(a) << 61 | u128::from(b))),
    ]
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (any_addr(), any::<prop::sample::Index>()).prop_map(|(addr, pick)| {
        let lens: &[u8] = if addr.is_v4() {
            &[0, 8, 9, 10, 11, 24, 30, 31, 32]
        } else {
            &[0, 16, 64, 65, 66, 67, 126, 128]
        };
        Prefix { addr, len: lens[pick.index(lens.len())] }
    })
}

fn octets(addr: Addr) -> Vec<u8> {
    match IpAddr::from(addr) {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn covers(prefix: Prefix, addr: Addr) -> bool {
    let bits = |a: Addr| -> Vec<bool> {
        octets(a).iter().flat_map(|o| (0..8).rev().map(move |i| o >> i & 1 == 1)).collect()
    };
    let (net, addr) = (bits(prefix.addr), bits(addr));
    net.len() == addr.len() && net[..prefix.len as usize] == addr[..prefix.len as usize]
}

/// The best of a list, looked through from its end so that the first of equals stays.
fn longest<T: Copy>(list: &[(Prefix, T)], dst: Addr) -> Option<T> {
    list.iter().rev().filter(|(p, _)| covers(*p, dst)).max_by_key(|(p, _)| p.len).map(|(_, t)| *t)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn agrees_with_a_linear_search(
        addresses in prop::collection::vec(prop::collection::vec(any_prefix(), 1..4), 1..4),
        statics in prop::collection::vec((any_prefix(), any_addr()), 0..8),
        destinations in prop::collection::vec(any_addr(), 16),
    ) {
        let ports: Vec<_> = addresses.iter().cloned().map(port).collect();
        let connected: Vec<_> = addresses
            .iter()
            .enumerate()
            .flat_map(|(i, list)| list.iter().map(move |p| (*p, PortId(i as u8))))
            .collect();
        let (routes, resolved): (Vec<_>, Vec<_>) = statics
            .into_iter()
            .filter_map(|(prefix, via)| {
                let port = longest(&connected, via)?;
                Some((config::Route { prefix, via }, (prefix, Some(Hop { port, addr: via }))))
            })
            .unzip();
        let all: Vec<_> = connected.iter().map(|(p, _)| (*p, None)).chain(resolved).collect();
        let table = Routes::compile(&ports, &routes, &[]);
        for dst in destinations {
            let expected = longest(&all, dst).map(|gateway| {
                gateway.unwrap_or_else(|| Hop { port: longest(&connected, dst).unwrap(), addr: dst })
            });
            prop_assert_eq!(table.lookup(dst), expected);
        }
    }
}
