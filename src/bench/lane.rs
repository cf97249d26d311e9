//! The engine under test, between two wires, and how frames are brought to it and taken away without being timed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::BenchError;
use super::case::{Case, Spec};
use super::measure::Rig;
use super::reference::{self, Touch};
use super::traffic::{Step, Traffic};
use super::world::{self, LAN, WAN};
use crate::config::{Config, Protocol};
use crate::counters::{Bank, Term, WorkerCounters};
use crate::dpdk::{
    Clock, Eal, Mbuf, Mempool, PortSetup, RingConsumer, RingProducer, RxQueue, TxQueue, ring_port,
};
use crate::engine::stand::{Seat, Stand, StandConfig, stands};
use crate::ids::PortId;
use crate::metrics::{Aggregator, Settings};
use crate::pipeline::{DropReason, MAX_BURST};
use crate::tables::Tables;
use crate::time::Instant;

/// Most frames that are brought at once.
pub const MOST: usize = 1024;

/// Frames that wait to be brought, in their order.
pub type Store = VecDeque<Mbuf>;

/// A port made of rings, and the far ends.
pub struct Wire {
    pub rx: Vec<RxQueue>,
    pub tx: Vec<TxQueue>,
    pub inject: Vec<RingProducer>,
    pub collect: Vec<RingConsumer>,
}

impl Wire {
    /// A port with so many queues, each with room for `chunk` frames and no more: a ring's own places are to stay in the
    /// cache as a queue's descriptors do.
    pub fn new(
        eal: &Eal,
        pool: &Mempool,
        name: &str,
        queues: usize,
        chunk: usize,
    ) -> Result<Self, BenchError> {
        let (queues, size) = (queues as u16, (chunk as u32 + 1).next_power_of_two());
        let port = ring_port(eal, name, queues, queues, size)?;
        let setup = PortSetup {
            rx_queues: queues,
            tx_queues: queues,
            rx_descriptors: 512,
            tx_descriptors: 512,
            mtu: 1500,
            rss: None,
        };
        let (_, rx, tx) = port.device.start(&setup, pool)?;
        Ok(Self { rx, tx, inject: port.inject, collect: port.collect })
    }
}

/// Brings `chunk` frames from the front of the store, has them processed, and puts them back behind the others. Nanoseconds
/// of the processing alone, and whether all came out.
pub fn chunk(
    clock: Clock,
    store: &mut Store,
    chunk: usize,
    (inject, collect): (&mut RingProducer, &mut RingConsumer),
    mut process: impl FnMut(),
) -> (u64, bool) {
    let mut frames: ArrayVec<Mbuf, MOST> = store.drain(..chunk.min(store.len())).collect();
    let brought = inject.put(&mut frames);
    store.extend(frames);
    let start = clock.now();
    process();
    let end = clock.now();
    let mut frames = ArrayVec::<Mbuf, MOST>::new();
    let taken = collect.receive(MOST, &mut frames);
    store.extend(frames);
    (end.0.saturating_sub(start.0), taken == brought)
}

/// One worker between its wires.
pub struct Lane {
    pub stand: Stand,
    inject: [RingProducer; 2],
    collect: [RingConsumer; 2],
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// Folds that, where it is the only one.
    pub aggregator: Option<Aggregator>,
    /// The pipeline's time: it passes as the case wants.
    pub now: Instant,
    pub books: Books,
    clock: Clock,
    burst: usize,
}

/// An engine for this case, without connections, with a queue of each port for every worker.
pub fn lanes(rig: &Rig<'_>, spec: &Spec, name: &str, chunk: usize) -> Result<Vec<Lane>, BenchError> {
    let (config, tables) = world::tables(spec).map_err(|_| BenchError::Mode(spec.mode.name))?;
    let tables = Arc::new(tables);
    let mut wires = [
        Wire::new(rig.eal, rig.pool, &format!("{name}-wan"), spec.workers, chunk)?,
        Wire::new(rig.eal, rig.pool, &format!("{name}-lan"), spec.workers, chunk)?,
    ];
    let mut seats = Vec::new();
    for _ in 0..spec.workers {
        let pair = [WAN, LAN].into_iter().zip(&mut wires);
        // From the last one on, here and below.
        seats.push(
            pair.filter_map(|(port, wire)| Some(Seat { port, rx: wire.rx.pop()?, tx: wire.tx.pop()? }))
                .collect(),
        );
    }
    let capacity = capacity(spec);
    let common = StandConfig {
        tables: &tables,
        pool: rig.pool,
        clock: rig.clock,
        max_flows: capacity,
        sizes: tables.sizes(pairs(spec)),
        burst: rig.options.burst,
        seed: 1,
    };
    let [mut wan, mut lan] = wires;
    let mut lanes = Vec::new();
    for (stand, counters) in stands(&common, seats) {
        let ends = |wire: &mut Wire| wire.inject.pop().zip(wire.collect.pop());
        let (Some(wan), Some(lan)) = (ends(&mut wan), ends(&mut lan)) else {
            return Err(BenchError::Internal("no ring"));
        };
        lanes.push(Lane {
            stand,
            inject: [wan.0, lan.0],
            collect: [wan.1, lan.1],
            aggregator: (spec.workers == 1)
                .then(|| aggregator(&config, &tables, vec![Arc::clone(&counters)], capacity)),
            counters,
            now: Instant(1_000_000_000),
            books: Books::default(),
            clock: rig.clock,
            burst: rig.options.burst,
        });
    }
    Ok(lanes)
}

impl Lane {
    /// One chunk from port to port; nanoseconds.
    #[inline]
    pub fn chunk(
        &mut self,
        store: &mut Store,
        n: usize,
        from: PortId,
        to: PortId,
    ) -> Result<u64, BenchError> {
        let turns = n.div_ceil(self.burst);
        let Self { stand, inject, collect, now, .. } = self;
        let ends = (&mut inject[from.index()], &mut collect[to.index()]);
        let (nanos, whole) = chunk(self.clock, store, n, ends, || {
            for _ in 0..turns {
                stand.step(*now);
            }
        });
        if whole { Ok(nanos) } else { Err(self.lost()) }
    }

    /// One chunk past the pipeline, by the clients' port both ways; nanoseconds.
    #[inline]
    pub fn bare_chunk(&mut self, store: &mut Store, n: usize, touch: Touch) -> Result<u64, BenchError> {
        let (turns, burst) = (n.div_ceil(self.burst), self.burst);
        let Self { stand, inject, collect, .. } = self;
        let (rx, tx) = stand.queues().ok_or(BenchError::Internal("no queues"))?;
        let ends = (&mut inject[WAN.index()], &mut collect[WAN.index()]);
        let (nanos, whole) = chunk(self.clock, store, n, ends, || {
            for _ in 0..turns {
                reference::forward(rx, tx, burst, touch);
            }
        });
        if whole { Ok(nanos) } else { Err(BenchError::Internal("the bare forward lost a frame")) }
    }

    /// One burst past the pipeline.
    #[inline]
    pub fn bare_turn(&mut self) {
        if let Some((rx, tx)) = self.stand.queues() {
            reference::forward(rx, tx, self.burst, Touch::Swap);
        }
    }

    /// Opens these connections, all the way to established.
    pub fn establish(
        &mut self,
        traffic: &Traffic,
        spec: &Spec,
        store: &mut Store,
        chunk: usize,
        mut connections: impl Iterator<Item = usize>,
    ) -> Result<(), BenchError> {
        loop {
            let batch_of: ArrayVec<usize, MOST> = connections.by_ref().take(chunk.min(store.len())).collect();
            let n = batch_of.len();
            if n == 0 {
                return Ok(());
            }
            let mut batch: Store = store.drain(..n).collect();
            let write = |batch: &mut Store, step| {
                let mut frames = batch.iter_mut().zip(&batch_of);
                frames.all(|(frame, &connection)| traffic.write(frame, step, connection))
            };
            if !write(&mut batch, Step::Open) {
                return Err(BenchError::Internal("a buffer is too small"));
            }
            self.chunk(&mut batch, n, WAN, LAN)?;
            if spec.mode.replies {
                batch.iter_mut().for_each(|frame| traffic.answer(frame));
                self.chunk(&mut batch, n, LAN, WAN)?;
            }
            if spec.protocol == Protocol::Tcp {
                write(&mut batch, Step::Confirm);
                self.chunk(&mut batch, n, WAN, LAN)?;
            }
            store.append(&mut batch);
            // As fast as a busy server gets them.
            self.now = self.now.after(Duration::from_micros(n as u64));
        }
    }

    /// Puts a burst from the front of the store into the RX queue; how many frames fitted.
    #[inline]
    pub fn feed(&mut self, store: &mut Store) -> usize {
        let mut frames: ArrayVec<Mbuf, MAX_BURST> = store.drain(..self.burst.min(store.len())).collect();
        let fed = self.inject[WAN.index()].put(&mut frames);
        for frame in frames.into_iter().rev() {
            store.push_front(frame);
        }
        fed
    }

    /// Takes what a port has sent; how many frames.
    #[inline]
    pub fn take(&mut self, store: &mut Store, port: PortId) -> usize {
        let mut frames = ArrayVec::<Mbuf, { 2 * MAX_BURST }>::new();
        let taken = self.collect[port.index()].receive(2 * MAX_BURST, &mut frames);
        store.extend(frames);
        taken
    }

    /// Lets all connections that are not established expire, and their counts be folded.
    pub fn expire(&mut self) {
        self.now = self.now.after(Duration::from_secs(30));
        while self.stand.shard().connections().0 > 0 {
            self.stand.step(self.now);
        }
        for _ in 0..4 {
            self.tick();
        }
    }

    /// Keeps the books, and has the counters folded as each second of a running engine does.
    pub fn tick(&mut self) {
        self.books.add(self.stand.shard().writer().bank());
        if let Some(aggregator) = &mut self.aggregator {
            aggregator.ask();
            self.stand.step(self.now);
            aggregator.step(self.now);
        }
    }

    /// Connections in the table.
    pub fn connections(&self) -> usize {
        self.stand.shard().connections().0
    }

    /// What became of the packets.
    pub fn lost(&mut self) -> BenchError {
        self.books.add(self.stand.shard().writer().bank());
        BenchError::Lost(self.books.clone())
    }
}

/// Connections that a case's table is made for.
pub fn capacity(spec: &Spec) -> usize {
    // What is due is not gone at once: a wheel turns in steps, and time here goes on a chunk at a time.
    let slack = if spec.case == Case::NewAndExpire { spec.connections / 8 + 3 * MOST } else { 0 };
    (spec.connections + slack).max(1024)
}

/// Client–endpoint pairs that a case has counters for.
pub fn pairs(spec: &Spec) -> usize {
    let connections = capacity(spec);
    match spec.case {
        _ if !spec.accounting => 0,
        Case::NewClients => connections,
        _ => world::pairs(connections),
    }
}

fn aggregator(
    config: &Config,
    tables: &Tables,
    counters: Vec<Arc<WorkerCounters>>,
    capacity: usize,
) -> Aggregator {
    let settings = Settings {
        metrics: config.metrics.clone(),
        ports: tables.ports.iter().map(|port| port.name.clone()).collect(),
        worker_cpus: vec![0; counters.len()],
        conntrack_capacity: capacity as u64,
        unix_start: Duration::ZERO,
        dpdk_version: String::new(),
        cycles_per_nano: None,
    };
    Aggregator::new(settings, counters, &tables.names, tables.generation)
}

/// The packet ledger of a bench.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Received.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
    /// Handed to another worker and taken by it.
    pub handed: (u64, u64),
    /// Anything but forwarded.
    pub other: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Books {
    /// What a bank has counted, in addition.
    pub fn add(&mut self, bank: &Bank) {
        let term = |term| bank.term(term).get();
        self.rx += term(Term::Rx);
        self.tx += term(Term::Tx);
        self.handed.0 += term(Term::HandedOut);
        self.handed.1 += term(Term::HandedIn);
        self.other += term(Term::Punted) + term(Term::Consumed) + term(Term::HeldIn) + term(Term::Originated);
        let tx_dropped = term(Term::TxDropped);
        for (reason, n) in DropReason::ALL
            .iter()
            .map(|&reason| (reason.label(), bank.dropped(reason).get()))
            .chain([("tx_full", tx_dropped)])
        {
            if n > 0 {
                *self.dropped.entry(reason).or_default() += n;
            }
        }
    }

    /// Every packet was forwarded, and none was lost or made.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.rx == self.tx && self.handed.0 == self.handed.1 && self.other == 0 && self.dropped.is_empty()
    }
}
