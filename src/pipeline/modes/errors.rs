//! ICMP errors about connections in modes other than `dnat`.

use super::Passage;
use crate::addr::Addr;
use crate::config::Protocol;
use crate::conntrack::{Direction, Flow};
use crate::parse::Quoted;
use crate::pipeline::shard::{Arrival, Shard, Turn};
use crate::pipeline::{DropReason, Frame, Output};
use crate::rewrite;
use crate::siit;
use crate::wire::checksum::{apply, delta};
use crate::wire::tcp::field;

impl<F: Frame> Shard<F> {
    /// An ICMP error that goes in `direction` of the connection that it is about.
    pub(in crate::pipeline) fn error_by_mode<O: Output<F>>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut arrival: Arrival<F>,
        quoted: &Quoted,
        passage: &Passage<'_>,
    ) {
        let Passage { id, flow, direction, exit, account } = *passage;
        if flow.form.is_one_sided() {
            // Of what the endpoint has sent as the VIP: it is told as it would be without us.
            return self.forward_dsr(turn, arrival, flow, exit, account);
        }
        if flow.protocol == Protocol::Tcp
            && direction == Direction::Reply
            && let Some(splice) = self.modes.notes.splice(id)
        {
            let _ = undo(arrival.frame.data_mut(), quoted, |seq| splice.undo(seq));
        }
        let source = self.conntrack.own().get(flow.source);
        let translated = if flow.client.is_v4() == flow.endpoint.is_v4() {
            let Arrival { frame, packet, .. } = &mut arrival;
            rewrite::translate_error(frame.data_mut(), packet, quoted, flow, direction, source)
        } else {
            self.other_family(&mut arrival, flow, direction, source)
        };
        match translated {
            Ok(()) => self.send(turn, arrival, exit, account),
            Err(reason) => self.drop(turn, arrival.port, arrival.frame, reason),
        }
    }

    fn other_family(
        &mut self,
        arrival: &mut Arrival<F>,
        flow: &Flow,
        direction: Direction,
        source: Addr,
    ) -> Result<(), DropReason> {
        let Arrival { frame, packet, .. } = arrival;
        let l3 = packet.l3 as usize;
        let bytes = frame.data().get(l3..l3 + packet.l3_len as usize).ok_or(DropReason::IcmpHeader)?;
        let ends = rewrite::error_ends(packet, flow, direction, source);
        let quoted = rewrite::quoted_ends(flow, direction, source);
        let ttl = packet.ttl.wrapping_sub(1);
        let message = if packet.src.is_v4() {
            siit::icmp::to_v6(bytes, ends, ttl, quoted)
        } else {
            siit::icmp::to_v4(bytes, ends, ttl, self.modes.ids.fresh() as u16, quoted)
        };
        let message = message.ok_or(DropReason::IcmpUntranslatable)?;
        let missing = message.len().saturating_sub(frame.data().len());
        if missing > 0 && !frame.grow_front(missing) {
            return Err(DropReason::NoHeadroom);
        }
        frame.truncate(message.len());
        frame.data_mut().get_mut(..message.len()).ok_or(DropReason::NoHeadroom)?.copy_from_slice(&message);
        packet.l3 = 0;
        packet.l3_len = message.len() as u32;
        Ok(())
    }
}

/// Changes the sequence number in the quoted segment, and its checksum where that is there. The error's own is computed anew later.
fn undo(bytes: &mut [u8], quoted: &Quoted, own: impl Fn(u32) -> u32) -> Option<()> {
    let l4 = bytes.get_mut(quoted.l4..)?;
    let seq: &mut [u8; 4] = l4.get_mut(field::SEQ)?.first_chunk_mut()?;
    let old = *seq;
    *seq = own(u32::from_be_bytes(old)).to_be_bytes();
    let change = delta(&old, seq);
    let sum: &mut [u8; 2] = l4.get_mut(field::CHECKSUM)?.first_chunk_mut()?;
    *sum = apply(u16::from_be_bytes(*sum), change).to_be_bytes();
    Some(())
}
