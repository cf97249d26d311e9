//! SIGTERM under traffic: not ready at once, forwarding until the delay has passed, then a clean end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::engine::Engine;
use crate::net::signal;
use crate::rig::{Lab, ask, config, talk};

const DELAY: Duration = Duration::from_secs(3);

#[test]
fn it_forwards_for_the_delay_and_ends_cleanly() {
    let lab = Lab::new();
    let delay = format!("shutdown_delay = \"{}s\"", DELAY.as_secs());
    let mut engine = Engine::start(&lab.lb, lab.dir(), &config(&delay, ""));
    let mut old = lab.connect().expect("a connection");
    let datagrams = lab.datagrams();
    talk(&mut old).expect("an echo");
    ask(&datagrams).expect("an echo");
    assert_eq!(lab.status("/readyz"), 200);

    let began = Instant::now();
    signal(engine.pid(), Signal::TERM);
    while lab.status("/readyz") != 503 {
        assert!(began.elapsed() < Duration::from_millis(500), "it is still ready");
    }
    let mut turns = 0;
    // A margin of half a second: what is asked must be answered before the end.
    while began.elapsed() < DELAY - Duration::from_millis(500) {
        let at = began.elapsed();
        talk(&mut old).unwrap_or_else(|e| panic!("{at:?}: the old connection: {e}"));
        ask(&datagrams).unwrap_or_else(|e| panic!("{at:?}: datagrams: {e}"));
        let mut new = lab.connect().unwrap_or_else(|e| panic!("{at:?}: a new connection: {e}"));
        talk(&mut new).unwrap_or_else(|e| panic!("{at:?}: over a new connection: {e}"));
        assert_eq!((lab.status("/readyz"), lab.status("/healthz")), (503, 200), "{at:?}");
        turns += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    // Many more where the machine has nothing else to do.
    assert!(turns >= 2, "{turns} turns");
    let (status, said) = engine.outcome(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
    assert!(said.contains("stopping in 3 s; a second signal stops at once"), "{said}");
    // Nothing of it is left.
    assert_eq!(lab.lb.sh("nft list tables"), "");

    // A second signal, of either kind, cuts the delay short; without one there is none to cut.
    let long = config("shutdown_delay = \"60s\"", "");
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let engine = Engine::start(&lab.lb, lab.dir(), &long);
        signal(engine.pid(), first);
        std::thread::sleep(Duration::from_millis(300));
        ask(&lab.datagrams()).expect("it forwards yet");
        let status = engine.stop(second, Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{first:?}, {second:?}");
    }
    let engine = Engine::start(&lab.lb, lab.dir(), &config("", ""));
    assert_eq!(engine.stop(Signal::INT, Duration::from_secs(5)).code(), Some(0));
}
