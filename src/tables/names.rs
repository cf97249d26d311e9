//! What the slots are called, for metrics and listings.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

use crate::addr::Addr;
use crate::config::{self, EndpointState, Protocol};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::service::Service;

/// What each slot is called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Configured services.
    pub services: Vec<ServiceName>,
    /// Configured endpoints.
    pub endpoints: Vec<EndpointName>,
    /// Configured rules, in order.
    pub rules: Vec<(RuleId, String)>,
    /// SNAT addresses, IPv4 first.
    pub snat: Vec<Addr>,
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
    /// Its endpoints' places in [`Names::endpoints`].
    pub endpoints: Range<usize>,
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
    /// L4 protocol of its service.
    pub protocol: Protocol,
    /// Administrative state.
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
    /// Those of one service, after its predecessors'.
    pub(super) fn add(&mut self, config: &config::Service, compiled: &Service) {
        let (id, protocol) = (compiled.id, compiled.protocol);
        let first = self.endpoints.len();
        self.endpoints.extend(compiled.endpoints.iter().map(|endpoint| EndpointName {
            id: endpoint.id,
            service: id,
            address: socket(endpoint.addr, endpoint.port),
            protocol,
            state: endpoint.state,
        }));
        let endpoints = first..self.endpoints.len();
        let (name, address) = (config.name.clone(), label(config));
        self.services.push(ServiceName { id, name, address, protocol, endpoints });
    }

    /// Those of one service that is as it was, the one at this place of `before`.
    pub(super) fn copy(&mut self, before: &Self, place: usize) {
        let service = &before.services[place];
        let first = self.endpoints.len();
        self.endpoints.extend_from_slice(&before.endpoints[service.endpoints.clone()]);
        self.services.push(ServiceName { endpoints: first..self.endpoints.len(), ..service.clone() });
    }

    /// Healthy and unhealthy endpoints as the configuration alone has them, no probe asked.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut up = HashMap::new();
        for endpoint in &self.endpoints {
            *up.entry((endpoint.address, endpoint.protocol)).or_insert(false) |=
                endpoint.state != EndpointState::Down;
        }
        let healthy = up.values().filter(|up| **up).count();
        Health { healthy, unhealthy: up.len() - healthy }
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
