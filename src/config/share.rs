//! What a configuration has in common with the one before.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Config, Service};

/// Finds the services of a configuration, first where they would be if nothing had moved.
pub(crate) struct Finder<'a> {
    services: &'a [Arc<Service>],
    /// By name. Made when something has moved.
    places: OnceCell<HashMap<&'a str, usize>>,
}

impl<'a> Finder<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self { services: &config.services, places: OnceCell::new() }
    }

    /// The place of the service that is this one in all respects. `place` is its own in another configuration.
    pub fn same(&self, place: usize, service: &Arc<Service>) -> Option<usize> {
        if self.services.get(place).is_some_and(|old| Arc::ptr_eq(old, service)) {
            return Some(place);
        }
        self.named(place, &service.name).filter(|found| self.services[*found] == *service)
    }

    /// The old object of a service, where it is the same in all respects.
    pub(super) fn share(&self, place: usize, service: Arc<Service>) -> Arc<Service> {
        self.same(place, &service).map_or(service, |found| Arc::clone(&self.services[found]))
    }

    /// The service of this name.
    pub fn find(&self, place: usize, name: &str) -> Option<&'a Service> {
        self.named(place, name).map(|found| &*self.services[found])
    }

    fn named(&self, place: usize, name: &str) -> Option<usize> {
        if self.services.get(place).is_some_and(|service| service.name == name) {
            return Some(place);
        }
        let places =
            || self.services.iter().zip(0..).map(|(service, at)| (service.name.as_str(), at)).collect();
        self.places.get_or_init(places).get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_after;

    fn config(before: Option<&Config>, services: &[(&str, u32)]) -> Config {
        let mut text =
            "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/8\"]\n".to_owned();
        for (name, weight) in services {
            text += &format!(
                "[[service]]\nname = \"{name}\"\nvip = \"203.0.113.{}:80\"\n[[service.endpoint]]\n\
                 address = \"10.0.0.2:80\"\nweight = {weight}\n",
                name.as_bytes()[0]
            );
        }
        parse_after("t", &text, before, |_| ((), Vec::new())).unwrap().0
    }

    #[test]
    fn what_is_the_same_is_shared_wherever_it_stands() {
        let old = config(None, &[("a", 1), ("b", 2), ("c", 3)]);
        let services = [("c", 3), ("b", 9), ("a", 1), ("d", 1)];
        let new = config(Some(&old), &services);
        let shared = |n: usize, o: usize| Arc::ptr_eq(&new.services[n], &old.services[o]);
        assert!(shared(0, 2) && shared(2, 0) && !shared(1, 1));
        assert_eq!(new, config(None, &services), "as if read alone");
    }
}
