//! Slow start: a new or recovered endpoint's share grows to its weight, in steps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::addr::Addr;
use crate::config::{Config, EndpointState, Service};
use crate::tables::Conditions;

/// Steps up to the whole weight: each is a table compiled anew, and published.
const STEPS: u32 = 10;

/// A service's name, an endpoint's address and port.
type Key = (String, Addr, u16);

/// The endpoints that are on their way up.
#[derive(Debug, Default)]
pub(super) struct SlowStart(HashMap<Key, Rise>);

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
        self.0.is_empty()
    }

    /// Between two states of the world: who takes connections now and did not before begins below. Nobody does in a service that
    /// is new or had nobody: there is no one to take the rest.
    pub fn begin(&mut self, old: (&Config, &Conditions), new: (&Config, &Conditions), now: Instant) {
        let services = new.0.services.iter().filter(|service| !service.slow_start.is_zero());
        let before: HashMap<&str, &Service> =
            old.0.services.iter().map(|service| (service.name.as_str(), service)).collect();
        for service in services {
            let Some(known) = before.get(service.name.as_str()) else { continue };
            let took = |addr: Addr, port: u16| {
                known.endpoints.iter().any(|e| (e.address, e.port) == (addr, port) && takes(old.1, known, e))
            };
            if !service.endpoints.iter().any(|e| takes(new.1, service, e) && took(e.address, e.port)) {
                continue;
            }
            for e in service.endpoints.iter().filter(|e| takes(new.1, service, e)) {
                if !took(e.address, e.port) {
                    let rise = Rise { since: now, over: service.slow_start };
                    self.0.insert((service.name.clone(), e.address, e.port), rise);
                }
            }
        }
    }

    /// Writes everybody's share as of `now`, and forgets who has arrived or is no longer on the way.
    pub fn step(&mut self, config: &Config, conditions: &mut Conditions, now: Instant) {
        if self.0.is_empty() {
            return;
        }
        let services: HashMap<&str, &Service> =
            config.services.iter().map(|service| (service.name.as_str(), service)).collect();
        self.0.retain(|(name, addr, port), rise| {
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

    fn config(endpoints: &[u8]) -> Config {
        let mut text = "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.1.0.1/24\"]\n\
                        [[service]]\nname = \"web\"\nvip = \"203.0.113.1:80\"\nslow_start = \"10s\"\n"
            .to_owned();
        for n in endpoints {
            text += &format!("[[service.endpoint]]\naddress = \"10.1.0.{n}:80\"\n");
        }
        config::parse("t", &text).unwrap().0
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
}
