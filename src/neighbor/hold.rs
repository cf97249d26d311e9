//! Packets that wait for a next hop's MAC: a few each, out of a fixed pool.

use super::NextHop;
use crate::ids::PortId;
use crate::pipeline::Account;

/// Packets that wait for one next hop at most.
const PER_HOP: usize = 8;
/// Packets that wait in one worker at most.
const POOL: usize = 1024;

/// A finished packet that lacks only its destination MAC.
#[derive(Debug)]
pub struct Held<F> {
    /// The next hop.
    pub hop: NextHop,
    /// Where it came in.
    pub ingress: PortId,
    /// Where it will go out.
    pub egress: PortId,
    /// The packet.
    pub frame: F,
    /// What to credit when it is sent.
    pub account: Account,
}

/// The waiting packets of one worker, oldest first.
#[derive(Debug)]
pub struct Hold<F> {
    waiting: Vec<Held<F>>,
}

impl<F> Hold<F> {
    /// None waiting.
    #[must_use]
    pub fn new() -> Self {
        Self { waiting: Vec::with_capacity(POOL) }
    }

    /// Lets a packet wait.
    ///
    /// # Errors
    /// The packet, where too many wait already.
    pub fn push(&mut self, held: Held<F>) -> Result<(), Held<F>> {
        let same = self.waiting.iter().filter(|h| h.hop.waits_with(held.hop)).count();
        if same >= PER_HOP || self.waiting.len() >= POOL {
            return Err(held);
        }
        self.waiting.push(held);
        Ok(())
    }

    /// Takes the oldest packet that waits for `hop`.
    pub fn pop(&mut self, hop: NextHop) -> Option<Held<F>> {
        let at = self.waiting.iter().position(|h| h.hop.waits_with(hop))?;
        Some(self.waiting.remove(at))
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<F> Default for Hold<F> {
    fn default() -> Self {
        Self::new()
    }
}
