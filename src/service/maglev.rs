//! Maglev hashing (Eisenbud et al., «Maglev: A Fast and Reliable Software Network Load Balancer», NSDI 2016, §3.4), weighted.
//!
//! Every box of a fleet must choose the same endpoint for a client, so everything here is public and fixed: the permutations' hash is
//! SipHash-1-3 over bytes in network order with the constant keys below, the clients' two multiplications with the constants below,
//! and endpoints are sorted before they are let at the table. A change of any is a change of protocol between boxes. That a client
//! can compute its own endpoint is accepted; a hash with a secret could do no more than one without.
//!
//! The paper takes turns in rounds and leaves weights open. Here the endpoints' n-th turns are ordered by the time
//! (n + ½) / weight. With equal weights that is the paper's round-robin; with others each endpoint has at any moment its
//! share to within half a turn, and the order of two endpoints' turns does not depend on who else there is, which is what
//! keeps slots where they are when an endpoint comes or goes.

use std::cmp::Ordering;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13x128};

use super::Endpoint;
use crate::addr::Addr;
use crate::config::Protocol;
use crate::dpdk::memory::prefetch;

/// Keys of the permutations: the ASCII text `pollux: maglev p`.
const PERMUTATION_KEYS: (u64, u64) = (0x706f_6c6c_7578_3a20, 0x6d61_676c_6576_2070);
/// What the words of a client are mixed with: the first 256 bits of the fraction of π.
const CLIENT_KEYS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// What of a client its endpoint depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// Address and port: connections of one client are spread.
    Connection,
    /// The address alone.
    Address,
}

/// The lookup table: indices of endpoints, two bytes a slot. Empty where no endpoint takes connections.
pub(super) struct Table {
    slots: Box<[u16]>,
    by: By,
}

// 65 537 slots are nothing to read in a log.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("slots", &self.slots.len()).field("by", &self.by).finish()
    }
}

/// An endpoint's way through the table, while it is populated.
struct Candidate {
    /// Index in the service.
    index: u16,
    weight: u32,
    /// The next slot that it would like.
    wish: u32,
    skip: u32,
}

/// The time of an endpoint's turn, (n + ½) / weight; of equal ones the lower address's comes first.
struct Turn {
    n: u32,
    weight: u32,
    candidate: usize,
}

impl Table {
    /// Populates a table of `size` slots, a prime. An endpoint of which no slot is due by its weight gets none: tables
    /// should have a hundred slots an endpoint or more.
    pub fn new(size: u32, by: By, vip: Addr, protocol: Protocol, endpoints: &[Endpoint]) -> Self {
        let mut candidates: Vec<_> = (0..=u16::MAX)
            .zip(endpoints)
            .filter(|(_, endpoint)| endpoint.takes_new())
            .map(|(index, endpoint)| (endpoint.addr, endpoint.port, index, endpoint.weight))
            .collect();
        candidates.sort_unstable();
        let candidates = candidates
            .into_iter()
            .map(|(addr, port, index, weight)| {
                let (wish, skip) = permutation(size, vip, protocol, addr, port);
                Candidate { index, weight, wish, skip }
            })
            .collect();
        Self { slots: populate(size, candidates), by }
    }

    /// The endpoint for this client.
    #[inline]
    pub fn pick(&self, client: Addr, client_port: u16) -> Option<usize> {
        self.at(self.draw(client, client_port))
    }

    /// First of two steps of [`pick`](Self::pick): the client's slot, which is fetched.
    #[inline]
    pub fn draw(&self, client: Addr, client_port: u16) -> usize {
        let port = if self.by == By::Connection { client_port } else { 0 };
        let hash = client_hash(client, port);
        // Maps the hash to 0..len by its upper bits, without a division.
        let slot = ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize;
        if let Some(index) = self.slots.get(slot) {
            prefetch(index);
        }
        slot
    }

    /// Second step: whose the slot is.
    #[inline]
    pub fn at(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).map(|index| usize::from(*index))
    }
}

/// The hash of a client; port 0: of its address alone. Address and port are taken in by a multiplication each, whose halves are added
/// without carry (the mixing step of wyhash): a new connection has no time for more, and clients spread as evenly.
#[inline]
fn client_hash(client: Addr, port: u16) -> u64 {
    const fn fold(a: u64, b: u64) -> u64 {
        let product = a as u128 * b as u128;
        product as u64 ^ (product >> 64) as u64
    }
    let [k0, k1, k2, k3] = CLIENT_KEYS;
    let address = fold((client.0 >> 64) as u64 ^ k0, client.0 as u64 ^ k1);
    fold(address ^ k2, u64::from(port) ^ k3)
}

/// Offset and skip of an endpoint's permutation of the slots.
fn permutation(size: u32, vip: Addr, protocol: Protocol, addr: Addr, port: u16) -> (u32, u32) {
    let mut bytes = [0; 35];
    bytes[..16].copy_from_slice(&vip.v6_octets());
    bytes[16] = protocol.number();
    bytes[17..33].copy_from_slice(&addr.v6_octets());
    bytes[33..].copy_from_slice(&port.to_be_bytes());
    let mut hasher = SipHasher13x128::new_with_keys(PERMUTATION_KEYS.0, PERMUTATION_KEYS.1);
    hasher.write(&bytes);
    let hash = hasher.finish128();
    let modulo = |hash: u64, n: u32| (hash % u64::from(n.max(1))) as u32;
    (modulo(hash.h1, size), modulo(hash.h2, size.saturating_sub(1)) + 1)
}

fn populate(size: u32, mut candidates: Vec<Candidate>) -> Box<[u16]> {
    let Some(first) = candidates.first() else { return Box::default() };
    let mut filling = Filling::new(size);
    if candidates.iter().all(|candidate| candidate.weight == first.weight) {
        // The order of the turns below, without the calendar.
        while filling.free > 0 {
            for candidate in &mut candidates {
                filling.take(candidate);
            }
        }
        return filling.slots;
    }
    let mut calendar = Calendar::new(size, &candidates);
    let mut now = Vec::new();
    while filling.free > 0 && calendar.next(&mut now) {
        now.sort_unstable();
        for turn in &now {
            filling.take(&mut candidates[turn.candidate]);
            calendar.put(turn.n + 1, turn.weight, turn.candidate);
        }
    }
    filling.slots
}

/// Whose turns are when: a list of candidates for each unit of time, of which there are as many as turns.
///
/// A candidate's next turn is a unit later or more, since its weight is not above the sum: it is in one list at a time.
struct Calendar {
    /// By unit: the first of its list.
    first: Box<[u32]>,
    /// By candidate: the next in the list, its turn, its weight.
    lists: Box<[(u32, u32, u32)]>,
    sum: u128,
    unit: usize,
}

const NOBODY: u32 = u32::MAX;

impl Calendar {
    fn new(size: u32, candidates: &[Candidate]) -> Self {
        // By then everybody has had at most half a turn less than is due.
        let units = size as usize + candidates.len() + 1;
        let mut new = Self {
            first: vec![NOBODY; units].into(),
            lists: vec![(NOBODY, 0, 0); candidates.len()].into(),
            sum: candidates.iter().map(|c| u128::from(c.weight)).sum(),
            unit: 0,
        };
        for (n, candidate) in candidates.iter().enumerate() {
            new.put(0, candidate.weight, n);
        }
        new
    }

    fn put(&mut self, n: u32, weight: u32, candidate: usize) {
        // Below 2²⁵ · 2³² · 2¹⁶, and as a rule far below.
        let (time, weight_2) = ((2 * u128::from(n) + 1) * self.sum, 2 * u128::from(weight));
        let unit = match (u64::try_from(time), u64::try_from(weight_2)) {
            (Ok(time), Ok(weight_2)) => time / weight_2.max(1),
            _ => u64::try_from(time / weight_2.max(1)).unwrap_or(u64::MAX),
        };
        if let Some(first) = usize::try_from(unit).ok().and_then(|unit| self.first.get_mut(unit)) {
            self.lists[candidate] = (*first, n, weight);
            *first = candidate as u32;
        }
    }

    /// The turns of the next unit, in no order. Whether there is one.
    fn next(&mut self, turns: &mut Vec<Turn>) -> bool {
        turns.clear();
        let Some(&first) = self.first.get(self.unit) else { return false };
        self.unit += 1;
        let mut at = first;
        while let Some(&(next, n, weight)) = self.lists.get(at as usize) {
            turns.push(Turn { n, weight, candidate: at as usize });
            at = next;
        }
        true
    }
}

/// A table that is being populated.
struct Filling {
    slots: Box<[u16]>,
    /// Which slots are taken, a bit each: most wishes are for one that is, and these stay in the first-level cache.
    taken: Box<[u64]>,
    /// Turns left.
    free: u32,
}

impl Filling {
    fn new(size: u32) -> Self {
        Self {
            slots: vec![0; size as usize].into(),
            taken: vec![0; size.div_ceil(64) as usize].into(),
            free: size,
        }
    }

    /// A turn: the candidate takes the first free slot of its permutation. None where all turns were taken.
    fn take(&mut self, candidate: &mut Candidate) {
        let size = self.slots.len() as u32;
        if self.free == 0 {
            return;
        }
        self.free -= 1;
        // A prime size makes every skip visit every slot. The bound is for sizes that are not: then some stay with the first.
        for _ in 0..size {
            let slot = candidate.wish as usize;
            let next = candidate.wish + candidate.skip;
            candidate.wish = if next >= size { next - size } else { next };
            let (word, bit) = (&mut self.taken[slot / 64], 1 << (slot % 64));
            if *word & bit == 0 {
                *word |= bit;
                self.slots[slot] = candidate.index;
                return;
            }
        }
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        // Tables have at most 2²⁴ slots: no overflow.
        let cross = |a: &Self, b: &Self| (2 * u64::from(a.n) + 1) * u64::from(b.weight);
        cross(self, other).cmp(&cross(other, self)).then(self.candidate.cmp(&other.candidate))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::tests::endpoint;

    const VIP: Addr = Addr::v4([203, 0, 113, 100]);
    const SIZE: u32 = 65_537;

    fn fleet(weights: impl IntoIterator<Item = u32>) -> Vec<Endpoint> {
        (1..).zip(weights).map(|(n, weight)| endpoint(n, weight)).collect()
    }

    /// Who has each slot, by id.
    fn owners(size: u32, endpoints: &[Endpoint]) -> Vec<u32> {
        let table = Table::new(size, By::Connection, VIP, Protocol::Tcp, endpoints);
        assert_eq!(table.slots.len(), size as usize);
        table.slots.iter().map(|index| endpoints[*index as usize].id.0).collect()
    }

    /// The largest relative deviation from the share that the weight asks for.
    fn worst_share(size: u32, endpoints: &[Endpoint]) -> f64 {
        let owners = owners(size, endpoints);
        let sum: u64 = endpoints.iter().map(|e| u64::from(e.weight)).sum();
        let off = endpoints.iter().map(|e| {
            let has = owners.iter().filter(|id| **id == e.id.0).count() as f64;
            let due = f64::from(size) * f64::from(e.weight) / sum as f64;
            (has / due - 1.0).abs()
        });
        off.fold(0.0, f64::max)
    }

    /// The share of all slots that moves between survivors when the endpoint at `gone` leaves.
    fn moved(endpoints: &[Endpoint], gone: usize) -> f64 {
        let mut fewer = endpoints.to_vec();
        let gone = fewer.remove(gone).id.0;
        let (before, after) = (owners(SIZE, endpoints), owners(SIZE, &fewer));
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && a != b).count();
        assert!(after.iter().all(|id| *id != gone));
        moved as f64 / f64::from(SIZE)
    }

    #[test]
    fn shares_are_within_one_percent() {
        assert!(worst_share(SIZE, &fleet([1; 100])) < 0.01);
        assert!(worst_share(SIZE, &fleet((0..100).map(|n| n % 10 + 1))) < 0.01);
        assert!(worst_share(SIZE, &fleet((0..100).map(|n| if n < 10 { 10 } else { 1 }))) < 0.01);
        assert!(worst_share(SIZE, &fleet((0..100).map(|n| 1_000_000_007 + n * 1_234_567))) < 0.01);
        assert!(worst_share(SIZE, &fleet([u32::MAX, u32::MAX / 3, u32::MAX / 2])) < 0.01);
    }

    #[test]
    fn one_of_a_hundred_leaves_and_under_one_percent_moves() {
        for gone in [0, 17, 50, 99] {
            assert!(moved(&fleet([1; 100]), gone) < 0.01);
            assert!(moved(&fleet((0..100).map(|n| n % 10 + 1)), gone) < 0.01);
            assert!(moved(&fleet(1..=100), gone) < 0.01);
        }
    }

    #[test]
    fn an_endpoint_that_drains_is_as_one_that_left() {
        let all = fleet([1, 2, 3, 4]);
        for state in [crate::config::EndpointState::Drain, crate::config::EndpointState::Down] {
            let mut drained = all.clone();
            drained[1].state = state;
            let mut left = all.clone();
            left.remove(1);
            assert_eq!(owners(5_003, &drained), owners(5_003, &left));
        }
    }

    #[test]
    fn equal_weights_take_turns_in_the_papers_order() {
        // Table 1 of the paper: permutations (offset, skip) of B0, B1, B2 over 7 slots.
        let candidates = [(0, 3, 4), (1, 0, 2), (2, 3, 1)];
        let candidates = candidates.map(|(index, wish, skip)| Candidate { index, weight: 1, wish, skip });
        assert_eq!(*populate(7, candidates.into()), [1, 0, 1, 0, 2, 2, 0]);
        let candidates = [(0, 3, 4), (2, 3, 1)];
        let candidates = candidates.map(|(index, wish, skip)| Candidate { index, weight: 1, wish, skip });
        assert_eq!(*populate(7, candidates.into()), [0, 0, 0, 0, 2, 2, 2]);
    }

    #[test]
    fn the_choice_is_the_same_on_every_box_and_release() {
        // Known answers, worked out by another implementation: a change here breaks connections in fleets of mixed releases.
        let table = Table::new(SIZE, By::Connection, VIP, Protocol::Tcp, &fleet([1, 2, 3]));
        let picks: Vec<_> = (1..=16)
            .map(|n| table.pick(Addr::v4([198, 51, 100, n]), 40_000 + u16::from(n)).unwrap())
            .collect();
        assert_eq!(picks, [1, 1, 0, 0, 2, 1, 2, 0, 2, 2, 1, 0, 2, 2, 2, 2]);
        assert_eq!(permutation(SIZE, VIP, Protocol::Udp, Addr::v4([10, 0, 0, 1]), 53), (43_559, 32_612));
    }

    #[test]
    fn protocols_and_vips_have_tables_of_their_own() {
        let fleet = fleet([1; 5]);
        let slots = |vip, protocol| Table::new(5_003, By::Connection, vip, protocol, &fleet).slots;
        assert_ne!(slots(VIP, Protocol::Tcp), slots(VIP, Protocol::Udp));
        assert_ne!(slots(VIP, Protocol::Tcp), slots(Addr::v4([203, 0, 113, 101]), Protocol::Tcp));
    }

    #[test]
    fn by_address_a_client_has_one_endpoint_for_all_its_ports() {
        let table = Table::new(SIZE, By::Address, VIP, Protocol::Tcp, &fleet([1, 2, 3]));
        let mut counts = [0u32; 3];
        for n in 0..6_000u32 {
            let client = Addr(u128::from(n) << 64 | 0x2001_0db8 << 96);
            let first = table.pick(client, 1).unwrap();
            assert!((2..20).all(|port| table.pick(client, port * 3000) == Some(first)));
            counts[first] += 1;
        }
        // Binomial, σ at most 39.
        assert!(counts.iter().zip([1000, 2000, 3000]).all(|(n, due)| n.abs_diff(due) < 200), "{counts:?}");
        let picks: Vec<_> = (1..=16).map(|n| table.pick(Addr::v4([198, 51, 100, n]), 0).unwrap()).collect();
        assert_eq!(
            picks,
            [2, 0, 0, 1, 2, 2, 2, 0, 2, 0, 2, 2, 2, 1, 0, 2],
            "worked out by another implementation"
        );
    }

    #[test]
    fn the_size_is_that_of_the_configuration() {
        for size in [251, 5_003, 65_537, 1_000_003] {
            let table = Table::new(size, By::Connection, VIP, Protocol::Tcp, &fleet([1; 10]));
            assert_eq!(table.slots.len(), size as usize);
            assert_eq!(size_of_val(&*table.slots), 2 * size as usize, "two bytes a slot");
        }
    }

    #[test]
    fn clients_spread_over_the_table() {
        let table = Table::new(SIZE, By::Connection, VIP, Protocol::Tcp, &fleet([1; 4]));
        let mut counts = [0u32; 4];
        for n in 0..40_000u32 {
            let [a, b, c, d] = n.to_be_bytes();
            counts[table.pick(Addr::v4([10, b ^ a, c, d]), 1024 + (n % 5) as u16).unwrap()] += 1;
        }
        // Binomial, σ = 87.
        assert!(counts.iter().all(|n| n.abs_diff(10_000) < 450), "{counts:?}");
    }

    #[test]
    fn a_size_that_is_no_prime_ends_too() {
        let table = Table::new(12, By::Connection, VIP, Protocol::Tcp, &fleet([1; 3]));
        assert_eq!(table.slots.len(), 12);
        for size in [0, 1, 2] {
            Table::new(size, By::Connection, VIP, Protocol::Tcp, &fleet([1; 3])).pick(VIP, 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn the_order_of_lines_does_not_matter(
            weights in prop::collection::vec(0..9u32, 1..20),
            seed in any::<prop::sample::Index>(),
        ) {
            let endpoints = fleet(weights.iter().copied().chain([1]));
            let mut shuffled = endpoints.clone();
            shuffled.rotate_left(seed.index(endpoints.len()));
            shuffled.reverse();
            prop_assert_eq!(owners(1_009, &endpoints), owners(1_009, &shuffled));
        }

        /// With a hundred slots or more due to each: none is off by one percent of its own share.
        #[test]
        fn no_share_is_off_by_more_than_one_percent(weights in prop::collection::vec(1..=8u32, 100)) {
            prop_assert!(worst_share(SIZE, &fleet(weights)) <= 0.01);
        }

        #[test]
        fn when_one_of_a_hundred_leaves_at_most_one_percent_moves(
            weights in prop_oneof![
                Just(vec![1; 100]),
                prop::collection::vec(1..=10u32, 100),
                prop::collection::vec(1..=65_535u32, 100),
            ],
            gone in 0..100usize,
        ) {
            prop_assert!(moved(&fleet(weights), gone) <= 0.01);
        }

        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(1..20u32, 1..30)) {
            let endpoints = fleet(weights.iter().copied());
            let owners = owners(1_009, &endpoints);
            let sum = f64::from(weights.iter().sum::<u32>());
            for e in &endpoints {
                let has = owners.iter().filter(|id| **id == e.id.0).count() as f64;
                let share = f64::from(e.weight) / sum;
                // Half a turn of its own, and the halves of all others, of which it has its share.
                prop_assert!((has - share * 1_009.0).abs() <= 1.5 + share * weights.len() as f64 / 2.0);
            }
        }
    }
}
