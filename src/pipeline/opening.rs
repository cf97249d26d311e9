//! The short way of a first packet: a whole SYN or UDP datagram for a service that [asks no more](crate::service::Service::is_plain)
//! than where it comes from.
//!
//! It does what [`first`](Shard::first) does for such a packet, in the same order and with the same counts; whenever anything is
//! not as usual it gives the frame back, with nothing changed, and the long way decides.

use super::established::Onward;
use super::foresee::Foreseen;
use super::shard::{Shard, Turn, Via};
use super::{Account, DropReason, Errand, Frame, Output, modes};
use crate::conntrack::{self, Direction, Flow, FlowId, Form, Tuple};
use crate::counters::{FlowState, PairKey};
use crate::firewall::Subject;
use crate::ids::PortId;
use crate::parse::Whole;
use crate::pipeline::connection::NO_HOP;
use crate::rewrite;

impl<F: Frame> Shard<F> {
    /// Takes the packet, or gives the frame back.
    #[inline(always)]
    pub(super) fn opening<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (port, mut frame, via): (PortId, F, Via),
        (packet, hash): (&Whole, u64),
        foreseen: &Foreseen,
        forwarded: &mut u64,
    ) -> Result<(), F> {
        let tuple = packet.tuple();
        let l4_info = packet.l4_info();
        // Whose it is has been asked already.
        let errand = if let Via::Ring(_, errand) = via { errand } else { Errand::Own };
        if errand != Errand::Own
            || packet.ttl <= 1
            || !conntrack::opens(&l4_info)
            || self.conntrack.is_full()
            || turn.tables.is_martian(tuple.src)
        {
            return Err(frame);
        }
        let Some(service) = turn.tables.services.at(foreseen.service) else { return Err(frame) };
        let Some(endpoint) = service.endpoints.get(foreseen.nth as usize) else { return Err(frame) };
        // What a packet before it in the burst has opened is not judged anew, and no port is drawn for it.
        let asks_once = !turn.tables.firewall.is_empty() || service.delivery.form.is_full_nat();
        if asks_once && self.conntrack.find(&tuple, hash).is_some() {
            return Err(frame);
        }
        if self.is_firewalled(turn, || Subject {
            port,
            src: tuple.src,
            dst: tuple.dst,
            protocol: tuple.protocol.number(),
            ports: Some((tuple.sport, tuple.dport)),
        }) {
            self.drop(turn, port, frame, DropReason::Firewall);
            return Ok(());
        }
        let routes = &turn.tables.routes;
        let Ok(hop) = self.hops.towards(endpoint.id, endpoint.addr, &mut self.neighbors, routes) else {
            return Err(frame);
        };
        let Some((egress, &mac)) = self.neighbors.ready(hop, turn.now) else { return Err(frame) };
        let config = &turn.tables.ports[egress.index()];
        let delivery = service.delivery;
        let growth = modes::growth_between(delivery.form, tuple.src, endpoint.addr, Direction::Original);
        let as_usual = match delivery.form {
            Form::Dnat | Form::DsrL2 => config.l2_len() == usize::from(packet.l3),
            Form::FullNat(_) => {
                config.l2_len() == usize::from(packet.l3)
                    && modes::keeps_header((tuple.src, endpoint.addr), packet, Direction::Original)
            }
            Form::DsrIpip | Form::DsrGue => true,
        };
        if packet.l3_len as isize + growth > config.mtu as isize || !as_usual {
            return Err(frame);
        }
        let source = self.modes.source(turn.tables, service, endpoint, turn.now);
        let Ok((source, source_port)) = source else { return Err(frame) };
        let endpoint_port = if endpoint.port == 0 { tuple.dport } else { endpoint.port };
        let reply = foreseen.reply.unwrap_or_else(|| {
            let (dst, protocol) = (self.conntrack.own().get(source), service.protocol);
            let (src, sport, dport) = (endpoint.addr, endpoint_port, source_port);
            let hash = self.conntrack.hash(&Tuple { src, dst, sport, dport, protocol });
            // It comes while the rest is put together.
            self.conntrack.prefetch(hash);
            hash
        });
        let key = PairKey { service: service.id, endpoint: endpoint.id, client: tuple.src };
        let pair = self.pairs.acquire_at(&self.writer, &key, foreseen.pair);
        let mut flow = Flow {
            client: tuple.src,
            vip: tuple.dst,
            endpoint: endpoint.addr,
            client_port: tuple.sport,
            vip_port: tuple.dport,
            endpoint_port,
            protocol: service.protocol,
            ingress: port,
            service: service.id,
            endpoint_id: endpoint.id,
            pair,
            delta: [0; 2],
            next_hop: [hop.to_bits(), NO_HOP],
            epoch: turn.tables.firewall_epoch,
            idle_timeout_ms: service.idle_timeout_ms,
            form: delivery.form,
            source,
            source_port,
        };
        if flow.form == Form::Dnat {
            flow.delta = rewrite::deltas(&flow);
        }
        let Ok(id) = self.conntrack.insert_at(&flow, &l4_info, [hash, reply], turn.now) else {
            self.pairs.release(&self.writer, pair);
            self.modes.unbind(turn.tables, &flow, turn.now);
            return Err(frame);
        };
        self.modes.begin(id);
        self.writer.bank().service(service.id).created.add(1);
        // As every first packet that opens.
        self.writer.flow_state(service.protocol, endpoint.id, None, Some(FlowState::HalfOpen));
        let account = Account { flow: Some(id), pair, bytes: packet.l3_len, icmp_error: None };
        let onward = Onward { egress, mac, config, account };
        if flow.form != Form::Dnat {
            self.open_by_mode(turn, (port, frame), packet, id, &onward, forwarded);
            return Ok(());
        }
        let ends = ((flow.client, flow.client_port), (flow.endpoint, flow.endpoint_port));
        let delta = self.conntrack.entry(id).plain_delta(Direction::Original);
        let translated = rewrite::translate_whole(frame.data_mut(), packet, ends, delta);
        self.send_whole(turn, (port, frame), packet, translated, &onward, forwarded);
        Ok(())
    }

    /// The first packet of a connection that was entered, in other modes.
    #[inline(never)]
    fn open_by_mode<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (port, frame): (PortId, F),
        packet: &Whole,
        id: FlowId,
        onward: &Onward<'_>,
        forwarded: &mut u64,
    ) {
        let way = (id, Direction::Original);
        if let Err(frame) = self.send_replaced(turn, (port, frame), packet, way, onward, forwarded) {
            self.send_enclosed(turn, (port, frame), packet, id, onward, forwarded);
        }
    }
}
