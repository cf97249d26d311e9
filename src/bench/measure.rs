//! Rounds: pipeline and reference by turns over the same packets, until the time is up; medians of what came out.

use std::time::{Duration, Instant as Wall};

use rustix::time::{ClockId, clock_gettime};

use super::case::{Case, Spec};
use super::lane::{self, Lane, Store};
use super::reference::Touch;
use super::report::Row;
use super::traffic::{Step, Traffic};
use super::world::{LAN, WAN};
use super::{BenchError, Options, workers};
use crate::conntrack::Conntrack;
use crate::counters::{PairCounters, Pairs};
use crate::dpdk::{Clock, Eal, Mempool};
use crate::time::Instant;

/// Frames in the cache at once: two bursts, whose buffers and data fill half of a small L1.
const HOT: usize = 64;
/// Frames brought at once where they come from memory: as many as a NIC's RX ring has.
pub const COLD: usize = 1024;
/// Rounds that a case has at least.
pub const LEAST_ROUNDS: usize = 3;
/// Share of a pass that the machine may have been elsewhere.
pub const STOLEN: f64 = 0.05;
/// How long a half-open connection lives: in which time as many come as there shall be.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// What the cases share.
pub struct Rig<'a> {
    pub eal: &'a Eal,
    pub clock: Clock,
    pub pool: &'a Mempool,
    pub options: &'a Options,
    /// Frames of a pass, which are all there are where they come from memory.
    pub frames: usize,
    /// CPUs that may be used; the last is this thread's.
    pub cpus: &'a [usize],
}

impl Rig<'_> {
    /// Measures one case.
    ///
    /// # Errors
    /// Memory that is missing; a packet that was not forwarded.
    pub fn measure(&self, spec: &Spec) -> Result<Row, BenchError> {
        if spec.workers > 1 {
            return workers::measure(self, spec);
        }
        let traffic = Traffic::new(spec, self.options.packet_size);
        let chunk = if spec.case == Case::EstablishedHot { HOT } else { COLD.min(self.frames) };
        let store = self.frames(if spec.case == Case::EstablishedHot { HOT } else { self.frames })?;
        let mut lane = self.lane(spec, chunk)?;
        let mut run = Run {
            next: Next::new(spec),
            spec,
            traffic: &traffic,
            store,
            chunk,
            passes: self.frames / chunk,
            lane: &mut lane,
        };
        run.prepare()?;
        let rounds = run.rounds(Duration::from_secs_f64(self.options.seconds))?;
        run.lane.tick();
        if !run.lane.books.balances() {
            return Err(BenchError::Lost(run.lane.books.clone()));
        }
        Ok(Row {
            spec: *spec,
            bytes_per_connection: bytes_per_connection(spec),
            cycles_per_nano: self.clock.cycles_per_nano(),
            frame_bytes: traffic.len_of(run.next.step()),
            packets: run.lane.books.tx,
            ..rounds
        })
    }

    /// The one worker of a case with one.
    pub fn lane(&self, spec: &Spec, chunk: usize) -> Result<Lane, BenchError> {
        lane::lanes(self, spec, "bench", chunk)?.pop().ok_or(BenchError::Internal("no worker"))
    }

    /// So many buffers.
    pub fn frames(&self, n: usize) -> Result<Store, BenchError> {
        let mut store = Store::with_capacity(n + 1);
        while store.len() < n {
            store.push_back(self.pool.frame(&[]).ok_or(BenchError::Internal("too few buffers"))?);
        }
        Ok(store)
    }
}

/// Bytes of a connection's entry, its places in the index, and its share of pair slots and their counters, at the capacity
/// that the case's table has.
pub fn bytes_per_connection(spec: &Spec) -> f64 {
    let capacity = lane::capacity(spec);
    let pairs = lane::pairs(spec);
    let bytes =
        Conntrack::bytes(capacity, !spec.ipv4) + Pairs::bytes(pairs) + pairs * 2 * size_of::<PairCounters>();
    bytes as f64 / capacity as f64
}

/// Which connection the next packet is of.
enum Next {
    /// Any of so many.
    Random(Random),
    /// One that there was not before, in no order that memory would notice: those of so many at a time by turns.
    Fresh { next: usize, among: usize },
}

impl Next {
    /// Fresh connections are told apart by 24 bits: more than any table here holds, half as many clients as there are addresses.
    const ALL: usize = 1 << 24;

    /// A client's connections come among so many of all clients.
    const TOGETHER: usize = 1 << 16;

    fn new(spec: &Spec) -> Self {
        match spec.case {
            Case::NewClients => Self::Fresh { next: 0, among: Self::ALL },
            Case::NewConnections | Case::NewAndExpire => Self::Fresh { next: 0, among: Self::TOGETHER },
            _ => Self::Random(Random::below(spec.connections)),
        }
    }

    const fn step(&self) -> Step {
        match self {
            Self::Random(_) => Step::Data,
            Self::Fresh { .. } => Step::Open,
        }
    }

    fn take(&mut self) -> usize {
        match self {
            Self::Random(random) => random.next(),
            Self::Fresh { next, among } => {
                *next = (*next + 1) % Self::ALL;
                // An odd factor: each number comes once.
                *next / *among * *among + next.wrapping_mul(0x9e37_79b1) % *among
            }
        }
    }
}

/// Numbers below a bound, by xorshift64*.
pub struct Random {
    state: u64,
    bound: usize,
}

impl Random {
    /// The same ones each time.
    pub const fn below(bound: usize) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, bound }
    }

    /// The next one.
    #[inline]
    pub fn next(&mut self) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(random) * self.bound as u128) >> 64) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The whole pipeline.
    Pipeline,
    /// The bare forward.
    Reference,
    /// Queues and harness alone.
    Harness,
}

/// What a pass took.
struct Pass {
    nanos_per_packet: f64,
    stolen: bool,
}

/// One case at work.
struct Run<'a> {
    next: Next,
    spec: &'a Spec,
    traffic: &'a Traffic,
    store: Store,
    chunk: usize,
    passes: usize,
    lane: &'a mut Lane,
}

impl Run<'_> {
    /// Connections that must be there first.
    fn prepare(&mut self) -> Result<(), BenchError> {
        match self.spec.case {
            Case::NewConnections | Case::NewClients => {
                // The tables' pages are touched, and all places are used again.
                self.fill()?;
                self.lane.expire();
            }
            // Until as many expire as come.
            Case::NewAndExpire => {
                for _ in 0..2 {
                    self.fill()?;
                }
            }
            _ => {
                let chunk = self.chunk;
                let connections = 0..self.spec.connections;
                self.lane.establish(self.traffic, self.spec, &mut self.store, chunk, connections)?;
            }
        }
        Ok(())
    }

    /// Opens as many connections as there may be.
    fn fill(&mut self) -> Result<(), BenchError> {
        let mut left = self.spec.connections;
        while left > 0 {
            let n = self.chunk.min(left);
            self.build(n)?;
            self.lane.chunk(&mut self.store, n, WAN, LAN)?;
            self.pass_time(n, 0);
            left -= n;
        }
        self.lane.tick();
        Ok(())
    }

    /// Writes the next `n` packets into the frames that are the next to be brought. All of a pass are written before the first
    /// is brought, so that those from memory have left the cache.
    fn build(&mut self, n: usize) -> Result<(), BenchError> {
        let step = self.next.step();
        for frame in self.store.iter_mut().take(n) {
            if !self.traffic.write(frame, step, self.next.take()) {
                return Err(BenchError::Internal("a buffer is too small"));
            }
        }
        Ok(())
    }

    fn rounds(&mut self, time: Duration) -> Result<Row, BenchError> {
        let (mut pipeline, mut reference, mut harness, mut ratios) = (vec![], vec![], vec![], vec![]);
        let mut disturbed = 0;
        let start = Wall::now();
        while pipeline.len() < LEAST_ROUNDS || start.elapsed() < time {
            let mut nanos = [0.0; 2];
            let mut stolen = false;
            for way in [Way::Pipeline, Way::Reference, Way::Reference, Way::Pipeline] {
                let pass = self.pass(way)?;
                nanos[way as usize] += pass.nanos_per_packet / 2.0;
                stolen |= pass.stolen;
            }
            let bare = self.pass(Way::Harness)?;
            // Whoever else wants the machine cannot keep this from an end.
            if (stolen || bare.stolen) && start.elapsed() < 2 * time {
                disturbed += 1;
                continue;
            }
            pipeline.push(nanos[0]);
            reference.push(nanos[1]);
            harness.push(bare.nanos_per_packet);
            ratios.push(nanos[0] / nanos[1]);
        }
        Ok(Row::of(*self.spec, pipeline, reference, harness, ratios, disturbed))
    }

    fn pass(&mut self, way: Way) -> Result<Pass, BenchError> {
        let cold = self.spec.case != Case::EstablishedHot;
        if way == Way::Pipeline && matches!(self.spec.case, Case::NewConnections | Case::NewClients) {
            let room = self.spec.connections - self.lane.connections();
            if room < self.chunk * self.passes {
                self.lane.expire();
            }
        }
        if cold {
            self.build(self.chunk * self.passes)?;
        }
        let (wall, cpu) = (Wall::now(), thread_time());
        let mut nanos = 0;
        for _ in 0..self.passes {
            if !cold {
                self.build(self.chunk)?;
            }
            nanos += self.one(way)?;
        }
        let (wall, cpu) = (wall.elapsed(), thread_time().saturating_sub(cpu));
        if !self.spec.case.is_established() && way == Way::Pipeline {
            self.lane.tick();
        }
        Ok(Pass {
            nanos_per_packet: nanos as f64 / (self.chunk * self.passes) as f64,
            stolen: wall.as_secs_f64() * (1.0 - STOLEN) > cpu.as_secs_f64(),
        })
    }

    /// One chunk.
    fn one(&mut self, way: Way) -> Result<u64, BenchError> {
        if way == Way::Pipeline {
            let nanos = self.lane.chunk(&mut self.store, self.chunk, WAN, LAN)?;
            self.pass_time(self.chunk, nanos);
            return Ok(nanos);
        }
        let touch = if way == Way::Reference { Touch::Swap } else { Touch::Nothing };
        self.lane.bare_chunk(&mut self.store, self.chunk, touch)
    }

    /// The pipeline's time: the real one, or as fast as makes as many expire as come.
    fn pass_time(&mut self, packets: usize, nanos: u64) {
        let passed = match self.spec.case {
            Case::NewAndExpire => HALF_OPEN.as_nanos() as u64 * packets as u64 / self.spec.connections as u64,
            _ => nanos,
        };
        self.lane.now = Instant(self.lane.now.0 + passed);
    }
}

/// What this thread has had of the CPU.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
