//! The TCP option "address" (TOA): the client's address and port in the client's first segments.
//!
//! It has no RFC. The layout is that of the kernel modules that read it (`toa.h` of DPVS and its descendants): kind 254, which RFC
//! 4727 leaves to experiments; length 8: port, IPv4 address; or length 20: port, IPv6 address. They read it from the segment
//! that completes the handshake; since that may be lost, all segments of the client have it until it has seen
//! something of the endpoint's stream (`tcp_in_add_toa` of DPVS).

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::wire::tcp::flag;

const KIND: u8 = 254;

/// Longest TCP header, and so the end of option space (RFC 9293 §3.1).
const MAX_HEADER: usize = 60;

/// Bytes of the option for a client of this family; a multiple of four.
#[must_use]
pub const fn len(client: Addr) -> usize {
    if client.is_v4() { 8 } else { 20 }
}

/// The option.
#[must_use]
pub fn option(client: Addr, port: u16) -> ArrayVec<u8, 20> {
    let mut out = ArrayVec::new();
    out.extend([KIND, len(client) as u8]);
    out.extend(port.to_be_bytes());
    if client.is_v4() {
        out.extend(client.v4_octets());
    } else {
        out.extend(client.v6_octets());
    }
    out
}

/// Whether a segment of the client is to have it: `ack` is its acknowledgement number, `first` the number of the first byte of
/// the endpoint's stream.
#[must_use]
pub const fn is_due(flags: u8, ack: u32, first: u32) -> bool {
    flags & (flag::SYN | flag::RST | flag::ACK) == flag::ACK && ack == first
}

/// Whether there is room for it in a segment whose TCP header and whose packet have these lengths.
#[must_use]
pub const fn fits(client: Addr, header_len: usize, l3_len: usize, mtu: usize) -> bool {
    header_len + len(client) <= MAX_HEADER && l3_len + len(client) <= mtu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let v4 = option(Addr::v4([198, 51, 100, 7]), 4000);
        assert_eq!(v4[..], [254, 8, 0x0f, 0xa0, 198, 51, 100, 7]);
        let v6 = option(Addr(0x2001_0db8 << 96 | 7), 4000);
        assert_eq!((v6.len(), &v6[..8]), (20, &[254, 20, 0x0f, 0xa0, 0x20, 1, 0x0d, 0xb8][..]));
    }

    #[test]
    fn until_something_of_the_stream_was_seen() {
        assert!(is_due(flag::ACK, 501, 501));
        assert!(is_due(flag::ACK | flag::PSH | flag::FIN, 501, 501));
        assert!(!is_due(flag::ACK, 502, 501));
        assert!(!is_due(flag::SYN, 501, 501));
        assert!(!is_due(flag::RST | flag::ACK, 501, 501));
    }

    #[test]
    fn room() {
        let (v4, v6) = (Addr::v4([1; 4]), Addr(1 << 100));
        assert!(fits(v4, 52, 1492, 1500) && !fits(v4, 56, 60, 1500) && !fits(v4, 20, 1493, 1500));
        assert!(fits(v6, 40, 1480, 1500) && !fits(v6, 44, 60, 1500));
    }
}
