//! What two configurations have in common.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Config, Service};

impl Config {
    /// Has the memory of another configuration where that says the same of a service's endpoints: then that need not be found out
    /// again, and is in memory once.
    pub fn share(&mut self, old: &Self) {
        let finder = Finder::new(old);
        for (place, service) in self.services.iter_mut().enumerate() {
            if let Some(old) = finder.named(place, &service.name)
                && old.endpoints == service.endpoints
            {
                service.endpoints = Arc::clone(&old.endpoints);
            }
        }
    }
}

/// Finds services by name, first where they would be if nothing had moved.
pub(crate) struct Finder<'a> {
    config: &'a Config,
    places: HashMap<&'a str, usize>,
}

impl<'a> Finder<'a> {
    pub fn new(config: &'a Config) -> Self {
        let named = config.services.iter().enumerate();
        Self { config, places: named.map(|(place, service)| (service.name.as_str(), place)).collect() }
    }

    /// The place of the service with this name.
    pub fn place(&self, place: usize, name: &str) -> Option<usize> {
        let is_there = self.config.services.get(place).is_some_and(|service| service.name == name);
        if is_there { Some(place) } else { self.places.get(name).copied() }
    }

    fn named(&self, place: usize, name: &str) -> Option<&'a Service> {
        self.config.services.get(self.place(place, name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: &[(&str, u32)]) -> Config {
        let mut text =
            "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/8\"]\n".to_owned();
        for (n, (name, weight)) in (1..).zip(services) {
            text += &format!(
                "[[service]]\nname = \"{name}\"\nvip = \"203.0.113.{n}:80\"\n[[service.endpoint]]\n\
                 address = \"10.0.0.2:80\"\nweight = {weight}\n"
            );
        }
        crate::config::parse("t", &text).unwrap().0
    }

    #[test]
    fn what_is_the_same_is_shared_wherever_it_stands() {
        let old = config(&[("a", 1), ("b", 2), ("c", 3)]);
        let mut new = config(&[("c", 3), ("b", 9), ("a", 1), ("d", 1)]);
        let read = new.clone();
        new.share(&old);
        let shared = |n: usize, o: usize| Arc::ptr_eq(&new.services[n].endpoints, &old.services[o].endpoints);
        assert!(shared(0, 2) && shared(2, 0) && !shared(1, 1) && !shared(3, 0));
        assert_eq!(new, read);
    }
}
