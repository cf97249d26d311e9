//! To an endpoint that answers the client itself, as the VIP.

use super::wrap::Wrap;
use crate::addr::{Addr, Mac};
use crate::conntrack::{self, Direction, Flow, Form, OwnAddresses};
use crate::counters::{PairKey, Term};
use crate::ids::{PortId, SourceId};
use crate::neighbor::NextHop;
use crate::pipeline::connection::{NO_HOP, account};
use crate::pipeline::egress::{Exit, source_towards};
use crate::pipeline::shard::{Arrival, Shard, Turn};
use crate::pipeline::{Account, DropReason, Frame, Output};
use crate::responder::icmp;
use crate::rewrite::{self, End, Renewed};
use crate::service::Service;
use crate::tables::Port;
use crate::tunnel::{Kind, Tunnel};

/// The tunnel that a connection's packets go into to reach `endpoint` out of this port; `None` where they go as they are. `source`
/// is the one of its [`Entry`](crate::conntrack::Entry).
#[inline(always)]
pub(super) fn tunnel_to(
    endpoint: Addr,
    form: Form,
    (source, source_port): (SourceId, u16),
    own: &OwnAddresses,
    port: &Port,
) -> Option<Result<Tunnel, DropReason>> {
    let kind = match form {
        Form::DsrIpip => Kind::Ipip,
        Form::DsrGue => Kind::Gue(source_port),
        _ => return None,
    };
    let src = match source.0 {
        0 => source_towards(port, endpoint),
        _ => Some(own.get(source)),
    };
    // A route's gateway is on a network of the port's, of the endpoint's family: so the port has an address there.
    Some(src.map(|src| Tunnel { kind, src, dst: endpoint }).ok_or(DropReason::NoRoute))
}

fn tunnel(flow: &Flow, own: &OwnAddresses, port: &Port) -> Option<Result<Tunnel, DropReason>> {
    tunnel_to(flow.endpoint, flow.form, (flow.source, flow.source_port), own, port)
}

fn entropy(flow: &Flow) -> u32 {
    entropy_of((flow.client, flow.client_port), (flow.vip, flow.vip_port))
}

impl<F: Frame> Shard<F> {
    pub(super) fn forward_dsr<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        flow: &Flow,
        exit: Exit,
        account: Account,
    ) {
        let packet = arrival.packet;
        let port = &turn.tables.ports[exit.port().index()];
        let tunnel = match tunnel(flow, self.conntrack.own(), port) {
            Some(Ok(tunnel)) => tunnel,
            Some(Err(reason)) => return self.drop(turn, arrival.port, arrival.frame, reason),
            None => {
                let ends = ((packet.src, 0), (packet.dst, 0));
                let renewed = Renewed { ttl: packet.ttl.wrapping_sub(1), id: None };
                let bytes = arrival.frame.data_mut();
                return match rewrite::replace_addresses(bytes, &packet, ends, renewed, 0) {
                    Ok(()) => self.send(turn, arrival, exit, account),
                    Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
                };
            }
        };
        self.send_wrapped(turn, arrival, exit, account, &Wrap::Tunnel { tunnel, entropy: entropy(flow) });
    }

    /// Sends the frame that `scratch` holds, one of our own making in the place of a packet that goes on to the endpoint: through the
    /// tunnel, where there is one.
    pub(in crate::pipeline) fn originate_onward<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        flow: &Flow,
        direction: Direction,
        (egress, mac): (PortId, Mac),
    ) {
        let port = &turn.tables.ports[egress.index()];
        let into =
            if direction == Direction::Original { tunnel(flow, self.conntrack.own(), port) } else { None };
        let Some(into) = into else { return self.originate(turn, egress) };
        let Ok(tunnel) = into else { return };
        let wrap = Wrap::Tunnel { tunnel, entropy: entropy(flow) };
        let inner = self.scratch.get(port.l2_len()..).unwrap_or_default();
        if self.modes.build(Some(&wrap), inner, mac, port).is_some()
            && turn.out.originate(egress, self.modes.built(), false)
        {
            self.writer.bank().term(Term::Originated).add(1);
        }
    }
}

impl<F: Frame> Shard<F> {
    /// A packet for which there is no entry, and no room for one: to the endpoint that follows from the client alone. Nothing but
    /// its packets is counted, for nothing is known of its connection.
    #[cold]
    pub(in crate::pipeline) fn forward_stateless<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        service: &Service,
    ) {
        let packet = &arrival.packet;
        let (client_port, vip_port) = packet.ports();
        let chosen = self.choose(turn, packet, service, false);
        let Some(endpoint) = chosen.and_then(|id| service.endpoint(id)) else {
            if conntrack::opens(&packet.l4_info) {
                self.writer.bank().service(service.id).refused_no_endpoint.add(1);
            }
            return self.drop(turn, arrival.port, arrival.frame, DropReason::NoEndpoint);
        };
        let key = PairKey { service: service.id, endpoint: endpoint.id, client: packet.src };
        let pair = self.pairs.acquire(&self.writer, &key);
        let flow = Flow {
            client: packet.src,
            vip: packet.dst,
            endpoint: endpoint.addr,
            client_port,
            vip_port,
            endpoint_port: vip_port,
            protocol: service.protocol,
            ingress: arrival.port,
            service: service.id,
            endpoint_id: endpoint.id,
            pair,
            delta: [0; 2],
            next_hop: [NO_HOP; 2],
            epoch: turn.tables.firewall_epoch,
            idle_timeout_ms: service.idle_timeout_ms,
            form: service.delivery.form,
            source: service.delivery.source,
            source_port: service.delivery.port,
        };
        match self.stateless_exit(turn, &arrival, &flow) {
            Ok(exit) => {
                self.writer.bank().modes.stateless.add(1);
                let account = account(None, &flow, &arrival.packet, false);
                self.forward_dsr(turn, arrival, &flow, exit, account);
            }
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
        self.pairs.release(&self.writer, pair);
    }

    fn stateless_exit<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        flow: &Flow,
    ) -> Result<Exit, DropReason> {
        if arrival.packet.ttl <= 1 {
            self.report(turn, arrival, icmp::Error::TimeExceeded);
            return Err(DropReason::TtlExpired);
        }
        let (_, exit) = self.exit(turn, NextHop::from_bits(NO_HOP), flow.endpoint, Direction::Original)?;
        self.fits(turn, arrival, exit, super::growth(flow, Direction::Original))?;
        Ok(exit)
    }
}

/// The same for all packets of a connection. Not of the table's keyed hash, whose key could be found out from it.
#[inline]
pub(super) fn entropy_of((client, client_port): End, (vip, vip_port): End) -> u32 {
    let fold = |n: u128| (n >> 64) as u64 ^ n as u64;
    let ports = u64::from(client_port) << 16 | u64::from(vip_port);
    let mixed =
        (fold(client.0) ^ fold(vip.0).rotate_left(17) ^ ports << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(32) as u32
}
