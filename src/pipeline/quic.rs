//! QUIC connections that move: where the client's address or port changes, the 5-tuple says nothing any more, but the
//! connection id that the server chose still names that server (RFC 9000 §5.1, draft-ietf-quic-load-balancers).
//!
//! Only short headers are read: the connection id in a long one is the client's own choice until the handshake is done.

use super::Frame;
use super::shard::{Shard, Turn};
use crate::conntrack::{Direction, FlowId};
use crate::parse::{L4, Packet};
use crate::service::{Endpoint, Service};
use crate::tables::Tables;
use crate::wire::udp::Udp;

/// The endpoint that the connection id of a QUIC packet for this service names; not one that has lost its connections.
pub(super) fn named<'s, F: Frame>(
    tables: &Tables,
    frame: &F,
    packet: &Packet,
    service: &'s Service,
) -> Option<&'s Endpoint> {
    if !service.has_server_ids() || !matches!(packet.l4_info, L4::Udp { .. }) {
        return None;
    }
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let datagram = frame.data().get(l4..l3 + packet.l3_len as usize)?;
    let named = service.named(Udp::new_checked(datagram).ok()?.payload())?;
    (!tables.resets.contains(&named.id)).then_some(named)
}

impl<F: Frame> Shard<F> {
    /// Whether a packet of a known client belongs to another endpoint than the client's packets have gone to so far: a NAT gave
    /// the port to another client, or one with several connections moved one of them here. The tuple follows the packet;
    /// else the endpoint would get a connection that it knows nothing of, and the other one would lose its own.
    pub(super) fn is_misdirected<O>(
        &self,
        turn: &Turn<'_, O>,
        frame: &F,
        packet: &Packet,
        id: FlowId,
        direction: Direction,
    ) -> bool {
        if !turn.tables.services.have_server_ids() || direction != Direction::Original {
            return false;
        }
        let view = self.conntrack.view(id);
        let service = turn.tables.services.by_id(view.service());
        let named = service.and_then(|service| named(turn.tables, frame, packet, service));
        // What dies here moves nothing.
        packet.ttl > 1 && named.is_some_and(|endpoint| endpoint.id != view.endpoint_id())
    }
}
