use super::*;

const WEB: &str = "203.0.113.100:80";

fn sip(n: u8) -> String {
    client(n).to_string()
}

fn pair<'a>(sip: &'a str, dip: &'a str) -> [(&'static str, &'a str); 3] {
    [("service", WEB), ("sip", sip), ("dip", dip)]
}

#[test]
fn a_new_series_shows_0_for_two_ticks_and_then_all_of_it() {
    let mut b = Bench::new(10, &names());
    let s1 = sip(1);
    for (tick, shown, pending) in [(1, 0, 300), (2, 0, 600), (3, 900, 0), (4, 1200, 0)] {
        b.traffic(0, 0, client(1), 3);
        let s = b.tick();
        assert_eq!(s.count("lb_rule_interaction_bytes", &pair(&s1, "10.0.0.1")), shown, "tick {tick}");
        assert_eq!(s.count("lb_rule_interaction_packets", &pair(&s1, "10.0.0.1")), shown / 100);
        assert_eq!(s.count("client_traffic_packets", &[("service", WEB), ("sip", &s1)]), shown / 100);
        let of = |family| s.count("pollux_pending", &[("family", family)]);
        assert_eq!(of("lb_rule_interaction_bytes"), pending);
        assert_eq!(of("lb_rule_interaction_packets"), pending / 100);
        assert_eq!(of("client_traffic_packets"), pending / 100);
        check_conservation(&s).unwrap();
    }
    // A second endpoint: the client's series is there already, the pair's is new.
    b.traffic(0, 1, client(1), 5);
    let s = b.tick();
    assert_eq!(s.count("client_traffic_packets", &[("service", WEB), ("sip", &s1)]), 17);
    assert_eq!(s.count("lb_rule_interaction_packets", &pair(&s1, "10.0.0.2")), 0);
    check_conservation(&s).unwrap();
}

#[test]
fn those_above_the_limit_are_other_by_service_and_endpoint() {
    let mut b = Bench::new(1, &names());
    b.traffic(0, 0, client(1), 10);
    b.traffic(0, 0, client(2), 4);
    b.traffic(0, 1, client(3), 3);
    let s = b.tick();
    assert_eq!(s.count("lb_rule_interaction_packets", &pair("other", "10.0.0.1")), 4);
    assert_eq!(s.count("lb_rule_interaction_packets", &pair("other", "10.0.0.2")), 3);
    assert_eq!(s.count("client_traffic_packets", &[("service", WEB), ("sip", "other")]), 7);
    assert_eq!(s.count("pollux_flow_series", &[]), 1);
    assert!(
        s.get("lb_rule_interaction_packets", &pair(&sip(1), "10.0.0.1")).is_some(),
        "the heaviest has the seat"
    );
}

#[test]
fn no_seats_at_all() {
    let mut b = Bench::new(0, &names());
    b.traffic(0, 0, client(1), 10);
    let s = b.tick();
    assert_eq!(s.count("lb_rule_interaction_packets", &pair("other", "10.0.0.1")), 10);
    check_conservation(&s).unwrap();
}

#[test]
fn a_seat_changes_hands_once_and_for_good_reason() {
    let mut b = Bench::new(1, &names());
    let (mine, theirs) = (sip(1), sip(2));
    for _ in 0..10 {
        b.traffic(0, 0, client(1), 10);
        b.tick();
    }
    // Half as much again is no reason, however long it lasts.
    for tick in 0..50 {
        b.traffic(0, 0, client(1), 10);
        b.traffic(0, 0, client(2), 15);
        let s = b.tick();
        assert!(s.get("lb_rule_interaction_packets", &pair(&mine, "10.0.0.1")).is_some(), "tick {tick}");
    }
    // Five times as much is.
    let (mut changes, mut had, mut before) = (0, true, b.scrape());
    for _ in 0..60 {
        b.traffic(0, 0, client(1), 10);
        b.traffic(0, 0, client(2), 50);
        let s = b.tick();
        let has = s.get("lb_rule_interaction_packets", &pair(&mine, "10.0.0.1")).is_some();
        assert_ne!(has, s.get("lb_rule_interaction_packets", &pair(&theirs, "10.0.0.1")).is_some());
        check_conservation(&s).unwrap();
        check_monotony(&before, &s).unwrap();
        if had && !has {
            changes += 1;
            // Its value goes to retired in one piece, its traffic to other as it comes.
            let of = |s: &Scrape| s.count("lb_rule_interaction_packets", &pair("other", "10.0.0.1"));
            assert_eq!(of(&s) - of(&before), 10);
            let retired = s.count("pollux_retired_total", &[("family", "lb_rule_interaction_packets")]);
            assert_eq!(retired, before.count("lb_rule_interaction_packets", &pair(&mine, "10.0.0.1")));
        }
        assert!(had || !has, "the seat came back");
        (had, before) = (has, s);
    }
    assert_eq!(changes, 1);
}

#[test]
fn a_client_keeps_its_series_while_one_of_its_pairs_does() {
    let mut b = Bench::new(2, &names());
    for _ in 0..10 {
        b.traffic(0, 0, client(1), 10);
        b.traffic(0, 1, client(1), 40);
        b.tick();
    }
    let before = b.tick();
    let mut after = None;
    for _ in 0..40 {
        b.traffic(0, 1, client(1), 40);
        b.traffic(0, 0, client(2), 30);
        let s = b.tick();
        check_conservation(&s).unwrap();
        after = Some(s);
    }
    let after = after.unwrap();
    let key = [("service", WEB), ("sip", &*sip(1))];
    assert!(after.get("lb_rule_interaction_packets", &pair(&sip(1), "10.0.0.1")).is_none(), "lost its seat");
    assert_eq!(
        after.count("client_traffic_packets", &key),
        before.count("client_traffic_packets", &key) + 40 * 40,
        "the client's own series goes on"
    );
}

#[test]
fn a_client_that_gives_one_pair_up_for_another_keeps_its_series() {
    let mut b = Bench::new(1, &names());
    let s1 = sip(1);
    let mut before = b.scrape();
    for tick in 0..60 {
        b.traffic(0, 0, client(1), 10);
        if tick >= 20 {
            b.traffic(0, 1, client(1), 90);
        }
        let s = b.tick();
        check_monotony(&before, &s).unwrap();
        before = s;
    }
    assert!(
        before.get("lb_rule_interaction_packets", &pair(&s1, "10.0.0.2")).is_some(),
        "the seat changed hands"
    );
    assert!(before.count("client_traffic_packets", &[("service", WEB), ("sip", &s1)]) > 0);
}

#[test]
fn a_lower_limit_takes_seats_away() {
    let mut b = Bench::new(10, &names());
    for n in 1..=8 {
        b.traffic(0, 0, client(n), u64::from(n));
    }
    b.tick();
    let mut metrics = settings(10).metrics;
    metrics.flow_series_limit = 3;
    b.aggregator.reconfigure(b.now, &metrics, &names(), 2);
    b.traffic(0, 0, client(9), 1);
    let s = b.tick();
    assert_eq!(s.count("pollux_flow_series", &[]), 3);
    for n in 6..=8 {
        assert!(s.get("lb_rule_interaction_packets", &pair(&sip(n), "10.0.0.1")).is_some(), "{n}");
    }
    check_conservation(&s).unwrap();
}

#[test]
fn clients_without_a_slot_in_the_workers_are_other() {
    let mut b = Bench::new(1000, &names());
    let slots: Vec<_> = (0..70).map(|n| b.slot(0, 0, client(n))).collect();
    assert!(slots[64..].iter().all(|slot| slot.endpoint() == Some(EndpointId(0))));
    let account = Account { flow: None, pair: slots[69], bytes: 60, icmp_error: None };
    b.writer.transmitted(PortId(1), 74, Some(&account));
    let s = b.tick();
    assert_eq!(s.count("lb_rule_interaction_bytes", &pair("other", "10.0.0.1")), 60);
    assert_eq!(s.count("service_traffic_bytes", &[("service", WEB)]), 60);
    check_conservation(&s).unwrap();
}

/// More than 32 bits can tell, of a pair in one tick: with a series, without one, and of one that is gone before the tick is over.
#[test]
fn a_tick_may_bring_any_amount() {
    const MUCH: u64 = 5 << 32;
    let mut b = Bench::new(1, &names());
    let bytes = |b: &mut Bench, endpoint: u32, n: u8, bytes: u64| {
        let slot = b.slot(0, endpoint, client(n));
        let counters = b.writer.bank().pair(slot);
        counters.packets.add(1);
        counters.bytes.add(bytes);
    };
    let shown = |s: &Scrape, sip: &str, dip: &str| s.count("lb_rule_interaction_bytes", &pair(sip, dip));
    let mut before = b.scrape();
    // Both sides of what fits.
    for (tick, each) in (1_u64..).zip([3, u64::from(u32::MAX) - 2, MUCH, u64::from(u32::MAX), 7]) {
        bytes(&mut b, 0, 1, 2 * each);
        bytes(&mut b, 1, 2, each);
        b.round();
        bytes(&mut b, 1, 2, 1);
        let s = b.tick();
        check_conservation(&s).unwrap();
        check_monotony(&before, &s).unwrap();
        let sum = |s: &Scrape, dip| s.count("endpoint_traffic_bytes", &[("service", WEB), ("dip", dip)]);
        assert_eq!(sum(&s, "10.0.0.1") - sum(&before, "10.0.0.1"), 2 * each, "tick {tick}");
        assert_eq!(shown(&s, "other", "10.0.0.2") - shown(&before, "other", "10.0.0.2"), each + 1);
        if tick > 3 {
            assert_eq!(shown(&s, &sip(1), "10.0.0.1") - shown(&before, &sip(1), "10.0.0.1"), 2 * each);
        }
        before = s;
    }
    let pairs = b.pairs(&Selection::default());
    check_pairs(&pairs, &before).unwrap();
    assert_eq!(shown(&pairs, &sip(2), "10.0.0.2"), 3 + 2 * u64::from(u32::MAX) - 2 + MUCH + 7 + 5);
    // In the midst of a tick the one's row goes to another pair, and the other's endpoint out of the configuration.
    b.aggregator.flows.set_bound(2);
    bytes(&mut b, 0, 1, MUCH);
    bytes(&mut b, 1, 2, MUCH);
    b.round();
    bytes(&mut b, 1, 3, 10);
    b.round();
    let mut less = names();
    Arc::make_mut(&mut less.services[0]).endpoints.remove(0);
    b.aggregator.reconfigure(b.now, &settings(1).metrics, &less, 2);
    check_conservation(&b.scrape()).unwrap();
    let s = b.tick();
    check_conservation(&s).unwrap();
    assert_eq!(shown(&s, "other", "10.0.0.2") - shown(&before, "other", "10.0.0.2"), MUCH);
    let gone = s.count("pollux_retired_total", &[("family", "lb_rule_interaction_bytes")]);
    assert_eq!(gone, before.count("endpoint_traffic_bytes", &[("service", WEB), ("dip", "10.0.0.1")]) + MUCH);
    check_pairs(&b.pairs(&Selection::default()), &s).unwrap();
}

/// A million sources of an attack, fifty thousand new ones in every tick, and a thousand clients that send more than any of them: those have
/// their series in every scrape, and memory is what the bound allows from the first to the last.
#[test]
fn the_thousand_heaviest_keep_their_series_beside_a_million_others() {
    const HEAVY: u32 = 1000;
    const BOUND: usize = 1 << 17;
    let mut b = Bench::of_sizes(settings(HEAVY as usize), &names(), Sizes { pairs: 100_000, ..SIZES });
    b.aggregator.flows.set_bound(BOUND);
    let addr = |block: u8, n: u32| Addr(Addr::v4([block, 0, 0, 0]).0 + u128::from(n));
    let send = |b: &mut Bench, client: Addr, packets: u32| {
        let slot = b.slot(0, 0, client);
        let counters = b.writer.bank().pair(slot);
        counters.packets.add(packets.into());
        counters.bytes.add(100 * u64::from(packets));
        b.pairs.release(&b.writer, slot);
    };
    // As clients are: the n-th sends an n-th of the first, but the least of them more than any attacker.
    let heavy = |b: &mut Bench| (0..HEAVY).for_each(|n| send(b, addr(10, n), 20 + 20_000 / (n + 1)));
    for _ in 0..4 {
        heavy(&mut b);
        b.tick();
    }
    let mut attackers = 0..1_000_000_u32;
    let (mut memory, mut ticks) = (Vec::new(), 0);
    while !attackers.is_empty() {
        heavy(&mut b);
        for n in attackers.by_ref().take(50_000) {
            send(&mut b, addr(66, n), 1 + n % 10);
        }
        let s = b.tick();
        let shown =
            |n: &u32| s.get("lb_rule_interaction_bytes", &pair(&addr(10, *n).to_string(), "10.0.0.1"));
        assert_eq!((0..HEAVY).filter(|n| shown(n).is_some()).count(), HEAVY as usize, "tick {ticks}");
        check_conservation(&s).unwrap();
        ticks += 1;
        memory.push(b.aggregator.pair_memory());
    }
    let full: Vec<_> = memory.iter().filter(|(_, pairs)| *pairs == BOUND).collect();
    assert!(full.len() > ticks - 4 && full.windows(2).all(|pair| pair[0] == pair[1]), "{memory:?}");
}

/// A hundred and fifty thousand sources of an attack, new ones in every tick: they cost no more than the bound, those who matter keep
/// their series, and others who come in the midst of it get one.
#[test]
fn many_sources_cost_no_more_and_displace_nobody_who_matters() {
    const HEAVY: u32 = 500;
    const BOUND: usize = 4000;
    let mut b = Bench::of_sizes(settings(2 * HEAVY as usize), &names(), Sizes { pairs: 200_000, ..SIZES });
    b.aggregator.flows.set_bound(BOUND);
    let addr = |block: u8, n: u32| Addr(Addr::v4([block, 0, 0, 0]).0 + u128::from(n));
    let heavy = |b: &mut Bench, block| (0..HEAVY).for_each(|n| b.traffic(0, n % 2, addr(block, n), 20));
    for _ in 0..8 {
        heavy(&mut b, 10);
        b.tick();
    }
    let mut attackers = 0..150_000;
    let (mut before, mut pairs_before) = (b.scrape(), b.pairs(&Selection::default()));
    for tick in 0..30 {
        heavy(&mut b, 10);
        if tick >= 5 {
            heavy(&mut b, 11);
        }
        for n in attackers.by_ref().take(5000) {
            b.traffic(0, 0, addr(66, n), 1);
        }
        let s = b.tick();
        check_conservation(&s).unwrap();
        check_monotony(&before, &s).unwrap();
        let pairs = b.pairs(&Selection::default());
        check_pairs(&pairs, &s).unwrap();
        check_pairs_grow(&pairs_before, &pairs).unwrap();
        (before, pairs_before) = (s, pairs);
        assert!(b.aggregator.flows.followed().0 <= BOUND);
        assert!(b.aggregator.flows.series() <= 2 * HEAVY as usize);
        let shown = |block: u8| {
            let of = |n: &u32| {
                let sip = addr(block, *n).to_string();
                let dip = if n.is_multiple_of(2) { "10.0.0.1" } else { "10.0.0.2" };
                before.get("lb_rule_interaction_bytes", &pair(&sip, dip)).is_some()
            };
            (0..HEAVY).filter(of).count()
        };
        assert_eq!(shown(10), HEAVY as usize, "tick {tick}");
        if tick >= 25 {
            assert_eq!(
                shown(11),
                HEAVY as usize,
                "tick {tick}: they have come later, and have a series, too"
            );
        }
    }
    // Rows, clients, two indexes of twice the next power of two, seats: all of it once, whoever has passed through.
    let (bytes, pairs) = b.aggregator.pair_memory();
    assert!(pairs <= BOUND && bytes < BOUND * 250 + 200_000 * 4 + 100_000, "{bytes} bytes");
}
