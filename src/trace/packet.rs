//! A packet in words: `tcp 198.51.100.7:4000 > 203.0.113.100:80 syn`.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::addr::{Addr, Mac};
use crate::wire::build::{Ip, eth};
use crate::wire::tcp::flag;

/// How it is said, for those who did not know.
pub const GRAMMAR: &str = "PROTOCOL SOURCE > DESTINATION [WORD…]:
  tcp|udp|sctp ADDRESS:PORT > ADDRESS:PORT, or icmp ADDRESS > ADDRESS, an echo request; IPv6 as [ADDRESS]:PORT
  tcp: syn ack fin rst psh urg (default syn); sctp: init data abort shutdown (default init)
  ttl N (64), len N: bytes of payload (0), df: must not be fragmented, in PORT: the ingress port (the first)";

/// What is wrong with the words. One line.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct Unclear(String);

/// What is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tcp { flags: u8 },
    Udp,
    Sctp(Chunk),
    Echo,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chunk {
    Init,
    Data,
    Abort,
    Shutdown,
}

/// A described packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    kind: Kind,
    from: (Addr, u16),
    to: (Addr, u16),
    ttl: u8,
    len: usize,
    dont_fragment: bool,
    /// The port by which it comes in; none: the first.
    pub ingress: Option<String>,
}

impl Described {
    /// Reads a description.
    ///
    /// # Errors
    /// [`Unclear`]: what is not understood.
    pub fn parse(words: &str) -> Result<Self, Unclear> {
        let mut words = words.split_whitespace();
        let unclear = |what: String| Unclear(what);
        let protocol = words.next().ok_or_else(|| unclear("no packet".into()))?;
        let mut kind = match protocol {
            "tcp" => Kind::Tcp { flags: 0 },
            "udp" => Kind::Udp,
            "sctp" => Kind::Sctp(Chunk::Init),
            "icmp" | "icmpv6" => Kind::Echo,
            other => {
                return Err(unclear(format!("{other:?} is no protocol; it takes tcp, udp, sctp or icmp")));
            }
        };
        let has_ports = kind != Kind::Echo;
        let mut end = |name: &str| {
            let word = words.next().ok_or_else(|| unclear(format!("no {name}")))?;
            end_of(word, has_ports).ok_or_else(|| {
                let wants = if has_ports { "ADDRESS:PORT, [ADDRESS]:PORT for IPv6" } else { "ADDRESS" };
                unclear(format!("{name}: {word:?} is not {wants}"))
            })
        };
        let from = end("source")?;
        match words.next() {
            Some(">" | "->") => {}
            other => return Err(unclear(format!("{:?} where > is wanted", other.unwrap_or("nothing")))),
        }
        let mut end = |name: &str| {
            let word = words.next().ok_or_else(|| unclear(format!("no {name}")))?;
            end_of(word, has_ports).ok_or_else(|| unclear(format!("{name}: {word:?} is not understood")))
        };
        let to = end("destination")?;
        if from.0.is_v4() != to.0.is_v4() {
            return Err(unclear("source and destination are of different families".into()));
        }
        let mut described = Self { kind, from, to, ttl: 64, len: 0, dont_fragment: false, ingress: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| unclear(format!("{word}: nothing behind it")));
            match (word, &mut kind) {
                ("ttl", _) => {
                    let value = value()?;
                    described.ttl =
                        value.parse().map_err(|_| unclear(format!("ttl: {value:?} is not 0 to 255")))?;
                }
                ("len", _) => {
                    let value = value()?;
                    let len: Option<usize> = value.parse().ok().filter(|len| *len <= MOST);
                    described.len =
                        len.ok_or_else(|| unclear(format!("len: {value:?} is not 0 to {MOST}")))?;
                }
                ("df", _) => described.dont_fragment = true,
                ("in", _) => described.ingress = Some(value()?.to_owned()),
                (word, Kind::Tcp { flags }) => {
                    *flags |= tcp_flag(word).ok_or_else(|| not_understood(word))?;
                }
                (word, Kind::Sctp(chunk)) => {
                    *chunk = match word {
                        "init" => Chunk::Init,
                        "data" => Chunk::Data,
                        "abort" => Chunk::Abort,
                        "shutdown" => Chunk::Shutdown,
                        _ => return Err(not_understood(word)),
                    }
                }
                (word, _) => return Err(not_understood(word)),
            }
        }
        if kind == (Kind::Tcp { flags: 0 }) {
            kind = Kind::Tcp { flags: flag::SYN };
        }
        Ok(Self { kind, ..described })
    }

    /// The frame that it is, to the station with this MAC.
    #[must_use]
    pub fn frame(&self, to: Mac, vlan: u16) -> Vec<u8> {
        let ether = eth(STATION, to);
        let ether = if vlan == 0 { ether } else { ether.vlan(vlan) };
        let mut ip: Ip = ether.ip(self.from.0, self.to.0).ttl(self.ttl);
        if self.dont_fragment && self.from.0.is_v4() {
            ip = ip.df(true);
        }
        let payload = vec![0; self.len];
        let (sport, dport) = (self.from.1, self.to.1);
        match self.kind {
            Kind::Tcp { flags } => ip.tcp(sport, dport).flags(flags).payload(payload).padded(),
            Kind::Udp => ip.udp(sport, dport).payload(payload).padded(),
            Kind::Sctp(chunk) => {
                let sctp = ip.sctp(sport, dport);
                match chunk {
                    Chunk::Init => sctp.init(1),
                    Chunk::Data => sctp.tag(1).data(1, 0, payload),
                    Chunk::Abort => sctp.tag(1).abort(false),
                    Chunk::Shutdown => sctp.tag(1).shutdown(1),
                }
                .padded()
            }
            Kind::Echo => ip.echo_request(1, 1).padded(),
        }
    }
}

/// Bytes of payload that fit into an IPv4 packet with the longest L4 header.
const MOST: usize = 65_000;
/// Whoever sends it.
const STATION: Mac = Mac([0x02, 0, 0, 0, 0xff, 0x01]);

fn end_of(word: &str, has_ports: bool) -> Option<(Addr, u16)> {
    if has_ports {
        let socket: SocketAddr = word.parse().ok()?;
        Some((socket.ip().into(), socket.port()))
    } else {
        let ip: IpAddr = word.parse().ok()?;
        Some((ip.into(), 0))
    }
}

fn tcp_flag(word: &str) -> Option<u8> {
    Some(match word {
        "syn" => flag::SYN,
        "ack" => flag::ACK,
        "fin" => flag::FIN,
        "rst" => flag::RST,
        "psh" => flag::PSH,
        "urg" => flag::URG,
        _ => return None,
    })
}

fn not_understood(word: &str) -> Unclear {
    Unclear(format!("{word:?} is not understood here"))
}
