//! New tables on their way to the workers, and the old ones on their way back.
//!
//! A worker never waits, allocates or frees for it: between two bursts it takes the new pointer out of a ring of its own, and
//! puts the old one into another. The publisher frees tables when every worker has given them back.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};
use thiserror::Error;

use crate::tables::Tables;

/// Tables on their way to one worker, and back. A worker that is that far behind is stuck.
const QUEUE: usize = 8;
/// How long a worker is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(50);

/// A worker does not take new tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("worker {0} has not gone round its loop for two seconds")]
pub struct Stuck(pub usize);

/// The control threads' side.
#[derive(Debug)]
pub(super) struct Publisher {
    workers: Vec<Way>,
}

#[derive(Debug)]
struct Way {
    to: Producer<Arc<Tables>>,
    back: Consumer<Arc<Tables>>,
    /// Sent, and the one before not given back.
    behind: usize,
}

/// A worker's side.
#[derive(Debug)]
pub(super) struct Subscription {
    new: Consumer<Arc<Tables>>,
    old: Producer<Arc<Tables>>,
}

impl Publisher {
    /// Ways to so many workers.
    pub fn new(workers: usize) -> (Self, Vec<Subscription>) {
        let (workers, subscriptions) = (0..workers)
            .map(|_| {
                let (to, new) = RingBuffer::new(QUEUE);
                let (old, back) = RingBuffer::new(QUEUE);
                (Way { to, back, behind: 0 }, Subscription { new, old })
            })
            .unzip();
        (Self { workers }, subscriptions)
    }

    /// Waits until every worker can be told.
    ///
    /// # Errors
    /// One that cannot.
    pub fn ready(&mut self) -> Result<(), Stuck> {
        self.wait(|way| way.behind < QUEUE)
    }

    /// Tells every worker, and waits until each goes by these tables. Not without [`ready`](Self::ready) before.
    ///
    /// # Errors
    /// A worker that has not answered yet; it finds the tables when it does.
    pub fn publish(&mut self, tables: &Arc<Tables>) -> Result<(), Stuck> {
        for way in &mut self.workers {
            if way.to.push(Arc::clone(tables)).is_ok() {
                way.behind += 1;
            }
        }
        self.wait(|way| way.behind == 0)
    }

    fn wait(&mut self, done: impl Fn(&Way) -> bool) -> Result<(), Stuck> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut late = None;
            for (number, way) in self.workers.iter_mut().enumerate() {
                // Freed here, where that may take its time.
                while way.back.pop().is_ok() {
                    way.behind -= 1;
                }
                if !done(way) {
                    late = Some(number);
                }
            }
            match late {
                None => return Ok(()),
                Some(number) if Instant::now() >= deadline => return Err(Stuck(number)),
                Some(_) => thread::sleep(LOOK),
            }
        }
    }
}

impl Subscription {
    /// Between two bursts: goes over to new tables, where there are any. `changed` gets the old and the new ones.
    #[inline]
    pub fn turn(&mut self, tables: &mut Arc<Tables>, changed: impl FnOnce(&Tables, &Tables)) -> bool {
        let Ok(new) = self.new.pop() else { return false };
        changed(tables, &new);
        let old = std::mem::replace(tables, new);
        // There is room: no more tables come than places are free. Were there none, the publisher has these still.
        let _ = self.old.push(old);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::tables::{Slots, Tables};

    fn tables() -> Arc<Tables> {
        let (config, _) = config::parse("t", "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\n").unwrap();
        let links =
            [crate::tables::LinkInfo { mac: crate::addr::Mac([2, 0, 0, 0, 0, 1]), promiscuous: false }];
        Arc::new(Tables::compile(&config, &links, &mut Slots::default()))
    }

    #[test]
    fn the_old_tables_are_freed_by_the_publisher_once_all_have_passed_on() {
        let (mut publisher, mut subscriptions) = Publisher::new(2);
        let old = tables();
        let mut at: Vec<_> = (0..2).map(|_| Arc::clone(&old)).collect();
        let freed = Arc::downgrade(&old);
        drop(old);
        let new = tables();
        let published = thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                publisher.ready().unwrap();
                publisher.publish(&new)
            });
            for (subscription, at) in subscriptions.iter_mut().zip(&mut at) {
                thread::sleep(Duration::from_millis(20));
                assert!(freed.upgrade().is_some() && !publishing.is_finished(), "not all have passed on");
                while !subscription.turn(at, |_, _| {}) {}
            }
            publishing.join().unwrap()
        });
        assert_eq!(published, Ok(()));
        assert!(freed.upgrade().is_none());
        assert!(at.iter().all(|at| Arc::ptr_eq(at, &new)));
        assert!(!subscriptions[0].turn(&mut at[0], |_, _| {}), "once");
    }

    #[test]
    fn a_stuck_worker_is_named_and_catches_up() {
        let (mut publisher, mut subscriptions) = Publisher::new(1);
        let all: Vec<_> = (0..QUEUE).map(|_| tables()).collect();
        let mut at = tables();
        for tables in &all {
            publisher.workers[0].to.push(Arc::clone(tables)).unwrap();
            publisher.workers[0].behind += 1;
        }
        assert_eq!(publisher.ready(), Err(Stuck(0)));
        while subscriptions[0].turn(&mut at, |_, _| {}) {}
        assert_eq!(publisher.ready(), Ok(()));
        assert!(Arc::ptr_eq(&at, &all[QUEUE - 1]), "the newest");
    }
}
