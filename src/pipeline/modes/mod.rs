//! Packets of connections in modes other than `dnat`.
//!
//! - `full_nat`: both ends replaced, of either family, and the client's address told
//! - `dsr`: to the endpoint as they are, or in another packet
//! - `enclose`: the short way into that other packet
//! - `wrap`: a header put before a packet, or in the place of its own, and what is too long for that
//! - `errors`: ICMP errors about such connections
//! - `tunnel_errors`: ICMP errors about the packets that theirs are in

mod dsr;
mod enclose;
mod errors;
mod full_nat;
mod tunnel_errors;
mod wrap;

use self::enclose::Envelopes;
use super::connection::account;
use super::egress::Exit;
use super::shard::{Arrival, Shard, Turn};
use super::{Account, DropReason, Frame, Output, ShardConfig};
use crate::addr::Addr;
use crate::client_address::Notes;
use crate::config::{ClientAddress, Protocol};
use crate::conntrack::{Direction, Entry, Flow, FlowId, Form, OwnAddresses, View};
use crate::counters::{FlowState, Writer};
use crate::ids::SourceId;
use crate::parse::Whole;
use crate::pipeline::owner::Owner;
use crate::rewrite::{self, Ends, OntoV4};
use crate::service::{Delivery, Endpoint, Service};
use crate::siit;
use crate::snat::{Binding, Ids, Rest, Snat, Usage};
use crate::tables::Tables;
use crate::time::Instant;
use crate::tunnel::{self, Kind};
use crate::wire::raw;

/// What a shard has for them.
pub(super) struct Modes {
    snat: Snat,
    ids: Ids,
    notes: Notes,
    envelopes: Envelopes,
    /// Where a fragment gets its header.
    wrapped: Vec<u8>,
    /// What the counters say of [`Snat::usage`].
    told: Vec<Usage>,
}

/// A packet's way through its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage<'a> {
    /// The connection's entry, and what is in it.
    pub id: FlowId,
    pub flow: &'a Flow,
    pub direction: Direction,
    /// Where it leaves.
    pub exit: Exit,
    /// What it counts as.
    pub account: Account,
}

/// The longest packet, with an L2 header.
const LONGEST: usize = (1 << 16) + 64;

impl Modes {
    pub fn new(config: &ShardConfig, tables: &Tables, owner: &Owner) -> Self {
        let (first, last) = tables.snat.ports;
        let key = (config.seed ^ 0x736e_6174, u64::from(config.worker.0) + 1);
        let belongs = |protocol: Protocol, addr, port| owner.of_snat(addr, port, protocol) == config.worker;
        let snat = Snat::new(&tables.snat.addresses, first..=last, key, belongs);
        let told = snat.usage().map(|_| Usage::default()).collect();
        Self {
            snat,
            ids: Ids::new(config.worker.0, config.workers, (config.seed >> 16) as u32),
            notes: Notes::new(config.max_flows),
            envelopes: Envelopes::new(),
            wrapped: Vec::with_capacity(LONGEST),
            told,
        }
    }

    /// A port towards an endpoint.
    fn bind(
        &mut self,
        tables: &Tables,
        protocol: Protocol,
        to: &Endpoint,
        now: Instant,
    ) -> Option<(SourceId, u16)> {
        let Binding { addr, port } = self.snat.allocate(protocol, to.addr, now)?;
        Some((tables.own.find(addr), port))
    }

    /// Fetches where a port towards an endpoint will be drawn, as far as that is drawn after so many others.
    #[inline]
    pub fn foresee_source(&self, nth: usize, protocol: Protocol, endpoint: Addr) {
        self.snat.prefetch(nth, protocol, endpoint);
    }

    /// What a connection's entry is told of its source.
    pub fn source(
        &mut self,
        tables: &Tables,
        service: &Service,
        to: &Endpoint,
        now: Instant,
    ) -> Result<(SourceId, u16), DropReason> {
        let Delivery { form, source, port } = service.delivery;
        if form.is_full_nat() {
            self.bind(tables, service.protocol, to, now).ok_or(DropReason::SnatExhausted)
        } else {
            Ok((source, port))
        }
    }

    /// A connection in an entry that may have been another's.
    pub fn begin(&mut self, id: FlowId) {
        self.notes.forget(id);
    }

    /// A connection that was not entered.
    pub fn unbind(&mut self, tables: &Tables, flow: &Flow, now: Instant) {
        if flow.form.is_full_nat() {
            let binding = Binding { addr: tables.own.get(flow.source), port: flow.source_port };
            self.snat.release(flow.protocol, flow.endpoint, binding, Rest::None, now);
        }
    }

    /// A connection that is no more, and was in this state.
    #[inline]
    pub fn gone(&mut self, view: View<'_>, state: FlowState, own: &OwnAddresses, now: Instant) {
        let entry = view.entry();
        if entry.form().is_full_nat() {
            // Its endpoint may be in TIME-WAIT if it ever answered.
            let rests = entry.protocol() != Protocol::Udp && state != FlowState::HalfOpen;
            let rest = if rests { Rest::TimeWait } else { Rest::None };
            let (source, port) = entry.source();
            let [_, _, endpoint] = view.addresses();
            let binding = Binding { addr: own.get(source), port };
            self.snat.release(entry.protocol(), endpoint, binding, rest, now);
        }
    }

    pub fn maintain(&mut self, now: Instant) {
        self.snat.maintain(now);
    }

    /// Other tables than before.
    pub fn go_over(&mut self) {
        self.envelopes.clear();
    }

    /// Once a tick: what has changed since the last.
    pub fn tell(&mut self, writer: &Writer) {
        let bank = writer.bank();
        for (n, ((_, usage), told)) in self.snat.usage().zip(&mut self.told).enumerate() {
            let Some(counters) = bank.snat(n) else { break };
            counters.used.add(usage.used.wrapping_sub(told.used));
            counters.resting.add(usage.resting.wrapping_sub(told.resting));
            counters.free.add(usage.free.wrapping_sub(told.free));
            *told = usage;
        }
    }
}

/// From and to whom a packet goes on, where its header stays of the same kind and length and nothing but addresses and ports is
/// replaced; `None` in all other modes.
#[inline]
pub(super) fn whole_ends(
    view: View<'_>,
    own: &OwnAddresses,
    packet: &Whole,
    direction: Direction,
) -> Option<Ends> {
    let entry = view.entry();
    let [(_, client_port), (_, vip_port), (_, endpoint_port)] = entry.ends_v4();
    let [client, vip, endpoint] = view.addresses();
    let (client_end, vip_end, endpoint_end) =
        ((client, client_port), (vip, vip_port), (endpoint, endpoint_port));
    let (near, far) = match entry.form() {
        Form::Dnat => (client_end, endpoint_end),
        Form::DsrL2 => (client_end, vip_end),
        Form::FullNat(_) if keeps_header((client, endpoint), packet, direction) => {
            let (source, port) = entry.source();
            ((own.get(source), port), endpoint_end)
        }
        _ => return None,
    };
    Some(match direction {
        Direction::Original => (near, far),
        Direction::Reply => (vip_end, client_end),
    })
}

/// Whether full NAT between a client and an endpoint leaves a packet's IP header but for addresses and checksum: it is not of
/// another family, and does not get another id, as it does without "don't fragment" on its way to the endpoint.
#[inline]
pub(super) fn keeps_header((client, endpoint): (Addr, Addr), packet: &Whole, direction: Direction) -> bool {
    client.is_v4() == endpoint.is_v4() && (packet.dont_fragment || direction == Direction::Reply)
}

/// Whether [`onto_v4`] says where a packet of a connection goes on: all ends are of IPv4, and no more than addresses and ports is
/// replaced.
#[inline]
pub(super) fn is_replaced_v4(entry: &Entry, packet: &Whole, direction: Direction) -> bool {
    let replaced = match entry.form() {
        Form::Dnat => true,
        Form::DsrL2 => direction == Direction::Original,
        // As in `whole_ends`.
        Form::FullNat(ClientAddress::None) => packet.dont_fragment || direction == Direction::Reply,
        _ => false,
    };
    replaced && packet.is_v4 && !entry.is_wide()
}

/// [`whole_ends`] of such a packet, and what it adds to checksums.
#[inline(always)]
pub(super) fn onto_v4(entry: &Entry, packet: &Whole, direction: Direction, own: &OwnAddresses) -> OntoV4 {
    let comes = (packet.v4, packet.ports);
    let goes = match (entry.form(), direction) {
        (Form::DsrL2, _) => return OntoV4 { ends: comes, deltas: [0; 2] },
        (Form::FullNat(_), Direction::Original) => {
            let [_, _, (endpoint, endpoint_port)] = entry.ends_v4();
            let (source, port) = entry.source();
            (raw::addresses(own.get(source).0 as u32, endpoint), raw::ports(port, endpoint_port))
        }
        _ => entry.goes_v4(direction),
    };
    OntoV4 { ends: goes, deltas: rewrite::deltas_v4(comes, goes) }
}

/// As [`growth`].
#[inline]
pub(super) fn growth_of(view: View<'_>, direction: Direction) -> isize {
    let [client, _, endpoint] = view.addresses();
    growth_between(view.entry().form(), client, endpoint, direction)
}

/// Bytes that packets of a connection grow by on their way out; negative where they shrink. A whole packet without options.
pub(super) fn growth(flow: &Flow, direction: Direction) -> isize {
    growth_between(flow.form, flow.client, flow.endpoint, direction)
}

#[inline]
pub(super) fn growth_between(form: Form, client: Addr, endpoint: Addr, direction: Direction) -> isize {
    let overhead = |kind| tunnel::overhead(kind, endpoint) as isize;
    match form {
        Form::Dnat | Form::DsrL2 => 0,
        Form::DsrIpip => overhead(Kind::Ipip),
        Form::DsrGue => overhead(Kind::Gue(0)),
        Form::FullNat(_) => {
            let (from, to) = match direction {
                Direction::Original => (client, endpoint),
                Direction::Reply => (endpoint, client),
            };
            match (from.is_v4(), to.is_v4()) {
                (true, false) => siit::V4_GROWS_BY as isize,
                (false, true) => -(siit::V4_GROWS_BY as isize),
                _ => 0,
            }
        }
    }
}

impl<F: Frame> Shard<F> {
    /// Source and destination of what is sent on in the place of a packet of a connection; of a tunnel the inner ones.
    pub(super) fn onward_ends(&self, flow: &Flow, direction: Direction) -> Ends {
        let client = (flow.client, flow.client_port);
        let vip = (flow.vip, flow.vip_port);
        let source = self.conntrack.own().get(flow.source);
        match (flow.form, direction) {
            (_, Direction::Reply) => (vip, client),
            (Form::DsrL2 | Form::DsrIpip | Form::DsrGue, _) => (client, vip),
            (Form::FullNat(_), _) => rewrite::ends(flow, direction, source).1,
            (Form::Dnat, _) => (client, (flow.endpoint, flow.endpoint_port)),
        }
    }

    /// A later fragment of a packet of a connection.
    pub(super) fn piece_by_mode<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        id: FlowId,
        flow: &Flow,
        direction: Direction,
    ) {
        let allowed = self.still_allowed(turn, id).and_then(|()| {
            if direction == Direction::Reply && flow.form.is_one_sided() {
                return Err(DropReason::MartianSource);
            }
            if rewrite::changes_crc(flow) {
                return Err(DropReason::FragmentSctp);
            }
            self.way_out(turn, &arrival, id, direction)
        });
        match allowed {
            Ok(exit) => {
                let account = account(Some(id), flow, &arrival.packet, false);
                self.forward_by_mode(turn, arrival, &Passage { id, flow, direction, exit, account });
            }
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    /// Sends a packet of a connection as its mode says.
    pub(super) fn forward_by_mode<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        passage: &Passage<'_>,
    ) {
        let Passage { flow, exit, account, .. } = *passage;
        match flow.form {
            Form::Dnat | Form::FullNat(_) => self.forward_full_nat(turn, arrival, passage),
            Form::DsrL2 | Form::DsrIpip | Form::DsrGue => {
                self.forward_dsr(turn, arrival, flow, exit, account);
            }
        }
    }
}
