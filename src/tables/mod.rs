//! The configuration compiled: immutable, what the workers look things up in.

mod conditions;
mod names;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashSet;

pub use conditions::{Condition, Conditions};
pub use names::{EndpointName, Health, Names, ServiceName};
pub(crate) use slots::{MAX_ENDPOINTS, MAX_SERVICES};
pub use slots::{Slots, SlotsFull};

use self::slots::Capacity;
use crate::addr::{Addr, Mac, Prefix};
use crate::config::{self, Config, EndpointState, Loss, OnUnknown, Role, Snat, Transit};
use crate::conntrack::OwnAddresses;
use crate::counters::Sizes;
use crate::firewall::Firewall;
use crate::ids::{EndpointId, PortId};
use crate::route::{Learned, Routes};
use crate::service::{Service, Services, Sieve};

/// All tables of one configuration.
#[derive(Clone, Debug)]
pub struct Tables {
    /// By [`PortId`].
    pub ports: Box<[Port]>,
    /// Services by VIP, port and protocol.
    pub services: Arc<Services>,
    /// The rules.
    pub firewall: Firewall,
    /// Where destinations are. Other routes are another object: connections look their next hops up again.
    pub routes: Arc<Routes>,
    /// Static neighbours.
    pub neighbors: Box<[(PortId, Addr, Mac)]>,
    /// What becomes of mid-stream packets of no known connection.
    pub on_unknown: OnUnknown,
    /// What becomes of packets that are of no service and no local address.
    pub transit: Transit,
    /// Goes up with every configuration applied; the first is 1.
    pub generation: u64,
    /// Goes up with every change of the firewall.
    pub firewall_epoch: u32,
    /// What the slots are called: for metrics and listings.
    pub names: Names,
    /// Endpoints, removed or down, whose connections are to be reset.
    pub resets: Arc<HashSet<EndpointId>>,
    /// Goes up with every endpoint that joins those.
    pub resets_version: u64,
    /// Addresses and ports of full NAT.
    pub snat: Snat,
    /// What connections call those, and the tunnels' sources.
    pub own: OwnAddresses,
    /// The ports that endpoints answer from by way of us.
    answering: Arc<HashMap<Addr, Vec<(u16, u16)>>>,
    /// The addresses of all ports.
    local: HashSet<Addr>,
    /// Those, SNAT addresses, and the broadcast addresses of connected networks: nobody's that a packet comes from.
    martians: HashSet<Addr>,
    /// Of those.
    martian_sieve: Sieve,
    used: Capacity,
}

/// A port as the pipeline sees it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its station address.
    pub mac: Mac,
    /// Takes frames to any MAC (replay).
    pub promiscuous: bool,
    /// Interface addresses.
    pub addresses: Vec<Prefix>,
    /// L3 MTU.
    pub mtu: u16,
    /// VLAN id or 0.
    pub vlan: u16,
    /// Which side is here.
    pub role: Role,
    /// The kernel has an interface for it, and answers there for its addresses and for VIPs.
    pub kernel: bool,
}

impl Port {
    /// Length of the Ethernet header of what leaves here: with or without an 802.1Q tag.
    #[inline]
    #[must_use]
    pub const fn l2_len(&self) -> usize {
        if self.vlan == 0 { 14 } else { 18 }
    }

    /// Whether `addr` is one of the interface addresses.
    #[must_use]
    pub fn owns(&self, addr: Addr) -> bool {
        self.addresses.iter().any(|own| own.addr == addr)
    }
}

/// What the device told about a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its MAC.
    pub mac: Mac,
    /// Take frames to any MAC.
    pub promiscuous: bool,
}

/// What tables are made of, besides the slots.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// A valid configuration.
    pub config: &'a Config,
    /// One a port.
    pub links: &'a [LinkInfo],
    /// Run-time state of endpoints.
    pub conditions: &'a Conditions,
}

impl Tables {
    /// Compiles a valid configuration, to be applied: it counts as a generation. `links` has one entry a port.
    ///
    /// # Panics
    /// Where `links` has not one entry a port.
    #[must_use]
    pub fn compile(config: &Config, links: &[LinkInfo], slots: &mut Slots) -> Self {
        Self::next(&Sources { config, links, conditions: &Conditions::default() }, None, slots, true)
    }

    /// The tables after `before`, which were made of those sources: services that are as they were are shared. `applied` where
    /// the configuration is another one, and counts as a generation.
    ///
    /// # Panics
    /// Where there is not one link a port.
    #[must_use]
    pub fn next(
        sources: &Sources<'_>,
        before: Option<(&Sources<'_>, &Self)>,
        slots: &mut Slots,
        applied: bool,
    ) -> Self {
        let Sources { config, links, .. } = sources;
        assert_eq!(config.ports.len(), links.len(), "one link a port");
        let ports: Box<[Port]> = config
            .ports
            .iter()
            .zip(*links)
            .map(|(port, link)| Port {
                name: port.name.clone(),
                mac: link.mac,
                promiscuous: link.promiscuous,
                addresses: port.addresses.clone(),
                mtu: port.mtu,
                vlan: port.vlan,
                role: port.role,
                kernel: port.kernel.is_some(),
            })
            .collect();
        let (services, names) = compile_services(sources, before, slots);
        if applied {
            slots.next_generation(&config.firewall);
        }
        for addr in config.sources() {
            slots.source(addr);
        }
        let answering = Arc::new(answering(&services));
        let firewall = Firewall::compile(&config.firewall, slots);
        let names = Names {
            rules: config.firewall.iter().map(|rule| (slots.rule(&rule.name), rule.name.clone())).collect(),
            snat: names::snat(config),
            ..names
        };
        let down = config.services.iter().zip(&services).filter(|(c, _)| c.on_endpoint_down == Loss::Reset);
        let down = down.flat_map(|(_, service)| &service.endpoints);
        let down = down.filter(|endpoint| endpoint.state == EndpointState::Down).map(|endpoint| endpoint.id);
        let (resets, resets_version) = slots.resets(down);
        let (generation, firewall_epoch) = slots.generation();
        let prefixes = || ports.iter().flat_map(|port| &port.addresses);
        let local: HashSet<_> = prefixes().map(|own| own.addr).collect();
        let broadcast = prefixes().filter(|own| own.addr.is_v4() && own.len < 31);
        let broadcast = broadcast.map(|own| Addr(own.addr.0 | !own.mask()));
        let martians = broadcast.chain(local.iter().copied()).chain(config.snat.addresses.iter().copied());
        let martians: HashSet<_> = martians.collect();
        Self {
            martian_sieve: Sieve::of(martians.iter()),
            martians,
            local,
            ports,
            services: Arc::new(Services::new(services, slots.lingering())),
            firewall,
            routes: Arc::new(Routes::compile(&config.ports, &config.routes, &[])),
            neighbors: config.neighbors.iter().map(|n| (PortId::at(n.port), n.address, n.mac)).collect(),
            on_unknown: config.engine.on_unknown,
            transit: config.engine.transit,
            generation,
            firewall_epoch,
            names,
            resets,
            resets_version,
            used: slots.used(),
            snat: config.snat.clone(),
            own: slots.own(),
            answering,
        }
    }

    /// The same with these routes of the kernel's besides those of `config`, of which the tables were compiled: no generation
    /// of its own.
    #[must_use]
    pub fn with_learned(&self, config: &Config, learned: &[Learned]) -> Self {
        Self { routes: Arc::new(Routes::compile(&config.ports, &config.routes, learned)), ..self.clone() }
    }

    /// The sizes that the workers' counters must have, at least: room for every slot that was given out so far.
    #[must_use]
    pub fn sizes(&self, pairs: usize) -> Sizes {
        Sizes {
            ports: self.ports.len(),
            services: self.used.services,
            endpoints: self.used.endpoints,
            rules: self.used.rules,
            snat: self.snat.addresses.len(),
            pairs,
        }
    }

    /// Whether no packet for a service may come from `addr`: an address of our own, the broadcast address of a connected
    /// network, or one that is valid on its link alone (RFC 4291 §2.5.6).
    #[inline]
    #[must_use]
    pub fn is_martian(&self, addr: Addr) -> bool {
        self.services.is_vip(addr)
            || self.martian_sieve.may_have(addr) && self.martians.contains(&addr)
            || addr.is_link_local_v6()
    }

    /// Whether this is a SNAT address.
    #[inline]
    #[must_use]
    pub fn is_snat(&self, addr: Addr) -> bool {
        !self.snat.addresses.is_empty() && self.snat.addresses.contains(&addr)
    }

    /// Whether a service's endpoint speaks from here.
    #[must_use]
    pub fn is_endpoint(&self, addr: Addr, port: u16) -> bool {
        let ranges = self.answering.get(&addr).map_or(&[][..], Vec::as_slice);
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Whether some port has this address. VIPs are asked for at [`Services::is_vip`].
    #[inline]
    #[must_use]
    pub fn is_local(&self, addr: Addr) -> bool {
        self.local.contains(&addr)
    }
}

/// The services in file order, as they are under the run-time conditions.
fn compile_services(
    sources: &Sources<'_>,
    before: Option<(&Sources<'_>, &Tables)>,
    slots: &mut Slots,
) -> (Vec<Arc<Service>>, Names) {
    let old = Unchanged::new(sources, before);
    let mut names = Names::default();
    let mut services = Vec::with_capacity(sources.config.services.len());
    let mut same = Vec::with_capacity(services.capacity());
    for (place, config) in sources.config.services.iter().enumerate() {
        let unchanged = old.as_ref().and_then(|old| Some((old.tables, old.find(place, config)?)));
        same.push(unchanged.is_some());
        if let Some((tables, place)) = unchanged {
            names.copy(&tables.names, place);
            services.push(tables.services.share(place));
            continue;
        }
        let applied = sources.conditions.applied_to(config);
        let service = Arc::new(Service::compile(
            applied.as_ref().unwrap_or(config),
            sources.config.engine.workers.len(),
            slots,
        ));
        names.add(config, &service);
        services.push(service);
    }
    let all = sources.config.services.iter().zip(&services).zip(same);
    slots.settle(all.map(|((config, service), same)| (config, &**service, same)));
    (services, names)
}

/// Finds services that are in the old tables as they are to be.
struct Unchanged<'a> {
    sources: &'a Sources<'a>,
    old: &'a Sources<'a>,
    tables: &'a Tables,
    places: HashMap<&'a str, usize>,
}

impl<'a> Unchanged<'a> {
    fn new(sources: &'a Sources<'a>, before: Option<(&'a Sources<'a>, &'a Tables)>) -> Option<Self> {
        let (old, tables) = before?;
        let named = old.config.services.iter().enumerate();
        let places = named.map(|(place, service)| (service.name.as_str(), place)).collect();
        Some(Self { sources, old, tables, places })
    }

    /// The old place of a service that stays as it is.
    fn find(&self, place: usize, service: &config::Service) -> Option<usize> {
        let at = |place: usize| self.old.config.services.get(place).filter(|old| old.name == service.name);
        let place = if at(place).is_some() { place } else { *self.places.get(service.name.as_str())? };
        let same = at(place)? == service && self.old.conditions.same(self.sources.conditions, &service.name);
        same.then_some(place)
    }
}

/// The services that a new configuration has otherwise than an old one.
pub fn changed_services<'a>(old: &'a Config, new: &'a Config) -> impl Iterator<Item = &'a config::Service> {
    let places: HashMap<&str, &config::Service> =
        old.services.iter().map(|service| (service.name.as_str(), service)).collect();
    new.services.iter().filter(move |service| places.get(service.name.as_str()) != Some(service))
}

/// Where answers of endpoints come from; those of DSR name the VIP, and go another way.
fn answering(services: &[Arc<Service>]) -> HashMap<Addr, Vec<(u16, u16)>> {
    let mut answering: HashMap<Addr, Vec<(u16, u16)>> = HashMap::new();
    for service in services.iter().filter(|service| !service.delivery.form.is_one_sided()) {
        for endpoint in &service.endpoints {
            let ports = if endpoint.port == 0 { service.ports } else { (endpoint.port, endpoint.port) };
            answering.entry(endpoint.addr).or_default().push(ports);
        }
    }
    answering
}
