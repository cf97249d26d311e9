use super::*;
use crate::config::Protocol;
use crate::ids::{EndpointId, PairSlot, RuleId, ServiceId};
use crate::pipeline::DropReason;

const SIZES: Sizes = Sizes { ports: 2, services: 2, endpoints: 3, rules: 1, snat: 0, pairs: 4 };

#[test]
fn counts_of_a_tick_rest_until_the_next_is_asked_for() {
    let (shared, mut writer) = WorkerCounters::new(SIZES);
    writer.bank().term(Term::Rx).add(3);
    shared.ask(1);
    assert!(shared.at_rest(1).is_none(), "the worker has not answered");
    writer.bank().term(Term::Rx).add(1);
    writer.turn(Instant(7));
    assert_eq!(shared.heartbeat(), Instant(7));
    writer.bank().term(Term::Rx).add(100);

    let bank = shared.at_rest(1).unwrap();
    assert_eq!(bank.term(Term::Rx).take(), 4);
    assert_eq!(bank.term(Term::Rx).get(), 0);
    writer.turn(Instant(8));
    assert_eq!(writer.tick(), 1, "no switch without being asked");

    shared.ask(2);
    writer.turn(Instant(9));
    assert_eq!(shared.at_rest(2).unwrap().term(Term::Rx).take(), 100);
    assert!(shared.at_rest(1).is_none());
}

#[test]
fn a_forwarded_frame_counts_as_processed_when_the_device_takes_it() {
    let (_, writer) = WorkerCounters::new(SIZES);
    let account = Account { flow: None, pair: PairSlot(3), bytes: 100, icmp_error: None };
    writer.transmitted(PortId(1), 114, Some(&account));
    writer.transmitted(
        PortId(1),
        114,
        Some(&Account { icmp_error: Some(ServiceId(1)), bytes: 56, ..account }),
    );
    writer.transmitted(PortId(0), 60, None);
    writer.tx_dropped(PortId(0));

    let bank = writer.bank();
    assert_eq!((bank.term(Term::Tx).get(), bank.term(Term::TxDropped).get()), (3, 1));
    assert_eq!((bank.pair(PairSlot(3)).packets.get(), bank.pair(PairSlot(3)).bytes.get()), (2, 156));
    let service = bank.service(ServiceId(1));
    assert_eq!((service.icmp_error_packets.get(), service.icmp_error_bytes.get()), (1, 56));
    let port = bank.port(PortId(1));
    assert_eq!((port.tx_packets.get(), port.tx_bytes.get(), port.tx_dropped.get()), (2, 228, 0));
    assert_eq!(bank.port(PortId(0)).tx_dropped.get(), 1);
}

#[test]
fn every_counter_of_a_bank_is_one_of_its_own() {
    let (_, writer) = WorkerCounters::new(SIZES);
    let bank = writer.bank();
    let mut all: Vec<&Counter> = Vec::new();
    all.extend(Term::ALL.map(|t| bank.term(t)));
    all.extend(DropReason::ALL.iter().map(|&r| bank.dropped(r)));
    all.extend(Protocol::ALL.iter().flat_map(|&p| FlowState::ALL.map(|s| bank.flows(p, s))));
    all.extend((0..2).flat_map(|p| {
        let c = bank.port(PortId(p));
        [&c.rx_packets, &c.rx_bytes, &c.tx_packets, &c.tx_bytes, &c.tx_dropped]
    }));
    all.extend((0..2).map(|s| &bank.service(ServiceId(s)).created));
    all.push(bank.rule(RuleId(0)));
    all.extend((0..4).map(|p| &bank.pair(PairSlot(p)).packets));
    all.extend((0..3).map(|e| &bank.pair(Bank::other(EndpointId(e))).packets));
    all.extend((0..3).map(|e| &bank.endpoint(EndpointId(e)).connections));
    for counter in &all {
        counter.add(1);
    }
    assert!(all.iter().all(|c| c.get() == 1));
    assert_eq!(Bank::other(EndpointId(2)).endpoint(), Some(EndpointId(2)));
    assert_eq!(PairSlot(2).endpoint(), None);
}

#[test]
fn a_gauge_delta_may_fall_below_zero_and_comes_right_in_the_sum() {
    let c = Counter::default();
    c.sub(2);
    let mut total = c.take();
    c.add(5);
    total = total.wrapping_add(c.take());
    assert_eq!(total, 3);
}

/// A worker and an aggregator in threads of their own: nothing is lost or doubled, and no burst is torn apart.
#[test]
fn two_threads() {
    let (shared, mut writer) = WorkerCounters::new(SIZES);
    const BURSTS: u64 = 200_000;
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut rx, mut tick) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..BURSTS {
                let bank = writer.bank();
                bank.term(Term::Rx).add(2);
                bank.dropped(DropReason::Firewall).add(1);
                bank.term(Term::Punted).add(1);
                writer.turn(Instant(i));
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        loop {
            let last = done.load(std::sync::atomic::Ordering::Acquire);
            tick += 1;
            shared.ask(tick);
            let bank = loop {
                if let Some(bank) = shared.at_rest(tick) {
                    break bank;
                }
                if last {
                    // The worker is gone: its counts lie in both banks.
                    rx += shared.banks.iter().map(|b| b.term(Term::Rx).take()).sum::<u64>();
                    return;
                }
                if done.load(std::sync::atomic::Ordering::Acquire) {
                    shared.agreed.store(tick, Ordering::Relaxed);
                }
                std::hint::spin_loop();
            };
            let n = bank.term(Term::Rx).take();
            let parts = bank.term(Term::Punted).take() + bank.dropped(DropReason::Firewall).take();
            assert_eq!(n, parts, "a burst was torn apart");
            rx += n;
        }
    });
    assert_eq!(rx, 2 * BURSTS);
}
