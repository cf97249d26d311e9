//! What there is of a connection that only its beginning, its end, its timer and listings ask for.

use super::Flow;
use super::tally::Carried;
use super::wheel::Links;
use crate::dpdk::memory::prefetch;
use crate::ids::{EndpointId, ServiceId};

/// Longest idle timeout, 12 days: elapsed times stay well clear of the 49 days at which u32 milliseconds wrap.
const MAX_IDLE_MS: u32 = 1 << 30;

/// What is not asked for by packets.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) links: Links,
    pub(super) owner: Owner,
    /// When it was created, in units of [`BORN_MS`].
    born: u32,
    /// What its packets write once in a while.
    pub(super) carried: Carried,
}

const _: () = assert!(size_of::<Rest>() == 24);

/// What the age of a connection is counted in, milliseconds: it fits 32 bits for 13 years.
const BORN_MS: u64 = 100;

/// Whose connection it is, and how long it may be idle: 22 bits of endpoint, 17 of service, 24 of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner(u64);

impl Owner {
    const ENDPOINT_BITS: u32 = 22;
    const SERVICE_BITS: u32 = 17;
    const IDLE_BITS: u32 = 24;
    /// Times below 2 h 19 min are exact; beyond, which this bit tells, they are in units of 256 ms, rounded up.
    const COARSE: u32 = 1 << (Self::IDLE_BITS - 1);

    #[inline]
    fn new(endpoint: EndpointId, service: ServiceId, idle_ms: u32) -> Self {
        let idle_ms = idle_ms.min(MAX_IDLE_MS);
        let idle = if idle_ms < Self::COARSE { idle_ms } else { Self::COARSE | idle_ms.div_ceil(256) };
        Self(
            u64::from(endpoint.0)
                | u64::from(service.0) << Self::ENDPOINT_BITS
                | u64::from(idle) << (Self::ENDPOINT_BITS + Self::SERVICE_BITS),
        )
    }

    #[inline]
    pub(super) const fn endpoint(self) -> EndpointId {
        EndpointId(self.0 as u32 & ((1 << Self::ENDPOINT_BITS) - 1))
    }

    #[inline]
    pub(super) const fn service(self) -> ServiceId {
        ServiceId((self.0 >> Self::ENDPOINT_BITS) as u32 & ((1 << Self::SERVICE_BITS) - 1))
    }

    #[inline]
    pub(super) const fn idle_ms(self) -> u32 {
        let idle = (self.0 >> (Self::ENDPOINT_BITS + Self::SERVICE_BITS)) as u32;
        if idle < Self::COARSE { idle } else { (idle ^ Self::COARSE) * 256 }
    }
}

impl Owner {
    /// The most ids of each kind that fit.
    const ENDPOINTS: usize = 1 << Self::ENDPOINT_BITS;
    const SERVICES: usize = 1 << Self::SERVICE_BITS;
}

const _: () = assert!(crate::tables::MAX_ENDPOINTS <= Owner::ENDPOINTS);
const _: () = assert!(crate::tables::MAX_SERVICES <= Owner::SERVICES);

impl Rest {
    #[inline(always)]
    pub(super) fn new(flow: &Flow, now_ms: u64) -> Self {
        Self {
            links: Links::NONE,
            owner: Owner::new(flow.endpoint_id, flow.service, flow.idle_timeout_ms),
            born: (now_ms / BORN_MS) as u32,
            carried: Carried::default(),
        }
    }

    /// Milliseconds since it was created.
    pub(super) fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(u64::from(self.born) * BORN_MS)
    }

    /// Starts to fetch it. It may lie in two lines.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        prefetch(&self.links);
        prefetch(&self.carried);
    }
}

#[cfg(test)]
impl Rest {
    /// Of no connection.
    pub(super) fn blank() -> Self {
        Self { links: Links::NONE, owner: Owner(0), born: 0, carried: Carried::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_timeouts_are_exact_or_a_little_longer() {
        for ms in [0, 1, 999, 240_000, 3_600_000, (1 << 23) - 1] {
            assert_eq!(Owner::new(EndpointId(3), ServiceId(2), ms).idle_ms(), ms);
        }
        for ms in [1 << 23, 86_400_000, 86_400_001, MAX_IDLE_MS - 1, MAX_IDLE_MS] {
            let kept = Owner::new(EndpointId(3), ServiceId(2), ms).idle_ms();
            assert!((ms..ms + 256).contains(&kept), "{ms} is kept as {kept}");
        }
        assert_eq!(Owner::new(EndpointId(0), ServiceId(0), u32::MAX).idle_ms(), MAX_IDLE_MS);
    }

    #[test]
    fn an_owner_s_parts_do_not_touch() {
        let (endpoint, service) = (EndpointId((1 << 22) - 1), ServiceId((1 << 17) - 1));
        for (e, s, idle) in [(endpoint, ServiceId(0), 0), (EndpointId(0), service, 0), (endpoint, service, 7)]
        {
            let owner = Owner::new(e, s, idle);
            assert_eq!((owner.endpoint(), owner.service(), owner.idle_ms()), (e, s, idle));
        }
    }
}
