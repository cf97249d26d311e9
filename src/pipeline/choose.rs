//! Which endpoint a new connection gets.
//!
//! With `persistence` that is up to one worker for all connections of a client, the one that a hash of the client's address picks.
//! The connection itself belongs to the worker that a hash of the 5-tuple picks, and stays there: its first packet makes a
//! detour, from its owner to the client's worker and back, with the answer. Packets that come meanwhile make it too, and rings
//! keep order.

use super::shard::{Arrival, Shard, Turn};
use super::{Frame, Handed, Output};
use crate::conntrack::{FlowId, Tuple, View};
use crate::counters::FlowState;
use crate::ids::{EndpointId, WorkerId};
use crate::parse::Packet;
use crate::service::{Asker, Service};

/// What a frame is handed to another worker for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Errand {
    /// It owns the connection, or learns the ports of a datagram in fragments.
    #[default]
    Own,
    /// It is to say which endpoint the client has, and to hand the frame back to this worker.
    Choose(WorkerId),
    /// The answer to that; none where no endpoint takes connections, or the frame begins none.
    Chosen(Option<EndpointId>),
}

impl<F: Frame> Shard<F> {
    /// The endpoint for the connection that this packet begins, or, `opens` being false, that it is in the midst of: then it is
    /// what the client's address and port say, on any box.
    pub(super) fn choose<O>(
        &mut self,
        turn: &Turn<'_, O>,
        packet: &Packet,
        service: &Service,
        opens: bool,
    ) -> Option<EndpointId> {
        let foreseen = self.foreseen.and_then(|foreseen| service.endpoint(foreseen.endpoint));
        let picked = |worker, peers: &[_]| {
            if foreseen.is_some() {
                return foreseen;
            }
            let (client, client_port) = (packet.src, packet.ports().0);
            service.pick(&Asker { client, client_port, worker, peers, now: turn.now })
        };
        let endpoint = match self.errand {
            Errand::Chosen(Some(id)) if opens && service.endpoint(id).is_some_and(|e| e.takes_new()) => {
                return Some(id);
            }
            Errand::Chosen(_) => picked(self.worker, &self.peers),
            _ if opens && service.persistence_ms > 0 => {
                let (worker, peers) = (self.worker, &self.peers);
                self.sticky.choose(service, packet.src, turn.now, || picked(worker, peers))
            }
            _ => picked(self.worker, &self.peers),
        };
        endpoint.map(|endpoint| endpoint.id)
    }

    /// Hands a packet that belongs to no connection yet to the worker of its client, where that is another and decides. The packet
    /// comes back where it is not for others to decide.
    pub(super) fn detour<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        service: &Service,
        ports: (u16, u16),
    ) -> Option<Arrival<F>> {
        if service.persistence_ms == 0 || self.errand != Errand::Own {
            return Some(arrival);
        }
        let worker = self.owner.of_address(arrival.packet.src);
        if worker == self.worker {
            return Some(arrival);
        }
        let ports = arrival.packet.fragment.is_some().then_some(ports);
        let errand = Errand::Choose(self.worker);
        self.hand_off(turn, worker, Handed { port: arrival.port, frame: arrival.frame, ports, errand });
        None
    }

    /// Does what another worker wants of us.
    pub(super) fn answer<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        ports: Option<(u16, u16)>,
        owner: WorkerId,
    ) {
        let packet = &arrival.packet;
        let begins = packet.fragment.as_ref().is_none_or(crate::wire::fragment::Fragment::is_first);
        let service = begins.then(|| super::connection::service_of(turn, packet)).flatten();
        let chosen = service.and_then(|service| self.choose(turn, packet, service, true));
        let errand = Errand::Chosen(chosen);
        self.hand_off(turn, owner, Handed { port: arrival.port, frame: arrival.frame, ports, errand });
    }

    /// The service that has persistence and is meant by a fragment of a datagram without a connection.
    pub(super) fn sticky_service<'t, O>(turn: &Turn<'t, O>, tuple: Option<Tuple>) -> Option<&'t Service> {
        let Tuple { dst, dport, protocol, .. } = tuple?;
        turn.tables.services.lookup(dst, dport, protocol).filter(|service| service.persistence_ms > 0)
    }

    /// Counts that a connection has gone from a state to another.
    pub(super) fn count_state<O>(
        &self,
        turn: &Turn<'_, O>,
        id: FlowId,
        before: Option<FlowState>,
        after: Option<FlowState>,
    ) {
        count_state(&self.writer, self.worker, turn.tables, self.conntrack.view(id), before, after);
    }

    /// Counts that a connection has begun.
    pub(super) fn count_new<O>(&self, turn: &Turn<'_, O>, id: FlowId) {
        self.count_state(turn, id, None, Some(self.conntrack.state(id)));
    }
}

/// As [`Shard::count_state`], beside a borrowed table.
#[inline]
pub(super) fn count_state(
    writer: &crate::counters::Writer,
    worker: WorkerId,
    tables: &crate::tables::Tables,
    view: View<'_>,
    before: Option<FlowState>,
    after: Option<FlowState>,
) {
    let released = writer.flow_state(view.entry().protocol(), view.endpoint_id(), before, after);
    if released && let Some(service) = tables.services.by_id(view.service()) {
        service.released(worker, view.endpoint_id());
    }
}
