//! A cheap look whether an address may be one of a few: most are not, and need not be looked for.

use crate::addr::Addr;

/// A bit for each of sixteen places an address: one address of 16 that are not there looks as if it were. One probe, no hash map's.
#[derive(Clone, Debug, Default)]
pub struct Sieve {
    bits: Box<[u64]>,
    shift: u32,
}

impl Sieve {
    /// Of these.
    pub fn of<'a>(addresses: impl ExactSizeIterator<Item = &'a Addr>) -> Self {
        let places = (16 * addresses.len()).next_power_of_two().max(64);
        let mut sieve = Self { bits: vec![0; places / 64].into(), shift: 64 - places.ilog2() };
        for addr in addresses {
            let place = sieve.place(*addr);
            sieve.bits[place / 64] |= 1 << (place % 64);
        }
        sieve
    }

    /// `false`: it is none of them.
    #[inline]
    #[must_use]
    pub fn may_have(&self, addr: Addr) -> bool {
        let place = self.place(addr);
        self.bits.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    #[inline]
    const fn place(&self, addr: Addr) -> usize {
        let folded = (addr.0 >> 64) as u64 ^ addr.0 as u64;
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_all_of_them_and_few_others() {
        assert!(!Sieve::default().may_have(Addr::v4([10, 0, 0, 1])));
        assert!(!Sieve::of([].iter()).may_have(Addr::v4([10, 0, 0, 1])));
        for n in [1_u32, 5, 1000] {
            let addresses: Vec<_> = (0..n).map(|i| Addr::v4((0xcb00_7100 + 7 * i).to_be_bytes())).collect();
            let sieve = Sieve::of(addresses.iter());
            assert!(addresses.iter().all(|addr| sieve.may_have(*addr)));
            let others =
                (0_u32..100_000).filter(|i| sieve.may_have(Addr::v4((0x0a00_0000 + i).to_be_bytes())));
            assert!(others.count() < 15_000);
        }
    }
}
