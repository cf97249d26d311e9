//! The lab's network:
//!
//! ```text
//!   client ── wan [ pollux ] lan ── switch ─┬─ s1
//!                                           ├─ s2
//!                                           └─ s3
//! ```
//!
//! Each is a network namespace, each line a veth pair. The engine has `wan` and `lan` as `net_af_packet` ports; the kernel
//! of its namespace has no address there. One VIP of each family is on the client's own link (found by ARP and ND), the
//! others are behind the engine's address.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use crate::capture::{Capture, Packet, TCP, UDP};
use crate::ground::{Ground, two_arm};
use crate::net::{Namespace, wire};
use crate::nginx::Nginx;
use crate::servers::{ECHO_PORT, Echo, HTTP_PORT, serve};

/// The servers' names.
pub const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
/// A port on which no server listens.
pub const CLOSED_PORT: u16 = 9;

/// A service of the lab's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub name: &'static str,
    pub vip: &'static str,
    pub port: u16,
    pub protocol: u8,
    pub algorithm: &'static str,
    /// The endpoints' port; no two services share port, protocol and family.
    pub endpoint_port: u16,
    /// Further lines of its table.
    pub more: &'static str,
}

/// HTTP on the client's link.
pub const WEB4: Service = Service {
    name: "web4",
    vip: "203.0.113.100",
    port: 80,
    protocol: TCP,
    algorithm: "round-robin",
    endpoint_port: HTTP_PORT,
    more: "",
};
/// The same over IPv6.
pub const WEB6: Service = Service { name: "web6", vip: "2001:db8:1::100", algorithm: "maglev", ..WEB4 };
/// UDP echo on a routed VIP.
pub const ECHO4: Service = Service {
    name: "echo4",
    vip: "198.51.100.7",
    port: 7,
    protocol: UDP,
    algorithm: "maglev",
    endpoint_port: ECHO_PORT,
    more: "idle_timeout = \"2s\"",
};
/// The same over IPv6.
pub const ECHO6: Service = Service { name: "echo6", vip: "2001:db8:7::7", algorithm: "round-robin", ..ECHO4 };
/// Its endpoints refuse every connection.
pub const REFUSED: Service = Service { name: "refused", port: 81, endpoint_port: CLOSED_PORT, ..WEB4 };
/// All of its endpoints are down, and clients are told so.
pub const EMPTY: Service =
    Service { name: "empty", port: 82, endpoint_port: 82, more: "on_no_endpoint = \"reject\"", ..WEB4 };
/// All of them.
pub static SERVICES: [Service; 6] = [WEB4, WEB6, ECHO4, ECHO6, REFUSED, EMPTY];
/// UDP to this port is dropped by the firewall rule `blocked`.
pub const BLOCKED_PORT: u16 = 4444;

impl Service {
    /// The VIP.
    pub fn address(&self) -> IpAddr {
        self.vip.parse().expect("an address")
    }

    /// The value of its `service` label.
    pub fn label(&self) -> String {
        std::net::SocketAddr::new(self.address(), self.port).to_string()
    }

    /// Whether a packet that a server sent or got is of this service.
    pub fn serves(&self, packet: &Packet, server_port: u16) -> bool {
        (packet.protocol, server_port, packet.source.is_ipv4())
            == (self.protocol, self.endpoint_port, self.address().is_ipv4())
    }
}

/// The client's addresses of a family.
pub fn clients(ipv4: bool) -> [IpAddr; 2] {
    let [a, b] = if ipv4 { ["203.0.113.10", "203.0.113.11"] } else { ["2001:db8:1::10", "2001:db8:1::11"] };
    [a, b].map(|x| x.parse().expect("an address"))
}

/// The address of server `i` (from 0) in a family.
pub fn server(i: usize, ipv4: bool) -> IpAddr {
    let text = if ipv4 { format!("10.1.0.1{}", i + 1) } else { format!("fd00:1::1{}", i + 1) };
    text.parse().expect("an address")
}

/// The whole network with its servers. One at a time: they share two cores.
pub struct Lab {
    pub client: Namespace,
    pub lb: Namespace,
    pub switch: Namespace,
    _echoes: Vec<Echo>,
    /// By [`SERVERS`].
    pub nginx: Vec<Nginx>,
    pub servers: Vec<Namespace>,
    ground: Ground,
}

impl Lab {
    /// Builds it, without an engine. Needs root.
    pub fn new() -> Self {
        let ground = Ground::take();

        let [client, lb, switch] = ["client", "lb", "switch"].map(Namespace::new);
        wire((&client, "eth0"), (&lb, "wan"));
        wire((&switch, "uplink"), (&lb, "lan"));
        client.interface(
            "eth0",
            &["203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64", "2001:db8:1::11/64"],
        );
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        client.sh("ip route add 198.51.100.0/24 via 203.0.113.2");
        client.sh("ip route add 2001:db8:7::/64 via 2001:db8:1::2");

        switch.sh("ip link add name br0 type bridge mcast_snooping 0");
        switch.sysctl("net.ipv6.conf.br0.disable_ipv6", "1");
        switch.sh("ip link set br0 up");
        switch.bare_interface("uplink");
        switch.sh("ip link set uplink master br0");

        let servers: Vec<_> = SERVERS.iter().map(|s| Namespace::new(s)).collect();
        let (mut nginx, mut echoes) = (Vec::new(), Vec::new());
        for (i, (ns, name)) in servers.iter().zip(SERVERS).enumerate() {
            wire((ns, "eth0"), (&switch, name));
            switch.bare_interface(name);
            switch.sh(&format!("ip link set {name} master br0"));
            ns.interface("eth0", &[&format!("{}/24", server(i, true)), &format!("{}/64", server(i, false))]);
            ns.sh("ip route add default via 10.1.0.1");
            ns.sh("ip route add default via fd00:1::1");
            nginx.push(serve(ns, name, ground.path()));
            echoes.push(Echo::start(ns));
        }
        Self { client, lb, switch, _echoes: echoes, nginx, servers, ground }
    }

    /// A folder that goes with the lab.
    pub fn dir(&self) -> &Path {
        self.ground.path()
    }

    /// Starts tcpdump on both wires of the engine, at the ends that are not its own.
    pub fn capture(&self) -> (Capture, Capture) {
        (
            Capture::start(&self.client, "eth0", self.dir().join("wan.pcap")),
            Capture::start(&self.switch, "uplink", self.dir().join("lan.pcap")),
        )
    }
}

/// The engine's configuration for the lab.
pub fn config(workers: &str) -> String {
    let mut text = two_arm(workers, 512);
    text += &format!(
        r#"
[[firewall]]
name             = "blocked"
action           = "drop"
protocol         = "udp"
destination_port = "{BLOCKED_PORT}"
"#
    );
    for s in SERVICES {
        let protocol = if s.protocol == TCP { "tcp" } else { "udp" };
        let (label, state) = (s.label(), if s.name == EMPTY.name { "down" } else { "up" });
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{}\"\nvip = \"{label}\"\nprotocol = \"{protocol}\"\nmode = \"dnat\"\nalgorithm = \"{}\"\n{}\n",
            s.name, s.algorithm, s.more
        );
        for i in 0..SERVERS.len() {
            let address = std::net::SocketAddr::new(server(i, s.address().is_ipv4()), s.endpoint_port);
            let _ = write!(text, "[[service.endpoint]]\naddress = \"{address}\"\nstate = \"{state}\"\n");
        }
    }
    text
}
