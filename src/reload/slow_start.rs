//! Slow start: a new or recovered endpoint's share grows to its weight, in steps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::addr::Addr;
use crate::config::{Config, EndpointState, Finder, Service};
use crate::tables::Conditions;

/// Steps up to the whole weight: each is a table compiled anew, and published.
const STEPS: u32 = 10;

/// A service's name, an endpoint's address and port.
type Key = (String, Addr, u16);

/// The endpoints of a new service come up one after the other, as their first probes are answered: none of them later than others.
const FIRST_PROBES: Duration = Duration::from_secs(5);

/// The endpoints that are on their way up.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    rising: HashMap<Key, Rise>,
    /// Services that have just come, and when.
    new: HashMap<String, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Rise {
    since: Instant,
    over: Duration,
}

impl Rise {
    fn percent(&self, now: Instant) -> u8 {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        let steps = (passed / self.over.as_secs_f64() * f64::from(STEPS)).floor() + 1.0;
        (steps.min(f64::from(STEPS)) * 100.0 / f64::from(STEPS)) as u8
    }
}

impl SlowStart {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.rising.is_empty()
    }

    /// Between two states of the world: who takes connections now and did not before begins below. Nobody does in a service that
    /// is new or had nobody: there is no one to take the rest.
    pub fn begin(&mut self, old: (&Config, &Conditions), new: (&Config, &Conditions), now: Instant) {
        self.new.retain(|_, since| now.saturating_duration_since(*since) < FIRST_PROBES);
        let before = Finder::new(old.0);
        for (place, service) in new.0.services.iter().enumerate().filter(|(_, s)| !s.slow_start.is_zero()) {
            if old.1.same(new.1, &service.name) && before.same(place, service).is_some() {
                continue;
            }
            let Some(known) = before.find(place, &service.name) else {
                self.new.insert(service.name.clone(), now);
                continue;
            };
            if self.new.contains_key(&service.name) {
                continue;
            }
            let took = |addr: Addr, port: u16| {
                known.endpoints.iter().any(|e| (e.address, e.port) == (addr, port) && takes(old.1, known, e))
            };
            if !service.endpoints.iter().any(|e| takes(new.1, service, e) && took(e.address, e.port)) {
                continue;
            }
            for e in service.endpoints.iter().filter(|e| takes(new.1, service, e)) {
                if !took(e.address, e.port) {
                    let rise = Rise { since: now, over: service.slow_start };
                    self.rising.insert((service.name.clone(), e.address, e.port), rise);
                }
            }
        }
    }

    /// Writes everybody's share as of `now`, and forgets who has arrived or is no longer on the way.
    pub fn step(&mut self, config: &Config, conditions: &mut Conditions, now: Instant) {
        if self.rising.is_empty() {
            return;
        }
        let services: HashMap<&str, &Service> =
            config.services.iter().map(|service| (service.name.as_str(), &**service)).collect();
        self.rising.retain(|(name, addr, port), rise| {
            let service = services.get(name.as_str()).filter(|service| !service.slow_start.is_zero());
            let endpoint = service.and_then(|service| {
                let found = service.endpoints.iter().find(|e| (e.address, e.port) == (*addr, *port))?;
                takes(conditions, service, found).then_some(())
            });
            let percent = endpoint.map_or(100, |()| rise.percent(now));
            let mut condition = conditions.of(name, (*addr, *port));
            condition.percent = percent;
            conditions.set(name, (*addr, *port), condition);
            percent < 100
        });
    }
}

fn takes(conditions: &Conditions, service: &Service, endpoint: &crate::config::Endpoint) -> bool {
    let condition = conditions.of(&service.name, (endpoint.address, endpoint.port));
    condition.on(endpoint.state) == EndpointState::Up && endpoint.weight > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::tables::Condition;

    fn config_of(services: &str) -> Config {
        let port = "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.1.0.1/24\"]\n";
        config::parse("t", &format!("{port}{services}")).unwrap().0
    }

    fn config(endpoints: &[u8]) -> Config {
        let mut text =
            "[[service]]\nname = \"web\"\nvip = \"203.0.113.1:80\"\nslow_start = \"10s\"\n".to_owned();
        for n in endpoints {
            text += &format!("[[service.endpoint]]\naddress = \"10.1.0.{n}:80\"\n");
        }
        config_of(&text)
    }

    fn key(n: u8) -> (Addr, u16) {
        (Addr::v4([10, 1, 0, n]), 80)
    }

    #[test]
    fn a_new_endpoint_rises_in_ten_steps_and_its_neighbours_do_not() {
        let (one, two) = (config(&[10]), config(&[10, 11]));
        let start = Instant::now();
        let mut slow = SlowStart::default();
        let mut conditions = Conditions::default();
        slow.begin((&one, &conditions), (&two, &conditions), start);
        let mut seen = Vec::new();
        for tenth in 0..120_u32 {
            slow.step(&two, &mut conditions, start + Duration::from_millis(100) * tenth);
            let percent = conditions.of("web", key(11)).percent;
            if seen.last() != Some(&percent) {
                seen.push(percent);
            }
            assert_eq!(conditions.of("web", key(10)).percent, 100);
        }
        assert_eq!(seen, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert!(slow.is_empty() && conditions == Conditions::default());
    }

    #[test]
    fn one_that_comes_back_from_a_drain_rises_again_and_one_drained_on_its_way_stops() {
        let config = config(&[10, 11]);
        let start = Instant::now();
        let mut slow = SlowStart::default();
        let mut drained = Conditions::default();
        drained.set("web", key(11), Condition { drained: true, ..Condition::default() });
        let mut conditions = Conditions::default();
        slow.begin((&config, &drained), (&config, &conditions), start);
        slow.step(&config, &mut conditions, start);
        assert_eq!(conditions.of("web", key(11)).percent, 10);
        conditions.set("web", key(11), Condition { drained: true, ..conditions.of("web", key(11)) });
        slow.step(&config, &mut conditions, start);
        assert!(slow.is_empty());
        assert_eq!(conditions, drained);
    }

    #[test]
    fn nobody_starts_slowly_where_nobody_else_takes_the_rest() {
        let none = Conditions::default();
        for old in [config(&[]), config(&[12])] {
            let mut slow = SlowStart::default();
            slow.begin((&old, &none), (&config(&[10, 11]), &none), Instant::now());
            assert!(slow.is_empty());
        }
    }

    #[test]
    fn the_first_probes_of_a_new_service_make_nobody_late() {
        let (none, all) = (config_of(""), config(&[10, 11, 12]));
        let start = Instant::now();
        let mut slow = SlowStart::default();
        let down = Condition { down: true, ..Condition::default() };
        let with = |of: &[u8]| {
            let mut conditions = Conditions::default();
            of.iter().for_each(|n| conditions.set("web", key(*n), down));
            conditions
        };
        let at = |n: u64| start + Duration::from_secs(n);
        slow.begin((&none, &with(&[])), (&all, &with(&[10, 11, 12])), start);
        slow.begin((&all, &with(&[10, 11, 12])), (&all, &with(&[11, 12])), at(1));
        slow.begin((&all, &with(&[11, 12])), (&all, &with(&[12])), at(2));
        assert!(slow.is_empty(), "neither the first nor the second");
        // One whose first probe was not answered for so long is late.
        let mut conditions = with(&[]);
        slow.begin((&all, &with(&[12])), (&all, &conditions), at(6));
        slow.step(&all, &mut conditions, at(6));
        assert_eq!([11, 12].map(|n| conditions.of("web", key(n)).percent), [100, 10]);
    }
}
