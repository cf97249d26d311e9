use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::counters::WorkerCounters;
use crate::time::Instant;

const ENDPOINTS: usize = 2;

fn sizes(pairs: usize) -> Sizes {
    Sizes { ports: 1, services: 1, endpoints: ENDPOINTS, rules: 0, snat: 0, pairs }
}

fn key(n: u8) -> PairKey {
    PairKey {
        service: ServiceId(0),
        endpoint: EndpointId(u32::from(n) % ENDPOINTS as u32),
        client: Addr::v4([192, 0, 2, n]),
    }
}

/// A worker's side and the aggregator's, with the counts that each has seen.
struct Bench {
    shared: Arc<WorkerCounters>,
    writer: Writer,
    pairs: Pairs,
    tick: u32,
    folded: HashMap<PairKey, u64>,
}

impl Bench {
    fn new(pairs: usize) -> Self {
        let (shared, writer) = WorkerCounters::new(sizes(pairs));
        Self { shared, writer, pairs: Pairs::new(sizes(pairs), (1, 2)), tick: 0, folded: HashMap::new() }
    }

    fn acquire(&mut self, key: &PairKey) -> PairSlot {
        self.pairs.acquire(&self.writer, key)
    }

    fn release(&mut self, slot: PairSlot) {
        self.pairs.release(&self.writer, slot);
    }

    fn count(&self, slot: PairSlot) {
        self.writer.bank().pair(slot).packets.add(1);
    }

    /// Asks for a tick, lets the worker answer, folds.
    fn fold(&mut self) {
        self.tick += 1;
        self.shared.ask(self.tick);
        self.writer.turn(Instant::ZERO);
        let bank = self.shared.at_rest(self.tick).expect("the worker has answered");
        for slot in self.shared.pair_slots() {
            let n = bank.pair(slot).packets.take();
            if n != 0 {
                let key = slot.endpoint().map_or_else(|| self.shared.pair_key(slot), other);
                *self.folded.entry(key).or_default() += n;
            }
        }
    }
}

/// Stands for all clients of an endpoint without a slot.
fn other(endpoint: EndpointId) -> PairKey {
    PairKey { service: ServiceId(u32::MAX), endpoint, client: Addr::default() }
}

#[test]
fn a_client_that_comes_back_finds_its_slot() {
    let mut b = Bench::new(2);
    let a = b.acquire(&key(1));
    b.release(a);
    for _ in 0..5 {
        b.fold();
    }
    assert_eq!(b.acquire(&key(1)), a);
    assert_ne!(b.acquire(&key(2)), a);
    assert_eq!(b.acquire(&key(3)), Bank::other(key(3).endpoint), "both slots are held");
}

#[test]
fn a_slot_rests_until_its_last_counts_are_folded() {
    let mut b = Bench::new(1);
    let slot = b.acquire(&key(1));
    b.release(slot);
    for _ in 0..REST {
        assert_eq!(b.acquire(&key(2)), Bank::other(key(2).endpoint), "tick {}", b.tick);
        b.fold();
    }
    assert_eq!(b.acquire(&key(2)), slot);
}

#[test]
fn the_longest_idle_goes_first_and_one_let_go_again_goes_last() {
    let mut b = Bench::new(3);
    let slots: Vec<_> = (1..=3).map(|n| b.acquire(&key(n))).collect();
    for &slot in &slots {
        b.release(slot);
        b.fold();
    }
    let again = b.acquire(&key(1));
    assert_eq!(again, slots[0]);
    b.release(again);
    for _ in 0..REST {
        b.fold();
    }
    assert_eq!(b.acquire(&key(4)), slots[1]);
    assert_eq!(b.acquire(&key(5)), slots[2]);
    assert_eq!(b.acquire(&key(6)), slots[0]);
}

#[test]
fn the_queue_never_grows_and_the_work_is_bounded() {
    let n = 4 * ATTEMPTS;
    let mut b = Bench::new(n);
    let slots: Vec<_> = (0..n as u8).map(|i| b.acquire(&key(i))).collect();
    let capacity = b.pairs.idle.capacity();
    for _ in 0..100 {
        for (i, &slot) in slots.iter().enumerate() {
            b.release(slot);
            assert_eq!(b.acquire(&key(i as u8)), slot);
        }
        b.fold();
    }
    assert_eq!(b.pairs.idle.capacity(), capacity);
    assert_eq!(b.pairs.idle.len(), n, "each slot once");
    // All of them are held: each new pair looks at a few, and takes their lines away for good.
    assert_eq!(b.acquire(&key(200)), Bank::other(key(200).endpoint));
    assert_eq!(b.pairs.idle.len(), n - ATTEMPTS);
    for _ in 0..3 {
        let _ = b.acquire(&key(200));
    }
    assert!(b.pairs.idle.is_empty());
}

#[test]
fn every_pair_has_a_slot_and_those_at_rest_are_taken_before_more_are_used() {
    let pair = |n: usize| PairKey { client: Addr::v4((n as u32).to_be_bytes()), ..key(0) };
    let mut b = Bench::new(USED_FREELY + 2);
    let slots: Vec<_> = (0..USED_FREELY).map(|n| b.acquire(&pair(n))).collect();
    assert!(slots.iter().enumerate().all(|(n, slot)| slot.index() == n), "each has its own");
    b.release(slots[7]);
    let more = b.acquire(&pair(USED_FREELY));
    assert_eq!(more.index(), USED_FREELY, "what was let go is not at rest yet");
    for _ in 0..REST {
        b.fold();
    }
    assert_eq!(b.acquire(&pair(USED_FREELY + 1)), slots[7]);
    assert_eq!(b.acquire(&pair(USED_FREELY + 2)).index(), USED_FREELY + 1);
    assert_eq!(b.acquire(&pair(USED_FREELY + 3)), Bank::other(key(0).endpoint), "all are held");
    assert_eq!(b.shared.pair_slots().count(), ENDPOINTS + USED_FREELY + 2);
    assert_eq!(b.acquire(&pair(8)), slots[8], "and found again");
}

#[test]
fn no_slots_at_all() {
    let mut b = Bench::new(0);
    let slot = b.acquire(&key(1));
    assert_eq!(slot, Bank::other(key(1).endpoint));
    b.pairs.hold(&b.writer, slot);
    b.release(slot);
    b.release(slot);
}

#[derive(Clone, Debug)]
enum Op {
    Acquire(u8),
    Hold(usize),
    Release(usize),
    Count(usize),
    Fold,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..24u8).prop_map(Op::Acquire),
        1 => any::<usize>().prop_map(Op::Hold),
        4 => any::<usize>().prop_map(Op::Release),
        4 => any::<usize>().prop_map(Op::Count),
        2 => Just(Op::Fold),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against a ledger that knows who holds what: a pair has one slot as long as it is held, no two pairs share one, and what
    /// is folded under a key is what was counted for it, also where a packet is counted one tick after the last holder has gone.
    #[test]
    fn pairs_against_a_model(pairs in 1..8usize, ops in prop::collection::vec(op(), 1..400)) {
        let mut b = Bench::new(pairs);
        let mut held: Vec<(PairKey, PairSlot)> = Vec::new();
        let mut late: Vec<(PairKey, PairSlot)> = Vec::new();
        let mut ledger: HashMap<PairKey, u64> = HashMap::new();
        let own = |slot: PairSlot| slot.endpoint().is_none();
        let name = |key: &PairKey, slot: PairSlot| if own(slot) { *key } else { other(key.endpoint) };
        for op in ops {
            match op {
                Op::Acquire(n) => {
                    let slot = b.acquire(&key(n));
                    for &(k, s) in &held {
                        if k == key(n) && own(s) {
                            prop_assert_eq!(s, slot, "a held pair keeps its slot");
                        }
                        prop_assert!(!own(slot) || s != slot || k == key(n), "two pairs in one slot");
                    }
                    if !own(slot) {
                        prop_assert_eq!(slot, Bank::other(key(n).endpoint));
                    } else {
                        prop_assert_eq!(b.shared.pair_key(slot), key(n));
                    }
                    held.push((key(n), slot));
                }
                Op::Hold(i) if !held.is_empty() => {
                    let (k, s) = held[i % held.len()];
                    b.pairs.hold(&b.writer, s);
                    held.push((k, s));
                }
                Op::Release(i) if !held.is_empty() => {
                    let (k, s) = held.swap_remove(i % held.len());
                    b.release(s);
                    late.push((k, s));
                }
                Op::Count(i) if !held.is_empty() => {
                    let (k, s) = held[i % held.len()];
                    b.count(s);
                    *ledger.entry(name(&k, s)).or_default() += 1;
                }
                Op::Fold => {
                    b.fold();
                    for (k, s) in late.drain(..) {
                        b.count(s);
                        *ledger.entry(name(&k, s)).or_default() += 1;
                    }
                }
                _ => {}
            }
            prop_assert!(b.pairs.idle.len() <= pairs);
        }
        b.fold();
        b.fold();
        prop_assert_eq!(&b.folded, &ledger);
    }
}
