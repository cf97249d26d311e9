//! What a connection has carried: packets and L3 bytes, exact however long it lives, in the little room that there is.
//!
//! - [`Recent`], 26 bits of the entry, which its packets touch anyway: up to 127 packets and 128 KiB. What is full is carried
//! - [`Carried`], 32 bits elsewhere: in units of those, up to 4 million packets and 8 GiB
//! - [`Great`], 64 bits for those that fill even that: in units of those, without end

use bytemuck::{Pod, Zeroable};

/// The upper 26 bits of a word whose others are somebody else's: bytes, packets above them, and over each a bit that says that it is
/// full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Recent(pub(super) u32);

/// Units of 128 KiB in the low 16 bits, of 128 packets in the next 15, and whether there is a [`Great`] besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Carried(u32);

/// Units of 4 194 304 packets, and of 8 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Great {
    packets: u32,
    bytes: u32,
}

const RECENT_BYTES: u32 = 17;
const RECENT_PACKETS: u32 = 7;
const BYTE: u32 = 1 << Recent::OTHERS;
const BYTES_FULL: u32 = BYTE << RECENT_BYTES;
const PACKET: u32 = BYTES_FULL << 1;
const PACKETS_FULL: u32 = PACKET << RECENT_PACKETS;

const CARRIED_BYTES: u32 = 16;
const CARRIED_PACKETS: u32 = 15;
/// Set where the connection has a [`Great`]: of one that has not, what lies in its place is another's.
const HAS_GREAT: u32 = 1 << 31;

impl Recent {
    /// Bits that are somebody else's.
    pub const OTHERS: u32 = 6;

    /// One packet more, of so many bytes, fewer than 2¹⁷. Whether it is full, and must be [carried](Carried::take) before the next.
    #[inline(always)]
    #[must_use]
    pub const fn add(&mut self, bytes: u32) -> bool {
        self.0 = self.0.wrapping_add(PACKET + bytes * BYTE);
        self.0 & (PACKETS_FULL | BYTES_FULL) != 0
    }

    const fn packets(self) -> u64 {
        (self.0 / PACKET) as u64
    }

    const fn bytes(self) -> u64 {
        (self.0 % PACKET / BYTE) as u64
    }
}

impl Carried {
    /// Takes what is full.
    pub fn take<'g>(&mut self, recent: &mut Recent, great: impl FnOnce() -> &'g mut Great) {
        let (mut packets, mut bytes) = (self.packets(), self.bytes());
        packets += u32::from(recent.0 & PACKETS_FULL != 0);
        bytes += u32::from(recent.0 & BYTES_FULL != 0);
        recent.0 &= !(PACKETS_FULL | BYTES_FULL);
        let (more_packets, more_bytes) = (packets >> CARRIED_PACKETS, bytes >> CARRIED_BYTES);
        if more_packets | more_bytes != 0 {
            let great = great();
            if self.0 & HAS_GREAT == 0 {
                *great = Great::default();
                self.0 |= HAS_GREAT;
            }
            great.packets = great.packets.wrapping_add(more_packets);
            great.bytes = great.bytes.wrapping_add(more_bytes);
        }
        (packets, bytes) = (packets % (1 << CARRIED_PACKETS), bytes % (1 << CARRIED_BYTES));
        self.0 = self.0 & HAS_GREAT | packets << CARRIED_BYTES | bytes;
    }

    const fn packets(self) -> u32 {
        (self.0 & !HAS_GREAT) >> CARRIED_BYTES
    }

    const fn bytes(self) -> u32 {
        self.0 % (1 << CARRIED_BYTES)
    }

    /// Packets and bytes in all.
    pub fn total(self, recent: Recent, great: impl FnOnce() -> Great) -> (u64, u64) {
        let great = if self.0 & HAS_GREAT == 0 { Great::default() } else { great() };
        let packets = u64::from(great.packets) << CARRIED_PACKETS | u64::from(self.packets());
        let bytes = u64::from(great.bytes) << CARRIED_BYTES | u64::from(self.bytes());
        ((packets << RECENT_PACKETS) + recent.packets(), (bytes << RECENT_BYTES) + recent.bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    struct Tally(Recent, Carried, Great);

    impl Tally {
        /// Of a connection in the place of one that had carried much.
        fn new() -> Self {
            Self(Recent::default(), Carried::default(), Great { packets: 7, bytes: 9 })
        }

        fn add(&mut self, bytes: u32) {
            let Self(recent, carried, great) = self;
            if recent.add(bytes) {
                carried.take(recent, || great);
            }
        }

        fn total(&self) -> (u64, u64) {
            self.1.total(self.0, || self.2)
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_carrying(sizes in vec(prop_oneof![Just(65_575), Just(20), 20..65_576_u32], 0..5000)) {
            let mut tally = Tally::new();
            let mut ledger = (0, 0);
            for bytes in sizes {
                tally.add(bytes);
                ledger = (ledger.0 + 1, ledger.1 + u64::from(bytes));
                prop_assert_eq!(tally.total(), ledger);
            }
        }
    }

    #[test]
    fn it_goes_on_beyond_each_unit_of_its_own() {
        // As after so much, one packet before both overflow.
        let near = Tally(
            Recent((PACKETS_FULL - PACKET) | (BYTES_FULL - 1)),
            Carried((1 << (CARRIED_BYTES + CARRIED_PACKETS)) - 1),
            Great { packets: 7, bytes: 9 },
        );
        let (packets, bytes) = near.total();
        assert_eq!((packets, bytes), ((1 << 22) - 1, (1 << 33) - 1));
        for (has, more) in [(0, (0, 0)), (HAS_GREAT, (7 << 22, 9 << 33))] {
            let mut tally = Tally(near.0, Carried(near.1.0 | has), near.2);
            assert_eq!(tally.total(), (packets + more.0, bytes + more.1));
            tally.add(1500);
            assert_eq!(tally.total(), (packets + more.0 + 1, bytes + more.1 + 1500));
            tally.add(40);
            assert_eq!(tally.total(), (packets + more.0 + 2, bytes + more.1 + 1540));
            assert_eq!(tally.0.0 % BYTE, BYTE - 1, "what is not its own stays");
        }
    }
}
