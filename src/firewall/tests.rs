use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix { addr: addr.parse::<IpAddr>().unwrap().into(), len: len.parse().unwrap() }
}

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn rule(name: &str, action: Action) -> config::Rule {
    config::Rule {
        name: name.into(),
        action,
        protocol: None,
        source: vec![],
        destination: vec![],
        source_port: None,
        destination_port: None,
        port: None,
    }
}

fn subject() -> Subject {
    Subject {
        port: PortId(0),
        src: addr("198.51.100.7"),
        dst: addr("203.0.113.100"),
        protocol: 6,
        ports: Some((40_000, 80)),
    }
}

fn dropped(rules: &[config::Rule], subject: &Subject) -> Option<RuleId> {
    Firewall::compile(rules, &mut Slots::default()).dropped_by(subject)
}

#[test]
fn no_rules_let_everything_pass() {
    assert!(Firewall::compile(&[], &mut Slots::default()).is_empty());
    assert_eq!(dropped(&[], &subject()), None);
}

#[test]
fn the_first_match_decides() {
    let allow = rule("allow", Action::Allow);
    let drop = rule("drop", Action::Drop);
    assert_eq!(dropped(&[allow.clone(), drop.clone()], &subject()), None);
    assert_eq!(dropped(&[drop.clone(), allow], &subject()), Some(RuleId(0)));
    let other = config::Rule { protocol: Some(17), ..rule("udp", Action::Drop) };
    assert_eq!(dropped(&[other, drop], &subject()), Some(RuleId(1)));
}

#[test]
fn every_field_must_match() {
    let exact = config::Rule {
        protocol: Some(6),
        source: vec![prefix("198.51.100.0/24"), prefix("2001:db8::/32")],
        destination: vec![prefix("203.0.113.100/32")],
        source_port: Some((40_000, 40_000)),
        destination_port: Some((1, 1023)),
        port: Some(0),
        ..rule("exact", Action::Drop)
    };
    let hits = |subject: Subject| dropped(std::slice::from_ref(&exact), &subject).is_some();
    assert!(hits(subject()));
    assert!(!hits(Subject { port: PortId(1), ..subject() }));
    assert!(!hits(Subject { src: addr("198.51.101.7"), ..subject() }));
    assert!(!hits(Subject { dst: addr("203.0.113.101"), ..subject() }));
    assert!(!hits(Subject { protocol: 17, ..subject() }));
    assert!(!hits(Subject { ports: Some((40_001, 80)), ..subject() }));
    assert!(!hits(Subject { ports: Some((39_999, 80)), ..subject() }));
    assert!(!hits(Subject { ports: Some((40_000, 1024)), ..subject() }));
    assert!(hits(Subject { ports: Some((40_000, 1023)), ..subject() }));
}

#[test]
fn a_rule_with_ports_never_matches_a_packet_without() {
    let all_ports = config::Rule { destination_port: Some((0, 65_535)), ..rule("ports", Action::Drop) };
    let icmp = Subject { protocol: 1, ports: None, ..subject() };
    assert_eq!(dropped(std::slice::from_ref(&all_ports), &icmp), None);
    assert!(dropped(&[all_ports], &subject()).is_some());
}

#[test]
fn everything_of_one_family_is_nothing_of_the_other() {
    let six = config::Rule { source: vec![prefix("::/0")], ..rule("six", Action::Drop) };
    let four = config::Rule { source: vec![prefix("0.0.0.0/0")], ..rule("four", Action::Drop) };
    let v6 = Subject { src: addr("2001:db8::1"), ..subject() };
    assert_eq!(dropped(std::slice::from_ref(&six), &subject()), None);
    assert!(dropped(&[six], &v6).is_some());
    assert_eq!(dropped(std::slice::from_ref(&four), &v6), None);
    assert!(dropped(&[four], &subject()).is_some());
}

/// What the contract says of a rule, field by field, on the addresses as text would have them.
fn naive(rules: &[config::Rule], s: &Subject) -> Option<u32> {
    fn inside(prefixes: &[Prefix], addr: Addr) -> bool {
        let bits = |a: Addr| -> Vec<bool> {
            let octets = match IpAddr::from(a) {
                IpAddr::V4(a) => a.octets().to_vec(),
                IpAddr::V6(a) => a.octets().to_vec(),
            };
            octets.iter().flat_map(|o| (0..8).rev().map(move |i| o >> i & 1 == 1)).collect()
        };
        prefixes.is_empty()
            || prefixes.iter().any(|p| {
                let (net, addr) = (bits(p.addr), bits(addr));
                net.len() == addr.len() && net[..p.len as usize] == addr[..p.len as usize]
            })
    }
    for (i, r) in rules.iter().enumerate() {
        if r.port.is_some_and(|p| p != s.port.index()) || r.protocol.is_some_and(|p| p != s.protocol) {
            continue;
        }
        if (r.source_port.is_some() || r.destination_port.is_some()) && s.ports.is_none() {
            continue;
        }
        let (sport, dport) = s.ports.unwrap_or_default();
        if r.source_port.is_some_and(|(a, b)| sport < a || sport > b)
            || r.destination_port.is_some_and(|(a, b)| dport < a || dport > b)
        {
            continue;
        }
        if inside(&r.source, s.src) && inside(&r.destination, s.dst) {
            return (r.action == Action::Drop).then_some(i as u32);
        }
    }
    None
}

/// Few bits differ, so that prefixes often match.
fn any_addr() -> impl Strategy<Value = Addr> {
    prop_oneof![
        (0..4u8, 0..4u8).prop_map(|(a, b)| Addr::v4([a << 6, 0, 0, b])),
        (0..4u8, 0..4u8).prop_map(|(a, b)| Addr(u128::from(a) << 126 | u128::from(b))),
    ]
}

fn any_prefixes() -> impl Strategy<Value = Vec<Prefix>> {
    let prefix = (any_addr(), prop::sample::select(vec![0u8, 1, 2, 31, 32, 127, 128]))
        .prop_map(|(addr, len)| Prefix { addr, len: if addr.is_v4() { len.min(32) } else { len } });
    prop::collection::vec(prefix, 0..3)
}

fn any_range() -> impl Strategy<Value = Option<(u16, u16)>> {
    prop::option::weighted(0.3, (0..6u16, 0..6u16).prop_map(|(a, b)| (a.min(b), a.max(b))))
}

prop_compose! {
    fn any_rule()(
        drop in any::<bool>(),
        protocol in prop::option::weighted(0.4, prop::sample::select(vec![1u8, 6, 17])),
        source in any_prefixes(),
        destination in any_prefixes(),
        source_port in any_range(),
        destination_port in any_range(),
        port in prop::option::weighted(0.3, 0..2usize),
    ) -> config::Rule {
        let action = if drop { Action::Drop } else { Action::Allow };
        config::Rule { protocol, source, destination, source_port, destination_port, port, ..rule("", action) }
    }
}

prop_compose! {
    fn any_subject()(
        port in 0..2u8,
        src in any_addr(),
        dst in any_addr(),
        protocol in prop::sample::select(vec![1u8, 6, 17]),
        ports in (0..6u16, 0..6u16),
    ) -> Subject {
        Subject { port: PortId(port), src, dst, protocol, ports: (protocol != 1).then_some(ports) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_the_naive_reading(
        mut rules in prop::collection::vec(any_rule(), 0..8),
        subjects in prop::collection::vec(any_subject(), 8),
    ) {
        for (i, rule) in rules.iter_mut().enumerate() {
            rule.name = i.to_string();
        }
        let firewall = Firewall::compile(&rules, &mut Slots::default());
        for subject in &subjects {
            prop_assert_eq!(firewall.dropped_by(subject).map(|id| id.0), naive(&rules, subject));
        }
    }
}
