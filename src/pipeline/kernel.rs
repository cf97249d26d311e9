//! What the pipeline does not claim, at ports with an interface of the kernel's: policed, and punted.
//!
//! To a VIP only ARP, ND and echo get there: the kernel has the address, and whatever listens on all addresses would be
//! exposed.

use super::limiter::Limiter;
use super::local::is_ours;
use super::shard::{Arrival, Shard, Turn};
use super::{DropReason, Frame, Output};
use crate::addr::Addr;
use crate::config::Transit;
use crate::counters::Term;
use crate::firewall::Subject;
use crate::ids::PortId;
use crate::responder::nd;
use crate::time::Instant;
use crate::wire::ethernet::{Ethernet, ethertype};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::protocol;

/// What is policed together, so that one cannot starve the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// ARP and neighbour discovery.
    Neighbor,
    /// Everything else: echo, BGP, SSH, what is in transit.
    Other,
}

/// One worker's limits on what it punts.
#[derive(Debug)]
pub(super) struct Policers {
    neighbor: Limiter,
    other: Limiter,
}

impl Policers {
    /// Packets a second, and at once. Both bursts together fit the ring, so a flood of one class never fills it for the
    /// other.
    pub const fn new() -> Self {
        Self { neighbor: Limiter::new(2_000, 256), other: Limiter::new(20_000, 512) }
    }

    fn check(&mut self, class: Class, now: Instant) -> Result<(), DropReason> {
        let (limiter, reason) = match class {
            Class::Neighbor => (&mut self.neighbor, DropReason::PuntNeighborRate),
            Class::Other => (&mut self.other, DropReason::PuntRate),
        };
        if limiter.allow(now) { Ok(()) } else { Err(reason) }
    }
}

impl<F: Frame> Shard<F> {
    /// Gives a frame to the kernel's interface of the port that it came in by.
    pub(super) fn punt<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        class: Class,
    ) {
        if let Err(reason) = self.policers.check(class, turn.now) {
            return self.drop(turn, port, frame, reason);
        }
        match turn.out.punt(port, frame) {
            Ok(()) => self.writer.bank().term(Term::Punted).add(1),
            Err(frame) => self.drop(turn, port, frame, DropReason::PuntFull),
        }
    }

    /// A packet that the firewall allows and that is of no service or connection; `reason` is why it is dropped where it is
    /// for an address of ours and not the kernel's to judge.
    pub(super) fn unclaimed<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        reason: DropReason,
    ) {
        let Arrival { port, frame, packet } = arrival;
        match verdict(turn, port, packet.dst) {
            Verdict::Ours => self.drop(turn, port, frame, reason),
            Verdict::Forwarded if turn.tables.is_endpoint(packet.src, packet.ports().0) => {
                self.drop(turn, port, frame, DropReason::EndpointReply);
            }
            Verdict::Forwarded => self.punt(turn, port, frame, Class::Other),
            Verdict::Punt => self.punt(turn, port, frame, Class::Other),
            Verdict::Transit => self.drop(turn, port, frame, DropReason::Transit),
        }
    }

    /// Whether what is for `dst` and not claimed by the engine goes to the kernel, which puts fragments together itself.
    pub(super) fn is_for_kernel<O>(&self, turn: &Turn<'_, O>, port: PortId, dst: Addr) -> bool {
        turn.tables.ports[port.index()].kernel
            && !turn.tables.services.is_vip(dst)
            && !turn.tables.is_snat(dst)
            && (turn.tables.is_local(dst) || is_ours(turn.tables, &turn.tables.ports[port.index()], dst))
    }

    /// A frame that the parser refused. Fragments, and what is for a group, can be for the kernel (routing protocols, VRRP,
    /// multicast and router discovery); nothing else is.
    #[cold]
    pub(super) fn unparsed<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        reason: DropReason,
    ) {
        let kernel = turn.tables.ports[port.index()].kernel;
        if !kernel || !matches!(reason, DropReason::Fragment | DropReason::Multicast) {
            return self.drop(turn, port, frame, reason);
        }
        let Some(outline) = Outline::of(frame.data()) else {
            return self.drop(turn, port, frame, reason);
        };
        if outline.discovery {
            return self.punt(turn, port, frame, Class::Neighbor);
        }
        let Outline { src, dst, protocol, .. } = outline;
        let subject = Subject { port, src, dst, protocol, ports: None };
        if let Some(rule) = turn.tables.firewall.dropped_by(&subject) {
            self.writer.bank().rule(rule).add(1);
            return self.drop(turn, port, frame, DropReason::Firewall);
        }
        let to_kernel = reason == DropReason::Multicast
            || matches!(verdict(turn, port, dst), Verdict::Punt | Verdict::Forwarded);
        if to_kernel {
            self.punt(turn, port, frame, Class::Other);
        } else {
            self.drop(turn, port, frame, reason);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// For an address of ours that the kernel does not speak for.
    Ours,
    Punt,
    /// For somebody else, and the kernel may forward it.
    Forwarded,
    /// For somebody else.
    Transit,
}

fn verdict<O>(turn: &Turn<'_, O>, port: PortId, dst: Addr) -> Verdict {
    let config = &turn.tables.ports[port.index()];
    if turn.tables.services.is_vip(dst) || turn.tables.is_snat(dst) {
        return Verdict::Ours;
    }
    let ours = turn.tables.is_local(dst) || is_ours(turn.tables, config, dst);
    match (ours, config.kernel) {
        (true, true) => Verdict::Punt,
        (true, false) => Verdict::Ours,
        (false, true) if turn.tables.transit == Transit::Kernel => Verdict::Forwarded,
        (false, _) => Verdict::Transit,
    }
}

/// Whether what came in by `port` for `dst`, and is of no connection, is for others to whom the kernel may forward it.
pub(super) fn is_through<O>(turn: &Turn<'_, O>, port: PortId, dst: Addr) -> bool {
    let for_us = turn.tables.is_local(dst) || is_ours(turn.tables, &turn.tables.ports[port.index()], dst);
    !for_us && verdict(turn, port, dst) == Verdict::Forwarded
}

/// What the firewall can know of a packet that the parser refused.
struct Outline {
    src: Addr,
    dst: Addr,
    protocol: u8,
    /// It is neighbour or router discovery.
    discovery: bool,
}

impl Outline {
    fn of(frame: &[u8]) -> Option<Self> {
        let eth = Ethernet::new_checked(frame).ok()?;
        match eth.ethertype() {
            ethertype::IPV4 => {
                let ip = Ipv4::new_checked(eth.payload()).ok()?;
                Some(Self { src: ip.src(), dst: ip.dst(), protocol: ip.protocol(), discovery: false })
            }
            ethertype::IPV6 => {
                let ip = Ipv6::new_checked(eth.payload()).ok()?;
                let upper = ip.upper().ok()?;
                let kind = ip.payload().get(upper.offset).filter(|_| upper.protocol == protocol::ICMPV6);
                let discovery = upper.fragment.is_none()
                    && ip.hop_limit() == nd::HOP_LIMIT
                    && kind.is_some_and(|kind| nd::TYPES.contains(kind));
                Some(Self { src: ip.src(), dst: ip.dst(), protocol: upper.protocol, discovery })
            }
            _ => None,
        }
    }
}
