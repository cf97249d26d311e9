//! The hand-over under every order of events that the memory model allows. Run by
//! `RUSTFLAGS="--cfg pollux_loom" cargo test --release --lib counters::loom --target-dir target/loom`.

use ::loom::model::Builder;
use ::loom::thread;

use super::*;
use crate::addr::Addr;
use crate::ids::{EndpointId, PairSlot, ServiceId};

const SIZES: Sizes = Sizes { ports: 0, services: 0, endpoints: 1, rules: 0, snat: 0, pairs: 1 };

fn check(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(test);
}

/// Takes what a burst counted; both terms are counted in each, so a torn burst shows.
fn take(bank: &Bank) -> u64 {
    let (rx, forwarded) = (bank.term(Term::Rx).take(), bank.term(Term::Forwarded).take());
    assert_eq!(rx, forwarded, "a burst was torn apart");
    rx
}

#[test]
fn no_count_is_lost_or_doubled_and_a_bank_at_rest_is_never_written() {
    check(3, || {
        const BURSTS: u64 = 5;
        let (shared, mut writer) = WorkerCounters::new(SIZES);
        let worker = thread::spawn(move || {
            for _ in 0..BURSTS {
                writer.bank().term(Term::Rx).add(1);
                writer.bank().term(Term::Forwarded).add(1);
                writer.turn(Instant::ZERO);
            }
        });
        // As the aggregator does it: never waits for a worker, looks again later. Without yielding, which would tell loom to let the
        // worker run to its end.
        let mut total = 0;
        let mut tick = 1;
        shared.ask(tick);
        for _ in 0..5 {
            if let Some(bank) = shared.at_rest(tick) {
                total += take(bank);
                assert_eq!((bank.term(Term::Rx).get(), bank.term(Term::Forwarded).get()), (0, 0));
                tick += 1;
                shared.ask(tick);
            }
        }
        worker.join().unwrap();
        total += shared.banks.iter().map(|bank| take(bank)).sum::<u64>();
        assert_eq!(total, BURSTS);
    });
}

/// A slot is given to another pair while the aggregator folds: what it finds under the slot's key was counted for that pair.
#[test]
fn a_slot_changes_hands_between_folds_only() {
    check(2, || {
        let (shared, mut writer) = WorkerCounters::new(SIZES);
        let pair = |client| PairKey {
            service: ServiceId(0),
            endpoint: EndpointId(0),
            client: Addr::v4([192, 0, 2, client]),
        };
        let worker = thread::spawn(move || {
            let mut pairs = Pairs::new(SIZES, (0, 0));
            let slot = pairs.acquire(&writer, &pair(1));
            pairs.release(&writer, slot);
            writer.turn(Instant::ZERO);
            writer.bank().pair(slot).packets.add(1); // late: perhaps a tick after it was let go
            let mut second = Bank::other(EndpointId(0));
            while second != slot {
                writer.turn(Instant::ZERO);
                second = pairs.acquire(&writer, &pair(2));
                pairs.release(&writer, second);
                thread::yield_now();
            }
            writer.bank().pair(second).packets.add(2);
            while writer.tick() < 5 {
                writer.turn(Instant::ZERO);
                thread::yield_now();
            }
        });
        let slot = PairSlot(0);
        let mut by_client = [0, 0];
        for tick in 1..=5 {
            shared.ask(tick);
            let bank = loop {
                match shared.at_rest(tick) {
                    Some(bank) => break bank,
                    None => thread::yield_now(),
                }
            };
            let n = bank.pair(slot).packets.take();
            if n != 0 {
                by_client[usize::from(shared.pair_key(slot) == pair(2))] += n;
            }
        }
        worker.join().unwrap();
        for bank in &shared.banks {
            let n = bank.pair(slot).packets.take();
            by_client[1] += n;
        }
        assert_eq!(by_client, [1, 2]);
    });
}
