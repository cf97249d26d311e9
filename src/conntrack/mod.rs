//! Connections: one entry for both directions, found by the 5-tuple as it is on the wire.
//!
//! - `table`: the table itself, what it promises, and what an operation costs
//! - `hash`: the keyed hash of a tuple; `key`: what is found by it; `wheel`: which entries may be due; `vacant`: which are free
//! - `entry`: the 64 bytes of a connection that its packets need; `rest`: what else there is of it; `view`: both
//! - `machine`: its state machine, whichever of `tcp`, `udp`, `sctp`, pure and without a clock, or `one_sided`, of what is seen of a DSR connection
//! - `tally`: what it has carried
//! - `paths`: the further paths of multi-homed SCTP associations
//! - `form`: what is done with its packets

#[cfg(test)]
mod collisions;
mod entry;
mod form;
mod hash;
mod key;
mod machine;
mod one_sided;
mod paths;
mod rest;
mod sctp;
mod table;
mod tally;
mod tcp;
mod udp;
mod vacant;
mod view;
mod wheel;

pub use entry::{Entry, Wide};
pub use form::{Form, OwnAddresses};
pub(crate) use hash::TupleHash;
pub use paths::{Path, PathId, Paths};
pub use table::{Conntrack, Departed, Elsewhere, Lead};
pub use view::View;

use crate::addr::Addr;
use crate::config::Protocol;
use crate::counters::FlowState;
use crate::ids::{EndpointId, PairSlot, PortId, ServiceId, SourceId};
use crate::parse::L4;
use crate::pipeline::DropReason;

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

impl Direction {
    /// The other one.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
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
    /// Compiled rewrite where nothing but the destination is replaced, of the original direction: what to add (one's complement) to
    /// the IPv4 header checksum and to the L4 checksum. [`Self::delta_by`] has the other one. Of other forms it is not kept.
    pub delta: [u16; 2],
    /// Next hop, by [`Direction`]: opaque to the table.
    pub next_hop: [u32; 2],
    /// The firewall epoch under which this connection was last allowed: its low 24 bits.
    pub epoch: u32,
    /// Idle timeout once established, milliseconds.
    pub idle_timeout_ms: u32,
    /// What is done with its packets.
    pub form: Form,
    /// Full NAT: the address that the endpoint sees; a tunnel: its source.
    pub source: SourceId,
    /// Full NAT: the port that the endpoint sees; GUE: the port that it is sent to.
    pub source_port: u16,
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
    /// In the one step with which the server answers a handshake: since the client's first SYN or INIT.
    pub answered: Option<Answered>,
}

/// How long a client waited for the server's answer to its SYN or INIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Microseconds. Of SCTP whole milliseconds are known.
    pub micros: u32,
    /// Microseconds that it certainly was no more than.
    pub at_most: u32,
}

/// How a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// Its state.
    pub state: FlowState,
    /// Since it was created, milliseconds, to a tenth of a second.
    pub age_ms: u64,
    /// Since its timeout began to run: for most states since its last packet, milliseconds.
    pub idle_ms: u32,
    /// Until it expires if no packet comes, milliseconds.
    pub left_ms: u32,
    /// Packets that it has let pass, of both directions.
    pub packets: u64,
    /// Their L3 bytes as received.
    pub bytes: u64,
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

/// May this packet open a connection? A TCP SYN without ACK, RST and FIN; any UDP packet; an SCTP INIT (RFC 9260 §3.3.2: with an
/// initiate tag that is not 0). `false` where it is mid-stream.
#[must_use]
pub fn opens(l4: &L4) -> bool {
    match *l4 {
        L4::Tcp { flags, .. } => tcp::opens(flags),
        L4::Udp { .. } => true,
        L4::Sctp { chunks, initiate_tag, .. } => sctp::opens(chunks, initiate_tag),
        L4::Icmp { .. } | L4::Other => false,
    }
}

/// May this packet, which opens nothing, be in the midst of a connection that was begun elsewhere? TCP without SYN; SCTP with a
/// verification tag that begins and ends nothing. It comes from the client: [`Conntrack::insert`] makes the entry that it asks for.
#[must_use]
pub fn picks_up(l4: &L4) -> bool {
    match *l4 {
        L4::Tcp { flags, .. } => tcp::picks_up(flags),
        L4::Sctp { tag, chunks, reflected, .. } => !reflected && sctp::picks_up(chunks, tag),
        L4::Udp { .. } | L4::Icmp { .. } | L4::Other => false,
    }
}

impl Flow {
    /// The 5-tuple of packets that go this way, as they arrive; not for the replies of full NAT, which go to an address that the
    /// flow only names: [`Self::tuple_by`].
    #[inline]
    #[must_use]
    pub const fn tuple(&self, direction: Direction) -> Tuple {
        let (src, sport, dst, dport) = match direction {
            Direction::Original => (self.client, self.client_port, self.vip, self.vip_port),
            // Of DSR none come here that would not claim to be the VIP's.
            Direction::Reply if self.form.is_one_sided() => {
                (self.vip, self.vip_port, self.client, self.client_port)
            }
            Direction::Reply => (self.endpoint, self.endpoint_port, self.client, self.client_port),
        };
        Tuple { src, dst, sport, dport, protocol: self.protocol }
    }

    /// The 5-tuple of packets that go this way, as they arrive.
    #[inline]
    #[must_use]
    pub fn tuple_by(&self, direction: Direction, own: &OwnAddresses) -> Tuple {
        let tuple = self.tuple(direction);
        if direction == Direction::Reply && self.form.is_full_nat() {
            Tuple { dst: own.get(self.source), dport: self.source_port, ..tuple }
        } else {
            tuple
        }
    }

    /// The compiled rewrite of packets that go this way.
    #[inline]
    #[must_use]
    pub const fn delta_by(&self, direction: Direction) -> [u16; 2] {
        entry::delta_by(self.delta, direction)
    }
}
