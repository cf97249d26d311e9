//! A connection in memory: the 64 bytes that its packets need, 16 that only its beginning, its end and its timer do, and the
//! 64 of its addresses where one of them is of IPv6.

use std::hint::select_unpredictable;

use super::machine::Machine;
use super::tally::Recent;
use super::wheel::Links;
use super::{Answered, Direction, Flow, Form, OwnAddresses, Tuple};
use crate::addr::Addr;
use crate::config::{ClientAddress, Protocol};
use crate::counters::FlowState;
use crate::ids::{EndpointId, PairSlot, PortId, ServiceId, SourceId};
use crate::parse::Whole;
use crate::wire::{raw, u16_at, u32_at};

/// A handshake that makes no progress is given up after this, milliseconds.
const HALF_OPEN_MS: u32 = 10_000;

/// A connection that one side has finished is forgotten after this long without a packet, milliseconds.
const CLOSING_MS: u32 = 120_000;

/// Stragglers of a finished connection pass for this long, milliseconds.
const CLOSED_MS: u32 = 10_000;

/// Longest idle timeout, 12 days: elapsed times stay well clear of the 49 days at which u32 milliseconds wrap.
const MAX_IDLE_MS: u32 = 1 << 30;

/// Longer than any timeout, in milliseconds.
pub(super) const PAST_ALL_TIMEOUTS_MS: u32 = 1 << 31;

/// What is done with its packets, for which protocol, and where its addresses are, in six bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind(u8);

impl Kind {
    const FORM_SHIFT: u32 = 2;
    /// Addresses are in the wide half.
    const WIDE: u8 = 1 << 5;
    const ALL: u8 = (1 << Recent::OTHERS) - 1;
    const FORMS: [Form; 7] = [
        Form::Dnat,
        Form::FullNat(ClientAddress::None),
        Form::FullNat(ClientAddress::Toa),
        Form::FullNat(ClientAddress::ProxyV2),
        Form::DsrL2,
        Form::DsrIpip,
        Form::DsrGue,
    ];

    /// Of a connection without IPv6 addresses whose destination alone is replaced.
    #[inline]
    const fn plain(protocol: Protocol) -> Self {
        Self(protocol.index() as u8)
    }

    #[inline]
    fn new(protocol: Protocol, form: Form, wide: bool) -> Self {
        let form = match form {
            Form::Dnat => 0,
            Form::FullNat(ClientAddress::None) => 1,
            Form::FullNat(ClientAddress::Toa) => 2,
            Form::FullNat(ClientAddress::ProxyV2) => 3,
            Form::DsrL2 => 4,
            Form::DsrIpip => 5,
            Form::DsrGue => 6,
        };
        Self(Self::plain(protocol).0 | form << Self::FORM_SHIFT | if wide { Self::WIDE } else { 0 })
    }

    #[inline]
    fn protocol(self) -> Protocol {
        let n = usize::from(self.0 & 3);
        Protocol::ALL.get(n).copied().unwrap_or(Protocol::Udp)
    }

    #[inline]
    fn form(self) -> Form {
        let n = usize::from((self.0 & !Self::WIDE) >> Self::FORM_SHIFT);
        Self::FORMS.get(n).copied().unwrap_or(Form::Dnat)
    }

    #[inline]
    const fn is_wide(self) -> bool {
        self.0 & Self::WIDE != 0
    }
}

/// One cache line, all that an established packet of IPv4 reads and writes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Entry {
    /// Addresses of VIP, client and endpoint as they are on the wire, of IPv4; of a connection that is wide, the low halves of
    /// the low halves. Two neighbours are a packet's source and destination as it goes on, read as one word: to the endpoint the
    /// latter two, back the first two.
    addresses: [u8; 12],
    /// Their ports likewise.
    ports: [u8; 6],
    pub(super) machine: Machine,
    /// What it has carried of late, and below that its [`Kind`].
    pub(super) recent: Recent,
    /// When the timeout began to run: low 32 bits of the time in milliseconds.
    pub(super) touched_ms: u32,
    pair: PairSlot,
    next_hop: [u32; 2],
    /// Where the destination alone is replaced, what that adds to checksums as they are on the wire, of the original direction; else
    /// the source's port, and its [`SourceId`].
    by_form: [u16; 2],
    /// The firewall epoch in the upper 24 bits, the port of the first packet in the others.
    epoch_and_ingress: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

/// Bits of a firewall epoch: 16 million changes within one idle timeout are one every 60 ms for twelve days.
const EPOCH_BITS: u32 = 24;

impl Entry {
    /// Of a connection that has not seen a packet yet.
    #[inline(always)]
    pub(super) fn new(flow: &Flow, machine: Machine, touched_ms: u32) -> Self {
        let wide = !(flow.client.is_v4() && flow.vip.is_v4() && flow.endpoint.is_v4());
        Self {
            addresses: bytemuck::cast(
                [flow.vip, flow.client, flow.endpoint].map(|addr| (addr.0 as u32).to_be_bytes()),
            ),
            ports: bytemuck::cast(
                [flow.vip_port, flow.client_port, flow.endpoint_port].map(u16::to_be_bytes),
            ),
            machine,
            recent: Recent(Kind::new(flow.protocol, flow.form, wide).0.into()),
            touched_ms,
            pair: flow.pair,
            next_hop: flow.next_hop,
            by_form: if flow.form == Form::Dnat {
                flow.delta.map(raw::u16)
            } else {
                [flow.source_port, flow.source.0.into()]
            },
            epoch_and_ingress: flow.epoch << (32 - EPOCH_BITS) | u32::from(flow.ingress.0),
        }
    }

    #[inline]
    const fn kind(&self) -> Kind {
        Kind(self.recent.0 as u8 & Kind::ALL)
    }

    /// Counts a packet that it has carried, of so many L3 bytes. Whether [`Conntrack::carry`](super::Conntrack::carry) is to be called.
    #[inline(always)]
    #[must_use]
    pub const fn count(&mut self, bytes: u32) -> bool {
        self.recent.add(bytes)
    }

    /// Whose traffic this is.
    #[inline]
    #[must_use]
    pub const fn pair(&self) -> PairSlot {
        self.pair
    }

    /// Its protocol.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.kind().protocol()
    }

    /// What is done with its packets.
    #[inline]
    #[must_use]
    pub fn form(&self) -> Form {
        self.kind().form()
    }

    /// Whether it is a connection of IPv4 alone whose destination is replaced: what is said of others is in [`Form`].
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.kind().0 <= Kind::plain(Protocol::Sctp).0
    }

    /// Whether one of its addresses is of IPv6.
    #[inline]
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.kind().is_wide()
    }

    /// Next hop of packets that go this way: opaque to the table.
    #[inline]
    #[must_use]
    pub const fn next_hop(&self, direction: Direction) -> u32 {
        let [original, reply] = self.next_hop;
        if matches!(direction, Direction::Original) { original } else { reply }
    }

    /// What a translation adds to the IPv4 header checksum, and to the L4 checksum, as those are on the wire (`wire::raw`), where that is
    /// kept: where not both ends are replaced.
    #[inline]
    #[must_use]
    pub fn delta(&self, direction: Direction) -> Option<[u16; 2]> {
        match self.form() {
            Form::Dnat => Some(self.plain_delta(direction)),
            Form::FullNat(_) => None,
            Form::DsrL2 | Form::DsrIpip | Form::DsrGue => Some([0; 2]),
        }
    }

    /// The same, of a connection that [is plain](Self::is_plain).
    #[inline]
    #[must_use]
    pub const fn plain_delta(&self, direction: Direction) -> [u16; 2] {
        delta_by(self.by_form, direction)
    }

    /// Whether it was last allowed under this firewall epoch.
    #[inline]
    #[must_use]
    pub const fn is_of_epoch(&self, epoch: u32) -> bool {
        (self.epoch_and_ingress ^ epoch << (32 - EPOCH_BITS)) >> (32 - EPOCH_BITS) == 0
    }

    /// Where the first packet came in.
    #[inline]
    #[must_use]
    pub const fn ingress(&self) -> PortId {
        PortId(self.epoch_and_ingress as u8)
    }

    /// Client, VIP and endpoint of a connection that is not [wide](Self::is_wide), with their ports.
    #[inline(always)]
    #[must_use]
    pub const fn ends_v4(&self) -> [(u32, u16); 3] {
        [
            (u32_at::<4, _>(&self.addresses), u16_at::<2, _>(&self.ports)),
            (u32_at::<0, _>(&self.addresses), u16_at::<0, _>(&self.ports)),
            (u32_at::<8, _>(&self.addresses), u16_at::<4, _>(&self.ports)),
        ]
    }

    /// The endpoint's port.
    #[inline]
    #[must_use]
    pub const fn endpoint_port(&self) -> u16 {
        u16_at::<4, _>(&self.ports)
    }

    /// Full NAT: which address and which port the endpoint sees; a tunnel's source, and the port that GUE is sent to.
    #[inline]
    #[must_use]
    pub fn source(&self) -> (SourceId, u16) {
        let [port, source] = self.by_form;
        if self.form() == Form::Dnat { (SourceId(0), 0) } else { (SourceId(source as u8), port) }
    }

    /// [`Conntrack::step`](super::Conntrack::step) for a packet that changes no state, as most do: `false`, and no change, for any
    /// other. `now_ms` is [`Conntrack::now_ms`](super::Conntrack::now_ms).
    #[inline(always)]
    pub fn follow(&mut self, direction: Direction, packet: &Whole, now_ms: u32) -> bool {
        let follows = self.machine.follow(direction, packet);
        if follows {
            self.touched_ms = now_ms;
        }
        follows
    }

    #[inline]
    pub(super) const fn set_next_hop(&mut self, direction: Direction, hop: u32) {
        let [original, reply] = &mut self.next_hop;
        *(if matches!(direction, Direction::Original) { original } else { reply }) = hop;
    }

    #[inline]
    pub(super) fn set_epoch(&mut self, epoch: u32) {
        self.epoch_and_ingress = epoch << (32 - EPOCH_BITS) | u32::from(self.ingress().0);
    }

    /// Of a connection that [is plain](Self::is_plain), source and destination address and port of packets that go this way, as they
    /// come, all as on the wire (`wire::raw`). Directions come in no order, so that a branch on them would be mispredicted: the words are
    /// selected, here and below.
    #[inline(always)]
    #[must_use]
    pub fn comes_v4(&self, direction: Direction) -> (u64, u32) {
        // Before the packet goes back, the one that it is from is the one that it went to.
        let (addresses, ports) = self.goes_v4(direction.reverse());
        (addresses.rotate_left(32), ports.rotate_left(16))
    }

    /// The same as they go on.
    #[inline(always)]
    #[must_use]
    pub fn goes_v4(&self, direction: Direction) -> (u64, u32) {
        let Self { addresses, ports, .. } = self;
        let original = direction == Direction::Original;
        (
            select_unpredictable(original, raw::u64_at::<4, _>(addresses), raw::u64_at::<0, _>(addresses)),
            select_unpredictable(original, raw::u32_at::<2, _>(ports), raw::u32_at::<0, _>(ports)),
        )
    }

    /// Milliseconds since the timeout began to run, for most states since the packet before this one; in a handshake since the
    /// step before.
    #[inline]
    #[must_use]
    pub const fn silent_ms(&self, now_ms: u64) -> u32 {
        (now_ms as u32).wrapping_sub(self.touched_ms)
    }

    /// How long the client of a handshake has waited, now that the server has taken it a step further: since its SYN, which came at
    /// `asked_us`, or its INIT, with which the timeout began to run. Retransmissions change neither.
    pub(super) fn answered(&self, asked_us: Option<u32>, now_us: u64, now_ms: u64) -> Option<Answered> {
        match &self.machine {
            Machine::Tcp(_) => asked_us.map(|asked_us| {
                // Clocks of two workers may differ by a little.
                let micros = (now_us as u32).wrapping_sub(asked_us).cast_signed().max(0).cast_unsigned();
                Answered { micros, at_most: micros }
            }),
            Machine::Sctp(state) => state.is_answered().then(|| {
                let ms = self.silent_ms(now_ms);
                let micros = ms.saturating_mul(1000);
                Answered { micros, at_most: micros.saturating_add(1000) }
            }),
            _ => None,
        }
    }

    /// Whether packets that go this way are like this one; nothing where it is no plain connection of this protocol.
    #[inline(always)]
    pub(super) fn has_plain(&self, direction: Direction, packet: &Whole) -> Option<bool> {
        let plain = self.kind() == Kind::plain(packet.protocol());
        plain.then(|| packet.is_v4 && self.comes_v4(direction) == (packet.v4, packet.ports))
    }

    /// The same of any connection of IPv4; nothing of others.
    #[inline]
    pub(super) fn has_v4_packet(
        &self,
        direction: Direction,
        packet: &Whole,
        own: &OwnAddresses,
    ) -> Option<bool> {
        if self.is_wide() || !packet.is_v4 {
            return None;
        }
        let form = self.form();
        let comes = match direction {
            Direction::Reply if form.is_full_nat() => {
                let [_, _, (endpoint, endpoint_port)] = self.ends_v4();
                let (source, port) = self.source();
                (raw::addresses(endpoint, own.get(source).0 as u32), raw::ports(endpoint_port, port))
            }
            // As the VIP.
            Direction::Reply if form.is_one_sided() => self.goes_v4(direction),
            _ => self.comes_v4(direction),
        };
        Some(self.protocol() == packet.protocol() && comes == (packet.v4, packet.ports))
    }

    /// Whether packets that go this way are from and to these, both of IPv4: of a connection that [is plain](Self::is_plain).
    #[inline(always)]
    fn has_v4(&self, direction: Direction, tuple: &Tuple) -> bool {
        let addresses = raw::addresses(tuple.src.0 as u32, tuple.dst.0 as u32);
        self.comes_v4(direction) == (addresses, raw::ports(tuple.sport, tuple.dport))
    }
}

/// By direction, of the one of the original direction: the complement undoes it. One's complement has two zeroes; the complement of the
/// negative one is the other, and neither changes a checksum that there is.
#[inline]
pub(super) const fn delta_by([l3, l4]: [u16; 2], direction: Direction) -> [u16; 2] {
    // No branch: directions come in no order.
    let undo = (direction as u16).wrapping_neg();
    [l3 ^ undo, l4 ^ undo]
}

/// Client, VIP and endpoint of a connection that is wide.
pub(super) type Wide = [u128; 4];

/// What is not asked for by packets: a quarter of a cache line.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) links: Links,
    owner: Owner,
}

const _: () = assert!(size_of::<Rest>() == 16);

/// Whose connection it is, and how long it may be idle: 22 bits of endpoint, 17 of service, 24 of time.
#[derive(Clone, Copy, Debug)]
struct Owner(u64);

impl Owner {
    const ENDPOINT_BITS: u32 = 22;
    const SERVICE_BITS: u32 = 17;
    const IDLE_BITS: u32 = 24;
    /// Times below 2 h 19 min are exact; beyond, which this bit tells, they are in units of 256 ms, rounded up.
    const COARSE: u32 = 1 << (Self::IDLE_BITS - 1);

    #[inline]
    fn new(endpoint: EndpointId, service: ServiceId, idle_ms: u32) -> Self {
        let idle_ms = idle_ms.min(MAX_IDLE_MS);
        let idle = if idle_ms < Self::COARSE { idle_ms } else { Self::COARSE | idle_ms.div_ceil(256) };
        Self(
            u64::from(endpoint.0)
                | u64::from(service.0) << Self::ENDPOINT_BITS
                | u64::from(idle) << (Self::ENDPOINT_BITS + Self::SERVICE_BITS),
        )
    }

    #[inline]
    const fn endpoint(self) -> EndpointId {
        EndpointId(self.0 as u32 & ((1 << Self::ENDPOINT_BITS) - 1))
    }

    #[inline]
    const fn service(self) -> ServiceId {
        ServiceId((self.0 >> Self::ENDPOINT_BITS) as u32 & ((1 << Self::SERVICE_BITS) - 1))
    }

    #[inline]
    const fn idle_ms(self) -> u32 {
        let idle = (self.0 >> (Self::ENDPOINT_BITS + Self::SERVICE_BITS)) as u32;
        if idle < Self::COARSE { idle } else { (idle ^ Self::COARSE) * 256 }
    }
}

impl Owner {
    /// The most ids of each kind that fit.
    const ENDPOINTS: usize = 1 << Self::ENDPOINT_BITS;
    const SERVICES: usize = 1 << Self::SERVICE_BITS;
}

const _: () = assert!(crate::tables::MAX_ENDPOINTS <= Owner::ENDPOINTS);
const _: () = assert!(crate::tables::MAX_SERVICES <= Owner::SERVICES);

impl Rest {
    #[inline(always)]
    pub(super) fn new(flow: &Flow) -> Self {
        Self { links: Links::NONE, owner: Owner::new(flow.endpoint_id, flow.service, flow.idle_timeout_ms) }
    }
}

#[cfg(test)]
impl Rest {
    /// Of no connection.
    pub(super) fn blank() -> Self {
        Self { links: Links::NONE, owner: Owner(0) }
    }
}

/// A connection as those see it who are not in a hurry.
#[derive(Clone, Copy, Debug)]
pub struct View<'t> {
    pub(super) entry: &'t Entry,
    pub(super) rest: &'t Rest,
    pub(super) wide: &'t Wide,
}

impl<'t> View<'t> {
    /// What its packets need.
    #[inline]
    #[must_use]
    pub const fn entry(&self) -> &'t Entry {
        self.entry
    }

    /// The service.
    #[inline]
    #[must_use]
    pub const fn service(&self) -> ServiceId {
        self.rest.owner.service()
    }

    /// The endpoint.
    #[inline]
    #[must_use]
    pub const fn endpoint_id(&self) -> EndpointId {
        self.rest.owner.endpoint()
    }

    /// Client, VIP and endpoint.
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> [Addr; 3] {
        if self.entry.is_wide() {
            let [client, vip, endpoint, _] = self.wide;
            [Addr(*client), Addr(*vip), Addr(*endpoint)]
        } else {
            self.entry.ends_v4().map(|(addr, _)| Addr::v4(addr.to_be_bytes()))
        }
    }

    /// All of it.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let Entry { pair, next_hop, by_form, .. } = *self.entry;
        let ((source, source_port), form) = (self.entry.source(), self.entry.form());
        let [(_, client_port), (_, vip_port), (_, endpoint_port)] = self.entry.ends_v4();
        let [client, vip, endpoint] = self.addresses();
        Flow {
            client,
            vip,
            endpoint,
            client_port,
            vip_port,
            endpoint_port,
            protocol: self.entry.protocol(),
            ingress: self.entry.ingress(),
            service: self.service(),
            endpoint_id: self.endpoint_id(),
            pair,
            delta: if form == Form::Dnat { by_form.map(raw::u16) } else { [0; 2] },
            next_hop,
            epoch: self.entry.epoch_and_ingress >> (32 - EPOCH_BITS),
            idle_timeout_ms: self.rest.owner.idle_ms(),
            form,
            source,
            source_port,
        }
    }

    /// Whether [`Flow::tuple_by`] is `tuple`.
    #[inline(always)]
    pub(super) fn has_tuple(&self, direction: Direction, tuple: &Tuple, own: &OwnAddresses) -> bool {
        if self.entry.kind() == Kind::plain(tuple.protocol) {
            return tuple.src.is_v4() && tuple.dst.is_v4() && self.entry.has_v4(direction, tuple);
        }
        self.entry.protocol() == tuple.protocol && self.tuple(direction, own) == *tuple
    }

    /// [`Self::has_tuple`] of a packet's, where [`Entry::has_plain`] does not tell.
    #[inline]
    pub(super) fn has_packet(&self, direction: Direction, packet: &Whole, own: &OwnAddresses) -> bool {
        self.entry.protocol() == packet.protocol() && self.tuple(direction, own) == packet.tuple()
    }

    /// [`Flow::tuple_by`].
    #[inline]
    pub(super) fn tuple(&self, direction: Direction, own: &OwnAddresses) -> Tuple {
        let [(_, client_port), (_, vip_port), (_, endpoint_port)] = self.entry.ends_v4();
        let [client, vip, endpoint] = self.addresses();
        let (client, vip) = ((client, client_port), (vip, vip_port));
        let form = self.entry.form();
        let ((src, sport), (dst, dport)) = match direction {
            Direction::Original => (client, vip),
            Direction::Reply if form.is_one_sided() => (vip, client),
            Direction::Reply if form.is_full_nat() => {
                let (source, source_port) = self.entry.source();
                ((endpoint, endpoint_port), (own.get(source), source_port))
            }
            Direction::Reply => ((endpoint, endpoint_port), client),
        };
        Tuple { src, dst, sport, dport, protocol: self.entry.protocol() }
    }

    /// How long an entry in `state` lives without a refresh.
    pub(super) fn timeout_ms(&self, state: FlowState) -> u32 {
        match state {
            // Nothing tells a UDP handshake from a talk that the server does not answer.
            FlowState::HalfOpen if matches!(self.entry.machine, Machine::Udp(_)) => self.rest.owner.idle_ms(),
            FlowState::HalfOpen => HALF_OPEN_MS,
            FlowState::Established => self.rest.owner.idle_ms(),
            FlowState::Closing => CLOSING_MS,
            FlowState::Closed => CLOSED_MS,
        }
    }

    /// Milliseconds until it is due, seen at `now_ms`; 0: it is.
    #[inline]
    pub(super) fn left_ms(&self, now_ms: u64) -> u32 {
        let timeout_ms = self.timeout_ms(self.entry.machine.flow_state());
        timeout_ms.saturating_sub(self.entry.silent_ms(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_timeouts_are_exact_or_a_little_longer() {
        for ms in [0, 1, 999, 240_000, 3_600_000, (1 << 23) - 1] {
            assert_eq!(Owner::new(EndpointId(3), ServiceId(2), ms).idle_ms(), ms);
        }
        for ms in [1 << 23, 86_400_000, 86_400_001, MAX_IDLE_MS - 1, MAX_IDLE_MS] {
            let kept = Owner::new(EndpointId(3), ServiceId(2), ms).idle_ms();
            assert!((ms..ms + 256).contains(&kept), "{ms} is kept as {kept}");
        }
        assert_eq!(Owner::new(EndpointId(0), ServiceId(0), u32::MAX).idle_ms(), MAX_IDLE_MS);
    }

    #[test]
    fn an_owner_s_parts_do_not_touch() {
        let (endpoint, service) = (EndpointId((1 << 22) - 1), ServiceId((1 << 17) - 1));
        for (e, s, idle) in [(endpoint, ServiceId(0), 0), (EndpointId(0), service, 0), (endpoint, service, 7)]
        {
            let owner = Owner::new(e, s, idle);
            assert_eq!((owner.endpoint(), owner.service(), owner.idle_ms()), (e, s, idle));
        }
    }

    #[test]
    fn a_delta_is_undone_by_its_complement() {
        use crate::wire::checksum::{apply, delta};
        let there = [delta(&[1, 2, 3, 4], &[9, 9, 0, 1]), delta(&[5, 5], &[5, 5])];
        let back = delta_by(there, Direction::Reply);
        for (there, back) in there.into_iter().zip(back) {
            for sum in [0, 1, 0x1234, 0xfffe] {
                assert_eq!(apply(apply(sum, there), back), sum);
            }
        }
        assert_eq!(back, [delta(&[9, 9, 0, 1], &[1, 2, 3, 4]), !delta(&[5, 5], &[5, 5])]);
    }
}
