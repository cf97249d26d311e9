//! A reader of TCP options that shares no code with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Of every connection to this port, by the address and port that it comes from: whom the option 254 in its segments names.
pub fn told(frames: &[(u64, Vec<u8>)], port: u16) -> BTreeMap<SocketAddr, BTreeSet<SocketAddr>> {
    let mut told: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (_, frame) in frames {
        let ip = &frame[14..];
        let (protocol, source, tcp): (u8, IpAddr, &[u8]) = match ip[0] >> 4 {
            4 => {
                let octets: [u8; 4] = ip[12..16].try_into().expect("four bytes");
                (ip[9], Ipv4Addr::from(octets).into(), &ip[usize::from(ip[0] & 15) * 4..])
            }
            _ => {
                let octets: [u8; 16] = ip[8..24].try_into().expect("sixteen bytes");
                (ip[6], Ipv6Addr::from(octets).into(), &ip[40..])
            }
        };
        if protocol != 6 || u16_at(tcp, 2) != port {
            continue;
        }
        let clients = told.entry(SocketAddr::new(source, u16_at(tcp, 0))).or_default();
        let mut options = &tcp[20..usize::from(tcp[12] >> 4) * 4];
        while let [kind, rest @ ..] = options {
            options = match kind {
                0 => break,
                1 => rest,
                _ => {
                    let (option, rest) = options.split_at(usize::from(rest[0]));
                    match option {
                        [254, 8, high, low, a, b, c, d] => {
                            let ip = Ipv4Addr::new(*a, *b, *c, *d).into();
                            clients.insert(SocketAddr::new(ip, u16::from_be_bytes([*high, *low])));
                        }
                        [254, 20, high, low, octets @ ..] => {
                            let octets: [u8; 16] = octets.try_into().expect("sixteen bytes");
                            let ip = Ipv6Addr::from(octets).into();
                            clients.insert(SocketAddr::new(ip, u16::from_be_bytes([*high, *low])));
                        }
                        _ => assert_ne!(option[0], 254, "{option:?}"),
                    }
                    rest
                }
            };
        }
    }
    told
}
