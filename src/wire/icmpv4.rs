//! `ICMPv4` types and codes (RFC 792, RFC 1191).

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: no route to the network.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of [`UNREACHABLE`]: the next hop does not answer.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: nobody listens.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: too large for the next hop; the word's low half is its MTU (RFC 1191 §4).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: a filter forbids it (RFC 1812 §5.2.7.1).
pub const PROHIBITED: u8 = 13;

/// Most of the offending packet that an error quotes, so that it stays within 576 bytes (RFC 1812 §4.3.2.3).
pub const MAX_QUOTE: usize = 576 - 20 - 8;

/// Whether this type is an error, which quotes a packet. Source quench (RFC 6633) and redirects are not for a
/// connection's other end.
#[inline]
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
}
