//! The whole pipeline: a configuration, and a sequence of frames and pauses. Every frame gets exactly one verdict, both
//! equations of the ledger hold, and what left is right where what came was.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayVec;
use pollux::addr::Addr;
use pollux::config::Protocol;
use pollux::counters::{Bank, FlowState, Term, WorkerCounters};
use pollux::ids::{EndpointId, PortId, WorkerId};
use pollux::parse::{self, L4, Link, Parsed};
use pollux::pipeline::{
    Account, DropReason, Errand, Frame, Handed, MAX_BURST, NeighborUpdate, Output, RxChecksum, Shard,
    ShardConfig, VecFrame,
};
use pollux::tables::Tables;
use pollux::time::Instant;
use pollux::wire::build;
use pollux::wire::ethernet::Ethernet;

use super::input::Input;
use super::packet;
use super::repair::repair;
use super::world::{World, own, world};

/// Bits of an operation; the low three say which.
pub mod op {
    pub const RAW: u8 = 4;
    pub const TIME: u8 = 5;
    pub const SWITCH: u8 = 6;
    pub const TICK: u8 = 7;
    pub const REPAIR: u8 = 8;
    pub const OTHER_PORT: u8 = 16;
    pub const FLUSH: u8 = 32;
    pub const OTHER_WORKER: u8 = 64;
    pub const MUTATE: u8 = 128;
}

/// Frames that the ring to a worker holds.
const RING: usize = 4;

/// Endpoints that are counted for.
const MOST_ENDPOINTS: usize = 32;

/// The first byte is the number of the configuration, the rest are operations.
pub fn pipeline(data: &[u8]) {
    let _ = terms(data);
}

/// The same, and what it came to in the ledger.
pub fn terms(data: &[u8]) -> [u64; Term::ALL.len()] {
    let mut input = Input::new(data);
    let Some(number) = input.u8() else { return [0; Term::ALL.len()] };
    let mut run = Run::new(world(number));
    while run.operation(&mut input).is_some() {}
    run.flush();
    // Every second, as a worker would or slower, and then an hour.
    for _ in 0..8 {
        run.pass(1_000_000_000);
    }
    run.pass(3_600_000_000_000);
    run.check();
    let [held_in, held_out] = [Term::HeldIn, Term::HeldOut].map(|term| run.sum(|bank| bank.term(term).get()));
    assert!(held_in == held_out || run.now.0 == u64::MAX, "nothing waits for ever");
    Term::ALL.map(|term| run.sum(|bank| bank.term(term).get()))
}

/// A frame that remembers what it was.
struct Traced {
    frame: VecFrame,
    was: Was,
}

#[derive(Clone, Copy)]
struct Was {
    /// All of its checksums were right.
    right: bool,
    ttl: u8,
    l3_len: u32,
    /// Of all of it from the IP header on.
    hash: u64,
    handed: u8,
}

impl Traced {
    fn new(frame: &[u8], link: &Link) -> Self {
        let (mut right, mut ttl, mut l3_len, mut hash) = (build::verify(frame).is_ok(), 0, 0, 0);
        if let Ok(Parsed::Ip(packet)) = parse::parse(link, frame, RxChecksum::Unknown) {
            (ttl, l3_len) = (packet.ttl, packet.l3_len);
            hash = hash_of(&frame[packet.l3 as usize..][..l3_len as usize]);
            // The CRC32c of an SCTP packet in an ICMP error is left as it is.
            let sctp = |q: parse::Quoted| q.tuple.protocol == Protocol::Sctp;
            if matches!(packet.l4_info, L4::Icmp { .. }) && parse::quoted(frame, &packet).is_some_and(sctp) {
                right = false;
            }
            // Nor is what a tunnel's packet in one has in it.
            right &= parse::tunneled(frame, &packet).is_none();
        }
        Self { frame: VecFrame::new(frame), was: Was { right, ttl, l3_len, hash, handed: 0 } }
    }
}

fn hash_of(l3: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    l3.hash(&mut hasher);
    hasher.finish()
}

/// The packet in a tunnel's that leaves for an endpoint.
fn inner(port: PortId, l3: &[u8]) -> Option<&[u8]> {
    let v4 = l3[0] >> 4 == 4;
    let (source, protocol, at) = if v4 {
        (Addr::v4(*l3[12..].first_chunk()?), l3[9], 20)
    } else {
        (Addr::v6(*l3[8..].first_chunk()?), l3[6], 40)
    };
    if port != PortId(1) || source != own(v4, 1) {
        return None;
    }
    match protocol {
        4 | 41 => l3.get(at..),
        17 if l3.get(at + 2..at + 4)? == 6080_u16.to_be_bytes() => l3.get(at + 8..),
        _ => None,
    }
}

impl Frame for Traced {
    fn data(&self) -> &[u8] {
        self.frame.data()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.frame.data_mut()
    }

    fn grow_front(&mut self, n: usize) -> bool {
        self.frame.grow_front(n)
    }

    fn shrink_front(&mut self, n: usize) {
        self.frame.shrink_front(n);
    }

    fn truncate(&mut self, len: usize) {
        self.frame.truncate(len);
    }
}

/// Takes what one call of a shard gives.
struct Outbox<'a> {
    tables: &'a Tables,
    /// Everything that came in with this call was right, so what is said about it must be, too.
    all_right: bool,
    sent: Vec<(PortId, usize, Option<Account>)>,
    handed: Vec<(WorkerId, Handed<Traced>)>,
    room: usize,
    learnt: Vec<NeighborUpdate>,
    to_endpoint: Option<packet::Sent>,
    verdicts: u64,
}

impl Outbox<'_> {
    /// The L2 header is the port's, and the packet fits the link.
    fn check_frame(&self, port: PortId, frame: &[u8]) {
        let config = &self.tables.ports[port.index()];
        let eth = Ethernet::new_checked(frame).unwrap();
        assert_eq!((eth.src(), eth.vlan().unwrap_or(0)), (config.mac, config.vlan));
        assert_ne!(eth.dst().0, [0; 6], "to a next hop that is not known");
        assert!(eth.payload().len() <= usize::from(config.mtu), "{} bytes", eth.payload().len());
    }
}

impl Output<Traced> for Outbox<'_> {
    fn forward(&mut self, port: PortId, frame: Traced, account: Account) {
        self.verdicts += 1;
        let (bytes, was) = (frame.data(), frame.was);
        self.check_frame(port, bytes);
        assert_eq!(account.bytes, was.l3_len, "bytes are counted as they were received");
        let l3 = build::l3(bytes);
        assert_eq!(Ethernet::new_checked(bytes).unwrap().payload(), l3, "an IP packet without padding");
        if let Some(inner) = inner(port, l3) {
            let whole = inner.len() == was.l3_len as usize;
            assert!(!whole || hash_of(inner) == was.hash, "what is in a tunnel is as it came");
        } else {
            let ttl = if l3[0] >> 4 == 4 { l3[8] } else { l3[7] };
            assert_eq!(ttl + 1, was.ttl);
        }
        if port == PortId(1) {
            let link = Link { mac: None, vlan: self.tables.ports[1].vlan };
            if let Ok(Parsed::Ip(packet)) = parse::parse(&link, bytes, RxChecksum::Unknown) {
                let (sport, dport) = packet.ports();
                let (from, to) = ((packet.src, sport), (packet.dst, dport));
                self.to_endpoint = Some(packet::Sent { l3: l3.to_vec(), from, to });
            }
        }
        if was.right {
            build::verify(bytes).unwrap_or_else(|e| panic!("{e}: {bytes:02x?}"));
        }
        self.sent.push((port, bytes.len(), Some(account)));
    }

    fn drop(&mut self, _port: PortId, _frame: Traced, _reason: DropReason) {
        self.verdicts += 1;
    }

    fn punt(&mut self, _port: PortId, _frame: Traced) -> Result<(), Traced> {
        self.verdicts += 1;
        Ok(())
    }

    fn consume(&mut self, _port: PortId, _frame: Traced) {
        self.verdicts += 1;
    }

    fn hand_off(&mut self, to: WorkerId, mut handed: Handed<Traced>) -> Result<(), Traced> {
        // Once, but a fragment twice: to the worker that learns its ports, and by that one to the owner; from there to the worker
        // of its client, and back.
        let was = &mut handed.frame.was;
        let errands = match handed.errand {
            Errand::Own => 0,
            Errand::Choose(_) => 1,
            Errand::Chosen(_) => 2,
        };
        let most = u8::from(handed.ports.is_some()) + errands;
        assert!(was.handed <= most, "handed on by the one to whom it was handed");
        if self.handed.len() >= self.room {
            return Err(handed.frame);
        }
        was.handed += 1;
        self.handed.push((to, handed));
        Ok(())
    }

    fn originate(&mut self, port: PortId, frame: &[u8], fragment: bool) -> bool {
        self.check_frame(port, frame);
        if self.all_right || fragment {
            build::verify(frame).unwrap_or_else(|e| panic!("{e}: {frame:02x?}"));
        }
        self.sent.push((port, frame.len(), None));
        true
    }

    fn announce(&mut self, update: NeighborUpdate) {
        self.learnt.push(update);
    }
}

struct Worker {
    shard: Shard<Traced>,
    counters: Arc<WorkerCounters>,
    ring: VecDeque<Handed<Traced>>,
}

struct Run {
    world: &'static World,
    tables: &'static Tables,
    workers: Vec<Worker>,
    now: Instant,
    tick: u32,
    tx_full: bool,
    rings_full: bool,
    /// Frames put in, and their verdicts.
    received: u64,
    verdicts: u64,
    sent: u64,
    refused: u64,
    credited: u64,
    /// The burst that is being gathered.
    burst: ArrayVec<Traced, MAX_BURST>,
    to: (usize, PortId),
    sent_last: Option<packet::Sent>,
}

impl Run {
    fn new(world: &'static World) -> Self {
        let tables = &world.tables[0];
        let mut sizes = world.tables[1].sizes(world.pairs);
        // Few, so that a run costs little.
        (sizes.services, sizes.endpoints, sizes.rules) = (16, MOST_ENDPOINTS, 4);
        let workers = (0..world.workers)
            .map(|n| {
                let (counters, writer) = WorkerCounters::new(sizes);
                let config = ShardConfig {
                    worker: WorkerId(n),
                    workers: world.workers,
                    max_flows: world.max_flows,
                    seed: 7,
                    resolution: world.resolution,
                };
                Worker { shard: Shard::new(&config, tables, writer), counters, ring: VecDeque::new() }
            })
            .collect();
        Self {
            world,
            tables,
            workers,
            now: Instant::ZERO,
            tick: 0,
            tx_full: false,
            rings_full: false,
            received: 0,
            verdicts: 0,
            sent: 0,
            refused: 0,
            credited: 0,
            burst: ArrayVec::new(),
            to: (0, PortId(0)),
            sent_last: None,
        }
    }

    /// One operation; `None` at the end of the input.
    fn operation(&mut self, input: &mut Input<'_>) -> Option<()> {
        let op = input.u8()?;
        let (mut frame, mut second) = match op & 7 {
            op::TIME => {
                let [scale, n] = input.array()?;
                self.flush();
                self.pass(u64::from(n) << (scale & 63));
                self.check();
                return Some(());
            }
            op::SWITCH => {
                self.flush();
                match op >> 3 & 7 {
                    0 => self.go_over(1),
                    1 => self.go_over(0),
                    2 => self.tx_full ^= true,
                    3 => self.rings_full ^= true,
                    _ => {
                        let worker = &mut self.workers[0];
                        worker.shard.refuse(PortId(0), 1500, DropReason::Segmented);
                        self.received += 1;
                        self.verdicts += 1;
                    }
                }
                return Some(());
            }
            op::TICK => {
                self.flush();
                self.tick += 1;
                for worker in &mut self.workers {
                    worker.counters.ask(self.tick);
                    worker.shard.turn(self.now);
                }
                return Some(());
            }
            op::RAW => {
                let len = usize::from(input.u16()?);
                (input.take(len).to_vec(), false)
            }
            _ => packet::describe(input.array()?, self.sent_last.as_ref()),
        };
        if op & op::MUTATE != 0 {
            packet::mutate(&mut frame, input)?;
        }
        if op & op::REPAIR != 0 {
            repair(&mut frame);
        }
        second ^= op & op::OTHER_PORT != 0;
        let worker = usize::from(op & op::OTHER_WORKER != 0) % self.workers.len();
        let to = (worker, PortId(u8::from(second)));
        if self.to != to || self.burst.is_full() {
            self.flush();
            self.to = to;
        }
        let config = &self.tables.ports[to.1.index()];
        let link = Link { mac: None, vlan: config.vlan };
        self.burst.push(Traced::new(&frame, &link));
        if op & op::FLUSH != 0 {
            self.flush();
        }
        Some(())
    }

    /// The burst goes in, and what one worker gives to another, too.
    fn flush(&mut self) {
        let (worker, port) = self.to;
        let mut burst = std::mem::take(&mut self.burst);
        self.received += burst.len() as u64;
        let all_right = burst.iter().all(|f| f.was.right);
        let room = if self.rings_full { 0 } else { RING };
        self.call(worker, all_right, room, |shard, tables, now, out| {
            shard.receive(tables, now, port, &mut burst, out);
        });
        assert!(burst.is_empty());
        while let Some(worker) = self.workers.iter().position(|worker| !worker.ring.is_empty()) {
            let mut handed: ArrayVec<_, MAX_BURST> = self.workers[worker].ring.drain(..).collect();
            let all_right = handed.iter().all(|h| h.frame.was.right);
            self.call(worker, all_right, room, |shard, tables, now, out| {
                shard.receive_handed(tables, now, &mut handed, out);
            });
        }
    }

    /// A reload.
    fn go_over(&mut self, to: usize) {
        let before = std::mem::replace(&mut self.tables, &self.world.tables[to]);
        for worker in 0..self.workers.len() {
            self.call(worker, true, 0, |shard, tables, now, out| shard.go_over(before, tables, now, out));
        }
    }

    /// Time passes: what is due is done.
    fn pass(&mut self, nanos: u64) {
        self.now = Instant(self.now.0.saturating_add(nanos));
        for worker in 0..self.workers.len() {
            let mut again = true;
            while again {
                self.call(worker, true, 0, |shard, tables, now, out| {
                    again = shard.maintain(tables, now, 16, out);
                });
            }
        }
    }

    fn call_one(
        &mut self,
        worker: usize,
        all_right: bool,
        room: usize,
        act: impl FnOnce(&mut Shard<Traced>, &Tables, Instant, &mut Outbox<'_>),
    ) -> Vec<NeighborUpdate> {
        let mut out = Outbox {
            tables: self.tables,
            all_right,
            sent: Vec::new(),
            handed: Vec::new(),
            room,
            learnt: Vec::new(),
            to_endpoint: None,
            verdicts: 0,
        };
        let shard = &mut self.workers[worker].shard;
        act(shard, self.tables, self.now, &mut out);
        for (port, len, account) in &out.sent {
            if self.tx_full {
                shard.writer().tx_dropped(*port);
                self.refused += 1;
            } else {
                shard.writer().transmitted(*port, *len, account.as_ref());
                self.sent += 1;
                self.credited += u64::from(account.is_some());
            }
        }
        self.verdicts += out.verdicts;
        if out.to_endpoint.is_some() {
            self.sent_last = out.to_endpoint;
        }
        for (to, handed) in out.handed {
            assert_ne!(usize::from(to.0), worker, "to itself");
            self.workers[usize::from(to.0)].ring.push_back(handed);
        }
        out.learnt
    }

    /// A call, and what one learns in it told to the others.
    fn call(
        &mut self,
        worker: usize,
        all_right: bool,
        room: usize,
        act: impl FnOnce(&mut Shard<Traced>, &Tables, Instant, &mut Outbox<'_>),
    ) {
        for update in self.call_one(worker, all_right, room, act) {
            for other in (0..self.workers.len()).filter(|w| *w != worker) {
                let told = self.call_one(other, true, 0, |shard, tables, now, out| {
                    shard.learn(tables, now, update, out)
                });
                assert!(told.is_empty(), "hearsay is not told on");
            }
        }
    }

    /// A sum over both banks of all workers.
    fn sum(&self, of: impl Fn(&Bank) -> u64) -> u64 {
        self.workers.iter().fold(0, |sum, worker| {
            let rest = worker.counters.at_rest(self.tick).map_or(0, &of);
            sum.wrapping_add(of(worker.shard.writer().bank())).wrapping_add(rest)
        })
    }

    /// Both equations; the counters against what was done; the gauges against the table.
    fn check(&self) {
        let term = |t| self.sum(|bank| bank.term(t).get());
        let drops = self.sum(|bank| DropReason::ALL.iter().map(|&r| bank.dropped(r).get()).sum());
        let held = term(Term::HeldIn) - term(Term::HeldOut);
        let [forwarded, punted, consumed] = [Term::Forwarded, Term::Punted, Term::Consumed].map(term);
        assert_eq!(term(Term::HandedOut), term(Term::HandedIn), "rings are empty");
        assert_eq!(term(Term::Rx), forwarded + punted + consumed + drops + held);
        let [originated, fragments] = [Term::Originated, Term::ExtraFragments].map(term);
        assert_eq!(term(Term::Tx) + term(Term::TxDropped), forwarded + originated + fragments);

        assert_eq!(term(Term::Rx), self.received);
        assert_eq!(self.verdicts + held, self.received, "every frame has one verdict, or waits");
        assert_eq!((term(Term::Tx), term(Term::TxDropped)), (self.sent, self.refused));
        let used = self.workers.iter().map(|w| w.counters.pair_slots().collect::<Vec<_>>());
        let slots = used.max_by_key(Vec::len).unwrap_or_default();
        let credited = self.sum(|bank| slots.iter().map(|&s| bank.pair(s).packets.get()).sum());
        assert_eq!(credited, self.credited, "every forwarded frame that was taken is somebody's");

        let gauges = Protocol::ALL.into_iter().flat_map(|p| FlowState::ALL.map(|s| (p, s)));
        let counted = gauges.map(|(p, s)| self.sum(|bank| bank.flows(p, s).get()));
        let counted: Vec<u64> = counted.collect();
        let active: u64 = counted.chunks(FlowState::ALL.len()).map(|of| of[0].wrapping_add(of[1])).sum();
        let endpoints = || (0..MOST_ENDPOINTS as u32).map(EndpointId);
        let workers = self.workers.iter().flat_map(|w| endpoints().map(|e| u64::from(w.counters.active(e))));
        assert_eq!(workers.sum::<u64>(), active, "active connections of all endpoints");
        let entries: usize = self.workers.iter().map(|w| w.shard.connections().0).sum();
        assert!(counted.iter().all(|n| n.cast_signed() >= 0), "{counted:?}");
        assert_eq!(counted.iter().sum::<u64>(), entries as u64);
        assert!(self.workers.iter().all(|w| w.shard.connections().0 <= self.world.max_flows));
    }
}
