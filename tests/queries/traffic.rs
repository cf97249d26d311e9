//! Clients and endpoints at the far ends of the engine's rings: each answers frame by frame, without memory but for the ledger.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::addr::Mac;
use pollux::dpdk::{Mbuf, Mempool, RingConsumer, RingProducer};
use pollux::pipeline::Frame as _;
use pollux::wire::build::{Ip, eth};
use pollux::wire::ethernet::Ethernet;
use pollux::wire::ipv4::Ipv4;
use pollux::wire::sctp::{Sctp, chunk};
use pollux::wire::tcp::{Tcp, flag};
use pollux::wire::udp::Udp;

use crate::ledger::{Ledger, Pair};

pub const WAN: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub const LAN: Mac = Mac([2, 0, 0, 0, 1, 2]);
/// All clients', and all endpoints'.
pub const CLIENTS_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
pub const ENDPOINTS_MAC: Mac = Mac([2, 0, 0, 0, 9, 2]);
/// Of the documentation's queries: 10.0.0.5 and those after it.
pub const CLIENTS: u8 = 12;

const VIP: [u8; 4] = [192, 168, 1, 100];
const REPORTS: [u8; 4] = [192, 168, 1, 101];
/// Connections and datagrams a second, over all clients.
const PER_SECOND: u64 = 50;
const BURST: usize = 32;
/// First numbers of all clients, and of all endpoints.
const CLIENT: u32 = 1000;
const SERVER: u32 = 5000;
const REQUEST: usize = 200;
const RESPONSE: usize = 1000;
const COOKIE: [u8; 8] = *b"a cookie";

/// What a client's port says that it does.
mod port {
    use std::ops::Range;

    /// Opens a connection and keeps it.
    pub const HELD: Range<u16> = 5000..5100;
    /// Asks one thing.
    pub const ASKS: Range<u16> = 10_000..30_000;
    /// Says that it has nothing to say, and hears no more than that this was heard.
    pub const HALF: Range<u16> = 30_000..45_000;
    /// Is refused.
    pub const REFUSED: Range<u16> = 45_000..60_000;
}

/// Names of services as the metrics have them.
#[derive(Clone, Copy)]
pub struct Names {
    pub frontend: &'static str,
    pub dns: &'static str,
    pub s1ap: &'static str,
    pub reports: &'static str,
}

impl Names {
    /// The service and protocol of an endpoint.
    fn of(&self, endpoint: Ipv4Addr) -> (&'static str, &'static str) {
        match endpoint.octets()[3] {
            40 => (self.reports, "tcp"),
            30 => (self.s1ap, "sctp"),
            20 | 21 => (self.dns, "udp"),
            _ => (self.frontend, "tcp"),
        }
    }
}

struct Wire {
    inject: RingProducer,
    collect: RingConsumer,
}

/// The far ends of a port of one queue.
pub type Ends = (Vec<RingProducer>, Vec<RingConsumer>);

impl From<Ends> for Wire {
    fn from((mut inject, mut collect): Ends) -> Self {
        Self { inject: inject.remove(0), collect: collect.remove(0) }
    }
}

pub struct Traffic {
    pool: Mempool,
    wan: Wire,
    lan: Wire,
    ledger: Ledger,
    names: Names,
    /// Which endpoint a client's port is connected to: packets that come out at the clients' side do not say.
    at: HashMap<(u8, Ipv4Addr, u16), Ipv4Addr>,
    began: Instant,
    steps: u64,
    /// Connections refused in the storm.
    refused: u16,
    last: Option<Last>,
}

/// The last frame that an endpoint had no answer to: the storm's come by the hundred thousand, each as the one before.
struct Last {
    head: Vec<u8>,
    pair: usize,
    bytes: usize,
}

/// Ethernet, IPv4 and TCP headers.
const HEAD: usize = 54;

impl Traffic {
    pub fn new(pool: &Mempool, [wan, lan]: [Ends; 2], ledger: &Ledger, names: Names) -> Self {
        {
            let mut counts = ledger.lock();
            for name in [names.frontend, names.dns, names.s1ap, names.reports] {
                counts.requests.insert(name, (0, 0));
            }
            counts.open.extend([("tcp", 0), ("udp", 0), ("sctp", 0)]);
            let endpoints = [10, 11, 12, 20, 21, 30, 40].map(|n| Ipv4Addr::new(192, 168, 2, n));
            for (client, dip) in (0..CLIENTS).flat_map(|client| endpoints.map(|dip| (client, dip))) {
                let (service, protocol) = names.of(dip);
                let sip = address(client);
                counts.pairs.push(Pair { service, protocol, sip, dip, packets: 0, bytes: 0 });
            }
        }
        Self {
            pool: pool.clone(),
            wan: wan.into(),
            lan: lan.into(),
            ledger: ledger.clone(),
            names,
            at: HashMap::new(),
            began: Instant::now(),
            steps: 0,
            refused: 0,
            last: None,
        }
    }

    /// Connections of the first two clients that stay: for the storm.
    pub fn hold(&mut self) {
        for client in 0..2 {
            for port in port::HELD.take(12) {
                self.client(client, VIP, |ip| ip.tcp(port, 80).syn().seq(CLIENT).frame());
                self.request(self.names.frontend, false, Some("tcp"));
            }
        }
    }

    /// Whatever is due at the steady rate, and what comes of it.
    pub fn turn(&mut self) {
        let due = self.began.elapsed().as_millis() as u64 * PER_SECOND / 1000;
        while self.steps < due {
            self.steps += 1;
            self.step(self.steps);
        }
        self.exchange();
    }

    /// Steady traffic begins anew: what was missed meanwhile is not made up for.
    pub fn resume(&mut self) {
        self.began = Instant::now() - Duration::from_millis(self.steps * 1000 / PER_SECOND);
    }

    fn step(&mut self, n: u64) {
        // All alike, but not in step with the endpoints' turns.
        let client = ((n / 2 * 5 + n / 24) % u64::from(CLIENTS)) as u8;
        let port = port::ASKS.start + (n % 20_000) as u16;
        match n % 50 {
            23 => {
                self.client(client, REPORTS, |ip| ip.tcp(port, 443).syn().seq(CLIENT).frame());
                self.request(self.names.reports, true, None);
            }
            24 | 49 => {
                self.client(client, VIP, |ip| ip.sctp(port, 36412).init(7).frame());
                self.request(self.names.s1ap, false, Some("sctp"));
            }
            k if k % 2 == 0 => {
                self.client(client, VIP, |ip| ip.tcp(port, 80).syn().seq(CLIENT).frame());
                self.request(self.names.frontend, false, None);
            }
            _ => {
                self.client(client, VIP, |ip| ip.udp(port, 53).payload([0; 60]).frame());
                self.request(self.names.dns, false, Some("udp"));
            }
        }
    }

    fn request(&self, service: &'static str, refused: bool, open: Option<&'static str>) {
        let mut counts = self.ledger.lock();
        let own = counts.requests.entry(service).or_default();
        *own = (own.0 + 1, own.1 + u64::from(refused));
        if let Some(protocol) = open {
            *counts.open.entry(protocol).or_default() += 1;
        }
    }

    // --- the storm

    /// One flow of large segments, from the first client to the endpoint that the documentation names.
    pub fn elephant(&mut self, segments: u32) {
        let port = self.held(0, Some(Ipv4Addr::new(192, 168, 2, 10)));
        let frame =
            from_client(0, VIP).tcp(port, 80).seq(CLIENT + 1).ack(SERVER + 1).payload(vec![0; 8960]).frame();
        self.repeat(&frame, segments);
    }

    /// One flow of segments without payload, from the second client.
    pub fn mice(&mut self, segments: u32) {
        let port = self.held(1, None);
        let frame = from_client(1, VIP).tcp(port, 80).seq(CLIENT + 1).ack(SERVER + 1).frame();
        self.repeat(&frame, segments);
    }

    /// Datagrams of as many flows.
    pub fn flows(&mut self, flows: u32) {
        for client in 0..CLIENTS {
            let mut frame = from_client(client, VIP).udp(0, 53).no_checksum().payload([0; 20]).frame();
            for n in 0..flows / u32::from(CLIENTS) {
                frame[34..36].copy_from_slice(&(30_000 + n as u16).to_be_bytes());
                self.make_room();
                send(&self.pool, &mut self.wan.inject, &frame);
                self.request(self.names.dns, false, Some("udp"));
            }
        }
        self.quiet();
    }

    /// Connections that the client closes and the endpoint does not.
    pub fn half_closed(&mut self, connections: u32) {
        for n in 0..connections {
            let (client, port) =
                ((n % u32::from(CLIENTS)) as u8, port::HALF.start + (n / u32::from(CLIENTS)) as u16);
            self.client(client, VIP, |ip| ip.tcp(port, 80).syn().seq(CLIENT).frame());
            self.request(self.names.frontend, false, None);
        }
    }

    /// Connections that the endpoint refuses.
    pub fn refused(&mut self, connections: u32) {
        for _ in 0..connections {
            self.refused += 1;
            let (client, port) =
                ((self.refused % u16::from(CLIENTS)) as u8, port::REFUSED.start + self.refused);
            self.client(client, REPORTS, |ip| ip.tcp(port, 443).syn().seq(CLIENT).frame());
            self.request(self.names.reports, true, None);
        }
        self.quiet();
    }

    /// Echo requests, against a firewall rule.
    pub fn pings(&mut self, pings: u32) {
        let frame = from_client(0, VIP).echo_request(1, 1).payload([0; 56]).frame();
        self.repeat(&frame, pings);
        self.ledger.lock().pings += u64::from(pings);
    }

    /// New connections find no endpoint from now on: each is refused.
    pub fn without_endpoints(&mut self, attempts: u32) {
        for n in 0..attempts {
            let client = (n % u32::from(CLIENTS)) as u8;
            self.client(client, VIP, |ip| ip.udp(60_000 + n as u16, 53).payload([0; 20]).frame());
            self.request(self.names.dns, true, None);
        }
        self.exchange();
    }

    /// A held connection of a client, to an endpoint.
    fn held(&self, client: u8, to: Option<Ipv4Addr>) -> u16 {
        let of = |port: &u16| {
            let dip = self.at.get(&(6, address(client), *port));
            dip.is_some() && (to.is_none() || dip == to.as_ref())
        };
        port::HELD.clone().find(of).expect("a held connection")
    }

    fn repeat(&mut self, frame: &[u8], times: u32) {
        let mut left = times as usize;
        while left > 0 {
            self.make_room();
            let mut burst = ArrayVec::<Mbuf, BURST>::new();
            while burst.len() < BURST.min(left) {
                burst.push(self.pool.frame(frame).expect("buffers"));
            }
            left -= burst.len();
            while !burst.is_empty() {
                self.wan.inject.send(&mut burst);
            }
        }
        self.quiet();
    }

    /// Until nothing is on its way.
    pub fn quiet(&mut self) {
        let mut still = Instant::now();
        let deadline = still + Duration::from_secs(30);
        while still.elapsed() < Duration::from_millis(20) {
            assert!(Instant::now() < deadline, "the traffic does not come to rest");
            if self.exchange() > 0 || self.wan.inject.waiting() + self.lan.inject.waiting() > 0 {
                still = Instant::now();
            }
        }
    }

    // --- wires

    fn client(&mut self, client: u8, vip: [u8; 4], frame: impl FnOnce(Ip) -> Vec<u8>) {
        self.make_room();
        let bytes = frame(from_client(client, vip));
        send(&self.pool, &mut self.wan.inject, &bytes);
    }

    /// Lets go on what is on its way, until there is room for more: nothing may be lost to a full ring.
    fn make_room(&mut self) {
        loop {
            self.exchange();
            if self.wan.inject.waiting() < 256 && self.lan.inject.waiting() < 256 {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Takes what comes out at both sides, counts it, and answers. How many frames.
    pub fn exchange(&mut self) -> usize {
        let mut taken = 0;
        loop {
            let mut frames = ArrayVec::<Mbuf, BURST>::new();
            let mut n = self.lan.collect.receive(BURST, &mut frames);
            for frame in frames.drain(..) {
                if self.again(frame.data()) {
                    continue;
                }
                if let Some(answer) = self.endpoint(frame.data()) {
                    send(&self.pool, &mut self.lan.inject, &answer);
                }
            }
            n += self.wan.collect.receive(BURST, &mut frames);
            for frame in frames.drain(..) {
                if let Some(answer) = self.hear(frame.data()) {
                    send(&self.pool, &mut self.wan.inject, &answer);
                }
            }
            taken += n;
            if n == 0 {
                return taken;
            }
        }
    }

    /// An endpoint has a frame.
    fn endpoint(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (ip, l4) = read(frame);
        let (client, own) = (ip.0, ip.1);
        let back = || eth(ENDPOINTS_MAC, LAN).ip(own, client);
        let (sport, answer) = match l4 {
            Segment::Tcp(tcp) => {
                let there = || back().tcp(tcp.dport(), tcp.sport());
                let seen = tcp.seq().wrapping_add(tcp.payload().len() as u32);
                let answer = if tcp.flags() & flag::SYN != 0 {
                    let answer = there().ack(CLIENT + 1);
                    let refuses = own == Ipv4Addr::new(192, 168, 2, 40);
                    Some(if refuses { answer.rst() } else { answer.syn().seq(SERVER) })
                } else if tcp.flags() & flag::FIN != 0 {
                    let half = port::HALF.contains(&tcp.sport());
                    let answer = there().seq(tcp.ack()).ack(seen + 1);
                    Some(if half { answer } else { answer.fin() })
                } else if tcp.payload().starts_with(b"GET") {
                    Some(there().seq(SERVER + 1).ack(seen).payload([0x61; RESPONSE]))
                } else {
                    None
                };
                (tcp.sport(), answer.map(|answer| answer.frame()))
            }
            Segment::Udp(udp) => {
                // A question of 60 bytes has a long answer, others a short one.
                let len = if udp.payload().len() == 60 { 700 } else { 20 };
                (udp.sport(), Some(back().udp(udp.dport(), udp.sport()).payload(vec![1; len]).frame()))
            }
            Segment::Sctp(sctp) => {
                let there = || back().sctp(sctp.dport(), sctp.sport()).tag(7);
                let answer = sctp.chunks().next().and_then(|first| match first.kind {
                    chunk::INIT => Some(there().init_ack(9, COOKIE)),
                    chunk::COOKIE_ECHO => Some(there().cookie_ack()),
                    chunk::DATA => Some(there().sack(1)),
                    _ => None,
                });
                (sctp.sport(), answer.map(|answer| answer.frame()))
            }
        };
        self.at.insert((ip.2, client, sport), own);
        let pair = self.count(client, own, ip.3);
        self.last = answer.is_none().then(|| Last { head: frame[..HEAD].to_vec(), pair, bytes: ip.3 });
        answer
    }

    /// A client has a frame.
    fn hear(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (ip, l4) = read(frame);
        let (vip, own) = (ip.0, ip.1);
        let there = || eth(CLIENTS_MAC, WAN).ip(own, vip);
        let (dport, answer) = match l4 {
            Segment::Tcp(tcp) => {
                let back = || there().tcp(tcp.dport(), tcp.sport());
                let next = tcp.seq().wrapping_add(tcp.payload().len() as u32);
                let answer = if tcp.flags() & flag::RST != 0 {
                    None
                } else if tcp.flags() & flag::SYN != 0 {
                    let answer = back().seq(CLIENT + 1).ack(SERVER + 1);
                    Some(if port::ASKS.contains(&tcp.dport()) {
                        let mut request = [0x20; REQUEST];
                        request[..3].copy_from_slice(b"GET");
                        answer.payload(request)
                    } else if port::HALF.contains(&tcp.dport()) {
                        answer.fin()
                    } else {
                        answer
                    })
                } else if tcp.flags() & flag::FIN != 0 {
                    Some(back().seq(tcp.ack()).ack(next + 1))
                } else if tcp.payload().is_empty() {
                    None
                } else {
                    Some(back().seq(tcp.ack()).ack(next).fin())
                };
                (tcp.dport(), answer.map(|answer| answer.frame()))
            }
            Segment::Udp(udp) => (udp.dport(), None),
            Segment::Sctp(sctp) => {
                let back = || there().sctp(sctp.dport(), sctp.sport()).tag(9);
                let answer = sctp.chunks().next().and_then(|first| match first.kind {
                    chunk::INIT_ACK => Some(back().cookie_echo(COOKIE)),
                    chunk::COOKIE_ACK => Some(back().data(1, 0, [0x61; RESPONSE])),
                    _ => None,
                });
                (sctp.dport(), answer.map(|answer| answer.frame()))
            }
        };
        if let Some(dip) = self.at.get(&(ip.2, own, dport)) {
            self.count(own, *dip, ip.3);
        }
        answer
    }

    /// Counts a packet of a pair; the pair's place.
    fn count(&self, sip: Ipv4Addr, dip: Ipv4Addr, bytes: usize) -> usize {
        let mut counts = self.ledger.lock();
        let at = counts.pairs.iter().position(|pair| (pair.sip, pair.dip) == (sip, dip)).unwrap();
        counts.pairs[at].packets += 1;
        counts.pairs[at].bytes += bytes as u64;
        at
    }

    /// Counts a frame that is as the last one was, and needs no answer either. Whether it was one.
    fn again(&self, frame: &[u8]) -> bool {
        let Some(last) = self.last.as_ref().filter(|last| frame.starts_with(&last.head)) else {
            return false;
        };
        let mut counts = self.ledger.lock();
        let pair = &mut counts.pairs[last.pair];
        pair.packets += 1;
        pair.bytes += last.bytes as u64;
        true
    }
}

fn address(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 5 + client)
}

fn from_client(client: u8, vip: [u8; 4]) -> Ip {
    eth(CLIENTS_MAC, WAN).ip(address(client), Ipv4Addr::from(vip))
}

fn send(pool: &Mempool, ring: &mut RingProducer, bytes: &[u8]) {
    let mut frames = ArrayVec::<Mbuf, 1>::from([pool.frame(bytes).expect("buffers")]);
    while !frames.is_empty() {
        ring.send(&mut frames);
    }
}

enum Segment<'a> {
    Tcp(Tcp<'a>),
    Udp(Udp<'a>),
    Sctp(Sctp<'a>),
}

/// Source, destination, protocol and length of an IP packet, and what is in it.
fn read(frame: &[u8]) -> ((Ipv4Addr, Ipv4Addr, u8, usize), Segment<'_>) {
    let eth = Ethernet::new_checked(frame).unwrap();
    let ip = Ipv4::new_checked(eth.payload()).unwrap_or_else(|e| panic!("{e:?}: {frame:02x?}"));
    let payload = ip.payload();
    let [source, destination] = [ip.src(), ip.dst()].map(|a| Ipv4Addr::from(a.v4_octets()));
    let segment = match ip.protocol() {
        6 => Segment::Tcp(Tcp::new_checked(payload).unwrap()),
        17 => Segment::Udp(Udp::new_checked(payload).unwrap()),
        _ => Segment::Sctp(Sctp::new_checked(payload).unwrap()),
    };
    ((source, destination, ip.protocol(), ip.total_len()), segment)
}
