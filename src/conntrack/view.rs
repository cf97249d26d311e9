//! A connection put together from where it lies.

use super::entry::{Entry, Wide};
use super::machine::Machine;
use super::rest::Rest;
use super::{Direction, Flow, Form, OwnAddresses, Tuple};
use crate::addr::Addr;
use crate::counters::FlowState;
use crate::ids::{EndpointId, ServiceId};
use crate::parse::Whole;
use crate::wire::raw;

/// A handshake that makes no progress is given up after this, milliseconds.
const HALF_OPEN_MS: u32 = 10_000;

/// A connection that one side has finished is forgotten after this long without a packet, milliseconds.
const CLOSING_MS: u32 = 120_000;

/// Stragglers of a finished connection pass for this long, milliseconds.
const CLOSED_MS: u32 = 10_000;

/// A connection as those see it who are not in a hurry.
#[derive(Clone, Copy, Debug)]
pub struct View<'t> {
    pub(super) entry: &'t Entry,
    pub(super) rest: &'t Rest,
    pub(super) wide: &'t Wide,
}

impl<'t> View<'t> {
    /// What its packets need.
    #[inline]
    #[must_use]
    pub const fn entry(&self) -> &'t Entry {
        self.entry
    }

    /// The service.
    #[inline]
    #[must_use]
    pub const fn service(&self) -> ServiceId {
        self.rest.owner.service()
    }

    /// The endpoint.
    #[inline]
    #[must_use]
    pub const fn endpoint_id(&self) -> EndpointId {
        self.rest.owner.endpoint()
    }

    /// Client, VIP and endpoint.
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> [Addr; 3] {
        if self.entry.is_wide() {
            let [client, vip, endpoint, _] = self.wide;
            [Addr(*client), Addr(*vip), Addr(*endpoint)]
        } else {
            self.entry.ends_v4().map(|(addr, _)| Addr::v4(addr.to_be_bytes()))
        }
    }

    /// All of it.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let ((source, source_port), form) = (self.entry.source(), self.entry.form());
        let [(_, client_port), (_, vip_port), (_, endpoint_port)] = self.entry.ends_v4();
        let [client, vip, endpoint] = self.addresses();
        Flow {
            client,
            vip,
            endpoint,
            client_port,
            vip_port,
            endpoint_port,
            protocol: self.entry.protocol(),
            ingress: self.entry.ingress(),
            service: self.service(),
            endpoint_id: self.endpoint_id(),
            pair: self.entry.pair(),
            delta: if form == Form::Dnat {
                self.entry.plain_delta(Direction::Original).map(raw::u16)
            } else {
                [0; 2]
            },
            next_hop: [Direction::Original, Direction::Reply].map(|d| self.entry.next_hop(d)),
            epoch: self.entry.epoch(),
            idle_timeout_ms: self.rest.owner.idle_ms(),
            form,
            source,
            source_port,
        }
    }

    /// Whether [`Flow::tuple_by`] is `tuple`.
    #[inline(always)]
    pub(super) fn has_tuple(&self, direction: Direction, tuple: &Tuple, own: &OwnAddresses) -> bool {
        if self.entry.is_plain_of(tuple.protocol) {
            return tuple.src.is_v4() && tuple.dst.is_v4() && self.entry.has_v4(direction, tuple);
        }
        self.entry.protocol() == tuple.protocol && self.tuple(direction, own) == *tuple
    }

    /// [`Self::has_tuple`] of a packet's, where [`Entry::has_plain`] does not tell.
    #[inline]
    pub(super) fn has_packet(&self, direction: Direction, packet: &Whole, own: &OwnAddresses) -> bool {
        self.entry.protocol() == packet.protocol() && self.tuple(direction, own) == packet.tuple()
    }

    /// [`Flow::tuple_by`].
    #[inline]
    pub(super) fn tuple(&self, direction: Direction, own: &OwnAddresses) -> Tuple {
        let [(_, client_port), (_, vip_port), (_, endpoint_port)] = self.entry.ends_v4();
        let [client, vip, endpoint] = self.addresses();
        let (client, vip) = ((client, client_port), (vip, vip_port));
        let form = self.entry.form();
        let ((src, sport), (dst, dport)) = match direction {
            Direction::Original => (client, vip),
            Direction::Reply if form.is_one_sided() => (vip, client),
            Direction::Reply if form.is_full_nat() => {
                let (source, source_port) = self.entry.source();
                ((endpoint, endpoint_port), (own.get(source), source_port))
            }
            Direction::Reply => ((endpoint, endpoint_port), client),
        };
        Tuple { src, dst, sport, dport, protocol: self.entry.protocol() }
    }

    /// How long an entry in `state` lives without a refresh.
    pub(super) fn timeout_ms(&self, state: FlowState) -> u32 {
        match state {
            // Nothing tells a UDP handshake from a talk that the server does not answer.
            FlowState::HalfOpen if matches!(self.entry.machine, Machine::Udp(_)) => self.rest.owner.idle_ms(),
            FlowState::HalfOpen => HALF_OPEN_MS,
            FlowState::Established => self.rest.owner.idle_ms(),
            FlowState::Closing => CLOSING_MS,
            FlowState::Closed => CLOSED_MS,
        }
    }

    /// Milliseconds until it is due, seen at `now_ms`; 0: it is.
    #[inline]
    pub(super) fn left_ms(&self, now_ms: u64) -> u32 {
        let timeout_ms = self.timeout_ms(self.entry.machine.flow_state());
        timeout_ms.saturating_sub(self.entry.silent_ms(now_ms))
    }
}
