//! The network:
//!
//! ```text
//!           ┌─ 203.0.113.10 ─── switch ── wan  [        ]      ┌─ 192.0.2.11
//!   client ─┤                                  [ pollux ] lan ─┤              server
//!           └─ 198.51.100.10 ── switch ── wan2 [        ]      └─ 192.0.2.21
//! ```
//!
//! The service has a VIP in each of the client's networks. A path is cut at its switch: the links stay up, and nobody is told.

use std::path::PathBuf;

use crate::capture::Capture;
use crate::ground::Ground;
use crate::net::{Namespace, wire};
use crate::peer::{Peer, compile};

/// The VIPs.
pub const VIPS: [&str; 2] = ["203.0.113.100", "198.51.100.100"];
/// The client's addresses, one in the network of each VIP.
pub const CLIENTS: [&str; 2] = ["203.0.113.10", "198.51.100.10"];
/// The endpoint's addresses. Public ones: usrsctp does not tell public peers of private ones.
pub const ENDPOINTS: [&str; 2] = ["192.0.2.11", "192.0.2.21"];
const PORT: &str = "2905";
const ENDPOINT_PORT: &str = "2906";

/// The whole network with its server. One at a time.
pub struct Lab {
    pub client: Namespace,
    pub lb: Namespace,
    server: Namespace,
    switch: Namespace,
    peer: PathBuf,
    serving: Peer,
    pub ground: Ground,
}

impl Lab {
    /// Builds it, without an engine. Needs root.
    pub fn new() -> Self {
        let ground = Ground::take();
        let peer = compile(ground.path());

        let [client, lb, server, switch] = ["client", "lb", "server", "switch"].map(Namespace::new);
        // Nothing but the association is to be on the wires.
        for ns in [&client, &server, &switch] {
            for conf in ["all", "default"] {
                ns.sysctl(&format!("net.ipv6.conf.{conf}.disable_ipv6"), "1");
            }
        }
        for (n, wan) in ["wan", "wan2"].into_iter().enumerate() {
            let [eth, inner, outer, bridge] =
                ["eth", "inner", "outer", "br"].map(|name| format!("{name}{n}"));
            wire((&client, &eth), (&switch, &inner));
            wire((&switch, &outer), (&lb, wan));
            switch.sh(&format!("ip link add name {bridge} type bridge mcast_snooping 0"));
            switch.sh(&format!("ip link set {bridge} up"));
            for end in [&inner, &outer] {
                switch.bare_interface(end);
                switch.sh(&format!("ip link set {end} master {bridge}"));
            }
        }
        wire((&server, "eth0"), (&lb, "lan"));
        for (interface, address) in ["eth0", "eth1"].into_iter().zip(CLIENTS) {
            client.interface(interface, &[&format!("{address}/24")]);
        }
        ["wan", "wan2", "lan"].into_iter().for_each(|interface| lb.bare_interface(interface));
        server.interface("eth0", &ENDPOINTS.map(|a| format!("{a}/24")).each_ref().map(String::as_str));
        server.sh("ip route add default via 192.0.2.1");
        // usrsctp sends from any of its addresses by any way.
        for conf in ["all", "eth0", "eth1"] {
            client.sysctl(&format!("net.ipv4.conf.{conf}.rp_filter"), "0");
        }
        let mut serving = Peer::start(&server, &peer, &["server", &ENDPOINTS.join(","), ENDPOINT_PORT]);
        serving.expect("listening");
        Self { client, lb, server, switch, peer, serving, ground }
    }

    /// Starts tcpdump on the server's wire, at the end that is not the engine's.
    pub fn capture(&self) -> Capture {
        Capture::start_whole(&self.server, "eth0", self.ground.path().join("lan.pcap"))
    }

    /// A client that opens an association with the service's `n`th VIP.
    pub fn connect(&self, n: usize, messages: u32) -> Peer {
        // Its first address is the one that it sends from: the one in the VIP's network.
        let sources = [CLIENTS[n], CLIENTS[1 - n]].join(",");
        Peer::start(&self.client, &self.peer, &["client", &sources, VIPS[n], PORT, &messages.to_string()])
    }

    /// Until HEARTBEATs have found for both ends that both paths are there.
    pub fn wait_for_paths(&mut self, client: &mut Peer) {
        for end in [client, &mut self.serving] {
            end.wait_for_paths(2);
        }
    }

    /// From now on nothing gets through between the client's `n`th address and the engine.
    pub fn cut(&self, n: usize) {
        self.switch.sh(&format!("ip link set inner{n} nomaster"));
    }

    /// Everything gets through again.
    pub fn mend(&self, n: usize) {
        self.switch.sh(&format!("ip link set inner{n} master br{n}"));
    }
}

/// The engine's configuration.
pub fn config() -> String {
    let port = |n: usize, name: &str, role: &str, address: &str| {
        format!(
            "[[port]]\nname = \"{name}\"\n\
             device = \"net_af_packet{n},iface={name},blocksz=4096,framesz=2048,framecnt=8192,qpairs=1\"\n\
             role = \"{role}\"\naddresses = [\"{address}/24\"]\nkernel = \"\"\n"
        )
    };
    let [vip, second_vip] = VIPS;
    let [endpoint, second] = ENDPOINTS;
    [
        "[engine]\nworkers = [1, 1]\nhugepages = false\nmemory_mb = 256\nmax_flows = 65_536\nidle = \"backoff\"\n",
        &port(0, "wan", "client", "203.0.113.2"),
        &port(1, "wan2", "client", "198.51.100.2"),
        &port(2, "lan", "server", "192.0.2.1"),
        "[metrics]\nlisten = \"127.0.0.1:8080\"\ntick = \"1s\"\ndistribution_tick = \"2s\"\n[history]\npath = \"\"\n",
        "[control]\nsocket = \"\"\n",
        &format!("[[service]]\nname = \"m3ua\"\nvip = \"{vip}:{PORT}\"\nsecondary_vips = [\"{second_vip}\"]\n"),
        "protocol = \"sctp\"\n",
        &format!("[[service.endpoint]]\naddress = \"{endpoint}:{ENDPOINT_PORT}\"\n"),
        &format!("secondary_addresses = [\"{second}\"]\n"),
    ]
    .concat()
}
