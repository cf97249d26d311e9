use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::slots::Capacity;
use super::*;
use crate::config::{self, Action, Algorithm, EndpointState, Protocol, ServiceLabel};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::service::tests::service;

const LAN: Addr = Addr::v4([10, 1, 0, 1]);
const V6: Addr = Addr(0x2001_0db8_0001_0000_0000_0000_0000_0002);

fn port(name: &str, addr: Addr, len: u8) -> config::Port {
    config::Port {
        name: name.into(),
        device: "net_ring0".into(),
        role: Role::Both,
        addresses: vec![Prefix { addr, len }],
        mtu: 1500,
        vlan: 7,
        queues: 0,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        kernel: None,
    }
}

fn config(services: Vec<config::Service>, firewall: Vec<config::Rule>) -> Config {
    Config {
        snat: config::Snat { addresses: vec![], ports: (1024, 65_535) },
        engine: config::Engine {
            workers: vec![0],
            main_cpu: None,
            hugepages: false,
            memory_mb: 64,
            eal_args: vec![],
            max_flows: 1000,
            burst: 32,
            idle: config::Idle::Poll,
            on_unknown: OnUnknown::Reset,
            transit: Transit::Drop,
            shutdown_delay: Duration::ZERO,
        },
        ports: vec![port("wan", V6, 64), port("lan", LAN, 24)],
        routes: vec![config::Route {
            prefix: Prefix { addr: Addr::v4([0; 4]), len: 0 },
            via: Addr::v4([10, 1, 0, 254]),
        }],
        neighbors: vec![config::Neighbor {
            address: Addr::v4([10, 1, 0, 10]),
            mac: Mac([2, 0, 0, 0, 0, 16]),
            port: 1,
        }],
        services: services.into_iter().map(Arc::new).collect(),
        firewall,
        control: config::Control { socket: config::AdminSocket::Off, watch: false },
        metrics: config::Metrics {
            listen: ([127, 0, 0, 1], 8080).into(),
            tick: Duration::from_secs(10),
            distribution_tick: Duration::from_secs(120),
            service_label: ServiceLabel::Address,
            flow_series_limit: 50_000,
            aliases: false,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            access: config::Access::default(),
        },
    }
}

fn rule(name: &str) -> config::Rule {
    config::Rule {
        name: name.into(),
        action: Action::Drop,
        protocol: None,
        source: vec![],
        destination: vec![],
        source_port: None,
        destination_port: None,
        port: None,
    }
}

fn named(name: &str, endpoints: usize) -> config::Service {
    let endpoints = vec![(1, EndpointState::Up); endpoints];
    config::Service { name: name.into(), ..service(Algorithm::RoundRobin, &endpoints) }
}

fn compile(config: &Config, slots: &mut Slots) -> Tables {
    let links = [1, 2].map(|n| LinkInfo { mac: Mac([2, 0, 0, 0, 0, n]), promiscuous: n == 2 });
    Tables::compile(config, &links, slots)
}

#[test]
fn everything_has_its_place() {
    let t = compile(&config(vec![named("web", 2)], vec![rule("r")]), &mut Slots::default());
    let [wan, lan] = &*t.ports else { panic!() };
    assert_eq!((&*wan.name, wan.mac, wan.promiscuous), ("wan", Mac([2, 0, 0, 0, 0, 1]), false));
    assert_eq!((&*lan.name, lan.mac, lan.promiscuous), ("lan", Mac([2, 0, 0, 0, 0, 2]), true));
    assert_eq!((lan.mtu, lan.vlan, lan.role), (1500, 7, Role::Both));
    assert!(lan.owns(LAN) && !lan.owns(V6) && !lan.owns(Addr::v4([10, 1, 0, 2])));
    assert!(t.is_local(LAN) && t.is_local(V6) && !t.is_local(Addr::v4([10, 1, 0, 0])));
    assert!(!t.is_local(Addr::v4([203, 0, 113, 100])), "a VIP is not a port's address");
    assert_eq!(*t.neighbors, [(PortId(1), Addr::v4([10, 1, 0, 10]), Mac([2, 0, 0, 0, 0, 16]))]);
    assert_eq!(t.on_unknown, OnUnknown::Reset);
    assert_eq!(t.routes.lookup(Addr::v4([8; 4])).map(|hop| hop.port), Some(PortId(1)));
    let web = t.services.lookup(Addr::v4([203, 0, 113, 100]), 80, Protocol::Tcp).unwrap();
    assert_eq!((web.id, web.idle_timeout_ms), (ServiceId(0), 240_000));
    assert_eq!(web.endpoints.iter().map(|e| e.id).collect::<Vec<_>>(), [EndpointId(0), EndpointId(1)]);
    assert!(!t.firewall.is_empty());
}

#[test]
fn labels_are_those_of_the_contract() {
    let vip6 = Addr(0x2001_0db8_0001_0000_0000_0000_0000_0100);
    let range = |s| config::Service { first_port: 5000, last_port: 5999, ..s };
    let services = vec![
        named("four", 1),
        range(named("range", 1)),
        config::Service { vip: vip6, ..named("six", 0) },
        range(config::Service { vip: vip6, ..named("six range", 0) }),
    ];
    let names = compile(&config(services, vec![rule("a"), rule("b")]), &mut Slots::default()).names;
    let labels: Vec<_> = names.services.iter().map(|s| (&*s.name, &*s.address)).collect();
    assert_eq!(
        labels,
        [
            ("four", "203.0.113.100:80"),
            ("range", "203.0.113.100:5000-5999"),
            ("six", "[2001:db8:1::100]:80"),
            ("six range", "[2001:db8:1::100]:5000-5999"),
        ]
    );
    assert_eq!(names.services[0].endpoints[0].address.to_string(), "10.0.0.0:8080");
    assert_eq!(names.services[1].endpoints[0].service, ServiceId(1));
    assert_eq!(names.rules, [(RuleId(0), "a".to_owned()), (RuleId(1), "b".to_owned())]);
}

#[test]
fn an_endpoint_of_two_services_is_one_and_healthy_if_up_in_any() {
    use EndpointState::{Down, Drain, Up};
    let s = |name: &str, protocol, states: &[EndpointState]| config::Service {
        name: name.into(),
        protocol,
        ..service(Algorithm::RoundRobin, &states.iter().map(|s| (1, *s)).collect::<Vec<_>>())
    };
    let services = vec![
        s("a", Protocol::Tcp, &[Up, Down, Drain, Down]),
        config::Service { first_port: 81, last_port: 81, ..s("b", Protocol::Tcp, &[Down, Down, Down, Up]) },
        s("c", Protocol::Udp, &[Down, Up]),
    ];
    let names = compile(&config(services, vec![]), &mut Slots::default()).names;
    assert_eq!(names.health, Health { healthy: 3 + 1, unhealthy: 1 + 1 });
    assert_eq!(Names::default().health, Health::default());
}

#[test]
fn slots_outlive_reloads() {
    let mut slots = Slots::default();
    let first = compile(&config(vec![named("a", 2), named("b", 1)], vec![rule("x")]), &mut slots).names;
    // Another order, weights, algorithm, action; something new in front; one gone.
    let mut b = named("b", 2);
    b.algorithm = Algorithm::Maglev { size: 251 };
    let endpoints = &mut b.endpoints;
    endpoints.reverse();
    endpoints[1].state = EndpointState::Drain;
    let x = config::Rule { action: Action::Allow, ..rule("x") };
    let second = compile(&config(vec![named("c", 1), b], vec![rule("y"), x]), &mut slots).names;
    let ids = |names: &Names| names.services.iter().map(|s| (s.name.clone(), s.id.0)).collect::<Vec<_>>();
    assert_eq!(ids(&first), [("a".into(), 0), ("b".into(), 1)]);
    assert_eq!(ids(&second), [("c".into(), 2), ("b".into(), 1)]);
    assert_eq!(first.endpoints().map(|e| e.id.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(second.endpoints().map(|e| e.id.0).collect::<Vec<_>>(), [3, 4, 2]);
    assert_eq!(second.rules, [(RuleId(1), "y".into()), (RuleId(0), "x".into())]);
    // What was gone finds its slot again.
    let third = compile(&config(vec![named("a", 2)], vec![]), &mut slots).names;
    assert_eq!(ids(&third), [("a".into(), 0)]);
    assert_eq!(third.endpoints().map(|e| e.id.0).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_renamed_or_rebound_service_is_another() {
    let mut slots = Slots::default();
    let a = named("a", 1);
    let others = [
        config::Service { name: "b".into(), ..a.clone() },
        config::Service { vip: V6, ..a.clone() },
        config::Service { last_port: 81, ..a.clone() },
        config::Service { first_port: 79, ..a.clone() },
        config::Service { protocol: Protocol::Sctp, ..a.clone() },
    ];
    assert_eq!(compile(&config(vec![a], vec![]), &mut slots).names.services[0].id, ServiceId(0));
    for (n, other) in (1..).zip(others) {
        let names = compile(&config(vec![other], vec![]), &mut slots).names;
        assert_eq!((names.services[0].id, names.services[0].endpoints[0].id), (ServiceId(n), EndpointId(n)));
    }
}

#[test]
fn generations_count_configurations_and_epochs_firewall_changes() {
    let mut slots = Slots::default();
    let mut at = |services: usize, rules: &[config::Rule]| {
        let t = compile(&config(vec![named("a", services)], rules.to_vec()), &mut slots);
        (t.generation, t.firewall_epoch)
    };
    let (x, y) = (rule("x"), rule("y"));
    assert_eq!(at(1, &[]), (1, 1));
    assert_eq!(at(2, &[]), (2, 1));
    assert_eq!(at(2, &[x.clone(), y.clone()]), (3, 2));
    assert_eq!(at(1, &[x.clone(), y.clone()]), (4, 2));
    assert_eq!(at(1, &[y, x.clone()]), (5, 3), "the order decides");
    assert_eq!(at(1, &[config::Rule { action: Action::Allow, ..x }]), (6, 4));
}

#[test]
fn a_configuration_beyond_the_limit_is_found_out() {
    let mut slots = Slots::with_limit(Capacity { services: 3, endpoints: 5, rules: 2 });
    let first = config(vec![named("a", 3)], vec![rule("x")]);
    assert_eq!(slots.fits(&first), Ok(()));
    let sizes = compile(&first, &mut slots).sizes(1000);
    assert_eq!(sizes, Sizes { ports: 2, services: 1, endpoints: 3, rules: 1, snat: 0, pairs: 1000 });
    let over = config(vec![named("b", 3)], vec![]);
    let error = SlotsFull { kind: "endpoints", needed: 6, capacity: 5 };
    assert_eq!(slots.fits(&over), Err(error));
    assert_eq!(slots.fits(&over), Err(error), "asking takes nothing");
    let full = config(vec![named("b", 2)], vec![rule("y")]);
    assert_eq!(slots.fits(&full), Ok(()));
    let tables = compile(&full, &mut slots);
    assert_eq!(tables.sizes(1), Sizes { ports: 2, services: 2, endpoints: 5, rules: 2, snat: 0, pairs: 1 });
    assert_eq!(slots.fits(&first), Ok(()), "what was seen before has its slots");
    let rules = vec![rule("x"), rule("y"), rule("z")];
    assert_eq!(slots.fits(&config(vec![], rules)).map_err(|e| e.kind), Err("firewall rules"));
    let services = ["a", "b", "c", "d"].map(|name| named(name, 0)).into();
    assert_eq!(slots.fits(&config(services, vec![])).map_err(|e| e.kind), Err("services"));
}

#[test]
fn a_removed_endpoints_slot_is_another_ones_only_when_nothing_refers_to_it() {
    let mut slots = Slots::default();
    compile(&config(vec![named("a", 3)], vec![]), &mut slots);
    compile(&config(vec![named("a", 1)], vec![]), &mut slots);
    let now = std::time::Instant::now();
    let later = now + Duration::from_secs(61);
    assert!(!slots.release(now, |_| true), "too early");
    assert!(slots.release(later, |id| id == EndpointId(1)), "one has no connection");
    let names = compile(&config(vec![named("a", 1), named("b", 2)], vec![]), &mut slots).names;
    assert_eq!(names.endpoints().map(|e| e.id.0).collect::<Vec<_>>(), [0, 1, 3]);
    // The one that has a connection yet finds its slot, the other one has another.
    let names = compile(&config(vec![named("a", 3)], vec![]), &mut slots).names;
    assert_eq!(names.endpoints().map(|e| e.id.0).collect::<Vec<_>>(), [0, 4, 2]);
    assert!(!slots.release(later, |id| id.0 == 2 || id.0 == 4), "they are configured again");
}

#[test]
fn a_removed_services_address_lingers_while_it_may_have_connections() {
    let mut slots = Slots::default();
    let vip = Addr::v4([203, 0, 113, 100]);
    compile(&config(vec![named("a", 1)], vec![]), &mut slots);
    let none = config(vec![], vec![]);
    let tables = compile(&none, &mut slots);
    assert!(tables.services.is_vip(vip) && tables.services.lookup(vip, 80, Protocol::Tcp).is_none());
    assert!(slots.release(std::time::Instant::now() + Duration::from_secs(61), |_| true));
    assert!(!compile(&none, &mut slots).services.is_vip(vip));
}

#[test]
fn who_is_lost_and_reset_is_known_and_who_joins_is_noticed() {
    let mut slots = Slots::default();
    let with = |down: bool, endpoints: usize, on_removed, on_down| {
        let mut a = named("a", endpoints);
        (a.on_endpoint_removed, a.on_endpoint_down) = (on_removed, on_down);
        if down {
            a.endpoints[0].state = EndpointState::Down;
        }
        config(vec![a], vec![])
    };
    use config::Loss::{Keep, Reset};
    let mut at = |config: &Config| {
        let tables = compile(config, &mut slots);
        let mut resets: Vec<_> = tables.resets.iter().map(|id| id.0).collect();
        resets.sort_unstable();
        (resets, tables.resets_version)
    };
    assert_eq!(at(&with(false, 4, Keep, Keep)), (vec![], 0));
    assert_eq!(at(&with(true, 3, Keep, Keep)), (vec![], 0), "drained, and kept");
    assert_eq!(at(&with(true, 3, Keep, Reset)), (vec![0], 1));
    assert_eq!(at(&with(true, 2, Reset, Reset)), (vec![0, 2], 2));
    assert_eq!(at(&with(false, 2, Reset, Reset)), (vec![2], 2), "back: none has joined");
    assert_eq!(at(&with(false, 3, Reset, Reset)), (vec![], 2));
    assert_eq!(at(&config(vec![], vec![])), (vec![0, 1, 2], 3), "with their service");
}

#[test]
fn what_is_as_it_was_is_shared() {
    let links = [1, 2].map(|n| LinkInfo { mac: Mac([2, 0, 0, 0, 0, n]), promiscuous: false });
    let first = config(vec![named("a", 2), named("b", 2), named("c", 2)], vec![]);
    let mut second = first.clone();
    second.services.swap(0, 1);
    Arc::make_mut(&mut second.services[2]).endpoints[0].weight = 9;
    let none = Conditions::default();
    let mut slots = Slots::default();
    let before = Sources { config: &first, links: &links, conditions: &none };
    let one = Tables::next(&before, None, &mut slots, true);
    let after = Sources { config: &second, links: &links, conditions: &none };
    let two = Tables::next(&after, Some((&Changes::between(&before, &after), &one)), &mut slots, true);
    assert!(Arc::ptr_eq(&one.services.share(0), &two.services.share(1)));
    assert!(Arc::ptr_eq(&one.services.share(1), &two.services.share(0)));
    assert!(!Arc::ptr_eq(&one.services.share(2), &two.services.share(2)));
    let fresh = Tables::compile(&second, &links, &mut slots);
    assert_eq!(format!("{:?}", two.names), format!("{:?}", fresh.names));
    assert_eq!(two.generation, 2);
    // Run-time state alone is no generation.
    let mut drained = Conditions::default();
    let endpoint = (second.services[0].endpoints[1].address, second.services[0].endpoints[1].port);
    drained.set("b", endpoint, Condition { drained: true, ..Condition::default() });
    let state = Sources { conditions: &drained, ..after };
    let three = Tables::next(&state, Some((&Changes::between(&after, &state), &two)), &mut slots, false);
    assert_eq!((three.generation, three.firewall_epoch), (3, fresh.firewall_epoch));
    assert!(!Arc::ptr_eq(&three.services.share(0), &two.services.share(0)));
    assert!(Arc::ptr_eq(&three.services.share(1), &two.services.share(1)));
    assert!(!three.services.iter().next().unwrap().endpoints[1].takes_new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Through any history of configurations an identity has one slot, and a slot one identity.
    #[test]
    fn slots_and_identities_are_one_to_one(
        history in prop::collection::vec(prop::collection::vec((0..6u8, 0..6usize), 0..6), 1..8),
    ) {
        let mut slots = Slots::default();
        let (mut services, mut endpoints) = (std::collections::HashMap::new(), std::collections::HashMap::new());
        for step in history {
            let mut list: Vec<config::Service> = Vec::new();
            for (name, n) in step {
                let name = name.to_string();
                if list.iter().all(|s| s.name != name) {
                    list.push(named(&name, n));
                }
            }
            let tables = compile(&config(list, vec![]), &mut slots);
            for (compiled, name) in tables.services.iter().zip(&tables.names.services) {
                prop_assert_eq!(compiled.id, name.id);
                prop_assert_eq!(services.entry(name.id).or_insert_with(|| name.name.clone()), &name.name);
            }
            for e in tables.names.endpoints() {
                let key = (services[&e.service].clone(), e.address);
                prop_assert_eq!(endpoints.entry(e.id).or_insert_with(|| key.clone()), &key);
            }
        }
        let distinct: std::collections::HashSet<_> = endpoints.values().collect();
        prop_assert_eq!(distinct.len(), endpoints.len());
        let distinct: std::collections::HashSet<_> = services.values().collect();
        prop_assert_eq!(distinct.len(), services.len());
    }

    /// What is kept from one configuration to the next is what would be found out anew.
    #[test]
    fn what_is_known_of_all_endpoints_is_as_if_counted_anew(
        history in prop::collection::vec(prop::collection::vec((0..4u8, 0..3u8, 0..16u8, 0..16u8), 0..5), 1..8),
    ) {
        let links = [1, 2].map(|n| LinkInfo { mac: Mac([2, 0, 0, 0, 0, n]), promiscuous: false });
        let none = Conditions::default();
        let mut slots = Slots::default();
        let mut before: Option<(Config, Tables)> = None;
        for step in history {
            let mut list: Vec<config::Service> = Vec::new();
            // Name, form, which endpoints it has, and which of those are down.
            for (name, form, has, down) in step {
                let name = name.to_string();
                if list.iter().any(|s| s.name == name) {
                    continue;
                }
                let mut service = named(&name, 4);
                match form {
                    0 => {}
                    1 => service.protocol = Protocol::Udp,
                    _ => service.mode = config::Mode::DsrL2,
                }
                let all = std::mem::take(&mut service.endpoints);
                let all = all.into_iter().enumerate();
                service.endpoints = all.filter(|(n, _)| has >> n & 1 == 1).map(|(n, mut e)| {
                    e.state = if down >> n & 1 == 1 { EndpointState::Down } else { EndpointState::Up };
                    e
                }).collect();
                list.push(service);
            }
            let new = config(list, vec![]);
            let sources = Sources { config: &new, links: &links, conditions: &none };
            let changes = before.as_ref().map(|(old, tables)| {
                (Changes::between(&Sources { config: old, ..sources }, &sources), tables)
            });
            let tables = Tables::next(&sources, changes.as_ref().map(|(c, t)| (c, *t)), &mut slots, true);
            let fresh = Tables::compile(&new, &links, &mut Slots::default());
            prop_assert_eq!(tables.names.health, fresh.names.health);
            let mut distinct = std::collections::HashMap::new();
            for e in tables.names.endpoints() {
                *distinct.entry((e.address, e.protocol)).or_insert(false) |= e.state != EndpointState::Down;
            }
            let healthy = distinct.values().filter(|up| **up).count();
            prop_assert_eq!(tables.names.health, Health { healthy, unhealthy: distinct.len() - healthy });
            for n in 0..4 {
                let addr = Addr::v4([10, 0, 0, n]);
                let answers = new.services.iter().any(|s| {
                    s.mode == config::Mode::Dnat && s.endpoints.iter().any(|e| e.address == addr)
                });
                prop_assert_eq!(tables.is_endpoint(addr, 8080), answers);
                prop_assert!(!tables.is_endpoint(addr, 8081));
            }
            before = Some((new, tables));
        }
    }
}
