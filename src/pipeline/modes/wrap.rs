//! A header before a packet, or in the place of its own.

use arrayvec::ArrayVec;

use super::Modes;
use crate::addr::Mac;
use crate::counters::Term;
use crate::pipeline::egress::{Exit, l2_header, set_l2};
use crate::pipeline::shard::{Arrival, Shard, Turn};
use crate::pipeline::{Account, DropReason, Frame, Output};
use crate::rewrite::{self, Ends, Renewed};
use crate::siit;
use crate::snat::Ids;
use crate::tables::Port;
use crate::tunnel::{Envelope, MAX_OVERHEAD, Tunnel};

/// What a packet gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wrap {
    /// The header of the other family, instead of its own.
    Family { new: Ends, renewed: Renewed },
    /// Another packet around it.
    Tunnel { tunnel: Tunnel, entropy: u32 },
}

type Header = ArrayVec<u8, MAX_OVERHEAD>;

impl Wrap {
    /// The header for an IP packet, and how many bytes of that it replaces.
    fn header(&self, l3: &[u8], ids: &mut Ids) -> Option<(Header, usize)> {
        match self {
            Self::Family { new, renewed } => {
                let translated = rewrite::other_family(l3, *new, *renewed)?;
                Some((translated.header, translated.l4))
            }
            Self::Tunnel { tunnel, entropy } => {
                Some((Envelope::new(*tunnel).header(l3, *entropy, ids.fresh() as u16)?, 0))
            }
        }
    }

    /// Bytes that a fragment of an IPv4 packet grows by.
    const fn piece_growth(&self) -> usize {
        match self {
            // And the fragment header.
            Self::Family { .. } => siit::V4_GROWS_BY + 8,
            Self::Tunnel { tunnel, .. } => tunnel.overhead(),
        }
    }

    /// Bytes that a whole packet grows by.
    const fn growth(&self) -> usize {
        match self {
            Self::Family { new, .. } if new.0.0.is_v4() => 0,
            Self::Family { .. } => siit::V4_GROWS_BY,
            Self::Tunnel { tunnel, .. } => tunnel.overhead(),
        }
    }
}

impl<F: Frame> Shard<F> {
    /// Sends a packet with another header, in pieces where it is too long and may be cut.
    pub(super) fn send_wrapped<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        exit: Exit,
        account: Account,
        wrap: &Wrap,
    ) {
        let packet = &arrival.packet;
        let mtu = usize::from(turn.tables.ports[exit.port().index()].mtu);
        let growth = if packet.fragment.is_some() { wrap.piece_growth() } else { wrap.growth() };
        if packet.src.is_v4() && packet.l3_len as usize + growth > mtu {
            return self.send_pieces(turn, arrival, exit, account, wrap, mtu - wrap.piece_growth().min(mtu));
        }
        // Padding is of the link that the packet came by.
        arrival.frame.truncate(packet.l3 as usize + packet.l3_len as usize);
        match self.modes.put(&mut arrival, wrap) {
            Ok(()) => self.send(turn, arrival, exit, account),
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    /// The IPv4 packet is cut, and each piece gets the header: so the endpoint, not the tunnel's end, puts it together.
    fn send_pieces<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        exit: Exit,
        account: Account,
        wrap: &Wrap,
        room: usize,
    ) {
        let Arrival { port, packet, .. } = arrival;
        let Exit::To(egress, mac) = exit else {
            // Only whole packets wait.
            return self.drop(turn, port, arrival.frame, DropReason::NeighborUnresolved);
        };
        let config = &turn.tables.ports[egress.index()];
        let (l3, l3_len) = (packet.l3 as usize, packet.l3_len as usize);
        arrival.frame.truncate(l3 + l3_len);
        // Pieces of one datagram share an id, also in the tunnel's inner header: it is the sender's.
        let Some(rest) = rewrite::fragment(&mut arrival.frame, l3, l3_len, room, &mut self.scratch) else {
            return self.drop(turn, port, arrival.frame, DropReason::MtuExceeded);
        };
        arrival.packet.l3_len = (arrival.frame.data().len() - l3) as u32;
        if let Err(reason) = self.modes.put(&mut arrival, wrap) {
            return self.drop(turn, port, arrival.frame, reason);
        }
        let Arrival { mut frame, packet, .. } = arrival;
        if set_l2(&mut frame, packet.l3 as usize, mac, config).is_none() {
            return self.drop(turn, port, frame, DropReason::NoHeadroom);
        }
        self.count(&account);
        let bank = self.writer.bank();
        bank.term(Term::Forwarded).add(1);
        turn.out.forward(egress, frame, account);
        let mut extra = 0;
        rest.emit(&mut self.scratch, |piece| {
            let built = piece.get(l3..).and_then(|inner| self.modes.build(Some(wrap), inner, mac, config));
            extra += 1;
            if built.is_none() || !turn.out.originate(egress, self.modes.built(), true) {
                self.writer.tx_dropped(egress);
            }
        });
        bank.term(Term::ExtraFragments).add(extra);
    }
}

impl Modes {
    /// Builds a frame: L2 header, and the packet with its header, if it is to have another.
    pub(super) fn build(&mut self, wrap: Option<&Wrap>, inner: &[u8], to: Mac, port: &Port) -> Option<()> {
        let Self { wrapped: out, ids, .. } = self;
        out.clear();
        let (header, replaced) = match wrap {
            Some(wrap) => wrap.header(inner, ids)?,
            None => (Header::new(), 0),
        };
        let version = header.first().or(inner.first())? >> 4;
        out.extend_from_slice(&l2_header(to, port, version));
        out.extend_from_slice(&header);
        out.extend_from_slice(inner.get(replaced..)?);
        Some(())
    }

    /// What was built last.
    pub(super) fn built(&self) -> &[u8] {
        &self.wrapped
    }

    /// Puts the header into the frame.
    fn put<F: Frame>(&mut self, arrival: &mut Arrival<F>, wrap: &Wrap) -> Result<(), DropReason> {
        let Arrival { frame, packet, .. } = arrival;
        let l3 = packet.l3 as usize;
        let bytes = frame.data().get(l3..l3 + packet.l3_len as usize).ok_or(DropReason::FrameTooShort)?;
        let (header, replaced) = wrap.header(bytes, &mut self.ids).ok_or(DropReason::MtuExceeded)?;
        let mut end = l3 + replaced;
        if let Some(missing) = header.len().checked_sub(end).filter(|n| *n > 0) {
            if !frame.grow_front(missing) {
                return Err(DropReason::NoHeadroom);
            }
            end += missing;
        }
        let start = end - header.len();
        frame.data_mut().get_mut(start..end).ok_or(DropReason::FrameTooShort)?.copy_from_slice(&header);
        packet.l3_len = packet.l3_len + header.len() as u32 - replaced as u32;
        packet.l3 = start as u16;
        packet.l4 = end as u16;
        Ok(())
    }
}
