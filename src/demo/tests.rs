//! The world against a shard, or two, on virtual time: its ledger and the engine's counters must agree to the byte.

use std::collections::{BTreeMap, VecDeque};

use arrayvec::ArrayVec;

use super::{CONFIG, End, World};
use crate::addr::{Addr, Mac};
use crate::config::{self, Config, Protocol};
use crate::counters::{FlowState, Term, WorkerCounters};
use crate::ids::{PairSlot, PortId, WorkerId};
use crate::pipeline::{
    Account, DropReason, Frame, NeighborUpdate, Output, Resolution, Shard, ShardConfig, VecFrame,
};
use crate::tables::{LinkInfo, Slots, Tables};
use crate::time::Instant;
use crate::wire::build;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

#[derive(Default)]
struct Outbox {
    sent: Vec<(PortId, VecFrame, Option<Account>)>,
    handed: Vec<(WorkerId, PortId, VecFrame)>,
    announced: Vec<NeighborUpdate>,
}

impl Output<VecFrame> for Outbox {
    fn forward(&mut self, port: PortId, frame: VecFrame, account: Account) {
        self.sent.push((port, frame, Some(account)));
    }

    fn drop(&mut self, _: PortId, _: VecFrame, _: DropReason) {}

    fn punt(&mut self, _: PortId, _: VecFrame) {}

    fn consume(&mut self, _: PortId, _: VecFrame) {}

    fn hand_off(&mut self, to: WorkerId, port: PortId, frame: VecFrame) -> Result<(), VecFrame> {
        self.handed.push((to, port, frame));
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
        Self { tables, shards, now: Instant::ZERO, turns: 0 }
    }

    /// Takes what the world sends and gives back what comes out, until both are quiet.
    fn exchange(&mut self, world: &mut World, check: bool) {
        let mut handed: VecDeque<(WorkerId, PortId, VecFrame)> = VecDeque::new();
        loop {
            let mut outbox = Outbox::default();
            let worker = if let Some((to, port, frame)) = handed.pop_front() {
                let mut burst = ArrayVec::from_iter([(port, frame)]);
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
            self.deliver(worker, outbox, world, check);
        }
    }

    fn deliver(&mut self, worker: usize, outbox: Outbox, world: &mut World, check: bool) {
        for (port, frame, account) in outbox.sent {
            if check {
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
                    self.deliver(other, more, world, check);
                }
            }
        }
    }

    /// Lets virtual time pass, a millisecond at a time.
    fn run(&mut self, world: &mut World, millis: u64, check: bool) {
        for _ in 0..millis {
            self.now = Instant(self.now.0 + MILLISECOND);
            world.advance(self.now);
            self.exchange(world, check);
            for worker in 0..self.shards.len() {
                let mut outbox = Outbox::default();
                let shard = &mut self.shards[worker].0;
                while shard.maintain(&self.tables, self.now, 1 << 12, &mut outbox) {}
                self.deliver(worker, outbox, world, check);
            }
        }
    }

    fn sum(&self, of: impl Fn(&crate::counters::Bank) -> u64) -> u64 {
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
    fn clients(&self, service: usize) -> BTreeMap<Addr, (u64, u64)> {
        let id = self.tables.services.iter().nth(service).unwrap().id;
        let mut sums: BTreeMap<Addr, (u64, u64)> = BTreeMap::new();
        for (shard, counters) in &self.shards {
            for slot in 0..counters.pair_slots_used() as u32 {
                let pair = shard.writer().bank().pair(PairSlot(slot));
                let key = counters.pair_key(PairSlot(slot));
                if pair.packets.get() > 0 && key.service == id {
                    let sum = sums.entry(key.client).or_default();
                    sum.0 += pair.packets.get();
                    sum.1 += pair.bytes.get();
                }
            }
        }
        sums
    }
}

fn demo() -> Config {
    let (config, warnings) = config::parse("demo.toml", CONFIG).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

fn agree(engine: &Engine, world: &World) {
    let ledger = world.ledger();
    assert_eq!(ledger.corrupt, 0);
    assert_eq!(ledger.sent, engine.term(Term::Rx));
    assert_eq!(ledger.received, engine.term(Term::Tx));
    let mut forwarded = 0;
    for (i, (service, own)) in engine.tables.services.iter().zip(&ledger.services).enumerate() {
        let counted = |of: fn(&crate::counters::ServiceCounters) -> u64| engine.sum(|b| of(b.service(service.id)));
        let icmp = own.icmp_errors;
        assert_eq!(icmp.packets, counted(|s| s.icmp_error_packets.get()), "service {i}");
        assert_eq!(icmp.bytes, counted(|s| s.icmp_error_bytes.get()), "service {i}");
        let (packets, bytes) =
            engine.clients(i).values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        forwarded += packets;
        let refused = counted(|s| s.refused_no_endpoint.get());
        if refused > 0 {
            // What clients got are the engine's own resets.
            assert_eq!((packets, bytes), (0, 0));
            assert_eq!(refused, own.first_packets);
            assert_eq!(own.traffic().packets, refused);
            continue;
        }
        assert_eq!(counted(|s| s.created.get()), own.opened, "service {i}");
        // The engine's own resets go to clients that speak up after their connection has expired.
        let resets = own.ended(End::Abandoned);
        assert_eq!(packets + resets, own.traffic().packets, "service {i}");
        assert_eq!(bytes + resets * 40, own.traffic().bytes, "service {i}");
        for (client, traffic) in &own.clients {
            let found = engine.clients(i).get(client).copied().unwrap_or_default();
            assert!(found.0 + resets >= traffic.packets, "service {i}, {client}");
        }
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

#[test]
fn a_minute_agrees_to_the_byte() {
    for workers in [1, 2] {
        let config = demo();
        let (mut engine, mut world) = (Engine::new(&config, workers), World::new(&config, 1));
        engine.run(&mut world, 60_000, false);
        assert!(engine.flows(FlowState::Established) > 0 && engine.flows(FlowState::Closed) > 0);
        world.rest();
        let mut rest = 0;
        while !world.is_over() {
            engine.run(&mut world, 1000, false);
            rest += 1;
            assert!(rest < 200, "connections do not end");
        }
        eprintln!("{workers} {:?}", {
            let mut l = world.ledger().clone();
            for s in &mut l.services {
                s.clients.clear();
            }
            l
        });
        for r in DropReason::ALL {
            if engine.dropped(*r) > 0 {
                eprintln!("{} {}", r.label(), engine.dropped(*r));
            }
        }
        agree(&engine, &world);
    }
}
