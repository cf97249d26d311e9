//! SCTP packets.

use super::ip::length;
use super::{Layer4, Packet};
use crate::addr::Addr;
use crate::wire::sctp::{CHUNK_HEADER_LEN, HEADER_LEN, T_BIT, chunk, field};
use crate::wire::sctp_params::kind;
use crate::wire::{crc32c, protocol};

/// Receiver window in every chunk that has one, bytes.
const WINDOW: u32 = 65536;
/// Parameter type of a state cookie (RFC 9260 §3.3.3.1).
const STATE_COOKIE: u16 = 7;
/// Parameter type of heartbeat information (§3.3.5).
const HEARTBEAT_INFO: u16 = 1;
/// Flags of DATA: beginning and end of a message, so all of it (§3.3.1).
const WHOLE_MESSAGE: u8 = 0x03;

/// A packet to be: verification tag 0, no chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sctp {
    sport: u16,
    dport: u16,
    tag: u32,
    chunks: Vec<u8>,
}

impl Sctp {
    pub(super) const fn new(sport: u16, dport: u16) -> Self {
        Self { sport, dport, tag: 0, chunks: Vec::new() }
    }
}

impl Packet<Sctp> {
    /// Verification tag.
    #[must_use]
    pub fn tag(mut self, tag: u32) -> Self {
        self.l4.tag = tag;
        self
    }

    /// Any chunk; padded here.
    #[must_use]
    pub fn chunk(mut self, kind: u8, flags: u8, value: impl AsRef<[u8]>) -> Self {
        let chunks = &mut self.l4.chunks;
        push_tlv(chunks, [kind, flags], value.as_ref());
        chunks.resize(chunks.len().next_multiple_of(4), 0);
        self
    }

    /// INIT.
    #[must_use]
    pub fn init(self, initiate_tag: u32) -> Self {
        self.chunk(chunk::INIT, 0, init_value(initiate_tag))
    }

    /// INIT of a side with these addresses.
    #[must_use]
    pub fn init_from(self, initiate_tag: u32, addresses: &[Addr]) -> Self {
        let mut value = init_value(initiate_tag);
        push_addresses(&mut value, addresses);
        self.chunk(chunk::INIT, 0, value)
    }

    /// INIT ACK of a side with these addresses, and a state cookie.
    #[must_use]
    pub fn init_ack_from(self, initiate_tag: u32, addresses: &[Addr], cookie: impl AsRef<[u8]>) -> Self {
        let mut value = init_value(initiate_tag);
        push_addresses(&mut value, addresses);
        push_tlv(&mut value, STATE_COOKIE.to_be_bytes(), cookie.as_ref());
        self.chunk(chunk::INIT_ACK, 0, value)
    }

    /// INIT ACK with a state cookie.
    #[must_use]
    pub fn init_ack(self, initiate_tag: u32, cookie: impl AsRef<[u8]>) -> Self {
        let mut value = init_value(initiate_tag);
        push_tlv(&mut value, STATE_COOKIE.to_be_bytes(), cookie.as_ref());
        self.chunk(chunk::INIT_ACK, 0, value)
    }

    /// COOKIE ECHO.
    #[must_use]
    pub fn cookie_echo(self, cookie: impl AsRef<[u8]>) -> Self {
        self.chunk(chunk::COOKIE_ECHO, 0, cookie)
    }

    /// COOKIE ACK.
    #[must_use]
    pub fn cookie_ack(self) -> Self {
        self.chunk(chunk::COOKIE_ACK, 0, [])
    }

    /// DATA: one whole message.
    #[must_use]
    pub fn data(self, tsn: u32, stream: u16, payload: impl AsRef<[u8]>) -> Self {
        let mut value = tsn.to_be_bytes().to_vec();
        value.extend(stream.to_be_bytes());
        // Stream sequence number and payload protocol.
        value.extend([0; 6]);
        value.extend_from_slice(payload.as_ref());
        self.chunk(chunk::DATA, WHOLE_MESSAGE, value)
    }

    /// SACK without gaps.
    #[must_use]
    pub fn sack(self, cumulative_tsn: u32) -> Self {
        let mut value = cumulative_tsn.to_be_bytes().to_vec();
        value.extend(WINDOW.to_be_bytes());
        value.extend([0; 4]);
        self.chunk(chunk::SACK, 0, value)
    }

    /// HEARTBEAT.
    #[must_use]
    pub fn heartbeat(self, info: impl AsRef<[u8]>) -> Self {
        let mut value = Vec::new();
        push_tlv(&mut value, HEARTBEAT_INFO.to_be_bytes(), info.as_ref());
        self.chunk(chunk::HEARTBEAT, 0, value)
    }

    /// HEARTBEAT ACK.
    #[must_use]
    pub fn heartbeat_ack(self, info: impl AsRef<[u8]>) -> Self {
        let mut value = Vec::new();
        push_tlv(&mut value, HEARTBEAT_INFO.to_be_bytes(), info.as_ref());
        self.chunk(chunk::HEARTBEAT_ACK, 0, value)
    }

    /// ABORT without a cause; `reflected` sets the T bit.
    #[must_use]
    pub fn abort(self, reflected: bool) -> Self {
        self.chunk(chunk::ABORT, if reflected { T_BIT } else { 0 }, [])
    }

    /// ERROR with one cause, without information.
    #[must_use]
    pub fn error(self, cause: u16) -> Self {
        let mut value = Vec::new();
        push_tlv(&mut value, cause.to_be_bytes(), &[]);
        self.chunk(chunk::ERROR, 0, value)
    }

    /// SHUTDOWN.
    #[must_use]
    pub fn shutdown(self, cumulative_tsn: u32) -> Self {
        self.chunk(chunk::SHUTDOWN, 0, cumulative_tsn.to_be_bytes())
    }

    /// SHUTDOWN ACK.
    #[must_use]
    pub fn shutdown_ack(self) -> Self {
        self.chunk(chunk::SHUTDOWN_ACK, 0, [])
    }

    /// SHUTDOWN COMPLETE; `reflected` sets the T bit.
    #[must_use]
    pub fn shutdown_complete(self, reflected: bool) -> Self {
        self.chunk(chunk::SHUTDOWN_COMPLETE, if reflected { T_BIT } else { 0 }, [])
    }
}

/// Type, length and value, as chunks and their parameters have them. The padding that follows counts in no length: neither
/// the chunk's own nor that of its last parameter (RFC 9260 §3.2).
fn push_tlv(out: &mut Vec<u8>, kind: [u8; 2], value: &[u8]) {
    out.extend(kind);
    out.extend(length(CHUNK_HEADER_LEN + value.len()).to_be_bytes());
    out.extend_from_slice(value);
}

/// Address parameters (§3.3.2.1), each of whole words.
fn push_addresses(out: &mut Vec<u8>, addresses: &[Addr]) {
    for addr in addresses {
        if addr.is_v4() {
            push_tlv(out, kind::IPV4.to_be_bytes(), &addr.v4_octets());
        } else {
            push_tlv(out, kind::IPV6.to_be_bytes(), &addr.v6_octets());
        }
    }
}

/// The fixed part of INIT and INIT ACK: ten streams each way, first TSN equal to the tag.
fn init_value(initiate_tag: u32) -> Vec<u8> {
    let mut value = initiate_tag.to_be_bytes().to_vec();
    value.extend(WINDOW.to_be_bytes());
    value.extend([0, 10, 0, 10]);
    value.extend(initiate_tag.to_be_bytes());
    value
}

impl Layer4 for Sctp {
    fn number(&self, _: bool) -> u8 {
        protocol::SCTP
    }

    fn emit(&self, _: Addr, _: Addr) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN];
        out[field::SPORT].copy_from_slice(&self.sport.to_be_bytes());
        out[field::DPORT].copy_from_slice(&self.dport.to_be_bytes());
        out[field::TAG].copy_from_slice(&self.tag.to_be_bytes());
        out.extend_from_slice(&self.chunks);
        let crc = crc32c::checksum(&out);
        out[field::CHECKSUM].copy_from_slice(&crc.to_le_bytes());
        out
    }
}
