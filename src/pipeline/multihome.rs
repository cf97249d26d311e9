//! SCTP associations with several addresses on either side (RFC 9260 §6.4): one connection, by whatever path its packets come.
//!
//! Both sides say their addresses in INIT and INIT ACK. The client's make the association's paths, each with every VIP of its
//! family; the endpoint's are replaced by the VIPs that stand for them, and what no VIP stands for is made padding, which
//! nobody can reach. State, verification tags, timer and counts are the association's; a path has a translation and a next hop.

use arrayvec::ArrayVec;

use super::egress::Exit;
use super::shard::{Arrival, Shard, Turn};
use super::{DropReason, Frame, Output};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Direction, Flow, FlowId, Form, PathId, Tuple};
use crate::counters::FlowState;
use crate::firewall::Subject;
use crate::parse::{L4, Packet};
use crate::rewrite;
use crate::service::{Endpoint, Service};
use crate::wire::crc32c;
use crate::wire::sctp::chunk;
use crate::wire::sctp_params::{self, next_address};

/// Addresses of a client that make paths, the one it sends from among them.
const CLIENT_ADDRESSES: usize = 8;

const HANDSHAKE: u16 = 1 << chunk::INIT | 1 << chunk::INIT_ACK;

/// The endpoint's address that stands behind a VIP of its service.
pub(super) fn behind(service: &Service, endpoint: &Endpoint, vip: Addr) -> Addr {
    if service.secondary_vips.is_empty() {
        return endpoint.addr;
    }
    let pairs = service.vips().zip(endpoint.addresses());
    pairs.into_iter().find(|(own, _)| *own == vip).map_or(endpoint.addr, |(_, address)| address)
}

fn chunks(packet: &Packet) -> u16 {
    if let L4::Sctp { chunks, .. } = packet.l4_info { chunks } else { 0 }
}

impl<F: Frame> Shard<F> {
    /// The further path of an association that a packet takes.
    pub(super) fn path_of(&self, tuple: &Tuple) -> Option<(PathId, Direction)> {
        if self.paths.is_empty() || tuple.protocol != Protocol::Sctp {
            return None;
        }
        self.paths.find(tuple)
    }

    /// The same, of a packet that is whole or first of its fragments.
    pub(super) fn path_of_packet(&self, packet: &Packet) -> Option<(PathId, Direction)> {
        let L4::Sctp { sport, dport, .. } = packet.l4_info else { return None };
        let Packet { src, dst, .. } = *packet;
        self.path_of(&Tuple { src, dst, sport, dport, protocol: Protocol::Sctp })
    }

    /// The association's entry as it is for packets of this path.
    pub(super) fn flow_on(&self, path: PathId) -> Flow {
        let path = self.paths.get(path);
        let mut flow = path.of(&self.conntrack.flow(path.flow));
        flow.delta = rewrite::deltas(&flow);
        flow
    }

    /// A packet that came by a further path.
    pub(super) fn on_path<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        path: PathId,
        direction: Direction,
    ) {
        let id = self.paths.get(path).flow;
        let l4 = arrival.packet.l4_info;
        if self.conntrack.reopens(id, direction, &l4) {
            self.remove(turn, id);
            return self.first(turn, arrival);
        }
        if self.is_stranger(path, direction, &l4) {
            let flow = self.conntrack.flow(id);
            self.paths.remove(&flow, path);
            return self.first(turn, arrival);
        }
        match self.still_allowed(turn, id) {
            Ok(()) => {}
            Err(DropReason::EndpointGone) => return self.lost(turn, arrival, id, direction),
            Err(reason) => return self.drop(turn, arrival.port, arrival.frame, reason),
        }
        let flow = self.flow_on(path);
        if arrival.packet.fragment.is_some() && rewrite::changes_crc(&flow) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::FragmentSctp);
        }
        let exit = match self.way_on(turn, &arrival, path, direction) {
            Ok(exit) => exit,
            Err(reason) => return self.drop(turn, arrival.port, arrival.frame, reason),
        };
        if !rewrite::is_intact(arrival.frame.data(), &arrival.packet, &flow) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::SctpChecksum);
        }
        if let Err(reason) = self.advance(turn, id, direction, &l4) {
            return self.drop(turn, arrival.port, arrival.frame, reason);
        }
        if direction == Direction::Original {
            self.paths.get_mut(path).confirmed = true;
        }
        self.forward_sctp(turn, arrival, id, &flow, direction, exit);
    }

    /// Whether an INIT comes from an address that the association's client has only claimed: then it is a client of its own,
    /// unless it is the association's INIT once more, by another path.
    fn is_stranger(&self, path: PathId, direction: Direction, l4: &L4) -> bool {
        let path = self.paths.get(path);
        matches!(*l4, L4::Sctp { chunks, initiate_tag, .. }
            if direction == Direction::Original
                && !path.confirmed
                && chunks & 1 << chunk::INIT != 0
                && self.conntrack.client_tag(path.flow) != Some(initiate_tag))
    }

    /// As [`way_out`](Self::way_out), by a further path.
    pub(super) fn way_on<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        path: PathId,
        direction: Direction,
    ) -> Result<Exit, DropReason> {
        let at = self.paths.get(path);
        let (ends, hop) = ([at.endpoint, at.client], at.next_hop[direction as usize]);
        let (hop, exit) = self.onward(turn, arrival, hop, ends, direction)?;
        self.paths.get_mut(path).next_hop[direction as usize] = hop.to_bits();
        self.fits(turn, arrival, exit, 0)?;
        Ok(exit)
    }

    /// Sends a packet of an association: what it says of addresses is heeded, and put right.
    pub(super) fn forward_sctp<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
        exit: Exit,
    ) {
        if chunks(&arrival.packet) & HANDSHAKE != 0 && flow.form == Form::Dnat {
            match direction {
                Direction::Original => self.learn_paths(turn, &arrival, id),
                Direction::Reply => {
                    if let Err(reason) = hide_addresses(turn, &mut arrival, flow) {
                        return self.drop(turn, arrival.port, arrival.frame, reason);
                    }
                }
            }
        }
        self.forward(turn, arrival, id, flow, direction, exit);
    }

    /// Makes paths of the addresses that the client says it has, while there is no association yet: later it could only add to them,
    /// which RFC 9260 §5.2.2 does not allow.
    fn learn_paths<O>(&mut self, turn: &Turn<'_, O>, arrival: &Arrival<F>, id: FlowId) {
        let flow = self.conntrack.flow(id);
        let Some(service) = turn.tables.services.by_id(flow.service) else { return };
        let Some(endpoint) = service.endpoint(flow.endpoint_id) else { return };
        if self.conntrack.state(id) != FlowState::HalfOpen {
            return;
        }
        let packet = &arrival.packet;
        let Some(segment) = segment(arrival.frame.data(), packet) else { return };
        let mut clients = ArrayVec::<Addr, CLIENT_ADDRESSES>::from_iter([flow.client]);
        if packet.src != flow.client {
            clients.push(packet.src);
        }
        let mut from = 0;
        while let Some(param) = next_address(segment, from) {
            from = param.value().end;
            let allowed = |addr: Addr| {
                let ports = Some((flow.client_port, flow.vip_port));
                let subject = Subject {
                    port: flow.ingress,
                    src: addr,
                    dst: flow.vip,
                    protocol: packet.protocol,
                    ports,
                };
                !addr.is_multicast()
                    && !turn.tables.is_martian(addr)
                    && turn.tables.firewall.dropped_by(&subject).is_none()
            };
            if let Some(addr) = param.addr.filter(|addr| !clients.contains(addr) && allowed(*addr))
                && clients.try_push(addr).is_err()
            {
                break;
            }
        }
        if clients.len() == 1 && service.secondary_vips.is_empty() {
            return;
        }
        for (vip, address) in service.vips().zip(endpoint.addresses()) {
            for &client in clients.iter().filter(|client| client.is_v4() == vip.is_v4()) {
                if (client, vip) != (flow.client, flow.vip) {
                    self.paths.add(id, &flow, client, vip, address);
                }
            }
        }
    }
}

/// The SCTP packet in a frame.
fn segment<'f>(frame: &'f [u8], packet: &Packet) -> Option<&'f [u8]> {
    frame.get(usize::from(packet.l4)..usize::from(packet.l3) + packet.l3_len as usize)
}

/// Replaces the endpoint's addresses in its INIT or INIT ACK by the VIPs that stand for them.
fn hide_addresses<O, F: Frame>(
    turn: &Turn<'_, O>,
    arrival: &mut Arrival<F>,
    flow: &Flow,
) -> Result<(), DropReason> {
    let packet = &arrival.packet;
    let named = segment(arrival.frame.data(), packet).filter(|segment| next_address(segment, 0).is_some());
    let Some(named) = named else { return Ok(()) };
    if packet.fragment.is_some() {
        return Err(DropReason::FragmentSctp);
    }
    // Computed anew, it would make a broken packet look whole.
    if !crc32c::verify(named) {
        return Err(DropReason::SctpChecksum);
    }
    let service = turn.tables.services.by_id(flow.service);
    let endpoint = service.and_then(|service| service.endpoint(flow.endpoint_id));
    let vip_of = |addr: Addr| {
        if addr == flow.endpoint {
            return Some(flow.vip);
        }
        let (service, endpoint) = (service?, endpoint?);
        let mut pairs = service.vips().zip(endpoint.addresses());
        pairs.find(|(_, own)| *own == addr).map(|(vip, _)| vip)
    };
    let (l4, end) = (usize::from(packet.l4), usize::from(packet.l3) + packet.l3_len as usize);
    let segment = arrival.frame.data_mut().get_mut(l4..end).ok_or(DropReason::FrameTooShort)?;
    let mut from = 0;
    while let Some(param) = next_address(segment, from) {
        from = param.value().end;
        match param.addr.and_then(vip_of) {
            Some(vip) if vip.is_v4() => segment[param.value()].copy_from_slice(&vip.v4_octets()),
            Some(vip) => segment[param.value()].copy_from_slice(&vip.v6_octets()),
            None => {
                segment[param.at..param.at + 2].copy_from_slice(&sctp_params::kind::PAD.to_be_bytes());
                segment[param.value()].fill(0);
            }
        }
    }
    let crc = crc32c::checksum(segment);
    segment[crc32c::FIELD].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}
