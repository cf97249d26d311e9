//! What is known of all endpoints together, kept from one configuration to the next: a change of one service costs as much as that
//! service, however many there are.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;

use hashbrown::HashMap;

use super::Health;
use crate::addr::Addr;
use crate::config::{EndpointState, Protocol};
use crate::service::{Endpoint, Service};

/// Parts of [`Answering`]. A change copies the parts that it falls into.
const PARTS: usize = 1024;

/// The addresses and ports that endpoints answer from by way of us. Those of DSR name the VIP, and go another way.
#[derive(Clone, Debug)]
pub(super) struct Answering(Arc<[Arc<Part>]>);

type Part = HashMap<Addr, Vec<Ports>>;

/// First and last port, and how many endpoints have them.
type Ports = ((u16, u16), u32);

impl Default for Answering {
    fn default() -> Self {
        Self(std::iter::repeat_n(Arc::default(), PARTS).collect())
    }
}

impl Answering {
    pub fn has(&self, addr: Addr, port: u16) -> bool {
        let ranges = self.0[part(addr)].get(&addr).map_or(&[][..], Vec::as_slice);
        ranges.iter().any(|((first, last), _)| (*first..=*last).contains(&port))
    }

    fn add(&mut self, addr: Addr, ports: (u16, u16)) {
        let ranges = self.part(addr).entry(addr).or_default();
        match ranges.iter_mut().find(|(range, _)| *range == ports) {
            Some((_, count)) => *count += 1,
            None => ranges.push((ports, 1)),
        }
    }

    fn remove(&mut self, addr: Addr, ports: (u16, u16)) {
        let part = self.part(addr);
        let Some(ranges) = part.get_mut(&addr) else { return };
        if let Some(at) = ranges.iter().position(|(range, _)| *range == ports) {
            ranges[at].1 -= 1;
            if ranges[at].1 == 0 {
                ranges.swap_remove(at);
            }
        }
        if ranges.is_empty() {
            part.remove(&addr);
        }
    }

    fn part(&mut self, addr: Addr) -> &mut Part {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0)[part(addr)])
    }
}

/// Addresses are configured, not learnt: nobody can make them fall into one part.
fn part(addr: Addr) -> usize {
    let hasher = BuildHasherDefault::<std::hash::DefaultHasher>::default();
    hasher.hash_one(addr) as usize % PARTS
}

/// The ports that an endpoint answers from; none where its answers go another way.
fn answers(service: &Service, endpoint: &Endpoint) -> Option<(Addr, (u16, u16))> {
    let ports = if endpoint.port == 0 { service.ports } else { (endpoint.port, endpoint.port) };
    (!service.delivery.form.is_one_sided()).then_some((endpoint.addr, ports))
}

/// All endpoints.
#[derive(Clone, Default, Debug)]
pub(super) struct Population {
    answering: Answering,
    /// Of each distinct endpoint: in how many services it is, and in how many of those it is not down.
    known: HashMap<(Addr, u16, Protocol), (u32, u32)>,
    health: Health,
}

impl Population {
    pub fn answering(&self) -> Answering {
        self.answering.clone()
    }

    pub const fn health(&self) -> Health {
        self.health
    }

    /// A service in the place of another one, or of none.
    pub fn replace(&mut self, old: Option<&Service>, new: Option<&Service>) {
        let answer = |service: Option<&Service>| -> Vec<_> {
            let endpoints = service.into_iter().flat_map(|s| s.endpoints.iter().map(move |e| answers(s, e)));
            endpoints.flatten().collect()
        };
        let (before, after) = (answer(old), answer(new));
        if before != after {
            before.into_iter().for_each(|(addr, ports)| self.answering.remove(addr, ports));
            after.into_iter().for_each(|(addr, ports)| self.answering.add(addr, ports));
        }
        for service in old.into_iter() {
            service.endpoints.iter().for_each(|endpoint| self.count(service.protocol, endpoint, false));
        }
        for service in new.into_iter() {
            service.endpoints.iter().for_each(|endpoint| self.count(service.protocol, endpoint, true));
        }
    }

    /// An endpoint comes or goes.
    fn count(&mut self, protocol: Protocol, endpoint: &Endpoint, comes: bool) {
        let key = (endpoint.addr, endpoint.port, protocol);
        let (all, well) = self.known.entry(key).or_default();
        let was = (*all > 0, *well > 0);
        let one = |count: &mut u32| *count = if comes { *count + 1 } else { *count - 1 };
        one(all);
        if endpoint.state != EndpointState::Down {
            one(well);
        }
        let is = (*all > 0, *well > 0);
        let sort = |(known, healthy): (bool, bool)| (usize::from(healthy), usize::from(known && !healthy));
        let (before, after) = (sort(was), sort(is));
        self.health.healthy = self.health.healthy + after.0 - before.0;
        self.health.unhealthy = self.health.unhealthy + after.1 - before.1;
        if !is.0 {
            self.known.remove(&key);
        }
    }
}
