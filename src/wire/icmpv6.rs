//! `ICMPv6` types and codes (RFC 4443). Neighbour discovery is in [`super::ndp`].

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big; the word is the next hop's MTU.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem; the word points to the octet.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Neighbour solicitation (RFC 4861 §4.3).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861 §4.4).
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: a filter forbids it.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: the next hop does not answer.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody listens.
pub const PORT_UNREACHABLE: u8 = 4;

/// Most of the offending packet that an error quotes, so that it stays within the minimum MTU (RFC 4443 §2.4 c).
pub const MAX_QUOTE: usize = 1280 - 40 - 8;

/// Whether this type is an error, which quotes a packet. Types below 128 that are not assigned are left out, though RFC 4443
/// §2.1 calls them errors: their layout is unknown.
#[inline]
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | PACKET_TOO_BIG | TIME_EXCEEDED | PARAMETER_PROBLEM)
}
