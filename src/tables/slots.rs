//! The registry of stable ids.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use thiserror::Error;

use super::population::Population;
use crate::addr::Addr;
use crate::config::{self, Config, Loss, Protocol};
use crate::conntrack::OwnAddresses;
use crate::ids::{EndpointId, RuleId, ServiceId, SourceId};
use crate::service::{Cursor, Service};

/// A removed endpoint's slot is not another's before this time, whatever else: packets of its last connections have left by then,
/// and their counts are folded.
const QUARANTINE: Duration = Duration::from_secs(60);

/// Gives out slots: the same thing has the same slot in every configuration of this process's life.
///
/// The same thing is
/// - a service with the same name, VIP, ports and protocol: one that is renamed or bound elsewhere is another, since its
///   series has another label then;
/// - an endpoint with the same address and port in the same service;
/// - a firewall rule with the same name.
///
/// Everything else about them (algorithm, weight, state, action…) may change and the slot stays. What is removed keeps its slot
/// and finds it again if it comes back. A removed endpoint's slot is given to another one when nothing refers to it any more
/// ([`Slots::release`]); those of services and rules never are. There are at most `Capacity::LIMIT` of each kind; a
/// configuration beyond that is found out by [`Slots::fits`] before it is compiled.
#[derive(Clone, Debug)]
pub struct Slots {
    services: HashMap<ServiceKey, ServiceId>,
    endpoints: HashMap<EndpointKey, EndpointId>,
    rules: HashMap<String, RuleId>,
    /// Never forgotten: connections name them. By slot, from 1 on.
    own: Vec<Addr>,
    /// By service slot: where round-robin stands, so that a reload goes on and does not begin with the first endpoint.
    cursors: Vec<Arc<Cursor>>,
    /// Endpoint slots that were ever given out, and those of them that wait for another endpoint.
    given: u32,
    free: Vec<EndpointId>,
    /// What the last configuration has.
    live: HashMap<ServiceId, Live>,
    /// What it has not any more.
    gone: HashMap<EndpointId, Gone>,
    limit: Capacity,
    /// Counts calls of [`Slots::settle`].
    pass: u64,
    generation: u64,
    firewall: Vec<config::Rule>,
    firewall_epoch: u32,
    resets: Arc<HashSet<EndpointId>>,
    resets_version: u64,
    population: Population,
}

type ServiceKey = (String, Addr, u16, u16, Protocol);
type EndpointKey = (ServiceId, Addr, u16);

/// Services that there are slots for; connections keep their number in so many bits.
pub(crate) const MAX_SERVICES: usize = 1 << 17;
/// Endpoints that there are slots for, likewise.
pub(crate) const MAX_ENDPOINTS: usize = 1 << 22;

/// How many slots of each kind there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Capacity {
    pub services: usize,
    pub endpoints: usize,
    pub rules: usize,
}

impl Capacity {
    /// The most that there will ever be.
    pub const LIMIT: Self = Self { services: MAX_SERVICES, endpoints: MAX_ENDPOINTS, rules: 1 << 16 };
}

/// A configured service.
#[derive(Clone, Debug)]
struct Live {
    vips: Vec<Addr>,
    compiled: Arc<Service>,
    on_endpoint_removed: Loss,
    /// The last pass in which it was there.
    pass: u64,
}

/// An endpoint that is not configured any more. Its connections may go on.
#[derive(Clone, Debug)]
struct Gone {
    key: EndpointKey,
    vips: Vec<Addr>,
    fate: Loss,
    since: Instant,
}

/// A configuration has more new things than there are slots left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "no slots left for {kind}: with this configuration there were {needed} different ones since the start, {capacity} are \
     possible; restart, or configure less"
)]
pub struct SlotsFull {
    /// `services`, `endpoints`, `firewall rules` or `SNAT and tunnel addresses`.
    pub kind: &'static str,
    /// How many different ones there were since the start, with those of the new configuration.
    pub needed: usize,
    /// How many there may be.
    pub capacity: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            services: HashMap::new(),
            endpoints: HashMap::new(),
            rules: HashMap::new(),
            own: Vec::new(),
            cursors: Vec::new(),
            given: 0,
            free: Vec::new(),
            live: HashMap::new(),
            gone: HashMap::new(),
            limit: Capacity::LIMIT,
            pass: 0,
            generation: 0,
            firewall: Vec::new(),
            firewall_epoch: 0,
            resets: Arc::default(),
            resets_version: 0,
            population: Population::default(),
        }
    }
}

impl Slots {
    /// Whether every new thing of `config` still finds a slot. To be asked before a changed configuration is compiled.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn fits(&self, config: &Config) -> Result<(), SlotsFull> {
        let fresh: HashSet<Addr> = config.sources().filter(|addr| !self.own.contains(addr)).collect();
        let (needed, capacity) = (self.own.len() + fresh.len(), usize::from(u8::MAX));
        if needed > capacity {
            return Err(SlotsFull { kind: "SNAT and tunnel addresses", needed, capacity });
        }
        self.have_room_for(config.services.iter().map(|service| &**service), &config.firewall)
    }

    /// The same of a part of a configuration: of what has changed.
    pub(crate) fn have_room_for<'a>(
        &self,
        services: impl IntoIterator<Item = &'a config::Service>,
        rules: &[config::Rule],
    ) -> Result<(), SlotsFull> {
        let (mut new_services, mut new_endpoints) = (0, 0);
        for service in services {
            match self.services.get(&key_of(service)) {
                None => {
                    new_services += 1;
                    new_endpoints += service.endpoints.len();
                }
                Some(&id) => {
                    let known =
                        |e: &&config::Endpoint| !self.endpoints.contains_key(&(id, e.address, e.port));
                    new_endpoints += service.endpoints.iter().filter(known).count();
                }
            }
        }
        let new_rules = rules.iter().filter(|rule| !self.rules.contains_key(&rule.name)).count();
        let fresh = new_endpoints.saturating_sub(self.free.len());
        for (kind, needed, capacity) in [
            ("services", self.services.len() + new_services, self.limit.services),
            ("endpoints", self.given as usize + fresh, self.limit.endpoints),
            ("firewall rules", self.rules.len() + new_rules, self.limit.rules),
        ] {
            if needed > capacity {
                return Err(SlotsFull { kind, needed, capacity });
            }
        }
        Ok(())
    }

    pub(crate) fn service(&mut self, service: &config::Service) -> ServiceId {
        let next = ServiceId(self.services.len() as u32);
        let id = *self.services.entry(key_of(service)).or_insert(next);
        if self.cursors.len() <= id.index() {
            self.cursors.push(Arc::default());
        }
        id
    }

    pub(crate) fn endpoint(&mut self, service: ServiceId, endpoint: &config::Endpoint) -> EndpointId {
        let (free, given) = (&mut self.free, &mut self.given);
        *self.endpoints.entry((service, endpoint.address, endpoint.port)).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                *given += 1;
                EndpointId(*given - 1)
            })
        })
    }

    pub(crate) fn rule(&mut self, name: &str) -> RuleId {
        if let Some(id) = self.rules.get(name) {
            return *id;
        }
        let id = RuleId(self.rules.len() as u32);
        self.rules.insert(name.to_owned(), id);
        id
    }

    /// The slot of an address that the engine sends from.
    pub(crate) fn source(&mut self, addr: Addr) -> SourceId {
        let known = self.own.iter().position(|own| *own == addr);
        let at = known.unwrap_or_else(|| {
            self.own.push(addr);
            self.own.len() - 1
        });
        // 0 is none; so is what is beyond the last, which `fits` keeps from happening.
        SourceId(u8::try_from(at + 1).unwrap_or(0))
    }

    /// All of them, those of earlier configurations, too.
    pub(super) fn own(&self) -> OwnAddresses {
        OwnAddresses::new(&self.own)
    }

    /// Where the round-robin of a service stands.
    pub(crate) fn cursor(&self, service: ServiceId) -> Arc<Cursor> {
        self.cursors.get(service.index()).cloned().unwrap_or_default()
    }

    /// The services of another configuration, with those that are as they were: what comes and what goes.
    pub(super) fn settle<'a>(
        &mut self,
        services: impl Iterator<Item = (&'a config::Service, &'a Arc<Service>, bool)>,
    ) {
        self.pass += 1;
        let (now, pass) = (Instant::now(), self.pass);
        let Self { live, gone, population, .. } = self;
        for (config, compiled, same) in services {
            if same && let Some(live) = live.get_mut(&compiled.id) {
                live.pass = pass;
                continue;
            }
            let before = live.remove(&compiled.id);
            population.replace(before.as_ref().map(|live| &*live.compiled), Some(compiled));
            if let Some(before) = before {
                let present: HashSet<EndpointId> = compiled.endpoints.iter().map(|e| e.id).collect();
                let lost = before.compiled.endpoints.iter().filter(|e| !present.contains(&e.id));
                gone.extend(lost.map(|e| {
                    let (key, fate) = ((compiled.id, e.addr, e.port), config.on_endpoint_removed);
                    (e.id, Gone { key, vips: config.vips().collect(), fate, since: now })
                }));
            }
            for endpoint in &compiled.endpoints {
                gone.remove(&endpoint.id);
            }
            let on_endpoint_removed = config.on_endpoint_removed;
            let vips = config.vips().collect();
            live.insert(
                compiled.id,
                Live { vips, compiled: Arc::clone(compiled), on_endpoint_removed, pass },
            );
        }
        live.retain(|_, service| {
            if service.pass == pass {
                return true;
            }
            let Live { compiled, vips, on_endpoint_removed: fate, .. } = service;
            population.replace(Some(compiled), None);
            for e in &compiled.endpoints {
                let key = (compiled.id, e.addr, e.port);
                gone.insert(e.id, Gone { key, vips: vips.clone(), fate: *fate, since: now });
            }
            false
        });
    }

    /// What all endpoints come to together.
    pub(super) const fn population(&self) -> &Population {
        &self.population
    }

    /// VIPs of services that are not configured any more, and whose connections may go on.
    pub(super) fn lingering(&self) -> impl Iterator<Item = Addr> {
        self.gone.values().flat_map(|gone| gone.vips.iter().copied())
    }

    /// Endpoints whose connections are to be reset, and a number that grows with each that joins them: those that are gone, and
    /// `down`, those that are configured.
    pub(super) fn resets(
        &mut self,
        down: impl Iterator<Item = EndpointId>,
    ) -> (Arc<HashSet<EndpointId>>, u64) {
        let gone = self.gone.iter().filter(|(_, gone)| gone.fate == Loss::Reset).map(|(id, _)| *id);
        let resets: HashSet<_> = gone.chain(down).collect();
        if resets != *self.resets {
            self.resets_version += u64::from(!resets.is_subset(&self.resets));
            self.resets = Arc::new(resets);
        }
        (Arc::clone(&self.resets), self.resets_version)
    }

    /// Gives up the slots of endpoints that were removed a while ago and are `quiet`: without connections, and every count of
    /// theirs folded. Says whether there was one.
    pub fn release(&mut self, now: Instant, mut quiet: impl FnMut(EndpointId) -> bool) -> bool {
        let before = self.gone.len();
        let Self { gone, endpoints, free, .. } = self;
        gone.retain(|&id, gone| {
            let keep = now.saturating_duration_since(gone.since) < QUARANTINE || !quiet(id);
            if !keep {
                endpoints.remove(&gone.key);
                free.push(id);
            }
            keep
        });
        before != self.gone.len()
    }

    /// Whether there are endpoints that are not configured any more and have their slots yet.
    pub(crate) fn is_draining(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Counts a configuration. What counts for nothing new are tables that differ from the last ones in run-time state alone.
    pub(super) fn next_generation(&mut self, firewall: &[config::Rule]) {
        self.generation += 1;
        if self.generation == 1 || self.firewall != firewall {
            self.firewall_epoch = self.firewall_epoch.wrapping_add(1);
            firewall.clone_into(&mut self.firewall);
        }
    }

    /// The generation and the firewall epoch.
    pub(super) fn generation(&self) -> (u64, u32) {
        (self.generation, self.firewall_epoch)
    }

    /// How many slots were given out.
    pub(super) fn used(&self) -> Capacity {
        Capacity { services: self.services.len(), endpoints: self.given as usize, rules: self.rules.len() }
    }

    #[cfg(test)]
    pub(super) fn with_limit(limit: Capacity) -> Self {
        Self { limit, ..Self::default() }
    }
}

fn key_of(service: &config::Service) -> ServiceKey {
    (service.name.clone(), service.vip, service.first_port, service.last_port, service.protocol)
}
