//! What the slots are called, for metrics and listings.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Slots;
use crate::addr::Addr;
use crate::config::{self, Config, EndpointState, Protocol};
use crate::ids::{EndpointId, RuleId, ServiceId};

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
    pub(super) fn of(config: &Config, slots: &mut Slots) -> Self {
        let mut names = Self::default();
        for service in &config.services {
            let (id, protocol) = (slots.service(service), service.protocol);
            names.services.push(ServiceName {
                id,
                name: service.name.clone(),
                address: label(service),
                protocol,
            });
            names.endpoints.extend(service.endpoints.iter().map(|endpoint| EndpointName {
                id: slots.endpoint(id, endpoint),
                service: id,
                address: socket(endpoint.address, endpoint.port),
                protocol,
                state: endpoint.state,
            }));
        }
        names.rules.extend(config.firewall.iter().map(|rule| (slots.rule(&rule.name), rule.name.clone())));
        names.snat.extend(&config.snat.addresses);
        names.snat.sort_by_key(|addr| !addr.is_v4());
        names
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
