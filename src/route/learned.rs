//! Routes that are not the configuration's: the kernel's, as it has them on the ports' interfaces.

use crate::addr::{Addr, Prefix};
use crate::ids::PortId;

/// One way on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Path {
    /// Egress port.
    pub port: PortId,
    /// Of either family; none where destinations are on the link.
    pub gateway: Option<Addr>,
}

/// A route of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Learned {
    /// Destinations.
    pub prefix: Prefix,
    /// Of two routes to the same prefix the one with the lower metric is taken.
    pub metric: u32,
    /// Ways of equal cost, each with its weight, at least 1.
    pub paths: Box<[(Path, u16)]>,
}

/// The path of a destination: by a hash of its address alone, so that every worker takes the same one and a connection stays on
/// it while the paths stay; in proportion to their weights.
pub(super) fn choose(paths: &[(Path, u16)], dst: Addr) -> Option<Path> {
    let total: u64 = paths.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut at = mix(dst).checked_rem(total)?;
    for (path, weight) in paths {
        match at.checked_sub((*weight).into()) {
            None => return Some(*path),
            Some(rest) => at = rest,
        }
    }
    None
}

/// Spreads addresses that differ in few bits (the finalizer of `MurmurHash3`). No secret: whoever steers destinations into one
/// path gains nothing that the path's gateway would not see anyway.
const fn mix(addr: Addr) -> u64 {
    let mut bits = (addr.0 >> 64) as u64 ^ (addr.0 as u64).rotate_left(17);
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}
