//! The listing of connections: control threads ask, each worker answers for its own table when it has time.
//!
//! A job goes to a worker through a ring, with the memory for its answer, and comes back when that is full or the table has
//! been gone through. The worker looks at a few entries in a turn that had packets, and in one that had none at as many as a
//! bound of time allows: nothing waits for it, and it allocates nothing.

use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Age, Conntrack, Flow, Form, View};
use crate::counters::FlowState;
use crate::ids::{EndpointId, PairSlot, PortId, ServiceId, SourceId};
use crate::time::Instant as Now;

/// Entries that are looked at before the clock is: all that a turn with packets does.
const PIECE: usize = 16;
/// A turn without packets begins no piece after this: less than half of what a packet that comes meanwhile may wait.
const SLACK: Duration = Duration::from_micros(20);
/// Most connections of one job.
const PAGE: usize = 1024;
/// Most entries that one job looks at: a table of millions takes several jobs, so that patience need not grow with it.
const SPAN: usize = 1 << 18;
/// Between two looks whether a job is done.
const LOOK: Duration = Duration::from_millis(1);
/// For a job: at 16 entries a turn, and turns of 100 µs, it takes 1.6 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which connections are wanted: all that agree with everything that is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Of this service.
    pub service: Option<ServiceId>,
    /// Of this client.
    pub client: Option<Addr>,
    /// With this endpoint, at this port.
    pub endpoint: Option<(Addr, Option<u16>)>,
}

impl Wanted {
    #[inline]
    fn takes(&self, view: &View<'_>) -> bool {
        if self.service.is_some_and(|service| service != view.service()) {
            return false;
        }
        if self.client.is_none() && self.endpoint.is_none() {
            return true;
        }
        let [client, _, endpoint] = view.addresses();
        self.client.is_none_or(|wanted| wanted == client)
            && self.endpoint.is_none_or(|(addr, port)| {
                addr == endpoint && port.is_none_or(|port| port == view.entry().endpoint_port())
            })
    }
}

/// A connection, and how it stood when it was looked at.
pub type Listed = (Flow, Age);

/// Memory for one.
const BLANK: Listed = (
    Flow {
        client: Addr(0),
        vip: Addr(0),
        endpoint: Addr(0),
        client_port: 0,
        vip_port: 0,
        endpoint_port: 0,
        protocol: Protocol::Tcp,
        ingress: PortId(0),
        service: ServiceId(0),
        endpoint_id: EndpointId(0),
        pair: PairSlot(0),
        delta: [0; 2],
        next_hop: [0; 2],
        epoch: 0,
        idle_timeout_ms: 0,
        form: Form::Dnat,
        source: SourceId(0),
        source_port: 0,
    },
    Age { state: FlowState::Closed, age_ms: 0, idle_ms: 0, left_ms: 0, packets: 0, bytes: 0 },
);

/// A worker has not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("worker {0} has not answered in time")]
pub struct Late(pub usize);

struct Job {
    wanted: Wanted,
    from: usize,
    /// Here it ends, whatever it has found.
    until: usize,
    /// Where to go on; none: the table has been gone through.
    next: Option<usize>,
    most: usize,
    found: Vec<Listed>,
}

impl Job {
    /// Looks at the next entries. Whether it is done.
    fn piece(&mut self, connections: &Conntrack) -> bool {
        let Self { wanted, from, until, most, found, .. } = self;
        // Never more than there is memory for.
        let most = (*most).min(found.capacity());
        let next = connections.show(
            *from,
            PIECE,
            |view| wanted.takes(view),
            |flow, age| {
                let room = found.len() < most;
                if room {
                    found.push((flow, age));
                }
                room
            },
        );
        let full = found.len() == most || next.is_some_and(|next| next >= *until);
        self.next = next;
        match next {
            Some(next) if !full => {
                self.from = next;
                false
            }
            _ => true,
        }
    }
}

/// A worker's side.
pub(super) struct Clerk {
    asked: Consumer<Box<Job>>,
    done: Producer<Box<Job>>,
    job: Option<Box<Job>>,
}

impl Clerk {
    /// One whom nobody can ask.
    pub fn alone() -> Self {
        Desk::new().1
    }

    /// Once a turn: goes on with what was asked. Whether there was anything.
    #[inline]
    pub fn turn(&mut self, connections: &Conntrack, busy: bool, now: impl Fn() -> Now) -> bool {
        if self.job.is_none() {
            match self.asked.pop() {
                Ok(job) => self.job = Some(job),
                Err(_) => return false,
            }
        }
        self.go_on(connections, busy, now);
        true
    }

    #[cold]
    fn go_on(&mut self, connections: &Conntrack, busy: bool, now: impl Fn() -> Now) {
        let Some(job) = &mut self.job else { return };
        let began = now();
        loop {
            if job.piece(connections) {
                // There is room: no more jobs are out than places are in the ring.
                drop(self.job.take().map(|job| self.done.push(job)));
                return;
            }
            if busy || now().since(began) >= SLACK {
                return;
            }
        }
    }
}

/// The control threads' side of one worker.
struct Desk {
    to: Producer<Box<Job>>,
    back: Consumer<Box<Job>>,
    /// Not out.
    job: Option<Box<Job>>,
}

impl Desk {
    fn new() -> (Self, Clerk) {
        let (to, asked) = RingBuffer::new(1);
        let (done, back) = RingBuffer::new(1);
        (Self { to, back, job: None }, Clerk { asked, done, job: None })
    }

    /// The one job that there is for this worker, once it is back.
    async fn job(&mut self, deadline: Instant) -> Option<Box<Job>> {
        loop {
            if let Some(job) = self.job.take().or_else(|| self.back.pop().ok()) {
                return Some(job);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(LOOK).await;
        }
    }
}

/// Where connections are asked for.
pub struct Listing {
    workers: Vec<Mutex<Desk>>,
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("workers", &self.workers.len()).finish()
    }
}

impl Listing {
    /// Of so many workers.
    pub(super) fn new(workers: usize) -> (Self, Vec<Clerk>) {
        let (desks, clerks): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (mut desk, clerk) = Desk::new();
                // Touched here, or the worker would have its pages made by the kernel, in the midst of packets.
                let mut found = vec![BLANK; PAGE];
                found.clear();
                desk.job = Some(Box::new(Job {
                    wanted: Wanted::default(),
                    from: 0,
                    until: 0,
                    next: None,
                    most: 0,
                    found,
                }));
                (Mutex::new(desk), clerk)
            })
            .unzip();
        (Self { workers: desks }, clerks)
    }

    /// Workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Up to `most` of a worker's connections that are `wanted`, from entry `from` of its table on, and where to go on; nowhere
    /// at the table's end. Not more of the table is looked at, and not more of an answer given at once, than has its place: ask again. A connection that is there
    /// all the time is seen once.
    ///
    /// # Errors
    /// A worker that hangs, or is not there.
    pub async fn page(
        &self,
        worker: usize,
        wanted: Wanted,
        from: usize,
        most: usize,
    ) -> Result<(Vec<Listed>, Option<usize>), Late> {
        let deadline = Instant::now() + PATIENCE;
        let mut desk = self.workers.get(worker).ok_or(Late(worker))?.lock().await;
        // One that nobody waited for may be out yet.
        let mut job = desk.job(deadline).await.ok_or(Late(worker))?;
        job.found.clear();
        (job.wanted, job.from, job.until) = (wanted, from, from.saturating_add(SPAN));
        (job.most, job.next) = (most.clamp(1, PAGE), None);
        // There is room: it is the only one.
        drop(desk.to.push(job));
        let job = desk.job(deadline).await.ok_or(Late(worker))?;
        let answer = (job.found.clone(), job.next);
        desk.job = Some(job);
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
