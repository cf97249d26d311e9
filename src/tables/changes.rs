//! Which services stay as they are.

use super::Sources;
use crate::config::{Config, Finder, Service};

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
        let finder = Finder::new(old.config);
        let kept = new.config.services.iter().enumerate().map(|(place, service)| {
            let found = finder.same(place, service)?;
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
        new.services.iter().zip(&self.kept).filter(|(_, kept)| kept.is_none()).map(|(service, _)| &**service)
    }
}
