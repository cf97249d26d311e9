//! Which worker owns a connection: both directions must give the same answer, whatever queue they come in by.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::Tuple;
use crate::fragment;
use crate::ids::WorkerId;
use crate::service::Services;
use crate::steering::{Clients, Steering};

/// The keyed function from clients to workers. The key is the same for all workers of a process and secret, so that nobody
/// can aim connections at one worker.
#[derive(Debug)]
pub struct Owner {
    key: u64,
    workers: u8,
    /// None for a single worker, which owns all.
    clients: Option<Box<Clients>>,
}

/// The last address that was asked after, and whether it is a VIP: in a burst it is often the next packet's, too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastVip(Option<(Addr, bool)>);

impl LastVip {
    /// Whether an address is a VIP.
    #[inline]
    pub fn is_vip(&mut self, services: &Services, addr: Addr) -> bool {
        match self.0 {
            Some((same, is_vip)) if same == addr => is_vip,
            _ => self.0.insert((addr, services.is_vip(addr))).1,
        }
    }
}

impl Owner {
    /// For this many workers.
    #[must_use]
    pub fn new(key: u64, workers: u8) -> Self {
        let clients = (workers > 1).then(|| Box::new(Clients::new(&Steering::new(key, workers))));
        Self { key, workers, clients }
    }

    /// Whether there are several workers.
    #[inline]
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.workers > 1
    }

    /// The owner of the connection of a packet with this tuple: towards a VIP the source is the client, else it comes
    /// from an endpoint, or is of no connection, and the destination is.
    #[must_use]
    pub fn of(&self, tuple: &Tuple, services: &Services) -> WorkerId {
        self.of_side(tuple, services.is_vip(tuple.dst))
    }

    /// The same, where it is known whether the packet is towards a VIP.
    #[inline]
    #[must_use]
    pub fn of_side(&self, tuple: &Tuple, to_vip: bool) -> WorkerId {
        if to_vip {
            self.of_client(tuple.src, tuple.sport, tuple.protocol)
        } else {
            self.of_client(tuple.dst, tuple.dport, tuple.protocol)
        }
    }

    /// The owner of the connection that a quoted packet, one that the engine had sent, is of.
    #[must_use]
    pub fn of_quoted(&self, tuple: &Tuple, services: &Services) -> WorkerId {
        if services.is_vip(tuple.src) {
            self.of_client(tuple.dst, tuple.dport, tuple.protocol)
        } else {
            self.of_client(tuple.src, tuple.sport, tuple.protocol)
        }
    }

    /// The worker that keeps what is known of a client's address.
    #[must_use]
    pub fn of_address(&self, client: Addr) -> WorkerId {
        if self.workers <= 1 {
            return WorkerId(0);
        }
        let mut hasher = SipHasher13::new_with_keys(self.key, 0x6164_6472_6573_7300);
        hasher.write_u128(client.0);
        WorkerId((hasher.finish() % u64::from(self.workers)) as u8)
    }

    /// The worker that learns the ports of a datagram that comes in fragments.
    #[must_use]
    pub fn of_datagram(&self, key: &fragment::Key) -> WorkerId {
        if self.workers <= 1 {
            return WorkerId(0);
        }
        let mut hasher = SipHasher13::new_with_keys(self.key, 0x6461_7461_6772_616d);
        fragment::hash(key, &mut hasher);
        WorkerId((hasher.finish() % u64::from(self.workers)) as u8)
    }

    /// The owner of a full NAT connection whose endpoint answers to this SNAT address and port.
    #[must_use]
    pub fn of_snat(&self, addr: Addr, port: u16, protocol: Protocol) -> WorkerId {
        self.of_client(addr, port, protocol)
    }

    #[inline]
    fn of_client(&self, addr: Addr, port: u16, protocol: Protocol) -> WorkerId {
        match &self.clients {
            None => WorkerId(0),
            // The paths of an SCTP association differ in address.
            Some(clients) if protocol == Protocol::Sctp => clients.worker_of_port(port),
            Some(clients) => clients.worker(addr, port),
        }
    }
}
