//! Packets for the engine itself: ARP, neighbour discovery, echo; and ICMP errors that it reports.

use super::kernel::Class;
use super::shard::{Arrival, Shard, Turn};
use super::{DropReason, Frame, NeighborUpdate, Output};
use crate::addr::{Addr, Mac};
use crate::ids::PortId;
use crate::parse::{L4, Packet};
use crate::responder::{Reply, arp, echo, icmp, nd};
use crate::tables::{Port, Tables};

impl<F: Frame> Shard<F> {
    pub(super) fn arp<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        frame: F,
        offset: usize,
    ) {
        let Some(arp) = arp::read(frame.data(), offset) else {
            return self.drop(turn, port, frame, DropReason::ArpMalformed);
        };
        let config = &turn.tables.ports[port.index()];
        let for_us = is_ours(turn.tables, config, arp.target);
        let (mac, sender) = arp.sender;
        self.heard(turn, port, sender, mac, for_us);
        if has_kernel_for(turn.tables, config, arp.target) {
            // Requests for others are most of what a broadcast domain says, and nothing to the kernel, but for those that
            // announce their sender.
            if arp.request && !for_us && arp.target != sender {
                return self.consume(turn, port, frame);
            }
            return self.punt(turn, port, frame, Class::Neighbor);
        }
        if arp.request && for_us {
            arp::reply(&mut self.scratch, &arp, config.mac, config.vlan);
            self.originate(turn, port);
        }
        self.consume(turn, port, frame);
    }

    pub(super) fn neighbor_discovery<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        kind: u8,
    ) {
        let Arrival { port, frame, packet } = arrival;
        let config = &turn.tables.ports[port.index()];
        if let nd::SOLICITATION | nd::ADVERTISEMENT = kind {
            let Some(message) = nd::read(frame.data(), &packet, kind) else {
                return self.drop(turn, port, frame, DropReason::IcmpHeader);
            };
            let solicitation = kind == nd::SOLICITATION;
            let for_us = solicitation && is_ours(turn.tables, config, message.target);
            let about = if solicitation { packet.src } else { message.target };
            // The answer to a question put to one station may leave its MAC out (RFC 4861 §4.4): it confirms what is known.
            let known = || (!solicitation).then(|| self.neighbors.mac(port, about)).flatten();
            if let Some(mac) = message.mac.or_else(known) {
                self.heard(turn, port, about, mac, for_us);
            }
            if config.kernel && solicitation && !for_us {
                return self.consume(turn, port, frame);
            }
            if for_us
                && !has_kernel_for(turn.tables, config, message.target)
                && let Some(reply) = Reply::to(frame.data(), config.mac, config.vlan)
            {
                let asker = (reply.to, packet.src);
                nd::advertise(&mut self.scratch, asker, message.target, config.mac, config.vlan);
                self.originate(turn, port);
                return self.consume(turn, port, frame);
            }
        }
        if config.kernel {
            return self.punt(turn, port, frame, Class::Neighbor);
        }
        self.consume(turn, port, frame);
    }

    /// Somebody has told a MAC. Only addresses that can be on this link are taken, and never one of ours.
    fn heard<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        port: PortId,
        addr: Addr,
        mac: Mac,
        for_us: bool,
    ) {
        let config = &turn.tables.ports[port.index()];
        let on_link = config.addresses.iter().any(|a| a.contains(addr)) || addr.is_link_local_v6();
        if mac.is_group() || !on_link || is_ours(turn.tables, config, addr) {
            return;
        }
        let update = NeighborUpdate { port, addr, mac, create: for_us };
        self.resolved(&update, turn);
        if self.owner.is_shared() {
            turn.out.announce(update);
        }
    }

    /// A packet of no connection and no protocol that has any: echo is answered, the rest dropped.
    pub(super) fn local<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, arrival: Arrival<F>) {
        if self.firewalled(turn, &arrival) {
            return self.drop(turn, arrival.port, arrival.frame, DropReason::Firewall);
        }
        let reason = match arrival.packet.l4_info {
            L4::Icmp { .. } => DropReason::IcmpUnsupported,
            _ => DropReason::UnknownProtocol,
        };
        let config = &turn.tables.ports[arrival.port.index()];
        let ours =
            is_ours(turn.tables, config, arrival.packet.dst) || turn.tables.is_local(arrival.packet.dst);
        let Packet { protocol, l4_info, .. } = arrival.packet;
        match l4_info {
            L4::Icmp { kind, .. } if ours && echo::is_request(protocol, kind) => {
                let Arrival { port, frame, packet } = arrival;
                if has_kernel_for(turn.tables, config, packet.dst) {
                    return self.punt(turn, port, frame, Class::Other);
                }
                // Some devices take more than the MTU: the reply, as long as the request, would not leave.
                if packet.l3_len > u32::from(config.mtu) {
                    return self.drop(turn, port, frame, DropReason::MtuExceeded);
                }
                let written = Reply::to(frame.data(), config.mac, config.vlan)
                    .and_then(|reply| echo::reply(&mut self.scratch, frame.data(), &packet, &reply));
                if written.is_some() {
                    self.originate(turn, port);
                }
                self.consume(turn, port, frame);
            }
            _ => self.unclaimed(turn, arrival, reason),
        }
    }

    /// Reports an error about a packet to its sender, within the rate limit.
    pub(super) fn report<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: &Arrival<F>,
        error: icmp::Error,
    ) {
        let Arrival { port, frame, packet } = arrival;
        if let L4::Icmp { kind, .. } = packet.l4_info
            && icmp::is_error(packet.protocol, kind)
        {
            return;
        }
        // About the first fragment alone (RFC 1122 §3.2.2).
        if packet.fragment.is_some_and(|fragment| !fragment.is_first()) {
            return;
        }
        let config = &turn.tables.ports[port.index()];
        let family = packet.src.is_v4();
        let Some(from) = config.addresses.iter().map(|a| a.addr).find(|a| a.is_v4() == family) else {
            return;
        };
        let Some(reply) = Reply::to(frame.data(), config.mac, config.vlan) else { return };
        if !self.limiter.allow(turn.now) {
            return;
        }
        if icmp::write(&mut self.scratch, frame.data(), packet, from, &reply, error).is_some() {
            self.originate(turn, *port);
        }
    }
}

/// Whether the kernel answers for `addr` at this port: of SNAT addresses it knows nothing.
fn has_kernel_for(tables: &Tables, port: &Port, addr: Addr) -> bool {
    port.kernel && !tables.is_snat(addr)
}

/// Whether this port answers for `addr`: its own addresses, and every VIP.
pub(super) fn is_ours(tables: &Tables, port: &Port, addr: Addr) -> bool {
    port.owns(addr)
        || tables.services.is_vip(addr)
        || tables.is_snat(addr)
        || addr.is_link_local_v6() && addr == nd::link_local(port.mac)
}
