//! Both ends replaced, and the client's address told to the endpoint.

use super::wrap::Wrap;
use super::{Modes, Passage};
use crate::addr::Addr;
use crate::client_address::{self, options, proxy, proxy::Splice, toa};
use crate::config::ClientAddress;
use crate::conntrack::{Direction, Flow, FlowId, Form};
use crate::counters::Term;
use crate::parse::L4;
use crate::pipeline::egress::Exit;
use crate::pipeline::shard::{Arrival, Shard, Turn};
use crate::pipeline::{DropReason, Frame, Output};
use crate::rewrite::{self, Renewed};
use crate::time::Instant;
use crate::wire::checksum::{self, apply, delta};
use crate::wire::protocol;
use crate::wire::tcp::{self, field, flag};

/// RFC 9293 §3.7.1: no link's packets are so small that segments would have to be smaller.
const LEAST_MSS: u16 = 536;

/// A packet that is too short for a header of its own: Ethernet, IP, TCP with options, PROXY.
const SMALL: usize = 256;

impl<F: Frame> Shard<F> {
    /// Before a packet is shown to the state machine: numbers as the client has them.
    pub(in crate::pipeline) fn as_client_sees(
        &mut self,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
        l4: &mut L4,
    ) {
        let Form::FullNat(ClientAddress::ProxyV2) = flow.form else { return };
        let L4::Tcp { flags, seq, ack, .. } = l4 else { return };
        match (direction, self.modes.notes.splice(id)) {
            (Direction::Original, _) if *flags & (flag::SYN | flag::ACK) == flag::SYN => {
                self.modes.notes.set_splice(id, &Splice::new(*seq, proxy::len(flow.client)));
            }
            (Direction::Reply, Some(mut splice)) if *flags & flag::ACK != 0 => {
                let before = splice;
                *ack = splice.inward(*ack);
                if splice != before {
                    self.modes.notes.set_splice(id, &splice);
                }
            }
            _ => {}
        }
    }

    /// The numbers of a packet that [the client's](Self::as_client_sees) are, as whoever gets it in the end has them.
    pub(in crate::pipeline) fn as_receiver_sees(&self, id: FlowId, direction: Direction, l4: &mut L4) {
        if let (Direction::Original, L4::Tcp { seq, .. }) = (direction, l4)
            && let Some(splice) = self.modes.notes.splice(id)
        {
            *seq = splice.outward(flag::RST, *seq, 0).seq;
        }
    }

    pub(super) fn forward_full_nat<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        passage: &Passage<'_>,
    ) {
        let Passage { id, flow, direction, exit, account } = *passage;
        let told = match flow.form {
            Form::FullNat(ClientAddress::Toa) => self.toa(turn, &mut arrival, id, flow, direction, exit),
            Form::FullNat(ClientAddress::ProxyV2) => {
                self.proxy(turn, &mut arrival, id, flow, direction, exit)
            }
            _ => Ok(()),
        };
        let translated = told.and_then(|()| {
            let source = self.conntrack.own().get(flow.source);
            self.modes.translate(&mut arrival, id, flow, direction, source, turn.now)
        });
        match translated {
            Ok(None) => self.send(turn, arrival, exit, account),
            Ok(Some(wrap)) => self.send_wrapped(turn, arrival, exit, account, &wrap),
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    fn toa<O>(
        &mut self,
        turn: &Turn<'_, O>,
        arrival: &mut Arrival<F>,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
        exit: Exit,
    ) -> Result<(), DropReason> {
        let L4::Tcp { flags, seq, ack, payload, .. } = arrival.packet.l4_info else { return Ok(()) };
        match direction {
            Direction::Reply if flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK => {
                self.modes.notes.set_first(id, seq.wrapping_add(1));
                // So that the client's first segment has room, however long.
                let less = toa::len(flow.client) as u16;
                change_options(arrival, |space| options::shrink_mss(space, less, LEAST_MSS))
            }
            Direction::Original
                if self.modes.notes.first(id).is_some_and(|first| toa::is_due(flags, ack, first)) =>
            {
                let packet = &mut arrival.packet;
                let header_len = packet.l4_len() - payload as usize;
                let mtu = room(turn, exit, flow, direction);
                if !toa::fits(flow.client, header_len, packet.l3_len as usize, mtu) {
                    self.writer.bank().modes.toa_left_out.add(1);
                    return Ok(());
                }
                let option = toa::option(flow.client, flow.client_port);
                client_address::option(&mut arrival.frame, packet, &option)
            }
            _ => Ok(()),
        }
    }

    fn proxy<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &mut Arrival<F>,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
        exit: Exit,
    ) -> Result<(), DropReason> {
        let Some(splice) = self.modes.notes.splice(id) else { return Ok(()) };
        let L4::Tcp { flags, seq, ack, payload, .. } = arrival.packet.l4_info else { return Ok(()) };
        if direction == Direction::Reply {
            if flags & flag::ACK == 0 {
                return Ok(());
            }
            set_number(arrival, field::ACK.start, ack)?;
            return change_options(arrival, |space| options::map_sacks(space, |l, r| splice.block(l, r)));
        }
        let out = splice.outward(flags, seq, payload);
        if out.keep < payload {
            client_address::trim(&mut arrival.frame, &mut arrival.packet, out.keep as usize)?;
        }
        if !out.insert {
            return set_number(arrival, field::SEQ.start, out.seq);
        }
        let header = proxy::header((flow.client, flow.client_port), (flow.vip, flow.vip_port));
        if arrival.packet.l3_len as usize + header.len() <= room(turn, exit, flow, direction) {
            return client_address::payload(&mut arrival.frame, &mut arrival.packet, &header);
        }
        self.header_alone(turn, arrival, id, flow, exit, &header)?;
        set_number(arrival, field::SEQ.start, splice.behind())
    }

    /// The header in a segment of its own, like the one that has no room for it.
    fn header_alone<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        id: FlowId,
        flow: &Flow,
        exit: Exit,
        header: &[u8],
    ) -> Result<(), DropReason> {
        // Only whole packets wait.
        let Exit::To(egress, mac) = exit else { return Err(DropReason::NeighborUnresolved) };
        let mut alone = Small::arrival(arrival).ok_or(DropReason::TcpHeader)?;
        client_address::payload(&mut alone.frame, &mut alone.packet, header)?;
        let source = self.conntrack.own().get(flow.source);
        let wrap = self.modes.translate(&mut alone, id, flow, Direction::Original, source, turn.now)?;
        let packet = &alone.packet;
        let l3 = alone.frame.data().get(packet.l3 as usize..).ok_or(DropReason::TcpHeader)?;
        let config = &turn.tables.ports[egress.index()];
        self.modes.build(wrap.as_ref(), l3, mac, config).ok_or(DropReason::TcpHeader)?;
        if turn.out.originate(egress, self.modes.built(), false) {
            self.writer.bank().term(Term::Originated).add(1);
            self.writer.bank().modes.proxy_segments.add(1);
        }
        Ok(())
    }
}

impl Modes {
    /// Ports, and addresses unless the header has to be another, which is then what is given back.
    fn translate<G: Frame>(
        &mut self,
        arrival: &mut Arrival<G>,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
        source: Addr,
        now: Instant,
    ) -> Result<Option<Wrap>, DropReason> {
        let packet = arrival.packet;
        let (old, new) = rewrite::ends(flow, direction, source);
        let [l3_delta, l4_delta] = rewrite::deltas_between(old, new);
        let crosses = flow.client.is_v4() != flow.endpoint.is_v4();
        // To the endpoint all clients' packets come from the same few addresses.
        let id = match (packet.fragment, direction) {
            (Some(fragment), Direction::Original) => Some(self.ids.of_piece(id, fragment.id, now)),
            (None, Direction::Original) if !packet.dont_fragment || crosses => Some(self.ids.fresh()),
            (None, Direction::Reply) if crosses => Some(self.ids.fresh()),
            _ => None,
        };
        let renewed = Renewed { ttl: packet.ttl.wrapping_sub(1), id };
        let bytes = arrival.frame.data_mut();
        if packet.fragment.is_none_or(|fragment| fragment.is_first()) {
            rewrite::replace_ports(bytes, &packet, flow, new, l4_delta)?;
        }
        if crosses {
            return Ok(Some(Wrap::Family { new, renewed }));
        }
        rewrite::replace_addresses(bytes, &packet, new, renewed, l3_delta)?;
        Ok(None)
    }
}

/// A segment without payload, in memory of its own.
struct Small {
    bytes: [u8; SMALL],
    start: usize,
    len: usize,
}

impl Small {
    /// The headers of a segment from IP on; nothing where its checksum is wrong, or it would be made to look whole.
    fn arrival<F: Frame>(of: &Arrival<F>) -> Option<Arrival<Self>> {
        let Arrival { port, frame, packet } = of;
        let (l3, l4) = (packet.l3 as usize, packet.l4 as usize);
        let bytes = frame.data().get(l3..l3 + packet.l3_len as usize)?;
        if checksum::pseudo(packet.src, packet.dst, protocol::TCP, bytes.get(l4 - l3..)?) != 0 {
            return None;
        }
        let header_len = usize::from(bytes.get(l4 - l3 + field::OFFSET)? >> 4) * 4;
        let headers = bytes.get(..l4 - l3 + header_len)?;
        let mut small = Self { bytes: [0; SMALL], start: proxy::MAX_LEN, len: headers.len() };
        small.data_mut().get_mut(..headers.len())?.copy_from_slice(headers);
        let mut packet = *packet;
        packet.l3 = 0;
        packet.l4 = (l4 - l3) as u16;
        packet.l3_len = headers.len() as u32;
        let segment = small.data_mut().get_mut(l4 - l3..)?;
        // The end, and what is urgent, are in the other one.
        segment[field::FLAGS] &= !(flag::FIN | flag::URG);
        segment.get_mut(field::CHECKSUM)?.fill(0);
        let sum = checksum::pseudo(packet.src, packet.dst, protocol::TCP, segment);
        segment.get_mut(field::CHECKSUM)?.copy_from_slice(&sum.to_be_bytes());
        client_address::set_length(small.data_mut(), &packet)?;
        Some(Arrival { port: *port, frame: small, packet })
    }
}

impl Frame for Small {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let room = n <= self.start;
        if room {
            self.start -= n;
            self.len += n;
        }
        room
    }

    fn shrink_front(&mut self, n: usize) {
        self.start += n.min(self.len);
        self.len -= n.min(self.len);
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// What a packet may have before it grows as the connection's mode makes it.
fn room<O>(turn: &Turn<'_, O>, exit: Exit, flow: &Flow, direction: Direction) -> usize {
    let mtu = isize::try_from(turn.tables.ports[exit.port().index()].mtu).unwrap_or(0);
    usize::try_from(mtu - super::growth(flow, direction)).unwrap_or(0)
}

/// Changes a sequence or acknowledgement number.
fn set_number<F: Frame>(arrival: &mut Arrival<F>, at: usize, number: u32) -> Result<(), DropReason> {
    let l4 = arrival.frame.data_mut().get_mut(arrival.packet.l4 as usize..).ok_or(DropReason::TcpHeader)?;
    let field: &mut [u8; 4] =
        l4.get_mut(at..).and_then(|b| b.first_chunk_mut()).ok_or(DropReason::TcpHeader)?;
    let (old, new) = (*field, number.to_be_bytes());
    if old == new {
        return Ok(());
    }
    *field = new;
    mend(l4, delta(&old, &new))
}

/// Changes the option space; `change` tells what that adds to the sum.
fn change_options<F: Frame>(
    arrival: &mut Arrival<F>,
    change: impl FnOnce(&mut [u8]) -> u16,
) -> Result<(), DropReason> {
    let l4 = arrival.frame.data_mut().get_mut(arrival.packet.l4 as usize..).ok_or(DropReason::TcpHeader)?;
    let offset = l4.get(field::OFFSET).ok_or(DropReason::TcpHeader)?;
    let end = usize::from(offset >> 4) * 4;
    if end == tcp::HEADER_LEN {
        return Ok(());
    }
    let changed = change(l4.get_mut(tcp::HEADER_LEN..end).ok_or(DropReason::TcpHeader)?);
    mend(l4, changed)
}

fn mend(l4: &mut [u8], change: u16) -> Result<(), DropReason> {
    let field: &mut [u8; 2] =
        l4.get_mut(field::CHECKSUM.start..).and_then(|b| b.first_chunk_mut()).ok_or(DropReason::TcpHeader)?;
    *field = apply(u16::from_be_bytes(*field), change).to_be_bytes();
    Ok(())
}
