//! Which services stay as they are.

use std::collections::HashMap;

use super::Sources;
use crate::config::{Config, Service};

/// Of each service of a configuration, where the one before has the same.
#[derive(Clone, Debug)]
pub struct Changes {
    /// By place in the new one, the place in the old one.
    kept: Vec<Option<u32>>,
}

impl Changes {
    /// From one configuration under its conditions to the next.
    #[must_use]
    pub fn between(old: &Sources<'_>, new: &Sources<'_>) -> Self {
        let unchanged = std::ptr::eq(old.config, new.config);
        let finder = (!unchanged).then(|| Finder::new(old.config));
        let kept = new.config.services.iter().enumerate().map(|(place, service)| {
            let found = match &finder {
                None => place,
                Some(finder) => finder.find(place, service)?,
            };
            old.conditions.same(new.conditions, &service.name).then_some(found as u32)
        });
        Self { kept: kept.collect() }
    }

    /// The old place of the service at this new place, where it stays as it is.
    pub(super) fn kept(&self, place: usize) -> Option<usize> {
        self.kept.get(place).copied().flatten().map(|old| old as usize)
    }

    /// The services of the new configuration that the old one has not, or otherwise.
    pub fn changed<'c>(&self, new: &'c Config) -> impl Iterator<Item = &'c Service> {
        new.services.iter().zip(&self.kept).filter(|(_, kept)| kept.is_none()).map(|(service, _)| service)
    }
}

/// Finds services by name, first where they would be if nothing had moved.
struct Finder<'a> {
    old: &'a Config,
    places: HashMap<&'a str, usize>,
}

impl<'a> Finder<'a> {
    fn new(old: &'a Config) -> Self {
        let named = old.services.iter().enumerate();
        Self { old, places: named.map(|(place, service)| (service.name.as_str(), place)).collect() }
    }

    /// The place of the same service.
    fn find(&self, place: usize, service: &Service) -> Option<usize> {
        let at = |place: usize| self.old.services.get(place).filter(|old| old.name == service.name);
        let place = if at(place).is_some() { place } else { *self.places.get(service.name.as_str())? };
        (at(place)? == service).then_some(place)
    }
}
