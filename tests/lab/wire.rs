//! What the captures on both sides of the engine say, in the terms of the metrics.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::capture::{Packet, TCP, UDP};
use crate::topology::{BLOCKED_PORT, EMPTY, SERVICES, Service, clients};

/// Packets and their L3 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, packet: &Packet) {
        self.packets += 1;
        self.bytes += packet.bytes;
    }

    fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

/// A balanced packet's service (its name), client and endpoint.
pub type Pair = (&'static str, IpAddr, IpAddr);

/// Both captures, sorted out.
#[derive(Default, Debug)]
pub struct Wires {
    /// Client to VIP, on the client's side: what the client has sent.
    pub sent: Count,
    /// Client to endpoint, on the servers' side: of that, what the engine has forwarded.
    pub forwarded: Count,
    /// Endpoint to client, on the servers' side: what the servers have answered.
    pub answered: Count,
    /// VIP to client, on the client's side: of that, what the engine has forwarded.
    pub returned: Count,
    /// What left the engine, by pair: both directions.
    pub pairs: BTreeMap<Pair, Count>,
    /// Client to a VIP's blocked port.
    pub blocked: Count,
    /// Client to the service that has no endpoint.
    pub to_empty: Count,
    /// The engine's own refusals of that.
    pub refusals: u64,
}

impl Wires {
    /// From the captures on the client's and on the servers' side.
    pub fn new(wan: &[Packet], lan: &[Packet]) -> Self {
        let mut wires = Self::default();
        let mut endpoints: HashMap<(u8, IpAddr, u16), IpAddr> = HashMap::new();
        let mut all: Vec<(bool, &Packet)> =
            wan.iter().map(|p| (true, p)).chain(lan.iter().map(|p| (false, p))).collect();
        // A client's port may come back later with another endpoint: in the order of time each packet finds its own.
        all.sort_by_key(|(_, p)| p.time_us);
        let is_client = |a: &IpAddr| clients(true).contains(a) || clients(false).contains(a);
        for (on_wan, p) in all {
            match (on_wan, is_client(&p.source)) {
                (true, true) if p.destination_port == BLOCKED_PORT => wires.blocked.add(p),
                (true, true) if p.destination_port == EMPTY.port => wires.to_empty.add(p),
                (true, true) => {
                    service(|s| at_vip(s, p, p.destination, p.destination_port), p);
                    wires.sent.add(p);
                }
                (false, true) => {
                    let s = service(|s| s.serves(p, p.destination_port), p);
                    endpoints.insert((p.protocol, p.source, p.source_port), p.destination);
                    wires.pairs.entry((s.name, p.source, p.destination)).or_default().add(p);
                    wires.forwarded.add(p);
                }
                (false, false) => {
                    service(|s| s.serves(p, p.source_port), p);
                    wires.answered.add(p);
                }
                // Nothing that it forwarded.
                (true, false) if p.source_port == EMPTY.port => wires.refusals += 1,
                (true, false) => {
                    let s = service(|s| at_vip(s, p, p.source, p.source_port), p);
                    let dip = endpoints
                        .get(&(p.protocol, p.destination, p.destination_port))
                        .unwrap_or_else(|| panic!("an answer to what no server has got: {p:?}"));
                    wires.pairs.entry((s.name, p.destination, *dip)).or_default().add(p);
                    wires.returned.add(p);
                }
            }
        }
        wires
    }

    /// What left the engine for the pairs that `wanted` picks.
    pub fn total(&self, wanted: impl Fn(&Pair) -> bool) -> Count {
        self.pairs.iter().filter(|(p, _)| wanted(p)).fold(Count::default(), |sum, (_, c)| sum.plus(*c))
    }

    /// The same for a protocol.
    pub fn protocol(&self, protocol: u8) -> Count {
        self.total(|(name, ..)| SERVICES.iter().any(|s| s.name == *name && s.protocol == protocol))
    }
}

fn at_vip(s: &Service, p: &Packet, address: IpAddr, port: u16) -> bool {
    (s.protocol, s.address(), s.port) == (p.protocol, address, port)
}

fn service(wanted: impl Fn(&&Service) -> bool, p: &Packet) -> &'static Service {
    debug_assert!(matches!(p.protocol, TCP | UDP));
    SERVICES.iter().find(wanted).unwrap_or_else(|| panic!("a packet of no service: {p:?}"))
}
