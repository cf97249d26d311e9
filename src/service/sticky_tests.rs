use std::time::Duration;

use super::*;
use crate::config::{Algorithm, EndpointState};
use crate::service::tests::{asker, service};
use crate::tables::Slots;

const CLIENT: Addr = Addr::v4([198, 51, 100, 7]);

/// Three endpoints in these states, persistence of a minute; the same slots as all others of the test.
fn compiled(slots: &mut Slots, states: [EndpointState; 3]) -> Service {
    let mut config = service(Algorithm::RoundRobin, &states.map(|state| (1, state)));
    config.persistence = Duration::from_secs(60);
    Service::compile(&config, 1, slots)
}

fn choose(sticky: &mut Sticky, service: &Service, client: Addr, second: u64) -> u32 {
    let now = Instant(second * 1_000_000_000);
    sticky.choose(service, client, now, || service.pick(&asker(client, 1))).unwrap().id.0
}

#[test]
fn a_client_keeps_its_endpoint_until_its_time_is_over() {
    use EndpointState::Up;
    let service = compiled(&mut Slots::default(), [Up; 3]);
    let mut sticky = Sticky::new(64, (1, 2));
    let first = choose(&mut sticky, &service, CLIENT, 0);
    for second in [1, 59, 118, 177] {
        assert_eq!(choose(&mut sticky, &service, CLIENT, second), first, "each new connection prolongs it");
    }
    let other = Addr(CLIENT.0 + 1);
    assert_ne!(choose(&mut sticky, &service, other, 177), first, "others go round");
    assert_ne!(choose(&mut sticky, &service, CLIENT, 177 + 60), first, "a minute later it is a new one");
}

#[test]
fn a_flap_does_not_part_them() {
    use EndpointState::{Down, Drain, Up};
    let mut slots = Slots::default();
    let all = compiled(&mut slots, [Up; 3]);
    for state in [Down, Drain] {
        let without = compiled(&mut slots, [state, Up, Up]);
        let mut sticky = Sticky::new(64, (1, 2));
        let mut clients = (0..30).map(|n| Addr(CLIENT.0 + n));
        let mine = clients.find(|&client| choose(&mut sticky, &all, client, 0) == 0).unwrap();
        let stand_in = choose(&mut sticky, &without, mine, 10);
        assert_ne!(stand_in, 0);
        assert_eq!(choose(&mut sticky, &without, mine, 20), stand_in, "it sticks to that as well");
        assert_eq!(choose(&mut sticky, &all, mine, 30), 0, "it is back");
        // Gone for longer than the client keeps it.
        for second in [70, 95, 140] {
            assert_eq!(choose(&mut sticky, &without, mine, second), stand_in);
        }
        assert_eq!(choose(&mut sticky, &all, mine, 141), stand_in, "by now that is its endpoint");
    }
}

#[test]
fn services_and_families_are_apart() {
    use EndpointState::Up;
    let mut slots = Slots::default();
    let a = compiled(&mut slots, [Up; 3]);
    let mut config = service(Algorithm::RoundRobin, &[(1, Up); 3]);
    (config.first_port, config.last_port, config.persistence) = (81, 81, Duration::from_secs(60));
    let b = Service::compile(&config, 1, &mut slots);
    let mut sticky = Sticky::new(64, (1, 2));
    let v6 = Addr(0x2001_0db8 << 96 | 7);
    for (service, client) in [(&a, CLIENT), (&b, CLIENT), (&a, v6)] {
        let first = choose(&mut sticky, service, client, 0);
        assert!(service.endpoint(EndpointId(first)).is_some());
        assert_eq!(choose(&mut sticky, service, client, 1), first);
    }
}

#[test]
fn a_refused_client_takes_no_place() {
    let service = compiled(&mut Slots::default(), [EndpointState::Up; 3]);
    let mut sticky = Sticky::new(16, (1, 2));
    for n in 0..1000 {
        assert_eq!(sticky.choose(&service, Addr(CLIENT.0 + n), Instant(0), || None), None);
    }
    assert!(sticky.buckets.iter().flatten().all(|entry| entry.service == 0));
}

#[test]
fn what_is_full_forgets_those_whose_time_ends_first() {
    let service = compiled(&mut Slots::default(), [EndpointState::Up; 3]);
    let mut sticky = Sticky::new(1024, (1, 2));
    let mut first = Vec::new();
    for n in 0..768u128 {
        first.push(choose(&mut sticky, &service, Addr(CLIENT.0 + n), 0));
    }
    let kept = (0..768u128).zip(&first).filter(|&(n, id)| {
        sticky.choose(&service, Addr(CLIENT.0 + n), Instant(1), || None).is_some_and(|e| e.id.0 == *id)
    });
    assert!(kept.count() > 760, "at three quarters hardly any is lost");
    // A flood of others later: those that came back in between stay longest.
    for n in 0..8u128 {
        choose(&mut sticky, &service, Addr(CLIENT.0 + n), 40);
    }
    for n in 1000..1800u128 {
        choose(&mut sticky, &service, Addr(CLIENT.0 + n), 30);
    }
    for n in 0..8u128 {
        let found = sticky.choose(&service, Addr(CLIENT.0 + n), Instant(41_000_000_000), || None);
        assert_eq!(found.map(|e| e.id.0), Some(first[n as usize]));
    }
    assert_eq!(sticky.buckets.len() * WAYS, 1024, "and it has not grown");
}
