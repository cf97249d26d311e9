//! TCP (RFC 9293 §3.3.2) as seen from the middle.
//!
//! ```text
//!              SYN-ACK            ACK              FIN           both FINs acknowledged
//!   SynSent ───────────▶ SynRcvd ─────▶ Established ─────▶ Closing ─────────────▶ Closed
//!      └──────────────────────┴──────────────┴─── RST ───────┴──────────────────────▲
//! ```
//!
//! A connection that was begun elsewhere is `PickedUp` by a segment of the client, and `Established` by the server's answer.
//!
//! Each direction is followed by two numbers: `sent`, the end of what was seen of it, and `acked`, the highest acknowledgement
//! in it. They advance by at most [`MAX_ADVANCE`] at a time, so that no single packet with an arbitrary number puts them off.
//! A RST ends the connection only where its sender can plausibly have sent it (after RFC 5961 §3.2), else it passes and changes
//! nothing; the receiver answers one that is not exact with a challenge ACK, and the RST that follows that is exact:
//!
//! - handshake not answered yet: from the server with an acknowledgement of the SYN (RFC 9293 §3.10.7.3), up to [`SLACK`] short
//!   of it (data in the SYN); from the client with the sequence number after its SYN, ± [`SLACK`]
//! - SYN-ACK seen: also from the server with an acknowledgement of the SYN (it has forgotten the handshake meanwhile)
//! - from then on: sequence number between what the other side has acknowledged and what this side has sent, ± [`SLACK`]

use super::Direction::{Original, Reply};
use super::machine::{Marks, Packed, Reaction};
use super::{Direction, FlowError};
use crate::counters::FlowState;
use crate::parse::Whole;
use crate::pipeline::DropReason;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// How far a number may lie outside what was seen, for segments lost or reordered on their way to us.
const SLACK: u32 = 1 << 16;

/// Sequence numbers may run ahead of what was seen by the largest window in practice (64 MiB), not by any amount.
const MAX_ADVANCE: u32 = 1 << 26;

/// Whether a segment with these flags opens a connection.
pub(super) const fn opens(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// Whether a segment of the client with these flags may be of a connection that was begun elsewhere.
pub(super) const fn picks_up(flags: u8) -> bool {
    flags & SYN == 0 && flags & (ACK | RST) != 0
}

/// What the machine looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) flags: u8,
    pub(super) payload: u32,
    pub(super) seq: u32,
    pub(super) ack: u32,
}

impl Segment {
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number after it (SYN and FIN count one each).
    const fn end(&self) -> u32 {
        self.seq
            .wrapping_add(self.payload)
            .wrapping_add(self.has(SYN) as u32)
            .wrapping_add(self.has(FIN) as u32)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Phase {
    /// Begun elsewhere, and the server has not been heard yet.
    PickedUp,
    SynSent,
    SynReceived,
    Established,
    Closing,
    Closed,
}

impl Phase {
    const ALL: [Self; 6] =
        [Self::PickedUp, Self::SynSent, Self::SynReceived, Self::Established, Self::Closing, Self::Closed];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// By direction: the number after the last byte seen.
    sent: [Packed; 2],
    /// By direction: the highest acknowledgement number seen in it. The client's first one comes after the SYN-ACK: until then its place
    /// has [when the SYN came](Self::asked_us).
    acked: [Packed; 2],
    /// The phase in three bits, then [`fins`](Self::fins) in two.
    pub(super) marks: Marks,
}

const PHASE: (u32, u32) = (0, 3);
const FINS: (u32, u32) = (3, 2);

const BOTH: u8 = 3;

/// `low − SLACK ≤ n ≤ high + SLACK` in the circle of sequence numbers, `low` and `high` in any order.
const fn near(n: u32, low: u32, high: u32) -> bool {
    let (low, span) = match high.wrapping_sub(low) {
        ahead if ahead < 1 << 31 => (low, ahead),
        behind => (high, behind.wrapping_neg()),
    };
    n.wrapping_sub(low).wrapping_add(SLACK) <= span.saturating_add(2 * SLACK)
}

#[inline(always)]
fn advance(number: &mut Packed, to: u32) {
    if to.wrapping_sub(number.get()) <= MAX_ADVANCE {
        *number = Packed::new(to);
    }
}

impl State {
    /// After the client's first segment. `now_us`: low 32 bits of the time in microseconds.
    pub(super) fn open(segment: &Segment, now_us: u32) -> Self {
        let mut state = Self {
            sent: [Packed::default(); 2],
            acked: [Packed::new(now_us), Packed::default()],
            marks: Marks::new(Phase::SynSent as u8),
        };
        state.client_syn(segment);
        state
    }

    /// After a segment of the client that [`picks_up`].
    pub(super) fn pick_up(segment: &Segment) -> Self {
        let (end, ack) = (Packed::new(segment.end()), Packed::new(segment.ack));
        let phase = if segment.has(RST) { Phase::Closed } else { Phase::PickedUp };
        let acked = [ack, Packed::new(segment.seq)];
        let mut state = Self { sent: [end, ack], acked, marks: Marks::new(phase as u8) };
        if segment.has(FIN) {
            state.saw_fin(Original);
        }
        state
    }

    #[inline]
    fn phase(&self) -> Phase {
        let phase = usize::from(self.marks.get(PHASE.0, PHASE.1));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Closed)
    }

    #[inline]
    fn enter(&mut self, phase: Phase) {
        self.marks.set(PHASE.0, PHASE.1, phase as u8);
    }

    /// FINs seen, bit 0: the client's, bit 1: the server's.
    #[inline]
    const fn fins(&self) -> u8 {
        self.marks.get(FINS.0, FINS.1)
    }

    fn saw_fin(&mut self, direction: Direction) {
        self.marks.set(FINS.0, FINS.1, self.fins() | 1 << direction as u8);
    }

    /// When the client's first SYN came, as long as it waits for an answer: low 32 bits of the time in microseconds.
    pub(super) fn asked_us(&self) -> Option<u32> {
        (self.phase() == Phase::SynSent).then(|| self.acked[Original as usize].get())
    }

    pub(super) fn is_picked_up(&self) -> bool {
        self.phase() == Phase::PickedUp
    }

    #[inline]
    pub(super) fn flow_state(&self) -> FlowState {
        match self.phase() {
            Phase::PickedUp | Phase::SynSent | Phase::SynReceived => FlowState::HalfOpen,
            Phase::Established => FlowState::Established,
            Phase::Closing => FlowState::Closing,
            Phase::Closed => FlowState::Closed,
        }
    }

    /// Closed, or as good as: a SYN of the client is a new connection (RFC 9293 §3.6.1). So it is where nobody but the client has
    /// said that there is one.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase(), Phase::Closed | Phase::PickedUp) || self.fins() == BOTH
    }

    /// What a side would send now if it had nothing to say: with the numbers that the other side expects, or, where segments are under
    /// way, answers with its own. Nothing where the server has not been heard, and the client's next SYN begins anew.
    pub(super) fn keepalive(&self, direction: Direction) -> Option<Segment> {
        let (sent, received) = (self.sent[direction as usize], self.sent[direction.reverse() as usize]);
        let segment = Segment { flags: ACK, payload: 0, seq: sent.get(), ack: received.get() };
        (!matches!(self.phase(), Phase::SynSent | Phase::Closed)).then_some(segment)
    }

    /// Both sides have been told that it is over.
    pub(super) fn end(&mut self) {
        self.enter(Phase::Closed);
    }

    pub(super) fn step(&mut self, direction: Direction, segment: &Segment) -> Reaction {
        if segment.has(RST) {
            return self.reset(direction, segment);
        }
        match (self.phase(), direction) {
            (Phase::PickedUp, Original) => {
                self.follow(direction, segment);
                Reaction::REFRESH
            }
            (Phase::PickedUp, Reply) => self.acknowledge(segment),
            (Phase::SynSent, Original) => {
                // A retransmission does not prolong the handshake.
                if opens(segment.flags) {
                    self.client_syn(segment);
                }
                Reaction::PASS
            }
            (Phase::SynSent, Reply) => self.answer(segment),
            (Phase::SynReceived, Original) => self.confirm(segment),
            (Phase::SynReceived, Reply) => {
                // The SYN-ACK again, or with TCP Fast Open data and even FIN (RFC 7413 §4.2.2).
                if segment.has(SYN) {
                    if self.answers_syn(segment) {
                        self.server_syn(segment);
                    }
                } else {
                    self.follow(direction, segment);
                }
                Reaction::PASS
            }
            (Phase::Established | Phase::Closing, _) => {
                if direction == Reply && segment.flags & (SYN | ACK) == SYN | ACK {
                    self.incarnate(segment);
                } else {
                    self.follow(direction, segment);
                    self.settle();
                }
                Reaction::REFRESH
            }
            (Phase::Closed, _) => Reaction::PASS,
        }
    }

    /// [`step`](Self::step) for a segment in the midst of an established connection; `false`, and no change, for any other.
    #[inline(always)]
    pub(super) fn follow_plain(&mut self, direction: Direction, packet: &Whole) -> bool {
        if self.marks.get(PHASE.0, PHASE.1) != Phase::Established as u8
            || packet.flags & (SYN | FIN | RST | ACK) != ACK
        {
            return false;
        }
        let d = direction as usize;
        advance(&mut self.sent[d], packet.seq().wrapping_add(packet.payload));
        advance(&mut self.acked[d], packet.ack());
        true
    }

    fn client_syn(&mut self, segment: &Segment) {
        self.sent[Original as usize] = Packed::new(segment.end());
        self.acked[Reply as usize] = Packed::new(segment.end());
    }

    fn server_syn(&mut self, segment: &Segment) {
        self.sent[Reply as usize] = Packed::new(segment.end());
        self.acked[Original as usize] = Packed::new(segment.end());
        self.acked[Reply as usize] = Packed::new(segment.ack);
    }

    /// Whether a segment of the server acknowledges the client's SYN, with or without the data in it.
    fn answers_syn(&self, segment: &Segment) -> bool {
        segment.has(ACK) && self.sent[Original as usize].get().wrapping_sub(segment.ack) <= SLACK
    }

    /// The server's first words.
    fn answer(&mut self, segment: &Segment) -> Reaction {
        if segment.has(SYN) {
            // One that acknowledges something else belongs to an older incarnation; the client resets it.
            if !self.answers_syn(segment) {
                return Reaction::PASS;
            }
            self.server_syn(segment);
            self.enter(Phase::SynReceived);
            return Reaction::REFRESH;
        }
        if segment.payload > 0 || segment.has(FIN) {
            return Reaction::refuse(DropReason::TcpState).with(self.marks.note(FlowError::Violation));
        }
        // A plain ACK: half-open recovery (RFC 9293 §3.5.1), the client answers with RST.
        Reaction::PASS
    }

    /// The server's first words in a connection that was picked up: of its own numbers it knows more than the client's segment.
    fn acknowledge(&mut self, segment: &Segment) -> Reaction {
        if segment.has(SYN) || !segment.has(ACK) {
            return Reaction::PASS;
        }
        self.sent[Reply as usize] = Packed::new(segment.end());
        self.acked[Reply as usize] = Packed::new(segment.ack);
        if segment.has(FIN) {
            self.saw_fin(Reply);
        }
        self.enter(Phase::Established);
        self.settle();
        Reaction::REFRESH
    }

    /// The client's answer to the SYN-ACK.
    fn confirm(&mut self, segment: &Segment) -> Reaction {
        let [_, server_sent] = self.sent;
        let [confirmed, _] = self.acked;
        if segment.flags & (SYN | ACK) != ACK || !near(segment.ack, confirmed.get(), server_sent.get()) {
            return Reaction::PASS;
        }
        self.enter(Phase::Established);
        self.follow(Original, segment);
        self.settle();
        Reaction::REFRESH
    }

    /// A SYN-ACK in an established connection that acknowledges nothing of it: the server had forgotten the connection and takes
    /// the client's SYN on the same port for a new one. The numbers begin anew.
    fn incarnate(&mut self, segment: &Segment) {
        if self.sent[Original as usize].get().wrapping_sub(segment.ack) > MAX_ADVANCE {
            self.sent[Original as usize] = Packed::new(segment.ack);
            self.server_syn(segment);
            self.marks.set(FINS.0, FINS.1, 0);
            self.enter(Phase::Established);
        }
    }

    fn follow(&mut self, direction: Direction, segment: &Segment) {
        let d = direction as usize;
        advance(&mut self.sent[d], segment.end());
        if segment.has(ACK) {
            advance(&mut self.acked[d], segment.ack);
        }
        // One whose number is implausible did not advance `sent`.
        if segment.has(FIN) && self.sent[d].get() == segment.end() {
            self.saw_fin(direction);
        }
    }

    fn settle(&mut self) {
        if self.fins() != 0 {
            self.enter(Phase::Closing);
        }
        // Each FIN is the end of what its side has sent.
        let [client, server] = self.sent;
        if self.fins() == BOTH && self.acked == [server, client] {
            self.enter(Phase::Closed);
        }
    }

    fn reset(&mut self, direction: Direction, segment: &Segment) -> Reaction {
        let d = direction as usize;
        let plausible = near(segment.seq, self.acked[direction.reverse() as usize].get(), self.sent[d].get());
        let (ends, error) = match (self.phase(), direction) {
            (Phase::PickedUp | Phase::SynSent, Original) => (plausible, None),
            // Of a connection that it does not know (RFC 9293 §3.10.7.1).
            (Phase::PickedUp, Reply) => (plausible || self.answers_syn(segment), Some(FlowError::Refused)),
            (Phase::SynSent, Reply) => (self.answers_syn(segment), Some(FlowError::Refused)),
            (Phase::SynReceived, Original) => (plausible, None),
            (Phase::SynReceived, Reply) => (plausible || self.answers_syn(segment), Some(FlowError::Refused)),
            (Phase::Established, Original) => (plausible, None),
            (Phase::Established, Reply) => (plausible, Some(FlowError::ServerReset)),
            // Its own FIN was its good-bye; before that, a reset takes the answer away that the client waits for.
            (Phase::Closing, Reply) if self.fins() & 1 << Reply as u8 == 0 => {
                (plausible, Some(FlowError::ServerReset))
            }
            (Phase::Closing, _) => (plausible, None),
            (Phase::Closed, _) => (false, None),
        };
        if !ends {
            return Reaction::PASS;
        }
        self.enter(Phase::Closed);
        Reaction::REFRESH.with(error.and_then(|e| self.marks.note(e)))
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
