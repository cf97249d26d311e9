//! The state machine of a connection, of whichever protocol, in 18 bytes.

use super::{Direction, Flow, FlowError, one_sided, sctp, tcp, udp};
use crate::config::Protocol;
use crate::counters::FlowState;
use crate::parse::{L4, Whole};
use crate::pipeline::DropReason;

/// What a packet does to a machine, apart from its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reaction {
    /// The packet made the connection a bad one.
    pub(super) error: Option<FlowError>,
    /// Whether it may pass.
    pub(super) pass: Result<(), DropReason>,
    /// The timeout begins anew. Set whenever the state changes.
    pub(super) refresh: bool,
}

impl Reaction {
    /// Passes without effect on the timer.
    pub(super) const PASS: Self = Self { error: None, pass: Ok(()), refresh: false };

    /// Passes, and the timeout begins anew.
    pub(super) const REFRESH: Self = Self { error: None, pass: Ok(()), refresh: true };

    /// Must not pass; no effect.
    pub(super) const fn refuse(reason: DropReason) -> Self {
        Self { error: None, pass: Err(reason), refresh: false }
    }

    pub(super) const fn with(self, error: Option<FlowError>) -> Self {
        Self { error, ..self }
    }
}

/// Four bytes of a number: alignment 1 lets the machines and the enum's tag share 18 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Packed([u8; 4]);

impl Packed {
    #[inline]
    pub(super) const fn new(n: u32) -> Self {
        Self(n.to_ne_bytes())
    }

    #[inline]
    pub(super) const fn get(self) -> u32 {
        u32::from_ne_bytes(self.0)
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// What a machine keeps in a byte: where it is in the low bits, and, at the top, whether the connection has gone bad, which it does
/// once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    const FAULT: u8 = 1 << 7;

    /// No fault.
    #[inline]
    pub(super) const fn new(bits: u8) -> Self {
        Self(bits & !Self::FAULT)
    }

    /// So many bits from this one on.
    #[inline]
    pub(super) const fn get(self, shift: u32, width: u32) -> u8 {
        self.0 >> shift & ((1 << width) - 1)
    }

    /// Sets so many bits from this one on.
    #[inline]
    pub(super) const fn set(&mut self, shift: u32, width: u32, value: u8) {
        let mask = ((1 << width) - 1) << shift;
        self.0 = self.0 & !mask | value << shift & mask;
    }

    /// `error` if it is the first.
    pub(super) fn note(&mut self, error: FlowError) -> Option<FlowError> {
        let first = self.0 & Self::FAULT == 0;
        self.0 |= Self::FAULT;
        first.then_some(error)
    }
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08b}", self.0)
    }
}

/// The state machine of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Machine {
    Tcp(tcp::State),
    Udp(udp::State),
    Sctp(sctp::State),
    OneSided(one_sided::State),
    /// The entry holds no connection.
    Vacant,
}

const _: () = assert!(size_of::<Machine>() == 18);

impl Machine {
    /// The machine after the first packet. A packet that is not of `protocol` leaves UDP's, which asks nothing of packets. `now_us`: low
    /// 32 bits of the time in microseconds.
    pub(super) fn open(flow: &Flow, first: &L4, now_us: u32) -> Self {
        match (flow.protocol, *first) {
            (Protocol::Tcp | Protocol::Sctp, _) if flow.form.is_one_sided() => {
                Self::OneSided(one_sided::State::open(first))
            }
            (Protocol::Tcp, L4::Tcp { flags, payload, seq, ack, .. }) => {
                let segment = tcp::Segment { flags, payload, seq, ack };
                Self::Tcp(if tcp::opens(flags) {
                    tcp::State::open(&segment, now_us)
                } else {
                    tcp::State::pick_up(&segment)
                })
            }
            (Protocol::Sctp, L4::Sctp { tag, chunks, initiate_tag, .. }) => {
                Self::Sctp(if sctp::opens(chunks, initiate_tag) {
                    sctp::State::open(initiate_tag)
                } else {
                    sctp::State::pick_up(tag)
                })
            }
            _ => Self::Udp(udp::State::open()),
        }
    }

    /// Advances by a packet; one of another protocol (an ICMP error about the connection) passes without effect.
    #[inline]
    pub(super) fn step(&mut self, direction: Direction, l4: &L4) -> Reaction {
        match (self, *l4) {
            (Self::Tcp(state), L4::Tcp { flags, payload, seq, ack, .. }) => {
                state.step(direction, &tcp::Segment { flags, payload, seq, ack })
            }
            (Self::Udp(state), L4::Udp { .. }) => state.step(direction),
            (Self::OneSided(state), _) => state.step(l4),
            (Self::Sctp(state), L4::Sctp { tag, chunks, initiate_tag, reflected, .. }) => {
                state.step(direction, &sctp::Packet { tag, chunks, initiate_tag, reflected })
            }
            _ => Reaction::PASS,
        }
    }

    /// [`step`](Self::step) for a packet that refreshes and does nothing else; `false`, and no change, for any other.
    #[inline(always)]
    pub(super) fn follow(&mut self, direction: Direction, packet: &Whole) -> bool {
        match self {
            Self::Tcp(state) if packet.is_tcp => state.follow_plain(direction, packet),
            Self::Udp(state) if !packet.is_tcp => state.is_settled(direction),
            Self::OneSided(state) if packet.is_tcp => state.is_settled(packet.flags),
            _ => false,
        }
    }

    #[inline]
    pub(super) fn flow_state(&self) -> FlowState {
        match self {
            Self::Tcp(state) => state.flow_state(),
            Self::Udp(state) => state.flow_state(),
            Self::Sctp(state) => state.flow_state(),
            Self::OneSided(state) => state.flow_state(),
            Self::Vacant => FlowState::Closed,
        }
    }

    /// TCP: when the client's SYN came, as long as it waits for an answer.
    #[inline]
    pub(super) fn asked_us(&self) -> Option<u32> {
        if let Self::Tcp(state) = self { state.asked_us() } else { None }
    }

    /// What a side would send now if it had nothing to say, between these ports; `None` where its numbers are not known, and where
    /// there is nothing to end: of UDP, of a connection that is over, and of one of which the client alone is heard.
    pub(super) fn keepalive(&self, direction: Direction, (sport, dport): (u16, u16)) -> Option<L4> {
        match self {
            Self::Tcp(state) => {
                let tcp::Segment { flags, payload, seq, ack } = state.keepalive(direction)?;
                Some(L4::Tcp { sport, dport, flags, payload, seq, ack })
            }
            Self::Sctp(state) => {
                let tag = state.keepalive(direction)?;
                Some(L4::Sctp { sport, dport, tag, chunks: 0, initiate_tag: 0, reflected: false })
            }
            Self::Udp(_) | Self::OneSided(_) | Self::Vacant => None,
        }
    }

    /// Ends what [`keepalive`](Self::keepalive) has numbers for.
    pub(super) fn end(&mut self) {
        match self {
            Self::Tcp(state) => state.end(),
            Self::Sctp(state) => state.end(),
            Self::Udp(_) | Self::OneSided(_) | Self::Vacant => {}
        }
    }

    /// SCTP: the tag that the client has chosen, if it is known.
    pub(super) fn client_tag(&self) -> Option<u32> {
        if let Self::Sctp(state) = self { state.client_tag() } else { None }
    }

    /// Whether an opening packet of the client starts anew.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Tcp(state) => state.is_over(),
            Self::Sctp(state) => state.is_over(),
            Self::OneSided(state) => state.is_over(),
            Self::Udp(_) | Self::Vacant => false,
        }
    }

    /// The error that it is to expire in this state.
    pub(super) fn expiry_error(&mut self) -> Option<FlowError> {
        let half_open = self.flow_state() == FlowState::HalfOpen;
        match self {
            // There was no handshake here that could have failed.
            Self::Tcp(state) if state.is_picked_up() => None,
            Self::Sctp(state) if state.is_picked_up() => None,
            Self::Tcp(tcp::State { marks, .. }) | Self::Sctp(sctp::State { marks, .. }) if half_open => {
                marks.note(FlowError::TimedOut)
            }
            Self::OneSided(state) if half_open => state.timed_out(),
            _ => None,
        }
    }
}
