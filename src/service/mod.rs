//! Services: which one a packet is for, and which endpoint takes a new connection.

mod lookup;
mod maglev;
mod round_robin;
mod server_ids;

pub(crate) use round_robin::Cursor;

use self::lookup::Index;
use self::server_ids::ServerIds;
use crate::addr::Addr;
use crate::config::{self, Algorithm, EndpointState, Protocol, Refusal};
use crate::ids::{EndpointId, ServiceId};
use crate::tables::Slots;

/// All services, by VIP, port and protocol.
#[derive(Debug)]
pub struct Services {
    index: Index,
    services: Box<[Service]>,
    /// Whether any service routes by QUIC server ids.
    server_ids: bool,
}

impl Services {
    pub(crate) fn compile(services: &[config::Service], slots: &mut Slots) -> Self {
        let services: Box<[_]> = services.iter().map(|service| Service::compile(service, slots)).collect();
        let server_ids = services.iter().any(Service::has_server_ids);
        Self { index: Index::new(&services), services, server_ids }
    }

    /// The service that a packet to this address, port and protocol is for.
    #[inline]
    #[must_use]
    pub fn lookup(&self, vip: Addr, port: u16, protocol: Protocol) -> Option<&Service> {
        self.services.get(self.index.find(vip, port, protocol)?)
    }

    /// Whether some service has this address.
    #[inline]
    #[must_use]
    pub fn is_vip(&self, addr: Addr) -> bool {
        self.index.has(addr)
    }

    /// Whether any service routes by the server ids in QUIC connection ids.
    #[inline]
    #[must_use]
    pub const fn have_server_ids(&self) -> bool {
        self.server_ids
    }

    /// All of them, in file order.
    pub fn iter(&self) -> std::slice::Iter<'_, Service> {
        self.services.iter()
    }
}

impl<'a> IntoIterator for &'a Services {
    type Item = &'a Service;
    type IntoIter = std::slice::Iter<'a, Service>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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
    choice: Choice,
    server_ids: Option<ServerIds>,
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

impl Endpoint {
    /// Whether new connections may go here.
    #[must_use]
    pub fn takes_new(&self) -> bool {
        self.state == EndpointState::Up && self.weight > 0
    }
}

/// How an endpoint is chosen: gives an index into the service's endpoints.
#[derive(Debug)]
enum Choice {
    Maglev(maglev::Table),
    RoundRobin(round_robin::Sequence),
}

impl Service {
    fn compile(service: &config::Service, slots: &mut Slots) -> Self {
        let id = slots.service(service);
        let endpoints: Box<[_]> = service
            .endpoints
            .iter()
            .map(|endpoint| Endpoint {
                id: slots.endpoint(id, endpoint),
                addr: endpoint.address,
                port: endpoint.port,
                weight: endpoint.weight,
                state: endpoint.state,
            })
            .collect();
        let choice = match service.algorithm {
            Algorithm::Maglev { size } => {
                Choice::Maglev(maglev::Table::new(size, service.vip, service.protocol, &endpoints))
            }
            Algorithm::RoundRobin => {
                Choice::RoundRobin(round_robin::Sequence::new(&endpoints, slots.cursor(id)))
            }
        };
        Self {
            id,
            vip: service.vip,
            ports: (service.first_port, service.last_port),
            protocol: service.protocol,
            idle_timeout_ms: u32::try_from(service.idle_timeout.as_millis()).unwrap_or(u32::MAX),
            on_no_endpoint: service.on_no_endpoint,
            endpoints,
            choice,
            server_ids: ServerIds::compile(service),
        }
    }

    /// The endpoint for a new connection of this client; none where none takes new connections.
    #[inline]
    #[must_use]
    pub fn pick(&self, client: Addr, client_port: u16) -> Option<&Endpoint> {
        let index = match &self.choice {
            Choice::Maglev(table) => table.pick(client, client_port),
            Choice::RoundRobin(sequence) => sequence.next(),
        };
        self.endpoints.get(index?)
    }

    /// Whether QUIC connection ids name endpoints.
    #[inline]
    #[must_use]
    pub const fn has_server_ids(&self) -> bool {
        self.server_ids.is_some()
    }

    /// The endpoint that the connection id in this UDP payload names, whatever its state and weight: a connection exists there, and
    /// nowhere else.
    #[inline]
    #[must_use]
    pub fn named(&self, payload: &[u8]) -> Option<&Endpoint> {
        self.endpoints.get(self.server_ids.as_ref()?.named(payload)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// A compiled endpoint `10.0.x.y:8080`, up.
    pub(crate) fn endpoint(n: u32, weight: u32) -> Endpoint {
        let [_, _, hi, lo] = n.to_be_bytes();
        Endpoint {
            id: EndpointId(n),
            addr: Addr::v4([10, 0, hi, lo]),
            port: 8080,
            weight,
            state: EndpointState::Up,
        }
    }

    pub(crate) fn service(algorithm: Algorithm, endpoints: &[(u32, EndpointState)]) -> config::Service {
        let endpoints = (0..).zip(endpoints).map(|(n, &(weight, state))| config::Endpoint {
            address: endpoint(n, 1).addr,
            port: 8080,
            weight,
            state,
            server_id: Vec::new(),
        });
        config::Service {
            name: "web".into(),
            vip: Addr::v4([203, 0, 113, 100]),
            first_port: 80,
            last_port: 80,
            protocol: Protocol::Tcp,
            algorithm,
            idle_timeout: Duration::from_secs(240),
            on_no_endpoint: Refusal::Drop,
            quic_server_id_bytes: 0,
            endpoints: endpoints.collect(),
        }
    }

    const BOTH: [Algorithm; 2] = [Algorithm::Maglev { size: 251 }, Algorithm::RoundRobin];

    fn picked(service: &Service) -> Vec<usize> {
        let mut counts = vec![0; service.endpoints.len()];
        for port in 1..=1_000 {
            if let Some(e) = service.pick(Addr::v4([198, 51, 100, 7]), port) {
                counts[service.endpoints.iter().position(|x| x == e).unwrap()] += 1;
            }
        }
        counts
    }

    #[test]
    fn only_endpoints_that_are_up_and_have_weight_take_connections() {
        use EndpointState::{Down, Drain, Up};
        for algorithm in BOTH {
            let config = service(algorithm, &[(1, Down), (2, Up), (1, Drain), (0, Up), (1, Up)]);
            let counts = picked(&Service::compile(&config, &mut Slots::default()));
            assert_eq!([counts[0], counts[2], counts[3]], [0; 3], "{algorithm:?}");
            assert!(counts[1] > counts[4] && counts[4] > 0, "{algorithm:?}");
            assert_eq!(counts.iter().sum::<usize>(), 1_000);
        }
    }

    #[test]
    fn none_is_picked_where_none_takes_connections() {
        for algorithm in BOTH {
            for endpoints in [&[][..], &[(1, EndpointState::Down), (0, EndpointState::Up)]] {
                let service = Service::compile(&service(algorithm, endpoints), &mut Slots::default());
                assert_eq!(service.pick(Addr::v4([198, 51, 100, 7]), 1), None);
            }
        }
    }

    #[test]
    fn maglev_depends_on_the_client_alone() {
        let up = [(1, EndpointState::Up); 5];
        let config = service(Algorithm::Maglev { size: 65_537 }, &up);
        let here = Service::compile(&config, &mut Slots::default());
        let there = Service::compile(&config, &mut Slots::default());
        for port in 1..200 {
            let client = Addr::v4([198, 51, 100, port as u8]);
            assert_eq!(here.pick(client, port), there.pick(client, port));
            assert_eq!(here.pick(client, port), here.pick(client, port));
        }
    }

    #[test]
    fn a_reload_goes_on_with_the_round_robin() {
        let config = service(Algorithm::RoundRobin, &[(1, EndpointState::Up); 3]);
        let mut slots = Slots::default();
        let mut order = Vec::new();
        for _ in 0..3 {
            let service = Service::compile(&config, &mut slots);
            order.push(service.pick(Addr::default(), 1).unwrap().id);
        }
        assert_eq!(order, [EndpointId(0), EndpointId(1), EndpointId(2)]);
    }
}
