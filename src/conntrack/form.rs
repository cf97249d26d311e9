//! What is done with a connection's packets, in the four bytes that an entry has for it.

use std::sync::Arc;

use crate::addr::Addr;
use crate::config::ClientAddress;
use crate::ids::SourceId;

/// The mode of a connection's service, as it was when the connection began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// The destination becomes the endpoint.
    Dnat,
    /// And the source a SNAT address.
    FullNat(ClientAddress),
    /// Nothing changes but MAC addresses and the TTL.
    DsrL2,
    /// IP in IP.
    DsrIpip,
    /// GUE.
    DsrGue,
}

const _: () = assert!(size_of::<Form>() == 1);

impl Form {
    /// Whether the endpoint answers the client itself, and one side of the connection is all that is seen here.
    #[inline]
    #[must_use]
    pub const fn is_one_sided(self) -> bool {
        matches!(self, Self::DsrL2 | Self::DsrIpip | Self::DsrGue)
    }

    /// Whether the endpoint sees a SNAT address.
    #[inline]
    #[must_use]
    pub const fn is_full_nat(self) -> bool {
        matches!(self, Self::FullNat(_))
    }

    /// Whether packets are changed so that the endpoint learns the client's address.
    #[inline]
    #[must_use]
    pub const fn tells_client(self) -> bool {
        matches!(self, Self::FullNat(ClientAddress::Toa | ClientAddress::ProxyV2))
    }
}

/// The addresses behind [`SourceId`]: few, so that looking one up costs no miss.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnAddresses(Arc<[Addr]>);

impl OwnAddresses {
    /// Of the addresses in slots from 1 on.
    #[must_use]
    pub fn new(addresses: &[Addr]) -> Self {
        let last = addresses.len().min(usize::from(u8::MAX));
        Self([Addr::default()].iter().chain(&addresses[..last]).copied().collect())
    }

    /// The address in a slot.
    #[inline]
    #[must_use]
    pub fn get(&self, id: SourceId) -> Addr {
        self.0.get(id.index()).copied().unwrap_or_default()
    }

    /// The slot of an address.
    #[must_use]
    pub fn find(&self, addr: Addr) -> SourceId {
        let at = self.0.iter().skip(1).position(|a| *a == addr);
        SourceId(at.and_then(|n| u8::try_from(n + 1).ok()).unwrap_or(0))
    }
}

impl Default for OwnAddresses {
    fn default() -> Self {
        Self::new(&[])
    }
}
