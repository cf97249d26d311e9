//! What the index of connections finds.

use super::{Direction, FlowId};
use crate::index;

/// An entry and the direction whose tuple this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(u32);

impl Key {
    /// No entry's.
    pub(super) const NEVER: Self = Self(u32::MAX);
    /// No entry's either.
    pub(super) const FURTHER: Self = Self(u32::MAX - 1);

    /// Entries are numbered below 2³⁰.
    #[inline]
    pub(super) const fn new(id: FlowId, direction: Direction) -> Self {
        Self(id.0 << 1 | direction as u32)
    }

    #[inline]
    pub(super) const fn id(self) -> FlowId {
        FlowId(self.0 >> 1)
    }

    #[inline]
    pub(super) const fn direction(self) -> Direction {
        if self.0 & 1 == 0 { Direction::Original } else { Direction::Reply }
    }
}

impl index::Key for Key {
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.0
    }
}
