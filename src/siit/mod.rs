//! Between IPv4 and IPv6, for services of one family with endpoints of the other: headers translated as RFC 7915 says. Which
//! address stands for which is the connection's matter (a stateful NAT64, RFC 6146, in both directions).
//!
//! - `header`: IP headers, and what a change of family adds to L4 checksums
//! - `icmp`: ICMP errors with the packet that they quote

mod header;
pub mod icmp;

pub use header::{FRAGMENT_ID, Translated, V4_GROWS_BY, ends_delta, to_v4, to_v6};
