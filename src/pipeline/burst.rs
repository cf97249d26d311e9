//! A burst's way: each stage over all of its packets before the next begins, so that their cache misses overlap.
//!
//! parse and hash, fetch buckets → probe buckets, fetch entries → recognise connections, fetch what their packets need besides → in
//! the packets' order, each to its verdict. What is known to be an ordinary packet of a connection takes [the shortest](super::plain)
//! or [a short](super::established) way; the rest is dispatched here.

use arrayvec::ArrayVec;

use super::foresee::{Foreseen, LastService};
use super::modes;
use super::owner::LastVip;
use super::shard::{Arrival, Shard, Turn, Via};
use super::{DropReason, Errand, Frame, Handed, MAX_BURST, Output};
use crate::addr::Addr;
use crate::config::{ClientAddress, Protocol};
use crate::conntrack::{Direction, Form, Lead, Tuple};
use crate::counters::Term;
use crate::dpdk::memory::prefetch;
use crate::ids::{PortId, WorkerId};
use crate::parse::{self, L4, Link, Packet, Parsed, Station, Whole};
use crate::responder::{icmp, nd};
use crate::tables::{Port, Tables};
use crate::wire::ethernet::ethertype;
use crate::wire::tcp::flag;

/// How a packet goes on, as far as its connection tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Way {
    /// It is [dispatched](Shard::dispatch).
    #[default]
    Long,
    /// [`Shard::short_way`].
    Short,
    /// [`Shard::enclosed_way`].
    EnclosedAlone,
    /// [`Shard::enclosed_run`].
    Enclosed,
    /// [`Shard::replaced_way`].
    Replaced,
    /// [`Shard::plain_way_v6`].
    PlainV6,
    /// [`Shard::plain_way`].
    Plain,
}

impl Way {
    /// Whether packets go it in [runs](super::plain).
    #[inline(always)]
    fn is_of_runs(self) -> bool {
        matches!(self, Self::Plain | Self::PlainV6 | Self::Replaced | Self::Enclosed)
    }
}

/// First packets from the one in hand to that for which the last things are fetched.
const SOON: usize = 8;

/// What the first stages find out about a packet. It stays where it is until the burst is done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub packet: Whole,
    hash: u64,
    /// Where its way is not long, the connection.
    pub lead: Lead,
    pub way: Way,
    foreseen: Option<Foreseen>,
    /// The worker whose packet it is, where that is another.
    owner: Option<WorkerId>,
    seen: Seen,
}

/// What the first look at a packet has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Seen {
    /// The full parser is asked when it is the frame's turn.
    #[default]
    Nothing,
    /// [`Slot::packet`] is valid.
    Whole,
    /// And of the same tuple as the one before it, which is of this worker's: packets of a connection often come one after the other,
    /// and what was found out for the first holds for all.
    Next,
}

/// What a packet's connection is known by, as it is on the wire, and the hash of that.
#[derive(Default)]
struct Before {
    v4: u64,
    v6: [Addr; 2],
    /// 0: of no packet.
    ports: u32,
    is_tcp: bool,
    is_v4: bool,
    hash: u64,
}

impl Before {
    #[inline(always)]
    fn is_of(&self, packet: &Whole) -> bool {
        let addresses = if packet.is_v4 { self.v4 == packet.v4 } else { self.v6 == packet.v6 };
        addresses && (self.ports, self.is_tcp, self.is_v4) == (packet.ports, packet.is_tcp, packet.is_v4)
    }

    #[inline(always)]
    fn set(&mut self, packet: &Whole, hash: u64) {
        (self.ports, self.is_tcp, self.is_v4, self.hash) = (packet.ports, packet.is_tcp, packet.is_v4, hash);
        if packet.is_v4 {
            self.v4 = packet.v4;
        } else {
            self.v6 = packet.v6;
        }
    }
}

/// One for each packet of a burst. A shard keeps them, so that they stay in the cache and need not be cleared.
#[derive(Debug)]
pub(super) struct Slots([Slot; MAX_BURST]);

impl Default for Slots {
    fn default() -> Self {
        Self([Slot::default(); MAX_BURST])
    }
}

impl Slot {
    /// Whether the packet's connection is looked for here.
    #[inline(always)]
    fn is_ours(&self) -> bool {
        self.is_whole() && self.owner.is_none()
    }

    /// Whether `packet` is valid.
    #[inline(always)]
    fn is_whole(&self) -> bool {
        self.seen != Seen::Nothing
    }

    /// Whether it is of the same tuple as the one before it.
    #[inline(always)]
    pub fn is_next(&self) -> bool {
        self.seen == Seen::Next
    }

    /// What was foreseen of it, if it may open a connection.
    #[inline(always)]
    fn foreseen(&self) -> Option<&Foreseen> {
        self.foreseen.as_ref().filter(|_| self.is_unknown())
    }

    /// Whether it is, and not found.
    #[inline(always)]
    fn is_unknown(&self) -> bool {
        self.is_ours() && self.lead == Lead::NONE
    }
}

/// Which way a known connection's packets of this direction go, if nothing about them or it is peculiar.
#[inline]
fn way_of(form: Form, direction: Direction) -> Way {
    match (form, direction) {
        // Numbers and options are looked at; or it should not have come.
        (Form::FullNat(ClientAddress::Toa | ClientAddress::ProxyV2), _)
        | (Form::DsrL2 | Form::DsrIpip | Form::DsrGue, Direction::Reply) => Way::Long,
        (Form::Dnat | Form::FullNat(ClientAddress::None) | Form::DsrL2, _) => Way::Short,
        (Form::DsrIpip | Form::DsrGue, Direction::Original) => Way::Enclosed,
    }
}

/// Fetches what of the headers is not in the frame's first line, in which IPv6 leaves no room for TCP.
#[inline(always)]
fn fetch_rest(frame: &[u8]) {
    if let Some((first, rest)) = frame.split_first_chunk::<64>()
        && first[12..14] == ethertype::IPV6.to_be_bytes()
        && let Some(rest) = rest.first()
    {
        prefetch(rest);
    }
}

fn link(config: &Port) -> Link {
    Link { mac: (!config.promiscuous).then_some(config.mac), vlan: config.vlan }
}

impl<F: Frame> Shard<F> {
    /// Takes all of `frames`, each of them to its verdict. `look` says where a frame came in, `take` takes it apart; `sort`: they
    /// may be other workers' packets. `ahead` is fetched meanwhile.
    #[inline]
    pub(super) fn process<T, O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        frames: &mut ArrayVec<T, MAX_BURST>,
        ahead: &[F],
        sort: bool,
        look: impl Fn(&T) -> (PortId, &F) + Copy,
        take: impl Fn(T) -> (PortId, F, Via) + Copy,
    ) {
        let mut kept = self.slots.take().unwrap_or_default();
        let slots = &mut kept.0;
        let burst = frames.len();
        let sort = sort && self.owner.is_shared();
        let at_once = sort && self.astray;
        self.parse_all(turn.tables, slots, frames, look, at_once);
        let slots = &mut slots[..burst.min(MAX_BURST)];
        if self.probe_all(slots) {
            if sort && !at_once {
                self.sort_all(turn.tables, slots);
            }
            self.foresee_all(turn.tables, slots);
        }
        if sort {
            self.astray = 2 * slots.iter().filter(|slot| slot.owner.is_some()).count() > burst;
        }
        self.recognize_all(turn.tables, slots, frames, look);
        self.conntrack.begin(turn.now);
        let removals = self.removals;
        let mut forwarded = 0;
        let (mut slots, mut frames, mut ahead) = (slots.iter(), frames.drain(..), ahead.iter());
        while let Some(slot) = slots.as_slice().first() {
            // What was looked up before a removal is looked up again.
            let way = if self.removals == removals { slot.way } else { Way::Long };
            if way.is_of_runs() {
                let queue = (&mut slots, &mut frames, &mut ahead);
                let odd = match way {
                    Way::Plain => self.plain_way(turn, queue, take, &mut forwarded),
                    Way::PlainV6 => self.plain_way_v6(turn, queue, take, &mut forwarded),
                    Way::Replaced => self.replaced_way(turn, queue, take, &mut forwarded),
                    _ => self.enclosed_run(turn, queue, take, &mut forwarded),
                };
                // Mostly one that changes the connection's state.
                if let Some((odd, (port, frame, via))) = odd {
                    let tried = match way {
                        Way::Enclosed => Err(frame),
                        _ => self.short_way(turn, port, frame, odd, &mut forwarded),
                    };
                    if let Err(frame) = tried {
                        self.long_way(turn, odd, (port, frame, via));
                    }
                }
                continue;
            }
            slots.next();
            let Some(frame) = frames.next() else { break };
            self.foresee_soon(slots.as_slice());
            if let Some(ahead) = ahead.next() {
                ahead.prefetch();
            }
            let (port, frame, via) = take(frame);
            if let Some(owner) = slot.owner {
                self.hand_off(turn, owner, Handed::to_owner(port, frame));
                continue;
            }
            let tried = match way {
                Way::Short | Way::EnclosedAlone if self.is_slot_misdirected(turn, &frame, slot) => Err(frame),
                Way::Short => self.short_way(turn, port, frame, slot, &mut forwarded),
                Way::EnclosedAlone => self.enclosed_way(turn, port, frame, slot, &mut forwarded),
                Way::Long | Way::Plain | Way::PlainV6 | Way::Replaced | Way::Enclosed => Err(frame),
            };
            let Err(frame) = tried else { continue };
            let frame = match slot.foreseen() {
                Some(foreseen) if foreseen.plain => {
                    match self.opening(
                        turn,
                        (port, frame, via),
                        (&slot.packet, slot.hash),
                        foreseen,
                        &mut forwarded,
                    ) {
                        Ok(()) => continue,
                        Err(frame) => frame,
                    }
                }
                _ => frame,
            };
            self.long_way(turn, slot, (port, frame, via));
        }
        if forwarded > 0 {
            self.writer.bank().term(Term::Forwarded).add(forwarded);
        }
        self.slots = Some(kept);
    }

    /// First stage: parse, hash, and fetch the buckets. Each stage is a function of its own, so that its loop has the registers
    /// for itself.
    #[inline(never)]
    fn parse_all<T>(
        &mut self,
        tables: &Tables,
        slots: &mut [Slot; MAX_BURST],
        frames: &[T],
        look: impl Fn(&T) -> (PortId, &F),
        sort: bool,
    ) {
        let mut last = LastVip::default();
        if self.long_headers {
            for frame in frames {
                fetch_rest(look(frame).1.data());
            }
        }
        let mut long_headers = false;
        let mut slots = slots.iter_mut();
        for of_a_port in frames.chunk_by(|a, b| look(a).0 == look(b).0) {
            let Some(port) = of_a_port.first().map(|frame| look(frame).0) else { continue };
            let station = Station::new(&link(&tables.ports[port.index()]));
            // The packet before, where that is ours.
            let mut before = Before::default();
            for (frame, slot) in of_a_port.iter().zip(slots.by_ref()) {
                let (_, frame) = look(frame);
                let whole = parse::whole(&station, frame.data(), || frame.rx_checksum(), &mut slot.packet);
                slot.lead = Lead::NONE;
                slot.owner = None;
                slot.seen = if whole { Seen::Whole } else { Seen::Nothing };
                if whole && before.is_of(&slot.packet) {
                    slot.seen = Seen::Next;
                    slot.hash = before.hash;
                    // Of IPv6 the one before has said so already.
                    continue;
                }
                before.ports = 0;
                if whole {
                    if sort {
                        slot.owner = self.other_owner(tables, &slot.packet, &mut last);
                    }
                    if slot.owner.is_none() {
                        slot.hash = self.conntrack.hash_of(&slot.packet);
                        self.conntrack.prefetch(slot.hash);
                        before.set(&slot.packet, slot.hash);
                    }
                }
                long_headers |= !slot.packet.is_v4;
            }
        }
        self.long_headers = long_headers;
    }

    /// Second stage; whether some packets are of connections that are not known.
    #[inline(never)]
    fn probe_all(&self, slots: &mut [Slot]) -> bool {
        let mut sure = true;
        let mut before = Lead::NONE;
        for slot in slots.iter_mut().filter(|slot| slot.is_ours()) {
            slot.lead = match slot.seen {
                Seen::Next => before,
                _ => self.conntrack.probe(slot.hash, !slot.packet.is_v4),
            };
            before = slot.lead;
            sure &= slot.lead.connection().is_some();
        }
        if sure {
            return false;
        }
        for slot in slots.iter_mut().filter(|slot| slot.is_ours() && slot.lead.is_further()) {
            slot.lead = self.conntrack.probe_further(slot.hash, !slot.packet.is_v4);
        }
        slots.iter().any(Slot::is_unknown)
    }

    /// Third stage, for those whose connection was found: which way they go; fetches their pairs' counters, and where a header will
    /// be put.
    #[inline(never)]
    fn recognize_all<T>(
        &self,
        tables: &Tables,
        slots: &mut [Slot],
        frames: &[T],
        look: impl Fn(&T) -> (PortId, &F),
    ) {
        // While connections of lost endpoints are looked for, each is asked after.
        let settled = self.sweep.is_none();
        let bank = self.writer.bank();
        let have_server_ids = tables.services.have_server_ids();
        let (mut before, mut unbroken) = (Way::Long, false);
        for (slot, frame) in slots.iter_mut().zip(frames) {
            let packet = &slot.packet;
            // A SYN may begin the connection anew; where a packet dies here, its sender may be told.
            let peculiar = packet.flags & flag::SYN != 0 || packet.ttl <= 1;
            // What of a way depends on no more than the connection, its direction and this.
            if slot.seen == Seen::Next && before.is_of_runs() && packet.dont_fragment == unbroken && !peculiar
            {
                slot.way = before;
                if before == Way::Enclosed {
                    look(frame).1.prefetch_front();
                }
                continue;
            }
            slot.way = Way::Long;
            before = Way::Long;
            // Of what is not ours there is no lead.
            let Some((id, direction)) = self.conntrack.confirm(slot.lead, packet) else { continue };
            let entry = self.conntrack.entry(id);
            prefetch(bank.pair(entry.pair()));
            if peculiar || !settled || !entry.is_of_epoch(tables.firewall_epoch) {
                continue;
            }
            let directed = packet.is_tcp || !have_server_ids;
            if entry.is_plain() && directed {
                slot.way = Way::Plain;
            } else if entry.is_plain_v6() && directed {
                slot.way = Way::PlainV6;
            } else if modes::is_replaced_v4(entry, packet, direction) && directed {
                slot.way = Way::Replaced;
            } else {
                slot.way = way_of(entry.form(), direction);
                if slot.way == Way::Enclosed {
                    look(frame).1.prefetch_front();
                    if entry.is_wide() || !directed {
                        slot.way = Way::EnclosedAlone;
                    }
                }
            }
            (before, unbroken) = (slot.way, packet.dont_fragment);
        }
    }

    /// Whose packets those of no known connection are. Where the device brings most to their owners this is asked of few; where it
    /// does not ([`astray`](Self::astray)), of all of the next burst before anything else, and nothing is looked for in vain.
    #[inline(never)]
    fn sort_all(&self, tables: &Tables, slots: &mut [Slot]) {
        let mut last = LastVip::default();
        for slot in slots.iter_mut().filter(|slot| slot.is_unknown()) {
            slot.owner = self.other_owner(tables, &slot.packet, &mut last);
        }
    }

    #[inline]
    fn other_owner(&self, tables: &Tables, packet: &Whole, last: &mut LastVip) -> Option<WorkerId> {
        let tuple = packet.tuple();
        let owner = self.owner.of_side(&tuple, last.is_vip(&tables.services, tuple.dst));
        (owner != self.worker).then_some(owner)
    }

    /// What first packets will need is found out and fetched.
    #[inline(never)]
    fn foresee_all(&self, tables: &Tables, slots: &mut [Slot]) {
        let mut last = LastService::default();
        let mut draws = [None; MAX_BURST];
        for (slot, draw) in slots.iter().zip(&mut draws).filter(|(slot, _)| slot.is_unknown()) {
            if !slot.packet.is_tcp || slot.packet.flags & flag::SYN != 0 {
                *draw = Self::draw(tables, &slot.packet, &mut last);
            }
        }
        for (slot, draw) in slots.iter_mut().zip(draws).filter(|(slot, _)| slot.is_unknown()) {
            slot.foreseen = draw.and_then(|draw| self.foresee(tables, &slot.packet, draw));
        }
        for (before, slot) in slots.iter().take(SOON).enumerate() {
            if let Some(foreseen) = slot.foreseen() {
                self.foresee_rest(&slot.packet, foreseen, before);
            }
        }
    }

    /// The last steps of that, beside the work on a packet that these come behind: there is more to fetch than all at once.
    #[inline(always)]
    fn foresee_soon(&self, slots: &[Slot]) {
        if let Some(slot) = slots.get(SOON - 1)
            && let Some(foreseen) = slot.foreseen()
        {
            self.foresee_rest(&slot.packet, foreseen, SOON);
        }
        if let Some(reply) =
            slots.get(SOON / 2 - 1).and_then(Slot::foreseen).and_then(|foreseen| foreseen.reply)
        {
            self.conntrack.prefetch_room(reply);
        }
    }

    /// [`is_misdirected`](Self::is_misdirected), of a packet whose connection was recognised.
    #[inline]
    fn is_slot_misdirected<O>(&self, turn: &Turn<'_, O>, frame: &F, slot: &Slot) -> bool {
        turn.tables.services.have_server_ids()
            && !slot.packet.is_tcp
            && slot.lead.connection().is_some_and(|(id, direction)| {
                self.is_misdirected(turn, frame, &slot.packet.packet(), id, direction)
            })
    }

    #[inline(never)]
    fn long_way<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        slot: &Slot,
        (port, frame, via): (PortId, F, Via),
    ) {
        let parsed = if slot.is_whole() {
            Ok(Parsed::Ip(slot.packet.packet()))
        } else {
            parse_fully(turn.tables, port, &frame)
        };
        self.foreseen = slot.foreseen().copied();
        self.dispatch(turn, port, frame, via, &parsed);
        self.foreseen = None;
    }

    /// A packet that needs a decision.
    fn dispatch<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        via: Via,
        parsed: &Result<Parsed, DropReason>,
    ) {
        let packet = match parsed {
            Err(reason) => return self.unparsed(turn, port, frame, *reason),
            Ok(Parsed::Arp { offset }) => return self.arp(turn, port, frame, *offset),
            Ok(Parsed::Ip(packet)) => *packet,
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
        match (packet.l4_info, tuple(&packet)) {
            (L4::Icmp { kind, .. }, _) if packet.protocol == 58 && nd::TYPES.contains(&kind) => {
                self.neighbor_discovery(turn, arrival, kind);
            }
            // A unicast packet in a multicast or broadcast frame (RFC 1122 §3.3.6).
            _ if packet.to_group => self.drop(turn, port, arrival.frame, DropReason::Multicast),
            (_, Some(tuple)) => {
                if self.owner.is_shared() && !handed {
                    let owner = self.owner.of(&tuple, &turn.tables.services);
                    if owner != self.worker {
                        return self.hand_off(turn, owner, Handed::to_owner(port, arrival.frame));
                    }
                }
                // Anew: an earlier packet of the burst may have opened or removed it.
                let found = self.conntrack.find(&tuple, self.conntrack.hash(&tuple));
                self.transport(turn, arrival, found);
            }
            (L4::Icmp { kind, .. }, None) if icmp::is_for_ends(packet.protocol, kind) => {
                let quoted = parse::quoted(arrival.frame.data(), &packet);
                let tunneled = self.tunneled(turn, &arrival);
                if let Some(quoted) = tunneled.as_ref().map(|it| &it.inner).or(quoted.as_ref()) {
                    let owner = self.owner.of_quoted(&quoted.tuple, &turn.tables.services);
                    if owner != self.worker && !handed {
                        return self.hand_off(turn, owner, Handed::to_owner(port, arrival.frame));
                    }
                }
                match tunneled {
                    Some(about) => self.tunnel_error(turn, arrival, &about),
                    None => self.icmp_error(turn, arrival, quoted.as_ref()),
                }
            }
            _ => self.local(turn, arrival),
        }
    }
}

#[cold]
fn parse_fully<F: Frame>(tables: &Tables, port: PortId, frame: &F) -> Result<Parsed, DropReason> {
    parse::parse(&link(&tables.ports[port.index()]), frame.data(), frame.rx_checksum())
}

/// The 5-tuple of a packet of a protocol that has connections. Fragments are looked up when their datagram is known.
#[inline]
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
