use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;
use crate::counters::Term;
use crate::metrics::device::{DeviceStats, KernelStats, PoolStats, PortStats};
use crate::metrics::handover::Next;
use crate::metrics::{Clock, Exposition, Stale, Ticker};

fn clock() -> Clock {
    let start = std::time::Instant::now();
    Arc::new(move || Instant(start.elapsed().as_nanos() as u64))
}

/// Two workers that turn as fast as they can, one that pauses; snapshots of 50 ms. What was counted is what is served.
#[test]
fn real_threads() {
    let mut settings = settings(10);
    settings.metrics.tick = Duration::from_millis(50);
    let ((one, mut first), (two, mut other)) = (shared(SIZES), shared(SIZES));
    let aggregator = Aggregator::new(settings, vec![one, two], &names(), 1);
    let publication = aggregator.publication();
    let clock = clock();
    let ticker = Ticker::start(aggregator, Arc::clone(&clock), || ()).unwrap();
    assert!(publication.last().is_some(), "there is a snapshot from the start");

    let count = |newest: &Exposition, name: &str| {
        Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap().count(name, &[])
    };
    // A machine that keeps one of the threads from running makes snapshots old for as long.
    let rx = || {
        let deadline = clock().after(Duration::from_secs(10));
        loop {
            match publication.newest(clock()) {
                Ok(newest) => return count(&newest, "pollux_rx_packets_total"),
                Err(stale) => assert!(clock() < deadline, "{stale}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let (stop, hang) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut counted, mut paused) = (0, false);
    std::thread::scope(|scope| {
        let workers = [&mut first, &mut other].map(|writer| {
            let (stop, hang, clock) = (&stop, &hang, Arc::clone(&clock));
            scope.spawn(move || {
                let mut n = 0_u64;
                while !stop.load(Ordering::Acquire) {
                    if !hang.load(Ordering::Acquire) {
                        writer.bank().term(Term::Rx).add(1);
                        writer.bank().term(Term::Consumed).add(1);
                        n += 1;
                        writer.turn(clock());
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                // Let the last bank be folded.
                let until = clock().after(Duration::from_millis(500));
                while clock() < until {
                    writer.turn(clock());
                    std::thread::sleep(Duration::from_millis(1));
                }
                n
            })
        });
        let mut last = 0;
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(60));
            let now = rx();
            assert!(now >= last);
            last = now;
        }
        assert!(last > 0);
        hang.store(true, Ordering::Release);
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(20));
            if let Err(Stale::Snapshot(_) | Stale::Worker(..)) = publication.newest(clock()) {
                paused = true;
                break;
            }
        }
        hang.store(false, Ordering::Release);
        std::thread::sleep(Duration::from_millis(1200));
        assert!(rx() >= last, "it recovers");
        stop.store(true, Ordering::Release);
        counted = workers.map(|worker| worker.join().unwrap()).iter().sum();
        // Of workers that have ended: old in a moment, and the last word.
        let last = publication.last().unwrap();
        for name in ["pollux_rx_packets_total", "pollux_consumed_packets_total"] {
            assert_eq!(count(&last, name), counted, "{name}");
        }
    });
    assert!(paused, "a hanging worker makes the metrics stale");
    drop(ticker);
}

#[test]
fn a_reload_reaches_the_page_at_once() {
    let (one, _writer) = shared(SIZES);
    let aggregator = Aggregator::new(settings(10), vec![one], &Names::default(), 1);
    let publication = aggregator.publication();
    let clock = clock();
    let ticker = Ticker::start(aggregator, Arc::clone(&clock), || ()).unwrap();
    ticker.reconfigure(&settings(10).metrics, &names(), 2, || ());
    ticker.catch_up();
    let newest = publication.newest(clock()).unwrap();
    let s = Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap();
    assert_eq!(s.count("lb_rule_count", &[]), 2);
    assert_eq!(s.count("pollux_config_last_reload_successful", &[]), 1);
    ticker.reload_refused();
}

/// What was left at the handover is taken before the next fold, or the new series would not have its first count.
#[test]
fn a_fold_goes_by_what_was_left_before_it() {
    let (one, mut writer) = shared(SIZES);
    let mut aggregator = Aggregator::new(settings(10), vec![one], &Names::default(), 1);
    let metrics = Box::new(settings(10).metrics);
    let next = Next::Configuration { at: Instant::ZERO, metrics, names: names(), generation: 2 };
    aggregator.handover().give(next, || writer.bank().service(ServiceId(1)).created.add(3));
    aggregator.ask();
    writer.turn(second(10));
    assert_eq!(aggregator.step(second(10)), Step::Ticked);
    aggregator.publish();
    let publication = aggregator.publication();
    let newest = publication.last().unwrap();
    let s = Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap();
    assert_eq!(s.count("total_requests_per_service", &[("service", "[2001:db8::100]:53")]), 3);
    assert_eq!(s.count("pollux_config_generation", &[]), 2);
}

/// Devices that do not answer before they are told to: the aggregator is at a snapshot until then.
struct Slow {
    asked: mpsc::Sender<()>,
    answer: mpsc::Receiver<()>,
}

impl DeviceStats for Slow {
    fn ports(&mut self) -> Vec<PortStats> {
        let _ = self.asked.send(());
        let _ = self.answer.recv();
        Vec::new()
    }

    fn pools(&mut self) -> Vec<PoolStats> {
        Vec::new()
    }

    fn kernel(&mut self) -> KernelStats {
        KernelStats::default()
    }
}

/// A snapshot of very many series takes its time. A change of the configuration does not wait for it.
#[test]
fn a_reload_is_live_while_a_snapshot_is_made() {
    let (one, _writer) = shared(SIZES);
    let ((asked, is_asked), (answer, is_answered)) = (mpsc::channel(), mpsc::channel());
    let aggregator = Aggregator::new(settings(10), vec![one], &Names::default(), 1)
        .with_devices(Box::new(Slow { asked, answer: is_answered }));
    let publication = aggregator.publication();
    // Of the first one, and of the one in the midst of which the reload comes.
    answer.send(()).unwrap();
    let ticker = Ticker::start(aggregator, clock(), || ()).unwrap();
    is_asked.recv().unwrap();
    let shown = || {
        let newest = publication.last().unwrap();
        Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap().count("lb_rule_count", &[])
    };
    std::thread::scope(|scope| {
        let (first, is_live) = mpsc::channel();
        ticker.reconfigure(&settings(10).metrics, &named(vec![], vec![]), 2, || ());
        let ticker = &ticker;
        let catching_up = scope.spawn(|| ticker.catch_up());
        is_asked.recv().unwrap();
        scope.spawn(move || {
            ticker.reconfigure(&settings(10).metrics, &names(), 3, || first.send(()).unwrap());
            ticker.recount(&names());
        });
        is_live.recv_timeout(Duration::from_secs(10)).expect("live, and the snapshot is not made yet");
        assert!(!catching_up.is_finished());
        answer.send(()).unwrap();
        catching_up.join().unwrap();
        assert_eq!(shown(), 0);
        answer.send(()).unwrap();
        ticker.catch_up();
        assert_eq!(shown(), 2);
    });
}
