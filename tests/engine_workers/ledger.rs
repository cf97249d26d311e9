//! What all workers have counted.

use std::time::{Duration, Instant};

use pollux::counters::{Bank, Term};
use pollux::engine::Engine;
use pollux::ids::PairSlot;
use pollux::pipeline::DropReason;

/// The sum over all workers at one tick.
pub struct Ledger {
    pub terms: Vec<u64>,
    pub reasons: Vec<u64>,
    pub dropped: u64,
    /// RX packets and bytes, TX packets and bytes.
    pub ports: [(u64, u64, u64, u64); 2],
    pub processed: (u64, u64),
    pub polls: u64,
    pub busy_polls: u64,
}

impl Ledger {
    pub fn of(engine: &Engine) -> Self {
        Self::of_tick(engine, 1)
    }

    /// What was counted since the tick before.
    pub fn of_tick(engine: &Engine, tick: u32) -> Self {
        let workers = engine.counters();
        for worker in &workers {
            worker.ask(tick);
        }
        let mut ledger = Self {
            terms: vec![0; Term::ALL.len()],
            reasons: vec![0; DropReason::COUNT],
            dropped: 0,
            ports: [(0, 0, 0, 0); 2],
            processed: (0, 0),
            polls: 0,
            busy_polls: 0,
        };
        for worker in &workers {
            let deadline = Instant::now() + Duration::from_secs(10);
            let bank = loop {
                assert!(Instant::now() < deadline, "a worker does not turn");
                match worker.at_rest(tick) {
                    Some(bank) => break bank,
                    None => std::thread::yield_now(),
                }
            };
            ledger.add(bank, worker.pair_slots());
        }
        ledger
    }

    pub fn add(&mut self, bank: &Bank, slots: impl Iterator<Item = PairSlot>) {
        for (sum, term) in self.terms.iter_mut().zip(Term::ALL) {
            *sum += bank.term(term).get();
        }
        for (sum, &reason) in self.reasons.iter_mut().zip(DropReason::ALL) {
            *sum += bank.dropped(reason).get();
            self.dropped += bank.dropped(reason).get();
        }
        for (id, sum) in (0..).zip(&mut self.ports) {
            let port = bank.port(pollux::ids::PortId(id));
            sum.0 += port.rx_packets.get();
            sum.1 += port.rx_bytes.get();
            sum.2 += port.tx_packets.get();
            sum.3 += port.tx_bytes.get();
        }
        for slot in slots {
            let pair = bank.pair(slot);
            self.processed.0 += pair.packets.get();
            self.processed.1 += pair.bytes.get();
        }
        self.polls += bank.load.polls.get();
        self.busy_polls += bank.load.busy_polls.get();
    }

    pub fn term(&self, term: Term) -> u64 {
        self.terms[term as usize]
    }

    pub fn reason(&self, reason: DropReason) -> u64 {
        self.reasons[reason.index()]
    }
}
