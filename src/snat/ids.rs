//! IP identifications of what leaves with an address of the engine's own, be it SNAT's or a tunnel's: the clients' would collide.

use crate::conntrack::FlowId;
use crate::fragment::TIMEOUT;
use crate::time::Instant;

/// Datagrams in fragments that a worker keeps the new id of; a power of two.
const DATAGRAMS: usize = 1024;

/// One worker's identifications: all workers together repeat none before they must (RFC 6864 §4.3).
#[derive(Debug)]
pub struct Ids {
    next: u32,
    /// How many workers there are.
    step: u32,
    datagrams: Box<[Datagram]>,
}

/// A datagram of a connection whose pieces are on their way.
#[derive(Clone, Copy, Debug)]
struct Datagram {
    flow: u32,
    old: u32,
    new: u32,
    until: Instant,
}

impl Ids {
    /// For worker `worker` of `workers`, from a random start on that is the same for all.
    #[must_use]
    pub fn new(worker: u8, workers: u8, random: u32) -> Self {
        let none = Datagram { flow: u32::MAX, old: 0, new: 0, until: Instant::ZERO };
        Self {
            next: random.wrapping_add(worker.into()),
            step: u32::from(workers).max(1),
            datagrams: vec![none; DATAGRAMS].into_boxed_slice(),
        }
    }

    /// For a packet that is no fragment. IPv4 takes the low half.
    pub const fn fresh(&mut self) -> u32 {
        let id = self.next;
        self.next = id.wrapping_add(self.step);
        id
    }

    /// For a fragment of the connection's datagram `old`: the same for all pieces of one datagram. Where too many are on their way
    /// at once, pieces get different ones, and the datagram is lost, but never put together wrongly.
    pub fn of_piece(&mut self, flow: FlowId, old: u32, now: Instant) -> u32 {
        let mix = (flow.0 ^ old.rotate_left(16)).wrapping_mul(0x9e37_79b1) >> 16;
        let at = mix as usize % DATAGRAMS;
        let known = self.datagrams.get(at).filter(|d| (d.flow, d.old) == (flow.0, old) && now < d.until);
        if let Some(known) = known {
            return known.new;
        }
        let new = self.fresh();
        if let Some(slot) = self.datagrams.get_mut(at) {
            *slot = Datagram { flow: flow.0, old, new, until: now.after(TIMEOUT) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn workers_together_repeat_none_before_they_must() {
        for workers in [1, 2, 4, 8] {
            let mut seen = HashSet::new();
            for worker in 0..workers {
                let mut ids = Ids::new(worker, workers, 0xffff_0000);
                for _ in 0..65_536 / u32::from(workers) {
                    assert!(seen.insert(ids.fresh() as u16));
                }
            }
        }
    }

    #[test]
    fn pieces_of_a_datagram_share_one() {
        let mut ids = Ids::new(0, 1, 7);
        let now = Instant(5);
        let first = ids.of_piece(FlowId(1), 500, now);
        assert_eq!(ids.of_piece(FlowId(1), 500, now), first);
        let others = [ids.of_piece(FlowId(2), 500, now), ids.of_piece(FlowId(1), 501, now), ids.fresh()];
        assert!(!others.contains(&first));
        let later = now.after(TIMEOUT + Duration::from_nanos(1));
        assert_ne!(ids.of_piece(FlowId(1), 500, later), first, "another datagram by now");
    }
}
