//! The registry of stable ids.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use thiserror::Error;

use crate::addr::Addr;
use crate::config::{self, Config, Protocol};
use crate::conntrack::Sources;
use crate::ids::{EndpointId, RuleId, ServiceId, SourceId};
use crate::service::Cursor;

/// Gives out slots: the same thing has the same slot in every configuration of this process's life.
///
/// The same thing is
/// - a service with the same name, VIP, ports and protocol: one that is renamed or bound elsewhere is another, since its
///   series has another label then;
/// - an endpoint with the same address and port in the same service;
/// - a firewall rule with the same name.
///
/// Everything else about them (algorithm, weight, state, action…) may change and the slot stays. A slot is never given to
/// another thing: connections and counts of a removed one may still refer to it, and if it comes back it finds its slot
/// again. Counters have room for twice as many slots as the first configuration needs, and 256 more, of each kind; a
/// configuration beyond that is found out by [`Slots::fits`] before it is compiled, and needs a restart.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    services: Registry<ServiceKey>,
    endpoints: Registry<(ServiceId, Addr, u16)>,
    rules: Registry<String>,
    sources: Registry<Addr>,
    /// By service slot: where round-robin stands, so that a reload goes on and does not begin with the first endpoint.
    cursors: Vec<Arc<Cursor>>,
    capacity: Option<Capacity>,
    generation: u64,
    firewall: Vec<config::Rule>,
    firewall_epoch: u32,
}

type ServiceKey = (String, Addr, u16, u16, Protocol);

/// How many slots of each kind there will ever be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Capacity {
    pub services: usize,
    pub endpoints: usize,
    pub rules: usize,
}

/// A configuration has more new things than there are slots left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "no slots left for {kind}: {needed} were configured since the start, counters have room for {capacity}; restart"
)]
pub struct SlotsFull {
    /// `services`, `endpoints` or `firewall rules`.
    pub kind: &'static str,
    /// How many different ones there were since the start, with those of the new configuration.
    pub needed: usize,
    /// How many there may be.
    pub capacity: usize,
}

/// Numbers keys in the order in which they are first seen.
#[derive(Clone, Debug)]
struct Registry<K>(HashMap<K, u32>);

impl<K> Default for Registry<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Registry<K> {
    fn slot(&mut self, key: K) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(key).or_insert(next)
    }
}

impl Slots {
    /// Whether every new thing of `config` still finds a slot. To be asked before a changed configuration is compiled.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn fits(&self, config: &Config) -> Result<(), SlotsFull> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let mut trial = self.clone();
        for service in &config.services {
            let id = trial.service(service);
            for endpoint in &service.endpoints {
                trial.endpoint(id, endpoint);
            }
        }
        for rule in &config.firewall {
            trial.rule(&rule.name);
        }
        for addr in config.sources() {
            trial.source(addr);
        }
        let (needed, capacity_sources) = (trial.sources.0.len(), usize::from(u8::MAX));
        if needed > capacity_sources {
            return Err(SlotsFull { kind: "source addresses", needed, capacity: capacity_sources });
        }
        let (needed, kinds) = (trial.used(), ["services", "endpoints", "firewall rules"]);
        let needed = [needed.services, needed.endpoints, needed.rules];
        let capacity = [capacity.services, capacity.endpoints, capacity.rules];
        for ((kind, needed), capacity) in kinds.into_iter().zip(needed).zip(capacity) {
            if needed > capacity {
                return Err(SlotsFull { kind, needed, capacity });
            }
        }
        Ok(())
    }

    pub(crate) fn service(&mut self, service: &config::Service) -> ServiceId {
        let key =
            (service.name.clone(), service.vip, service.first_port, service.last_port, service.protocol);
        let id = ServiceId(self.services.slot(key));
        if self.cursors.len() <= id.index() {
            self.cursors.push(Arc::default());
        }
        id
    }

    pub(crate) fn endpoint(&mut self, service: ServiceId, endpoint: &config::Endpoint) -> EndpointId {
        EndpointId(self.endpoints.slot((service, endpoint.address, endpoint.port)))
    }

    pub(crate) fn rule(&mut self, name: &str) -> RuleId {
        RuleId(self.rules.slot(name.to_owned()))
    }

    /// The slot of an address that the engine sends from.
    pub(crate) fn source(&mut self, addr: Addr) -> SourceId {
        // 0 is none; beyond the last there is none either, which `fits` keeps from happening.
        SourceId(u8::try_from(self.sources.slot(addr) + 1).unwrap_or(0))
    }

    /// All of them, those of earlier configurations, too.
    pub(super) fn sources(&self) -> Sources {
        Sources::new(self.sources.0.iter().map(|(addr, n)| (*addr, *n as usize + 1)))
    }

    /// Where the round-robin of a service stands.
    pub(crate) fn cursor(&self, service: ServiceId) -> Arc<Cursor> {
        self.cursors.get(service.index()).cloned().unwrap_or_default()
    }

    /// Counts a configuration, and says which generation and which firewall epoch it is.
    pub(super) fn next_generation(&mut self, firewall: &[config::Rule]) -> (u64, u32) {
        self.generation += 1;
        if self.generation == 1 || self.firewall != firewall {
            self.firewall_epoch = self.firewall_epoch.wrapping_add(1);
            firewall.clone_into(&mut self.firewall);
        }
        (self.generation, self.firewall_epoch)
    }

    /// How many slots there will ever be; settled by the first configuration.
    pub(super) fn capacity(&mut self) -> Capacity {
        let used = self.used();
        *self.capacity.get_or_insert_with(|| {
            let room = |n: usize| 2 * n + 256;
            Capacity {
                services: room(used.services),
                endpoints: room(used.endpoints),
                rules: room(used.rules),
            }
        })
    }

    fn used(&self) -> Capacity {
        Capacity {
            services: self.services.0.len(),
            endpoints: self.endpoints.0.len(),
            rules: self.rules.0.len(),
        }
    }
}
