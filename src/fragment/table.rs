//! The datagrams of which some pieces have passed.
//!
//! A fixed number of buckets of four, found by a keyed hash; a new datagram takes the place of an old one's rather than be
//! refused, so that a flood of pieces of nothing shortens memory to the moments that pieces in order need, and costs no more.

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::ranges::{Clash, Ranges};
use super::{DATAGRAMS, Key, TIMEOUT};
use crate::pipeline::DropReason;
use crate::time::Instant;
use crate::wire::fragment::Fragment;

/// A piece that was seen before and comes later than this is no doubled frame: its datagram was not seen whole, and the id is in
/// use again (RFC 4963). What still waits of the old one is given up when its time is over.
const DOUBLED: Duration = Duration::from_secs(1);
const WAYS: usize = 4;
const BUCKETS: usize = DATAGRAMS / WAYS;

/// Which datagram; no other one has it for the next 2³² datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Serial(u32);

/// What to do with a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is one of a datagram with these ports.
    Known((u16, u16)),
    /// It is the first one of its datagram: the ports are known now, and those of this serial that wait may follow it.
    First(Option<Serial>),
    /// It has to wait for the first one.
    Wait(Serial),
    /// It must not pass, and those of this serial that wait neither.
    Refuse(DropReason, Option<Serial>),
}

struct Entry {
    key: Key,
    serial: Serial,
    born: Instant,
    ports: Option<(u16, u16)>,
    /// Some of its pieces wait.
    waiting: bool,
    /// Pieces overlapped: none of it may pass any more (RFC 5722 §4).
    spoilt: bool,
    seen: Ranges,
}

impl Entry {
    fn lives(&self, now: Instant) -> bool {
        now.since(self.born) < TIMEOUT
    }

    fn waiting(&mut self) -> Option<Serial> {
        std::mem::take(&mut self.waiting).then_some(self.serial)
    }
}

/// The table of one worker.
pub struct Table {
    hash_key: (u64, u64),
    buckets: Box<[[Option<Entry>; WAYS]]>,
    next: u32,
}

impl Table {
    /// An empty table; takes all its memory now. `hash_key` is secret.
    #[must_use]
    pub fn new(hash_key: (u64, u64)) -> Self {
        Self { hash_key, buckets: (0..BUCKETS).map(|_| [const { None }; WAYS]).collect(), next: 0 }
    }

    /// Enters a piece with `len` bytes of payload; `ports` are those of its L4 header, if it is the first.
    pub fn admit(
        &mut self,
        key: &Key,
        fragment: &Fragment,
        len: u16,
        ports: Option<(u16, u16)>,
        now: Instant,
    ) -> Admission {
        let bucket = self.bucket(key);
        let slot = find(&mut self.buckets[bucket], key, now);
        let entry = slot.get_or_insert_with(|| {
            self.next = self.next.wrapping_add(1);
            Entry {
                key: *key,
                serial: Serial(self.next),
                born: now,
                ports: None,
                waiting: false,
                spoilt: false,
                seen: Ranges::default(),
            }
        });
        if entry.spoilt {
            return Admission::Refuse(DropReason::FragmentOverlap, None);
        }
        match entry.seen.add(fragment, len) {
            Ok(()) => {}
            Err(Clash::Again) if now.since(entry.born) >= DOUBLED => {
                *slot = None;
                return self.admit(key, fragment, len, ports, now);
            }
            Err(Clash::Again) => return Admission::Refuse(DropReason::FragmentOverlap, None),
            Err(Clash::Scattered) => return Admission::Refuse(DropReason::FragmentFull, None),
            Err(Clash::Overlap) => {
                entry.spoilt = true;
                return Admission::Refuse(DropReason::FragmentOverlap, entry.waiting());
            }
        }
        let admission = match (ports, entry.ports) {
            (Some(ports), _) => {
                entry.ports = Some(ports);
                Admission::First(entry.waiting())
            }
            (None, Some(ports)) => Admission::Known(ports),
            (None, None) => {
                entry.waiting = true;
                Admission::Wait(entry.serial)
            }
        };
        if entry.seen.is_complete() {
            // The id is free for another datagram.
            *slot = None;
        }
        admission
    }

    fn bucket(&self, key: &Key) -> usize {
        let (k0, k1) = self.hash_key;
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        hash(key, &mut hasher);
        hasher.finish() as usize % BUCKETS
    }
}

/// The place of the key's datagram, or an empty one for it: that of the oldest where none is vacant.
fn find<'a>(bucket: &'a mut [Option<Entry>; WAYS], key: &Key, now: Instant) -> &'a mut Option<Entry> {
    // Key and age; none of what is vacant or too old, which so sorts first.
    let live = |slot: &Option<Entry>| slot.as_ref().filter(|e| e.lives(now)).map(|e| (e.born, e.key));
    let lives = [0, 1, 2, 3].map(|at: usize| live(&bucket[at]));
    if let Some(at) = lives.iter().position(|live| live.is_some_and(|(_, k)| k == *key)) {
        return &mut bucket[at];
    }
    let mut at = 0;
    for other in 1..WAYS {
        if lives[other].map(|(born, _)| born) < lives[at].map(|(born, _)| born) {
            at = other;
        }
    }
    bucket[at] = None;
    &mut bucket[at]
}

/// Feeds a key to a keyed hash.
pub(crate) fn hash(key: &Key, hasher: &mut SipHasher13) {
    hasher.write_u128(key.src.0);
    hasher.write_u128(key.dst.0);
    hasher.write_u32(key.id);
    hasher.write_u8(key.protocol);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;

    const PORTS: (u16, u16) = (4000, 53);
    const START: Instant = Instant(1_000_000_000);

    fn key(id: u32) -> Key {
        Key { src: Addr::v4([198, 51, 100, 7]), dst: Addr::v4([203, 0, 113, 100]), id, protocol: 17 }
    }

    fn first(table: &mut Table, id: u32, now: Instant) -> Admission {
        table.admit(&key(id), &Fragment { id, offset: 0, more: true }, 16, Some(PORTS), now)
    }

    fn later(table: &mut Table, id: u32, offset: u16, more: bool, now: Instant) -> Admission {
        table.admit(&key(id), &Fragment { id, offset, more }, 16, None, now)
    }

    #[test]
    fn ports_are_known_until_the_datagram_is_whole() {
        let mut table = Table::new((1, 2));
        assert_eq!(first(&mut table, 5, START), Admission::First(None));
        assert_eq!(later(&mut table, 5, 32, false, START), Admission::Known(PORTS));
        assert!(matches!(later(&mut table, 6, 16, true, START), Admission::Wait(_)), "another datagram");
        assert_eq!(later(&mut table, 5, 16, true, START), Admission::Known(PORTS));
        assert!(matches!(later(&mut table, 5, 16, true, START), Admission::Wait(_)), "the next one");
    }

    #[test]
    fn who_waits_is_told_by_the_first() {
        let mut table = Table::new((1, 2));
        let Admission::Wait(serial) = later(&mut table, 5, 16, true, START) else { panic!() };
        assert_eq!(later(&mut table, 5, 32, false, START), Admission::Wait(serial));
        assert_eq!(first(&mut table, 5, START), Admission::First(Some(serial)));
    }

    #[test]
    fn an_overlap_spoils_the_datagram() {
        let mut table = Table::new((1, 2));
        let Admission::Wait(serial) = later(&mut table, 5, 16, true, START) else { panic!() };
        let refuse = |serial| Admission::Refuse(DropReason::FragmentOverlap, serial);
        assert_eq!(later(&mut table, 5, 24, true, START), refuse(Some(serial)));
        assert_eq!(first(&mut table, 5, START), refuse(None));
        assert_eq!(first(&mut table, 5, START.after(TIMEOUT)), Admission::First(None), "the id's next use");
    }

    #[test]
    fn a_repeated_piece_is_refused_and_the_rest_goes_on() {
        let mut table = Table::new((1, 2));
        assert_eq!(first(&mut table, 5, START), Admission::First(None));
        assert_eq!(first(&mut table, 5, START), Admission::Refuse(DropReason::FragmentOverlap, None));
        assert_eq!(later(&mut table, 5, 16, false, START), Admission::Known(PORTS));
    }

    #[test]
    fn an_id_is_used_again_though_a_piece_was_lost() {
        let mut table = Table::new((1, 2));
        assert_eq!(first(&mut table, 5, START), Admission::First(None));
        let later_on = START.after(DOUBLED);
        assert_eq!(first(&mut table, 5, later_on), Admission::First(None));
        assert_eq!(first(&mut table, 5, later_on), Admission::Refuse(DropReason::FragmentOverlap, None));
        assert_eq!(later(&mut table, 5, 16, false, later_on), Admission::Known(PORTS));
    }

    #[test]
    fn a_flood_shortens_memory_and_no_more() {
        let mut table = Table::new((1, 2));
        let mut now = START;
        for id in 0..3 * DATAGRAMS as u32 {
            now = Instant(now.0 + 1);
            assert!(matches!(later(&mut table, id, 16, true, now), Admission::Wait(_)));
        }
        assert_eq!(first(&mut table, u32::MAX, now), Admission::First(None));
        assert_eq!(later(&mut table, u32::MAX, 16, true, now), Admission::Known(PORTS));
        let full = table.buckets.iter().flatten().filter(|slot| slot.is_some()).count();
        assert!(full <= DATAGRAMS);
    }
}
