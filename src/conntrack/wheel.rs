//! Which rests may be due: a hashed timer wheel (Varghese & Lauck, SOSP 1987, scheme 6) over the slab of rests.
//!
//! An entry hangs in the list of the tick in which it is to be looked at, never later than its deadline. Packets do not move it:
//! they only write the time, and the look at it finds the deadline gone further ahead and hangs it there. Deadlines beyond
//! one revolution are looked at once a revolution.

use super::rest::Rest;

/// Milliseconds in a tick, as a power of two.
const TICK_SHIFT: u32 = 7;

/// One revolution is 262 s: more than the default idle timeouts.
const SLOTS: usize = 2048;

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// Set in `prev` of the first entry of a list; the rest is the slot.
const HEAD: u32 = 1 << 31;

/// An entry's neighbours in its list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    prev: u32,
    /// Also the free list's link.
    pub(super) next: u32,
}

impl Links {
    pub(super) const NONE: Self = Self { prev: NIL, next: NIL };
}

pub(super) struct Wheel {
    heads: Box<[u32]>,
    /// The tick whose list is being looked through; those before are done.
    cursor: u64,
}

/// The tick that a moment lies in, milliseconds.
pub(super) const fn tick(ms: u64) -> u64 {
    ms >> TICK_SHIFT
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { heads: vec![NIL; SLOTS].into(), cursor: 0 }
    }

    /// Hangs an entry in the first tick that begins at or after `deadline` (ms), if that is within a revolution.
    pub(super) fn link(&mut self, rests: &mut [Rest], id: u32, deadline: u64) {
        let at = tick(deadline.saturating_add((1 << TICK_SHIFT) - 1));
        // Strictly ahead of the cursor and less than a revolution: looking through a list ends.
        let at = at.clamp(self.cursor + 1, self.cursor + SLOTS as u64 - 1);
        let slot = at as usize % SLOTS;
        let next = std::mem::replace(&mut self.heads[slot], id);
        rests[id as usize].links = Links { prev: HEAD | slot as u32, next };
        if let Some(next) = rests.get_mut(next as usize) {
            next.links.prev = id;
        }
    }

    /// Takes an entry out of its list.
    pub(super) fn unlink(&mut self, rests: &mut [Rest], id: u32) {
        let Links { prev, next } = std::mem::replace(&mut rests[id as usize].links, Links::NONE);
        if prev & HEAD != 0 {
            self.heads[(prev & !HEAD) as usize] = next;
        } else {
            rests[prev as usize].links.next = next;
        }
        if let Some(next) = rests.get_mut(next as usize) {
            next.links.prev = prev;
        }
    }

    /// An entry to look at by tick `now`. The caller unlinks it, or links it anew after unlinking; the same comes again else.
    pub(super) fn due(&mut self, now: u64) -> Option<u32> {
        // After a leap of time every list is looked through once, not once for each revolution missed.
        self.cursor = self.cursor.max(now.saturating_sub(SLOTS as u64 - 1));
        loop {
            let head = self.heads[self.cursor as usize % SLOTS];
            if head != NIL {
                return Some(head);
            }
            if self.cursor >= now {
                return None;
            }
            self.cursor += 1;
        }
    }
}
