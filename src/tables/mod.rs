//! The configuration compiled: immutable, what the workers look things up in.

use std::net::SocketAddr;

use crate::addr::{Addr, Mac, Prefix};
use crate::config::{Config, EndpointState, OnUnknown, Protocol, Role};
use crate::firewall::Firewall;
use crate::ids::{EndpointId, PortId, RuleId, ServiceId};
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
    /// Goes up with every configuration applied; the first is 1.
    pub generation: u64,
    /// Goes up with every change of the firewall.
    pub firewall_epoch: u32,
    /// What the slots are called: for metrics and listings.
    pub names: Names,
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
}

/// What the device told about a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its MAC.
    pub mac: Mac,
    /// Take frames to any MAC.
    pub promiscuous: bool,
}

/// What each slot is called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Configured services.
    pub services: Vec<ServiceName>,
    /// Configured endpoints.
    pub endpoints: Vec<EndpointName>,
    /// Configured rules, in order.
    pub rules: Vec<(RuleId, String)>,
}

/// A service's names.
#[derive(Clone, Debug)]
pub struct ServiceName {
    /// Slot.
    pub id: ServiceId,
    /// Configured name.
    pub name: String,
    /// `VIP:port`, `[v6]:port`, `VIP:first-last`.
    pub address: String,
    /// L4 protocol.
    pub protocol: Protocol,
}

/// An endpoint's names.
#[derive(Clone, Debug)]
pub struct EndpointName {
    /// Slot.
    pub id: EndpointId,
    /// Its service.
    pub service: ServiceId,
    /// Address and port (0: the client's).
    pub address: SocketAddr,
    /// Administrative state.
    pub state: EndpointState,
}

/// Gives out slots: the same thing has the same slot in every configuration of this process's life.
#[derive(Debug, Default)]
pub struct Slots {}

impl Tables {
    /// Compiles a valid configuration. `links` has one entry a port.
    #[must_use]
    pub fn compile(_config: &Config, _links: &[LinkInfo], _slots: &mut Slots) -> Self {
        todo!()
    }
}
