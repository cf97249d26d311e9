//! Routes over rtnetlink: those of the main table that leave by the ports' interfaces.
//!
//! What changes is told by events, but not everything: IPv4 routes of an interface that goes down disappear without one, and a
//! replaced or appended route is told in ways that differ between the families. So an event only says that the table is to be
//! read again.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Netlink;
use crate::addr::{Addr, Prefix};
use crate::ids::PortId;
use crate::route::{Learned, Path};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV6_ROUTE`.
const GROUPS: [u32; 3] = [1, 7, 11];

impl Netlink {
    /// The routes of the main table over interfaces of ours: `port` says whose an interface is. Sorted. And whether the table
    /// stayed as it was meanwhile: else some may be missing, or twice there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn routes(&mut self, port: impl Fn(u32) -> Option<PortId>) -> io::Result<(Vec<Learned>, bool)> {
        let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let found = self.request(request, NLM_F_DUMP)?;
        let mut routes: Vec<_> = found
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => learned(route, &port),
                _ => None,
            })
            .collect();
        routes.sort_by(|a, b| key(a).cmp(&key(b)));
        Ok((routes, !self.inconsistent))
    }
}

fn key(route: &Learned) -> (Addr, u8, u32, &[(Path, u16)]) {
    (route.prefix.addr, route.prefix.len, route.metric, &route.paths)
}

/// A socket that hears when routes may have changed.
pub struct RouteWatch(Socket);

impl RouteWatch {
    /// Opens it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Whether anything was told since the last call, or there was too much to tell; never waits.
    #[must_use]
    pub fn changed(&self) -> bool {
        let mut changed = false;
        loop {
            match self.0.recv_from_full() {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // ENOBUFS: told that something was lost, once.
                Err(_) => return true,
            }
        }
    }
}

/// A route that balanced traffic can take: unicast, for any source and type of service, without a tunnel, at least one of its
/// ways usable and a port's.
fn learned(route: &RouteMessage, port: &impl Fn(u32) -> Option<PortId>) -> Option<Learned> {
    let RouteMessage { header, attributes, .. } = route;
    let mut table = u32::from(header.table);
    let mut addr = match header.address_family {
        AddressFamily::Inet => Addr::v4([0; 4]),
        AddressFamily::Inet6 => Addr::v6([0; 16]),
        _ => return None,
    };
    let (mut metric, mut index, mut gateway, mut many) = (0, None, None, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(destination) => addr = address(destination)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::MultiPath(hops) => many = Some(hops),
            RouteAttribute::EncapType(_) => return None,
            other => gateway = gateway.or(via(other)?),
        }
    }
    let usable = table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && header.kind == RouteType::Unicast
        && (header.tos, header.source_prefix_length) == (0, 0)
        && !header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown | RouteFlags::Cloned);
    let prefix = Prefix { addr, len: header.destination_prefix_length };
    // What is valid on its link alone is on every link.
    if !usable || addr.is_link_local_v6() {
        return None;
    }
    let mut paths: Vec<_> = match many {
        Some(hops) => hops.iter().filter_map(|hop| path(hop, port)).collect(),
        None => vec![(Path { port: port(index?)?, gateway }, 1)],
    };
    paths.sort_unstable();
    (!paths.is_empty()).then(|| Learned { prefix, metric, paths: paths.into() })
}

/// One way of several.
fn path(hop: &RouteNextHop, port: &impl Fn(u32) -> Option<PortId>) -> Option<(Path, u16)> {
    if hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown)
        || hop.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::EncapType(_)))
    {
        return None;
    }
    let mut gateway = None;
    for attribute in &hop.attributes {
        gateway = gateway.or(via(attribute)?);
    }
    Some((Path { port: port(hop.interface_index)?, gateway }, u16::from(hop.hops) + 1))
}

/// The gateway that an attribute says, if it is one that says so; `None` where that is no IP address.
#[expect(clippy::option_option, reason = "no gateway is another thing than none that is known")]
fn via(attribute: &RouteAttribute) -> Option<Option<Addr>> {
    match attribute {
        RouteAttribute::Gateway(gateway) => Some(Some(address(gateway)?)),
        RouteAttribute::Via(RouteVia::Inet(gateway)) => Some(Some(IpAddr::from(*gateway).into())),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => Some(Some(IpAddr::from(*gateway).into())),
        RouteAttribute::Via(_) => None,
        _ => Some(None),
    }
}

fn address(address: &RouteAddress) -> Option<Addr> {
    match address {
        RouteAddress::Inet(addr) => Some(IpAddr::from(*addr).into()),
        RouteAddress::Inet6(addr) => Some(IpAddr::from(*addr).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAPS: [u32; 2] = [7, 8];

    fn port(index: u32) -> Option<PortId> {
        TAPS.iter().position(|tap| *tap == index).map(PortId::at)
    }

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn gateway(text: &str) -> RouteAttribute {
        RouteAttribute::Gateway(text.parse::<IpAddr>().unwrap().into())
    }

    /// 192.0.2.0/24 in the main table.
    fn route(attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.destination_prefix_length = 24;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet([192, 0, 2, 0].into()))];
        route.attributes.extend(attributes);
        route
    }

    fn hop(index: u32, weight: u8, attributes: Vec<RouteAttribute>) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        hop.interface_index = index;
        hop.hops = weight - 1;
        hop.attributes = attributes;
        hop
    }

    #[test]
    fn routes_over_the_ports_interfaces() {
        let over = |tap: u8, via: Option<&str>| Path { port: PortId(tap), gateway: via.map(addr) };
        let to = Prefix { addr: addr("192.0.2.0"), len: 24 };
        for (attributes, metric, paths) in [
            (vec![RouteAttribute::Oif(8), gateway("10.1.0.9")], 0, vec![(over(1, Some("10.1.0.9")), 1)]),
            (vec![RouteAttribute::Oif(7), RouteAttribute::Priority(32)], 32, vec![(over(0, None), 1)]),
            (
                vec![
                    RouteAttribute::Oif(7),
                    RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())),
                ],
                0,
                vec![(over(0, Some("fe80::1")), 1)],
            ),
            (
                vec![RouteAttribute::MultiPath(vec![
                    hop(8, 3, vec![gateway("10.1.0.9")]),
                    hop(2, 1, vec![gateway("192.168.0.1")]),
                    hop(7, 1, vec![gateway("203.0.113.9")]),
                ])],
                0,
                vec![(over(0, Some("203.0.113.9")), 1), (over(1, Some("10.1.0.9")), 3)],
            ),
        ] {
            let expected = Learned { prefix: to, metric, paths: paths.into() };
            assert_eq!(learned(&route(attributes.clone()), &port), Some(expected), "{attributes:?}");
        }
        let mut default = route(vec![RouteAttribute::Oif(7), gateway("2001:db8:1::1")]);
        default.header.address_family = AddressFamily::Inet6;
        default.header.destination_prefix_length = 0;
        default.attributes.remove(0);
        let found = learned(&default, &port).unwrap();
        assert_eq!(found.prefix, Prefix { addr: addr("::"), len: 0 });
    }

    #[test]
    fn what_balanced_traffic_cannot_take() {
        let plain = || route(vec![RouteAttribute::Oif(7), gateway("203.0.113.9")]);
        assert!(learned(&plain(), &port).is_some());
        let spoil = |what: &str, spoil: &dyn Fn(&mut RouteMessage)| {
            let mut route = plain();
            spoil(&mut route);
            assert_eq!(learned(&route, &port), None, "{what}");
        };
        spoil("another table", &|route| route.attributes.push(RouteAttribute::Table(1000)));
        spoil("the local table", &|route| route.header.table = 255);
        spoil("a blackhole", &|route| route.header.kind = RouteType::BlackHole);
        spoil("for a type of service", &|route| route.header.tos = 8);
        spoil("for some sources", &|route| route.header.source_prefix_length = 8);
        spoil("no carrier", &|route| route.header.flags = RouteFlags::Linkdown);
        spoil("another interface", &|route| route.attributes[1] = RouteAttribute::Oif(2));
        spoil("none of its ways usable", &|route| {
            let mut dead = hop(7, 1, vec![gateway("203.0.113.9")]);
            dead.flags = RouteNextHopFlags::Dead;
            route.attributes = vec![RouteAttribute::MultiPath(vec![dead])];
        });
    }
}
