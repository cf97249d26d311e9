//! A burst's way: each stage over all of its packets before the next begins, so that their cache misses overlap.

use arrayvec::ArrayVec;

use super::shard::{Arrival, Shard, Turn, Via};
use super::{DropReason, Errand, Frame, Handed, MAX_BURST, Output};
use crate::config::Protocol;
use crate::conntrack::{Direction, FlowId, Tuple};
use crate::ids::PortId;
use crate::parse::{self, L4, Link, Packet, Parsed};
use crate::responder::{icmp, nd};
use crate::tables::Tables;

/// One packet on its way.
pub(super) struct Slot<F> {
    pub port: PortId,
    pub frame: F,
    parsed: Result<Parsed, DropReason>,
    via: Via,
    flow: Option<Candidate>,
}

/// The connection that a packet may be of.
struct Candidate {
    tuple: Tuple,
    hash: u64,
    found: Option<(FlowId, Direction)>,
}

impl<F: Frame> Slot<F> {
    pub fn parse(tables: &Tables, port: PortId, frame: F, via: Via) -> Self {
        let config = &tables.ports[port.index()];
        let link = Link { mac: (!config.promiscuous).then_some(config.mac), vlan: config.vlan };
        let parsed = parse::parse(&link, frame.data(), frame.rx_checksum());
        Self { port, frame, parsed, via, flow: None }
    }
}

impl<F: Frame> Shard<F> {
    pub(super) fn process<O: Output<F>>(
        &mut self,
        mut slots: ArrayVec<Slot<F>, MAX_BURST>,
        turn: &mut Turn<'_, O>,
    ) {
        for slot in &mut slots {
            if let Ok(Parsed::Ip(packet)) = &slot.parsed
                && let Some(tuple) = tuple(packet)
            {
                let hash = self.conntrack.hash(&tuple);
                slot.flow = Some(Candidate { tuple, hash, found: None });
            }
        }
        for candidate in slots.iter_mut().filter_map(|slot| slot.flow.as_mut()) {
            candidate.found = self.conntrack.find(&candidate.tuple, candidate.hash);
        }
        let removals = self.removals;
        for mut slot in slots {
            if let Some(candidate) = &mut slot.flow
                // An earlier packet of the burst may have opened this one's connection, or made room for another.
                && (candidate.found.is_none() || self.removals != removals)
            {
                candidate.found = self.conntrack.find(&candidate.tuple, candidate.hash);
            }
            self.dispatch(slot, turn);
        }
    }

    fn dispatch<O: Output<F>>(&mut self, slot: Slot<F>, turn: &mut Turn<'_, O>) {
        let Slot { port, frame, parsed, via, flow } = slot;
        let packet = match parsed {
            Err(reason) => return self.unparsed(turn, port, frame, reason),
            Ok(Parsed::Arp { offset }) => return self.arp(turn, port, frame, offset),
            Ok(Parsed::Ip(packet)) => packet,
        };
        let arrival = Arrival { port, frame, packet };
        self.errand = Errand::Own;
        if let Via::Ring(ports, errand) = via {
            self.errand = errand;
            if let Errand::Choose(owner) = errand {
                self.errand = Errand::Own;
                return self.answer(turn, arrival, ports, owner);
            }
        }
        // Its owner gave it to us: not to be handed on.
        let handed = via != Via::Device;
        if let Some(fragment) = &packet.fragment
            && !packet.to_group
            && !self.is_for_kernel(turn, port, packet.dst)
        {
            return self.fragment(turn, arrival, fragment, via);
        }
        match (packet.l4_info, flow) {
            (L4::Icmp { kind, .. }, _) if packet.protocol == 58 && nd::TYPES.contains(&kind) => {
                self.neighbor_discovery(turn, arrival, kind);
            }
            // A unicast packet in a multicast or broadcast frame (RFC 1122 §3.3.6).
            _ if packet.to_group => self.drop(turn, port, arrival.frame, DropReason::Multicast),
            (_, Some(Candidate { tuple, found, .. })) => {
                let owner = self.owner.of(&tuple, &turn.tables.services);
                if owner != self.worker && !handed {
                    return self.hand_off(turn, owner, Handed::to_owner(port, arrival.frame));
                }
                self.transport(turn, arrival, found);
            }
            (L4::Icmp { kind, .. }, None) if icmp::is_for_ends(packet.protocol, kind) => {
                let quoted = parse::quoted(arrival.frame.data(), &packet);
                if let Some(quoted) = &quoted {
                    let owner = self.owner.of_quoted(&quoted.tuple, &turn.tables.services);
                    if owner != self.worker && !handed {
                        return self.hand_off(turn, owner, Handed::to_owner(port, arrival.frame));
                    }
                }
                self.icmp_error(turn, arrival, quoted.as_ref());
            }
            _ => self.local(turn, arrival),
        }
    }
}

/// The 5-tuple of a packet of a protocol that has connections. Fragments are looked up when their datagram is known.
fn tuple(packet: &Packet) -> Option<Tuple> {
    if packet.fragment.is_some() {
        return None;
    }
    let protocol = match packet.l4_info {
        L4::Tcp { .. } => Protocol::Tcp,
        L4::Udp { .. } => Protocol::Udp,
        L4::Sctp { .. } => Protocol::Sctp,
        L4::Icmp { .. } | L4::Other => return None,
    };
    let (sport, dport) = packet.ports();
    Some(Tuple { src: packet.src, dst: packet.dst, sport, dport, protocol })
}
