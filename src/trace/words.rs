//! Packets in words.

use crate::conntrack::{Flow, Form};
use crate::parse::{self, L4, Link, Packet, Parsed};
use crate::pipeline::RxChecksum;
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::udp::Udp;

pub(super) fn socket(addr: crate::addr::Addr, port: u16) -> String {
    std::net::SocketAddr::new(addr.into(), port).to_string()
}

/// The protocol by its number.
fn protocol(packet: &Packet) -> &'static str {
    match packet.l4_info {
        L4::Tcp { .. } => "tcp",
        L4::Udp { .. } => "udp",
        L4::Sctp { .. } => "sctp",
        L4::Icmp { .. } if packet.src.is_v4() => "icmp",
        L4::Icmp { .. } => "icmpv6",
        L4::Other => "another protocol",
    }
}

pub(super) fn summary(packet: &Packet) -> String {
    let ends = match packet.l4_info {
        L4::Tcp { sport, dport, .. } | L4::Udp { sport, dport } | L4::Sctp { sport, dport, .. } => {
            format!("{} > {}", socket(packet.src, sport), socket(packet.dst, dport))
        }
        _ => format!("{} > {}", packet.src, packet.dst),
    };
    let more = match packet.l4_info {
        L4::Tcp { flags, .. } => {
            let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
            let set = names.iter().enumerate().filter(|(n, _)| flags >> n & 1 == 1);
            format!(" {}", set.map(|(_, name)| *name).collect::<Vec<_>>().join(" "))
        }
        L4::Icmp { kind, code } => format!(" type {kind} code {code}"),
        _ => String::new(),
    };
    format!("{} {ends}{more}, ttl {}, {} bytes", protocol(packet), packet.ttl, packet.l3_len)
}

/// A frame in words.
pub(super) fn whole(frame: &[u8], vlan: u16) -> String {
    let macs = match Ethernet::new_checked(frame) {
        Ok(ethernet) => format!("{} > {}, ", ethernet.src(), ethernet.dst()),
        Err(_) => String::new(),
    };
    let tag = if vlan == 0 { String::new() } else { format!("vlan {vlan}, ") };
    match parse::parse(&Link { mac: None, vlan }, frame, RxChecksum::Unknown) {
        Ok(Parsed::Ip(packet)) => format!("{macs}{tag}{}", summary(&packet)),
        Ok(Parsed::Arp { .. }) => format!("{macs}{tag}ARP"),
        Err(_) => format!("{macs}{tag}{} bytes", frame.len()),
    }
}

/// What of a packet is another one now.
pub(super) fn differences(before: &Packet, after: &Packet) -> String {
    let (sport, dport) = before.ports();
    let (new_sport, new_dport) = after.ports();
    let mut all = Vec::new();
    let mut note = |what: &str, before: String, after: String| {
        if before != after {
            all.push(format!("{what} {before} -> {after}"));
        }
    };
    note("source", socket(before.src, sport), socket(after.src, new_sport));
    note("destination", socket(before.dst, dport), socket(after.dst, new_dport));
    note("ttl", before.ttl.to_string(), after.ttl.to_string());
    all.join(", ")
}

/// The tunnel that a frame of this connection goes through, and the bytes that it takes.
pub(super) fn tunneled(flow: &Flow, frame: &[u8], l3: usize) -> (String, usize) {
    let outer = frame.get(l3..).unwrap_or_default();
    let (ends, payload) =
        match outer.first().map(|first| first >> 4) {
            Some(4) => Ipv4::new_checked(outer)
                .map_or((None, &[][..]), |ip| (Some((ip.src(), ip.dst())), ip.payload())),
            _ => Ipv6::new_checked(outer)
                .map_or((None, &[][..]), |ip| (Some((ip.src(), ip.dst())), ip.payload())),
        };
    let Some((src, dst)) = ends else { return (String::new(), 0) };
    let inner = match Udp::new_checked(payload) {
        Ok(udp) if flow.form == Form::DsrGue => {
            let way = format!("GUE {} > {}", socket(src, udp.sport()), socket(dst, udp.dport()));
            return (way, outer.len() - udp.payload().len());
        }
        _ => payload,
    };
    (format!("IP in IP {src} > {dst}"), outer.len() - inner.len())
}
