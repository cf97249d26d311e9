//! TCP and SCTP of which the client's side alone is seen (DSR).
//!
//! ```text
//!            ACK behind the SYN              FIN, RST
//!   HalfOpen ──────────────────▶ Established ────────▶ Closing
//!       └───────────────────────── RST ───────────────────▲
//! ```
//!
//! The server's FIN and RST, and whether it ever answered, are not seen: a connection that closes lives on until it is idle, and a
//! SYN starts it anew.

use super::FlowError;
use super::machine::{Marks, Packed, Reaction};
use crate::counters::FlowState;
use crate::parse::L4;
use crate::wire::sctp::chunk;
use crate::wire::tcp::flag;

/// As in `tcp`: the largest window in practice.
const MAX_ADVANCE: u32 = 1 << 26;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    HalfOpen,
    Established,
    Closing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// TCP: the number after the SYN and what came with it.
    opened: Packed,
    phase: Phase,
    marks: Marks,
}

const fn has(chunks: u16, kind: u8) -> bool {
    chunks & 1 << kind != 0
}

impl State {
    pub(super) fn open(first: &L4) -> Self {
        let mut state = Self { opened: Packed::default(), phase: Phase::HalfOpen, marks: Marks::new(0) };
        if let L4::Tcp { seq, .. } = *first {
            state.opened = Packed::new(seq.wrapping_add(1));
        }
        state
    }

    pub(super) fn step(&mut self, l4: &L4) -> Reaction {
        let before = self.phase;
        match *l4 {
            L4::Tcp { flags, seq, .. } => self.tcp(flags, seq),
            L4::Sctp { chunks, .. } => self.sctp(chunks),
            _ => {}
        }
        // A handshake is not prolonged by its retransmissions.
        if self.phase == Phase::HalfOpen || (self.phase, before) == (Phase::Closing, Phase::Closing) {
            Reaction::PASS
        } else {
            Reaction::REFRESH
        }
    }

    /// Whether a TCP segment with these flags refreshes, and changes nothing.
    #[inline]
    pub(super) fn is_settled(self, flags: u8) -> bool {
        self.phase == Phase::Established && flags & (flag::SYN | flag::RST | flag::FIN) == 0
    }

    fn tcp(&mut self, flags: u8, seq: u32) {
        let ahead = seq.wrapping_sub(self.opened.get());
        if flags & flag::SYN != 0 {
            if self.phase == Phase::HalfOpen {
                self.opened = Packed::new(seq.wrapping_add(1));
            }
        } else if flags & flag::RST != 0 {
            // Only the beginning is known of what the client has sent: before it, none can be.
            if self.phase != Phase::HalfOpen || ahead <= MAX_ADVANCE {
                self.phase = Phase::Closing;
            }
        } else if self.phase == Phase::HalfOpen && (flags & flag::ACK == 0 || ahead > MAX_ADVANCE) {
        } else if flags & flag::FIN != 0 {
            self.phase = Phase::Closing;
        } else if self.phase == Phase::HalfOpen {
            self.phase = Phase::Established;
        }
    }

    fn sctp(&mut self, chunks: u16) {
        let ends = [chunk::ABORT, chunk::SHUTDOWN, chunk::SHUTDOWN_ACK, chunk::SHUTDOWN_COMPLETE];
        if ends.into_iter().any(|kind| has(chunks, kind)) {
            self.phase = Phase::Closing;
        } else if self.phase == Phase::HalfOpen && !has(chunks, chunk::INIT) {
            self.phase = Phase::Established;
        }
    }

    pub(super) const fn flow_state(&self) -> FlowState {
        match self.phase {
            Phase::HalfOpen => FlowState::HalfOpen,
            Phase::Established => FlowState::Established,
            Phase::Closing => FlowState::Closing,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    pub(super) fn timed_out(&mut self) -> Option<FlowError> {
        self.marks.note(FlowError::TimedOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(flags: u8, seq: u32) -> L4 {
        L4::Tcp { sport: 1, dport: 2, flags, payload: 0, seq, ack: 77 }
    }

    #[test]
    fn a_handshake_a_talk_and_an_end() {
        let mut s = State::open(&tcp(flag::SYN, u32::MAX));
        assert_eq!(s.flow_state(), FlowState::HalfOpen);
        assert_eq!(s.step(&tcp(flag::SYN, u32::MAX)), Reaction::PASS);
        assert_eq!(s.step(&tcp(flag::ACK, u32::MAX - 5)), Reaction::PASS, "of something else");
        assert_eq!(s.flow_state(), FlowState::HalfOpen);
        assert_eq!(s.step(&tcp(flag::ACK, 0)), Reaction::REFRESH);
        assert_eq!(s.flow_state(), FlowState::Established);
        assert_eq!(s.step(&tcp(flag::ACK | flag::PSH, 1 << 30)), Reaction::REFRESH);
        assert!(!s.is_over());
        assert_eq!(s.step(&tcp(flag::ACK | flag::FIN, 1 << 30)), Reaction::REFRESH);
        assert_eq!((s.flow_state(), s.is_over()), (FlowState::Closing, true));
        assert_eq!(s.step(&tcp(flag::ACK, 1 << 30)), Reaction::PASS, "the last ACK");
    }

    #[test]
    fn what_is_settled_refreshes_and_changes_nothing() {
        let mut settled = 0;
        for opening in [&[flag::SYN][..], &[flag::SYN, flag::ACK], &[flag::SYN, flag::ACK, flag::FIN]] {
            let mut before = State::open(&tcp(opening[0], 5));
            for flags in &opening[1..] {
                before.step(&tcp(*flags, 6));
            }
            for flags in 0..=u8::MAX {
                let mut after = before;
                if before.is_settled(flags) {
                    assert_eq!(after.step(&tcp(flags, 7)), Reaction::REFRESH, "{flags:x}");
                    assert_eq!(after, before);
                    settled += 1;
                }
            }
        }
        assert_eq!(settled, 32, "all flags but three, and in one state");
    }

    #[test]
    fn a_reset_ends_it() {
        for before in [None, Some(flag::ACK)] {
            let mut s = State::open(&tcp(flag::SYN, 5));
            if let Some(flags) = before {
                s.step(&tcp(flags, 6));
            }
            s.step(&tcp(flag::RST, 6));
            assert_eq!(s.flow_state(), FlowState::Closing);
        }
    }

    #[test]
    fn sctp() {
        let sctp = |kind: u8| L4::Sctp {
            sport: 1,
            dport: 2,
            tag: 3,
            chunks: 1 << kind,
            initiate_tag: 0,
            reflected: false,
        };
        let mut s = State::open(&sctp(chunk::INIT));
        for (kind, state) in [
            (chunk::INIT, FlowState::HalfOpen),
            (chunk::COOKIE_ECHO, FlowState::Established),
            (chunk::DATA, FlowState::Established),
            (chunk::SHUTDOWN, FlowState::Closing),
        ] {
            s.step(&sctp(kind));
            assert_eq!(s.flow_state(), state);
        }
    }
}
