//! Fragments: by the worker that learns their datagram's ports, to the one that owns the connection.
//!
//! The first fragment takes the way of any packet, firewall and state machine included; later ones only have their addresses
//! translated, as its connection says. Each is a packet of its own in all counts.

use super::connection::account;
use super::kernel::{Class, is_through};
use super::shard::{Arrival, Shard, Turn, Via};
use super::{DropReason, Frame, Handed, Output};
use crate::config::Protocol;
use crate::conntrack::{Form, Tuple};
use crate::counters::Term;
use crate::firewall::Subject;
use crate::fragment::{Admission, Held, Key, Serial, TIMEOUT};
use crate::parse::Packet;
use crate::rewrite;
use crate::wire::fragment::Fragment;

/// Pieces that are given up in one turn.
const GIVE_UP: usize = 32;

impl<F: Frame> Shard<F> {
    /// A fragment of a datagram with ports.
    #[cold]
    pub(super) fn fragment<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        fragment: &Fragment,
        via: Via,
    ) {
        if let Via::Ring(Some(ports), _) = via {
            return self.piece(turn, arrival, ports);
        }
        let Arrival { port, packet, .. } = arrival;
        let key = Key::of(&packet, fragment);
        if via == Via::Device && self.owner.of_datagram(&key) != self.worker {
            let to = self.owner.of_datagram(&key);
            return self.hand_off(turn, to, Handed::to_owner(port, arrival.frame));
        }
        let ports = fragment.is_first().then(|| packet.ports());
        // No more than the 65 535 bytes that the parser lets a datagram have.
        let len = packet.l4_len() as u16;
        match self.datagrams.admit(&key, fragment, len, ports, turn.now) {
            Admission::Known(ports) => self.pass_on(turn, arrival, ports),
            Admission::First(waiting) => {
                let ports = packet.ports();
                self.pass_on(turn, arrival, ports);
                self.release(turn, waiting, Ok(ports));
            }
            Admission::Wait(serial) => {
                self.writer.bank().term(Term::HeldIn).add(1);
                let until = turn.now.after(TIMEOUT);
                let held = Held { serial, until, port, frame: arrival.frame, packet };
                if let Some(Held { port, frame, .. }) = self.waiting.push(held) {
                    self.writer.bank().term(Term::HeldOut).add(1);
                    self.drop(turn, port, frame, DropReason::FragmentFull);
                }
            }
            Admission::Refuse(reason, waiting) => {
                self.drop(turn, port, arrival.frame, reason);
                self.release(turn, waiting, Err(reason));
            }
        }
    }

    /// Lets go of what waits for a datagram's first fragment.
    fn release<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        waiting: Option<Serial>,
        outcome: Result<(u16, u16), DropReason>,
    ) {
        let Some(serial) = waiting else { return };
        while let Some(Held { port, frame, packet, .. }) = self.waiting.take(serial) {
            self.writer.bank().term(Term::HeldOut).add(1);
            match outcome {
                Ok(ports) => self.pass_on(turn, Arrival { port, frame, packet }, ports),
                Err(reason) => self.drop(turn, port, frame, reason),
            }
        }
    }

    /// Drops what has waited too long. Whether there is more.
    pub(super) fn give_up_fragments<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>) -> bool {
        for _ in 0..GIVE_UP {
            let Some(Held { port, frame, .. }) = self.waiting.expired(turn.now) else { return false };
            self.writer.bank().term(Term::HeldOut).add(1);
            self.drop(turn, port, frame, DropReason::FragmentTimeout);
        }
        true
    }

    /// A fragment of a datagram with these ports, to the worker that owns its connection.
    fn pass_on<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: Arrival<F>, ports: (u16, u16)) {
        if self.owner.is_shared()
            && let Some(tuple) = tuple(&arrival, ports)
        {
            let owner = self.owner.of(&tuple, &turn.tables.services);
            if owner != self.worker {
                let Arrival { port, frame, .. } = arrival;
                return self.hand_off(
                    turn,
                    owner,
                    Handed { ports: Some(ports), ..Handed::to_owner(port, frame) },
                );
            }
        }
        self.piece(turn, arrival, ports);
    }

    /// A fragment of a datagram with these ports, whose connection is ours.
    fn piece<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: Arrival<F>, ports: (u16, u16)) {
        let Arrival { port, packet, .. } = arrival;
        let tuple = tuple(&arrival, ports);
        let found = tuple.and_then(|t| self.conntrack.find(&t, self.conntrack.hash(&t)));
        if packet.fragment.is_none_or(|fragment| fragment.is_first()) {
            return self.transport(turn, arrival, found);
        }
        let path = if found.is_none() { tuple.and_then(|t| self.path_of(&t)) } else { None };
        let found = found.or_else(|| path.map(|(path, direction)| (self.paths.get(path).flow, direction)));
        let Some((id, direction)) = found else {
            // Its first piece may be on a detour: it goes after that.
            let arrival = match Self::sticky_service(turn, tuple) {
                Some(service) => match self.detour(turn, arrival, service, ports) {
                    Some(arrival) => arrival,
                    None => return,
                },
                None => arrival,
            };
            return self.stray(turn, arrival, ports);
        };
        let mut arrival = arrival;
        let flow = path.map_or_else(|| self.conntrack.flow(id), |(path, _)| self.flow_on(path));
        if flow.form != Form::Dnat {
            return self.piece_by_mode(turn, arrival, id, &flow, direction);
        }
        let translated = self
            .still_allowed(turn, id)
            .and_then(|()| match path {
                Some((path, _)) => self.way_on(turn, &arrival, path, direction),
                None => self.way_out(turn, &arrival, id, direction),
            })
            .and_then(|exit| {
                rewrite::translate_piece(&mut arrival.frame, &packet, &flow, direction)?;
                Ok((exit, account(Some(id), &flow, &packet, false)))
            });
        match translated {
            Ok((exit, account)) => self.send(turn, arrival, exit, account),
            Err(reason) => self.drop(turn, port, arrival.frame, reason),
        }
    }

    /// A later fragment of no connection: in transit, as its datagram's first one was, or nobody's.
    fn stray<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: Arrival<F>, ports: (u16, u16)) {
        let Arrival { port, frame, packet } = arrival;
        if !is_through(turn, port, packet.dst) {
            return self.drop(turn, port, frame, DropReason::FragmentOrphan);
        }
        let Packet { src, dst, protocol, .. } = packet;
        let subject = Subject { port, src, dst, protocol, ports: Some(ports) };
        if let Some(rule) = turn.tables.firewall.dropped_by(&subject) {
            self.writer.bank().rule(rule).add(1);
            return self.drop(turn, port, frame, DropReason::Firewall);
        }
        if turn.tables.is_endpoint(src, ports.0) {
            return self.drop(turn, port, frame, DropReason::EndpointReply);
        }
        self.punt(turn, port, frame, Class::Other);
    }
}

fn tuple<F>(arrival: &Arrival<F>, (sport, dport): (u16, u16)) -> Option<Tuple> {
    let packet = &arrival.packet;
    let protocol = Protocol::ALL.into_iter().find(|p| p.number() == packet.protocol)?;
    Some(Tuple { src: packet.src, dst: packet.dst, sport, dport, protocol })
}
