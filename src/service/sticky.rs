//! Persistence: which endpoint a client address keeps.
//!
//! The table lives with the worker that a hash of the client's address picks, so there is one entry for a client and a service
//! whatever the number of workers. A client keeps its endpoint for the service's `persistence` after its last new connection.
//!
//! While its endpoint takes no connections (down, draining, of weight 0, not configured) the client gets a stand-in, to which it
//! sticks as well; it goes back when its endpoint does within the time.
//!
//! The table has a fixed size, and its pages are taken as clients come. A client lies in one of two buckets of eight; where both are full of
//! entries that have not run out, the one whose time ends first is forgotten, and its client may get another endpoint next time.

use std::hash::Hasher;

use bytemuck::Zeroable;
use siphasher::sip::SipHasher13;

use super::{Endpoint, Service};
use crate::addr::Addr;
use crate::ids::{EndpointId, ServiceId};
use crate::time::Instant;

const WAYS: usize = 8;

/// Clients that one worker remembers at most, however many connections its table holds.
const MAX_CLIENTS: usize = 1 << 20;

/// An endpoint, and until when the client keeps it: milliseconds; all 0: nothing.
#[derive(Clone, Copy, Zeroable)]
#[repr(C)]
struct Bond {
    until_ms: u64,
    endpoint: u32,
    _pad: u32,
}

/// A client of a service.
#[derive(Clone, Copy, Zeroable)]
#[repr(C)]
struct Client {
    addr: u128,
    home: Bond,
    stand_in: Bond,
    /// [`ServiceId`] + 1; 0: vacant.
    service: u32,
    _pad: [u32; 3],
}

impl Bond {
    fn to(endpoint: EndpointId, until_ms: u64) -> Self {
        Self { until_ms, endpoint: endpoint.0, _pad: 0 }
    }

    /// Its endpoint, if that takes connections now.
    fn holds<'s>(&self, service: &'s Service, now_ms: u64) -> Option<&'s Endpoint> {
        if self.until_ms <= now_ms {
            return None;
        }
        service.endpoint(EndpointId(self.endpoint)).filter(|endpoint| endpoint.takes_new())
    }
}

impl Client {
    fn new(service: ServiceId, client: Addr, home: Bond) -> Self {
        let stand_in = Bond::zeroed();
        Self { addr: client.0, home, stand_in, service: service.0 + 1, _pad: [0; 3] }
    }

    fn until_ms(&self) -> u64 {
        self.home.until_ms.max(self.stand_in.until_ms)
    }
}

/// The clients of one worker.
pub(crate) struct Sticky {
    key: (u64, u64),
    buckets: Box<[[Client; WAYS]]>,
}

impl std::fmt::Debug for Sticky {
    /// Without the hash key and the clients.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sticky").field("buckets", &self.buckets.len()).finish_non_exhaustive()
    }
}

impl Sticky {
    /// Room for as many clients as the worker's table has connections, 2²⁰ at most. `key` is secret, against hash flooding.
    pub fn new(connections: usize, key: (u64, u64)) -> Self {
        let buckets = connections.min(MAX_CLIENTS).div_ceil(WAYS).next_power_of_two().max(2);
        Self { key, buckets: bytemuck::zeroed_slice_box(buckets) }
    }

    /// The endpoint for a new connection of a client: the one that it keeps, or a new one, which it then keeps.
    pub fn choose<'s>(
        &mut self,
        service: &'s Service,
        client: Addr,
        now: Instant,
        pick: impl FnOnce() -> Option<&'s Endpoint>,
    ) -> Option<&'s Endpoint> {
        // Time 0 is a time, too.
        let now_ms = now.millis() + 1;
        let until_ms = now_ms.saturating_add(u64::from(service.persistence_ms));
        let (entry, known) = self.entry(service.id, client, now_ms);
        if !known {
            let new = pick()?;
            *entry = Client::new(service.id, client, Bond::to(new.id, until_ms));
            return Some(new);
        }
        if let Some(home) = entry.home.holds(service, now_ms) {
            entry.home.until_ms = until_ms;
            return Some(home);
        }
        if let Some(stand_in) = entry.stand_in.holds(service, now_ms) {
            entry.stand_in.until_ms = until_ms;
            return Some(stand_in);
        }
        let new = pick()?;
        let bond = Bond::to(new.id, until_ms);
        if entry.home.until_ms <= now_ms {
            *entry = Client::new(service.id, client, bond);
        } else {
            entry.stand_in = bond;
        }
        Some(new)
    }

    /// The client's entry, or, `false`, the one that it may have.
    fn entry(&mut self, service: ServiceId, client: Addr, now_ms: u64) -> (&mut Client, bool) {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u128(client.0);
        hasher.write_u32(service.0);
        let hash = hasher.finish();
        let mask = self.buckets.len() - 1;
        let first = hash as usize & mask;
        let second = first ^ ((hash >> 32) as usize | 1) & mask;
        let is = |entry: &Client| entry.service == service.0 + 1 && entry.addr == client.0;
        // The place to take: a free one in the bucket that has more of them, or else that of the first to be free.
        let (mut best, mut most) = ((u64::MAX, first, 0), 0);
        for bucket in [first, second] {
            let mut free = 0;
            for (way, entry) in self.buckets[bucket].iter().enumerate() {
                if is(entry) {
                    return (&mut self.buckets[bucket][way], true);
                }
                let until_ms = entry.until_ms();
                free += u32::from(until_ms <= now_ms);
                if until_ms < best.0 || until_ms <= now_ms && free > most {
                    best = (until_ms, bucket, way);
                    most = most.max(free);
                }
            }
        }
        let (_, bucket, way) = best;
        (&mut self.buckets[bucket][way], false)
    }
}

#[cfg(test)]
#[path = "sticky_tests.rs"]
mod tests;
