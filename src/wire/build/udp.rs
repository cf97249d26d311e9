//! UDP datagrams.

use super::ip::length;
use super::{Layer4, Packet};
use crate::addr::Addr;
use crate::wire::udp::{HEADER_LEN, field};
use crate::wire::{checksum, protocol};

/// A datagram to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Udp {
    sport: u16,
    dport: u16,
    checksum: bool,
    payload: Vec<u8>,
}

impl Udp {
    pub(super) const fn new(sport: u16, dport: u16) -> Self {
        Self { sport, dport, checksum: true, payload: Vec::new() }
    }
}

impl Packet<Udp> {
    /// Without checksum, which IPv4 allows.
    #[must_use]
    pub fn no_checksum(mut self) -> Self {
        self.l4.checksum = false;
        self
    }

    /// Payload.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.l4.payload = payload.as_ref().to_vec();
        self
    }
}

impl Layer4 for Udp {
    fn number(&self, _: bool) -> u8 {
        protocol::UDP
    }

    fn emit(&self, src: Addr, dst: Addr) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN];
        out[field::SPORT].copy_from_slice(&self.sport.to_be_bytes());
        out[field::DPORT].copy_from_slice(&self.dport.to_be_bytes());
        out[field::LENGTH].copy_from_slice(&length(HEADER_LEN + self.payload.len()).to_be_bytes());
        out.extend_from_slice(&self.payload);
        if self.checksum {
            let sum = checksum::never_zero(checksum::pseudo(src, dst, protocol::UDP, &out));
            out[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        }
        out
    }
}
