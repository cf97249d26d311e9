//! What holds for endpoints at run time, besides what the configuration says of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::addr::Addr;
use crate::config::{EndpointState, Service};

/// What every weight is multiplied with in a service that has an endpoint with a part of its share, so that parts are whole
/// numbers.
const WHOLE: u32 = 100;

/// An endpoint's run-time state. The strictest of all that is said of it holds: it takes new connections only if the file has it
/// up, nobody has drained it, and no probe calls it down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Drained at run time.
    pub drained: bool,
    /// Called down at run time.
    pub down: bool,
    /// The part of its weight that counts, in percent: below 100 while it starts slowly.
    pub percent: u8,
}

impl Default for Condition {
    fn default() -> Self {
        Self { drained: false, down: false, percent: 100 }
    }
}

impl Condition {
    /// The state that comes of it and of the file's.
    #[must_use]
    pub fn on(&self, configured: EndpointState) -> EndpointState {
        match configured {
            EndpointState::Down => EndpointState::Down,
            _ if self.down => EndpointState::Down,
            EndpointState::Drain => EndpointState::Drain,
            EndpointState::Up if self.drained => EndpointState::Drain,
            EndpointState::Up => EndpointState::Up,
        }
    }
}

/// The conditions of all endpoints that have any, by the service's name and the endpoint's address and port.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Conditions(HashMap<String, HashMap<(Addr, u16), Condition>>);

impl Conditions {
    /// An endpoint's.
    #[must_use]
    pub fn of(&self, service: &str, endpoint: (Addr, u16)) -> Condition {
        self.0.get(service).and_then(|all| all.get(&endpoint)).copied().unwrap_or_default()
    }

    /// Whether any endpoint of a service has one that is not the default.
    #[must_use]
    pub fn has(&self, service: &str) -> bool {
        self.0.contains_key(service)
    }

    /// Changes an endpoint's.
    pub fn set(&mut self, service: &str, endpoint: (Addr, u16), condition: Condition) {
        let all = self.0.entry(service.to_owned()).or_default();
        if condition == Condition::default() {
            all.remove(&endpoint);
            if all.is_empty() {
                self.0.remove(service);
            }
        } else {
            all.insert(endpoint, condition);
        }
    }

    /// All that are not the default.
    pub fn iter(&self) -> impl Iterator<Item = (&str, (Addr, u16), Condition)> {
        self.0.iter().flat_map(|(service, all)| all.iter().map(move |(e, c)| (service.as_str(), *e, *c)))
    }

    /// Whether a service has the same ones in `other`.
    #[must_use]
    pub fn same(&self, other: &Self, service: &str) -> bool {
        (self.0.is_empty() && other.0.is_empty()) || self.0.get(service) == other.0.get(service)
    }

    /// Forgets those of endpoints that are not configured.
    pub fn retain(&mut self, services: &[Arc<Service>]) {
        if self.0.is_empty() {
            return;
        }
        let mut kept = Self::default();
        for service in services.iter().filter(|service| self.0.contains_key(&service.name)) {
            for endpoint in &service.endpoints {
                let key = (endpoint.address, endpoint.port);
                kept.set(&service.name, key, self.of(&service.name, key));
            }
        }
        *self = kept;
    }

    /// The service as it is under these conditions, where that is not as it is configured.
    pub(super) fn applied_to(&self, service: &Service) -> Option<Service> {
        let conditions = self.0.get(&service.name)?;
        let mut service = service.clone();
        let starting = conditions.values().any(|condition| condition.percent < 100);
        for endpoint in &mut service.endpoints {
            let condition = conditions.get(&(endpoint.address, endpoint.port)).copied().unwrap_or_default();
            endpoint.state = condition.on(endpoint.state);
            if starting {
                let percent = u32::from(condition.percent.clamp(1, 100));
                endpoint.weight = endpoint.weight.saturating_mul(WHOLE) / 100 * percent;
            }
        }
        Some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Algorithm;
    use crate::service::tests::service;

    #[test]
    fn the_strictest_holds() {
        use EndpointState::{Down, Drain, Up};
        let drained = Condition { drained: true, ..Condition::default() };
        let down = Condition { down: true, ..Condition::default() };
        for (condition, configured, comes) in [
            (Condition::default(), Up, Up),
            (Condition::default(), Drain, Drain),
            (Condition::default(), Down, Down),
            (drained, Up, Drain),
            (drained, Drain, Drain),
            (drained, Down, Down),
            (down, Up, Down),
            (down, Drain, Down),
            (Condition { drained: true, ..down }, Up, Down),
        ] {
            assert_eq!(condition.on(configured), comes, "{condition:?} on {configured:?}");
        }
    }

    #[test]
    fn a_part_of_a_weight_leaves_the_others_in_proportion() {
        let config = service(Algorithm::RoundRobin, &[(1, EndpointState::Up), (3, EndpointState::Up)]);
        let mut conditions = Conditions::default();
        assert_eq!(conditions.applied_to(&config), None);
        let key = (config.endpoints[1].address, config.endpoints[1].port);
        conditions.set("web", key, Condition { percent: 10, ..Condition::default() });
        let applied = conditions.applied_to(&config).unwrap();
        assert_eq!(applied.endpoints.iter().map(|e| e.weight).collect::<Vec<_>>(), [100, 30]);
        conditions.retain(&[]);
        assert_eq!(conditions, Conditions::default());
        conditions.set("web", key, Condition::default());
        assert_eq!(conditions.iter().count(), 0);
    }
}
