//! Routes: longest prefix match over connected networks, static routes, and those that the kernel has.
//!
//! Asked for a new connection or neighbour, and once by each connection when routes change, not per packet: one hash map for
//! each prefix length in use, longest first.

mod learned;
#[cfg(test)]
mod tests;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

pub use learned::{Learned, Path};

use crate::addr::{Addr, Prefix};
use crate::config;
use crate::ids::PortId;

/// The routing table.
#[derive(Debug, Default)]
pub struct Routes {
    v4: Family,
    v6: Family,
    learned: usize,
}

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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

#[derive(Clone, Debug)]
enum Target {
    One(Path),
    /// Of equal cost: a destination always takes the same one.
    Many(Box<[(Path, u16)]>),
}

impl Routes {
    /// The networks of the ports' addresses, the static routes over gateways in those, and what the kernel has besides. Of
    /// equal prefixes the connected one wins, then the first in the file, then the kernel's with the lowest metric. A gateway
    /// of the file that is in no connected network is refused by the validator.
    pub(crate) fn compile(ports: &[config::Port], routes: &[config::Route], learned: &[Learned]) -> Self {
        let mut table = Self::default();
        for (index, port) in ports.iter().enumerate() {
            for &prefix in &port.addresses {
                table.add(prefix, Target::One(Path { port: PortId::at(index), gateway: None }));
            }
        }
        // Gateways are looked for among connected networks only: a route is never resolved by another route.
        let gateways: Vec<_> = routes.iter().map(|route| table.lookup(route.via)).collect();
        for (route, gateway) in routes.iter().zip(gateways) {
            debug_assert!(gateway.is_some(), "gateway {} is on no connected network", route.via);
            if let Some(hop) = gateway {
                table.add(route.prefix, Target::One(Path { port: hop.port, gateway: Some(hop.addr) }));
            }
        }
        table.learned = learned.len();
        let mut learned: Vec<_> = learned.iter().collect();
        learned.sort_by_key(|route| route.metric);
        for route in learned {
            match &*route.paths {
                [] => {}
                &[(path, _)] => table.add(route.prefix, Target::One(path)),
                paths => table.add(route.prefix, Target::Many(paths.into())),
            }
        }
        table
    }

    /// Enters a route, where there is none yet for the prefix.
    fn add(&mut self, prefix: Prefix, target: Target) {
        let family = if prefix.addr.is_v4() { &mut self.v4 } else { &mut self.v6 };
        let mask = prefix.mask();
        // A longer prefix has the greater mask.
        let at = family.lengths.partition_point(|length| length.mask > mask);
        if family.lengths.get(at).is_none_or(|length| length.mask != mask) {
            family.lengths.insert(at, Length { mask, nets: HashMap::new() });
        }
        if let Entry::Vacant(entry) = family.lengths[at].nets.entry(prefix.addr.0 & mask) {
            entry.insert(target);
        }
    }

    /// The next hop towards `dst`.
    #[must_use]
    pub fn lookup(&self, dst: Addr) -> Option<Hop> {
        let family = if dst.is_v4() { &self.v4 } else { &self.v6 };
        let target = family.lengths.iter().find_map(|length| length.nets.get(&(dst.0 & length.mask)))?;
        let path = match target {
            Target::One(path) => *path,
            Target::Many(paths) => learned::choose(paths, dst)?,
        };
        Some(Hop { port: path.port, addr: path.gateway.unwrap_or(dst) })
    }

    /// How many of them the kernel has, also where another one goes before them.
    #[must_use]
    pub const fn learned(&self) -> usize {
        self.learned
    }

    /// Every gateway that some route leads over, each once.
    #[must_use]
    pub fn gateways(&self) -> Vec<Hop> {
        let targets = [&self.v4, &self.v6].into_iter().flat_map(|f| &f.lengths).flat_map(|l| l.nets.values());
        let mut hops = hashbrown::HashSet::new();
        for target in targets {
            let many: &mut dyn Iterator<Item = Path> = match target {
                Target::One(path) => &mut std::iter::once(*path),
                Target::Many(paths) => &mut paths.iter().map(|(path, _)| *path),
            };
            hops.extend(many.filter_map(|path| Some(Hop { port: path.port, addr: path.gateway? })));
        }
        hops.into_iter().collect()
    }
}
