//! Connections: one entry for both directions, found by the 5-tuple as it is on the wire.

use crate::addr::Addr;
use crate::config::Protocol;
use crate::counters::FlowState;
use crate::ids::{EndpointId, PairSlot, PortId, ServiceId};
use crate::parse::L4;
use crate::pipeline::DropReason;
use crate::time::Instant;

/// A 5-tuple as a packet carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// L4 protocol.
    pub protocol: Protocol,
}

impl Tuple {
    /// The tuple of a packet that goes the other way.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, protocol: self.protocol }
    }
}

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// Client to endpoint.
    Original,
    /// Endpoint to client.
    Reply,
}

/// Index of an entry; good until the entry is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowId(pub u32);

/// The part of an entry that its creator fills in; the table adds state, timer and links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The client's address.
    pub client: Addr,
    /// The address that the client talks to.
    pub vip: Addr,
    /// The endpoint's address.
    pub endpoint: Addr,
    /// The client's port.
    pub client_port: u16,
    /// The port that the client talks to.
    pub vip_port: u16,
    /// The endpoint's port.
    pub endpoint_port: u16,
    /// L4 protocol.
    pub protocol: Protocol,
    /// Where the first packet came in.
    pub ingress: PortId,
    /// The service.
    pub service: ServiceId,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Whose traffic this is.
    pub pair: PairSlot,
    /// Compiled rewrite, by [`Direction`]: what to add (one's complement) to the IPv4 header checksum and to the L4 checksum.
    pub delta: [[u16; 2]; 2],
    /// Next hop, by [`Direction`]: opaque to the table.
    pub next_hop: [u32; 2],
    /// The firewall epoch under which this connection was last allowed.
    pub epoch: u32,
    /// Idle timeout once established, milliseconds.
    pub idle_timeout_ms: u32,
}

/// How a connection ended badly. At most one per connection is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowError {
    /// The server refused the handshake.
    Refused,
    /// The handshake was not finished in time.
    TimedOut,
    /// RST of the server after establishment.
    ServerReset,
    /// Protocol violation.
    Violation,
    /// SCTP ABORT or ERROR after establishment.
    Abort,
}

/// What a packet did to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// State before.
    pub before: FlowState,
    /// State after.
    pub after: FlowState,
    /// Set in the one step that made the connection a bad one.
    pub error: Option<FlowError>,
    /// Whether the packet may pass.
    pub pass: Result<(), DropReason>,
}

/// An entry that has expired and is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    /// The entry.
    pub flow: Flow,
    /// Its last state.
    pub state: FlowState,
    /// Set if it ends badly by expiring, and nothing bad was reported before.
    pub error: Option<FlowError>,
}

/// Why a connection was not entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// No entry or no bucket place is free.
    Full,
    /// One of its two tuples belongs to another connection.
    TupleInUse,
}

/// May this packet open a connection? `None` where it is mid-stream.
#[must_use]
pub fn opens(_l4: &L4) -> bool {
    todo!()
}

/// The table of one worker.
#[derive(Debug)]
pub struct Conntrack {}

impl Conntrack {
    /// An empty table for `capacity` connections, all memory taken now. `hash_key` is secret, against hash flooding.
    #[must_use]
    pub fn new(_capacity: usize, _hash_key: (u64, u64)) -> Self {
        todo!()
    }

    /// The keyed hash of a tuple.
    #[inline]
    #[must_use]
    pub fn hash(&self, _tuple: &Tuple) -> u64 {
        todo!()
    }

    /// Finds the connection that a packet with this tuple belongs to.
    #[inline]
    #[must_use]
    pub fn find(&self, _tuple: &Tuple, _hash: u64) -> Option<(FlowId, Direction)> {
        todo!()
    }

    /// An entry.
    #[inline]
    #[must_use]
    pub fn flow(&self, _id: FlowId) -> &Flow {
        todo!()
    }

    /// An entry, writable: for the next hop and the epoch; addresses and ports must stay.
    #[inline]
    #[must_use]
    pub fn flow_mut(&mut self, _id: FlowId) -> &mut Flow {
        todo!()
    }

    /// An entry's state.
    #[must_use]
    pub fn state(&self, _id: FlowId) -> FlowState {
        todo!()
    }

    /// Enters a connection by its first packet, in state half-open.
    ///
    /// # Errors
    /// [`InsertError`]; the table is then unchanged.
    pub fn insert(&mut self, _flow: Flow, _first: &L4, _now: Instant) -> Result<FlowId, InsertError> {
        todo!()
    }

    /// Advances the state machine by a packet of the connection, and its timer.
    pub fn step(&mut self, _id: FlowId, _direction: Direction, _l4: &L4, _now: Instant) -> Step {
        todo!()
    }

    /// Whether a first packet of this kind, original direction, starts the connection anew (port reuse: a SYN or INIT on an
    /// entry that is closed). The caller removes the entry and creates another.
    #[must_use]
    pub fn reopens(&self, _id: FlowId, _direction: Direction, _l4: &L4) -> bool {
        todo!()
    }

    /// Removes an entry.
    pub fn remove(&mut self, _id: FlowId) -> Expired {
        todo!()
    }

    /// Removes what has expired by `now`, looking at no more than `budget` entries, and says whether any are left to look at.
    pub fn expire(&mut self, _now: Instant, _budget: usize, _gone: impl FnMut(Expired)) -> bool {
        todo!()
    }

    /// Connections in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        todo!()
    }
}
