//! The way out: next hop, L2 header, fragments; and the packets that wait for a MAC.

use arrayvec::ArrayVec;

use super::shard::{Arrival, Shard, Turn};
use super::{Account, DropReason, Frame, NeighborUpdate, Output};
use crate::addr::{Addr, Mac};
use crate::conntrack::Direction;
use crate::counters::Term;
use crate::ids::PortId;
use crate::neighbor::{Held, Lookup, NextHop, Solicit};
use crate::responder::{arp, nd};
use crate::rewrite;
use crate::tables::Port;
use crate::wire::ethernet::{self, ethertype};

/// Where a packet leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exit {
    /// To this station.
    To(PortId, Mac),
    /// To this next hop, once its MAC is known.
    Wait(PortId, NextHop),
}

impl Exit {
    pub const fn port(&self) -> PortId {
        match self {
            Self::To(port, _) | Self::Wait(port, _) => *port,
        }
    }
}

impl<F: Frame> Shard<F> {
    /// The way to `to` by the next hop `hop`, or, where that is out of date, by the one that the routes say now.
    pub(super) fn exit<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        hop: NextHop,
        to: Addr,
        direction: Direction,
    ) -> Result<(NextHop, Exit), DropReason> {
        match self.ask(turn, hop) {
            Lookup::Gone => {}
            known => return Ok((hop, exit_of(hop, known)?)),
        }
        let route = turn.tables.routes.lookup(to).ok_or(DropReason::NoRoute)?;
        let pin = direction == Direction::Original || route.addr != to;
        let hop = self.neighbors.intern(route, pin).ok_or(DropReason::NeighborUnresolved)?;
        let known = self.ask(turn, hop);
        Ok((hop, exit_of(hop, known)?))
    }

    fn ask<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, hop: NextHop) -> Lookup {
        let mut solicit = None;
        let lookup = self.neighbors.lookup(hop, turn.now, |s| solicit = Some(s));
        if let Some(solicit) = solicit {
            self.solicit(turn, &solicit);
        }
        lookup
    }

    fn solicit<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>, solicit: &Solicit) {
        let &Solicit { port, target, unicast } = solicit;
        let config = &turn.tables.ports[port.index()];
        let Some(from) = source_towards(config, target) else { return };
        if target.is_v4() {
            arp::request(&mut self.scratch, (config.mac, from), config.vlan, target, unicast);
        } else {
            nd::solicit(&mut self.scratch, (config.mac, from), config.vlan, target, unicast);
        }
        self.originate(turn, port);
    }

    /// Sends a translated packet: L2 header, fragments where the MTU asks for them, and the verdict.
    pub(super) fn send<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        arrival: Arrival<F>,
        exit: Exit,
        account: Account,
    ) {
        let Arrival { port: ingress, mut frame, packet } = arrival;
        let egress = exit.port();
        let config = &turn.tables.ports[egress.index()];
        let to = if let Exit::To(_, mac) = exit { mac } else { Mac::default() };
        let (l3, l3_len) = (packet.l3 as usize, packet.l3_len as usize);
        // Padding is of the link that the packet came by.
        frame.truncate(l3 + l3_len);
        let Some(l3) = set_l2(&mut frame, l3, to, config) else {
            return self.drop(turn, ingress, frame, DropReason::NoHeadroom);
        };
        let rest = match exit {
            _ if l3_len <= usize::from(config.mtu) => None,
            Exit::To(..) => {
                let mtu = config.mtu.into();
                match rewrite::fragment(&mut frame, l3, l3_len, mtu, &mut self.scratch) {
                    None => return self.drop(turn, ingress, frame, DropReason::MtuExceeded),
                    rest => rest,
                }
            }
            // Only whole packets wait.
            Exit::Wait(..) => return self.drop(turn, ingress, frame, DropReason::NeighborUnresolved),
        };
        match exit {
            Exit::To(..) => {
                self.count(&account);
                let bank = self.writer.bank();
                bank.term(Term::Forwarded).add(1);
                turn.out.forward(egress, frame, account);
                if let Some(rest) = rest {
                    let mut extra = 0;
                    rest.emit(&mut self.scratch, |bytes| {
                        extra += 1;
                        if !turn.out.originate(egress, bytes, true) {
                            self.writer.tx_dropped(egress);
                        }
                    });
                    bank.term(Term::ExtraFragments).add(extra);
                }
            }
            Exit::Wait(_, hop) => match self.hold.push(Held { hop, ingress, egress, frame, account }) {
                Ok(()) => {
                    self.count(&account);
                    self.writer.bank().term(Term::HeldIn).add(1);
                    // The slot must stay this pair's until the packet is credited.
                    self.pairs.hold(&self.writer, account.pair);
                }
                Err(held) => self.drop(turn, ingress, held.frame, DropReason::HoldFull),
            },
        }
    }

    /// Counts a packet of a connection that is sent, or that waits for nothing but its next hop's MAC.
    #[inline(always)]
    pub(super) fn count(&mut self, account: &Account) {
        if let Some(flow) = account.flow {
            self.conntrack.count(flow, account.bytes);
        }
    }

    /// A MAC has become known: whoever waits for it goes.
    pub(super) fn resolved<O: Output<F>>(&mut self, update: &NeighborUpdate, turn: &mut Turn<'_, O>) {
        let Some(hop) = self.neighbors.learn(update, turn.now) else { return };
        while let Some(mut held) = self.hold.pop(hop) {
            if let Some(mac) = held.frame.data_mut().first_chunk_mut() {
                *mac = update.mac.0;
            }
            let bank = self.writer.bank();
            bank.term(Term::HeldOut).add(1);
            bank.term(Term::Forwarded).add(1);
            turn.out.forward(held.egress, held.frame, held.account);
            self.pairs.release(&self.writer, held.account.pair);
        }
    }

    /// Solicitations that are due, and neighbours that are given up with all that waits for them.
    pub(super) fn neighbor_timers<O: Output<F>>(&mut self, turn: &mut Turn<'_, O>) {
        // A few at a time: the next turn comes at once.
        let mut due = arrayvec::ArrayVec::<Solicit, 32>::new();
        let mut lost = arrayvec::ArrayVec::<NextHop, 32>::new();
        self.neighbors.tick(turn.now, |s| due.try_push(s).is_ok(), |hop| lost.try_push(hop).is_ok());
        for solicit in due {
            self.solicit(turn, &solicit);
        }
        for hop in lost {
            while let Some(held) = self.hold.pop(hop) {
                self.writer.bank().term(Term::HeldOut).add(1);
                self.pairs.release(&self.writer, held.account.pair);
                self.drop(turn, held.ingress, held.frame, DropReason::NeighborUnresolved);
            }
        }
    }
}

fn exit_of(hop: NextHop, known: Lookup) -> Result<Exit, DropReason> {
    match known {
        Lookup::Resolved(port, mac) => Ok(Exit::To(port, mac)),
        Lookup::Waiting(port) => Ok(Exit::Wait(port, hop)),
        Lookup::Unreachable | Lookup::Gone => Err(DropReason::NeighborUnresolved),
    }
}

/// The port's address that `target` can answer to.
pub(super) fn source_towards(port: &Port, target: Addr) -> Option<Addr> {
    if target.is_link_local_v6() {
        return Some(nd::link_local(port.mac));
    }
    let mut family = port.addresses.iter().filter(|a| a.addr.is_v4() == target.is_v4());
    family.clone().find(|a| a.contains(target)).or_else(|| family.next()).map(|a| a.addr)
}

/// Writes the L2 header of the egress port before the IP header at `l3`; says where that is now. `None`: no headroom.
pub(super) fn set_l2<F: Frame>(frame: &mut F, l3: usize, to: Mac, port: &Port) -> Option<usize> {
    let wanted = port.l2_len();
    if wanted > l3 {
        frame.grow_front(wanted - l3).then_some(())?;
    } else {
        frame.shrink_front(l3 - wanted);
    }
    let (header, l3) = frame.data_mut().split_at_mut_checked(wanted)?;
    put_l2(header, to, port, *l3.first()? >> 4)?;
    Some(wanted)
}

/// Writes the L2 header of the egress port for a packet of this IP version. `None`: it is not as long as `out`.
#[inline(always)]
pub(super) fn put_l2(out: &mut [u8], to: Mac, port: &Port, version: u8) -> Option<()> {
    let kind = if version == 4 { ethertype::IPV4 } else { ethertype::IPV6 };
    let (addresses, rest) = out.split_first_chunk_mut::<12>()?;
    addresses[..6].copy_from_slice(&to.0);
    addresses[6..].copy_from_slice(&port.mac.0);
    let tag = u32::from(ethertype::VLAN) << 16 | u32::from(port.vlan);
    match rest {
        [a, b] if port.vlan == 0 => [*a, *b] = kind.to_be_bytes(),
        [t, u, v, w, a, b] if port.vlan != 0 => {
            [*t, *u, *v, *w] = tag.to_be_bytes();
            [*a, *b] = kind.to_be_bytes();
        }
        _ => return None,
    }
    Some(())
}

/// Addresses an L2 header of the [length](Port::l2_len) of the egress port's anew; a tag for a tag. `None`, and no change: there is none.
#[inline(always)]
pub(super) fn restation(frame: &mut [u8], to: Mac, port: &Port) -> Option<()> {
    let (header, rest) = frame.split_first_chunk_mut::<12>()?;
    header[..6].copy_from_slice(&to.0);
    header[6..].copy_from_slice(&port.mac.0);
    if port.vlan != 0
        && let [_, _, high, low, ..] = rest
    {
        [*high, *low] = port.vlan.to_be_bytes();
    }
    Some(())
}

/// The L2 header of the egress port for a packet of this IP version.
pub(super) fn l2_header(to: Mac, port: &Port, version: u8) -> ArrayVec<u8, { ethernet::TAGGED_LEN }> {
    let mut header = ArrayVec::from([0; ethernet::TAGGED_LEN]);
    header.truncate(port.l2_len());
    // As long as it is.
    let _ = put_l2(&mut header, to, port, version);
    header
}
