//! Random packets of every kind that the parser takes, with what it must make of them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{DST_MAC, Ip, Layer4, Packet, SRC_MAC, eth};
use crate::addr::Addr;
use crate::parse::{self, L4};
use crate::wire::protocol;
use crate::wire::sctp::chunk;
use crate::wire::tcp::flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};

/// A frame and what it is.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The frame, sometimes with padding.
    pub frame: Vec<u8>,
    /// VLAN of the port that takes it; 0: none.
    pub vlan: u16,
    /// What the parser must say.
    pub packet: parse::Packet,
}

/// Frames from [`SRC_MAC`] to [`DST_MAC`].
pub fn sample() -> impl Strategy<Value = Sample> {
    (envelope(), body()).prop_map(|(e, b)| e.wrap(&b))
}

/// Everything around the L4 header.
#[derive(Clone, Debug)]
struct Envelope {
    vlan: Option<u16>,
    pad: bool,
    addresses: (Addr, Addr),
    ttl: u8,
    tos: u8,
    id: u16,
    df: bool,
    options: Vec<u8>,
    extensions: Vec<u8>,
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let options =
        select(vec![vec![], vec![1, 1, 1, 0], vec![148, 4, 0, 0], vec![1, 7, 7, 4, 0, 0, 0, 0, 0, 9]]);
    let extensions = subsequence(
        vec![
            protocol::HOP_BY_HOP,
            protocol::DESTINATION_OPTIONS,
            protocol::ROUTING,
            protocol::FRAGMENT,
            protocol::AH,
        ],
        0..=5,
    );
    let vlan = select(vec![None, None, Some(0), Some(7), Some(4094)]);
    (
        vlan,
        any::<bool>(),
        addresses(),
        any::<u8>(),
        any::<u8>(),
        any::<u16>(),
        any::<bool>(),
        options,
        extensions,
    )
        .prop_map(|(vlan, pad, addresses, ttl, tos, id, df, options, extensions)| Envelope {
            vlan,
            pad,
            addresses,
            ttl,
            tos,
            id,
            df,
            options,
            extensions,
        })
}

fn addresses() -> impl Strategy<Value = (Addr, Addr)> {
    let v4 = || {
        (select(vec![1, 10, 126, 128, 192, 203, 223, 240]), any::<[u8; 3]>())
            .prop_map(|(a, [b, c, d])| Addr::v4([a, b, c, d]))
    };
    let v6 = || {
        (select(vec![0x2001_0db8u32, 0xfe80_0000, 0xfd00_0001]), any::<[u32; 3]>()).prop_map(
            |(a, [b, c, d])| Addr([b, c, d].iter().fold(u128::from(a), |acc, w| acc << 32 | u128::from(*w))),
        )
    };
    prop_oneof![(v4(), v4()), (v6(), v6())]
}

/// The L4 part.
#[derive(Clone, Debug)]
enum Body {
    Tcp { ports: (u16, u16), flags: u8, seq: u32, ack: u32, options: Vec<u8>, payload: Vec<u8> },
    Udp { ports: (u16, u16), checksum: bool, payload: Vec<u8> },
    Sctp { ports: (u16, u16), tag: u32, chunks: Vec<(u8, u8, Vec<u8>)>, initiate_tag: u32 },
    Echo { reply: bool, id: u16, payload: Vec<u8> },
    Error { mtu: u16, payload: Vec<u8> },
    Other { payload: Vec<u8> },
}

fn body() -> impl Strategy<Value = Body> {
    let ports = || (1u16.., 1u16..);
    let payload = || vec(any::<u8>(), 0..300);
    let flags = select(vec![
        SYN,
        SYN | ECE | CWR,
        SYN | ACK,
        ACK,
        ACK | PSH,
        ACK | FIN,
        RST,
        RST | ACK,
        ACK | URG,
        ACK | URG | PSH | FIN,
    ]);
    let tcp = (ports(), flags, any::<u32>(), any::<u32>(), vec(any::<u8>(), 0..=40), payload()).prop_map(
        |(ports, flags, seq, ack, options, payload)| Body::Tcp { ports, flags, seq, ack, options, payload },
    );
    let udp = (ports(), any::<bool>(), payload()).prop_map(|(ports, checksum, payload)| Body::Udp {
        ports,
        checksum,
        payload,
    });
    let bundle = select(vec![
        chunk::DATA,
        chunk::SACK,
        chunk::HEARTBEAT,
        chunk::ABORT,
        chunk::ERROR,
        chunk::COOKIE_ECHO,
        chunk::COOKIE_ACK,
        15,
        16,
        0xc1,
    ]);
    let bundle = (ports(), any::<u32>(), vec((bundle, any::<u8>(), vec(any::<u8>(), 0..40)), 1..6))
        .prop_map(|(ports, tag, chunks)| Body::Sctp { ports, tag, chunks, initiate_tag: 0 });
    let init = (ports(), any::<u32>(), 1u32.., any::<bool>(), vec(any::<u8>(), 12..40)).prop_map(
        |(ports, tag, initiate_tag, ack, rest)| {
            let (kind, tag) = if ack { (chunk::INIT_ACK, tag) } else { (chunk::INIT, 0) };
            let value = [&initiate_tag.to_be_bytes()[..], &rest].concat();
            Body::Sctp { ports, tag, chunks: vec![(kind, 0, value)], initiate_tag }
        },
    );
    let echo = (any::<bool>(), any::<u16>(), payload()).prop_map(|(reply, id, payload)| Body::Echo {
        reply,
        id,
        payload,
    });
    let error = (any::<u16>(), payload()).prop_map(|(mtu, payload)| Body::Error { mtu, payload });
    let other = payload().prop_map(|payload| Body::Other { payload });
    prop_oneof![4 => tcp, 3 => udp, 2 => bundle, 1 => init, 1 => echo, 1 => error, 1 => other]
}

impl Envelope {
    fn wrap(&self, body: &Body) -> Sample {
        let (src, dst) = self.addresses;
        let v4 = src.is_v4();
        let mut ether = eth(SRC_MAC, DST_MAC);
        if let Some(vid) = self.vlan {
            ether = ether.vlan(vid);
        }
        let mut ip = ether.ip(src, dst).ttl(self.ttl).tos(self.tos).id(self.id);
        let mut header_len = if v4 { 20 } else { 40 };
        if v4 {
            ip = ip.df(self.df).options(&self.options);
            header_len += self.options.len().next_multiple_of(4);
        } else {
            for kind in &self.extensions {
                (ip, header_len) = extend(ip, header_len, *kind);
            }
        }
        let (padded, frame, l3, protocol, l4_info) = emit(ip, body);
        let l3_start = if self.vlan.is_some() { 18 } else { 14 };
        Sample {
            frame: if self.pad { padded } else { frame },
            vlan: self.vlan.unwrap_or(0),
            packet: parse::Packet {
                src,
                dst,
                protocol,
                ttl: self.ttl,
                dont_fragment: !v4 || self.df,
                to_group: false,
                l3: l3_start,
                l4: l3_start + header_len as u16,
                l3_len: l3.len() as u32,
                l4_info,
                fragment: None,
            },
        }
    }
}

fn extend(ip: Ip, header_len: usize, kind: u8) -> (Ip, usize) {
    match kind {
        protocol::HOP_BY_HOP => (ip.hop_by_hop(), header_len + 8),
        protocol::DESTINATION_OPTIONS => (ip.destination_options(), header_len + 8),
        protocol::ROUTING => (ip.routing(2, 0), header_len + 8),
        protocol::FRAGMENT => (ip.fragment(0, false), header_len + 8),
        _ => (ip.authentication(), header_len + 24),
    }
}

type Emitted = (Vec<u8>, Vec<u8>, Vec<u8>, u8, L4);

fn finish<L: Layer4>(packet: &Packet<L>, l4: L4) -> Emitted {
    let number = packet.l4.number(packet.ip.is_v4());
    (packet.padded(), packet.frame(), packet.l3(), number, l4)
}

fn emit(ip: Ip, body: &Body) -> Emitted {
    let v4 = ip.is_v4();
    match body {
        Body::Tcp { ports: (sport, dport), flags, seq, ack, options, payload } => {
            let packet = ip.tcp(*sport, *dport).seq(*seq).ack(*ack).flags(*flags);
            let l4 = L4::Tcp {
                sport: *sport,
                dport: *dport,
                flags: *flags,
                payload: payload.len() as u32,
                seq: *seq,
                ack: *ack,
            };
            finish(&packet.options(options).payload(payload), l4)
        }
        Body::Udp { ports: (sport, dport), checksum, payload } => {
            let mut packet = ip.udp(*sport, *dport).payload(payload);
            if v4 && !checksum {
                packet = packet.no_checksum();
            }
            finish(&packet, L4::Udp { sport: *sport, dport: *dport })
        }
        Body::Sctp { ports: (sport, dport), tag, chunks, initiate_tag } => {
            let mut packet = ip.sctp(*sport, *dport).tag(*tag);
            let (mut bits, mut reflected) = (0, false);
            for (kind, flags, value) in chunks {
                packet = packet.chunk(*kind, *flags, value);
                bits |= if *kind < 16 { 1 << kind } else { 0 };
                reflected |= *kind == chunk::ABORT && flags & 1 == 1;
            }
            let (sport, dport, tag, initiate_tag) = (*sport, *dport, *tag, *initiate_tag);
            finish(&packet, L4::Sctp { sport, dport, tag, chunks: bits, initiate_tag, reflected })
        }
        Body::Echo { reply, id, payload } => {
            let packet = if *reply { ip.echo_reply(*id, 1) } else { ip.echo_request(*id, 1) };
            let kind = match (v4, reply) {
                (true, true) => 0,
                (true, false) => 8,
                (false, true) => 129,
                (false, false) => 128,
            };
            finish(&packet.payload(payload), L4::Icmp { kind, code: 0 })
        }
        Body::Error { mtu, payload } => {
            let (src, dst) = (ip.src, ip.dst);
            // The packet complained about went the other way.
            let quoted = super::eth(DST_MAC, SRC_MAC).ip(dst, src).udp(53, 4000).payload(payload).l3();
            let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
            finish(&ip.too_big(*mtu, &quoted), L4::Icmp { kind, code })
        }
        Body::Other { payload } => finish(&ip.protocol(47, payload), L4::Other),
    }
}
