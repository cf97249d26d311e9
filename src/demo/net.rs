//! The links on both sides of the engine: who is there, how far away, and the frames under way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::ledger::Ledger;
use super::packet::{self, Body, Frame};
use super::station::{self, Station};
use crate::addr::{Addr, Mac};
use crate::config::{Config, Role};
use crate::ids::PortId;
use crate::time::Instant;
use crate::wire::ndp;

/// An address that sends and receives packets.
struct Host {
    station: usize,
    /// From a decision to the frame's arrival at the engine: the same for all, so that frames stay in order.
    delay: Duration,
}

/// Both links.
pub(super) struct Net {
    stations: Vec<(PortId, Station)>,
    hosts: HashMap<Addr, Host>,
    /// The stations behind which clients are.
    gateways: Vec<usize>,
    under_way: BTreeMap<(Instant, u64), (usize, Addr, Vec<u8>)>,
    numbered: u64,
    /// At the engine's door.
    arrived: VecDeque<(PortId, Vec<u8>)>,
}

impl Net {
    /// A gateway for every route on the clients' side, and a station for every endpoint on the servers'.
    pub fn new(config: &Config) -> Self {
        let mut net = Self {
            stations: Vec::new(),
            hosts: HashMap::new(),
            gateways: Vec::new(),
            under_way: BTreeMap::new(),
            numbered: 0,
            arrived: VecDeque::new(),
        };
        for (i, port) in config.ports.iter().enumerate() {
            let id = PortId::at(i);
            let on_link =
                |addr: Addr| port.addresses.iter().find(|own| own.contains(addr)).map(|own| own.addr);
            if port.role != Role::Server {
                let via: Vec<_> =
                    config.routes.iter().map(|r| r.via).filter(|a| on_link(*a).is_some()).collect();
                if let Some(first) = via.first() {
                    net.gateways.push(net.stations.len());
                    net.stations.push((id, Station::new(mac(id, *first), via, None)));
                }
            }
            let endpoints = config.services.iter().flat_map(|s| &s.endpoints).map(|e| e.address);
            for addr in endpoints {
                if let Some(router) = on_link(addr)
                    && !net.hosts.contains_key(&addr)
                {
                    let station = net.stations.len();
                    let delay = Duration::from_micros(500 * (1 + station as u64 % 7));
                    net.stations.push((id, Station::new(mac(id, addr), vec![addr], Some(router))));
                    net.hosts.insert(addr, Host { station, delay });
                }
            }
        }
        net
    }

    /// A client, so far away, behind the first gateway that there is.
    pub fn add_client(&mut self, addr: Addr, delay: Duration) {
        if let Some(&station) = self.gateways.first() {
            self.hosts.insert(addr, Host { station, delay });
        }
    }

    /// From now on this host falls silent again and again.
    pub fn make_flaky(&mut self, addr: Addr) {
        if let Some(host) = self.hosts.get(&addr) {
            self.stations[host.station].1.flaky = true;
        }
    }

    /// When a host that is silent now will speak again.
    pub fn silent_until(&self, now: Instant, addr: Addr) -> Option<Instant> {
        self.stations[self.hosts.get(&addr)?.station].1.silent_until(now)
    }

    /// A host sends an IP packet. The MACs of the frame are filled in on the way.
    pub fn send(&mut self, now: Instant, src: Addr, dst: Addr, frame: Vec<u8>) {
        let Some(host) = self.hosts.get(&src) else { return };
        self.numbered += 1;
        self.under_way.insert((now.after(host.delay), self.numbered), (host.station, dst, frame));
    }

    /// Lets frames arrive that are due, and stations repeat what was not answered.
    pub fn advance(&mut self, now: Instant) {
        let Self { stations, under_way, arrived, .. } = self;
        while let Some(first) = under_way.first_entry()
            && first.key().0 <= now
        {
            let (station, dst, frame) = first.remove();
            let (port, station) = &mut stations[station];
            station.send(now, dst, frame, &mut |frame| arrived.push_back((*port, frame)));
        }
        for (port, station) in stations {
            station.ask(now, &mut |frame| arrived.push_back((*port, frame)));
        }
    }

    /// The next frame into the engine.
    pub fn next(&mut self) -> Option<(PortId, Vec<u8>)> {
        self.arrived.pop_front()
    }

    /// Whether anything is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.arrived.is_empty()
    }

    /// A frame out of the engine: ARP and neighbour discovery are dealt with here, a packet for a host is given back.
    pub fn receive<'f>(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &'f [u8],
        ledger: &mut Ledger,
    ) -> Option<packet::Packet<'f>> {
        let Some((read, to)) = packet::read(frame).zip(frame.first_chunk().map(|m| Mac(*m))) else {
            ledger.corrupt += 1;
            return None;
        };
        let arrived = &mut self.arrived;
        let listening = self.stations.iter_mut().filter(|(p, station)| {
            *p == port && (to.is_group() || to == station.mac) && station.silent_until(now).is_none()
        });
        match read {
            Frame::Arp(arp) => {
                for (_, station) in listening {
                    station.arp(now, &arp, &mut |frame| arrived.push_back((port, frame)));
                }
                None
            }
            Frame::Ip(packet) => {
                if let Body::Icmp(icmp) = &packet.body
                    && !packet.dst.is_v4()
                    && station::is_discovery(icmp)
                {
                    let between = (packet.src, packet.dst);
                    match ndp::Message::new_checked(packet.payload, between.0, between.1, packet.hops) {
                        Ok(message) => {
                            for (_, station) in listening {
                                let out = &mut |frame| arrived.push_back((port, frame));
                                station.discovery(now, between, &message, out);
                            }
                        }
                        Err(_) => ledger.corrupt += 1,
                    }
                    return None;
                }
                let host = self.hosts.get(&packet.dst).map(|host| &self.stations[host.station]);
                if host.is_some_and(|(p, station)| *p == port && station.mac == to) {
                    return Some(packet);
                }
                ledger.corrupt += 1;
                None
            }
        }
    }
}

/// A locally administered address: the port, and the last bytes of the IP address.
fn mac(port: PortId, addr: Addr) -> Mac {
    let [a, b, c, d] = addr.v4_octets();
    Mac([2, port.0 + 1, a, b, c, d])
}
