//! The short way: a whole TCP segment or UDP datagram of a connection that is known, allowed, and has a next hop that is
//! known, too.
//!
//! It does what [`connection`](super::connection) does for such a packet, in the same order and with the same counts; whenever
//! anything is not as usual it gives the frame back untouched, and the long way decides. What a mode does to the packets of its
//! connections is chosen in two places, by the flow: [`modes::whole_ends`] here, [`rewrite::translate`] on the long way.
//! Plain packets have [a shorter way](super::plain) still, and those that go into a tunnel [their own](super::modes).

use super::burst::Slot;
use super::egress::{Exit, restation};
use super::modes::{self, Passage};
use super::shard::{Arrival, Shard, Turn};
use super::{Account, DropReason, Frame, Output};
use crate::addr::Mac;
use crate::conntrack::{Direction, FlowId};
use crate::ids::PortId;
use crate::neighbor::NextHop;
use crate::parse::Whole;
use crate::rewrite;
use crate::tables::Port;
use crate::wire::raw;

impl<F: Frame> Shard<F> {
    /// Takes the packet, or gives the frame back.
    #[inline(never)]
    pub(super) fn short_way<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        slot: &Slot,
        forwarded: &mut u64,
    ) -> Result<(), F> {
        let packet = &slot.packet;
        let Some((id, direction)) = slot.lead.connection() else { return Err(frame) };
        let entry = self.conntrack.entry(id);
        let pair = entry.pair();
        let hop = NextHop::from_bits(entry.next_hop(direction));
        let Some((egress, &mac)) = self.neighbors.ready(hop, turn.now) else { return Err(frame) };
        let config = &turn.tables.ports[egress.index()];
        let l3 = usize::from(packet.l3);
        let growth = modes::growth_of(self.conntrack.view(id), direction);
        if packet.l3_len as isize + growth > config.mtu as isize || config.l2_len() != l3 {
            return Err(frame);
        }
        if !self.conntrack.follow(id, direction, packet)
            && let Err(reason) = self.advance(turn, id, direction, &packet.l4_info())
        {
            self.drop(turn, port, frame, reason);
            return Ok(());
        }
        let account = Account { flow: Some(id), pair, bytes: packet.l3_len, icmp_error: None };
        let onward = Onward { egress, mac, config, account };
        let sent = self.send_replaced(turn, (port, frame), packet, (id, direction), &onward, forwarded);
        if let Err(frame) = sent {
            let arrival = Arrival { port, frame, packet: packet.packet() };
            let exit = Exit::To(egress, mac);
            let flow = self.conntrack.flow(id);
            self.forward_by_mode(turn, arrival, &Passage { id, flow: &flow, direction, exit, account });
        }
        Ok(())
    }

    /// Makes a packet of a connection one of the other side, and sends it; gives it back where that takes
    /// [more than other addresses and ports](modes::whole_ends).
    #[inline(always)]
    pub(super) fn send_replaced<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (port, mut frame): (PortId, F),
        packet: &Whole,
        (id, direction): (FlowId, Direction),
        onward: &Onward<'_>,
        forwarded: &mut u64,
    ) -> Result<(), F> {
        let view = self.conntrack.view(id);
        let Some(ends) = modes::whole_ends(view, self.conntrack.own(), packet, direction) else {
            return Err(frame);
        };
        let delta = view.entry().delta(direction);
        let delta = delta.unwrap_or_else(|| rewrite::deltas_between(packet.ends(), ends).map(raw::u16));
        let translated = rewrite::translate_whole(frame.data_mut(), packet, ends, delta);
        self.send_whole(turn, (port, frame), packet, translated, onward, forwarded);
        Ok(())
    }

    /// Puts the L2 header before a packet that was translated, and sends it.
    #[inline(always)]
    pub(super) fn send_whole<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (port, mut frame): (PortId, F),
        packet: &Whole,
        translated: Option<()>,
        onward: &Onward<'_>,
        forwarded: &mut u64,
    ) {
        let Onward { egress, mac, config, account } = *onward;
        if translated.and_then(|()| restation(frame.data_mut(), mac, config)).is_none() {
            return self.drop(turn, port, frame, DropReason::FrameTooShort);
        }
        // Padding is of the link that the packet came by.
        frame.truncate(usize::from(packet.l3) + packet.l3_len as usize);
        *forwarded += 1;
        self.count(&account);
        turn.out.forward(egress, frame, account);
    }
}

/// Where a packet whose header has the length of the egress port's leaves.
#[derive(Clone, Copy)]
pub(super) struct Onward<'t> {
    pub egress: PortId,
    pub mac: Mac,
    pub config: &'t Port,
    /// What it counts as.
    pub account: Account,
}
