//! ARP for IPv4 over Ethernet (RFC 826).

use super::{Error, array_at, u16_at};
use crate::addr::{Addr, Mac};

/// Bytes of a packet.
pub const LEN: usize = 28;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Hardware type, protocol type, and the lengths of their addresses.
    pub const TYPES: Range<usize> = 0..6;
    /// Operation.
    pub const OPERATION: Range<usize> = 6..8;
    /// Sender's MAC.
    pub const SENDER_MAC: Range<usize> = 8..14;
    /// Sender's address.
    pub const SENDER_IP: Range<usize> = 14..18;
    /// Target's MAC.
    pub const TARGET_MAC: Range<usize> = 18..24;
    /// Target's address.
    pub const TARGET_IP: Range<usize> = 24..28;
}

/// Who has?
pub const REQUEST: u16 = 1;
/// Is at.
pub const REPLY: u16 = 2;

/// Ethernet, IPv4, 6 and 4 bytes.
const TYPES: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Arp<'a>(&'a [u8; LEN]);

impl<'a> Arp<'a> {
    /// A view of what starts `bytes`; padding may follow.
    ///
    /// # Errors
    /// [`Error::Short`]; [`Error::Malformed`] where it is not for IPv4 over Ethernet, or the sender claims a group MAC (RFC 1812
    /// §3.3.2).
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let arp = Self(bytes.first_chunk().ok_or(Error::Short)?);
        if array_at::<{ field::TYPES.start }, 6, _>(arp.0) != TYPES || arp.sender_mac().is_group() {
            return Err(Error::Malformed);
        }
        Ok(arp)
    }

    /// [`REQUEST`], [`REPLY`] or something else.
    #[must_use]
    pub const fn operation(&self) -> u16 {
        u16_at::<{ field::OPERATION.start }, _>(self.0)
    }

    /// Sender's MAC.
    #[must_use]
    pub const fn sender_mac(&self) -> Mac {
        Mac(array_at::<{ field::SENDER_MAC.start }, 6, _>(self.0))
    }

    /// Sender's address; 0.0.0.0 in a probe (RFC 5227 §1.1).
    #[must_use]
    pub const fn sender_ip(&self) -> Addr {
        Addr::v4(array_at::<{ field::SENDER_IP.start }, 4, _>(self.0))
    }

    /// Target's MAC; meaningless in a request.
    #[must_use]
    pub const fn target_mac(&self) -> Mac {
        Mac(array_at::<{ field::TARGET_MAC.start }, 6, _>(self.0))
    }

    /// Target's address.
    #[must_use]
    pub const fn target_ip(&self) -> Addr {
        Addr::v4(array_at::<{ field::TARGET_IP.start }, 4, _>(self.0))
    }
}

/// A packet as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repr {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// Sender's MAC.
    pub sender_mac: Mac,
    /// Sender's address, IPv4.
    pub sender_ip: Addr,
    /// Target's MAC.
    pub target_mac: Mac,
    /// Target's address, IPv4.
    pub target_ip: Addr,
}

impl Repr {
    /// The values of a packet.
    #[must_use]
    pub const fn of(arp: &Arp<'_>) -> Self {
        Self {
            operation: arp.operation(),
            sender_mac: arp.sender_mac(),
            sender_ip: arp.sender_ip(),
            target_mac: arp.target_mac(),
            target_ip: arp.target_ip(),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[field::TYPES].copy_from_slice(&TYPES);
        out[field::OPERATION].copy_from_slice(&self.operation.to_be_bytes());
        out[field::SENDER_MAC].copy_from_slice(&self.sender_mac.0);
        out[field::SENDER_IP].copy_from_slice(&self.sender_ip.v4_octets());
        out[field::TARGET_MAC].copy_from_slice(&self.target_mac.0);
        out[field::TARGET_IP].copy_from_slice(&self.target_ip.v4_octets());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPR: Repr = Repr {
        operation: REPLY,
        sender_mac: Mac([2, 0, 0, 0, 0, 1]),
        sender_ip: Addr::v4([10, 0, 0, 1]),
        target_mac: Mac([2, 0, 0, 0, 0, 2]),
        target_ip: Addr::v4([10, 0, 0, 2]),
    };

    #[test]
    fn emitted_and_read_back() {
        let bytes = REPR.emit();
        assert_eq!(Repr::of(&Arp::new_checked(&bytes).unwrap()), REPR);
        assert_eq!(Arp::new_checked(&bytes[..27]).err(), Some(Error::Short));
    }

    #[test]
    fn other_hardware_protocols_and_lengths_are_refused() {
        for at in field::TYPES {
            let mut bytes = REPR.emit();
            bytes[at] ^= 1;
            assert_eq!(Arp::new_checked(&bytes).err(), Some(Error::Malformed));
        }
    }

    #[test]
    fn a_sender_with_a_group_mac_is_refused() {
        let bytes = Repr { sender_mac: Mac::BROADCAST, ..REPR }.emit();
        assert_eq!(Arp::new_checked(&bytes).err(), Some(Error::Malformed));
    }
}
