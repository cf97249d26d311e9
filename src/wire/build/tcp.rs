//! TCP segments.

use super::{Layer4, Packet};
use crate::addr::Addr;
use crate::wire::tcp::{HEADER_LEN, Repr, field, flag};
use crate::wire::{checksum, protocol};

/// A segment to be: no flags, window 65535.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    repr: Repr,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Tcp {
    pub(super) const fn new(sport: u16, dport: u16) -> Self {
        let repr = Repr { sport, dport, seq: 0, ack: 0, flags: 0, window: u16::MAX };
        Self { repr, options: Vec::new(), payload: Vec::new() }
    }
}

impl Packet<Tcp> {
    /// SYN.
    #[must_use]
    pub fn syn(self) -> Self {
        self.flag(flag::SYN)
    }

    /// FIN.
    #[must_use]
    pub fn fin(self) -> Self {
        self.flag(flag::FIN)
    }

    /// RST.
    #[must_use]
    pub fn rst(self) -> Self {
        self.flag(flag::RST)
    }

    /// ACK, with its number.
    #[must_use]
    pub fn ack(mut self, number: u32) -> Self {
        self.l4.repr.ack = number;
        self.flag(flag::ACK)
    }

    fn flag(mut self, flag: u8) -> Self {
        self.l4.repr.flags |= flag;
        self
    }

    /// All eight flags at once.
    #[must_use]
    pub fn flags(mut self, flags: u8) -> Self {
        self.l4.repr.flags = flags;
        self
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(mut self, seq: u32) -> Self {
        self.l4.repr.seq = seq;
        self
    }

    /// Window, unscaled.
    #[must_use]
    pub fn window(mut self, window: u16) -> Self {
        self.l4.repr.window = window;
        self
    }

    /// Options, padded with zeros to a multiple of four bytes; 40 bytes at most.
    #[must_use]
    pub fn options(mut self, options: impl AsRef<[u8]>) -> Self {
        let options = options.as_ref();
        self.l4.options = options[..options.len().min(40)].to_vec();
        self.l4.options.resize(self.l4.options.len().next_multiple_of(4), 0);
        self
    }

    /// Payload.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.l4.payload = payload.as_ref().to_vec();
        self
    }
}

impl Layer4 for Tcp {
    fn number(&self, _: bool) -> u8 {
        protocol::TCP
    }

    fn emit(&self, src: Addr, dst: Addr) -> Vec<u8> {
        let mut out = self.repr.emit(src, dst).to_vec();
        out.extend_from_slice(&self.options);
        out.extend_from_slice(&self.payload);
        out[field::OFFSET] = ((HEADER_LEN + self.options.len()) / 4) as u8 * 16;
        out[field::CHECKSUM].fill(0);
        let sum = checksum::pseudo(src, dst, protocol::TCP, &out);
        out[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        out
    }
}
