//! The short way into a tunnel: as [`established`](crate::pipeline::established) for connections whose packets go on within others.

use super::Modes;
use super::dsr::{entropy_of, tunnel_to};
use crate::addr::{Addr, Mac};
use crate::conntrack::{Entry, FlowId, Form, OwnAddresses};
use crate::ids::{PortId, SourceId};
use crate::neighbor::NextHop;
use crate::parse::Whole;
use crate::pipeline::burst::{Slot, Way};
use crate::pipeline::egress::put_l2;
use crate::pipeline::established::Onward;
use crate::pipeline::plain::{Odd, Passing, Queue};
use crate::pipeline::shard::{Shard, Turn, Via};
use crate::pipeline::{Account, DropReason, Frame, Output};
use crate::tables::Port;
use crate::tunnel::Envelope;

/// Envelopes that are kept; a power of two.
const PLACES: usize = 256;

/// What an envelope follows from, while the tables are the same: the endpoint, the port towards it, and the tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    endpoint: Addr,
    egress: PortId,
    form: Form,
    source: (SourceId, u16),
}

/// The outer headers towards endpoints, so that none is put together anew for every packet.
#[derive(Debug)]
pub(super) struct Envelopes {
    kept: Box<[Option<(Key, Envelope)>; PLACES]>,
    /// The one that was looked for last, and its connection's entropy.
    last: (usize, u32),
}

impl Envelopes {
    pub fn new() -> Self {
        Self { kept: Box::new([None; PLACES]), last: (0, 0) }
    }

    pub fn clear(&mut self) {
        self.kept.fill(None);
    }

    /// The envelope for a connection's packets to `endpoint` by `port`; `None` where they go into none, or the port has no address to
    /// send it from.
    #[inline]
    fn towards(
        &mut self,
        endpoint: Addr,
        entry: &Entry,
        own: &OwnAddresses,
        (egress, port): (PortId, &Port),
    ) -> Option<&Envelope> {
        let key = Key { endpoint, egress, form: entry.form(), source: entry.source() };
        self.last.0 = endpoint.0 as usize % PLACES;
        let place = &mut self.kept[self.last.0];
        if place.as_ref().is_none_or(|(known, _)| *known != key) {
            let tunnel = tunnel_to(endpoint, key.form, key.source, own, port)?.ok()?;
            *place = Some((key, Envelope::new(tunnel)));
        }
        place.as_ref().map(|(_, envelope)| envelope)
    }

    /// The same of a connection that is all of IPv4, and its entropy.
    #[inline(always)]
    fn towards_v4(
        &mut self,
        entry: &Entry,
        own: &OwnAddresses,
        exit: (PortId, &Port),
    ) -> Option<(&Envelope, u32)> {
        let [(client, client_port), (vip, vip_port), (endpoint, _)] = entry.ends_v4();
        let [client, vip, endpoint] = [client, vip, endpoint].map(|addr| Addr::v4(addr.to_be_bytes()));
        let entropy = entropy_of((client, client_port), (vip, vip_port));
        self.last.1 = entropy;
        Some((self.towards(endpoint, entry, own, exit)?, entropy))
    }

    /// What [`towards_v4`](Self::towards_v4) has just said.
    #[inline(always)]
    fn again(&self) -> Option<(&Envelope, u32)> {
        let (place, entropy) = self.last;
        self.kept.get(place)?.as_ref().map(|(_, envelope)| (envelope, entropy))
    }
}

impl<F: Frame> Shard<F> {
    /// [`plain_way`](Shard::plain_way) of packets of connections that are all of IPv4.
    #[inline(never)]
    pub(in crate::pipeline) fn enclosed_run<'s, T, O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        queue: Queue<'_, 's, F, impl Iterator<Item = T>>,
        take: impl Fn(T) -> (PortId, F, Via),
        forwarded: &mut u64,
    ) -> Option<(&'s Slot, (PortId, F, Via))> {
        self.run_of(Way::Enclosed, turn, queue, take, forwarded, |modes, frame, passing| {
            let Passing { packet, direction, entry, elsewhere, egress, mac, config, now_ms, is_next } =
                passing;
            let Modes { envelopes, ids, .. } = modes;
            let kept = if is_next {
                envelopes.again()
            } else {
                envelopes.towards_v4(entry, elsewhere.own, (egress, config))
            };
            let Some((envelope, entropy)) = kept else { return Err(Odd::Untouched) };
            if packet.l3_len as usize + envelope.tunnel().overhead() > usize::from(config.mtu)
                || !entry.follow(direction, packet, now_ms)
            {
                return Err(Odd::Untouched);
            }
            enclose(frame, packet, (envelope, entropy), (mac, config), || ids.fresh() as u16)
                .map_err(Odd::Lost)
        })
    }

    /// Takes a packet of any such connection, or gives the frame back.
    #[inline(never)]
    pub(in crate::pipeline) fn enclosed_way<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        ingress: PortId,
        frame: F,
        slot: &Slot,
        forwarded: &mut u64,
    ) -> Result<(), F> {
        let packet = &slot.packet;
        let Some((id, direction)) = slot.lead.connection() else { return Err(frame) };
        let entry = self.conntrack.entry(id);
        let (hop, account) = (
            NextHop::from_bits(entry.next_hop(direction)),
            Account { flow: Some(id), pair: entry.pair(), bytes: packet.l3_len, icmp_error: None },
        );
        let Some((egress, &mac)) = self.neighbors.ready(hop, turn.now) else { return Err(frame) };
        let port = &turn.tables.ports[egress.index()];
        let Some(mtu) =
            super::growth_of(self.conntrack.view(id), direction).checked_add_unsigned(packet.l3_len as usize)
        else {
            return Err(frame);
        };
        if mtu > port.mtu as isize || !self.conntrack.follow(id, direction, packet) {
            return Err(frame);
        }
        let onward = Onward { egress, mac, config: port, account };
        self.send_enclosed(turn, (ingress, frame), packet, id, &onward, forwarded);
        Ok(())
    }

    /// Puts a packet of a connection that fits into the connection's tunnel, and sends it.
    #[inline(always)]
    pub(in crate::pipeline) fn send_enclosed<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (ingress, mut frame): (PortId, F),
        packet: &Whole,
        id: FlowId,
        onward: &Onward<'_>,
        forwarded: &mut u64,
    ) {
        let Onward { egress, mac, config, account } = *onward;
        let view = self.conntrack.view(id);
        let entry = view.entry();
        let [client, vip, endpoint] = view.addresses();
        let [(_, client_port), (_, vip_port), _] = entry.ends_v4();
        let entropy = entropy_of((client, client_port), (vip, vip_port));
        let Modes { envelopes, ids, .. } = &mut self.modes;
        let envelope = envelopes.towards(endpoint, entry, self.conntrack.own(), (egress, config));
        let enclosed = envelope.ok_or(DropReason::NoRoute).and_then(|envelope| {
            enclose(&mut frame, packet, (envelope, entropy), (mac, config), || ids.fresh() as u16)
        });
        match enclosed {
            Ok(()) => {
                *forwarded += 1;
                self.count(&account);
                turn.out.forward(egress, frame, account);
            }
            Err(reason) => self.drop(turn, ingress, frame, reason),
        }
    }
}

/// Puts a whole packet that fits into a tunnel, and that into a frame for this station.
#[inline(always)]
fn enclose<F: Frame>(
    frame: &mut F,
    packet: &Whole,
    (envelope, entropy): (&Envelope, u32),
    (to, port): (Mac, &Port),
    id: impl FnOnce() -> u16,
) -> Result<(), DropReason> {
    let tunnel = envelope.tunnel();
    let (l2, overhead, l3) = (port.l2_len(), tunnel.overhead(), usize::from(packet.l3));
    // Padding is of the link that the packet came by.
    frame.truncate(l3 + packet.l3_len as usize);
    // No L2 header is as long as the one before and the shortest outer header.
    if !frame.grow_front((l2 + overhead).saturating_sub(l3)) {
        return Err(DropReason::NoHeadroom);
    }
    let bytes = frame.data_mut();
    let parts = bytes.split_at_mut_checked(l2).and_then(|(header, rest)| {
        let (outer, inner) = rest.split_at_mut_checked(overhead)?;
        put_l2(header, to, port, if tunnel.dst.is_v4() { 4 } else { 6 })?;
        Some((outer, inner))
    });
    let (outer, inner) = parts.ok_or(DropReason::FrameTooShort)?;
    envelope.emit(outer, inner, entropy, id).ok_or(DropReason::MtuExceeded)
}
