//! Virtual reassembly: fragments go on one by one, each as soon as the ports of its datagram are known.
//!
//! Only the first fragment of a datagram has the ports. The worker that a hash of (source, destination, protocol, id) picks
//! learns them from it, lets pieces that came before it wait, and watches that no two pieces overlap: where they do, two
//! receivers could read two different datagrams, and one of them be a firewall (RFC 1858, RFC 5722).
//!
//! - `table`: the datagrams of which some pieces have passed
//! - `ranges`: which parts of a datagram have
//! - `hold`: the pieces that wait for the first one

mod hold;
mod ranges;
mod table;

pub use hold::{Held, Hold};
pub use ranges::{Clash, Ranges};
pub(crate) use table::hash;
pub use table::{Admission, Serial, Table};

use std::time::Duration;

use crate::addr::Addr;
use crate::parse::Packet;
use crate::wire::fragment::Fragment;

/// How long a datagram's pieces may be on their way. RFC 791 §3.2 starts its timer at 15 s; the 60 s of RFC 8200 §4.5 are the
/// receiver's, who waits for everything, while this is about reordering, and an id may be used again soon (RFC 4963).
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// Datagrams that one worker keeps in mind; beyond that it forgets old ones.
pub const DATAGRAMS: usize = 4096;
/// Pieces that wait in one worker at most; beyond that the one that has waited longest is dropped.
pub const WAITING: usize = 256;

/// What the fragments of a datagram have in common. A piece that names another next header than the first one is none of its
/// datagram here; receivers go by the first one's alone (RFC 8200 §4.5), but no sender does that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Identification.
    pub id: u32,
    /// L4 protocol number.
    pub protocol: u8,
}

impl Key {
    /// Of a packet that is this fragment.
    #[inline]
    #[must_use]
    pub const fn of(packet: &Packet, fragment: &Fragment) -> Self {
        Self { src: packet.src, dst: packet.dst, id: fragment.id, protocol: packet.protocol }
    }
}
