//! What the slots are called, for metrics and listings.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::addr::Addr;
use crate::config::{self, EndpointState, Protocol};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::service::Service;

/// What each slot is called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Configured services. One that is as it was shares its names with the tables before.
    pub services: Vec<Arc<ServiceName>>,
    /// Configured rules, in order.
    pub rules: Vec<(RuleId, String)>,
    /// SNAT addresses, IPv4 first.
    pub snat: Vec<Addr>,
    /// How many endpoints are well.
    pub health: Health,
}

/// A service's names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceName {
    /// Slot.
    pub id: ServiceId,
    /// Configured name.
    pub name: String,
    /// `VIP:port`, `[v6]:port`, `VIP:first-last`.
    pub address: String,
    /// L4 protocol.
    pub protocol: Protocol,
    /// Its configured endpoints.
    pub endpoints: Vec<EndpointName>,
}

/// An endpoint's names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointName {
    /// Slot.
    pub id: EndpointId,
    /// Its service.
    pub service: ServiceId,
    /// Address and port (0: the client's).
    pub address: SocketAddr,
    /// L4 protocol of its service.
    pub protocol: Protocol,
    /// What holds for it: of the file's state and the run-time conditions the strictest.
    pub state: EndpointState,
}

/// How many distinct endpoints (address, port, protocol) there are of each sort: the same one in two services counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Up or draining in at least one service: `healthy_endpoints_count`.
    pub healthy: usize,
    /// All the others: `unhealthy_endpoints_count`.
    pub unhealthy: usize,
}

impl Names {
    /// Configured endpoints of all services.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointName> {
        self.services.iter().flat_map(|service| &service.endpoints)
    }
}

impl ServiceName {
    pub(super) fn new(config: &config::Service, compiled: &Service) -> Self {
        let (id, protocol) = (compiled.id, compiled.protocol);
        let endpoints = compiled.endpoints.iter().map(|endpoint| EndpointName {
            id: endpoint.id,
            service: id,
            address: socket(endpoint.addr, endpoint.port),
            protocol,
            state: endpoint.state,
        });
        let (name, address) = (config.name.clone(), label(config));
        Self { id, name, address, protocol, endpoints: endpoints.collect() }
    }
}

/// SNAT addresses in the order in which a worker has them.
pub(super) fn snat(config: &config::Config) -> Vec<Addr> {
    let mut addresses = config.snat.addresses.clone();
    addresses.sort_by_key(|addr| !addr.is_v4());
    addresses
}

/// The `service` label: `VIP:port`, `[v6]:port`; a port range is `VIP:first-last`.
fn label(service: &config::Service) -> String {
    let first = socket(service.vip, service.first_port);
    if service.last_port == service.first_port {
        first.to_string()
    } else {
        format!("{first}-{}", service.last_port)
    }
}

fn socket(addr: Addr, port: u16) -> SocketAddr {
    SocketAddr::new(addr.into(), port)
}
