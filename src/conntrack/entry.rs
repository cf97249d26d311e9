//! A connection in memory, as far as its packets need it: 64 bytes, and 64 of its addresses where one of them is of IPv6.

use std::hint::select_unpredictable;

use super::machine::Machine;
use super::tally::Recent;
use super::{Answered, Direction, Flow, Form, OwnAddresses, Tuple};
use crate::addr::Addr;
use crate::config::{ClientAddress, Protocol};
use crate::ids::{PairSlot, PortId, SourceId};
use crate::parse::Whole;
use crate::wire::{raw, u16_at, u32_at};

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

    /// Whether it is one of IPv6 alone whose destination is replaced.
    #[inline]
    #[must_use]
    pub fn is_plain_v6(&self) -> bool {
        self.kind().0 ^ Kind::WIDE <= Kind::plain(Protocol::Sctp).0
    }

    /// Whether it [is plain](Self::is_plain), and of this protocol.
    #[inline(always)]
    pub(super) fn is_plain_of(&self, protocol: Protocol) -> bool {
        self.kind() == Kind::plain(protocol)
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

    /// The firewall epoch under which it was last allowed.
    #[inline]
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch_and_ingress >> (32 - EPOCH_BITS)
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
        let Self { addresses, .. } = self;
        let original = direction == Direction::Original;
        (
            select_unpredictable(original, raw::u64_at::<4, _>(addresses), raw::u64_at::<0, _>(addresses)),
            self.goes_ports(direction),
        )
    }

    /// Of a connection that [is so](Self::is_plain_v6), source and destination of packets that go this way, as they go on; ports as on
    /// the wire.
    #[inline(always)]
    #[must_use]
    pub fn goes_v6(&self, direction: Direction, [client, vip, endpoint, _]: &Wide) -> ([Addr; 2], u32) {
        let addresses = match direction {
            Direction::Original => [Addr(*client), Addr(*endpoint)],
            Direction::Reply => [Addr(*vip), Addr(*client)],
        };
        (addresses, self.goes_ports(direction))
    }

    #[inline(always)]
    fn goes_ports(&self, direction: Direction) -> u32 {
        let Self { ports, .. } = self;
        let original = direction == Direction::Original;
        select_unpredictable(original, raw::u32_at::<2, _>(ports), raw::u32_at::<0, _>(ports))
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
        self.is_plain_of(packet.protocol())
            .then(|| packet.is_v4 && self.comes_v4(direction) == (packet.v4, packet.ports))
    }

    /// The same of one that [is plain and of IPv6](Self::is_plain_v6).
    #[inline(always)]
    pub(super) fn has_plain_v6(&self, direction: Direction, packet: &Whole, wide: &Wide) -> Option<bool> {
        (self.kind().0 == Kind::plain(packet.protocol()).0 | Kind::WIDE).then(|| {
            let ([dst, src], ports) = self.goes_v6(direction.reverse(), wide);
            !packet.is_v4 && packet.v6 == [src, dst] && packet.ports == ports.rotate_left(16)
        })
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
    pub(super) fn has_v4(&self, direction: Direction, tuple: &Tuple) -> bool {
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
pub type Wide = [u128; 4];

#[cfg(test)]
mod tests {
    use super::*;

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
