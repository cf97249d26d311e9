//! The keyed hash of a 5-tuple.
//!
//! Clients choose half of the tuple, so a hash that they can compute (CRC32c, Toeplitz with a known key) lets them pile
//! their connections up in one bucket. This one is NH of UMAC (RFC 4418 §5.2.2, with 64-bit words): for any two tuples chosen
//! without knowledge of the key the 128-bit sums are equal with probability at most 2⁻⁶⁴ over the key. The sum is then
//! folded, keyed again, to 64 bits whose every part can select a bucket. NH is linear enough that whoever sees its output can
//! solve for the key; nobody does: it never leaves the process. IPv4's tuple is two words, so that is one multiplication and
//! two, IPv6's takes three and two, where `SipHash` needs some 130 operations.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Tuple;
use crate::addr::Addr;
use crate::config::Protocol;
use crate::wire::raw;

/// The expanded key.
pub(crate) struct TupleHash {
    nh: [u64; 6],
    /// For IPv4, whose sums have keys of their own.
    nh4: [u64; 2],
    fold: [u64; 2],
}

// The key is secret.
impl fmt::Debug for TupleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TupleHash").finish_non_exhaustive()
    }
}

impl TupleHash {
    /// Expands a secret of 128 bits, with `SipHash` as the pseudo-random function.
    pub(crate) fn new((k0, k1): (u64, u64)) -> Self {
        let word = |i: usize| {
            let mut sip = SipHasher13::new_with_keys(k0, k1);
            sip.write_u64(i as u64);
            sip.finish()
        };
        Self {
            nh: std::array::from_fn(word),
            fold: std::array::from_fn(|i| word(6 + i)),
            nh4: std::array::from_fn(|i| word(8 + i)),
        }
    }

    /// The hash of a tuple; depends on the key and the tuple alone.
    #[inline]
    pub(crate) fn of(&self, t: &Tuple) -> u64 {
        // 0 for an IPv4 address.
        let upper = |a: Addr| (a.0 >> 64) as u64 | (a.0 as u64) >> 32 ^ 0xffff;
        if upper(t.src) | upper(t.dst) == 0 {
            let addresses = raw::addresses(t.src.0 as u32, t.dst.0 as u32);
            return self.of_v4(addresses, rest_v4(raw::ports(t.sport, t.dport), t.protocol));
        }
        let [k0, k1, k2, k3, k4, k5] = self.nh;
        self.finish(
            product((t.src.0 >> 64) as u64, k0, t.src.0 as u64, k1)
                .wrapping_add(product((t.dst.0 >> 64) as u64, k2, t.dst.0 as u64, k3))
                .wrapping_add(product(rest(t), k4, 0, k5)),
        )
    }

    /// [`of`](Self::of) for a tuple of IPv4: its addresses [as they are on the wire](raw), and [the rest](rest_v4); or for any other
    /// two words.
    #[inline(always)]
    pub(crate) fn of_v4(&self, addresses: u64, rest: u64) -> u64 {
        let [k0, k1] = self.nh4;
        self.finish(product(addresses, k0, rest, k1))
    }

    #[inline(always)]
    const fn finish(&self, sum: u128) -> u64 {
        let h = fold(sum as u64 ^ self.fold[0], (sum >> 64) as u64 ^ self.fold[1]);
        // One round of a murmur finaliser: neighbouring ports are an arithmetic progression up to here.
        (h ^ h >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(32)
    }
}

/// What of a tuple of IPv4 is no address: its ports as they are on the wire, and its protocol.
#[inline(always)]
pub(super) fn rest_v4(ports: u32, protocol: Protocol) -> u64 {
    u64::from(ports) << 16 | u64::from(protocol.number())
}

/// What of a tuple is no address.
#[inline]
fn rest(t: &Tuple) -> u64 {
    u64::from(t.sport) << 32 | u64::from(t.dport) << 16 | u64::from(t.protocol.number())
}

#[inline]
const fn product(a: u64, ka: u64, b: u64, kb: u64) -> u128 {
    a.wrapping_add(ka) as u128 * b.wrapping_add(kb) as u128
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let p = a as u128 * b as u128;
    p as u64 ^ (p >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKETS: usize = 1 << 13;

    fn tuple(src: u128, dst: u128, sport: u16, dport: u16) -> Tuple {
        Tuple { src: Addr(src), dst: Addr(dst), sport, dport, protocol: Protocol::Tcp }
    }

    /// Chi-squared over the buckets, in standard deviations from its mean, by two disjoint groups of 13 bits.
    fn unevenness(keys: &[Tuple], hash: &TupleHash) -> [f64; 2] {
        [0, 48 - 13].map(|shift| {
            let mut count = vec![0_u32; BUCKETS];
            for key in keys {
                count[(hash.of(key) >> shift) as usize % BUCKETS] += 1;
            }
            let mean = keys.len() as f64 / BUCKETS as f64;
            let chi: f64 = count.iter().map(|&c| (f64::from(c) - mean).powi(2) / mean).sum();
            (chi - BUCKETS as f64) / (2.0 * BUCKETS as f64).sqrt()
        })
    }

    fn fullest(keys: &[Tuple], hash: &TupleHash) -> u32 {
        let mut count = vec![0_u32; BUCKETS];
        for key in keys {
            count[hash.of(key) as usize % BUCKETS] += 1;
        }
        count.into_iter().max().unwrap()
    }

    #[test]
    fn depends_on_key_and_every_field_only() {
        let t = tuple(1, 2, 3, 4);
        let a = TupleHash::new((1, 2));
        assert_eq!(a.of(&t), TupleHash::new((1, 2)).of(&t));
        assert_ne!(a.of(&t), TupleHash::new((1, 3)).of(&t));
        assert_ne!(a.of(&t), TupleHash::new((2, 2)).of(&t));
        let others = [
            tuple(2, 1, 3, 4),
            tuple(1, 2, 4, 3),
            tuple(1 << 64, 2, 3, 4),
            tuple(1, 2 << 64, 3, 4),
            Tuple { protocol: Protocol::Udp, ..t },
        ];
        for other in others {
            assert_ne!(a.of(&t), a.of(&other), "{other:?}");
        }
    }

    #[test]
    fn buckets_are_even_for_the_patterns_of_real_traffic() {
        let v4 = 0xffff_0000_0000_u128;
        let ports = || (0..=u16::MAX).map(|p| tuple(v4 | 0x0a00_0001, v4 | 0xcb00_7164, p, 80)).collect();
        let hosts = || (0..65_536_u128).map(|h| tuple(v4 | 0x0a00_0000 | h, v4 | 5, 40_000, 443)).collect();
        let nets =
            || (0..65_536_u128).map(|n| tuple(0x2001_0db8 << 96 | n << 64 | 1, 9, 40_000, 443)).collect();
        let both = || (0..65_536).map(|i| tuple(v4 | i >> 8, v4 | 5, i as u16 & 255, 443)).collect();
        let patterns: [&dyn Fn() -> Vec<Tuple>; 4] = [&ports, &hosts, &nets, &both];
        for (n, pattern) in patterns.iter().enumerate() {
            let keys = pattern();
            for secret in 0..8 {
                let off = unevenness(&keys, &TupleHash::new((secret, 99)));
                assert!(off.iter().all(|o| *o < 6.0), "pattern {n}, key {secret}: {off:?}");
            }
        }
    }

    /// Bytes 0..4 of the source are free, the others given: what must they be for the CRC32c to be 0? The CRC is affine over
    /// GF(2) in those 32 bits.
    struct CrcSolver([u32; 32]);

    impl CrcSolver {
        fn crc(t: &Tuple) -> u32 {
            let mut bytes = t.src.0.to_be_bytes().to_vec();
            bytes.extend(t.dst.0.to_be_bytes());
            bytes.extend(t.sport.to_be_bytes());
            bytes.extend(t.dport.to_be_bytes());
            crc32c::crc32c(&bytes)
        }

        fn with_free(t: &Tuple, free: u32) -> Tuple {
            Tuple { src: Addr(t.src.0 & (u128::MAX >> 32) | u128::from(free) << 96), ..*t }
        }

        fn new(t: &Tuple) -> Self {
            let zero = Self::crc(&Self::with_free(t, 0));
            // Gauss–Jordan on (effect of bit, bit).
            let mut rows: Vec<(u32, u32)> =
                (0..32).map(|b| (Self::crc(&Self::with_free(t, 1 << b)) ^ zero, 1 << b)).collect();
            for bit in 0..32 {
                let pivot = (bit..32).find(|&r| rows[r].0 >> bit & 1 == 1).expect("a CRC is invertible");
                rows.swap(bit, pivot);
                let with = rows[bit];
                for (r, row) in rows.iter_mut().enumerate() {
                    if r != bit && row.0 >> bit & 1 == 1 {
                        *row = (row.0 ^ with.0, row.1 ^ with.1);
                    }
                }
            }
            Self(std::array::from_fn(|bit| rows[bit].1))
        }

        fn solve(&self, t: &Tuple) -> Tuple {
            let crc = Self::crc(&Self::with_free(t, 0));
            let free = (0..32).filter(|b| crc >> b & 1 == 1).fold(0, |f, b| f ^ self.0[b]);
            Self::with_free(t, free)
        }
    }

    #[test]
    fn crc_collisions_do_not_pile_up() {
        let base = tuple(7, 0x2001_0db8 << 96, 1, 443);
        let solver = CrcSolver::new(&base);
        let keys: Vec<_> = (0..=u16::MAX).map(|p| solver.solve(&Tuple { sport: p, ..base })).collect();
        assert!(keys.iter().all(|k| CrcSolver::crc(k) == 0), "they collide");
        for secret in 0..4 {
            // Mean 8; a fair hash has one bucket of more than 30 in 10⁵ trials.
            assert!(fullest(&keys, &TupleHash::new((secret, 5))) <= 30);
        }
    }
}
