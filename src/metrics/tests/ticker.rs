use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::counters::Term;
use crate::metrics::{Clock, Stale, Ticker};

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
    assert!(publication.newest(clock()).is_ok(), "there is a snapshot from the start");

    let read = |name: &str| {
        let newest = publication.newest(clock()).unwrap();
        Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap().count(name, &[])
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
            let rx = read("pollux_rx_packets_total");
            assert!(rx >= last);
            last = rx;
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
        assert!(read("pollux_rx_packets_total") >= last, "it recovers");
        stop.store(true, Ordering::Release);
        counted = workers.map(|worker| worker.join().unwrap()).iter().sum();
        assert_eq!(read("pollux_rx_packets_total"), counted);
        assert_eq!(read("pollux_consumed_packets_total"), counted);
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
    let newest = publication.newest(clock()).unwrap();
    let s = Scrape::parse(std::str::from_utf8(&newest.text).unwrap()).unwrap();
    assert_eq!(s.count("lb_rule_count", &[]), 2);
    assert_eq!(s.count("pollux_config_last_reload_successful", &[]), 1);
    ticker.reload_refused();
}
