//! (VIP, port, protocol) to service.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Service, Sieve};
use crate::addr::Addr;
use crate::config::Protocol;

/// Services by VIP, then by port range.
///
/// Whether an address is a VIP is asked for every packet, so that is one probe of a hash map whose keys and values share a
/// cache line. Its keys are configured, not learnt: a flood cannot make them collide.
#[derive(Debug, Default)]
pub(super) struct Index {
    vips: HashMap<Addr, [Box<[Range]>; Protocol::ALL.len()]>,
    sieve: Sieve,
}

/// A service's ports; the ranges of one VIP and protocol are disjoint and sorted.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u16,
    last: u16,
    service: u32,
}

impl Index {
    /// An index of positions in `services`, whose (VIP, ports, protocol) are disjoint; and VIPs without a service.
    pub fn new(services: &[Arc<Service>], lingering: impl Iterator<Item = Addr>) -> Self {
        let mut vips: HashMap<Addr, [Vec<Range>; Protocol::ALL.len()]> = HashMap::new();
        for (n, service) in (0..).zip(services) {
            let (first, last) = service.ports;
            for vip in service.vips() {
                let ranges = &mut vips.entry(vip).or_default()[service.protocol.index()];
                ranges.push(Range { first, last, service: n });
            }
        }
        for vip in lingering {
            vips.entry(vip).or_default();
        }
        let sorted = |mut ranges: Vec<Range>| {
            ranges.sort_unstable_by_key(|range| range.first);
            ranges.into_boxed_slice()
        };
        let sieve = Sieve::of(vips.keys());
        Self { vips: vips.into_iter().map(|(vip, ranges)| (vip, ranges.map(sorted))).collect(), sieve }
    }

    #[inline]
    pub fn has(&self, addr: Addr) -> bool {
        self.sieve.may_have(addr) && self.vips.contains_key(&addr)
    }

    /// The position of the service.
    #[inline]
    pub fn find(&self, vip: Addr, port: u16, protocol: Protocol) -> Option<usize> {
        let ranges = &self.vips.get(&vip)?[protocol.index()];
        let after = ranges.partition_point(|range| range.first <= port);
        let range = ranges.get(after.checked_sub(1)?)?;
        (port <= range.last).then_some(range.service as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::addr::Addr;
    use crate::config::{Algorithm, Protocol, Service};
    use crate::service::{Services, tests::service};
    use crate::tables::Slots;

    fn compiled(services: &[Service], slots: &mut Slots) -> Services {
        let services =
            services.iter().map(|s| std::sync::Arc::new(crate::service::Service::compile(s, 1, slots)));
        Services::new(services.collect(), std::iter::empty())
    }

    fn on(vip: Addr, ports: (u16, u16), protocol: Protocol) -> Service {
        Service {
            name: format!("{vip} {ports:?} {protocol:?}"),
            vip,
            first_port: ports.0,
            last_port: ports.1,
            protocol,
            ..service(Algorithm::RoundRobin, &[])
        }
    }

    const VIP: Addr = Addr::v4([203, 0, 113, 100]);

    #[test]
    fn a_range_takes_its_first_and_last_port_and_no_other() {
        let services = [
            on(VIP, (5000, 5999), Protocol::Udp),
            on(VIP, (80, 80), Protocol::Udp),
            on(VIP, (6000, 65_535), Protocol::Udp),
            on(VIP, (1, 79), Protocol::Udp),
        ];
        let services = compiled(&services, &mut Slots::default());
        let at = |port, protocol| services.lookup(VIP, port, protocol).map(|s| s.ports.0);
        for (port, first) in [
            (1, Some(1)),
            (79, Some(1)),
            (80, Some(80)),
            (81, None),
            (4999, None),
            (5000, Some(5000)),
            (5999, Some(5000)),
            (6000, Some(6000)),
            (65_535, Some(6000)),
        ] {
            assert_eq!(at(port, Protocol::Udp), first, "port {port}");
            assert_eq!(at(port, Protocol::Tcp), None);
        }
    }

    #[test]
    fn a_vip_is_one_whatever_its_protocol() {
        let services = compiled(&[on(VIP, (80, 80), Protocol::Sctp)], &mut Slots::default());
        assert!(services.is_vip(VIP));
        assert!(!services.is_vip(Addr::v4([203, 0, 113, 101])));
        assert!(!services.is_vip(Addr::default()));
        assert!(!compiled(&[], &mut Slots::default()).is_vip(VIP));
    }

    fn vip(n: u8) -> Addr {
        if n.is_multiple_of(2) { Addr::v4([203, 0, 113, n]) } else { Addr(0x2001 << 112 | u128::from(n)) }
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            wanted in prop::collection::vec((0..4u8, 1..60u16, 0..9u16, 0..3usize), 0..60),
            asked in prop::collection::vec((0..5u8, 0..70u16, 0..3usize), 200),
        ) {
            let mut services: Vec<Service> = Vec::new();
            for (n, first, more, protocol) in wanted {
                let new = on(vip(n), (first, first + more), Protocol::ALL[protocol]);
                let overlaps = services.iter().any(|s| {
                    (s.vip, s.protocol) == (new.vip, new.protocol)
                        && s.first_port <= new.last_port
                        && new.first_port <= s.last_port
                });
                if !overlaps {
                    services.push(new);
                }
            }
            let compiled = compiled(&services, &mut Slots::default());
            prop_assert!(compiled.iter().map(|s| s.ports.0).eq(services.iter().map(|s| s.first_port)));
            for (n, port, protocol) in asked {
                let (vip, protocol) = (vip(n), Protocol::ALL[protocol]);
                let naive = services.iter().position(|s| {
                    (s.vip, s.protocol) == (vip, protocol) && (s.first_port..=s.last_port).contains(&port)
                });
                let found = compiled.lookup(vip, port, protocol).map(|s| s.id.index());
                prop_assert_eq!(found, naive);
                prop_assert_eq!(compiled.is_vip(vip), services.iter().any(|s| s.vip == vip));
            }
        }
    }
}
