//! What the two ends of any connection have in common.

use super::ledger::{End, Ledger};
use super::net::Net;
use super::rng::Rng;
use super::{sctp, tcp, udp};
use crate::addr::{Addr, Mac};
use crate::config::Protocol;
use crate::time::Instant;
use crate::wire::build::{Ip, Layer4, Packet, eth};

/// One end of a connection, as its host names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub protocol: Protocol,
    pub local: (Addr, u16),
    pub remote: (Addr, u16),
}

/// What an end is lent while something happens to it.
pub(super) struct Context<'a> {
    pub now: Instant,
    pub key: Key,
    /// Of the service, in the configuration.
    pub service: usize,
    pub net: &'a mut Net,
    pub rng: &'a mut Rng,
    pub ledger: &'a mut Ledger,
}

impl Context<'_> {
    /// Sends a packet to the other end.
    pub fn send<L: Layer4>(&mut self, packet: impl FnOnce(Ip) -> Packet<L>) {
        let (src, dst) = (self.key.local.0, self.key.remote.0);
        let ip = eth(Mac::default(), Mac::default()).ip(src, dst);
        self.net.send(self.now, src, dst, packet(ip).padded());
    }

    /// Both ports, own one first.
    pub const fn ports(&self) -> (u16, u16) {
        (self.key.local.1, self.key.remote.1)
    }

    /// Enters the end of a connection. Clients do.
    pub fn record(&mut self, end: End) {
        *self.ledger.services[self.service].ends.entry(end).or_default() += 1;
    }

    /// Enters a packet that may begin a connection.
    pub fn first_packet(&mut self) {
        self.ledger.services[self.service].first_packets += 1;
    }
}

/// One end of a connection.
pub(super) enum Conn {
    Tcp(tcp::Half),
    Udp(udp::Client),
    Sctp(sctp::Half),
}

impl Conn {
    /// When it next wants to be called; none: it is over.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Tcp(half) => half.deadline(),
            Self::Udp(client) => client.deadline(),
            Self::Sctp(half) => half.deadline(),
        }
    }

    /// Its time has come.
    pub fn timer(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Tcp(half) => half.timer(cx),
            Self::Udp(client) => client.timer(cx),
            Self::Sctp(half) => half.timer(cx),
        }
    }
}
