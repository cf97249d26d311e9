//! ICMP messages of both families.

use super::{Layer4, Packet};
use crate::addr::Addr;
use crate::wire::icmp::field;
use crate::wire::{checksum, protocol};

/// A message to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Icmp {
    kind: u8,
    code: u8,
    word: u32,
    payload: Vec<u8>,
}

impl Icmp {
    pub(super) const fn new(kind: u8, code: u8, word: u32) -> Self {
        Self { kind, code, word, payload: Vec::new() }
    }
}

impl Packet<Icmp> {
    /// What follows the first eight bytes.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.l4.payload = payload.as_ref().to_vec();
        self
    }
}

impl Layer4 for Icmp {
    fn number(&self, v4: bool) -> u8 {
        if v4 { protocol::ICMPV4 } else { protocol::ICMPV6 }
    }

    fn emit(&self, src: Addr, dst: Addr) -> Vec<u8> {
        let mut out = vec![self.kind, self.code, 0, 0];
        out.extend(self.word.to_be_bytes());
        out.extend_from_slice(&self.payload);
        let sum = if src.is_v4() {
            checksum::checksum(&out)
        } else {
            checksum::pseudo(src, dst, protocol::ICMPV6, &out)
        };
        out[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        out
    }
}
