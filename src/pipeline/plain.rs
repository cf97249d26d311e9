//! The shortest way: a run of whole packets, in the midst of connections whose destination alone is replaced; or, of IPv4, both ends,
//! or none.
//!
//! That is most of what there is, so all that can be known beforehand is: the packet was parsed and [recognised](super::burst), nothing
//! about it is peculiar, its connection is allowed. What is left is done as [`connection`](super::connection) does it, in the same order
//! and with the same counts; whenever anything is not as usual it gives the frame back untouched, and the long way decides.

use std::slice;

use super::burst::{Slot, Way};
use super::egress::restation;
use super::modes::{self, Modes};
use super::shard::{Shard, Turn, Via};
use super::{Account, DropReason, Frame, Output};
use crate::addr::Mac;
use crate::conntrack::{Direction, Elsewhere, Entry};
use crate::ids::PortId;
use crate::neighbor::NextHop;
use crate::parse::Whole;
use crate::rewrite::{Onto, OntoV4, OntoV6};
use crate::tables::Port;
use crate::wire::ethernet;

/// What is left of a burst: what is known of its packets, the packets, and those of the next burst that are not fetched yet.
pub(super) type Queue<'b, 's, F, I> = (&'b mut slice::Iter<'s, Slot>, &'b mut I, &'b mut slice::Iter<'s, F>);

/// A packet of such a run, its connection, and the way that it goes.
pub(super) struct Passing<'p> {
    pub packet: &'p Whole,
    pub direction: Direction,
    pub entry: &'p mut Entry,
    pub elsewhere: Elsewhere<'p>,
    pub egress: PortId,
    pub mac: Mac,
    pub config: &'p Port,
    pub now_ms: u32,
    /// It is of the connection and the direction of the packet before it in the run.
    pub is_next: bool,
}

/// Why a packet does not go on.
pub(super) enum Odd {
    /// It is not as usual, and its frame is as it was.
    Untouched,
    /// It is to be dropped.
    Lost(DropReason),
}

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
        self.run_of(Way::Plain, turn, queue, take, forwarded, |_, frame, passing| {
            readdress(frame, passing, |entry, _, direction, _| {
                Some(OntoV4 { ends: entry.goes_v4(direction), deltas: entry.plain_delta(direction) })
            })
        })
    }

    /// The same of IPv6.
    #[inline(never)]
    pub(super) fn plain_way_v6<'s, T, O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        queue: Queue<'_, 's, F, impl Iterator<Item = T>>,
        take: impl Fn(T) -> (PortId, F, Via),
        forwarded: &mut u64,
    ) -> Option<(&'s Slot, (PortId, F, Via))> {
        self.run_of(Way::PlainV6, turn, queue, take, forwarded, |_, frame, passing| {
            readdress(frame, passing, |entry, _, direction, elsewhere| {
                let [_, delta] = entry.plain_delta(direction);
                Some(OntoV6 { ends: entry.goes_v6(direction, elsewhere.wide()?), delta })
            })
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
        self.run_of(Way::Replaced, turn, queue, take, forwarded, |_, frame, passing| {
            readdress(frame, passing, |entry, packet, direction, elsewhere| {
                Some(modes::onto_v4(entry, packet, direction, elsewhere.own))
            })
        })
    }

    /// All that is the same for packets of such a run; `change` makes of each what goes on.
    #[inline(always)]
    pub(super) fn run_of<'s, T, O: Output<F>>(
        &mut self,
        way: Way,
        turn: &mut Turn<'_, O>,
        (slots, frames, ahead): Queue<'_, 's, F, impl Iterator<Item = T>>,
        take: impl Fn(T) -> (PortId, F, Via),
        forwarded: &mut u64,
        change: impl Fn(&mut Modes, &mut F, Passing<'_>) -> Result<(), Odd>,
    ) -> Option<(&'s Slot, (PortId, F, Via))> {
        let Turn { tables, now, out } = turn;
        let ports: &[Port] = &tables.ports;
        let now_ms = self.conntrack.now_ms();
        let (mut sent, mut before) = (0, None);
        // Of one's own, so that they can be in registers.
        let (mut of_run, mut to_fetch) = (slots.clone(), ahead.clone());
        let odd = loop {
            let Some(slot) = of_run.as_slice().first() else { break None };
            if slot.way != way {
                break None;
            }
            of_run.next();
            let Some(next) = frames.next() else { break None };
            let (port, mut frame, via) = take(next);
            if let Some(ahead) = to_fetch.next() {
                ahead.prefetch();
            }
            let packet = &slot.packet;
            let connection = slot.lead.connection();
            let Some((id, direction, (entry, elsewhere))) =
                connection.and_then(|(id, d)| Some((id, d, self.conntrack.get_mut(id)?)))
            else {
                break Some((slot, (port, frame, via)));
            };
            // The next of a connection goes where the one before it went.
            let (is_next, exit) = match before {
                Some(exit) if slot.is_next() => (true, exit),
                _ => {
                    let hop = NextHop::from_bits(entry.next_hop(direction));
                    let Some((egress, &mac)) = self.neighbors.ready(hop, *now) else {
                        break Some((slot, (port, frame, via)));
                    };
                    let Some(config) = ports.get(egress.index()) else {
                        break Some((slot, (port, frame, via)));
                    };
                    (false, (egress, mac, config))
                }
            };
            before = Some(exit);
            let (egress, mac, config) = exit;
            let pair = entry.pair();
            let entry_of = &mut *entry;
            let passing = Passing {
                packet,
                direction,
                entry: entry_of,
                elsewhere,
                egress,
                mac,
                config,
                now_ms,
                is_next,
            };
            match change(&mut self.modes, &mut frame, passing) {
                Ok(()) => {}
                Err(Odd::Untouched) => break Some((slot, (port, frame, via))),
                Err(Odd::Lost(reason)) => {
                    self.writer.bank().dropped(reason).add(1);
                    out.drop(port, frame, reason);
                    continue;
                }
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
        (*slots, *ahead) = (of_run, to_fetch);
        *forwarded += sent;
        odd
    }
}

/// Makes the packet that of the other side, to go out of its port to its station.
#[inline(always)]
fn readdress<F: Frame, T: Onto>(
    frame: &mut F,
    passing: Passing<'_>,
    onto: impl Fn(&Entry, &Whole, Direction, Elsewhere<'_>) -> Option<T>,
) -> Result<(), Odd> {
    // Each with its bounds known beforehand.
    let done = if passing.config.vlan == 0 {
        readdress_at::<{ ethernet::HEADER_LEN }, F, T>(frame, passing, onto)
    } else {
        readdress_at::<{ ethernet::TAGGED_LEN }, F, T>(frame, passing, onto)
    };
    done.ok_or(Odd::Untouched)
}

/// The same where Ethernet's header is as long as it was, `L2`; else, and where anything is not as usual, `None`, and the frame is as
/// it was.
#[inline(always)]
fn readdress_at<const L2: usize, F: Frame, T: Onto>(
    frame: &mut F,
    passing: Passing<'_>,
    onto: impl Fn(&Entry, &Whole, Direction, Elsewhere<'_>) -> Option<T>,
) -> Option<()> {
    let Passing { packet, direction, entry, elsewhere, mac, config, now_ms, .. } = passing;
    if usize::from(packet.l3) != L2
        || packet.l3_len > u32::from(config.mtu)
        || !entry.follow(direction, packet, now_ms)
    {
        return None;
    }
    let bytes = frame.data_mut();
    onto(entry, packet, direction, elsewhere)?.write::<L2>(bytes, packet)?;
    restation(bytes, mac, config)?;
    // Padding is of the link that the packet came by.
    frame.truncate(L2 + packet.l3_len as usize);
    Some(())
}
