//! Frames that nobody should send.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use pollux::addr::{Addr, Mac};
use pollux::parse::{self, L4, Link, Parsed};
use pollux::pipeline::RxChecksum;
use pollux::wire::build::{self, eth};
use pollux::wire::tcp::flag::{FIN, RST, SYN};

use crate::fuzz::repair::repair;
use crate::fuzz::seeds;

/// The engine's MAC there: what the seeds are addressed to.
pub const MAC: Mac = build::DST_MAC;
const LIAR: Mac = build::SRC_MAC;
const VIPS: [&str; 2] = ["203.0.113.100", "2001:db8:1::100"];
const CLIENTS: [&str; 2] = ["192.0.2.1", "2001:db8:c::1"];
/// On the liar's link, so that what is forwarded for them can be counted there.
const ENDPOINTS: [&str; 2] = ["192.0.2.10", "2001:db8:c::10"];
/// VIP port, endpoint port, protocol.
const SERVICES: [(u16, u16, &str); 4] =
    [(80, 8080, "tcp"), (53, 5353, "udp"), (36412, 36412, "sctp"), (2905, 2906, "sctp")];
/// One in so many is about a live connection: they go by way of packet sockets, which are slow.
const LIVE_EVERY: usize = 400;

/// The services of the VIPs that the seeds name, and who stands behind them.
pub fn services() -> String {
    let mut text = String::new();
    for (at, vip) in VIPS.iter().enumerate() {
        for address in [ENDPOINTS[at], CLIENTS[at]] {
            let _ =
                write!(text, "[[neighbor]]\naddress = \"{address}\"\nmac = \"{LIAR}\"\nport = \"liar\"\n");
        }
        let [vip, endpoint] = [*vip, ENDPOINTS[at]].map(|address| address.parse::<IpAddr>().unwrap());
        for (port, to, protocol) in SERVICES {
            let [vip, endpoint] = [(vip, port), (endpoint, to)].map(std::net::SocketAddr::from);
            let _ = write!(
                text,
                "[[service]]\nname = \"{protocol}{port}v{at}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"\n\
                 idle_timeout = \"10s\"\n[[service.endpoint]]\naddress = \"{endpoint}\"\n"
            );
        }
    }
    text
}

/// Addresses and ports of a connection as one side's packets have them.
pub type Tuple = (Addr, u16, Addr, u16);

/// Makes lies, the same in every run but for the connections' ports.
pub struct Liar {
    seed: u64,
    truths: Vec<Vec<u8>>,
    live: Vec<Tuple>,
    known: HashSet<Tuple>,
    frame: Vec<u8>,
    /// Frames sent that are of one of the live connections after all changes.
    pub about_live: u64,
    /// Those that were not sent.
    pub taken_back: u64,
}

impl Liar {
    /// Against connections with these tuples, in either direction.
    pub fn new(live: Vec<Tuple>) -> Self {
        let mut truths: Vec<_> = seeds::all()
            .into_iter()
            .filter(|(target, _, _)| *target == "parse")
            // The first byte is for the fuzzer.
            .map(|(_, _, bytes)| bytes[1..].to_vec())
            .collect();
        for at in 0..2 {
            for (port, to, protocol) in SERVICES {
                let there = || eth(LIAR, MAC).ip(CLIENTS[at], VIPS[at]);
                let back = || eth(LIAR, MAC).ip(ENDPOINTS[at], CLIENTS[at]);
                truths.extend(match protocol {
                    "tcp" => vec![
                        there().tcp(4000, port).syn().seq(1).frame(),
                        back().tcp(to, 4000).syn().seq(9).ack(2).frame(),
                        there().tcp(4000, port).seq(2).ack(10).payload(b"a question").frame(),
                        back().tcp(to, 4000).seq(10).ack(12).payload([7; 600]).frame(),
                        there().tcp(4000, port).fin().seq(12).ack(610).frame(),
                    ],
                    "udp" => vec![
                        there().udp(4000, port).payload(b"a question").frame(),
                        back().udp(to, 4000).payload([7; 300]).frame(),
                        there().udp(4000, port).payload([7; 1400]).frame(),
                    ],
                    _ => vec![
                        there().sctp(4000, port).init(7).frame(),
                        back().sctp(to, 4000).tag(7).abort(false).frame(),
                    ],
                });
            }
        }
        let known = live.iter().copied().collect();
        Self { seed: 1, truths, live, known, frame: Vec::new(), about_live: 0, taken_back: 0 }
    }

    /// splitmix64
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ self.seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    fn pick(&mut self, n: usize) -> usize {
        (self.random() >> 32) as usize % n.max(1)
    }

    /// The next frame.
    pub fn lie(&mut self) -> &[u8] {
        loop {
            self.begin();
            self.change();
            let (live, ends) = self.judge();
            if !ends {
                self.about_live += u64::from(live);
                return &self.frame;
            }
            self.taken_back += 1;
        }
    }

    fn begin(&mut self) {
        self.frame.clear();
        if self.pick(LIVE_EVERY) == 0 {
            // Any numbers: no receiver takes both for its own.
            let at = self.pick(self.live.len());
            let (src, sport, dst, dport) = self.live[at];
            let (seq, ack) = (self.random() as u32, self.random() as u32);
            let payload = [7; 64];
            let len = self.pick(64);
            let packet = eth(LIAR, MAC).ip(src, dst).tcp(sport, dport).seq(seq).ack(ack);
            self.frame.extend(packet.payload(&payload[..len]).frame());
        } else {
            let at = self.pick(self.truths.len());
            self.frame.extend_from_slice(&self.truths[at]);
            // Other clients, other ports: other connections.
            if self.pick(2) == 0 && self.frame.len() > 36 && self.frame[12..14] == [8, 0] {
                let port = self.random().to_be_bytes();
                self.frame[34..36].copy_from_slice(&port[..2]);
            }
        }
    }

    fn change(&mut self) {
        for _ in 0..self.pick(4) {
            let len = self.frame.len();
            if len == 0 {
                break;
            }
            // Headers more often than payload.
            let at = if self.pick(4) == 0 { self.pick(len) } else { self.pick(len.min(60)) };
            match self.pick(8) {
                0..=2 => self.frame[at] = self.random() as u8,
                3..=5 => self.frame[at] ^= 1 << self.pick(8),
                6 => self.frame.truncate(at),
                _ => {
                    let more = self.pick(64);
                    self.frame.resize((len + more).min(2000), at as u8);
                }
            }
        }
        if self.pick(2) == 0 {
            repair(&mut self.frame);
        }
    }

    /// Whether it is of a live connection, and whether it may legitimately end that.
    fn judge(&self) -> (bool, bool) {
        // As the engine reads it; with a wrong checksum it does not get that far.
        let link = Link { mac: Some(MAC), vlan: 0 };
        let Ok(Parsed::Ip(packet)) = parse::parse(&link, &self.frame, RxChecksum::Unknown) else {
            return (false, false);
        };
        let L4::Tcp { flags, .. } = packet.l4_info else { return (false, false) };
        let (sport, dport) = packet.ports();
        let live = self.known.contains(&(packet.src, sport, packet.dst, dport));
        (live, live && flags & (SYN | FIN | RST) != 0)
    }
}
