//! The short way: a whole TCP segment or UDP datagram of a connection that is known, allowed, and has a next hop that is
//! known, too.
//!
//! It does what [`connection`](super::connection) does for such a packet, in the same order and with the same counts; whenever
//! anything is not as usual it gives the frame back untouched, and the long way decides. What a mode does to the packets of its
//! connections is chosen in two places, by the flow: [`rewrite::translate_whole`] here, [`rewrite::translate`] on the long way.
//! A mode without a short way gives the frame back where the step is not made yet.

use super::shard::{Shard, Turn};
use super::{Account, DropReason, Frame, Output};
use crate::addr::Mac;
use crate::conntrack::{Direction, Flow, FlowId, Lead};
use crate::dpdk::memory::prefetch;
use crate::ids::PortId;
use crate::neighbor::NextHop;
use crate::parse::Whole;
use crate::rewrite;
use crate::tables::Port;
use crate::wire::tcp::flag;

impl<F: Frame> Shard<F> {
    /// Takes the packet, or gives the frame back.
    #[inline(always)]
    pub(super) fn short_way<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        packet: &Whole,
        lead: Lead,
        forwarded: &mut u64,
    ) -> Result<(), F> {
        let Some(mut known) = self.conntrack.confirm(lead, &packet.tuple()) else { return Err(frame) };
        let (id, direction) = (known.id(), known.direction());
        let flow = known.flow();
        prefetch(self.writer.bank().pair(flow.pair));
        // A SYN may begin the connection anew; where a packet dies here, its sender may be told.
        let peculiar = packet.is_tcp && packet.flags & flag::SYN != 0 || packet.ttl <= 1;
        if peculiar || flow.epoch != turn.tables.firewall_epoch || self.sweep.is_some() {
            return Err(frame);
        }
        let hop = NextHop::from_bits(flow.next_hop[direction as usize]);
        let Some((egress, &mac)) = self.neighbors.ready(hop, turn.now) else { return Err(frame) };
        let config = &turn.tables.ports[egress.index()];
        if packet.l3_len > u32::from(config.mtu) || config.l2_len() != usize::from(packet.l3) {
            return Err(frame);
        }
        let way = Way { egress, mac, config };
        let sent = if known.follow(packet) {
            send(turn.out, frame, packet, known.flow(), direction, &way)
        } else {
            if let Err(reason) = self.change(turn, id, direction, packet) {
                self.drop(turn, port, frame, reason);
                return Ok(());
            }
            send_changed(turn.out, frame, packet, self.conntrack.flow(id), direction, &way)
        };
        match sent {
            Ok(()) => *forwarded += 1,
            Err(frame) => self.drop(turn, port, frame, DropReason::FrameTooShort),
        }
        Ok(())
    }

    /// A packet that is not as most are acts on its connection's state.
    #[inline(never)]
    fn change<O>(
        &mut self,
        turn: &Turn<'_, O>,
        id: FlowId,
        direction: Direction,
        packet: &Whole,
    ) -> Result<(), DropReason> {
        self.advance(turn, id, direction, &packet.l4_info())
    }
}

/// Where a packet leaves.
struct Way<'a> {
    egress: PortId,
    mac: Mac,
    config: &'a Port,
}

/// Translates a packet and sends it; the frame comes back, worth nothing, where its bytes are not what the parser saw.
#[inline(always)]
fn send<F: Frame, O: Output<F>>(
    out: &mut O,
    mut frame: F,
    packet: &Whole,
    flow: &Flow,
    direction: Direction,
    way: &Way<'_>,
) -> Result<(), F> {
    let Way { egress, mac, config } = way;
    let bytes = frame.data_mut();
    let translated = rewrite::translate_whole(bytes, packet, flow, direction);
    let (Some(()), Some((header, rest))) = (translated, bytes.split_first_chunk_mut::<12>()) else {
        return Err(frame);
    };
    header[..6].copy_from_slice(&mac.0);
    header[6..].copy_from_slice(&config.mac.0);
    // The same length of header: a tag for a tag.
    if config.vlan != 0
        && let [_, _, high, low, ..] = rest
    {
        [*high, *low] = config.vlan.to_be_bytes();
    }
    let Whole { l3, l3_len: bytes, .. } = *packet;
    // Padding is of the link that the packet came by.
    frame.truncate(usize::from(l3) + bytes as usize);
    let account = Account { pair: flow.pair, service: flow.service, bytes, icmp_error: false };
    out.forward(*egress, frame, account);
    Ok(())
}

/// [`send`], apart from where most packets pass.
#[inline(never)]
fn send_changed<F: Frame, O: Output<F>>(
    out: &mut O,
    frame: F,
    packet: &Whole,
    flow: &Flow,
    direction: Direction,
    way: &Way<'_>,
) -> Result<(), F> {
    send(out, frame, packet, flow, direction, way)
}
