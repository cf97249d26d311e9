//! What a first packet will need, found out and fetched while the others of its burst are looked at.

use super::shard::Shard;
use super::{DropReason, Frame};
use crate::addr::Addr;
use crate::conntrack::Tuple;
use crate::counters::PairKey;
use crate::ids::EndpointId;
use crate::neighbor::{Neighbors, NextHop};
use crate::parse::Whole;
use crate::route::Routes;
use crate::tables::Tables;

/// What follows from a first packet and the tables alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreseen {
    /// The endpoint that the client's address and port give.
    pub endpoint: EndpointId,
    /// Where its pair is.
    pub pair: u32,
}

impl<F: Frame> Shard<F> {
    /// What [`first`](Self::first) will find out about a packet that may open a connection; fetches what it will read.
    pub(super) fn foresee(&self, tables: &Tables, packet: &Whole) -> Option<Foreseen> {
        let tuple = packet.tuple();
        let service = tables.services.lookup(tuple.dst, tuple.dport, tuple.protocol)?;
        let endpoint = service.foresee(tuple.src, tuple.sport)?;
        let sport = if endpoint.port == 0 { tuple.dport } else { endpoint.port };
        let reply = Tuple { src: endpoint.addr, dst: tuple.src, sport, dport: tuple.sport, ..tuple };
        self.conntrack.prefetch(self.conntrack.hash(&reply));
        let key = PairKey { service: service.id, endpoint: endpoint.id, client: tuple.src };
        Some(Foreseen { endpoint: endpoint.id, pair: self.pairs.prefetch(&key) })
    }
}

/// Endpoints whose next hop is kept; a power of two.
const PLACES: usize = 256;

/// The next hops of endpoints, so that not every connection has to look one up.
#[derive(Debug)]
pub(super) struct Hops(Box<[Option<(Addr, NextHop)>; PLACES]>);

impl Hops {
    pub fn new() -> Self {
        Self(Box::new([None; PLACES]))
    }

    /// The next hop towards an address of an endpoint: what is kept, unless routes have changed since.
    #[inline]
    pub fn towards(
        &mut self,
        endpoint: EndpointId,
        address: Addr,
        neighbors: &mut Neighbors,
        routes: &Routes,
    ) -> Result<NextHop, DropReason> {
        let place = &mut self.0[endpoint.index() % PLACES];
        if let Some((addr, hop)) = *place
            && addr == address
            && neighbors.is_current(hop)
        {
            return Ok(hop);
        }
        let route = routes.lookup(address).ok_or(DropReason::NoRoute)?;
        // Pinned: its slot is given to no other.
        let hop = neighbors.intern(route, true).ok_or(DropReason::NeighborUnresolved)?;
        *place = Some((address, hop));
        Ok(hop)
    }
}
