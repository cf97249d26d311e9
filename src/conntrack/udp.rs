//! UDP (RFC 768): half-open until the server answers. Never an error: silence is no verdict on a server.

use super::Direction;
use super::machine::Reaction;
use crate::counters::FlowState;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    answered: bool,
}

impl State {
    pub(super) const fn open() -> Self {
        Self { answered: false }
    }

    #[inline]
    pub(super) fn step(&mut self, direction: Direction) -> Reaction {
        self.answered |= direction == Direction::Reply;
        Reaction::REFRESH
    }

    /// Whether a packet that goes this way changes nothing.
    #[inline]
    pub(super) fn is_settled(self, direction: Direction) -> bool {
        self.answered || direction == Direction::Original
    }

    #[inline]
    pub(super) const fn flow_state(self) -> FlowState {
        if self.answered { FlowState::Established } else { FlowState::HalfOpen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_answer_establishes() {
        let mut state = State::open();
        for (direction, after) in [
            (Direction::Original, FlowState::HalfOpen),
            (Direction::Reply, FlowState::Established),
            (Direction::Original, FlowState::Established),
            (Direction::Reply, FlowState::Established),
        ] {
            assert_eq!(state.step(direction), Reaction::REFRESH);
            assert_eq!(state.flow_state(), after);
        }
    }
}
