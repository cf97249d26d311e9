//! What an allocator promises: nothing twice, nothing of another worker's, nothing too soon.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const V4: [Addr; 2] = [Addr::v4([10, 1, 0, 2]), Addr::v4([10, 1, 0, 3])];
const V6: Addr = Addr(0x2001_0db8 << 96 | 2);

fn endpoint(n: u8) -> Addr {
    if n.is_multiple_of(4) {
        Addr(0x2001_0db8 << 96 | 0x100 | u128::from(n))
    } else {
        Addr::v4([10, 1, 1, n])
    }
}

/// Worker `worker` of four, by a stand-in for the owner function that, as that does, leaves the address out for SCTP.
fn belongs(worker: u64) -> impl Fn(Protocol, Addr, u16) -> bool {
    move |protocol, addr, port| {
        let addr = if protocol == Protocol::Sctp { 0 } else { addr.0 as u64 };
        (addr ^ u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 == worker
    }
}

fn snat(ports: RangeInclusive<u16>, worker: u64) -> Snat {
    Snat::new(&[V4[0], V6, V4[1]], ports, (1, worker), belongs(worker))
}

proptest! {
    #[test]
    fn no_external_tuple_is_two_connections(
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8, 0..3_usize, 0..10_u8, 0..20_u64), 1..500),
    ) {
        let mut snat = snat(1024..=1151, 1);
        let mut live: Vec<(Protocol, Addr, Binding)> = Vec::new();
        let mut rested: HashMap<(Protocol, Addr, Binding), Instant> = HashMap::new();
        let mut now = Instant(0);
        for (which, to, protocol, what, seconds) in steps {
            now = now.after(Duration::from_secs(seconds));
            snat.maintain(now);
            if what < 7 || live.is_empty() {
                let (protocol, to) = (Protocol::ALL[protocol], endpoint(to));
                let Some(binding) = snat.allocate(protocol, to, now) else { continue };
                prop_assert_eq!(binding.addr.is_v4(), to.is_v4());
                prop_assert!((1024..=1151).contains(&binding.port));
                prop_assert!(belongs(1)(protocol, binding.addr, binding.port));
                prop_assert!(!live.contains(&(protocol, to, binding)));
                if let Some(since) = rested.remove(&(protocol, to, binding)) {
                    prop_assert!(now.since(since) >= MIN_REST);
                }
                live.push((protocol, to, binding));
            } else {
                let (protocol, to, binding) = live.swap_remove(which.index(live.len()));
                let rest = if what < 9 { Rest::TimeWait } else { Rest::None };
                snat.release(protocol, to, binding, rest, now);
                if rest == Rest::TimeWait {
                    rested.insert((protocol, to, binding), now);
                }
            }
            let used: u64 = snat.usage().map(|(_, usage)| usage.used).sum();
            prop_assert_eq!(used, live.len() as u64);
        }
    }
}

#[test]
fn workers_share_no_port_and_together_have_all() {
    let mut seen = HashSet::new();
    for worker in 0..4 {
        let mut snat = snat(5000..=5999, worker);
        while let Some(binding) = snat.allocate(Protocol::Tcp, endpoint(1), Instant::ZERO) {
            assert!(seen.insert(binding), "{binding:?} of two workers");
        }
    }
    assert_eq!(seen.len(), 2000, "two IPv4 addresses");
}

#[test]
fn a_dry_pool_refuses_until_ports_have_rested() {
    let mut snat = snat(2000..=2099, 2);
    let now = Instant(7_000_000_000);
    let all: Vec<_> = std::iter::from_fn(|| snat.allocate(Protocol::Tcp, endpoint(1), now)).collect();
    let given = |snat: &mut Snat, after| {
        let now = now.after(Duration::from_secs(after));
        std::iter::from_fn(|| snat.allocate(Protocol::Tcp, endpoint(1), now)).count()
    };
    assert!(all.len() > 20);
    for binding in &all {
        snat.release(Protocol::Tcp, endpoint(1), *binding, Rest::TimeWait, now);
    }
    assert_eq!(given(&mut snat, 119), 0);
    assert_eq!(given(&mut snat, 180), all.len());
    for binding in &all {
        snat.release(Protocol::Tcp, endpoint(1), *binding, Rest::None, now);
    }
    assert_eq!(given(&mut snat, 180), all.len());
}

#[test]
fn ports_come_in_no_order() {
    let mut snat = Snat::new(&[V4[0]], 1024..=65_535, (3, 4), |_, _, _| true);
    let ports: Vec<u16> = (0..1000)
        .filter_map(|_| snat.allocate(Protocol::Udp, endpoint(1), Instant::ZERO))
        .map(|b| b.port)
        .collect();
    let near = ports.windows(2).filter(|w| w[0].abs_diff(w[1]) < 64).count();
    assert!(near < 20, "{near} of 999 steps are short");
    // All parts of the range, evenly: χ² of 16 parts has a mean of 15, and is above 45 once in ten thousand.
    let mut parts = [0.0; 16];
    for port in &ports {
        parts[usize::from(port - 1024) * 16 / 64_512] += 1.0;
    }
    let chi2: f64 = parts.iter().map(|n| (n - 62.5_f64).powi(2) / 62.5).sum();
    assert!(chi2 < 45.0, "χ² = {chi2}");
    // And not the same in another process.
    let mut other = Snat::new(&[V4[0]], 1024..=65_535, (5, 6), |_, _, _| true);
    let same = ports
        .iter()
        .filter(|p| other.allocate(Protocol::Udp, endpoint(1), Instant::ZERO).is_some_and(|b| b.port == **p))
        .count();
    assert!(same < 5);
}

#[test]
fn without_an_address_of_the_family_there_is_none() {
    let mut snat = Snat::new(&[V6], 1024..=65_535, (0, 0), |_, _, _| true);
    assert_eq!(snat.allocate(Protocol::Tcp, endpoint(1), Instant::ZERO), None);
    assert!(snat.allocate(Protocol::Tcp, endpoint(4), Instant::ZERO).is_some_and(|b| b.addr == V6));
    let mut none = Snat::new(&[], 1024..=65_535, (0, 0), |_, _, _| true);
    assert_eq!(none.allocate(Protocol::Tcp, endpoint(1), Instant::ZERO), None);
    none.maintain(Instant::ZERO);
}

/// The figure of `docs/modes.md`: connections a second towards one endpoint's address, at an even pace, that come to an end at once.
#[test]
fn one_address_has_ports_for_358_new_connections_a_second_for_ever() {
    // Of an hour, from the first refusal on: none.
    let refused = |rate: u64| {
        let mut snat = Snat::new(&[V4[0]], 1024..=65_535, (1, 2), |_, _, _| true);
        let mut refused = 0;
        for n in 0..3600 * rate {
            let now = Instant(n * (1_000_000_000 / rate));
            match snat.allocate(Protocol::Tcp, endpoint(1), now) {
                Some(binding) => snat.release(Protocol::Tcp, endpoint(1), binding, Rest::TimeWait, now),
                None => refused += 1,
            }
        }
        refused
    };
    assert_eq!(refused(358), 0);
    assert!(refused(359) > 0, "64 512 ports, 180 seconds");
    // UDP's ports do not rest.
    let mut snat = Snat::new(&[V4[0]], 1024..=1024, (1, 2), |_, _, _| true);
    for _ in 0..1000 {
        let binding = snat.allocate(Protocol::Udp, endpoint(1), Instant::ZERO).expect("a port");
        snat.release(Protocol::Udp, endpoint(1), binding, Rest::None, Instant::ZERO);
    }
}
