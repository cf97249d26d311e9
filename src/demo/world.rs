//! Clients, gateways and endpoints around the engine: frames and time in, frames out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::conn::{Conn, Context, Key};
use super::ledger::{Ledger, ServiceLedger};
use super::mix::{self, Mix};
use super::net::Net;
use super::packet::{self, Body, Packet};
use super::rng::Rng;
use super::{sctp, tcp, udp};
use crate::addr::{Addr, Mac};
use crate::config::{Config, Protocol};
use crate::ids::PortId;
use crate::time::Instant;
use crate::wire::build::{Layer4, eth};
use crate::wire::icmp::Icmp;
use crate::wire::protocol;

/// TTL and hop limit of what hosts send, and of what the engine says itself.
const HOPS: u8 = 64;

/// Everything around the engine.
pub struct World {
    net: Net,
    rng: Rng,
    mix: Mix,
    ledger: Ledger,
    conns: HashMap<Key, Entry>,
    /// Where servers listen: address, port (0: any), and the service that it is of.
    listeners: HashMap<(Protocol, Addr, u16), usize>,
    timers: BTreeMap<(Instant, u64), Timer>,
    numbered: u64,
    /// Nothing new is begun.
    resting: bool,
    scanned: u16,
    pinged: u16,
}

struct Entry {
    conn: Conn,
    service: usize,
    /// Its earliest timer.
    wakes: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Timer {
    Arrival,
    Scan,
    Ping,
    Knock,
    Conn(Key),
}

impl World {
    /// The world around an engine with this configuration. The same seed makes the same world.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut net = Net::new(config);
        let mix = Mix::new(config, &mut rng);
        for client in &mix.clients {
            net.add_client(client.addr, client.delay);
        }
        for addr in [mix::SCANNER, mix::MONITOR, mix::CURIOUS] {
            net.add_client(addr, Duration::from_millis(10));
        }
        net.make_flaky(mix::FLAKY);
        let endpoints = config.services.iter().enumerate().flat_map(|(i, service)| {
            service.endpoints.iter().map(move |e| ((service.protocol, e.address, e.port), i))
        });
        let mut world = Self {
            net,
            rng,
            mix,
            ledger: Ledger {
                services: vec![ServiceLedger::default(); config.services.len()],
                ..Ledger::default()
            },
            conns: HashMap::new(),
            listeners: endpoints.collect(),
            timers: BTreeMap::new(),
            numbered: 0,
            resting: false,
            scanned: 0,
            pinged: 0,
        };
        for timer in [Timer::Arrival, Timer::Scan, Timer::Ping, Timer::Knock] {
            world.schedule(Instant::ZERO, timer);
        }
        world
    }

    /// A frame came out of a port of the engine.
    pub fn receive(&mut self, now: Instant, port: PortId, frame: &[u8]) {
        self.ledger.received += 1;
        if let Some(packet) = self.net.receive(now, port, frame, &mut self.ledger) {
            self.packet(now, &packet);
        }
    }

    /// Lets time pass: what is due is done.
    pub fn advance(&mut self, now: Instant) {
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let timer = first.remove();
            self.fire(now, timer);
        }
        self.net.advance(now);
    }

    /// The next frame into a port of the engine.
    pub fn next_frame(&mut self) -> Option<(PortId, Vec<u8>)> {
        let next = self.net.next();
        self.ledger.sent += u64::from(next.is_some());
        next
    }

    /// From now on nothing new is begun; what has begun goes on to its end.
    pub fn rest(&mut self) {
        self.resting = true;
    }

    /// Whether everything has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.resting && self.conns.is_empty() && self.net.is_idle()
    }

    /// What has happened.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    // --- time

    fn schedule(&mut self, at: Instant, timer: Timer) {
        self.numbered += 1;
        self.timers.insert((at, self.numbered), timer);
    }

    fn fire(&mut self, now: Instant, timer: Timer) {
        let again = match timer {
            Timer::Conn(key) => return self.wake(now, key),
            _ if self.resting => return,
            Timer::Arrival => {
                self.arrive(now);
                self.mix.wait(now, &mut self.rng)
            }
            Timer::Scan => {
                self.scan(now);
                mix::SCAN_EVERY
            }
            Timer::Ping => {
                self.ping(now);
                mix::PING_EVERY
            }
            Timer::Knock => {
                self.knock(now);
                mix::KNOCK_EVERY
            }
        };
        self.schedule(now.after(again), timer);
    }

    fn wake(&mut self, now: Instant, key: Key) {
        let Some(mut entry) = self.conns.remove(&key) else { return };
        entry.wakes = None;
        if entry.conn.deadline().is_some_and(|at| at <= now) {
            if let Some(until) = self.net.silent_until(now, key.local.0) {
                // A host that is silent does nothing either.
                entry.wakes = Some(until);
                self.schedule(until, Timer::Conn(key));
                self.conns.insert(key, entry);
                return;
            }
            let (conn, mut cx) = (&mut entry.conn, self.context(now, key, entry.service));
            conn.timer(&mut cx);
        }
        self.keep(key, entry);
    }

    /// Puts a connection (back) where it is found, unless it is over.
    fn keep(&mut self, key: Key, mut entry: Entry) {
        let Some(deadline) = entry.conn.deadline() else { return };
        if entry.wakes.is_none_or(|at| deadline < at) {
            entry.wakes = Some(deadline);
            self.schedule(deadline, Timer::Conn(key));
        }
        self.conns.insert(key, entry);
    }

    fn context(&mut self, now: Instant, key: Key, service: usize) -> Context<'_> {
        let Self { net, rng, ledger, .. } = self;
        Context { now, key, service, net, rng, ledger }
    }

    // --- what clients begin

    fn arrive(&mut self, now: Instant) {
        let Some((local, chosen, port)) = self.mix.choose(&mut self.rng) else { return };
        let target = &self.mix.targets[chosen];
        let (service, protocol, ranged) = (target.service, target.protocol, target.ports.0 < target.ports.1);
        let key = Key { protocol, local, remote: (target.vip, port) };
        if self.conns.contains_key(&key) {
            return;
        }
        self.ledger.services[service].opened += 1;
        let mut cx = self.context(now, key, service);
        let conn = match protocol {
            Protocol::Tcp => Conn::Tcp(tcp::Half::connect(tcp::script(cx.rng), &mut cx)),
            Protocol::Udp if ranged => {
                let packets = cx.rng.between(100, 600);
                Conn::Udp(udp::Client::stream(packets, &mut cx))
            }
            Protocol::Udp => Conn::Udp(udp::Client::ask(&mut cx)),
            Protocol::Sctp => Conn::Sctp(sctp::Half::associate(sctp::script(cx.rng), &mut cx)),
        };
        self.keep(key, Entry { conn, service, wakes: None });
    }

    /// The VIPs of one family, in the configuration's order.
    fn vip(&self, v4: bool, last: bool) -> Option<Addr> {
        let mut vips = self.mix.targets.iter().map(|t| t.vip).filter(|vip| vip.is_v4() == v4);
        if last { vips.next_back() } else { vips.next() }
    }

    fn raw<L: Layer4>(
        &mut self,
        now: Instant,
        (src, dst): (Addr, Addr),
        packet: impl FnOnce(crate::wire::build::Ip) -> crate::wire::build::Packet<L>,
    ) {
        let frame = packet(eth(Mac::default(), Mac::default()).ip(src, dst)).padded();
        self.net.send(now, src, dst, frame);
    }

    fn scan(&mut self, now: Instant) {
        let Some(vip) = self.vip(true, false) else { return };
        self.scanned = self.scanned % 1023 + 1;
        self.ledger.scans += 1;
        let (port, seq) = (self.scanned, self.rng.next_u32());
        self.raw(now, (mix::SCANNER, vip), |ip| ip.tcp(61_000, port).syn().seq(seq));
    }

    fn ping(&mut self, now: Instant) {
        self.pinged = self.pinged.wrapping_add(1);
        let seq = self.pinged;
        if let Some(vip) = self.vip(true, false) {
            self.ledger.pings += 1;
            self.raw(now, (mix::MONITOR, vip), |ip| ip.echo_request(1, seq).payload([0x50; 56]));
            self.ledger.pings_stopped += 1;
            self.raw(now, (mix::CURIOUS, vip), |ip| ip.echo_request(2, seq).payload([0x50; 56]));
        }
        let client = self.mix.clients.iter().map(|client| client.addr).find(|addr| !addr.is_v4());
        if let Some((client, vip)) = client.zip(self.vip(false, true)) {
            self.ledger.pings += 1;
            self.raw(now, (client, vip), |ip| ip.echo_request(3, seq).payload([0x50; 56]));
        }
    }

    /// At a port that no service has.
    fn knock(&mut self, now: Instant) {
        let Some((client, vip)) = self.mix.clients.first().map(|c| c.addr).zip(self.vip(true, false)) else {
            return;
        };
        self.ledger.knocks += 1;
        let seq = self.rng.next_u32();
        self.raw(now, (client, vip), |ip| ip.tcp(60_999, 7).syn().seq(seq));
    }

    // --- what comes out of the engine

    fn packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let (kind, ports) = match &packet.body {
            Body::Tcp(tcp) => (Protocol::Tcp, (tcp.sport(), tcp.dport())),
            Body::Udp(udp) => (Protocol::Udp, (udp.sport(), udp.dport())),
            Body::Sctp(sctp) => (Protocol::Sctp, (sctp.sport(), sctp.dport())),
            Body::Icmp(icmp) => return self.icmp(now, packet, icmp),
        };
        let key = Key { protocol: kind, local: (packet.dst, ports.1), remote: (packet.src, ports.0) };
        let listener = self.listener(kind, key.local);
        let existing = self.conns.remove(&key);
        let target = self.target(kind, key.remote);
        let service = listener.or(target).or(existing.as_ref().map(|entry| entry.service));
        let Some(service) = service else {
            self.ledger.corrupt += 1;
            return;
        };
        let client = if listener.is_some() { packet.src } else { packet.dst };
        let own = &mut self.ledger.services[service];
        if packet.hops == HOPS {
            own.own.add(packet.l3);
        } else {
            own.clients.entry(client).or_default().add(packet.l3);
        }

        if self.net.silent_until(now, packet.dst).is_some() {
            if let Some(entry) = existing {
                self.conns.insert(key, entry);
            }
            return;
        }
        let mut cx = self.context(now, key, service);
        let entry = match (existing, &packet.body) {
            (Some(mut entry), body) => {
                match (&mut entry.conn, body) {
                    (Conn::Tcp(half), Body::Tcp(segment)) => half.receive(segment, &mut cx),
                    (Conn::Udp(client), Body::Udp(datagram)) => client.receive(datagram.payload(), &mut cx),
                    (Conn::Sctp(half), Body::Sctp(sctp)) => half.receive(sctp, &mut cx),
                    // The key names the protocol.
                    _ => {}
                }
                Some(entry)
            }
            // Clients do not mind stragglers of connections that they have ended.
            (None, _) if listener.is_none() => None,
            (None, Body::Udp(datagram)) => {
                udp::serve(datagram.payload(), packet.l3, &mut cx);
                None
            }
            (None, Body::Tcp(segment)) => {
                tcp::Half::accept(segment, &mut cx).map(Conn::Tcp).map(entry_of(service))
            }
            (None, Body::Sctp(sctp)) => {
                sctp::Half::accept(sctp, &mut cx).map(Conn::Sctp).map(entry_of(service))
            }
            (None, Body::Icmp(_)) => None,
        };
        if let Some(entry) = entry {
            self.keep(key, entry);
        }
    }

    /// The service of a server that listens there.
    fn listener(&self, protocol: Protocol, (addr, port): (Addr, u16)) -> Option<usize> {
        let of = |port| self.listeners.get(&(protocol, addr, port)).copied();
        of(port).or_else(|| of(0))
    }

    /// The service of a VIP and port.
    fn target(&self, protocol: Protocol, (addr, port): (Addr, u16)) -> Option<usize> {
        let of = |t: &&mix::Target| {
            t.vip == addr && t.protocol == protocol && (t.ports.0..=t.ports.1).contains(&port)
        };
        self.mix.targets.iter().find(of).map(|target| target.service)
    }

    fn icmp(&mut self, now: Instant, packet: &Packet<'_>, icmp: &Icmp<'_>) {
        const ECHO_REPLIES: [u8; 2] = [0, 129];
        if ECHO_REPLIES.contains(&icmp.kind()) {
            self.ledger.pongs += 1;
            return;
        }
        // An error about a datagram that a client has sent.
        let about = packet::quoted(icmp.payload())
            .filter(|quoted| quoted.protocol == protocol::UDP && quoted.src.0 == packet.dst);
        let found = about.and_then(|quoted| Some((quoted, self.target(Protocol::Udp, quoted.dst)?)));
        let Some((packet::Quoted { src: local, dst: remote, .. }, service)) = found else {
            self.ledger.corrupt += 1;
            return;
        };
        if packet.hops < HOPS {
            self.ledger.services[service].icmp_errors.add(packet.l3);
        }
        let key = Key { protocol: Protocol::Udp, local, remote };
        if let Some(mut entry) = self.conns.remove(&key) {
            let mut cx = self.context(now, key, service);
            if let Conn::Udp(client) = &mut entry.conn {
                client.unreachable(&mut cx);
            }
            self.keep(key, entry);
        }
    }
}

fn entry_of(service: usize) -> impl Fn(Conn) -> Entry {
    move |conn| Entry { conn, service, wakes: None }
}
