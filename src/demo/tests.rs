//! The world against a shard, or two, on virtual time: its ledger and the engine's counters must agree to the byte.

use std::collections::{BTreeMap, VecDeque};

use arrayvec::ArrayVec;

use super::{CONFIG, End, Traffic, World};
use crate::addr::{Addr, Mac};
use crate::config::{self, Config, Protocol};
use crate::counters::{Bank, FlowState, ServiceCounters, Term, WorkerCounters};
use crate::ids::{PortId, WorkerId};
use crate::pipeline::{
    Account, DropReason, Frame, Handed, NeighborUpdate, Output, Resolution, Shard, ShardConfig, VecFrame,
};
use crate::tables::{LinkInfo, Slots, Tables};
use crate::time::Instant;
use crate::wire::build;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

#[derive(Default)]
struct Outbox {
    sent: Vec<(PortId, VecFrame, Option<Account>)>,
    handed: Vec<(WorkerId, Handed<VecFrame>)>,
    announced: Vec<NeighborUpdate>,
}

impl Output<VecFrame> for Outbox {
    fn forward(&mut self, port: PortId, frame: VecFrame, account: Account) {
        self.sent.push((port, frame, Some(account)));
    }

    fn drop(&mut self, _: PortId, _: VecFrame, _: DropReason) {}

    fn punt(&mut self, _: PortId, _: VecFrame) -> Result<(), VecFrame> {
        Ok(())
    }

    fn consume(&mut self, _: PortId, _: VecFrame) {}

    fn hand_off(&mut self, to: WorkerId, handed: Handed<VecFrame>) -> Result<(), VecFrame> {
        self.handed.push((to, handed));
        Ok(())
    }

    fn originate(&mut self, port: PortId, frame: &[u8], _: bool) -> bool {
        self.sent.push((port, VecFrame::new(frame), None));
        true
    }

    fn announce(&mut self, update: NeighborUpdate) {
        self.announced.push(update);
    }
}

/// Shards in place of workers; what they have counted.
struct Engine {
    tables: Tables,
    shards: Vec<(Shard<VecFrame>, std::sync::Arc<WorkerCounters>)>,
    now: Instant,
    turns: usize,
    /// Compute every checksum anew, in the plainest way.
    verify: bool,
}

impl Engine {
    fn new(config: &Config, workers: u8) -> Self {
        let links: Vec<_> = (0..config.ports.len() as u8)
            .map(|i| LinkInfo { mac: Mac([2, 0xee, 0, 0, 0, i]), promiscuous: false })
            .collect();
        let tables = Tables::compile(config, &links, &mut Slots::default());
        let shards = (0..workers)
            .map(|i| {
                let (counters, writer) = WorkerCounters::new(tables.sizes(4096));
                let config = ShardConfig {
                    worker: WorkerId(i),
                    workers,
                    max_flows: 16_384,
                    seed: 7,
                    resolution: Resolution::Discover,
                };
                (Shard::new(&config, &tables, writer), counters)
            })
            .collect();
        Self { tables, shards, now: Instant::ZERO, turns: 0, verify: false }
    }

    /// Takes what the world sends and gives back what comes out, until both are quiet.
    fn exchange(&mut self, world: &mut World) {
        let mut handed: VecDeque<(WorkerId, Handed<VecFrame>)> = VecDeque::new();
        loop {
            let mut outbox = Outbox::default();
            let worker = if let Some((to, frame)) = handed.pop_front() {
                let mut burst = ArrayVec::from_iter([frame]);
                self.shards[to.index()].0.receive_handed(&self.tables, self.now, &mut burst, &mut outbox);
                to.index()
            } else if let Some((port, frame)) = world.next_frame() {
                // As if the device had one queue that the workers poll in turn.
                self.turns += 1;
                let worker = self.turns % self.shards.len();
                let mut burst = ArrayVec::from_iter([VecFrame::new(&frame)]);
                self.shards[worker].0.receive(&self.tables, self.now, port, &mut burst, &mut outbox);
                worker
            } else {
                break;
            };
            handed.extend(outbox.handed.drain(..));
            self.deliver(worker, outbox, world);
        }
    }

    fn deliver(&mut self, worker: usize, outbox: Outbox, world: &mut World) {
        for (port, frame, account) in outbox.sent {
            if self.verify {
                build::verify(frame.data()).unwrap();
            }
            self.shards[worker].0.writer().transmitted(port, frame.data().len(), account.as_ref());
            world.receive(self.now, port, frame.data());
        }
        for update in outbox.announced {
            for other in 0..self.shards.len() {
                if other != worker {
                    let mut more = Outbox::default();
                    self.shards[other].0.learn(&self.tables, self.now, update, &mut more);
                    self.deliver(other, more, world);
                }
            }
        }
    }

    /// Lets so much virtual time pass, a step at a time.
    fn run(&mut self, world: &mut World, nanos: u64, step: u64) {
        for _ in 0..nanos / step {
            self.now = Instant(self.now.0 + step);
            world.advance(self.now);
            self.exchange(world);
            for worker in 0..self.shards.len() {
                let mut outbox = Outbox::default();
                let shard = &mut self.shards[worker].0;
                while shard.maintain(&self.tables, self.now, 1 << 12, &mut outbox) {}
                self.deliver(worker, outbox, world);
            }
        }
    }

    fn sum(&self, of: impl Fn(&Bank) -> u64) -> u64 {
        self.shards.iter().map(|(shard, _)| of(shard.writer().bank())).fold(0, u64::wrapping_add)
    }

    fn term(&self, term: Term) -> u64 {
        self.sum(|bank| bank.term(term).get())
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.sum(|bank| bank.dropped(reason).get())
    }

    fn flows(&self, state: FlowState) -> u64 {
        self.sum(|bank| Protocol::ALL.iter().fold(0, |sum, p| bank.flows(*p, state).get().wrapping_add(sum)))
    }

    /// Packets and bytes of a service, by client.
    fn clients(&self, service: usize) -> BTreeMap<Addr, Traffic> {
        let id = self.tables.services.iter().nth(service).unwrap().id;
        let mut sums: BTreeMap<Addr, Traffic> = BTreeMap::new();
        for (shard, counters) in &self.shards {
            for slot in counters.pair_slots().filter(|slot| slot.endpoint().is_none()) {
                let pair = shard.writer().bank().pair(slot);
                let key = counters.pair_key(slot);
                if pair.packets.get() > 0 && key.service == id {
                    let sum = sums.entry(key.client).or_default();
                    sum.packets += pair.packets.get();
                    sum.bytes += pair.bytes.get();
                }
            }
        }
        sums
    }
}

fn demo() -> Config {
    let (config, warnings) = config::parse("demo.toml", CONFIG).unwrap();
    // Of the service whose endpoint is down, which is meant.
    assert_eq!(warnings.len(), 1);
    config
}

fn agree(engine: &Engine, world: &World) {
    let ledger = world.ledger();
    assert_eq!(ledger.corrupt, 0);
    assert_eq!(ledger.sent, engine.term(Term::Rx));
    assert_eq!(ledger.received, engine.term(Term::Tx));
    let mut forwarded = 0;
    for (i, (service, own)) in engine.tables.services.iter().zip(&ledger.services).enumerate() {
        let counted = |of: fn(&ServiceCounters) -> u64| engine.sum(|bank| of(bank.service(service.id)));
        let icmp = own.icmp_errors;
        assert_eq!(icmp.packets, counted(|s| s.icmp_error_packets.get()), "service {i}");
        assert_eq!(icmp.bytes, counted(|s| s.icmp_error_bytes.get()), "service {i}");
        let clients = engine.clients(i);
        let total = clients.values().fold(Traffic::default(), |sum, one| Traffic {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        });
        assert_eq!(total, own.traffic(), "service {i}");
        if icmp == Traffic::default() {
            assert_eq!(clients, own.clients, "service {i}");
        }
        forwarded += total.packets;

        let refused = counted(|s| s.refused_no_endpoint.get());
        if total == Traffic::default() {
            assert_eq!(refused, own.first_packets);
            assert_eq!(refused, own.own.packets);
            assert_eq!(refused, own.ended(End::Refused));
            continue;
        }
        assert_eq!(refused, 0);
        assert_eq!(counted(|s| s.created.get()), own.opened, "service {i}");
        assert_eq!(counted(|s| s.error_refused.get()), own.ended(End::Refused), "service {i}");
        assert_eq!(counted(|s| s.error_server_reset.get()), own.ended(End::ServerReset), "service {i}");
        assert_eq!(counted(|s| s.error_abort.get()), own.ended(End::Aborted), "service {i}");
        assert_eq!(counted(|s| s.error_violation.get()), 0, "service {i}");
        // A question without an answer is no error.
        let timed_out = if service.protocol == Protocol::Udp { 0 } else { own.ended(End::Unanswered) };
        assert_eq!(counted(|s| s.error_timed_out.get()), timed_out, "service {i}");
    }
    assert_eq!(forwarded, engine.term(Term::Forwarded));
    let rule = |name: &str| {
        let id = engine.tables.names.rules.iter().find(|rule| rule.1 == name).unwrap().0;
        engine.sum(|bank| bank.rule(id).get())
    };
    assert_eq!(rule("block_scanners"), ledger.scans);
    assert_eq!(rule("block_icmp"), ledger.pings_stopped);
    assert_eq!(rule("allow_monitoring"), 0);
    assert_eq!(ledger.pings, ledger.pongs);
    assert_eq!(engine.dropped(DropReason::NoService), ledger.knocks);
}

fn check(workers: u8) {
    let config = demo();
    let (mut engine, mut world) = (Engine::new(&config, workers), World::new(&config, 1));
    engine.run(&mut world, 60 * SECOND, MILLISECOND);
    // Closing takes a moment only.
    for state in [FlowState::HalfOpen, FlowState::Established, FlowState::Closed] {
        assert!(engine.flows(state) > 0, "{state:?}");
    }
    world.rest();
    while !world.is_over() {
        engine.run(&mut world, SECOND, 20 * MILLISECOND);
        assert!(engine.now.0 < 300 * SECOND, "connections do not end");
    }
    agree(&engine, &world);
    for end in End::ALL {
        assert!(world.ledger().ended(end) > 0, "{end:?}");
    }
    // And the engine forgets everything.
    engine.run(&mut world, 120 * SECOND, SECOND);
    assert_eq!(FlowState::ALL.map(|state| engine.flows(state)), [0; 4]);
    if workers > 1 {
        assert!(engine.term(Term::HandedIn) > 10_000);
    }
}

#[test]
fn a_minute_agrees_to_the_byte() {
    check(1);
}

#[test]
fn a_minute_agrees_with_two_workers() {
    check(2);
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let config = demo();
    let run = |seed| {
        let (mut engine, mut world) = (Engine::new(&config, 1), World::new(&config, seed));
        engine.run(&mut world, 3 * SECOND, MILLISECOND);
        (world.ledger().sent, world.ledger().received)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn whatever_leaves_the_engine_has_right_checksums() {
    let config = demo();
    let (mut engine, mut world) = (Engine::new(&config, 1), World::new(&config, 3));
    engine.verify = true;
    engine.run(&mut world, 2 * SECOND, MILLISECOND);
    assert!(engine.term(Term::Tx) > 1000);
}
