//! Services: which one a packet is for, and which endpoint takes a new connection.

use crate::addr::Addr;
use crate::config::{EndpointState, Protocol, Refusal};
use crate::ids::{EndpointId, ServiceId};

/// All services, by VIP, port and protocol.
#[derive(Debug)]
pub struct Services {}

impl Services {
    /// The service that a packet to this address, port and protocol is for.
    #[must_use]
    pub fn lookup(&self, _vip: Addr, _port: u16, _protocol: Protocol) -> Option<&Service> {
        todo!()
    }

    /// Whether some service has this address.
    #[inline]
    #[must_use]
    pub fn is_vip(&self, _addr: Addr) -> bool {
        todo!()
    }

    /// All of them, in file order.
    #[must_use]
    pub fn iter(&self) -> std::slice::Iter<'_, Service> {
        todo!()
    }
}

/// One compiled service.
#[derive(Debug)]
pub struct Service {
    /// Slot.
    pub id: ServiceId,
    /// Virtual address.
    pub vip: Addr,
    /// First and last port.
    pub ports: (u16, u16),
    /// L4 protocol.
    pub protocol: Protocol,
    /// Idle timeout of established connections.
    pub idle_timeout_ms: u32,
    /// What a refused client is told.
    pub on_no_endpoint: Refusal,
    /// Its endpoints, in file order.
    pub endpoints: Box<[Endpoint]>,
}

/// One compiled endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Slot.
    pub id: EndpointId,
    /// Address.
    pub addr: Addr,
    /// Port, 0: the client's destination port is kept.
    pub port: u16,
    /// Relative share.
    pub weight: u32,
    /// Administrative state.
    pub state: EndpointState,
}

impl Service {
    /// The endpoint for a new connection of this client; none where none takes new connections.
    #[must_use]
    pub fn pick(&self, _client: Addr, _client_port: u16) -> Option<&Endpoint> {
        todo!()
    }
}
