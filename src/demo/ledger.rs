//! What the world itself knows to have happened: what the engine's counters are held against.

use std::collections::BTreeMap;

use crate::addr::Addr;

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum End {
    /// TCP FIN both ways, SCTP SHUTDOWN.
    Closed,
    /// UDP: every question was answered.
    Answered,
    /// RST to the SYN, ABORT to the INIT.
    Refused,
    /// RST by the server in mid-connection.
    ServerReset,
    /// RST by the client.
    ClientReset,
    /// SCTP ABORT by either side of an established association.
    Aborted,
    /// The client fell silent; when it spoke again nobody knew the connection any more.
    Abandoned,
    /// The handshake, or the question, was never answered.
    Unanswered,
    /// UDP: the server's host said that nobody listens.
    Unreachable,
    /// Established, and then one side no longer heard the other.
    Lost,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Closed,
        Self::Answered,
        Self::Refused,
        Self::ServerReset,
        Self::ClientReset,
        Self::Aborted,
        Self::Abandoned,
        Self::Unanswered,
        Self::Unreachable,
        Self::Lost,
    ];
}

/// Packets and L3 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// IP header and everything after it.
    pub bytes: u64,
}

impl Traffic {
    pub(super) const fn add(&mut self, l3: &[u8]) {
        self.packets += 1;
        self.bytes += l3.len() as u64;
    }
}

/// One service.
#[derive(Clone, Default, Debug)]
pub struct ServiceLedger {
    /// Connections that clients have begun.
    pub opened: u64,
    /// First packets of connections that clients have sent, repeated ones too.
    pub first_packets: u64,
    /// How they ended.
    pub ends: BTreeMap<End, u64>,
    /// What was forwarded, towards endpoints and towards clients, by client: TCP, UDP, SCTP.
    pub clients: BTreeMap<Addr, Traffic>,
    /// ICMP errors about its connections that were forwarded.
    pub icmp_errors: Traffic,
    /// Answers of the engine itself, in a server's name: RST, ABORT. Told by their TTL, which no forwarding has lowered.
    pub own: Traffic,
}

impl ServiceLedger {
    /// How many connections ended this way.
    #[must_use]
    pub fn ended(&self, end: End) -> u64 {
        self.ends.get(&end).copied().unwrap_or(0)
    }

    /// All that was forwarded for this service.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.clients.values().chain([&self.icmp_errors]).fold(Traffic::default(), |sum, one| Traffic {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        })
    }
}

/// Everything that the world has sent and received.
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    /// Frames into the engine.
    pub sent: u64,
    /// Frames out of the engine.
    pub received: u64,
    /// Received frames that no station could read: wrong length, checksum or address.
    pub corrupt: u64,
    /// By position in the configuration.
    pub services: Vec<ServiceLedger>,
    /// SYNs of the port scanner.
    pub scans: u64,
    /// Pings that a firewall rule stops.
    pub pings_stopped: u64,
    /// Pings that nothing stops.
    pub pings: u64,
    /// Answers to pings.
    pub pongs: u64,
    /// Knocks at ports of a VIP that have no service.
    pub knocks: u64,
}

impl Ledger {
    /// How many connections of all services ended this way.
    #[must_use]
    pub fn ended(&self, end: End) -> u64 {
        self.services.iter().map(|service| service.ended(end)).sum()
    }
}
