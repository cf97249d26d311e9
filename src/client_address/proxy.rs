//! PROXY protocol, version 2 (HAProxy's `proxy-protocol.txt`, §2.2): a header at the beginning of the client's stream.
//!
//! ```text
//!   the client's numbers      base                base+1  …
//!                              │ first byte        │
//!   the endpoint's numbers    base … base+len      base+len+1 …
//!                              └─ header ─┘ first byte
//! ```
//!
//! The header goes with every segment of the client that begins at `base`, from the one that completes the handshake on, until
//! the endpoint has acknowledged all of it: whoever has not got it is sent such a segment again, either by the client, for
//! which `base` is not acknowledged as long as the header is not, or as the answer to a SYN-ACK that is repeated. Nothing has
//! to be kept for retransmission, and no timer runs.
//!
//! Behind the header, numbers of the client are higher by its length for the endpoint, and acknowledgements lower for the client. To
//! the client the header and its first byte are one: neither an acknowledgement nor a block of SACK covers `base` before the
//! endpoint has the header. So it retransmits that byte where the header was lost.

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::wire::tcp::flag;

/// The longest header: IPv6.
pub const MAX_LEN: usize = 52;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
/// STREAM over IPv4, and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Bytes of the header for a client of this family; even.
#[must_use]
pub const fn len(client: Addr) -> usize {
    if client.is_v4() { 28 } else { MAX_LEN }
}

/// The header: client and VIP, which are of one family, with their ports.
#[must_use]
pub fn header((client, client_port): (Addr, u16), (vip, vip_port): (Addr, u16)) -> ArrayVec<u8, MAX_LEN> {
    let mut out = ArrayVec::new();
    out.extend(SIGNATURE);
    out.extend([VERSION_COMMAND, if client.is_v4() { TCP4 } else { TCP6 }]);
    out.extend((len(client) as u16 - 16).to_be_bytes());
    for addr in [client, vip] {
        if client.is_v4() {
            out.extend(addr.v4_octets());
        } else {
            out.extend(addr.v6_octets());
        }
    }
    out.extend(client_port.to_be_bytes());
    out.extend(vip_port.to_be_bytes());
    out
}

/// How far the endpoint is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It has not acknowledged all of the header, but so many bytes.
    Header(u8),
    /// It has the header and nothing of the client's.
    Data,
    /// It has something of the client's. From here on all numbers are simply higher; comparing them with `base` would go wrong
    /// once the connection has carried 2 GiB.
    Gone,
}

/// The numbers of one connection's grown stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Splice {
    base: u32,
    len: u8,
    phase: Phase,
}

/// A segment of the client as the endpoint gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outward {
    /// Its sequence number.
    pub seq: u32,
    /// The header goes before the payload, or, where that does not fit, in a segment of its own with this number; the
    /// rest then has the number [`Splice::behind`].
    pub insert: bool,
    /// Bytes of payload that it keeps.
    pub keep: u32,
}

impl Splice {
    /// For a client whose SYN has sequence number `isn`, and a header of so many bytes.
    #[must_use]
    pub const fn new(isn: u32, len: usize) -> Self {
        Self { base: isn.wrapping_add(1), len: len as u8, phase: Phase::Header(0) }
    }

    /// For safe-keeping: eight bytes but for one.
    #[must_use]
    pub const fn pack(&self) -> (u32, [u8; 3]) {
        let (phase, acked) = match self.phase {
            Phase::Header(acked) => (0, acked),
            Phase::Data => (1, 0),
            Phase::Gone => (2, 0),
        };
        (self.base, [self.len, phase, acked])
    }

    /// What [`Splice::pack`] gave.
    #[must_use]
    pub const fn unpack(base: u32, [len, phase, acked]: [u8; 3]) -> Self {
        let phase = match phase {
            0 => Phase::Header(acked),
            1 => Phase::Data,
            _ => Phase::Gone,
        };
        Self { base, len, phase }
    }

    /// The client's own number for one that was sent to the endpoint.
    #[must_use]
    pub const fn undo(&self, seq: u32) -> u32 {
        let len = self.len as u32;
        let ahead = seq.wrapping_sub(self.base);
        match self.phase {
            Phase::Header(_) | Phase::Data if (ahead as i32) < 0 => seq,
            Phase::Header(_) | Phase::Data if ahead < len => self.base,
            _ => seq.wrapping_sub(len),
        }
    }

    /// The number of the first byte behind the header.
    #[must_use]
    pub const fn behind(&self) -> u32 {
        self.base.wrapping_add(self.len as u32)
    }

    /// A segment of the client.
    #[must_use]
    pub const fn outward(&self, flags: u8, seq: u32, payload: u32) -> Outward {
        if flags & flag::SYN != 0 {
            // Data in a SYN (RFC 7413) would come before the header: it is left out, and sent again behind the handshake.
            return Outward { seq, insert: false, keep: 0 };
        }
        let higher = seq.wrapping_add(self.len as u32);
        let ahead = seq.wrapping_sub(self.base) as i32;
        match self.phase {
            Phase::Gone => Outward { seq: higher, insert: false, keep: payload },
            // A keep-alive of a client that has said nothing yet (RFC 9293 §3.8.4); what would come after it is the header's.
            _ if ahead < 0 => {
                let before = ahead.unsigned_abs();
                Outward { seq, insert: false, keep: if payload < before { payload } else { before } }
            }
            // A RST must have the very number that the endpoint waits for (RFC 5961 §3.2).
            Phase::Header(acked) if ahead == 0 && flags & flag::RST != 0 => {
                Outward { seq: seq.wrapping_add(acked as u32), insert: false, keep: payload }
            }
            Phase::Header(_) if ahead == 0 => Outward { seq, insert: true, keep: payload },
            Phase::Header(_) | Phase::Data => Outward { seq: higher, insert: false, keep: payload },
        }
    }

    /// An acknowledgement number of the endpoint, as the client gets it. Notes how far the endpoint is.
    pub fn inward(&mut self, ack: u32) -> u32 {
        let lower = ack.wrapping_sub(u32::from(self.len));
        let ahead = ack.wrapping_sub(self.base);
        match self.phase {
            Phase::Gone => lower,
            // Of the SYN, or of nothing.
            _ if ahead as i32 <= 0 => ack,
            _ if ahead > u32::from(self.len) => {
                self.phase = Phase::Gone;
                lower
            }
            Phase::Header(acked) => {
                // Not above the header's length.
                let new = ahead as u8;
                self.phase = if new == self.len { Phase::Data } else { Phase::Header(acked.max(new)) };
                self.base
            }
            Phase::Data => self.base,
        }
    }

    /// A block of SACK (RFC 2018, RFC 2883) of the endpoint, after [`Splice::inward`] of the same segment's acknowledgement
    /// number. `None` where it says nothing about the client's bytes.
    #[must_use]
    pub const fn block(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let len = self.len as u32;
        let (l, r) = (left.wrapping_sub(len), right.wrapping_sub(len));
        let floor = match self.phase {
            Phase::Gone => return Some((l, r)),
            // Without the header the first byte is not there either.
            Phase::Header(_) => 1,
            Phase::Data => 0,
        };
        let from = l.wrapping_sub(self.base) as i32;
        let from = if from < floor { floor } else { from };
        let to = r.wrapping_sub(self.base) as i32;
        if to <= from {
            return None;
        }
        Some((self.base.wrapping_add(from as u32), r))
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
