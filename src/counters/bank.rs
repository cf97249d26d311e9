//! One bank of deltas, and what is counted in it.

use super::segments::Segments;
use super::sync::{AtomicU64, Ordering, Zeroes, zeroes};
use crate::config::Protocol;
use crate::conntrack::Answered;
use crate::ids::{EndpointId, PairSlot, PortId, RuleId, ServiceId};
use crate::pipeline::DropReason;

/// A count with one writer: a relaxed load, add and store, no lock prefix.
#[derive(Debug)]
#[cfg_attr(not(all(test, pollux_loom)), derive(bytemuck::Zeroable))]
pub struct Counter(AtomicU64);

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Counter {
    /// Adds `n`. For the one writer only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts `n` from a delta of a gauge; wraps, and the sum over all ticks comes out right. For the one writer only.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The value, leaving 0. For the aggregator, on a bank at rest.
    #[inline]
    pub fn take(&self) -> u64 {
        let n = self.get();
        if n != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
        n
    }
}

/// The terms of the packet ledger, but for the drops, which have one counter for each reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Term {
    /// Received from a device.
    Rx,
    /// Verdict Forward.
    Forwarded,
    /// Verdict Punt.
    Punted,
    /// Verdict Consume.
    Consumed,
    /// Verdict Hold: began to wait, for a next hop's MAC, or a fragment for the first one of its datagram. `held` = `HeldIn` − `HeldOut`.
    HeldIn,
    /// Stopped waiting: forwarded or dropped since, and counted there.
    HeldOut,
    /// Put into another worker's ring. In the rings = `HandedOut` − `HandedIn`.
    HandedOut,
    /// Taken from another worker's ring.
    HandedIn,
    /// Frames of the engine's own that were given to a TX queue.
    Originated,
    /// Frames that fragmentation made of one forwarded packet, beyond the first.
    ExtraFragments,
    /// Frames from the kernel's interface that were given to a TX queue.
    Injected,
    /// Taken by a device.
    Tx,
    /// Refused by a full TX queue.
    TxDropped,
}

impl Term {
    /// All, in the order of their index.
    pub const ALL: [Self; 13] = [
        Self::Rx,
        Self::Forwarded,
        Self::Punted,
        Self::Consumed,
        Self::HeldIn,
        Self::HeldOut,
        Self::HandedOut,
        Self::HandedIn,
        Self::Originated,
        Self::ExtraFragments,
        Self::Injected,
        Self::Tx,
        Self::TxDropped,
    ];
}

/// The states that connections are counted in: `active_*` are the first two, `inactive_flow_count` the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowState {
    /// Handshake not finished; UDP: no reply yet.
    HalfOpen,
    /// Established.
    Established,
    /// A FIN or SHUTDOWN was seen.
    Closing,
    /// Ended, the entry is kept for stragglers.
    Closed,
}

impl FlowState {
    /// All, in the order of their index.
    pub const ALL: [Self; 4] = [Self::HalfOpen, Self::Established, Self::Closing, Self::Closed];

    /// `half_open`, `established`, `closing`, `closed`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// Frames and bytes (from the destination MAC on) of a port.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Frames that the device took.
    pub tx_packets: Counter,
    /// Bytes that the device took.
    pub tx_bytes: Counter,
    /// Frames that a full TX queue refused.
    pub tx_dropped: Counter,
}

/// Upper bounds of the times that handshakes are counted by, microseconds.
pub const HANDSHAKE_BOUNDS_US: [u32; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// How long handshakes took until the server's answer.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    /// By the first of [`HANDSHAKE_BOUNDS_US`] that they did not exceed; those that exceeded all come last.
    pub buckets: [Counter; HANDSHAKE_BOUNDS_US.len() + 1],
    /// All of them together.
    pub micros: Counter,
}

impl HandshakeCounters {
    /// One more.
    #[inline]
    pub fn count(&self, answered: Answered) {
        // All are compared: a search would be mispredicted.
        let bucket = HANDSHAKE_BOUNDS_US.iter().filter(|bound| **bound < answered.at_most).count();
        // There is one more of them than bounds.
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.micros.add(answered.micros.into());
    }
}

/// What is counted for each service. Processed packets and bytes are not here: they are the sums over its pairs.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Connections created.
    pub created: Counter,
    /// First packets refused for want of an endpoint.
    pub refused_no_endpoint: Counter,
    /// First packets refused for want of a way to the endpoint.
    pub refused_no_route: Counter,
    /// First packets refused for want of table space.
    pub refused_table_full: Counter,
    /// First packets refused for want of a SNAT port.
    pub refused_no_snat_port: Counter,
    /// First packets refused because the tuple towards the endpoint was taken.
    pub refused_tuple: Counter,
    /// Connections that ended badly: the server refused the handshake (RST, ABORT to INIT).
    pub error_refused: Counter,
    /// Connections that ended badly: the handshake timed out.
    pub error_timed_out: Counter,
    /// Connections that ended badly: RST of the server after establishment.
    pub error_server_reset: Counter,
    /// Connections that ended badly: protocol violation.
    pub error_violation: Counter,
    /// Connections that ended badly: SCTP ABORT or ERROR after establishment.
    pub error_abort: Counter,
    /// ICMP errors forwarded for its connections: part of the pairs' packets, of no L4 protocol.
    pub icmp_error_packets: Counter,
    /// Their L3 bytes.
    pub icmp_error_bytes: Counter,
    /// TCP and SCTP handshakes that its endpoints answered.
    pub handshakes: HandshakeCounters,
}

/// Processed packets and L3 bytes of one client–endpoint pair, both directions.
#[derive(Debug, Default)]
#[cfg_attr(not(all(test, pollux_loom)), derive(bytemuck::Zeroable))]
pub struct PairCounters {
    /// Packets.
    pub packets: Counter,
    /// L3 bytes as received.
    pub bytes: Counter,
}

/// Ports of one SNAT address, in all groups of endpoints.
#[derive(Debug, Default)]
pub struct SnatCounters {
    /// In use.
    pub used: Counter,
    /// At rest.
    pub resting: Counter,
    /// Free.
    pub free: Counter,
}

/// What becomes of packets in modes other than `dnat`.
#[derive(Debug, Default)]
pub struct ModeCounters {
    /// Segments that had no room for the client's address.
    pub toa_left_out: Counter,
    /// PROXY headers sent in segments of their own.
    pub proxy_segments: Counter,
    /// Packets of DSR services forwarded without an entry because the table was full.
    pub stateless: Counter,
    /// ICMP errors about tunnels' outer packets of which a client was told.
    pub tunnel_errors: Counter,
}

/// What is counted for each endpoint.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Traffic of clients that have no pair slot.
    pub other: PairCounters,
    /// Change of the number of its connections in the table.
    pub connections: Counter,
    /// TCP and SCTP handshakes that it answered.
    pub handshakes: Counter,
    /// How long their clients waited for that here, microseconds in all.
    pub handshake_us: Counter,
}

/// How a worker spent its time.
#[derive(Debug, Default)]
pub struct LoadCounters {
    /// Turns of the poll loop.
    pub polls: Counter,
    /// Turns that found a packet or other work.
    pub busy_polls: Counter,
    /// Nanoseconds in those turns.
    pub busy_nanos: Counter,
    /// Nanoseconds in all turns.
    pub total_nanos: Counter,
}

/// How many slots of each kind a bank has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Ports.
    pub ports: usize,
    /// Services; may grow.
    pub services: usize,
    /// Endpoints; may grow.
    pub endpoints: usize,
    /// Firewall rules; may grow.
    pub rules: usize,
    /// SNAT addresses.
    pub snat: usize,
    /// Client–endpoint pairs with a slot of their own.
    pub pairs: usize,
}

/// All deltas of one worker for one tick.
#[derive(Debug)]
pub struct Bank {
    terms: [Counter; Term::ALL.len()],
    dropped: [Counter; DropReason::COUNT],
    flows: [[Counter; FlowState::ALL.len()]; Protocol::ALL.len()],
    ports: Box<[PortCounters]>,
    services: Segments<ServiceCounters>,
    endpoints: Segments<EndpointCounters>,
    rules: Segments<Counter>,
    snat: Box<[SnatCounters]>,
    pairs: Zeroes<PairCounters>,
    /// How the worker spent its time.
    pub load: LoadCounters,
    /// Of modes other than `dnat`.
    pub modes: ModeCounters,
}

impl Bank {
    pub(super) fn new(sizes: Sizes) -> Self {
        fn slots<T: Default>(n: usize) -> Box<[T]> {
            (0..n).map(|_| T::default()).collect()
        }
        Self {
            terms: Default::default(),
            dropped: std::array::from_fn(|_| Counter::default()),
            flows: Default::default(),
            ports: slots(sizes.ports),
            services: Segments::new(sizes.services),
            endpoints: Segments::new(sizes.endpoints),
            rules: Segments::new(sizes.rules),
            snat: slots(sizes.snat),
            pairs: zeroes(sizes.pairs),
            load: LoadCounters::default(),
            modes: ModeCounters::default(),
        }
    }

    /// Room for more services, endpoints and rules.
    pub(super) fn grow(&self, sizes: Sizes) {
        self.services.grow(sizes.services);
        self.endpoints.grow(sizes.endpoints);
        self.rules.grow(sizes.rules);
    }

    /// A term of the packet ledger.
    #[inline]
    #[must_use]
    pub fn term(&self, term: Term) -> &Counter {
        &self.terms[term as usize]
    }

    /// Packets dropped for `reason`.
    #[inline]
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.dropped[reason.index()]
    }

    /// Change of the number of connections of `protocol` in `state`.
    #[inline]
    #[must_use]
    pub fn flows(&self, protocol: Protocol, state: FlowState) -> &Counter {
        &self.flows[protocol.index()][state as usize]
    }

    /// The ports of the SNAT address at this place of the configuration, IPv4 first.
    #[must_use]
    pub fn snat(&self, index: usize) -> Option<&SnatCounters> {
        self.snat.get(index)
    }

    /// A port's counters.
    #[inline]
    #[must_use]
    pub fn port(&self, port: PortId) -> &PortCounters {
        &self.ports[port.index()]
    }

    /// A service's counters.
    #[inline]
    #[must_use]
    pub fn service(&self, service: ServiceId) -> &ServiceCounters {
        &self.services[service.index()]
    }

    /// An endpoint's counters.
    #[inline]
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointId) -> &EndpointCounters {
        &self.endpoints[endpoint.index()]
    }

    /// Packets dropped by a rule.
    #[inline]
    #[must_use]
    pub fn rule(&self, rule: RuleId) -> &Counter {
        &self.rules[rule.index()]
    }

    /// A pair's counters.
    #[inline]
    #[must_use]
    pub fn pair(&self, pair: PairSlot) -> &PairCounters {
        match pair.endpoint() {
            None => &self.pairs[pair.index()],
            Some(endpoint) => &self.endpoint(endpoint).other,
        }
    }

    /// The slot of an endpoint's clients that have none of their own.
    #[inline]
    #[must_use]
    pub const fn other(endpoint: EndpointId) -> PairSlot {
        PairSlot::other(endpoint)
    }
}
