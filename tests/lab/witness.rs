//! Proof of stalls: what was late here because the machine did not run, and not because a program took its time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What it sleeps for at a time.
const TURN: Duration = Duration::from_millis(5);
/// Timers are no better than this; what is above it is a stall.
const FINE: Duration = Duration::from_millis(1);

/// A thread that does nothing but sleep, and remembers when it was woken too late.
pub struct Witness(Arc<Mutex<Seen>>);

struct Seen {
    /// When it should be awake again.
    due: Instant,
    /// From when it should have been awake, until it was.
    stalls: Vec<(Instant, Instant)>,
}

impl Witness {
    /// It looks until it is dropped.
    pub fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen { due: Instant::now() + TURN, stalls: Vec::new() }));
        let shared = Arc::downgrade(&seen);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TURN);
                let Some(seen) = shared.upgrade() else { return };
                let mut seen = seen.lock().expect("no panic");
                let now = Instant::now();
                if now > seen.due + FINE {
                    let stall = (seen.due, now);
                    seen.stalls.push(stall);
                }
                seen.due = now + TURN;
            }
        });
        Self(seen)
    }

    /// How long it was kept from running between these two.
    pub fn late(&self, from: Instant, to: Instant) -> Duration {
        let seen = self.0.lock().expect("no panic");
        // It may not have been woken from the last one yet.
        let last = (to > seen.due + FINE).then_some((seen.due, to));
        let stalls = seen.stalls.iter().copied().chain(last);
        stalls.map(|(due, awake)| awake.min(to).saturating_duration_since(due.max(from))).sum()
    }
}
