//! The configuration compiled: immutable, what the workers look things up in.

mod names;
mod slots;
#[cfg(test)]
mod tests;

use hashbrown::HashSet;

pub use names::{EndpointName, Health, Names, ServiceName};
pub use slots::{Slots, SlotsFull};

use self::slots::Capacity;
use crate::addr::{Addr, Mac, Prefix};
use crate::config::{Config, OnUnknown, Role, Transit};
use crate::counters::Sizes;
use crate::firewall::Firewall;
use crate::ids::PortId;
use crate::route::Routes;
use crate::service::Services;

/// All tables of one configuration.
#[derive(Debug)]
pub struct Tables {
    /// By [`PortId`].
    pub ports: Box<[Port]>,
    /// Services by VIP, port and protocol.
    pub services: Services,
    /// The rules.
    pub firewall: Firewall,
    /// Where destinations are.
    pub routes: Routes,
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
    /// The addresses of all ports.
    local: HashSet<Addr>,
    capacity: Capacity,
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

impl Tables {
    /// Compiles a valid configuration, to be applied: it counts as a generation. `links` has one entry a port.
    ///
    /// # Panics
    /// Where `links` has not one entry a port.
    #[must_use]
    pub fn compile(config: &Config, links: &[LinkInfo], slots: &mut Slots) -> Self {
        assert_eq!(config.ports.len(), links.len(), "one link a port");
        let ports: Box<[Port]> = config
            .ports
            .iter()
            .zip(links)
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
        let services = Services::compile(&config.services, config.engine.workers.len(), slots);
        let firewall = Firewall::compile(&config.firewall, slots);
        let names = Names::of(config, slots);
        let (generation, firewall_epoch) = slots.next_generation(&config.firewall);
        Self {
            local: ports.iter().flat_map(|port| &port.addresses).map(|own| own.addr).collect(),
            ports,
            services,
            firewall,
            routes: Routes::compile(&config.ports, &config.routes),
            neighbors: config.neighbors.iter().map(|n| (PortId::at(n.port), n.address, n.mac)).collect(),
            on_unknown: config.engine.on_unknown,
            transit: config.engine.transit,
            generation,
            firewall_epoch,
            names,
            capacity: slots.capacity(),
        }
    }

    /// The sizes that the workers' counters must have: room for every slot that the [`Slots`] of these tables will ever
    /// give out, in this configuration and all later ones.
    #[must_use]
    pub fn sizes(&self, pairs: usize) -> Sizes {
        Sizes {
            ports: self.ports.len(),
            services: self.capacity.services,
            endpoints: self.capacity.endpoints,
            rules: self.capacity.rules,
            pairs,
        }
    }

    /// Whether no packet for a service may come from `addr`: an address of our own, the broadcast address of a connected
    /// network, or one that is valid on its link alone (RFC 4291 §2.5.6).
    #[must_use]
    pub fn is_martian(&self, addr: Addr) -> bool {
        let broadcast = |own: &Prefix| {
            own.addr.is_v4() && own.len < 31 && own.contains(addr) && addr.0 | own.mask() == u128::MAX
        };
        self.services.is_vip(addr)
            || self.is_local(addr)
            || addr.is_link_local_v6()
            || self.ports.iter().flat_map(|port| &port.addresses).any(broadcast)
    }

    /// Whether some port has this address. VIPs are asked for at [`Services::is_vip`].
    #[inline]
    #[must_use]
    pub fn is_local(&self, addr: Addr) -> bool {
        self.local.contains(&addr)
    }
}
