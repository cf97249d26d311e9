//! Connections that have lost their endpoint: it is down or no longer configured, and the service wants them reset.
//!
//! When endpoints join [`Tables::resets`](crate::tables::Tables::resets), the worker walks its table a few entries a turn, marks their
//! connections, and tells both sides with the numbers that it has seen; until it is through, each packet asks. So an established packet
//! pays for this only while something is lost. Where segments were under way, a side answers with its own numbers (a challenge ACK, RFC
//! 5961 §3.2) or goes on sending, and is reset by that packet, whose numbers both accept. So is what cannot be told: of connections of
//! which one side alone is heard no numbers are known.

use arrayvec::ArrayVec;

use super::egress::Exit;
use super::shard::{Arrival, Shard, Turn};
use super::{DropReason, Frame, Output};
use crate::addr::Mac;
use crate::config::Protocol;
use crate::conntrack::{self, Direction, Flow, FlowId};
use crate::ids::PortId;
use crate::neighbor::NextHop;
use crate::parse::L4;
use crate::responder::{Reply, reset};

/// A firewall epoch that never is: the connection is to be judged anew.
const MARK: u32 = 0;

/// Connections of which both sides are told in one turn.
const AT_ONCE: usize = 16;

impl<F: Frame> Shard<F> {
    /// Marks and ends connections; whether there are more to look at.
    pub(super) fn sweep<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, budget: usize) -> bool {
        let Some(from) = self.sweep else { return false };
        let resets = &turn.tables.resets;
        let mut lost = ArrayVec::<_, AT_ONCE>::new();
        self.sweep =
            self.conntrack.mark(from, budget, MARK, |endpoint| resets.contains(&endpoint), &mut lost);
        for id in lost {
            self.end(turn, id);
        }
        self.sweep.is_some()
    }

    /// Tells both sides of a connection that it is over, in the place of what the other would send now. It counts as closed once both
    /// are told.
    fn end<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, id: FlowId) {
        let [Some(original), Some(reply)] =
            [Direction::Original, Direction::Reply].map(|d| self.conntrack.keepalive(id, d))
        else {
            return;
        };
        let flow = self.conntrack.flow(id);
        let mut all = true;
        for (direction, mut l4, to) in
            [(Direction::Reply, reply, flow.client), (Direction::Original, original, flow.endpoint)]
        {
            self.as_receiver_sees(id, direction, &mut l4);
            let hop = NextHop::from_bits(flow.next_hop[direction as usize]);
            match self.exit(turn, hop, to, direction) {
                Ok((_, Exit::To(port, mac))) => self.reset_onward(turn, &flow, direction, &l4, (port, mac)),
                _ => all = false,
            }
        }
        if all {
            let step = self.conntrack.end(id, turn.now);
            self.count_state(turn, id, Some(step.before), Some(step.after));
        }
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
            let mut l4 = arrival.packet.l4_info;
            self.as_client_sees(id, &flow, direction, &mut l4);
            self.as_receiver_sees(id, direction, &mut l4);
            self.reset_onward(turn, &flow, direction, &l4, (port, mac));
        }
        self.remove(turn, id);
        self.drop(turn, arrival.port, arrival.frame, DropReason::EndpointGone);
    }

    /// Sends the reset that goes on in the place of a packet with these numbers.
    fn reset_onward<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        flow: &Flow,
        direction: Direction,
        l4: &L4,
        (port, mac): (PortId, Mac),
    ) {
        let (from, to) = self.onward_ends(flow, direction);
        let egress = &turn.tables.ports[port.index()];
        let reply = Reply { to: mac, from: egress.mac, vlan: egress.vlan };
        if reset::write_onward(&mut self.scratch, l4, from, to, &reply).is_some() {
            self.originate_onward(turn, flow, direction, (port, mac));
        }
    }
}
