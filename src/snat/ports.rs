//! Which ports of an address are a worker's: from rank to port and back.

use crate::dpdk::memory::prefetch;

/// Words of 64 ports.
const WORDS: usize = 1 << 16 >> 6;

/// A set of ports that can be counted through.
#[derive(Debug)]
pub(super) struct Ports {
    /// In ascending order.
    list: Box<[u16]>,
    /// A bit for each of the 65 536, and how many come before its word.
    members: Box<[(u64, u16)]>,
}

impl Ports {
    /// Of ascending ports.
    pub fn new(ports: impl Iterator<Item = u16>) -> Self {
        let list: Box<[u16]> = ports.collect();
        let mut members = vec![(0_u64, 0_u16); WORDS].into_boxed_slice();
        for port in &list {
            members[usize::from(port >> 6)].0 |= 1 << (port & 63);
        }
        let mut before = 0;
        for (word, rank) in &mut members {
            *rank = before;
            before += word.count_ones() as u16;
        }
        Self { list, members }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The port at this place.
    #[inline]
    pub fn at(&self, rank: u32) -> Option<u16> {
        self.list.get(rank as usize).copied()
    }

    /// Fetches the ports from this place on, 64 of them.
    #[inline]
    pub fn prefetch(&self, rank: usize) {
        for half in [rank, rank + 32] {
            if let Some(port) = self.list.get(half) {
                prefetch(port);
            }
        }
    }

    /// The place of this port.
    #[inline]
    pub fn rank(&self, port: u16) -> Option<u32> {
        let (word, before) = self.members[usize::from(port >> 6)];
        let bit = 1 << (port & 63);
        (word & bit != 0).then(|| u32::from(before) + (word & (bit - 1)).count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_ports_are_inverse() {
        let mine = |p: &u16| p.wrapping_mul(40_503) >> 13 == 3;
        let ports = Ports::new((1024..=65_535).filter(mine));
        let mut next = 0;
        for port in 0..=65_535_u16 {
            if port >= 1024 && mine(&port) {
                assert_eq!((ports.rank(port), ports.at(next)), (Some(next), Some(port)));
                next += 1;
            } else {
                assert_eq!(ports.rank(port), None);
            }
        }
        assert_eq!(ports.len(), next as usize);
        assert_eq!(ports.at(next), None);
    }

    #[test]
    fn all_and_none() {
        assert_eq!(Ports::new(1..=u16::MAX).rank(u16::MAX), Some(65_534));
        assert_eq!(Ports::new(std::iter::empty()).len(), 0);
    }
}
