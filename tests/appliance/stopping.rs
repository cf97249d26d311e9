//! SIGTERM under traffic: not ready at once, forwarding until the delay has passed, then a clean end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::engine::Engine;
use crate::net::signal;
use crate::rig::{Lab, ask, config, talk, wait_until};

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
    loop {
        // An answer may be read late; it is of the time at which it was asked for.
        let asked = began.elapsed();
        if lab.status("/readyz") == 503 {
            break;
        }
        assert!(asked < Duration::from_millis(500), "it is still ready");
    }
    let mut turn = || {
        let says = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
        talk(&mut old).map_err(says("the old connection"))?;
        ask(&datagrams).map_err(says("datagrams"))?;
        let mut new = lab.connect().map_err(says("a new connection"))?;
        talk(&mut new).map_err(says("over a new connection"))?;
        let pages = ["/readyz", "/healthz"].map(|path| lab.status(path));
        if pages == [503, 200] { Ok(()) } else { Err(format!("{pages:?}")) }
    };
    let mut turns = 0;
    // A margin of half a second: what is asked must be answered before the end.
    while began.elapsed() < DELAY - Duration::from_millis(500) {
        let at = began.elapsed();
        if let Err(wrong) = turn() {
            // The end may overtake what was asked for shortly before it, and nothing else.
            assert!(at > DELAY / 2 && began.elapsed() >= DELAY, "{at:?}: {wrong}");
            break;
        }
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
        // Two of a kind that come before it looks are one.
        wait_until("it is not ready any more", 10, || lab.status("/readyz") == 503);
        ask(&lab.datagrams()).expect("it forwards yet");
        let status = engine.stop(second, Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{first:?}, {second:?}");
    }
    let engine = Engine::start(&lab.lb, lab.dir(), &config("", ""));
    assert_eq!(engine.stop(Signal::INT, Duration::from_secs(5)).code(), Some(0));
}
