//! One address type for both families, and the MAC address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address in 16 bytes: IPv4 is kept as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2), which the parser refuses
/// on the wire in IPv6, so the two families never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Addr(pub u128);

const V4_PREFIX: u128 = 0xffff_0000_0000;

impl Addr {
    /// From the four bytes of an IPv4 address.
    #[inline]
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self(V4_PREFIX | u32::from_be_bytes(octets) as u128)
    }

    /// From the sixteen bytes of an IPv6 address.
    #[inline]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    /// Whether this is an IPv4 address.
    #[inline]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == V4_PREFIX >> 32
    }

    /// The IPv4 bytes: the last four.
    #[inline]
    #[must_use]
    pub const fn v4_octets(self) -> [u8; 4] {
        (self.0 as u32).to_be_bytes()
    }

    /// The IPv6 bytes.
    #[inline]
    #[must_use]
    pub const fn v6_octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Multicast of either family (IPv4 224.0.0.0/4, IPv6 ff00::/8).
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { self.0 as u32 >> 28 == 0xe } else { self.0 >> 120 == 0xff }
    }

    /// IPv6 link-local, fe80::/10.
    #[must_use]
    pub const fn is_link_local_v6(self) -> bool {
        self.0 >> 118 == 0xfe80 >> 6
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(a) => Self::v4(a.octets()),
            IpAddr::V6(a) => Self::v6(a.octets()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(a: Addr) -> Self {
        if a.is_v4() {
            Self::V4(Ipv4Addr::from(a.v4_octets()))
        } else {
            Self::V6(Ipv6Addr::from(a.v6_octets()))
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Group bit: multicast or broadcast (IEEE 802.3 §3.2.3).
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address with a prefix length, as an interface has it (`203.0.113.2/24`) or as a prefix (`203.0.113.0/24`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    /// The address, host bits kept.
    pub addr: Addr,
    /// 0–32 for IPv4, 0–128 for IPv6.
    pub len: u8,
}

impl Prefix {
    /// The mask over the 128 bits of [`Addr`].
    #[must_use]
    pub const fn mask(self) -> u128 {
        let bits = if self.addr.is_v4() { self.len as u32 + 96 } else { self.len as u32 };
        if bits == 0 { 0 } else { u128::MAX << (128 - bits) }
    }

    /// Whether `a` is of the same family and lies in the prefix.
    #[inline]
    #[must_use]
    pub const fn contains(self, a: Addr) -> bool {
        self.addr.is_v4() == a.is_v4() && (self.addr.0 ^ a.0) & self.mask() == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}
