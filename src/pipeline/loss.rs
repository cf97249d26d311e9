//! Connections that have lost their endpoint: it is down or no longer configured, and the service wants them reset.
//!
//! When endpoints join [`Tables::resets`], the worker walks its table a few entries a turn and marks their connections; until it is
//! through, each packet asks. So an established packet pays for this only while something is lost. A connection is reset by its next
//! packet, whose numbers both sides accept.

use super::egress::Exit;
use super::shard::{Arrival, Shard, Turn};
use super::{DropReason, Frame, Output};
use crate::config::Protocol;
use crate::conntrack::{self, Direction, FlowId};
use crate::responder::{Reply, reset};
use crate::tables::Tables;

/// A firewall epoch that never is: the connection is to be judged anew.
const MARK: u32 = 0;

impl<F: Frame> Shard<F> {
    /// Marks connections; whether there are more to look at.
    pub(super) fn sweep(&mut self, tables: &Tables, budget: usize) -> bool {
        let Some(from) = self.sweep else { return false };
        self.sweep = self.conntrack.mark(from, budget, MARK, |endpoint| tables.resets.contains(&endpoint));
        self.sweep.is_some()
    }

    /// A packet of a connection that has lost its endpoint. UDP, and who has only just
    /// begun, finds another one; TCP and SCTP end on both sides.
    #[cold]
    pub(super) fn lost<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        id: FlowId,
        direction: Direction,
    ) {
        let flow = self.conntrack.flow(id);
        // A SYN or INIT begins anew, too.
        let opens = direction == Direction::Original && conntrack::opens(&arrival.packet.l4_info);
        if flow.protocol == Protocol::Udp || opens {
            if direction == Direction::Reply {
                return self.drop(turn, arrival.port, arrival.frame, DropReason::EndpointGone);
            }
            self.remove(turn, id);
            return self.first(turn, arrival);
        }
        self.reset(turn, &arrival);
        if let Ok(Exit::To(port, mac)) = self.way_out(turn, &arrival, id, direction) {
            let (from, to) = self.onward_ends(&flow, direction);
            let egress = &turn.tables.ports[port.index()];
            let reply = Reply { to: mac, from: egress.mac, vlan: egress.vlan };
            let mut packet = arrival.packet;
            self.as_receiver_sees(id, &flow, direction, &mut packet);
            if reset::write_onward(&mut self.scratch, &packet, from, to, &reply).is_some() {
                self.originate_onward(turn, &flow, direction, (port, mac));
            }
        }
        self.remove(turn, id);
        self.drop(turn, arrival.port, arrival.frame, DropReason::EndpointGone);
    }
}
