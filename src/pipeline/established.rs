//! The short way: a whole TCP segment or UDP datagram of a connection that is known, allowed, and has a next hop that is
//! known, too.
//!
//! It does what [`connection`](super::connection) does for such a packet, in the same order and with the same counts; whenever
//! anything is not as usual it gives the frame back untouched, and the long way decides. What a mode does to the packets of its
//! connections is chosen in two places, by the flow: [`rewrite::translate_whole`] here, [`rewrite::translate`] on the long way.
//! A mode without a short way gives the frame back where the step is not made yet.

use super::egress::Exit;
use super::modes::{self, Passage};
use super::shard::{Arrival, Shard, Turn};
use super::{Account, DropReason, Frame, Output};
use crate::conntrack::Lead;
use crate::dpdk::memory::prefetch;
use crate::ids::PortId;
use crate::neighbor::NextHop;
use crate::parse::Whole;
use crate::rewrite;
use crate::wire::tcp::flag;

impl<F: Frame> Shard<F> {
    /// Takes the packet, or gives the frame back.
    #[inline(always)]
    pub(super) fn short_way<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        mut frame: F,
        packet: &Whole,
        lead: Lead,
        forwarded: &mut u64,
    ) -> Result<(), F> {
        let Some((id, direction)) = self.conntrack.confirm(lead, &packet.tuple()) else { return Err(frame) };
        let flow = self.conntrack.flow(id);
        prefetch(self.writer.bank().pair(flow.pair));
        // A SYN may begin the connection anew; where a packet dies here, its sender may be told.
        let peculiar = packet.is_tcp && packet.flags & flag::SYN != 0 || packet.ttl <= 1;
        if peculiar || flow.epoch != turn.tables.firewall_epoch || !modes::has_short_way(flow, direction) {
            return Err(frame);
        }
        if turn.tables.services.have_server_ids()
            && !packet.is_tcp
            && self.is_misdirected(turn, &frame, &packet.packet(), id, direction)
        {
            return Err(frame);
        }
        let hop = NextHop::from_bits(flow.next_hop[direction as usize]);
        let Some((egress, &mac)) = self.neighbors.ready(hop, turn.now) else { return Err(frame) };
        let config = &turn.tables.ports[egress.index()];
        let l3 = usize::from(packet.l3);
        if !modes::fits(flow, direction, packet.l3_len, config.mtu) || config.l2_len() != l3 {
            return Err(frame);
        }
        if !self.conntrack.follow(id, direction, packet)
            && let Err(reason) = self.advance(turn, id, direction, &packet.l4_info())
        {
            self.drop(turn, port, frame, reason);
            return Ok(());
        }
        let flow = self.conntrack.flow(id);
        let Some(sides) = modes::sides(flow, self.conntrack.own(), packet, direction) else {
            let Whole { l3_len: bytes, .. } = *packet;
            let account = Account { pair: flow.pair, service: flow.service, bytes, icmp_error: false };
            let arrival = Arrival { port, frame, packet: packet.packet() };
            let (flow, exit) = (*flow, Exit::To(egress, mac));
            let passage = Passage { id, flow: &flow, direction, exit, account };
            self.forward_by_mode(turn, arrival, &passage);
            return Ok(());
        };
        let bytes = frame.data_mut();
        let translated = rewrite::translate_whole(bytes, packet, flow, &sides, direction);
        let (Some(()), Some((header, rest))) = (translated, bytes.split_first_chunk_mut::<12>()) else {
            self.drop(turn, port, frame, DropReason::FrameTooShort);
            return Ok(());
        };
        header[..6].copy_from_slice(&mac.0);
        header[6..].copy_from_slice(&config.mac.0);
        // The same length of header: a tag for a tag.
        if config.vlan != 0
            && let [_, _, high, low, ..] = rest
        {
            [*high, *low] = config.vlan.to_be_bytes();
        }
        // Padding is of the link that the packet came by.
        frame.truncate(l3 + packet.l3_len as usize);
        *forwarded += 1;
        let Whole { l3_len: bytes, .. } = *packet;
        turn.out.forward(
            egress,
            frame,
            Account { pair: flow.pair, service: flow.service, bytes, icmp_error: false },
        );
        Ok(())
    }
}
