//! The configuration compiled: immutable, what the workers look things up in.

mod changes;
mod conditions;
mod names;
mod population;
mod slots;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashSet;

pub use changes::Changes;
pub use conditions::{Condition, Conditions};
pub use names::{EndpointName, Health, Names, ServiceName};
pub(crate) use slots::{MAX_ENDPOINTS, MAX_SERVICES};
pub use slots::{Slots, SlotsFull};

use self::population::Answering;
use self::slots::Capacity;
use crate::addr::{Addr, Mac, Prefix};
use crate::config::{Config, OnUnknown, Role, Snat, Transit};
use crate::conntrack::OwnAddresses;
use crate::counters::Sizes;
use crate::firewall::Firewall;
use crate::ids::{EndpointId, PortId};
use crate::route::{Learned, Routes};
use crate::service::{Draft, Service, Services, Sieve};

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
    answering: Answering,
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

    /// The tables after `before`: services that the changes since call unchanged are shared. `applied` where the configuration is another
    /// one, and counts as a generation.
    ///
    /// # Panics
    /// Where there is not one link a port.
    #[must_use]
    pub fn next(
        sources: &Sources<'_>,
        before: Option<(&Changes, &Self)>,
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
        let (services, service_names) = compile_services(sources, before, slots);
        if applied {
            slots.next_generation(&config.firewall);
        }
        for addr in config.sources() {
            slots.source(addr);
        }
        let firewall = Firewall::compile(&config.firewall, slots);
        let names = Names {
            services: service_names,
            rules: config.firewall.iter().map(|rule| (slots.rule(&rule.name), rule.name.clone())).collect(),
            snat: names::snat(config),
            health: slots.population().health(),
        };
        let lost = services.iter().flat_map(|service| service.lost.iter().copied());
        let (resets, resets_version) = slots.resets(lost);
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
            answering: slots.population().answering(),
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
        self.answering.has(addr, port)
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
    before: Option<(&Changes, &Tables)>,
    slots: &mut Slots,
) -> (Vec<Arc<Service>>, Vec<Arc<ServiceName>>) {
    let Sources { config, conditions, .. } = sources;
    let kept: Vec<_> = (0..config.services.len())
        .map(|place| before.and_then(|(changes, tables)| Some((tables, changes.kept(place)?))))
        .collect();
    let mut fresh = Vec::new();
    for (service, _) in config.services.iter().zip(&kept).filter(|(_, kept)| kept.is_none()) {
        let applied = conditions.applied_to(service);
        fresh.push(Draft::new(applied.map_or(Cow::Borrowed(service), Cow::Owned), slots));
    }
    let mut fresh = Draft::compile_all(fresh, config.engine.workers.len()).into_iter();
    let (mut services, mut names) = (Vec::with_capacity(kept.len()), Vec::with_capacity(kept.len()));
    for (config, kept) in config.services.iter().zip(&kept) {
        if let Some((tables, place)) = kept {
            services.push(tables.services.share(*place));
            names.push(Arc::clone(&tables.names.services[*place]));
        } else if let Some(service) = fresh.next() {
            let service = Arc::new(service);
            names.push(Arc::new(ServiceName::new(config, &service)));
            services.push(service);
        }
    }
    let all = config.services.iter().zip(&services).zip(&kept);
    slots.settle(all.map(|((config, service), kept)| (&**config, service, kept.is_some())));
    (services, names)
}
