//! Routes: longest prefix match over connected networks and static routes.

use crate::addr::Addr;
use crate::ids::PortId;

/// The routing table.
#[derive(Debug)]
pub struct Routes {}

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Egress port.
    pub port: PortId,
    /// The gateway, or the destination itself on a connected network.
    pub addr: Addr,
}

impl Routes {
    /// The next hop towards `dst`.
    #[must_use]
    pub fn lookup(&self, _dst: Addr) -> Option<Hop> {
        todo!()
    }
}
