//! Addresses and neighbours over rtnetlink.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::addr::{Addr, Mac, Prefix};

/// The multicast group of neighbour events (`RTNLGRP_NEIGH`).
const NEIGHBOR_GROUP: u32 = 3;
/// An address that is never to be preferred as a source.
const FOREVER: u32 = u32::MAX;
/// Bytes of a message's header.
const HEADER: usize = 16;

/// A socket for requests, answered one at a time.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    /// What the last request listed has changed while it was read.
    pub(super) inconsistent: bool,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborEvent {
    /// The interface.
    pub index: u32,
    /// Its address.
    pub addr: Addr,
    /// Its MAC, where it is known and thought to be right.
    pub mac: Option<Mac>,
    /// The neighbour has just shown itself.
    pub confirmed: bool,
    /// The kernel has given up asking.
    pub failed: bool,
}

impl Netlink {
    /// Opens it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, inconsistent: false })
    }

    /// The addresses of an interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<Prefix>> {
        let mut request = AddressMessage::default();
        request.header.index = index;
        let found = self.request(RouteNetlinkMessage::GetAddress(request), NLM_F_DUMP)?;
        let of_this = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
                let local = address.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(addr) => Some(*addr),
                    _ => None,
                });
                let any = address.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(addr) => Some(*addr),
                    _ => None,
                });
                let addr = Addr::from(local.or(any)?);
                Some(Prefix { addr, len: address.header.prefix_len })
            }
            _ => None,
        });
        Ok(of_this.collect())
    }

    /// Gives an interface an address, or leaves it there. A VIP brings no route of its network, and is not chosen as a
    /// source where there is another.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_address(&mut self, index: u32, prefix: Prefix, vip: bool) -> io::Result<()> {
        let mut message = address(index, prefix);
        let mut flags = AddressFlags::Nodad;
        if vip {
            flags |= AddressFlags::Noprefixroute;
            if !prefix.addr.is_v4() {
                let mut lifetime = CacheInfo::default();
                lifetime.ifa_valid = FOREVER;
                message.attributes.push(AddressAttribute::CacheInfo(lifetime));
            }
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delete_address(&mut self, index: u32, prefix: Prefix) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(address(index, prefix)), NLM_F_ACK)?;
        Ok(())
    }

    /// Lets the kernel find out a neighbour's MAC and keep it current, though it sends nothing there itself
    /// (`NTF_EXT_MANAGED`).
    ///
    /// # Errors
    /// EINVAL from a kernel before 5.16.
    pub fn manage_neighbor(&mut self, index: u32, addr: Addr) -> io::Result<()> {
        let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
        self.add_neighbor(index, addr, NeighbourState::None, managed)
    }

    /// Lets the kernel forget a neighbour; what it needs for itself it finds again.
    ///
    /// # Errors
    /// ENOENT where it does not know it.
    pub fn delete_neighbor(&mut self, index: u32, addr: Addr) -> io::Result<()> {
        let message = neighbor_message(index, addr, NeighbourState::None);
        self.request(RouteNetlinkMessage::DelNeighbour(message), NLM_F_ACK)?;
        Ok(())
    }

    /// Tells the kernel a neighbour's MAC for good.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_neighbor(&mut self, index: u32, addr: Addr, mac: Mac) -> io::Result<()> {
        let mac = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
        self.add_neighbor(index, addr, NeighbourState::Permanent, mac)
    }

    fn add_neighbor(
        &mut self,
        index: u32,
        addr: Addr,
        state: NeighbourState,
        attribute: NeighbourAttribute,
    ) -> io::Result<()> {
        let mut message = neighbor_message(index, addr, state);
        message.attributes.push(attribute);
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }

    /// All neighbours that the kernel knows.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn neighbors(&mut self) -> io::Result<Vec<NeighborEvent>> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        Ok(self.request(request, NLM_F_DUMP)?.iter().filter_map(neighbor).collect())
    }

    /// Sends a request; the answers up to the acknowledgement or the end of the dump.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.inconsistent = false;
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in messages(&bytes) {
                let Some(message) = readable(message) else { continue };
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                self.inconsistent |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
    }
}

/// A socket for what the kernel tells by itself.
pub struct Watch(Socket);

impl Watch {
    /// Opens it: events of neighbours.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn neighbors() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(NEIGHBOR_GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// The events since the last call; never waits.
    ///
    /// # Errors
    /// ENOBUFS where events were lost: ask for everything anew.
    pub fn events(&self) -> io::Result<Vec<NeighborEvent>> {
        let mut events = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => {
                    for message in messages(&bytes) {
                        if let Some(NetlinkPayload::InnerMessage(message)) =
                            readable(message).map(|m| m.payload)
                        {
                            events.extend(neighbor(&message));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The messages of one datagram.
fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> + use<'_> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            Ok(message) => message,
            Err(error) => {
                // The next one begins where this one says that it ends.
                let len = bytes.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len) as usize);
                let rest = bytes.get(len.next_multiple_of(4)..).filter(|_| len >= HEADER);
                bytes = rest.unwrap_or_default();
                return Some(Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())));
            }
        };
        // Messages are aligned to four bytes; one of no length would never end.
        let len = (message.header.length as usize).next_multiple_of(4).max(4);
        bytes = bytes.get(len..).unwrap_or_default();
        Some(Ok(message))
    })
}

/// A message, unless the library cannot read it: a route with an attribute of tomorrow. The others are as good as ever.
fn readable(
    message: io::Result<NetlinkMessage<RouteNetlinkMessage>>,
) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
    message.inspect_err(|error| tracing::debug!("a netlink message was left out: {error}")).ok()
}

fn address(index: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(prefix.addr);
    message.header.prefix_len = prefix.len;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    let addr = IpAddr::from(prefix.addr);
    message.attributes = vec![AddressAttribute::Local(addr), AddressAttribute::Address(addr)];
    message
}

fn neighbor_message(index: u32, addr: Addr, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(addr);
    message.header.ifindex = index;
    message.header.state = state;
    message.header.kind = RouteType::Unicast;
    let destination = match IpAddr::from(addr) {
        IpAddr::V4(addr) => NeighbourAddress::Inet(addr),
        IpAddr::V6(addr) => NeighbourAddress::Inet6(addr),
    };
    message.attributes = vec![NeighbourAttribute::Destination(destination)];
    message
}

const fn family(addr: Addr) -> AddressFamily {
    if addr.is_v4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn neighbor(message: &RouteNetlinkMessage) -> Option<NeighborEvent> {
    let (message, gone) = match message {
        RouteNetlinkMessage::NewNeighbour(message) => (message, false),
        RouteNetlinkMessage::DelNeighbour(message) => (message, true),
        _ => return None,
    };
    let addr = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => {
            Some(Addr::from(IpAddr::from(*addr)))
        }
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => {
            Some(Addr::from(IpAddr::from(*addr)))
        }
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.first_chunk().map(|mac| Mac(*mac)),
        _ => None,
    });
    let state = &message.header.state;
    let confirmed = matches!(state, NeighbourState::Reachable | NeighbourState::Permanent);
    let known =
        confirmed || matches!(state, NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe);
    let failed = *state == NeighbourState::Failed;
    let mac = mac.filter(|mac| known && !gone && !mac.is_group());
    Some(NeighborEvent { index: message.header.ifindex, addr, mac, confirmed, failed })
}
