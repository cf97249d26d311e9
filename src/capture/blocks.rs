//! A pcapng stream on its way into a file: whole blocks only, and what they say is added up.

use std::io::{self, Write};

use thiserror::Error;

use super::TX_FULL;
use crate::pcap::MAX_BLOCK;

const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// A stream that is none.
#[derive(Debug, Error)]
pub enum BrokenStream {
    /// A block that contradicts itself.
    #[error("the engine's answer is not what it should be: a block of {0} bytes")]
    Block(u32),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// What is in a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Received packets.
    pub received: u64,
    /// Sent packets.
    pub sent: u64,
    /// Packets that the pipeline has dropped.
    pub dropped: u64,
    /// Packets that a TX queue had no room for.
    pub tx_full: u64,
    /// Packets that were seen and could not be kept; known at the end of the stream.
    pub missed: Option<u64>,
}

impl Tally {
    /// All that are in the file.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.received + self.sent + self.dropped + self.tx_full
    }
}

/// Passes a stream on, block by block: where it is cut off, what was passed on is a valid file.
#[derive(Debug)]
pub struct Scanner<W: Write> {
    out: W,
    pending: Vec<u8>,
    tally: Tally,
}

impl<W: Write> Scanner<W> {
    /// To `out`.
    pub fn new(out: W) -> Self {
        Self { out, pending: Vec::new(), tally: Tally::default() }
    }

    /// Passes on what is whole now.
    ///
    /// # Errors
    /// Of `out`, or where this is no pcapng as the engine writes it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BrokenStream> {
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        while let Some([t0, t1, t2, t3, l0, l1, l2, l3]) =
            self.pending.get(done..).and_then(|rest| rest.first_chunk().copied())
        {
            let length = u32::from_le_bytes([l0, l1, l2, l3]);
            if !(12..=MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
                return Err(BrokenStream::Block(length));
            }
            let Some(block) = self.pending.get(done..done + length as usize) else { break };
            let body = block.get(8..block.len() - 4).unwrap_or_default();
            self.tally.add(u32::from_le_bytes([t0, t1, t2, t3]), body);
            done += length as usize;
        }
        if let Some(whole) = self.pending.get(..done) {
            self.out.write_all(whole)?;
        }
        self.pending.drain(..done);
        Ok(())
    }

    /// Flushes; what is there so far.
    ///
    /// # Errors
    /// Of `out`.
    pub fn flush(&mut self) -> io::Result<Tally> {
        self.out.flush()?;
        Ok(self.tally)
    }
}

impl Tally {
    fn add(&mut self, kind: u32, body: &[u8]) {
        match kind {
            STATISTICS => {
                let drops = options(body, 12).find(|(code, _)| *code == 5); // isb_ifdrop
                let n = drops.and_then(|(_, value)| value.first_chunk().map(|b| u64::from_le_bytes(*b)));
                *self.missed.get_or_insert(0) += n.unwrap_or(0);
            }
            PACKET => {
                let captured = body.get(12..).and_then(<[u8]>::first_chunk);
                let captured = captured.map_or(0, |b| u32::from_le_bytes(*b) as usize);
                let start = 20 + captured.next_multiple_of(4);
                let comment = options(body, start).find(|(code, _)| *code == 1); // opt_comment
                let flags = options(body, start).find(|(code, _)| *code == 2); // epb_flags
                let inbound = flags.is_some_and(|(_, value)| value.first().is_some_and(|b| b & 3 == 1));
                let of_its_kind = match (comment, inbound) {
                    (Some((_, comment)), _) if comment == TX_FULL.as_bytes() => &mut self.tx_full,
                    (Some(_), _) => &mut self.dropped,
                    (None, true) => &mut self.received,
                    (None, false) => &mut self.sent,
                };
                *of_its_kind += 1;
            }
            _ => {}
        }
    }
}

/// The options of a block, from `start` of its body.
fn options(body: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [c0, c1, l0, l1] = *rest.first_chunk()?;
        let (code, len) = (u16::from_le_bytes([c0, c1]), usize::from(u16::from_le_bytes([l0, l1])));
        let value = rest.get(4..4 + len)?;
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
        (code != 0).then_some((code, value))
    })
}
