//! One host on a link: it answers ARP and neighbour discovery for its addresses, and finds the engine by them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::addr::{Addr, Mac};
use crate::time::Instant;
use crate::wire::arp::{self, Arp};
use crate::wire::build::eth;
use crate::wire::{icmp, ndp};

/// An answer is believed for so long.
const REACHABLE: Duration = Duration::from_secs(45);
/// Between two requests.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Frames that wait for an answer.
const WAITING: usize = 64;

/// One host on a link.
pub(super) struct Station {
    pub mac: Mac,
    /// Its addresses on the link: those it answers for.
    addresses: Vec<Addr>,
    /// Who gets packets for others; none: everybody whom it sends to is on the link.
    router: Option<Addr>,
    /// Falls silent for a while, again and again.
    pub flaky: bool,
    neighbors: BTreeMap<Addr, Neighbor>,
}

#[derive(Default)]
struct Neighbor {
    found: Option<(Mac, Instant)>,
    asked: Option<Instant>,
    waiting: Vec<Vec<u8>>,
}

/// In which part of each period a flaky station is silent.
const PERIOD: Duration = Duration::from_secs(30);
const SILENT_FROM: Duration = Duration::from_secs(10);
const SILENT_FOR: Duration = Duration::from_secs(10);

impl Station {
    pub fn new(mac: Mac, addresses: Vec<Addr>, router: Option<Addr>) -> Self {
        Self { mac, addresses, router, flaky: false, neighbors: BTreeMap::new() }
    }

    /// When a silent station will speak again.
    pub fn silent_until(&self, now: Instant) -> Option<Instant> {
        let phase = now.0 % PERIOD.as_nanos() as u64;
        let until = (SILENT_FROM + SILENT_FOR).as_nanos() as u64;
        (self.flaky && phase >= SILENT_FROM.as_nanos() as u64 && phase < until)
            .then(|| Instant(now.0 - phase + until))
    }

    /// Sends an IP packet to `dst` as soon as its next hop's MAC is known. The frame's MACs are filled in here.
    pub fn send(&mut self, now: Instant, dst: Addr, mut frame: Vec<u8>, out: &mut impl FnMut(Vec<u8>)) {
        let hop = self.router.unwrap_or(dst);
        let neighbor = self.neighbors.entry(hop).or_default();
        match neighbor.found {
            Some((mac, at)) if now.since(at) < REACHABLE => {
                address(&mut frame, self.mac, mac);
                out(frame);
            }
            _ => {
                neighbor.found = None;
                if neighbor.waiting.len() < WAITING {
                    neighbor.waiting.push(frame);
                }
                self.ask(now, out);
            }
        }
    }

    /// Asks for every next hop that a frame waits for, again where the last request is old.
    pub fn ask(&mut self, now: Instant, out: &mut impl FnMut(Vec<u8>)) {
        for (&target, neighbor) in &mut self.neighbors {
            let due = neighbor.asked.is_none_or(|at| now.since(at) >= RETRANSMIT);
            let Some(&own) = self.addresses.iter().find(|own| own.is_v4() == target.is_v4()) else {
                continue;
            };
            if neighbor.waiting.is_empty() || !due {
                continue;
            }
            neighbor.asked = Some(now);
            out(if target.is_v4() {
                eth(self.mac, Mac::BROADCAST).arp_request(own, target).padded()
            } else {
                let group = ndp::solicited_node(target);
                eth(self.mac, ndp::multicast_mac(group)).ip(own, group).neighbor_solicitation(target).frame()
            });
        }
    }

    /// An ARP packet was heard.
    pub fn arp(&mut self, now: Instant, arp: &Arp<'_>, out: &mut impl FnMut(Vec<u8>)) {
        if !self.addresses.contains(&arp.target_ip()) {
            return;
        }
        self.learn(now, arp.sender_ip(), arp.sender_mac(), out);
        if arp.operation() == arp::REQUEST {
            out(eth(self.mac, arp.sender_mac()).arp_reply(arp.target_ip(), arp.sender_ip()).padded());
        }
    }

    /// A neighbour solicitation or advertisement was heard.
    pub fn discovery(
        &mut self,
        now: Instant,
        (src, dst): (Addr, Addr),
        message: &ndp::Message,
        out: &mut impl FnMut(Vec<u8>),
    ) {
        match *message {
            ndp::Message::Solicitation { target, source_mac: Some(mac) }
                if self.addresses.contains(&target) =>
            {
                self.learn(now, src, mac, out);
                let flags = ndp::SOLICITED | ndp::OVERRIDE;
                out(eth(self.mac, mac).ip(target, src).neighbor_advertisement(target, flags).frame());
            }
            ndp::Message::Advertisement { target, target_mac: Some(mac), .. }
                if self.addresses.contains(&dst) =>
            {
                self.learn(now, target, mac, out);
            }
            _ => {}
        }
    }

    fn learn(&mut self, now: Instant, addr: Addr, mac: Mac, out: &mut impl FnMut(Vec<u8>)) {
        let neighbor = self.neighbors.entry(addr).or_default();
        neighbor.found = Some((mac, now));
        neighbor.asked = None;
        for mut frame in neighbor.waiting.drain(..) {
            address(&mut frame, self.mac, mac);
            out(frame);
        }
    }
}

/// Whether an ICMP message is of neighbour discovery.
pub(super) fn is_discovery(icmp: &icmp::Icmp<'_>) -> bool {
    (133..=137).contains(&icmp.kind())
}

fn address(frame: &mut [u8], src: Mac, dst: Mac) {
    if let Some((to, rest)) = frame.split_first_chunk_mut()
        && let Some(from) = rest.first_chunk_mut()
    {
        (*to, *from) = (dst.0, src.0);
    }
}
