//! Which parts of a datagram have been seen.

use arrayvec::ArrayVec;

use crate::wire::fragment::Fragment;

/// Parts with gaps between them. 64 KiB in 1280-byte pieces, every other one first, make 27.
const PARTS: usize = 32;

/// Why a piece does not fit in with the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clash {
    /// All of it was seen before: most likely the network has doubled a frame (RFC 8200 §4.5 lets such be ignored).
    Again,
    /// It overlaps with others, goes beyond the end, or names another end.
    Overlap,
    /// More gaps than are kept.
    Scattered,
}

/// The parts seen, in bytes, sorted; neighbours are one part.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    parts: ArrayVec<(u16, u16), PARTS>,
    /// Where the datagram ends, once the last piece was seen.
    end: Option<u16>,
}

impl Ranges {
    /// Enters a piece of `len` bytes, at least one, that ends before 65 536.
    ///
    /// # Errors
    /// [`Clash`], and no change.
    pub fn add(&mut self, fragment: &Fragment, len: u16) -> Result<(), Clash> {
        let (from, to) = (fragment.offset, fragment.offset.saturating_add(len));
        // The first part that reaches as far as the piece's start; it may just touch it.
        let at = self.parts.partition_point(|&(_, end)| end < from);
        if self.parts[at..].iter().take(2).any(|&(start, end)| start <= from && to <= end)
            && (fragment.more || self.end == Some(to))
        {
            return Err(Clash::Again);
        }
        let furthest = self.parts.last().map_or(0, |&(_, end)| end);
        let beyond = match self.end {
            Some(end) => to > end || !fragment.more && to != end || fragment.more && to == end,
            None => !fragment.more && furthest > to,
        };
        if beyond || self.parts[at..].iter().take(2).any(|&(start, end)| start < to && from < end) {
            return Err(Clash::Overlap);
        }
        let joins_left = self.parts.get(at).is_some_and(|&(_, end)| end == from);
        let right = at + usize::from(joins_left);
        let joins_right = self.parts.get(right).is_some_and(|&(start, _)| start == to);
        match (joins_left, joins_right) {
            (true, true) => {
                let (_, end) = self.parts.remove(right);
                self.parts[at].1 = end;
            }
            (true, false) => self.parts[at].1 = to,
            (false, true) => self.parts[at].0 = from,
            (false, false) if self.parts.is_full() => return Err(Clash::Scattered),
            (false, false) => self.parts.insert(at, (from, to)),
        }
        if !fragment.more {
            self.end = Some(to);
        }
        Ok(())
    }

    /// Whether the whole datagram was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.parts[..] == [(0, end)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(offset: u16, more: bool) -> Fragment {
        Fragment { id: 1, offset, more }
    }

    /// Enters (offset, length, more) one after the other; the last one's outcome.
    fn last(pieces: &[(u16, u16, bool)]) -> Result<(), Clash> {
        let mut ranges = Ranges::default();
        let (&(offset, len, more), before) = pieces.split_last().unwrap();
        for &(offset, len, more) in before {
            assert_eq!(ranges.add(&piece(offset, more), len), Ok(()), "{offset}");
        }
        ranges.add(&piece(offset, more), len)
    }

    #[test]
    fn clashes() {
        use Clash::{Again, Overlap, Scattered};
        for (pieces, outcome) in [
            (&[(0, 16, true), (0, 16, true)][..], Err(Again)),
            (&[(0, 16, true), (8, 8, true)], Err(Again)),
            (&[(16, 5, false), (16, 5, false)], Err(Again)),
            (&[(0, 16, true), (8, 16, true)], Err(Overlap)),
            (&[(8, 16, true), (0, 16, true)], Err(Overlap)),
            (&[(0, 8, true), (16, 8, true), (0, 24, true)], Err(Overlap)),
            (&[(0, 8, true), (16, 8, true), (8, 16, true)], Err(Overlap)),
            // Another end, or something beyond it.
            (&[(16, 5, false), (8, 5, false)], Err(Overlap)),
            (&[(16, 5, false), (16, 6, false)], Err(Overlap)),
            (&[(16, 5, false), (24, 8, true)], Err(Overlap)),
            (&[(16, 8, false), (16, 8, true)], Err(Again)),
            (&[(16, 8, true), (16, 8, false)], Err(Overlap)),
            (&[(32, 8, true), (16, 8, false)], Err(Overlap)),
            (&[(0, 8, true), (16, 8, true), (8, 8, true)], Ok(())),
        ] {
            assert_eq!(last(pieces), outcome, "{pieces:?}");
        }
        let mut gaps: Vec<_> = (0..PARTS as u16).map(|i| (i * 16, 8, true)).collect();
        gaps.push((PARTS as u16 * 16, 8, true));
        assert_eq!(last(&gaps), Err(Scattered));
        gaps.pop();
        gaps.push((8, 8, true));
        assert_eq!(last(&gaps), Ok(()));
    }

    #[test]
    fn the_end_of_the_largest_datagram() {
        let mut ranges = Ranges::default();
        ranges.add(&piece(0, true), 65_528).unwrap();
        ranges.add(&piece(65_528, false), 7).unwrap();
        assert!(ranges.is_complete());
    }

    proptest! {
        /// Against one mark for each eight bytes.
        #[test]
        fn like_a_bitmap(pieces in prop::collection::vec((0u16..24, 1u16..6, prop::bool::weighted(0.8)), 1..40)) {
            let (mut ranges, mut seen, mut end) = (Ranges::default(), [false; 32], None);
            for (offset, len, more) in pieces {
                let (from, to) = (usize::from(offset), usize::from(offset + len));
                let marked = seen[from..to].iter().filter(|&&s| s).count();
                let furthest = seen.iter().rposition(|&s| s).map_or(0, |i| i + 1);
                let same_end = if more { end != Some(to) } else { end == Some(to) || end.is_none() && furthest <= to };
                let inside = end.is_none_or(|end| to <= end);
                let got = ranges.add(&piece(offset * 8, more), len * 8);
                if marked == 0 && same_end && inside {
                    prop_assert_eq!(got, Ok(()));
                    seen[from..to].fill(true);
                    if !more {
                        end = Some(to);
                    }
                } else if marked == to - from && (more || end == Some(to)) {
                    prop_assert_eq!(got, Err(Clash::Again));
                } else {
                    prop_assert_eq!(got, Err(Clash::Overlap));
                }
                prop_assert_eq!(ranges.is_complete(), end.is_some_and(|end| seen[..end].iter().all(|&s| s)));
            }
        }
    }
}
