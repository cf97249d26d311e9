//! Source addresses and ports of full NAT: what the endpoint sees instead of the client.
//!
//! Each worker has the ports that the owner function maps back to it, so that an endpoint's answer comes to the worker that
//! has the connection, and workers share nothing. No two connections have the same external tuple (protocol, SNAT address, SNAT
//! port, endpoint's address, endpoint's port): endpoints are spread by a hash over [`GROUPS`] groups, and within a group a port
//! is given out once. So a SNAT address serves up to [`GROUPS`] times its ports, and at least its ports towards each
//! endpoint's address, in bounded memory and without asking the connection table.
//!
//! Ports are drawn at random (RFC 6056 §3.3.1). One whose TCP or SCTP connection was established rests before it is used again
//! ([`MIN_REST`]), for the endpoint may keep the old connection in TIME-WAIT, and segments of it may be on their way.
//!
//! - `ports`: which ports of an address are this worker's
//! - `set`: which of them are in use, or rest; an operation costs the same however many are
//! - `ids`: IP identifications, which many clients behind one address share, too

mod ids;
mod ports;
mod set;
#[cfg(test)]
mod tests;

pub use ids::Ids;
pub use set::MIN_REST;

use std::hash::Hasher;
use std::ops::RangeInclusive;

use siphasher::sip::SipHasher13;

use self::ports::Ports;
use self::set::Set;
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Tuple, TupleHash};
use crate::time::Instant;

/// Groups of endpoints that do not share ports. Memory is half a byte a port and group, touched as it is used: at most 1 MiB for
/// each SNAT address and owner function, over all workers.
pub const GROUPS: usize = 32;

/// Draws that are made before they are asked for, so that what they lead to can be fetched; a power of two.
const AHEAD: usize = 16;

/// A SNAT address and port that a connection has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Binding {
    /// The address, one of the configuration's.
    pub addr: Addr,
    /// The port.
    pub port: u16,
}

/// What becomes of a port that a connection gives back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Free at once: UDP, and handshakes that came to nothing.
    None,
    /// Not before [`MIN_REST`].
    TimeWait,
}

/// Ports of one worker and SNAT address, in all groups.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// That connections have.
    pub used: u64,
    /// That rest.
    pub resting: u64,
    /// That could be given out at once.
    pub free: u64,
}

/// One worker's SNAT addresses and ports.
#[derive(Debug)]
pub struct Snat {
    /// IPv4 first.
    pools: Box<[Pool]>,
    /// How many are IPv4.
    v4: usize,
    key: (u64, u64),
    grouping: TupleHash,
    drawn: u64,
    /// The random number of draw `n` at place `n` modulo [`AHEAD`], for the next draws.
    ahead: [u64; AHEAD],
    /// Where [`Snat::maintain`] goes on.
    cursor: usize,
}

/// One address.
#[derive(Debug)]
struct Pool {
    addr: Addr,
    /// By [`class`].
    classes: [Class; CLASSES],
}

/// The ports of an address that one owner function maps to this worker.
#[derive(Debug)]
struct Class {
    ports: Ports,
    groups: Box<[Set]>,
}

/// SCTP's owner is found without the address, so another set of ports is this worker's.
const CLASSES: usize = 2;

const fn class(protocol: Protocol) -> usize {
    matches!(protocol, Protocol::Sctp) as usize
}

impl Snat {
    /// All ports free. `belongs` says whether an answer of this protocol to this address and port comes to this worker; `key` is
    /// secret, for it makes the order of ports and the groups unpredictable. Takes all the memory that it will ever use.
    #[must_use]
    pub fn new(
        addresses: &[Addr],
        range: RangeInclusive<u16>,
        key: (u64, u64),
        belongs: impl Fn(Protocol, Addr, u16) -> bool,
    ) -> Self {
        let class = |addr, protocol| {
            let ports = Ports::new(range.clone().filter(|port| belongs(protocol, addr, *port)));
            let groups = (0..GROUPS).map(|_| Set::new(ports.len())).collect();
            Class { ports, groups }
        };
        let mut addresses = addresses.to_vec();
        addresses.sort_by_key(|addr| !addr.is_v4());
        let pools = addresses
            .iter()
            .map(|&addr| Pool { addr, classes: [Protocol::Tcp, Protocol::Sctp].map(|p| class(addr, p)) })
            .collect();
        let v4 = addresses.iter().take_while(|addr| addr.is_v4()).count();
        let ahead = std::array::from_fn(|n| random(key, n as u64));
        Self { pools, v4, key, grouping: TupleHash::new(key), drawn: 0, ahead, cursor: 0 }
    }

    /// Fetches what [`allocate`](Self::allocate) will read, if it is called for this endpoint after `nth` others.
    #[inline]
    pub fn prefetch(&self, nth: usize, protocol: Protocol, endpoint: Addr) {
        let random = self.ahead[(self.drawn as usize + nth) % AHEAD];
        let (first, second) = self.pools.split_at(self.v4);
        let family = if endpoint.is_v4() { first } else { second };
        let Some(pool) = family.get(scale(random >> 32, family.len())) else { return };
        let Class { ports, groups } = &pool.classes[class(protocol)];
        if let Some(set) = groups.get(self.group(protocol, endpoint)) {
            ports.prefetch(set.prefetch(random));
        }
    }

    /// An address of the endpoint's family and a port that no other connection of this protocol to this endpoint has. `None`
    /// where there is none: all are in use or rest.
    pub fn allocate(&mut self, protocol: Protocol, endpoint: Addr, now: Instant) -> Option<Binding> {
        let group = self.group(protocol, endpoint);
        let random = self.draw();
        let Self { pools, v4, .. } = self;
        let (first, second) = pools.split_at_mut(*v4);
        let family = if endpoint.is_v4() { first } else { second };
        // A random address; the others only where that has no port left.
        let start = scale(random >> 32, family.len());
        for n in 0..family.len() {
            let at = (start + n) % family.len();
            let Pool { addr, classes } = family.get_mut(at)?;
            let Class { ports, groups } = &mut classes[class(protocol)];
            let taken = groups.get_mut(group)?.take(random, now).and_then(|rank| ports.at(rank));
            if let Some(port) = taken {
                return Some(Binding { addr: *addr, port });
            }
        }
        None
    }

    /// Gives back what [`Snat::allocate`] gave for the same protocol and endpoint. What it never gave is ignored.
    pub fn release(
        &mut self,
        protocol: Protocol,
        endpoint: Addr,
        binding: Binding,
        rest: Rest,
        now: Instant,
    ) {
        let group = self.group(protocol, endpoint);
        let Some(pool) = self.pools.iter_mut().find(|pool| pool.addr == binding.addr) else { return };
        let Class { ports, groups } = &mut pool.classes[class(protocol)];
        if let (Some(rank), Some(set)) = (ports.rank(binding.port), groups.get_mut(group)) {
            set.give_back(rank, rest == Rest::TimeWait, now);
        }
    }

    /// Between bursts: ends the rest of ports in one group, so that what [`Snat::usage`] says is not old.
    pub fn maintain(&mut self, now: Instant) {
        let per_pool = CLASSES * GROUPS;
        let Some(pool) = self.pools.get_mut(self.cursor / per_pool) else { return };
        let at = self.cursor % per_pool;
        if let Some(set) = pool.classes[at / GROUPS].groups.get_mut(at % GROUPS) {
            set.wake(now);
        }
        self.cursor = (self.cursor + 1) % (self.pools.len() * per_pool);
    }

    /// The addresses, and how their ports are used.
    pub fn usage(&self) -> impl Iterator<Item = (Addr, Usage)> {
        self.pools.iter().map(|pool| {
            let mut usage = Usage::default();
            for set in pool.classes.iter().flat_map(|class| &class.groups) {
                usage.used += u64::from(set.used());
                usage.resting += u64::from(set.resting());
                usage.free += u64::from(set.free());
            }
            (pool.addr, usage)
        })
    }

    /// Ports of the endpoint's address alone: two ports of one address are in the same group, always.
    #[inline]
    fn group(&self, protocol: Protocol, endpoint: Addr) -> usize {
        let to = Tuple { src: endpoint, dst: endpoint, sport: 0, dport: 0, protocol };
        self.grouping.of(&to) as usize % GROUPS
    }

    fn draw(&mut self) -> u64 {
        let later = self.drawn.wrapping_add(AHEAD as u64);
        let place = self.drawn as usize % AHEAD;
        self.drawn = self.drawn.wrapping_add(1);
        std::mem::replace(&mut self.ahead[place], random(self.key, later))
    }
}

/// The `n`-th random number of this key.
fn random((k0, k1): (u64, u64), n: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(k1, k0);
    hasher.write_u64(n);
    hasher.finish()
}

/// A random number of 32 bits as an index below `n`.
#[inline]
const fn scale(random: u64, n: usize) -> usize {
    (((random & 0xffff_ffff) * n as u64) >> 32) as usize
}
