//! Packets of connections: found, or begun, or refused.

use super::egress::Exit;
use super::modes::{self, Passage};
use super::multihome::behind;
use super::quic::named;
use super::shard::{Arrival, Shard, Turn};
use super::{Account, DropReason, Frame, Output};
use crate::addr::Addr;
use crate::config::{OnUnknown, Protocol, Refusal};
use crate::conntrack::{self, Direction, Flow, FlowId, Form, InsertError};
use crate::counters::PairKey;
use crate::dpdk::memory::prefetch;
use crate::firewall::Subject;
use crate::neighbor::NextHop;
use crate::parse::{L4, Packet, Quoted};
use crate::responder::{Reply, icmp, reset};
use crate::rewrite;
use crate::service::Service;

/// Not yet looked up: a handle that is always out of date.
pub(super) const NO_HOP: u32 = u32::MAX;

impl<F: Frame> Shard<F> {
    /// A TCP, UDP or SCTP packet that is ours to judge.
    pub(super) fn transport<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        found: Option<(FlowId, Direction)>,
    ) {
        match found {
            Some((id, direction))
                if self.conntrack.reopens(id, direction, &arrival.packet.l4_info)
                    || self.is_misdirected(turn, &arrival.frame, &arrival.packet, id, direction) =>
            {
                self.remove(turn, id);
                self.first(turn, arrival);
            }
            Some((id, direction)) => self.established(turn, arrival, id, direction),
            None => match self.path_of_packet(&arrival.packet) {
                Some((path, direction)) => self.on_path(turn, arrival, path, direction),
                None => self.first(turn, arrival),
            },
        }
    }

    /// A packet of a known connection.
    fn established<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        id: FlowId,
        direction: Direction,
    ) {
        match self.still_allowed(turn, id) {
            Ok(()) => {}
            Err(DropReason::EndpointGone) => return self.lost(turn, arrival, id, direction),
            Err(reason) => return self.drop(turn, arrival.port, arrival.frame, reason),
        }
        if direction == Direction::Reply && self.conntrack.entry(id).form().is_one_sided() {
            // It claims to be the VIP's; the endpoint of a DSR connection answers by another way.
            return self.drop(turn, arrival.port, arrival.frame, DropReason::MartianSource);
        }
        if arrival.packet.fragment.is_some() && rewrite::changes_crc(&self.conntrack.flow(id)) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::FragmentSctp);
        }
        let exit = match self.way_out(turn, &arrival, id, direction) {
            Ok(exit) => exit,
            Err(reason) => return self.drop(turn, arrival.port, arrival.frame, reason),
        };
        let flow = self.conntrack.flow(id);
        if !rewrite::is_intact(arrival.frame.data(), &arrival.packet, &flow) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::SctpChecksum);
        }
        self.as_client_sees(id, &flow, direction, &mut arrival.packet.l4_info);
        if let Err(reason) = self.advance(turn, id, direction, &arrival.packet.l4_info) {
            return self.drop(turn, arrival.port, arrival.frame, reason);
        }
        self.forward_sctp(turn, arrival, id, &flow, direction, exit);
    }

    /// Lets a packet act on its connection's state, and counts what that does. Whether it may pass.
    pub(super) fn advance<O>(
        &mut self,
        turn: &Turn<'_, O>,
        id: FlowId,
        direction: Direction,
        l4: &L4,
    ) -> Result<(), DropReason> {
        let step = self.conntrack.step(id, direction, l4, turn.now);
        if step.before != step.after {
            self.count_state(turn, id, Some(step.before), Some(step.after));
        }
        if let Some(error) = step.error {
            self.count_error(self.conntrack.view(id).service(), error);
        }
        if let Some(answered) = step.answered {
            let view = self.conntrack.view(id);
            self.writer.handshake(view.service(), view.endpoint_id(), answered);
        }
        step.pass
    }

    /// A packet of no known connection: firewall, service, endpoint, insert.
    pub(super) fn first<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: Arrival<F>) {
        if self.firewalled(turn, &arrival) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::Firewall);
        }
        let Some(service) = service_of(turn, &arrival.packet) else {
            return self.unclaimed(turn, arrival, DropReason::NoService);
        };
        if turn.tables.is_martian(arrival.packet.src) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::MartianSource);
        }
        if self.conntrack.is_full() && service.delivery.form.is_one_sided() && service.is_stateless() {
            return self.forward_stateless(turn, arrival, service);
        }
        let opens = conntrack::opens(&arrival.packet.l4_info);
        let picks_up = || {
            turn.tables.on_unknown == OnUnknown::Pickup
                && service.is_stateless()
                && conntrack::picks_up(&arrival.packet.l4_info)
        };
        if !opens && !picks_up() {
            if turn.tables.on_unknown == OnUnknown::Reset {
                self.reset(turn, &arrival);
            }
            return self.drop(turn, arrival.port, arrival.frame, DropReason::UnknownConnection);
        }
        if arrival.packet.ttl <= 1 {
            self.report(turn, &arrival, icmp::Error::TimeExceeded);
            return self.drop(turn, arrival.port, arrival.frame, DropReason::TtlExpired);
        }
        let mut arrival = if opens && named(turn.tables, &arrival.frame, &arrival.packet, service).is_none() {
            let ports = arrival.packet.ports();
            let Some(arrival) = self.detour(turn, arrival, service, ports) else { return };
            arrival
        } else {
            arrival
        };
        match self.open(turn, &arrival, service) {
            Ok(id) => {
                let flow = self.conntrack.flow(id);
                self.as_client_sees(id, &flow, Direction::Original, &mut arrival.packet.l4_info);
                match self.way_out(turn, &arrival, id, Direction::Original) {
                    Ok(exit) => self.forward_sctp(turn, arrival, id, &flow, Direction::Original, exit),
                    Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
                }
            }
            Err(reason) => {
                let refused = matches!(reason, DropReason::NoEndpoint | DropReason::SnatExhausted);
                if refused && service.on_no_endpoint == Refusal::Reject {
                    self.reject(turn, &arrival);
                }
                self.drop(turn, arrival.port, arrival.frame, reason);
            }
        }
    }

    /// Enters a new connection.
    fn open<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        service: &Service,
    ) -> Result<FlowId, DropReason> {
        let packet = &arrival.packet;
        let (client_port, vip_port) = packet.ports();
        let named = named(turn.tables, &arrival.frame, packet, service).map(|endpoint| endpoint.id);
        let chosen = named.or_else(|| self.choose(turn, packet, service, conntrack::opens(&packet.l4_info)));
        let counters = self.writer.bank().service(service.id);
        let Some(endpoint) = chosen.and_then(|id| service.endpoint(id)) else {
            counters.refused_no_endpoint.add(1);
            return Err(DropReason::NoEndpoint);
        };
        let endpoint_port = if endpoint.port == 0 { vip_port } else { endpoint.port };
        let moves = endpoint_port != vip_port || service.delivery.form.is_full_nat();
        if packet.fragment.is_some() && service.protocol == Protocol::Sctp && moves {
            return Err(DropReason::FragmentSctp);
        }
        let address = behind(service, endpoint, packet.dst);
        let hop = match self.hops.towards(endpoint.id, address, &mut self.neighbors, &turn.tables.routes) {
            Ok(hop) => hop,
            Err(reason) => {
                counters.refused_no_route.add(1);
                return Err(reason);
            }
        };
        let (source, source_port) = match self.modes.source(turn.tables, service, endpoint, turn.now) {
            Ok(source) => source,
            Err(reason) => {
                counters.refused_no_snat_port.add(1);
                return Err(reason);
            }
        };
        let key = PairKey { service: service.id, endpoint: endpoint.id, client: packet.src };
        let hash = match self.foreseen {
            Some(foreseen) if foreseen.endpoint == endpoint.id => foreseen.pair,
            _ => self.pairs.hash(&key),
        };
        let pair = self.pairs.acquire_at(&self.writer, &key, hash);
        prefetch(self.writer.bank().pair(pair));
        let mut flow = Flow {
            client: packet.src,
            vip: packet.dst,
            endpoint: address,
            client_port,
            vip_port,
            endpoint_port,
            protocol: service.protocol,
            ingress: arrival.port,
            service: service.id,
            endpoint_id: endpoint.id,
            pair,
            delta: [0; 2],
            next_hop: [hop.to_bits(), NO_HOP],
            epoch: turn.tables.firewall_epoch,
            idle_timeout_ms: service.idle_timeout_ms,
            form: service.delivery.form,
            source,
            source_port,
        };
        if flow.form == Form::Dnat {
            flow.delta = rewrite::deltas(&flow);
        }
        if !rewrite::is_intact(arrival.frame.data(), packet, &flow) {
            self.pairs.release(&self.writer, pair);
            self.modes.unbind(turn.tables, &flow, turn.now);
            return Err(DropReason::SctpChecksum);
        }
        match self.conntrack.insert(flow, &packet.l4_info, turn.now) {
            Ok(id) => {
                self.modes.begin(id);
                counters.created.add(1);
                self.count_new(turn, id);
                Ok(id)
            }
            Err(error) => {
                self.pairs.release(&self.writer, pair);
                self.modes.unbind(turn.tables, &flow, turn.now);
                let (counter, reason) = match error {
                    InsertError::Full => (&counters.refused_table_full, DropReason::ConntrackFull),
                    InsertError::TupleInUse => (&counters.refused_tuple, DropReason::TupleInUse),
                };
                counter.add(1);
                Err(reason)
            }
        }
    }

    /// An ICMP error: follows the connection that it is about.
    pub(super) fn icmp_error<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        quoted: Option<&Quoted>,
    ) {
        // To the sender of what it quotes, or it is no answer to that (RFC 1122 §3.2.2).
        let honest = |quoted: &&Quoted| quoted.tuple.src == arrival.packet.dst;
        let found = quoted.filter(honest).and_then(|quoted| {
            // The error travels against the packet that it quotes.
            let tuple = quoted.tuple.reversed();
            let found = self.conntrack.find(&tuple, self.conntrack.hash(&tuple));
            let path = if found.is_none() { self.path_of(&tuple) } else { None };
            let flow = |(path, direction)| (self.paths.get(path).flow, direction);
            let found = found.or_else(|| path.map(flow))?;
            Some((quoted, found, path.map(|(path, _)| path)))
        });
        let Some((quoted, (id, direction), path)) = found else {
            if self.firewalled(turn, &arrival) {
                return self.drop(turn, arrival.port, arrival.frame, DropReason::Firewall);
            }
            return self.unclaimed(turn, arrival, DropReason::IcmpUnrelated);
        };
        let exit = self.still_allowed(turn, id).and_then(|()| match path {
            Some(path) => self.way_on(turn, &arrival, path, direction),
            None => self.way_out(turn, &arrival, id, direction),
        });
        let exit = match exit {
            Ok(exit) => exit,
            Err(reason) => return self.drop(turn, arrival.port, arrival.frame, reason),
        };
        let flow = path.map_or_else(|| self.conntrack.flow(id), |path| self.flow_on(path));
        if flow.form != Form::Dnat {
            let account = account(Some(id), &flow, &arrival.packet, true);
            let passage = Passage { id, flow: &flow, direction, exit, account };
            return self.error_by_mode(turn, arrival, quoted, &passage);
        }
        match rewrite::translate_icmp_error(
            arrival.frame.data_mut(),
            &arrival.packet,
            quoted,
            &flow,
            direction,
        ) {
            Ok(()) => {
                let account = account(Some(id), &flow, &arrival.packet, true);
                self.send(turn, arrival, exit, account);
            }
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    /// Translates a packet of a connection and sends it.
    pub(super) fn forward<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
        exit: Exit,
    ) {
        if flow.form != Form::Dnat {
            let account = account(Some(id), flow, &arrival.packet, false);
            return self.forward_by_mode(turn, arrival, &Passage { id, flow, direction, exit, account });
        }
        let egress = &turn.tables.ports[exit.port().index()];
        // What is cut into fragments has its checksum computed before.
        let whole = arrival.packet.l3_len <= u32::from(egress.mtu);
        let offload = whole.then_some(egress.l2_len());
        match rewrite::translate(&mut arrival.frame, &arrival.packet, flow, direction, offload) {
            Ok(()) => {
                let account = account(Some(id), flow, &arrival.packet, false);
                self.send(turn, arrival, exit, account);
            }
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    /// Where a packet of a connection goes, if it may go on at all: TTL, next hop, MTU.
    pub(super) fn way_out<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        id: FlowId,
        direction: Direction,
    ) -> Result<Exit, DropReason> {
        let view = self.conntrack.view(id);
        let [client, _, endpoint] = view.addresses();
        let (ends, hop) = ([endpoint, client], view.entry().next_hop(direction));
        let growth = modes::growth_of(view, direction);
        let (hop, exit) = self.onward(turn, arrival, hop, ends, direction)?;
        self.conntrack.set_next_hop(id, direction, hop.to_bits());
        self.fits(turn, arrival, exit, growth)?;
        Ok(exit)
    }

    /// The next hop of a packet that may live on, to the endpoint or the client (`ends`), by the one that was last used.
    pub(super) fn onward<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        last: u32,
        ends: [Addr; 2],
        direction: Direction,
    ) -> Result<(NextHop, Exit), DropReason> {
        if arrival.packet.ttl <= 1 {
            self.report(turn, arrival, icmp::Error::TimeExceeded);
            return Err(DropReason::TtlExpired);
        }
        self.exit(turn, NextHop::from_bits(last), ends[direction as usize], direction)
    }

    /// Whether a packet that grows by so many bytes fits the MTU, or may be cut; if not, its sender is told what does.
    pub(super) fn fits<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        exit: Exit,
        growth: isize,
    ) -> Result<(), DropReason> {
        let mtu = isize::try_from(turn.tables.ports[exit.port().index()].mtu).unwrap_or(isize::MAX);
        let mtu = u16::try_from(mtu - growth).unwrap_or(0);
        if arrival.packet.l3_len > u32::from(mtu) && arrival.packet.dont_fragment {
            self.report(turn, arrival, icmp::Error::TooBig { mtu });
            return Err(DropReason::MtuExceeded);
        }
        Ok(())
    }

    /// Judges a connection anew where the firewall has changed since, by the packet that created it, or where its endpoint may be
    /// lost.
    pub(super) fn still_allowed<O>(&mut self, turn: &Turn<'_, O>, id: FlowId) -> Result<(), DropReason> {
        let view = self.conntrack.view(id);
        let current = view.entry().is_of_epoch(turn.tables.firewall_epoch);
        if current && self.sweep.is_none() {
            return Ok(());
        }
        if turn.tables.resets.contains(&view.endpoint_id()) {
            return Err(DropReason::EndpointGone);
        }
        if current {
            return Ok(());
        }
        let flow = view.flow();
        let subject = Subject {
            port: flow.ingress,
            src: flow.client,
            dst: flow.vip,
            protocol: flow.protocol.number(),
            ports: Some((flow.client_port, flow.vip_port)),
        };
        if let Some(rule) = turn.tables.firewall.dropped_by(&subject) {
            self.writer.bank().rule(rule).add(1);
            return Err(DropReason::Firewall);
        }
        self.conntrack.set_epoch(id, turn.tables.firewall_epoch);
        Ok(())
    }

    /// Whether a rule drops this packet; counted.
    pub(super) fn firewalled<O>(&self, turn: &Turn<'_, O>, arrival: &Arrival<F>) -> bool {
        let Arrival { port, packet, .. } = arrival;
        self.is_firewalled(turn, || {
            let ports = matches!(packet.l4_info, L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. })
                .then(|| packet.ports());
            Subject { port: *port, src: packet.src, dst: packet.dst, protocol: packet.protocol, ports }
        })
    }

    /// The same of what is put together only where there are rules.
    #[inline]
    pub(super) fn is_firewalled<O>(&self, turn: &Turn<'_, O>, subject: impl FnOnce() -> Subject) -> bool {
        if turn.tables.firewall.is_empty() {
            return false;
        }
        let rule = turn.tables.firewall.dropped_by(&subject());
        if let Some(rule) = rule {
            self.writer.bank().rule(rule).add(1);
        }
        rule.is_some()
    }

    /// Tells a client that it is refused: RST, ABORT, or port unreachable.
    fn reject<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: &Arrival<F>) {
        if matches!(arrival.packet.l4_info, L4::Udp { .. }) {
            self.report(turn, arrival, icmp::Error::PortUnreachable);
        } else {
            self.reset(turn, arrival);
        }
    }

    pub(super) fn reset<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: &Arrival<F>) {
        let config = &turn.tables.ports[arrival.port.index()];
        let written = Reply::to(arrival.frame.data(), config.mac, config.vlan)
            .and_then(|reply| reset::write(&mut self.scratch, &arrival.packet, &reply));
        if written.is_some() {
            self.originate(turn, arrival.port);
        }
    }
}

pub(super) fn service_of<'t, O>(turn: &Turn<'t, O>, packet: &Packet) -> Option<&'t Service> {
    let protocol = match packet.l4_info {
        L4::Tcp { .. } => Protocol::Tcp,
        L4::Udp { .. } => Protocol::Udp,
        L4::Sctp { .. } => Protocol::Sctp,
        L4::Icmp { .. } | L4::Other => return None,
    };
    turn.tables.services.lookup(packet.dst, packet.ports().1, protocol)
}

pub(super) fn account(id: Option<FlowId>, flow: &Flow, packet: &Packet, icmp_error: bool) -> Account {
    let icmp_error = icmp_error.then_some(flow.service);
    Account { flow: id, pair: flow.pair, bytes: packet.l3_len, icmp_error }
}
