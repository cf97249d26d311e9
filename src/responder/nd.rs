//! Neighbour solicitations and advertisements (RFC 4861 §4.3, §4.4, §7.2).

use super::{ICMPV6, IPV6, ethernet, icmp_message, ip_header};
use crate::addr::{Addr, Mac};
use crate::parse::Packet;

/// ICMPv6 type of a solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// Everything that ND speaks: router solicitation to redirect.
pub const TYPES: std::ops::RangeInclusive<u8> = 133..=137;
/// ND never crosses a router: RFC 4861 §6.1, §7.1.
pub const HOP_LIMIT: u8 = 255;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Addr = Addr(0xff02_0000_0000_0000_0000_0000_0000_0001);

/// A solicitation or advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nd {
    /// Whose MAC is asked for or told.
    pub target: Addr,
    /// The link-layer address option: the solicitor's, or the target's.
    pub mac: Option<Mac>,
}

/// Reads a solicitation or advertisement. `None` where it breaks the rules of RFC 4861 §7.1.
#[must_use]
pub fn read(frame: &[u8], packet: &Packet, kind: u8) -> Option<Nd> {
    let end = packet.l3 as usize + packet.l3_len as usize;
    let message = frame.get(packet.l4 as usize..end)?;
    let (header, mut options) = message.split_at_checked(24)?;
    let target = Addr::v6(*header[8..].first_chunk()?);
    if packet.ttl != HOP_LIMIT || header[1] != 0 || target.is_multicast() {
        return None;
    }
    let wanted = if kind == SOLICITATION { SOURCE_LINK_ADDRESS } else { TARGET_LINK_ADDRESS };
    let mut mac = None;
    while let [option, words, ..] = *options {
        let (this, rest) = options.split_at_checked(usize::from(words) * 8)?;
        if words == 0 {
            return None;
        }
        if option == wanted {
            mac = this.get(2..)?.first_chunk().map(|m| Mac(*m));
        }
        options = rest;
    }
    Some(Nd { target, mac })
}

/// Writes «`target` is at `mac`» to whoever asked: to everybody where the question came from `::` (RFC 4861 §7.2.4).
pub fn advertise(out: &mut Vec<u8>, asker: (Mac, Addr), target: Addr, mac: Mac, vlan: u16) {
    let anonymous = asker.1 == Addr(0);
    let (to, dst) = if anonymous { (Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES) } else { asker };
    let flags = if anonymous { OVERRIDE } else { SOLICITED | OVERRIDE };
    write(out, (to, dst), (mac, target), vlan, [ADVERTISEMENT, flags, TARGET_LINK_ADDRESS], target);
}

/// Writes a solicitation for `target` to its solicited-node group, or (a probe) to the station it was last seen at.
pub fn solicit(out: &mut Vec<u8>, from: (Mac, Addr), vlan: u16, target: Addr, unicast: Option<Mac>) {
    let to = match unicast {
        Some(mac) => (mac, target),
        None => solicited_node(target),
    };
    write(out, to, from, vlan, [SOLICITATION, 0, SOURCE_LINK_ADDRESS], target);
}

fn write(
    out: &mut Vec<u8>,
    to: (Mac, Addr),
    from: (Mac, Addr),
    vlan: u16,
    [kind, flags, option]: [u8; 3],
    target: Addr,
) {
    let mut message = [0; 32];
    message[0] = kind;
    message[4] = flags;
    message[8..24].copy_from_slice(&target.v6_octets());
    message[24] = option;
    message[25] = 1;
    message[26..32].copy_from_slice(&from.0.0);
    ethernet(out, to.0, from.0, vlan, IPV6);
    ip_header(out, from.1, to.1, ICMPV6, HOP_LIMIT, message.len());
    icmp_message(out, from.1, to.1, [&message, &[]]);
}

/// The address in ff02::1:ff00:0/104 and its MAC (RFC 4291 §2.7.1, RFC 2464 §7).
#[must_use]
pub fn solicited_node(target: Addr) -> (Mac, Addr) {
    let [_, b, c, d] = target.v4_octets();
    let group = 0xff02_0000_0000_0000_0000_0001_ff00_0000 | u128::from(u32::from_be_bytes([0, b, c, d]));
    (Mac([0x33, 0x33, 0xff, b, c, d]), Addr(group))
}

/// The link-local address that a MAC gives (RFC 4291 app. A).
#[must_use]
pub fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
