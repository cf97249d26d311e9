//! The Internet checksum: whole (RFC 1071) and by difference (RFC 1624).
//!
//! Two kinds of 16-bit value must not be mixed up: a *sum* is a one's complement sum, a *checksum* is its complement,
//! as headers carry it. Sums and deltas are combined with [`add`].

use crate::addr::Addr;

/// One's complement addition.
#[inline]
#[must_use]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// One's complement sum of 16-bit words in network order; an odd last byte is padded with zero (RFC 1071 §4.1).
///
/// Sums of pieces may be combined with [`add`] where every piece but the last has an even length.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum does not depend on byte order (RFC 1071 §2.B): native words, swapped once at the end. 2^32 words of 32 bits
    // fit into the accumulator.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut acc: u64 = words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum();
    let (halves, last) = rest.as_chunks::<2>();
    for h in halves {
        acc += u64::from(u16::from_ne_bytes(*h));
    }
    if let [b] = last {
        acc += u64::from(u16::from_ne_bytes([*b, 0]));
    }
    u16::from_be(fold(acc))
}

/// The [`sum`] of an address's bytes, of either family: the prefix that marks IPv4 is a sum of zero.
#[inline]
#[must_use]
pub const fn sum_addr(addr: Addr) -> u16 {
    let (upper, lower) = ((addr.0 >> 64) as u64, addr.0 as u64);
    fold((upper >> 32) + (upper & 0xffff_ffff) + (lower >> 32) + (lower & 0xffff_ffff))
}

/// Folds carries back in: the sum of 32-bit words as one of 16-bit words.
#[inline]
#[must_use]
pub const fn fold(acc: u64) -> u16 {
    let acc = (acc >> 32) + (acc & 0xffff_ffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    acc as u16
}

/// The checksum of `bytes`: what to store where their checksum field is zero; 0 where they contain the right one.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The checksum of an L4 header with payload, `l4`, under the pseudo header of IPv4 (RFC 9293 §3.1) or IPv6 (RFC 8200 §8.1).
///
/// UDP sends 0xffff where this is 0 (RFC 768): see [`never_zero`].
#[inline]
#[must_use]
pub fn pseudo(src: Addr, dst: Addr, protocol: u8, l4: &[u8]) -> u16 {
    !add(pseudo_sum(src, dst, protocol, l4.len()), sum(l4))
}

/// The sum of the pseudo header alone; `len` is that of L4 header and payload, in bytes.
#[inline]
#[must_use]
pub fn pseudo_sum(src: Addr, dst: Addr, protocol: u8, len: usize) -> u16 {
    let addresses = if src.is_v4() {
        add(sum(&src.v4_octets()), sum(&dst.v4_octets()))
    } else {
        add(sum(&src.v6_octets()), sum(&dst.v6_octets()))
    };
    add(addresses, fold(len as u64 + u64::from(protocol)))
}

/// What replacing `old` by `new` adds to the sum of the bytes around: ~m + m' of RFC 1624 §3. Both must start at an
/// even offset of the summed bytes, and be of even length unless at their end.
///
/// The complement of a delta undoes it.
#[inline]
#[must_use]
pub fn delta(old: &[u8], new: &[u8]) -> u16 {
    add(!sum(old), sum(new))
}

/// Updates a checksum by a [`delta`] (RFC 1624, equation 3): equal to the checksum computed anew, except for bytes that are
/// all zero.
#[inline]
#[must_use]
pub const fn apply(checksum: u16, delta: u16) -> u16 {
    !add(!checksum, delta)
}

/// [`apply`] for UDP: 0, which says that there is no checksum, stays; and 0 is never the result (RFC 768).
#[inline]
#[must_use]
pub const fn apply_udp(checksum: u16, delta: u16) -> u16 {
    if checksum == 0 { 0 } else { never_zero(apply(checksum, delta)) }
}

/// A computed UDP checksum as it is sent: 0xffff for 0 (RFC 768).
#[inline]
#[must_use]
pub const fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Word by word, as RFC 1071 §1 says it.
    fn naive(bytes: &[u8]) -> u16 {
        bytes
            .chunks(2)
            .fold(0, |acc, c| add(acc, u16::from(c[0]) << 8 | c.get(1).map_or(0, |b| u16::from(*b))))
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // §4: HC = 0xdd2f, m = 0x5555, m' = 0x3285; equation 2 of RFC 1141 would give 0xffff.
        assert_eq!(apply(0xdd2f, delta(&[0x55, 0x55], &[0x32, 0x85])), 0);
    }

    #[test]
    fn an_ipv4_header() {
        let h = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(&h), 0);
    }

    #[test]
    fn no_udp_checksum_stays_none_and_none_comes_to_be() {
        assert_eq!(apply_udp(0, 0x1234), 0);
        // ~0x0001 + 0x0001 = 0xffff, whose complement is 0.
        assert_eq!(apply(0x0001, 0x0001), 0);
        assert_eq!(apply_udp(0x0001, 0x0001), 0xffff);
    }

    #[test]
    fn pseudo_headers_of_both_families() {
        let l4 = [0x12, 0x34, 0x56];
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let v4 = [&a[..], &b, &[0, 17, 0, 3], &l4].concat();
        assert_eq!(pseudo(Addr::v4(a), Addr::v4(b), 17, &l4), !naive(&v4));
        let (a, b) = ([0x20; 16], [0x77; 16]);
        let v6 = [&a[..], &b, &[0, 0, 0, 3, 0, 0, 0, 17], &l4].concat();
        assert_eq!(pseudo(Addr::v6(a), Addr::v6(b), 17, &l4), !naive(&v6));
    }

    proptest! {
        #[test]
        fn sum_is_the_naive_sum(bytes in vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(sum(&bytes), naive(&bytes));
        }

        #[test]
        fn sums_of_pieces_add_up(a in vec(any::<[u8; 2]>(), 0..64), b in vec(any::<u8>(), 0..64)) {
            let a = a.concat();
            prop_assert_eq!(add(sum(&a), sum(&b)), sum(&[a, b].concat()));
        }

        /// Words of 0 and 0xffff are where negative zero hides: they are made likely.
        #[test]
        fn by_difference_equals_computed_anew(
            words in vec(prop_oneof![Just(0u16), Just(0xffff), any::<u16>()], 1..40),
            new in vec(prop_oneof![Just(0u16), Just(0xffff), any::<u16>()], 1..40),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(words.len());
            let mut changed = words.clone();
            let n = new.len().min(words.len() - at);
            changed[at..at + n].copy_from_slice(&new[..n]);
            prop_assume!(words.iter().any(|w| *w != 0) && changed.iter().any(|w| *w != 0));
            let bytes = |w: &[u16]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
            let (old, new) = (bytes(&words), bytes(&changed));
            let d = delta(&bytes(&words[at..at + n]), &bytes(&changed[at..at + n]));
            prop_assert_eq!(apply(checksum(&old), d), checksum(&new));
            prop_assert_eq!(apply(checksum(&new), !d), checksum(&old));
            let udp = never_zero(checksum(&old));
            prop_assert_eq!(apply_udp(udp, d), never_zero(checksum(&new)));
        }
    }
}
