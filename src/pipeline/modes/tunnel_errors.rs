//! ICMP errors of routers about a tunnel's outer packets: the client hears of them, about the packet that it has sent, as
//! RFC 2003 §4 and RFC 2473 §8 say. No state is kept: a client that is told of a smaller MTU goes by it.

use super::growth;
use crate::addr::Addr;
use crate::conntrack::{Direction, Flow, FlowId, Form};
use crate::neighbor::NextHop;
use crate::parse::{self, Packet, Tunneled};
use crate::pipeline::egress::{Exit, source_towards};
use crate::pipeline::shard::{Arrival, Shard, Turn};
use crate::pipeline::{DropReason, Frame, Output};
use crate::responder::{Reply, icmp};
use crate::tables::Tables;
use crate::wire::icmp::field;
use crate::wire::{icmpv4, icmpv6};

/// The least MTU of a path (RFC 791 §3.2; RFC 8200 §5).
const fn least_mtu(v4: bool) -> i64 {
    if v4 { 68 } else { 1280 }
}

impl<F: Frame> Shard<F> {
    /// What an ICMP error to an address that tunnels begin at quotes, where that is a packet with another one in it.
    pub(in crate::pipeline) fn tunneled<O>(
        &self,
        turn: &Turn<'_, O>,
        arrival: &Arrival<F>,
    ) -> Option<Tunneled> {
        let Arrival { frame, packet, .. } = arrival;
        begins_tunnels(turn.tables, packet.dst).then(|| parse::tunneled(frame.data(), packet)).flatten()
    }

    /// An error about a packet in a tunnel. The client is told where the packet that it has sent is of a connection that goes
    /// through that very tunnel, as far as the rate of our own errors allows.
    #[cold]
    pub(in crate::pipeline) fn tunnel_error<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        about: &Tunneled,
    ) {
        let Some((id, flow)) = self.connection_in(about) else {
            return self.icmp_error(turn, arrival, None);
        };
        let told = self.still_allowed(turn, id).and_then(|()| {
            let error = translated(&arrival, &flow).ok_or(DropReason::IcmpUntranslatable)?;
            let last = NextHop::from_bits(flow.next_hop[Direction::Reply as usize]);
            let (hop, exit) = self.exit(turn, last, flow.client, Direction::Reply)?;
            self.conntrack.set_next_hop(id, Direction::Reply, hop.to_bits());
            // What is our own does not wait.
            let Exit::To(port, mac) = exit else { return Err(DropReason::NeighborUnresolved) };
            let config = &turn.tables.ports[port.index()];
            let from = source_towards(config, flow.client).ok_or(DropReason::NoRoute)?;
            let sent = Packet {
                src: flow.client,
                dst: flow.vip,
                l3: about.inner.l3 as u16,
                l3_len: about.inner_len as u32,
                ..arrival.packet
            };
            let reply = Reply { to: mac, from: config.mac, vlan: config.vlan };
            if self.limiter.allow(turn.now) {
                icmp::write(&mut self.scratch, arrival.frame.data(), &sent, from, &reply, error)
                    .ok_or(DropReason::IcmpHeader)?;
                self.writer.bank().modes.tunnel_errors.add(1);
                self.originate(turn, port);
            }
            Ok(())
        });
        match told {
            Ok(()) => self.consume(turn, arrival.port, arrival.frame),
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    fn connection_in(&self, about: &Tunneled) -> Option<(FlowId, Flow)> {
        let tuple = about.inner.tuple;
        let (id, direction) = self.conntrack.find(&tuple, self.conntrack.hash(&tuple))?;
        let flow = self.conntrack.flow(id);
        let same = match flow.form {
            Form::DsrIpip => about.gue_port.is_none(),
            Form::DsrGue => about.gue_port == Some(flow.source_port),
            _ => false,
        };
        (same && direction == Direction::Original && about.to == flow.endpoint).then_some((id, flow))
    }
}

/// Whether outer packets may be sent from here: a port's address, or a configured source.
fn begins_tunnels(tables: &Tables, addr: Addr) -> bool {
    tables.is_local(addr) || tables.own.find(addr).0 != 0 && !tables.is_snat(addr)
}

/// The error that the client is told of: that its packet is too big, or else that the endpoint cannot be reached, for of the way
/// to it the client knows nothing (RFC 2003 §4.1, §4.4; RFC 2473 §8.1).
fn translated<F: Frame>(arrival: &Arrival<F>, flow: &Flow) -> Option<icmp::Error> {
    let Arrival { frame, packet, .. } = arrival;
    let header = frame.data().get(packet.l4 as usize..)?;
    let (kind, code) = (*header.get(field::KIND)?, *header.get(field::CODE)?);
    let too_big = if packet.src.is_v4() {
        match (kind, code) {
            (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => true,
            (icmpv4::UNREACHABLE | icmpv4::TIME_EXCEEDED, _) => false,
            _ => return None,
        }
    } else {
        match kind {
            icmpv6::PACKET_TOO_BIG => true,
            icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED => false,
            _ => return None,
        }
    };
    if !too_big {
        return Some(icmp::Error::HostUnreachable);
    }
    let word = u32::from_be_bytes(*header.get(field::WORD)?.first_chunk()?);
    // Of the IPv4 word the upper half is not the MTU's (RFC 1191 §4).
    let outer = if packet.src.is_v4() { word & 0xffff } else { word };
    let inner = i64::from(outer) - growth(flow, Direction::Original) as i64;
    // A packet of the least MTU cannot be sent in smaller ones.
    let fits = inner >= least_mtu(flow.client.is_v4());
    fits.then(|| icmp::Error::TooBig { mtu: inner.min(u16::MAX.into()) as u16 })
}
