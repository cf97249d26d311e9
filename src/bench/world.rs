//! The configuration under test, and the stations around it.

use super::case::Spec;
use crate::addr::{Addr, Mac};
use crate::config::{self, Config, Report};
use crate::ids::PortId;
use crate::tables::{LinkInfo, Slots, Tables};

/// The clients' side.
pub const WAN: PortId = PortId(0);
/// The endpoints' side.
pub const LAN: PortId = PortId(1);
/// Station address of the clients' side.
pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
/// Station address of the endpoints' side.
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);

/// Endpoints of the service.
const ENDPOINTS: usize = 5;

/// Connections of one client: with [`ENDPOINTS`] there are about half as many client–endpoint pairs as connections.
const PER_CLIENT: usize = 8;

/// Pairs of so many connections: 5 · (1 − 0.8⁸) ⁄ 8 a connection is expected, and some more are given room.
pub const fn pairs(connections: usize) -> usize {
    connections / 16 * 9 + 64
}

/// SNAT addresses for so many connections. Ports suffice even if all endpoints share them, until there are as many addresses as a
/// configuration may have; then if two do.
const fn snat_addresses(connections: usize) -> usize {
    let wanted = 4 + connections / 50_000;
    if wanted < 64 { wanted } else { 64 }
}

/// The service's address and port.
pub fn vip(spec: &Spec) -> (Addr, u16) {
    let addr = if spec.ipv4 {
        Addr::v4([203, 0, 113, 100])
    } else {
        Addr::v6([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    };
    (addr, 80)
}

/// Lowest address of the clients.
pub fn first_client(spec: &Spec) -> Addr {
    if spec.ipv4 {
        Addr::v4([100, 64, 0, 1])
    } else {
        Addr::v6([0x20, 1, 0xd, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }
}

/// The client of a connection, counted from the first one, and its port there.
#[inline]
pub const fn client(connection: usize) -> (u32, u16) {
    let (client, nth) = (connection / PER_CLIENT, connection % PER_CLIENT);
    // Ports of a client are not neighbours, and clients do not all use the same ones.
    (client as u32, 1024 + ((client * 7919 + nth * 7001) % 60_000) as u16)
}

/// The configuration, and its tables.
///
/// # Errors
/// A mode whose lines are not valid.
pub fn tables(spec: &Spec) -> Result<(Config, Tables), Report> {
    compile(spec, Ports::Two, &[WAN_MAC, LAN_MAC].map(|mac| LinkInfo { mac, promiscuous: false }))
}

/// The same with one port for both sides, which takes frames to any station.
///
/// # Errors
/// A mode whose lines are not valid.
pub fn one_armed(spec: &Spec, mac: Mac) -> Result<(Config, Tables), Report> {
    compile(spec, Ports::One, &[LinkInfo { mac, promiscuous: true }])
}

/// The ports of the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    One,
    Two,
}

fn compile(spec: &Spec, ports: Ports, links: &[LinkInfo]) -> Result<(Config, Tables), Report> {
    let (config, _) = config::parse("bench.toml", &text(spec, ports))?;
    let tables = Tables::compile(&config, links, &mut Slots::default());
    Ok((config, tables))
}

/// The configuration, as a file would have it. All next hops are known.
fn text(spec: &Spec, ports: Ports) -> String {
    use std::fmt::Write as _;
    let (vip, port) = vip(spec);
    let host = |addr: Addr| if spec.ipv4 { addr.to_string() } else { format!("[{addr}]") };
    let (wan, lan) = ("\"203.0.113.2/24\", \"2001:db8:1::2/64\"", "\"10.1.0.1/16\", \"2001:db8:2::1/64\"");
    let configured = |name: &str, role: &str, addresses: &str| {
        format!(
            "[[port]]\nname = \"{name}\"\ndevice = \"net_ring_{name}\"\nrole = \"{role}\"\nkernel = \"\"\n\
             addresses = [{addresses}]\n"
        )
    };
    let (ports, inside) = match ports {
        Ports::One => (configured("wan", "both", &format!("{wan}, {lan}")), "wan"),
        Ports::Two => (configured("wan", "client", wan) + &configured("lan", "server", lan), "lan"),
    };
    let mut text = format!(
        "[engine]\nhugepages = false\n{ports}\
         [[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"203.0.113.1\"\n\
         [[route]]\nprefix = \"::/0\"\nvia = \"2001:db8:1::1\"\n\
         [[neighbor]]\naddress = \"203.0.113.1\"\nmac = \"02:00:00:00:02:01\"\nport = \"wan\"\n\
         [[neighbor]]\naddress = \"2001:db8:1::1\"\nmac = \"02:00:00:00:02:01\"\nport = \"wan\"\n",
    );
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "[[service]]\nname = \"bench\"\nvip = \"{}:{port}\"\nprotocol = \"{}\"\nalgorithm = \"maglev\"\n\
         maglev_size = 4093\nmode = \"{}\"\nidle_timeout = \"1h\"\n{}\n",
        host(vip),
        spec.protocol.name(),
        spec.mode.name,
        spec.mode.service,
    );
    for n in 0..ENDPOINTS {
        let addr = if spec.ipv4 { format!("10.1.0.{}", 10 + n) } else { format!("2001:db8:2::{}", 10 + n) };
        let host = if spec.ipv4 { addr.clone() } else { format!("[{addr}]") };
        // Without NAT the port stays the VIP's.
        let port = if spec.mode.replies { 8080 } else { port };
        let _ = write!(text, "[[service.endpoint]]\naddress = \"{host}:{port}\"\n");
        let _ = write!(
            text,
            "[[neighbor]]\naddress = \"{addr}\"\nmac = \"02:00:00:00:03:{:02x}\"\nport = \"{inside}\"\n",
            10 + n
        );
    }
    if spec.mode.snat {
        let net = if spec.ipv4 { "10.1.1." } else { "2001:db8:2::1:" };
        let addresses: Vec<_> =
            (1..=snat_addresses(spec.connections)).map(|n| format!("\"{net}{n}\"")).collect();
        let _ = write!(text, "[snat]\naddresses = [{}]\n", addresses.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::case::{Case, MODES, single};
    use super::*;

    #[test]
    fn every_mode_is_configured() {
        for spec in [1, 1 << 24].into_iter().flat_map(|n| single(Case::EstablishedHot, n)) {
            for ipv4 in [true, false] {
                let spec = Spec { ipv4, ..spec };
                let two = tables(&spec).unwrap_or_else(|report| panic!("{report:?}"));
                let one = one_armed(&spec, WAN_MAC).unwrap_or_else(|report| panic!("{report:?}"));
                assert_eq!((two.1.ports.len(), one.1.ports.len()), (2, 1));
            }
        }
        assert_eq!(MODES[0].name, "dnat");
    }

    #[test]
    fn connections_differ() {
        let mut seen: Vec<_> = (0..1 << 16).map(client).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1 << 16);
    }
}
