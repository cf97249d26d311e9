//! The network:
//!
//! ```text
//!   client ── wan [ pollux ] lan ── switch ─┬─ s1
//!                                           └─ s2
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::ground::{Ground, two_arm};
use crate::net::{Namespace, wire};
use crate::peer::Peer;

/// A service of the lab's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    name: &'static str,
    vip: &'static str,
    algorithm: &'static str,
    /// Its endpoints' addresses, on s1 and s2.
    endpoints: [&'static str; 2],
    /// Where the client is at first, and where it moves to.
    pub clients: [&'static str; 2],
}

/// IPv4.
pub const FOUR: Service = Service {
    name: "four",
    vip: "203.0.113.100",
    algorithm: "maglev",
    endpoints: ["10.1.0.11", "10.1.0.12"],
    clients: ["203.0.113.10", "203.0.113.11"],
};
/// IPv6.
pub const SIX: Service = Service {
    name: "six",
    vip: "2001:db8:1::100",
    algorithm: "round-robin",
    endpoints: ["fd00:1::11", "fd00:1::12"],
    clients: ["2001:db8:1::10", "2001:db8:1::11"],
};

const PORT: u16 = 443;
const ENDPOINT_PORT: u16 = 4433;
const SERVERS: [&str; 2] = ["s1", "s2"];
const SERVER_IDS: [&str; 2] = ["5e0001", "5e0002"];

impl Service {
    /// The value of its `service` label.
    pub fn label(&self) -> String {
        at(self.vip, PORT)
    }
}

fn at(address: &str, port: u16) -> String {
    SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port).to_string()
}

/// The whole network with its servers. One at a time.
pub struct Lab {
    client: Namespace,
    pub lb: Namespace,
    python: PathBuf,
    _peers: Vec<Peer>,
    _others: Vec<Namespace>,
    ground: Ground,
}

impl Lab {
    /// Builds it, without an engine. Needs root.
    pub fn new() -> Self {
        let ground = Ground::take();
        // Beside cargo's folder for tests' files.
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("aioquic").join("bin/python");
        assert!(python.exists(), "{}: not there; run ci/aioquic, which makes it", python.display());

        let [client, lb, switch] = ["client", "lb", "switch"].map(Namespace::new);
        wire((&client, "eth0"), (&lb, "wan"));
        wire((&switch, "uplink"), (&lb, "lan"));
        let [first, second] =
            [0, 1].map(|n| [format!("{}/24", FOUR.clients[n]), format!("{}/64", SIX.clients[n])]);
        client.interface("eth0", &[&first, &second].map(|a| [&*a[0], &*a[1]]).concat());
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        switch.sh("ip link add name br0 type bridge mcast_snooping 0");
        switch.sysctl("net.ipv6.conf.br0.disable_ipv6", "1");
        switch.sh("ip link set br0 up");
        switch.bare_interface("uplink");
        switch.sh("ip link set uplink master br0");

        let mut peers = Vec::new();
        let mut others = vec![];
        for (n, name) in SERVERS.into_iter().enumerate() {
            let ns = Namespace::new(name);
            wire((&ns, "eth0"), (&switch, name));
            switch.bare_interface(name);
            switch.sh(&format!("ip link set {name} master br0"));
            let addresses = [format!("{}/24", FOUR.endpoints[n]), format!("{}/64", SIX.endpoints[n])];
            ns.interface("eth0", &addresses.each_ref().map(String::as_str));
            ns.sh("ip route add default via 10.1.0.1");
            ns.sh("ip route add default via fd00:1::1");
            for service in [FOUR, SIX] {
                let port = ENDPOINT_PORT.to_string();
                peers.push(start(
                    &ns,
                    &python,
                    &["server", service.endpoints[n], &port, SERVER_IDS[n], name],
                ));
            }
            others.push(ns);
        }
        for peer in &mut peers {
            peer.expect("listening");
        }
        others.push(switch);
        Self { client, lb, python, _peers: peers, _others: others, ground }
    }

    /// A folder that goes with the lab.
    pub fn dir(&self) -> &Path {
        self.ground.path()
    }

    /// A client that opens a connection to a service from this port.
    pub fn connect(&self, service: &Service, port: u16) -> Peer {
        let (port, vip_port) = (port.to_string(), PORT.to_string());
        start(&self.client, &self.python, &["client", service.clients[0], &port, service.vip, &vip_port])
    }
}

fn start(ns: &Namespace, python: &Path, args: &[&str]) -> Peer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quic/peer.py");
    let script = script.to_str().expect("a path in UTF-8");
    // Without compiled files beside the source.
    Peer::start(ns, python, &[&["-B", script], args].concat())
}

/// The engine's configuration.
pub fn config() -> String {
    let mut text = two_arm("[1, 1]", 256);
    for s in [FOUR, SIX] {
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{}\"\nvip = \"{}\"\nprotocol = \"udp\"\nalgorithm = \"{}\"\nquic_server_id_bytes = 3\n",
            s.name,
            s.label(),
            s.algorithm,
        );
        for (address, id) in s.endpoints.iter().zip(SERVER_IDS) {
            let to = at(address, ENDPOINT_PORT);
            let _ = write!(text, "[[service.endpoint]]\naddress = \"{to}\"\nserver_id = \"{id}\"\n");
        }
    }
    text
}
