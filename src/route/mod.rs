//! Routes: longest prefix match over connected networks and static routes.
//!
//! Asked once for a new connection or neighbour, not per packet: one hash map for each prefix length in use, longest first.

#[cfg(test)]
mod tests;

use hashbrown::HashMap;

use crate::addr::{Addr, Prefix};
use crate::config;
use crate::ids::PortId;

/// The routing table.
#[derive(Debug, Default)]
pub struct Routes {
    v4: Family,
    v6: Family,
}

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Egress port.
    pub port: PortId,
    /// The gateway, or the destination itself on a connected network.
    pub addr: Addr,
}

/// The prefixes of one family. They are kept apart because ::/0 would cover the form in which IPv4 is kept.
#[derive(Debug, Default)]
struct Family {
    /// Longest prefix first.
    lengths: Vec<Length>,
}

/// All prefixes of one length, by their network bits.
#[derive(Debug)]
struct Length {
    mask: u128,
    nets: HashMap<u128, Target>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Connected(PortId),
    Gateway(Hop),
}

impl Routes {
    /// The networks of the ports' addresses, and the static routes over gateways in those. Of equal prefixes the connected
    /// one wins, then the first in the file. A gateway in no connected network is refused by the validator.
    pub(crate) fn compile(ports: &[config::Port], routes: &[config::Route]) -> Self {
        let mut table = Self::default();
        for (index, port) in ports.iter().enumerate() {
            for &prefix in &port.addresses {
                table.add(prefix, Target::Connected(PortId::at(index)));
            }
        }
        // Gateways are looked for among connected networks only: a route is never resolved by another route.
        let gateways: Vec<_> = routes.iter().map(|route| table.lookup(route.via)).collect();
        for (route, gateway) in routes.iter().zip(gateways) {
            debug_assert!(gateway.is_some(), "gateway {} is on no connected network", route.via);
            if let Some(hop) = gateway {
                table.add(route.prefix, Target::Gateway(hop));
            }
        }
        table
    }

    fn add(&mut self, prefix: Prefix, target: Target) {
        let family = if prefix.addr.is_v4() { &mut self.v4 } else { &mut self.v6 };
        let mask = prefix.mask();
        // A longer prefix has the greater mask.
        let at = family.lengths.partition_point(|length| length.mask > mask);
        if family.lengths.get(at).is_none_or(|length| length.mask != mask) {
            family.lengths.insert(at, Length { mask, nets: HashMap::new() });
        }
        family.lengths[at].nets.entry(prefix.addr.0 & mask).or_insert(target);
    }

    /// The next hop towards `dst`.
    #[must_use]
    pub fn lookup(&self, dst: Addr) -> Option<Hop> {
        let family = if dst.is_v4() { &self.v4 } else { &self.v6 };
        let target = family.lengths.iter().find_map(|length| length.nets.get(&(dst.0 & length.mask)))?;
        Some(match *target {
            Target::Connected(port) => Hop { port, addr: dst },
            Target::Gateway(hop) => hop,
        })
    }
}
