//! What a first packet will need, found out and fetched while the others of its burst are looked at.

use super::shard::Shard;
use super::{DropReason, Frame};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Form, Tuple};
use crate::counters::PairKey;
use crate::ids::EndpointId;
use crate::neighbor::{Neighbors, NextHop};
use crate::parse::Whole;
use crate::route::Routes;
use crate::tables::Tables;

/// What follows from a first packet and the tables alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreseen {
    /// Its service's place among all.
    pub service: u32,
    /// The endpoint that the client's address and port give: its place in the service.
    pub nth: u32,
    /// And its slot.
    pub endpoint: EndpointId,
    /// Its address.
    pub address: Addr,
    /// Hash of its pair.
    pub pair: u64,
    /// Hash of the replies' tuple, where that is known beforehand.
    pub reply: Option<u64>,
    /// Whether the service [asks no more](crate::service::Service::is_plain).
    pub plain: bool,
}

/// The service of the last first packet: in a burst it is often the next one's, too.
#[derive(Clone, Copy, Default)]
pub(super) struct LastService(Option<((Addr, u16, Protocol), u32)>);

impl LastService {
    #[inline]
    fn place(&mut self, tables: &Tables, tuple: &Tuple) -> Option<u32> {
        let asked = (tuple.dst, tuple.dport, tuple.protocol);
        match self.0 {
            Some((same, place)) if same == asked => Some(place),
            _ => {
                let place = tables.services.place_of(tuple.dst, tuple.dport, tuple.protocol)?;
                self.0 = Some((asked, place));
                Some(place)
            }
        }
    }
}

/// What a first packet draws: a service's place among all, and the slot of its table that says which endpoint.
#[derive(Clone, Copy)]
pub(super) struct Draw {
    service: u32,
    slot: usize,
}

impl<F: Frame> Shard<F> {
    /// First of three steps towards what [`first`](Self::first) will find out about a packet that may open a connection.
    #[inline]
    pub(super) fn draw(tables: &Tables, packet: &Whole, last: &mut LastService) -> Option<Draw> {
        let tuple = packet.tuple();
        let place = last.place(tables, &tuple)?;
        let slot = tables.services.at(place)?.draw(tuple.src, tuple.sport)?;
        Some(Draw { service: place, slot })
    }

    /// Second step; fetches where the pair will be looked for.
    #[inline]
    pub(super) fn foresee(&self, tables: &Tables, packet: &Whole, draw: Draw) -> Option<Foreseen> {
        let service = tables.services.at(draw.service)?;
        let nth = service.drawn(draw.slot)?;
        let endpoint = service.endpoints.get(nth)?;
        let answers_from = match service.delivery.form {
            Form::Dnat => Some((endpoint.addr, endpoint.port)),
            Form::DsrL2 | Form::DsrIpip | Form::DsrGue => Some((packet.dst(), 0)),
            // To a port that is drawn when the connection is entered.
            Form::FullNat(_) => None,
        };
        let reply = answers_from.map(|from| self.conntrack.hash_of_reply(packet, from));
        let key = PairKey { service: service.id, endpoint: endpoint.id, client: packet.src() };
        Some(Foreseen {
            service: draw.service,
            nth: nth as u32,
            endpoint: endpoint.id,
            address: endpoint.addr,
            pair: self.pairs.prefetch(&key),
            reply,
            plain: service.is_plain(),
        })
    }

    /// Third step, so many packets before the verdict; fetches where the replies will be looked for, or the port drawn, the pair's counters,
    /// and what is known of it.
    #[inline]
    pub(super) fn foresee_rest(&self, packet: &Whole, foreseen: &Foreseen, before: usize) {
        match foreseen.reply {
            Some(reply) => self.conntrack.prefetch(reply),
            None => self.modes.foresee_source(before, packet.protocol(), foreseen.address),
        }
        self.pairs.prefetch_slot(&self.writer, foreseen.pair);
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
