//! IP protocol numbers, which are IPv6 next headers too (IANA).

/// IPv6 hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// `ICMPv4`.
pub const ICMPV4: u8 = 1;
/// IPv4 in IP (RFC 2003 §3.1).
pub const IPV4_IN_IP: u8 = 4;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 in IP (RFC 4213 §3.5).
pub const IPV6_IN_IP: u8 = 41;
/// IPv6 routing header.
pub const ROUTING: u8 = 43;
/// IPv6 fragment header.
pub const FRAGMENT: u8 = 44;
/// Authentication header (RFC 4302).
pub const AH: u8 = 51;
/// `ICMPv6`.
pub const ICMPV6: u8 = 58;
/// Nothing follows (RFC 8200 §4.7).
pub const NO_NEXT_HEADER: u8 = 59;
/// IPv6 destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// SCTP.
pub const SCTP: u8 = 132;
