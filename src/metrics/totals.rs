//! What is counted for the whole engine, and what series that disappeared have left behind.

use super::tally::Tally;
use crate::config::Protocol;
use crate::counters::{Bank, FlowState, Latencies, ServiceCounters, Sizes, Term};
use crate::ids::PortId;
use crate::pipeline::DropReason;

/// Totals of a port, as in [`crate::counters::PortCounters`].
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PortTotals {
    pub rx_packets: Tally,
    pub rx_bytes: Tally,
    pub tx_packets: Tally,
    pub tx_bytes: Tally,
    pub tx_dropped: Tally,
}

/// How one worker spent its time.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct LoadTotals {
    pub polls: Tally,
    pub busy_polls: Tally,
    pub busy_nanos: Tally,
    pub total_nanos: Tally,
    /// Busy share of the last tick.
    pub busy_ratio: f64,
    /// Received from devices and from other workers.
    pub packets: Tally,
}

/// What workers have timed.
#[derive(Default, Debug)]
pub(super) struct LatencyTotals {
    /// Since the last tick.
    pub open: Latencies,
    /// In the last tick.
    pub last: Latencies,
    /// Up to its end.
    pub settled: Latencies,
}

impl LatencyTotals {
    fn settle(&mut self) {
        let empty = {
            self.last.burst.reset();
            self.last.residence.reset();
            &mut self.last
        };
        std::mem::swap(empty, &mut self.open);
        self.settled.burst.add(&self.last.burst);
        self.settled.residence.add(&self.last.residence);
    }
}

/// First packets refused: labels, in the order of [`Totals::refused`].
pub(super) const REFUSALS: [&str; 5] =
    ["no_endpoint", "no_route", "table_full", "tuple_in_use", "no_snat_port"];

/// Labels of [`Totals::snat`].
pub(super) const SNAT_STATES: [&str; 3] = ["used", "resting", "free"];

/// Connections that ended badly: labels, in the order of [`Totals::ended_badly`].
pub(super) const BAD_ENDS: [&str; 5] =
    ["handshake_refused", "handshake_timed_out", "server_reset", "violation", "abort"];

/// Sums over all workers.
#[derive(Debug)]
pub(super) struct Totals {
    pub terms: [Tally; Term::ALL.len()],
    pub dropped: [Tally; DropReason::COUNT],
    pub flows: [[Tally; FlowState::ALL.len()]; Protocol::ALL.len()],
    pub ports: Vec<PortTotals>,
    pub load: Vec<LoadTotals>,
    pub latencies: LatencyTotals,
    /// Ports of each SNAT address, by state: differences of gauges.
    pub snat: Vec<[Tally; SNAT_STATES.len()]>,
    pub toa_left_out: Tally,
    pub proxy_segments: Tally,
    pub stateless: Tally,
    pub tunnel_errors: Tally,
    pub created: Tally,
    pub refused: [Tally; REFUSALS.len()],
    pub ended_badly: [Tally; BAD_ENDS.len()],
    pub requests: Tally,
    pub errors: Tally,
    pub packets: Tally,
    pub bytes: Tally,
    pub protocol_packets: [Tally; Protocol::ALL.len()],
    pub protocol_bytes: [Tally; Protocol::ALL.len()],
    pub fw_drops: Tally,
    /// The last tick's amounts.
    pub last: LastTick,
}

/// What the last tick brought.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct LastTick {
    pub seconds: f64,
    pub created: u64,
    pub requests: u64,
    pub errors: u64,
    pub packets: u64,
    pub bytes: u64,
}

impl LastTick {
    pub fn per_second(&self, amount: u64) -> f64 {
        if self.seconds > 0.0 { amount as f64 / self.seconds } else { 0.0 }
    }
}

/// What a bank counted for one service.
pub(super) struct ServiceDelta {
    pub requests: u64,
    pub errors: u64,
    pub icmp_packets: u64,
    pub icmp_bytes: u64,
}

impl Totals {
    pub fn new(sizes: Sizes, workers: usize) -> Self {
        Self {
            terms: Default::default(),
            dropped: [Tally::default(); DropReason::COUNT],
            flows: Default::default(),
            ports: vec![PortTotals::default(); sizes.ports],
            load: vec![LoadTotals::default(); workers],
            latencies: LatencyTotals::default(),
            snat: vec![Default::default(); sizes.snat],
            toa_left_out: Tally::default(),
            proxy_segments: Tally::default(),
            stateless: Tally::default(),
            tunnel_errors: Tally::default(),
            created: Tally::default(),
            refused: Default::default(),
            ended_badly: Default::default(),
            requests: Tally::default(),
            errors: Tally::default(),
            packets: Tally::default(),
            bytes: Tally::default(),
            protocol_packets: Default::default(),
            protocol_bytes: Default::default(),
            fw_drops: Tally::default(),
            last: LastTick::default(),
        }
    }

    /// Takes what belongs to no service, endpoint or rule out of a bank.
    pub fn fold(&mut self, worker: usize, bank: &Bank) {
        let packets = bank.term(Term::Rx).get() + bank.term(Term::HandedIn).get();
        self.load[worker].packets.add(packets);
        for (tally, term) in self.terms.iter_mut().zip(Term::ALL) {
            tally.add(bank.term(term).take());
        }
        for (tally, &reason) in self.dropped.iter_mut().zip(DropReason::ALL) {
            tally.add(bank.dropped(reason).take());
        }
        for (tallies, protocol) in self.flows.iter_mut().zip(Protocol::ALL) {
            for (tally, state) in tallies.iter_mut().zip(FlowState::ALL) {
                tally.add(bank.flows(protocol, state).take());
            }
        }
        for (i, port) in self.ports.iter_mut().enumerate() {
            let Ok(id) = u8::try_from(i) else { break };
            let counters = bank.port(PortId(id));
            port.rx_packets.add(counters.rx_packets.take());
            port.rx_bytes.add(counters.rx_bytes.take());
            port.tx_packets.add(counters.tx_packets.take());
            port.tx_bytes.add(counters.tx_bytes.take());
            port.tx_dropped.add(counters.tx_dropped.take());
        }
        for (i, [used, resting, free]) in self.snat.iter_mut().enumerate() {
            let Some(counters) = bank.snat(i) else { break };
            used.add(counters.used.take());
            resting.add(counters.resting.take());
            free.add(counters.free.take());
        }
        self.toa_left_out.add(bank.modes.toa_left_out.take());
        self.proxy_segments.add(bank.modes.proxy_segments.take());
        self.stateless.add(bank.modes.stateless.take());
        self.tunnel_errors.add(bank.modes.tunnel_errors.take());
        let load = &mut self.load[worker];
        load.polls.add(bank.load.polls.take());
        load.busy_polls.add(bank.load.busy_polls.take());
        load.busy_nanos.add(bank.load.busy_nanos.take());
        load.total_nanos.add(bank.load.total_nanos.take());
    }

    /// Takes what a bank counted for one service.
    pub fn fold_service(&mut self, counters: &ServiceCounters) -> ServiceDelta {
        let created = counters.created.take();
        let refused = [
            counters.refused_no_endpoint.take(),
            counters.refused_no_route.take(),
            counters.refused_table_full.take(),
            counters.refused_tuple.take(),
            counters.refused_no_snat_port.take(),
        ];
        let ended_badly = [
            counters.error_refused.take(),
            counters.error_timed_out.take(),
            counters.error_server_reset.take(),
            counters.error_violation.take(),
            counters.error_abort.take(),
        ];
        self.created.add(created);
        for (tally, n) in self.refused.iter_mut().zip(refused) {
            tally.add(n);
        }
        for (tally, n) in self.ended_badly.iter_mut().zip(ended_badly) {
            tally.add(n);
        }
        let refused: u64 = refused.iter().sum();
        let delta = ServiceDelta {
            requests: created + refused,
            errors: refused + ended_badly.iter().sum::<u64>(),
            icmp_packets: counters.icmp_error_packets.take(),
            icmp_bytes: counters.icmp_error_bytes.take(),
        };
        self.requests.add(delta.requests);
        self.errors.add(delta.errors);
        delta
    }

    /// Ends a tick that lasted `seconds`. Where it is not a `whole` one and another has been, rates stay as they are.
    pub fn settle(&mut self, seconds: f64, whole: bool) {
        let last = LastTick {
            seconds,
            created: self.created.settle(),
            requests: self.requests.settle(),
            errors: self.errors.settle(),
            packets: self.packets.settle(),
            bytes: self.bytes.settle(),
        };
        if whole || self.last.seconds == 0.0 {
            self.last = last;
        }
        for tally in self
            .terms
            .iter_mut()
            .chain(&mut self.dropped)
            .chain(self.flows.iter_mut().flatten())
            .chain(self.snat.iter_mut().flatten())
            .chain([&mut self.toa_left_out, &mut self.proxy_segments])
            .chain([&mut self.stateless, &mut self.tunnel_errors])
            .chain(&mut self.refused)
            .chain(&mut self.ended_badly)
            .chain(&mut self.protocol_packets)
            .chain(&mut self.protocol_bytes)
            .chain([&mut self.fw_drops])
        {
            tally.settle();
        }
        for port in &mut self.ports {
            for tally in [
                &mut port.rx_packets,
                &mut port.rx_bytes,
                &mut port.tx_packets,
                &mut port.tx_bytes,
                &mut port.tx_dropped,
            ] {
                tally.settle();
            }
        }
        for load in &mut self.load {
            let (busy, total) = (load.busy_nanos.settle(), load.total_nanos.settle());
            load.busy_ratio = if total == 0 { 0.0 } else { (busy as f64 / total as f64).min(1.0) };
            load.polls.settle();
            load.busy_polls.settle();
            load.packets.settle();
        }
        self.latencies.settle();
    }

    /// A term of the ledger.
    pub fn term(&self, term: Term) -> u64 {
        self.terms[term as usize].settled
    }

    /// What has gone in and not come out.
    pub fn between(&self, entered: Term, left: Term) -> i64 {
        self.term(entered).wrapping_sub(self.term(left)).cast_signed()
    }

    /// Connections of a protocol in a state.
    pub fn flows(&self, protocol: Protocol, state: FlowState) -> i64 {
        self.flows[protocol.index()][state as usize].settled.cast_signed()
    }

    /// Half-open and established connections of a protocol.
    pub fn active(&self, protocol: Protocol) -> i64 {
        self.flows(protocol, FlowState::HalfOpen) + self.flows(protocol, FlowState::Established)
    }

    /// Closing and closed connections.
    pub fn inactive(&self) -> i64 {
        let of = |p| self.flows(p, FlowState::Closing) + self.flows(p, FlowState::Closed);
        Protocol::ALL.into_iter().map(of).sum()
    }
}

/// What is retired of the page of all pairs.
#[derive(Default, Debug)]
pub(super) struct Followed {
    pub client_packets: Tally,
    pub pair_bytes: Tally,
    pub pair_packets: Tally,
}

/// What the series of each family counted that have disappeared (ground rules 5 and 6), and what belongs to no series.
#[derive(Default, Debug)]
pub(super) struct Retired {
    pub requests: Tally,
    pub errors: Tally,
    pub service_bytes: Tally,
    pub service_packets: Tally,
    pub endpoint_bytes: Tally,
    pub client_packets: Tally,
    pub pair_bytes: Tally,
    pub pair_packets: Tally,
    pub fw_drops: Tally,
    pub followed: Followed,
}

impl Retired {
    pub fn settle(&mut self) {
        for tally in [
            &mut self.requests,
            &mut self.errors,
            &mut self.service_bytes,
            &mut self.service_packets,
            &mut self.endpoint_bytes,
            &mut self.client_packets,
            &mut self.pair_bytes,
            &mut self.pair_packets,
            &mut self.fw_drops,
            &mut self.followed.client_packets,
            &mut self.followed.pair_bytes,
            &mut self.followed.pair_packets,
        ] {
            tally.settle();
        }
    }
}
