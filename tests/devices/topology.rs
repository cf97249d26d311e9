//! `client ── wan [ pollux ] lan ── server`, each a network namespace; where the engine's devices are no interfaces, the
//! veth pairs lie idle. A second engine can stand between.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::engine::METRICS;
use crate::ground::Ground;
use crate::net::{Namespace, wire};
use crate::scrape::http_get;
use crate::servers::{Echo, body};

/// The client.
pub const CLIENT: &str = "203.0.113.10";
/// The endpoint.
pub const SERVER: &str = "10.1.0.11";
/// The echo's VIP.
pub const VIP: &str = "203.0.113.100:7";
/// Its service.
pub const ECHO: &str = "[[service]]\nname = \"echo\"\nvip = \"203.0.113.100:7\"\nprotocol = \"udp\"\nmode = \"dnat\"\n\
    [[service.endpoint]]\naddress = \"10.1.0.11:7\"\n";

/// The network with its server. One at a time.
pub struct Lab {
    pub client: Namespace,
    pub lb: Namespace,
    pub lb2: Namespace,
    pub server: Namespace,
    switch: Namespace,
    _echo: Echo,
    ground: Ground,
}

impl Lab {
    /// Builds it, without an engine. Needs root.
    pub fn new() -> Self {
        let ground = Ground::take();
        let [client, lb, lb2, server, switch] =
            ["client", "lb", "lb2", "server", "switch"].map(Namespace::new);
        wire((&client, "eth0"), (&lb, "wan"));
        wire((&server, "eth0"), (&lb, "lan"));
        client.interface("eth0", &[&format!("{CLIENT}/24")]);
        server.interface("eth0", &[&format!("{SERVER}/24")]);
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        let echo = Echo::start(&server);
        let lab = Self { client, lb, lb2, server, switch, _echo: echo, ground };
        lab.routes();
        lab
    }

    /// The server's way back, which goes when its link goes down.
    pub fn routes(&self) {
        self.server.sh("ip route replace default via 10.1.0.1");
    }

    /// Client, server and the engine's one interface `arm` on one link.
    pub fn join_by_a_switch(&self) {
        let switch = &self.switch;
        self.lb.sh("ip link delete wan");
        self.lb.sh("ip link delete lan");
        wire((switch, "arm"), (&self.lb, "arm"));
        wire((switch, "c"), (&self.client, "eth0"));
        wire((switch, "s"), (&self.server, "eth0"));
        switch.sh("ip link add name br0 type bridge mcast_snooping 0");
        switch.sysctl("net.ipv6.conf.br0.disable_ipv6", "1");
        switch.sh("ip link set br0 up");
        for port in ["arm", "c", "s"] {
            switch.bare_interface(port);
            switch.sh(&format!("ip link set {port} master br0"));
        }
        self.lb.bare_interface("arm");
        self.client.interface("eth0", &[&format!("{CLIENT}/24")]);
        self.server.interface("eth0", &[&format!("{SERVER}/24")]);
        self.routes();
    }

    /// The configurations of two engines in a row, joined by these two devices, `SOCKET` in them replaced.
    pub fn chain(&self, first: &str, second: &str) -> (String, String) {
        self.lb.sh("ip link delete lan");
        wire((&self.server, "eth0"), (&self.lb2, "lan"));
        self.server.interface("eth0", &[&format!("{SERVER}/24")]);
        self.lb2.bare_interface("lan");
        self.routes();
        let socket = self.socket().display().to_string();
        let [first, second] = [first, second].map(|device| device.replace("SOCKET", &socket));
        let near = port("wan", &af_packet(0, "wan"), "client", &["203.0.113.2/24"], 0)
            + &port("mid", &first, "server", &["10.2.0.1/24"], 0);
        let far = port("mid", &second, "client", &["10.2.0.2/24"], 0)
            + &port("lan", &af_packet(1, "lan"), "server", &["10.1.0.1/24"], 0)
            + "[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"10.2.0.1\"\n";
        (
            config(&near, &ECHO.replace("10.1.0.11:7", "10.2.0.100:7")),
            config(&far, &ECHO.replace("203.0.113.100:7", "10.2.0.100:7")),
        )
    }

    fn socket(&self) -> PathBuf {
        self.dir().join("s")
    }

    /// What the socket between the two engines is: inode, and when it was made.
    pub fn socket_file(&self) -> Option<(u64, i64, i64)> {
        std::fs::symlink_metadata(self.socket())
            .ok()
            .map(|file| (file.ino(), file.ctime(), file.ctime_nsec()))
    }

    /// Until somebody listens between the two engines, on another socket than this one.
    pub fn wait_for_socket(&self, stale: Option<(u64, i64, i64)>) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.socket_file().is_none_or(|file| Some(file) == stale) {
            assert!(Instant::now() < deadline, "nobody makes {}", self.socket().display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A folder that goes with the lab.
    pub fn dir(&self) -> &Path {
        self.ground.path()
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Sends datagrams of all sizes through the VIP, each from a port of its own; each must come back.
    pub fn echo(&self, from: &Namespace, datagrams: usize) {
        from.inside(|| {
            for i in 0..datagrams {
                let sent = body("client", 1 + i * 1471 / datagrams);
                let got = round_trip(&sent, Duration::from_secs(5));
                assert!(
                    got.as_deref() == Some(&sent[..]),
                    "datagram {i} of {} bytes: no echo; the engine has dropped {:?}",
                    sent.len(),
                    self.drops()
                );
            }
        });
    }

    fn drops(&self) -> Vec<String> {
        let body = http_get(&self.lb, METRICS, "/metrics").map(|(_, body)| body).unwrap_or_default();
        let drops = body.lines().filter(|l| l.starts_with("pollux_dropped_") && !l.ends_with(" 0"));
        drops.map(str::to_owned).collect()
    }

    /// Whether one datagram comes back.
    pub fn tries_echo(&self, from: &Namespace) -> bool {
        from.inside(|| round_trip(b"anybody there?", Duration::from_millis(300)).is_some())
    }

    /// Until one does.
    pub fn echo_soon(&self, from: &Namespace) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.tries_echo(from) {
            assert!(Instant::now() < deadline, "no echo in 10 s");
        }
    }
}

fn round_trip(sent: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((CLIENT, 0)).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    let to: SocketAddr = VIP.parse().ok()?;
    // The kernel of the engine's namespace sees what the server sends, too: only what comes from the VIP counts.
    socket.connect(to).ok()?;
    socket.send(sent).ok()?;
    let mut got = vec![0; 2048];
    let n = socket.recv(&mut got).ok()?;
    got.truncate(n);
    Some(got)
}

/// A packet socket's device.
pub fn af_packet(number: usize, interface: &str) -> String {
    format!("net_af_packet{number},iface={interface},blocksz=4096,framesz=2048,framecnt=2048,qpairs=1")
}

/// A `[[port]]`.
pub fn port(name: &str, device: &str, role: &str, addresses: &[&str], vlan: u16) -> String {
    format!(
        "[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\nrole = \"{role}\"\naddresses = {addresses:?}\n\
         vlan = {vlan}\nkernel = \"\"\n"
    )
}

/// The engine between client and server on these two devices.
pub fn one_box(wan: &str, lan: &str) -> String {
    let ports =
        port("wan", wan, "client", &["203.0.113.2/24"], 0) + &port("lan", lan, "server", &["10.1.0.1/24"], 0);
    config(&ports, ECHO)
}

/// A whole configuration.
pub fn config(ports: &str, services: &str) -> String {
    format!(
        "[engine]\nworkers = [1]\nhugepages = false\nmemory_mb = 256\nmax_flows = 4096\nidle = \"backoff\"\n{ports}\n\
         {services}\n[metrics]\nlisten = \"127.0.0.1:8080\"\ntick = \"1s\"\ndistribution_tick = \"2s\"\n\
         [history]\npath = \"\"\n[control]\nsocket = \"\"\n"
    )
}

/// The same with two workers, and two queues on each device.
pub fn with_two_queues(config: &str) -> String {
    config
        .replace("workers = [1]", "workers = [0, 1]")
        .replace("kernel = \"\"", "kernel = \"\"\nqueues = 2\nrx_descriptors = 512\ntx_descriptors = 256")
        .replace("qpairs=1", "qpairs=2")
}
