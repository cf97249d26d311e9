//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet;
use crate::addr::{Addr, Mac};

const ETHERTYPE: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Hardware type 1, protocol type 0x0800, lengths 6 and 4.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// A request, or else a reply.
    pub request: bool,
    /// Who speaks.
    pub sender: (Mac, Addr),
    /// Whom it is about (request), or to (reply).
    pub target: Addr,
}

/// Reads the ARP packet at `offset`, which the parser has checked.
#[must_use]
pub fn read(frame: &[u8], offset: usize) -> Option<Arp> {
    let packet: &[u8; 28] = frame.get(offset..)?.first_chunk()?;
    let (mac, rest) = packet[8..].split_first_chunk::<6>()?;
    let (sender, rest) = rest.split_first_chunk::<4>()?;
    let (_, target) = rest.split_last_chunk::<4>()?;
    Some(Arp {
        request: u16::from_be_bytes([packet[6], packet[7]]) == REQUEST,
        sender: (Mac(*mac), Addr::v4(*sender)),
        target: Addr::v4(*target),
    })
}

/// Writes the reply «`target` is at `mac`» to the sender of `arp`.
pub fn reply(out: &mut Vec<u8>, arp: &Arp, mac: Mac, vlan: u16) {
    write(out, arp.sender.0, vlan, REPLY, (mac, arp.target), arp.sender);
}

/// Writes a request for `target`, to everybody or (a probe) to the station it was last seen at.
pub fn request(out: &mut Vec<u8>, from: (Mac, Addr), vlan: u16, target: Addr, unicast: Option<Mac>) {
    let to = unicast.unwrap_or(Mac::BROADCAST);
    write(out, to, vlan, REQUEST, from, (Mac::default(), target));
}

fn write(out: &mut Vec<u8>, to: Mac, vlan: u16, operation: u16, sender: (Mac, Addr), target: (Mac, Addr)) {
    ethernet(out, to, sender.0, vlan, ETHERTYPE);
    out.extend_from_slice(&PREFIX);
    out.extend_from_slice(&operation.to_be_bytes());
    for (mac, addr) in [sender, target] {
        out.extend_from_slice(&mac.0);
        out.extend_from_slice(&addr.v4_octets());
    }
}
