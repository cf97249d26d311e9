//! One worker's share of the engine: its connections, neighbours and counters, and the door by which packets enter.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::burst::Slots;
use super::choose::count_state;
use super::foresee::{Foreseen, Hops};
use super::kernel::Policers;
use super::limiter::Limiter;
use super::modes::Modes;
use super::owner::Owner;
use super::{DropReason, Errand, Frame, Handed, MAX_BURST, NeighborUpdate, Output};
use crate::config::Protocol;
use crate::conntrack::{Conntrack, Departed, FlowError, FlowId, Paths, Tuple, View};
use crate::counters::{Pairs, Term, WorkerCounters, Writer};
use crate::fragment;
use crate::ids::{PortId, ServiceId, WorkerId};
use crate::neighbor::{Hold, Neighbors};
use crate::parse::Packet;
use crate::service::Sticky;
use crate::tables::Tables;
use crate::time::Instant;

/// Most paths of multi-homed SCTP associations in a worker: some 6 MiB, whose pages are taken as they are first used.
const MAX_PATHS: usize = 1 << 16;

/// How next hops become MACs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// By ARP and neighbour discovery.
    Discover,
    /// Every next hop counts as resolved: a static neighbour's MAC, else `02:00` and the last four bytes of its address.
    Assume,
}

/// What makes a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Which worker this is.
    pub worker: WorkerId,
    /// Of how many.
    pub workers: u8,
    /// Connections that its table holds.
    pub max_flows: usize,
    /// Secret of this process; the same for all of its workers.
    pub seed: u64,
    /// How next hops become MACs.
    pub resolution: Resolution,
}

/// What a packet is judged by, besides its bytes and the shard's own state.
pub(super) struct Turn<'a, O> {
    pub tables: &'a Tables,
    pub now: Instant,
    pub out: &'a mut O,
}

/// How a frame came to this worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Via {
    /// Out of a device's queue.
    Device,
    /// From another worker, which has computed that it is ours, or wants something; with the ports, where it is a fragment and they are known.
    Ring(Option<(u16, u16)>, Errand),
}

/// A sane IP packet, where it came in, and what the parser found.
pub(super) struct Arrival<F> {
    pub port: PortId,
    pub frame: F,
    pub packet: Packet,
}

/// One worker's share of the engine.
pub struct Shard<F> {
    pub(super) worker: WorkerId,
    pub(super) owner: Owner,
    pub(super) conntrack: Conntrack,
    pub(super) paths: Paths,
    pub(super) pairs: Pairs,
    pub(super) neighbors: Neighbors,
    pub(super) hops: Hops,
    pub(super) hold: Hold<F>,
    pub(super) datagrams: fragment::Table,
    pub(super) waiting: fragment::Hold<F>,
    pub(super) limiter: Limiter,
    pub(super) policers: Policers,
    pub(super) modes: Modes,
    pub(super) writer: Writer,
    /// What all workers count, this one among them.
    pub(super) peers: Arc<[Arc<WorkerCounters>]>,
    /// Which endpoints clients keep.
    pub(super) sticky: Sticky,
    /// What the packet in hand came from another worker for.
    pub(super) errand: Errand,
    /// What is known beforehand of the packet in hand.
    pub(super) foreseen: Option<Foreseen>,
    /// Where a frame of the engine's own is written before it is copied out.
    pub(super) scratch: Vec<u8>,
    /// How far the connections were searched for those whose endpoint was lost.
    pub(super) sweep: Option<usize>,
    /// Of no burst while none is worked on.
    pub(super) slots: Option<Box<Slots>>,
    /// Whether most of a device's last burst were other workers' packets.
    pub(super) astray: bool,
    /// Whether there was IPv6 in the last burst, as there is then in the next one, mostly: its headers do not fit in one line.
    pub(super) long_headers: bool,
    /// Entries removed so far: what was looked up before a removal is looked up again.
    pub(super) removals: u64,
}

impl<F: Frame> Shard<F> {
    /// An empty shard; takes all the memory that it will ever use.
    #[must_use]
    pub fn new(config: &ShardConfig, tables: &Tables, writer: Writer) -> Self {
        let assume = config.resolution == Resolution::Assume;
        // Different keys for different tables, all from the one secret.
        let key = |table: u64| (config.seed, table << 8 | u64::from(config.worker.0));
        let owner = Owner::new(config.seed, config.workers);
        let modes = Modes::new(config, tables, &owner);
        let mut conntrack = Conntrack::new(config.max_flows, key(1));
        conntrack.set_own(tables.own.clone());
        Self {
            worker: config.worker,
            owner,
            conntrack,
            modes,
            paths: Paths::new(config.max_flows.saturating_mul(4).min(MAX_PATHS), key(5)),
            pairs: Pairs::new(writer.sizes(), key(2)),
            neighbors: Neighbors::new(&tables.neighbors, assume),
            hops: Hops::new(),
            hold: Hold::new(),
            datagrams: fragment::Table::new(key(3)),
            waiting: fragment::Hold::new(),
            limiter: Limiter::ICMP,
            policers: Policers::new(),
            peers: Arc::new([Arc::clone(writer.shared())]),
            writer,
            sticky: Sticky::new(config.max_flows, (config.seed, 4 << 8)),
            errand: Errand::Own,
            foreseen: None,
            scratch: Vec::with_capacity(1 << 16),
            sweep: None,
            slots: Some(Box::default()),
            astray: false,
            long_headers: false,
            removals: 0,
        }
    }

    /// Tells what all workers count, by worker: [`crate::config::Algorithm::LeastConnections`] goes by the connections of all.
    #[must_use]
    pub fn beside(mut self, peers: Arc<[Arc<WorkerCounters>]>) -> Self {
        self.peers = peers;
        self
    }

    /// A burst from a device: counted as received, drained, every frame given to `out` with its verdict (or kept, on hold).
    pub fn receive(
        &mut self,
        tables: &Tables,
        now: Instant,
        port: PortId,
        frames: &mut ArrayVec<F, MAX_BURST>,
        out: &mut impl Output<F>,
    ) {
        self.receive_before(tables, now, port, frames, &[], out);
    }

    /// [`receive`](Self::receive); meanwhile those frames are fetched that come next.
    pub fn receive_before(
        &mut self,
        tables: &Tables,
        now: Instant,
        port: PortId,
        frames: &mut ArrayVec<F, MAX_BURST>,
        ahead: &[F],
        out: &mut impl Output<F>,
    ) {
        let bytes: usize = frames.iter().map(|f| f.data().len()).sum();
        self.count_rx(port, frames.len(), bytes);
        let turn = &mut Turn { tables, now, out };
        self.process(turn, frames, ahead, true, |frame| (port, frame), |frame| (port, frame, Via::Device));
    }

    /// A burst from another worker's ring.
    pub fn receive_handed(
        &mut self,
        tables: &Tables,
        now: Instant,
        frames: &mut ArrayVec<Handed<F>, MAX_BURST>,
        out: &mut impl Output<F>,
    ) {
        self.writer.bank().term(Term::HandedIn).add(frames.len() as u64);
        let turn = &mut Turn { tables, now, out };
        let take = |Handed { port, frame, ports, errand }| (port, frame, Via::Ring(ports, errand));
        self.process(turn, frames, &[], false, |handed| (handed.port, &handed.frame), take);
    }

    /// Counts a received packet that the I/O layer itself had to drop (a segmented mbuf).
    pub fn refuse(&mut self, port: PortId, len: usize, reason: DropReason) {
        self.count_rx(port, 1, len);
        self.writer.bank().dropped(reason).add(1);
    }

    fn count_rx(&self, port: PortId, packets: usize, bytes: usize) {
        let bank = self.writer.bank();
        bank.term(Term::Rx).add(packets as u64);
        bank.port(port).rx_packets.add(packets as u64);
        bank.port(port).rx_bytes.add(bytes as u64);
    }

    /// What another worker learnt of a neighbour.
    pub fn learn(&mut self, tables: &Tables, now: Instant, update: NeighborUpdate, out: &mut impl Output<F>) {
        self.resolved(&update, &mut Turn { tables, now, out });
    }

    /// Between bursts: expiry of connections (at most `budget` entries looked at), neighbour timers, and fragments that have
    /// waited too long. Says whether there is more to do at once.
    pub fn maintain(
        &mut self,
        tables: &Tables,
        now: Instant,
        budget: usize,
        out: &mut impl Output<F>,
    ) -> bool {
        if self.neighbors.is_asking() {
            self.neighbor_timers(&mut Turn { tables, now, out });
        }
        let more = self.give_up_fragments(&mut Turn { tables, now, out })
            | self.sweep(&mut Turn { tables, now, out }, budget);
        self.modes.maintain(now);
        let Self { worker, conntrack, paths, pairs, modes, writer, removals, .. } = self;
        let writer = &*writer;
        let mut ledger = Ledger { writer, worker: *worker, tables, paths, modes, now };
        let gone = |pairs: &mut Pairs, departed: Departed<'_>| {
            *removals += 1;
            ledger.close(pairs, &departed);
        };
        let near = |pairs: &Pairs, view: View<'_>| pairs.prefetch_hold(writer, view.entry().pair());
        conntrack.expire_with(now, budget, pairs, near, gone) || more
    }

    /// Between bursts: goes over from one configuration's tables to another's. With other routes, every connection looks its
    /// next hops up again when its next packet comes.
    pub fn go_over(&mut self, before: &Tables, after: &Tables, now: Instant, out: &mut impl Output<F>) {
        self.conntrack.set_own(after.own.clone());
        self.modes.go_over();
        if !Arc::ptr_eq(&before.routes, &after.routes) {
            self.neighbors.reroute();
        }
        if before.resets_version != after.resets_version {
            self.sweep = Some(0);
        }
        if before.neighbors == after.neighbors {
            return;
        }
        for &(port, addr, _) in &before.neighbors {
            self.neighbors.release(port, addr);
        }
        for &(port, addr, mac) in &after.neighbors {
            // Who waits for it may go.
            let update = NeighborUpdate { port, addr, mac, create: true };
            self.resolved(&update, &mut Turn { tables: after, now, out });
            self.neighbors.fix(port, addr);
        }
    }

    /// Between bursts: switches counter banks where the aggregator asks.
    pub fn turn(&mut self, now: Instant) {
        let tick = self.writer.tick();
        self.writer.turn(now);
        if self.writer.tick() != tick {
            self.modes.tell(&self.writer);
        }
    }

    /// The worker's counters: for what the I/O layer counts (`transmitted`, `tx_dropped`, load).
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Connections in the table, and how many fit.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        (self.conntrack.len(), self.conntrack.capacity())
    }

    /// Its connections, to be looked at.
    #[must_use]
    pub fn table(&self) -> &Conntrack {
        &self.conntrack
    }

    /// The worker that owns the connection of a packet with this tuple.
    #[must_use]
    pub fn owner_of(&self, tables: &Tables, tuple: &Tuple) -> WorkerId {
        self.owner.of(tuple, &tables.services)
    }

    // --- verdicts

    pub(super) fn drop<O: Output<F>>(
        &self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        reason: DropReason,
    ) {
        self.writer.bank().dropped(reason).add(1);
        turn.out.drop(port, frame, reason);
    }

    pub(super) fn consume<O: Output<F>>(&self, turn: &mut Turn<'_, O>, port: PortId, frame: F) {
        self.writer.bank().term(Term::Consumed).add(1);
        turn.out.consume(port, frame);
    }

    pub(super) fn hand_off<O: Output<F>>(&self, turn: &mut Turn<'_, O>, to: WorkerId, handed: Handed<F>) {
        let port = handed.port;
        match turn.out.hand_off(to, handed) {
            Ok(()) => self.writer.bank().term(Term::HandedOut).add(1),
            Err(frame) => self.drop(turn, port, frame, DropReason::HandoffFull),
        }
    }

    /// Sends what `scratch` holds.
    pub(super) fn originate<O: Output<F>>(&self, turn: &mut Turn<'_, O>, port: PortId) {
        if turn.out.originate(port, &self.scratch, false) {
            self.writer.bank().term(Term::Originated).add(1);
        }
    }

    pub(super) fn count_error(&self, service: ServiceId, error: FlowError) {
        count_error(&self.writer, service, error);
    }

    /// Ends a connection of which nothing bad is to be said.
    pub(super) fn remove<O>(&mut self, turn: &Turn<'_, O>, id: FlowId) {
        let state = self.conntrack.state(id);
        self.conntrack.remove(id);
        let Self { worker, conntrack, paths, pairs, modes, writer, removals, .. } = self;
        *removals += 1;
        let mut ledger = Ledger { writer, worker: *worker, tables: turn.tables, paths, modes, now: turn.now };
        ledger.close(pairs, &Departed { view: conntrack.view(id), state, error: None });
    }
}

/// Whoever else knows of a connection.
struct Ledger<'a> {
    writer: &'a Writer,
    worker: WorkerId,
    tables: &'a Tables,
    paths: &'a mut Paths,
    modes: &'a mut Modes,
    now: Instant,
}

impl Ledger<'_> {
    /// A connection is no more.
    #[inline]
    fn close(&mut self, pairs: &mut Pairs, departed: &Departed<'_>) {
        let Departed { view, state, error } = *departed;
        if view.entry().protocol() == Protocol::Sctp {
            self.paths.remove_all(&view.flow());
        }
        count_state(self.writer, self.worker, self.tables, view, Some(state), None);
        pairs.release(self.writer, view.entry().pair());
        if let Some(error) = error {
            count_error(self.writer, view.service(), error);
        }
        self.modes.gone(view, state, &self.tables.own, self.now);
    }
}

fn count_error(writer: &Writer, service: ServiceId, error: FlowError) {
    let service = writer.bank().service(service);
    match error {
        FlowError::Refused => &service.error_refused,
        FlowError::TimedOut => &service.error_timed_out,
        FlowError::ServerReset => &service.error_server_reset,
        FlowError::Violation => &service.error_violation,
        FlowError::Abort => &service.error_abort,
    }
    .add(1);
}
