//! Services: which one a packet is for, and which endpoint takes a new connection.

mod delivery;
mod draft;
mod least;
mod lookup;
mod maglev;
mod round_robin;
mod server_ids;
mod sieve;
mod sticky;

pub use delivery::Delivery;
pub(crate) use draft::Draft;
pub(crate) use round_robin::Cursor;
pub(crate) use sieve::Sieve;
pub(crate) use sticky::Sticky;

use std::sync::Arc;

use self::lookup::Index;
use self::server_ids::ServerIds;
use crate::addr::Addr;
#[cfg(test)]
use crate::config::{self, Algorithm};
use crate::config::{EndpointState, Protocol, Refusal};
use crate::counters::WorkerCounters;
use crate::ids::{EndpointId, ServiceId, WorkerId};
#[cfg(test)]
use crate::tables::Slots;
use crate::time::Instant;

/// All services, by VIP, port and protocol.
#[derive(Debug)]
pub struct Services {
    index: Index,
    services: Box<[Arc<Service>]>,
    /// By slot: which of `services` that is.
    by_id: Box<[u32]>,
    /// Whether any service routes by QUIC server ids.
    server_ids: bool,
}

impl Services {
    /// Of services in file order. `lingering` are addresses that had a service: their connections may go on.
    pub(crate) fn new(services: Vec<Arc<Service>>, lingering: impl Iterator<Item = Addr>) -> Self {
        let mut by_id = vec![u32::MAX; services.iter().map(|s| s.id.index() + 1).max().unwrap_or(0)];
        for (n, service) in (0..).zip(&services) {
            by_id[service.id.index()] = n;
        }
        let server_ids = services.iter().any(|service| service.has_server_ids());
        let index = Index::new(&services, lingering);
        Self { index, services: services.into(), by_id: by_id.into(), server_ids }
    }

    /// The one at this place, for the next tables.
    pub(crate) fn share(&self, place: usize) -> Arc<Service> {
        Arc::clone(&self.services[place])
    }

    /// The service with this slot, while it is configured.
    #[inline]
    #[must_use]
    pub fn by_id(&self, id: ServiceId) -> Option<&Service> {
        Some(&**self.services.get(*self.by_id.get(id.index())? as usize)?)
    }

    /// The service that a packet to this address, port and protocol is for.
    #[inline]
    #[must_use]
    pub fn lookup(&self, vip: Addr, port: u16, protocol: Protocol) -> Option<&Service> {
        self.services.get(self.index.find(vip, port, protocol)?).map(|service| &**service)
    }

    /// The place, for [`at`](Self::at), of the service that a packet to this address, port and protocol is for.
    #[inline]
    #[must_use]
    pub fn place_of(&self, vip: Addr, port: u16, protocol: Protocol) -> Option<u32> {
        self.index.find(vip, port, protocol).map(|place| place as u32)
    }

    /// The service at a place, in file order.
    #[inline]
    #[must_use]
    pub fn at(&self, place: u32) -> Option<&Service> {
        self.services.get(place as usize).map(|service| &**service)
    }

    /// Whether some service has this address, or had it and its connections may go on.
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
    pub fn iter(&self) -> Iter<'_> {
        self.services.iter().map(|service| service)
    }
}

/// Services in file order.
pub type Iter<'a> = std::iter::Map<std::slice::Iter<'a, Arc<Service>>, fn(&'a Arc<Service>) -> &'a Service>;

impl<'a> IntoIterator for &'a Services {
    type Item = &'a Service;
    type IntoIter = Iter<'a>;

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
    /// Further virtual addresses.
    pub secondary_vips: Box<[Addr]>,
    /// First and last port.
    pub ports: (u16, u16),
    /// L4 protocol.
    pub protocol: Protocol,
    /// How its packets get to an endpoint.
    pub delivery: Delivery,
    /// Idle timeout of established connections.
    pub idle_timeout_ms: u32,
    /// A client keeps its endpoint for this long after its last new connection; 0: not at all.
    pub persistence_ms: u32,
    /// What a refused client is told.
    pub on_no_endpoint: Refusal,
    /// Its endpoints, in file order.
    pub endpoints: Box<[Endpoint]>,
    /// Indices of `endpoints`, by id.
    by_id: Box<[u16]>,
    choice: Choice,
    server_ids: Option<ServerIds>,
    /// Its endpoints that are down, where their connections are to be reset.
    pub(crate) lost: Box<[EndpointId]>,
}

/// One compiled endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Slot.
    pub id: EndpointId,
    /// Address.
    pub addr: Addr,
    /// Further addresses, in the order of the service's VIPs.
    pub secondary: Box<[Addr]>,
    /// Port, 0: the client's destination port is kept.
    pub port: u16,
    /// Relative share.
    pub weight: u32,
    /// Administrative state.
    pub state: EndpointState,
}

impl Endpoint {
    /// All its addresses, in the order of the service's VIPs.
    pub fn addresses(&self) -> impl Iterator<Item = Addr> {
        [self.addr].into_iter().chain(self.secondary.iter().copied())
    }

    /// Whether new connections may go here.
    #[must_use]
    pub fn takes_new(&self) -> bool {
        self.state == EndpointState::Up && self.weight > 0
    }
}

/// How an endpoint is chosen: gives an index into the service's endpoints.
#[derive(Debug)]
enum Choice {
    Table(maglev::Table),
    RoundRobin(round_robin::Sequence),
    LeastConnections(least::Views),
}

/// Who asks for an endpoint, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The client's address.
    pub client: Addr,
    /// The client's port.
    pub client_port: u16,
    /// The worker that is to have the connection.
    pub worker: WorkerId,
    /// What all workers count, it among them.
    pub peers: &'a [Arc<WorkerCounters>],
    /// The time.
    pub now: Instant,
}

impl Service {
    /// One by itself.
    #[cfg(test)]
    pub(crate) fn compile(service: &config::Service, workers: usize, slots: &mut Slots) -> Self {
        Draft::new(std::borrow::Cow::Borrowed(service), slots).compile(workers)
    }

    /// What decides about this client's connection, to be [looked at](Self::drawn) when it has been fetched; nothing where asking has
    /// an effect.
    #[inline]
    #[must_use]
    pub fn draw(&self, client: Addr, client_port: u16) -> Option<usize> {
        match &self.choice {
            Choice::Table(table) => Some(table.draw(client, client_port)),
            Choice::RoundRobin(_) | Choice::LeastConnections(_) => None,
        }
    }

    /// What [`pick`](Self::pick) will say to the client for whom this was [drawn](Self::draw): an index into the endpoints.
    #[inline]
    #[must_use]
    pub fn drawn(&self, slot: usize) -> Option<usize> {
        match &self.choice {
            Choice::Table(table) => table.at(slot),
            Choice::RoundRobin(_) | Choice::LeastConnections(_) => None,
        }
    }

    /// Whether all that a new connection is asked is where it comes from and to which port: its endpoint follows from the client, whose
    /// address alone takes part, and nothing has to be remembered for its packets but what is in its entry.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_stateless()
            && !self.delivery.form.tells_client()
            && self.persistence_ms == 0
            && self.server_ids.is_none()
            && self.secondary_vips.is_empty()
    }

    /// The endpoint for a new connection of this client; none where none takes new connections.
    #[inline]
    #[must_use]
    pub fn pick(&self, asker: &Asker<'_>) -> Option<&Endpoint> {
        let index = match &self.choice {
            Choice::Table(table) => table.pick(asker.client, asker.client_port),
            Choice::RoundRobin(sequence) => sequence.next(),
            Choice::LeastConnections(views) => views.pick(asker),
        };
        self.endpoints.get(index?)
    }

    /// Whether the endpoint follows from the client alone, on any box and at any time.
    #[must_use]
    pub fn is_stateless(&self) -> bool {
        matches!(self.choice, Choice::Table(_))
    }

    /// The endpoint with this slot, while it is configured.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        let at = |n: &u16| &self.endpoints[usize::from(*n)];
        self.by_id.binary_search_by_key(&id, |n| at(n).id).ok().map(|n| at(&self.by_id[n]))
    }

    /// A connection of this worker's is no longer active.
    pub fn released(&self, worker: WorkerId, endpoint: EndpointId) {
        if let Choice::LeastConnections(views) = &self.choice {
            views.released(worker, endpoint);
        }
    }

    /// All its virtual addresses, the first one first.
    pub fn vips(&self) -> impl Iterator<Item = Addr> {
        [self.vip].into_iter().chain(self.secondary_vips.iter().copied())
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
            secondary: Box::default(),
            port: 8080,
            weight,
            state: EndpointState::Up,
        }
    }

    pub(crate) fn service(algorithm: Algorithm, endpoints: &[(u32, EndpointState)]) -> config::Service {
        let endpoints = (0..).zip(endpoints).map(|(n, &(weight, state))| config::Endpoint {
            address: endpoint(n, 1).addr,
            secondary_addresses: Vec::new(),
            port: 8080,
            weight,
            state,
            server_id: Vec::new(),
        });
        config::Service {
            name: "web".into(),
            vip: Addr::v4([203, 0, 113, 100]),
            secondary_vips: Vec::new(),
            first_port: 80,
            last_port: 80,
            protocol: Protocol::Tcp,
            mode: config::Mode::Dnat,
            algorithm,
            persistence: Duration::ZERO,
            idle_timeout: Duration::from_secs(240),
            on_no_endpoint: Refusal::Drop,
            quic_server_id_bytes: 0,
            on_endpoint_down: config::Loss::Keep,
            on_endpoint_removed: config::Loss::Keep,
            slow_start: Duration::ZERO,
            health_check: None,
            endpoints: endpoints.collect(),
        }
    }

    const ALL: [Algorithm; 4] = [
        Algorithm::Maglev { size: 251 },
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::SourceHash { size: 251 },
    ];

    /// A client's connection, at a worker that is alone.
    pub(crate) fn asker(client: Addr, client_port: u16) -> Asker<'static> {
        Asker { client, client_port, worker: WorkerId(0), peers: &[], now: Instant(0) }
    }

    fn picked(service: &Service) -> Vec<usize> {
        let mut counts = vec![0; service.endpoints.len()];
        for n in 1..=1_000u16 {
            let [a, b] = n.to_be_bytes();
            if let Some(e) = service.pick(&asker(Addr::v4([198, 51, a, b]), n)) {
                counts[service.endpoints.iter().position(|x| x == e).unwrap()] += 1;
            }
        }
        counts
    }

    #[test]
    fn only_endpoints_that_are_up_and_have_weight_take_connections() {
        use EndpointState::{Down, Drain, Up};
        for algorithm in ALL {
            let config = service(algorithm, &[(1, Down), (2, Up), (1, Drain), (0, Up), (1, Up)]);
            let counts = picked(&Service::compile(&config, 1, &mut Slots::default()));
            assert_eq!([counts[0], counts[2], counts[3]], [0; 3], "{algorithm:?}");
            assert!(counts[1] > counts[4] && counts[4] > 0, "{algorithm:?}");
            assert_eq!(counts.iter().sum::<usize>(), 1_000);
        }
    }

    #[test]
    fn ten_thousand_services_and_a_thousand_endpoints_have_their_place() {
        let mut slots = Slots::default();
        let services: Vec<_> = (0..10_000u32)
            .map(|n| config::Service {
                name: n.to_string(),
                vip: Addr::v4((0xcb00_7100 + n / 60_000).to_be_bytes()),
                first_port: (n % 60_000 + 1) as u16,
                last_port: (n % 60_000 + 1) as u16,
                ..service(ALL[n as usize % 4], &[(1, EndpointState::Up); 10])
            })
            .collect();
        let services = services.iter().map(|s| Arc::new(Service::compile(s, 4, &mut slots)));
        let compiled = Services::new(services.collect(), std::iter::empty());
        for (n, service) in compiled.iter().enumerate() {
            assert_eq!(compiled.by_id(service.id).map(|s| s.ports), Some((n as u16 + 1, n as u16 + 1)));
            assert!(service.pick(&asker(Addr::v4([198, 51, 100, 7]), 1)).is_some());
        }
        assert!(compiled.by_id(ServiceId(10_000)).is_none());
        for algorithm in ALL {
            let large = match algorithm {
                Algorithm::Maglev { .. } => Algorithm::Maglev { size: 65_537 },
                Algorithm::SourceHash { .. } => Algorithm::SourceHash { size: 65_537 },
                other => other,
            };
            let mut config = service(large, &[(3, EndpointState::Up); 1000]);
            let endpoints = &mut config.endpoints;
            endpoints[0].weight = 5;
            endpoints.reverse();
            let service = Service::compile(&config, 4, &mut slots);
            let mut seen = std::collections::HashSet::new();
            for n in 0..20_000u32 {
                let client = Addr::v4((0xc633_6400 + n).to_be_bytes());
                let endpoint = service.pick(&asker(client, n as u16)).unwrap();
                assert_eq!(service.endpoint(endpoint.id), Some(endpoint));
                seen.insert(endpoint.id);
            }
            assert_eq!(seen.len(), 1000, "{algorithm:?}");
        }
    }

    #[test]
    fn none_is_picked_where_none_takes_connections() {
        for algorithm in ALL {
            for endpoints in [&[][..], &[(1, EndpointState::Down), (0, EndpointState::Up)]] {
                let service = Service::compile(&service(algorithm, endpoints), 1, &mut Slots::default());
                assert_eq!(service.pick(&asker(Addr::v4([198, 51, 100, 7]), 1)), None);
            }
        }
    }

    #[test]
    fn maglev_depends_on_the_client_alone() {
        let up = [(1, EndpointState::Up); 5];
        let config = service(Algorithm::Maglev { size: 65_537 }, &up);
        let here = Service::compile(&config, 1, &mut Slots::default());
        let there = Service::compile(&config, 1, &mut Slots::default());
        for port in 1..200 {
            let client = Addr::v4([198, 51, 100, port as u8]);
            assert_eq!(here.pick(&asker(client, port)), there.pick(&asker(client, port)));
            assert_eq!(here.pick(&asker(client, port)), here.pick(&asker(client, port)));
        }
    }

    #[test]
    fn a_reload_goes_on_with_the_round_robin() {
        let config = service(Algorithm::RoundRobin, &[(1, EndpointState::Up); 3]);
        let mut slots = Slots::default();
        let mut order = Vec::new();
        for _ in 0..3 {
            let service = Service::compile(&config, 1, &mut slots);
            order.push(service.pick(&asker(Addr::default(), 1)).unwrap().id);
        }
        assert_eq!(order, [EndpointId(0), EndpointId(1), EndpointId(2)]);
    }
}
