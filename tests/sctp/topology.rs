//! The network:
//!
//! ```text
//!   client ── wan [ pollux ] lan ── switch ─┬─ s1
//!                                           └─ s2
//! ```
//!
//! One usrsctp to a namespace: its raw socket gets all SCTP packets there are, and one that knew nothing of an association
//! would abort it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::capture::Capture;
use crate::ground::{Ground, two_arm};
use crate::net::{Namespace, wire};
use crate::packet::Sctp;
use crate::peer::{Peer, compile};

/// A service of the lab's configuration; no two share their endpoints' port.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub name: &'static str,
    vip: &'static str,
    port: u16,
    endpoint: &'static str,
    endpoint_port: u16,
}

/// The endpoint's port is the service's: the CRC32c stays as it is.
pub const SAME: Service =
    Service { name: "same", vip: "203.0.113.100", port: 5000, endpoint: "10.1.0.11", endpoint_port: 5000 };
/// Another port: the CRC32c has to be computed anew.
pub const MOVED: Service =
    Service { name: "moved", port: 5001, endpoint: "10.1.0.12", endpoint_port: 6001, ..SAME };
/// IPv6, another port.
pub const SIX: Service =
    Service { name: "six", vip: "2001:db8:1::100", port: 5002, endpoint: "fd00:1::11", endpoint_port: 6002 };
/// Nobody listens at the endpoint.
pub const CLOSED: Service = Service { name: "closed", port: 5003, endpoint_port: 6003, ..SAME };

const CLIENT4: &str = "203.0.113.10";
const CLIENT6: &str = "2001:db8:1::10";

impl Service {
    fn address(&self) -> IpAddr {
        self.vip.parse().expect("an address")
    }

    /// The value of its `service` label.
    pub fn label(&self) -> String {
        SocketAddr::new(self.address(), self.port).to_string()
    }

    /// Whether a packet that left the engine is of this service.
    pub fn has(&self, packet: &Sctp) -> bool {
        let (from, to) = packet.ports();
        if is_client(packet.source) {
            to == self.endpoint_port
        } else {
            (packet.source, from) == (self.address(), self.port)
        }
    }

    fn client(&self) -> &'static str {
        if self.address().is_ipv4() { CLIENT4 } else { CLIENT6 }
    }
}

/// Whether this is an address of the client.
pub fn is_client(a: IpAddr) -> bool {
    [CLIENT4, CLIENT6].iter().any(|c| c.parse() == Ok(a))
}

/// The whole network with its servers. One at a time.
pub struct Lab {
    client: Namespace,
    pub lb: Namespace,
    switch: Namespace,
    peer: PathBuf,
    peers: Mutex<Vec<Peer>>,
    _servers: Vec<Namespace>,
    ground: Ground,
}

impl Lab {
    /// Builds it, without an engine. Needs root.
    pub fn new() -> Self {
        let ground = Ground::take();
        let peer = compile(ground.path());

        let [client, lb, switch] = ["client", "lb", "switch"].map(Namespace::new);
        wire((&client, "eth0"), (&lb, "wan"));
        wire((&switch, "uplink"), (&lb, "lan"));
        client.interface("eth0", &[&format!("{CLIENT4}/24"), &format!("{CLIENT6}/64")]);
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        switch.sh("ip link add name br0 type bridge mcast_snooping 0");
        switch.sysctl("net.ipv6.conf.br0.disable_ipv6", "1");
        switch.sh("ip link set br0 up");
        switch.bare_interface("uplink");
        switch.sh("ip link set uplink master br0");

        let mut peers = Vec::new();
        let mut servers = Vec::new();
        for (name, v4, v6) in [("s1", "10.1.0.11", "fd00:1::11"), ("s2", "10.1.0.12", "fd00:1::12")] {
            let ns = Namespace::new(name);
            wire((&ns, "eth0"), (&switch, name));
            switch.bare_interface(name);
            switch.sh(&format!("ip link set {name} master br0"));
            ns.interface("eth0", &[&format!("{v4}/24"), &format!("{v6}/64")]);
            ns.sh("ip route add default via 10.1.0.1");
            ns.sh("ip route add default via fd00:1::1");
            let mut args = vec!["server".to_owned()];
            for s in [SAME, MOVED, SIX].iter().filter(|s| [v4, v6].contains(&s.endpoint)) {
                args.extend([s.endpoint.to_owned(), s.endpoint_port.to_string()]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut server = Peer::start(&ns, &peer, &args);
            server.expect("listening");
            peers.push(server);
            servers.push(ns);
        }
        Self { client, lb, switch, peer, peers: Mutex::new(peers), _servers: servers, ground }
    }

    /// A folder that goes with the lab.
    pub fn dir(&self) -> &Path {
        self.ground.path()
    }

    /// Starts tcpdump on both wires of the engine, at the ends that are not its own.
    pub fn capture(&self) -> (Capture, Capture) {
        (
            Capture::start_whole(&self.client, "eth0", self.dir().join("wan.pcap")),
            Capture::start_whole(&self.switch, "uplink", self.dir().join("lan.pcap")),
        )
    }

    /// A client that opens an association with a service.
    pub fn client(&self, service: &Service, messages: u32) -> Peer {
        let (port, messages) = (service.port.to_string(), messages.to_string());
        Peer::start(&self.client, &self.peer, &["client", service.client(), service.vip, &port, &messages])
    }

    /// An INIT to a service with a wrong CRC32c.
    pub fn forge(&self, service: &Service) {
        let port = service.port.to_string();
        Peer::start(&self.client, &self.peer, &["forge", service.client(), service.vip, &port]).finish();
    }

    /// All that the servers have said so far, their statistics last.
    pub fn servers_said(&self) -> Vec<String> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter_mut().flat_map(Peer::statistics).collect()
    }
}

/// The engine's configuration.
pub fn config() -> String {
    let mut text = two_arm("[1]", 256);
    for s in [SAME, MOVED, SIX, CLOSED] {
        let endpoint = SocketAddr::new(s.endpoint.parse().expect("an address"), s.endpoint_port);
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{}\"\nvip = \"{}\"\nprotocol = \"sctp\"\nmode = \"dnat\"\nalgorithm = \"maglev\"\n\
             [[service.endpoint]]\naddress = \"{endpoint}\"\n",
            s.name,
            s.label()
        );
    }
    text
}
