//! The option space of a TCP segment (RFC 9293 §3.2), changed in place.

use crate::wire::checksum;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const SACK: u8 = 5;
/// Bytes of a block of SACK (RFC 2018 §3).
const BLOCK: usize = 8;

/// Calls `f` with kind and value of each option that is whole.
fn each(options: &mut [u8], mut f: impl FnMut(u8, &mut [u8])) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let len = match kind {
            END => return,
            NOP => {
                at += 1;
                continue;
            }
            _ => options.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        let Some(option) = options.get_mut(at..at + len).filter(|o| o.len() >= 2) else { return };
        f(kind, option);
        at += len;
    }
}

/// Changes the blocks of SACK to what `map` says of their edges, left and right; blocks of which it says nothing go. Returns what
/// the checksum's sum changes by.
pub fn map_sacks(options: &mut [u8], map: impl Fn(u32, u32) -> Option<(u32, u32)>) -> u16 {
    let mut delta = 0;
    // The option may begin at an odd address: sums are of the whole space.
    let before = checksum::sum(options);
    let mut changed = false;
    each(options, |kind, option| {
        if kind != SACK {
            return;
        }
        changed = true;
        let mut kept = 2;
        for from in (2..option.len()).step_by(BLOCK) {
            let Some(block) = option.get(from..).and_then(|b| b.first_chunk::<BLOCK>()) else { break };
            let [a, b, c, d, e, f, g, h] = *block;
            let edges = map(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
            if let (Some((left, right)), Some(to)) =
                (edges, option.get_mut(kept..).and_then(|o| o.first_chunk_mut::<BLOCK>()))
            {
                to[..4].copy_from_slice(&left.to_be_bytes());
                to[4..].copy_from_slice(&right.to_be_bytes());
                kept += BLOCK;
            }
        }
        let end = option.len();
        if kept == 2 {
            option.fill(NOP);
        } else {
            option[1] = kept as u8;
            option[kept..end].fill(NOP);
        }
    });
    if changed {
        delta = checksum::add(!before, checksum::sum(options));
    }
    delta
}

/// Makes the segment size that the option announces smaller by `less`, but not below `least`. Returns what the checksum's sum
/// changes by.
pub fn shrink_mss(options: &mut [u8], less: u16, least: u16) -> u16 {
    let before = checksum::sum(options);
    let mut changed = false;
    each(options, |kind, option| {
        if let (MSS, [_, _, high, low]) = (kind, option) {
            let mss = u16::from_be_bytes([*high, *low]);
            [*high, *low] = mss.saturating_sub(less).max(least.min(mss)).to_be_bytes();
            changed = true;
        }
    });
    if changed { checksum::add(!before, checksum::sum(options)) } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// NOP, NOP, timestamps, NOP, NOP, SACK of two blocks, at an odd place.
    fn sample() -> Vec<u8> {
        let mut options = vec![1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 5, 18];
        for edge in [100_u32, 200, 300, 400] {
            options.extend(edge.to_be_bytes());
        }
        options.extend([1, 1, 1]);
        options
    }

    #[test]
    fn blocks_are_mapped_and_lost_ones_padded() {
        let mut options = sample();
        let before = checksum::sum(&options);
        let delta = map_sacks(&mut options, |l, r| (l >= 300).then_some((l - 28, r - 28)));
        assert_eq!(options[11..13], [5, 10]);
        assert_eq!(options[13..21], [0, 0, 1, 16, 0, 0, 1, 116]);
        assert_eq!(options[21..], [1; 11]);
        assert_eq!(checksum::add(before, delta), checksum::sum(&options));
        map_sacks(&mut options, |_, _| None);
        assert_eq!(options[11..], [1; 21]);
    }

    #[test]
    fn mss() {
        let mut options = vec![2, 4, 0x05, 0xb4, 1, 3, 3, 7];
        let before = checksum::sum(&options);
        let delta = shrink_mss(&mut options, 8, 536);
        assert_eq!(options[..4], [2, 4, 0x05, 0xac]);
        assert_eq!(checksum::add(before, delta), checksum::sum(&options));
        let mut small = vec![2, 4, 2, 0x18];
        assert_eq!((shrink_mss(&mut small, 8, 536), &small[2..]), (0xffff, &[2, 0x18][..]));
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(mut options in prop::collection::vec(prop_oneof![Just(5_u8), Just(2), Just(10), Just(1), any::<u8>()], 0..=40)) {
            let before = checksum::sum(&options);
            let delta = map_sacks(&mut options, |l, r| (l % 2 == 0).then_some((l.wrapping_sub(28), r)));
            let between = checksum::sum(&options);
            prop_assert!(checksum::add(before, delta) % 0xffff == between % 0xffff);
            let delta = shrink_mss(&mut options, 28, 100);
            prop_assert!(checksum::add(between, delta) % 0xffff == checksum::sum(&options) % 0xffff);
        }
    }
}
