//! The pieces that came before the first one of their datagram.

use std::collections::VecDeque;

use super::{Serial, WAITING};
use crate::ids::PortId;
use crate::parse::Packet;
use crate::time::Instant;

/// A piece that waits.
#[derive(Debug)]
pub struct Held<F> {
    /// Its datagram.
    pub serial: Serial,
    /// When it is given up.
    pub until: Instant,
    /// Where it came in.
    pub port: PortId,
    /// The piece.
    pub frame: F,
    /// What the parser found.
    pub packet: Packet,
}

/// The waiting pieces of one worker, oldest first.
#[derive(Debug)]
pub struct Hold<F> {
    waiting: VecDeque<Held<F>>,
}

impl<F> Hold<F> {
    /// None waiting; takes all its memory now.
    #[must_use]
    pub fn new() -> Self {
        Self { waiting: VecDeque::with_capacity(WAITING) }
    }

    /// Lets a piece wait. Where there is no room it takes the place of the one that has waited longest, which is the least
    /// likely to be needed: whoever floods with pieces of nothing displaces his own first.
    pub fn push(&mut self, held: Held<F>) -> Option<Held<F>> {
        let displaced = if self.waiting.len() >= WAITING { self.waiting.pop_front() } else { None };
        self.waiting.push_back(held);
        displaced
    }

    /// Takes the oldest piece of a datagram.
    pub fn take(&mut self, serial: Serial) -> Option<Held<F>> {
        let at = self.waiting.iter().position(|held| held.serial == serial)?;
        self.waiting.remove(at)
    }

    /// Takes a piece that has waited long enough.
    pub fn expired(&mut self, now: Instant) -> Option<Held<F>> {
        let due = self.waiting.front().is_some_and(|held| held.until <= now);
        if due { self.waiting.pop_front() } else { None }
    }
}

impl<F> Default for Hold<F> {
    fn default() -> Self {
        Self::new()
    }
}
