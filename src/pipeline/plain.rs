//! The shortest way: a run of whole packets of IPv4, in the midst of connections whose destination alone is replaced; or both ends, or
//! none.
//!
//! That is most of what there is, so all that can be known beforehand is: the packet was parsed and [recognised](super::burst), nothing
//! about it is peculiar, its connection is allowed. What is left is done as [`connection`](super::connection) does it, in the same order
//! and with the same counts; whenever anything is not as usual it gives the frame back untouched, and the long way decides.

use std::slice;

use super::burst::{Slot, Way};
use super::egress::restation;
use super::modes;
use super::shard::{Shard, Turn, Via};
use super::{Account, Frame, Output};
use crate::addr::Mac;
use crate::conntrack::{Direction, Entry, OwnAddresses};
use crate::ids::PortId;
use crate::neighbor::NextHop;
use crate::parse::Whole;
use crate::rewrite;
use crate::tables::Port;
use crate::wire::ethernet;

/// What is left of a burst: what is known of its packets, the packets, and those of the next burst that are not fetched yet.
pub(super) type Queue<'b, 's, F, I> = (&'b mut slice::Iter<'s, Slot>, &'b mut I, &'b mut slice::Iter<'s, F>);

/// Source and destination of a packet of IPv4 as it goes on, addresses and ports, and what that adds to its checksums; all as on the
/// wire.
type Onto = ((u64, u32), [u16; 2]);

impl<F: Frame> Shard<F> {
    /// Takes packets as long as they are plain: all of the run, or until one turns out not to be, which comes back.
    #[inline(never)]
    pub(super) fn plain_way<'s, T, O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        queue: Queue<'_, 's, F, impl Iterator<Item = T>>,
        take: impl Fn(T) -> (PortId, F, Via),
        forwarded: &mut u64,
    ) -> Option<(&'s Slot, (PortId, F, Via))> {
        self.run_of(Way::Plain, turn, queue, take, forwarded, |entry, _, direction, _| {
            (entry.goes_v4(direction), entry.plain_delta(direction))
        })
    }

    /// The same of those of other modes whose addresses and ports are [replaced at most](modes::onto_v4).
    #[inline(never)]
    pub(super) fn replaced_way<'s, T, O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        queue: Queue<'_, 's, F, impl Iterator<Item = T>>,
        take: impl Fn(T) -> (PortId, F, Via),
        forwarded: &mut u64,
    ) -> Option<(&'s Slot, (PortId, F, Via))> {
        self.run_of(Way::Replaced, turn, queue, take, forwarded, modes::onto_v4)
    }

    #[inline(always)]
    fn run_of<'s, T, O: Output<F>>(
        &mut self,
        way: Way,
        turn: &mut Turn<'_, O>,
        (slots, frames, ahead): Queue<'_, 's, F, impl Iterator<Item = T>>,
        take: impl Fn(T) -> (PortId, F, Via),
        forwarded: &mut u64,
        onto: impl Fn(&Entry, &Whole, Direction, &OwnAddresses) -> Onto,
    ) -> Option<(&'s Slot, (PortId, F, Via))> {
        let Turn { tables, now, out } = turn;
        let ports: &[Port] = &tables.ports;
        let now_ms = self.conntrack.now_ms();
        let mut sent = 0;
        let odd = loop {
            let Some(slot) = slots.as_slice().first() else { break None };
            if slot.way != way {
                break None;
            }
            slots.next();
            let Some(next) = frames.next() else { break None };
            let (port, mut frame, via) = take(next);
            if let Some(ahead) = ahead.next() {
                ahead.prefetch();
            }
            let packet = &slot.packet;
            let connection = slot.lead.connection();
            let Some((id, direction, (entry, own))) =
                connection.and_then(|(id, d)| Some((id, d, self.conntrack.get_mut(id)?)))
            else {
                break Some((slot, (port, frame, via)));
            };
            let hop = NextHop::from_bits(entry.next_hop(direction));
            let Some((egress, mac)) = self.neighbors.ready(hop, *now) else {
                break Some((slot, (port, frame, via)));
            };
            let Some(config) = ports.get(egress.index()) else {
                break Some((slot, (port, frame, via)));
            };
            let pair = entry.pair();
            // Each with its bounds known beforehand.
            let onto = |entry: &Entry| onto(entry, packet, direction, own);
            let to = (*mac, config);
            let done = if config.vlan == 0 {
                readdress::<{ ethernet::HEADER_LEN }, F>(
                    &mut frame,
                    (packet, direction),
                    entry,
                    onto,
                    to,
                    now_ms,
                )
            } else {
                readdress::<{ ethernet::TAGGED_LEN }, F>(
                    &mut frame,
                    (packet, direction),
                    entry,
                    onto,
                    to,
                    now_ms,
                )
            };
            if done.is_none() {
                break Some((slot, (port, frame, via)));
            }
            if entry.count(packet.l3_len) {
                self.conntrack.carry(id);
            }
            sent += 1;
            out.forward(
                egress,
                frame,
                Account { flow: Some(id), pair, bytes: packet.l3_len, icmp_error: None },
            );
        };
        *forwarded += sent;
        odd
    }
}

/// Makes the packet that of the other side, to go out of this port to this station, where Ethernet's header is as long as it was,
/// `L2`; else, and where anything is not as usual, `None`, and the frame is as it was.
#[inline(always)]
fn readdress<const L2: usize, F: Frame>(
    frame: &mut F,
    (packet, direction): (&Whole, Direction),
    entry: &mut Entry,
    onto: impl Fn(&Entry) -> Onto,
    (mac, config): (Mac, &Port),
    now_ms: u32,
) -> Option<()> {
    if usize::from(packet.l3) != L2
        || packet.l3_len > u32::from(config.mtu)
        || !entry.follow(direction, packet, now_ms)
    {
        return None;
    }
    let bytes = frame.data_mut();
    let (ends, deltas) = onto(entry);
    rewrite::translate_plain::<L2>(bytes, packet, ends, deltas)?;
    restation(bytes, mac, config)?;
    // Padding is of the link that the packet came by.
    frame.truncate(L2 + packet.l3_len as usize);
    Some(())
}
