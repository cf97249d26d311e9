//! The lab's network:
//!
//! ```text
//!   client ──┐
//!            ├─ switch ── wan [ pollux ] lan ── impairer ── eth0 server
//!   server ──┘ (eth1, for DSR)
//! ```
//!
//! Each is a network namespace, each line a veth pair. The impairer is a bridge unless it is to lose and reorder.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::capture::Capture;
use crate::ground::{Ground, two_arm};
use crate::net::{Namespace, wire};
use crate::nginx::Nginx;
use crate::web::{PLAIN, PROXIED, serve};

pub const CLIENT4: &str = "203.0.113.10";
pub const CLIENT6: &str = "2001:db8:1::10";
/// All of the client's addresses.
pub const CLIENTS4: [&str; 3] = [CLIENT4, "203.0.113.11", "203.0.113.12"];
pub const CLIENTS6: [&str; 3] = [CLIENT6, "2001:db8:1::11", "2001:db8:1::12"];
pub const SERVER4: &str = "10.1.0.11";
pub const SERVER6: &str = "fd00:1::11";
pub const SNAT4: &str = "10.1.0.2";
pub const SNAT6: &str = "fd00:1::2";
pub const VIP4: &str = "203.0.113.100";
pub const VIP6: &str = "2001:db8:1::100";
pub const DSR_VIP: &str = "203.0.113.101";
pub const IPIP_VIP: &str = "203.0.113.102";
pub const GUE_VIP: &str = "203.0.113.103";
/// Port of the services that tell the endpoint the client's address in a TCP option.
pub const TOA: u16 = 8082;

/// The whole network with its server. One at a time: they share two cores.
pub struct Lab {
    pub client: Namespace,
    pub lb: Namespace,
    impairing: Option<Mutex<Child>>,
    decapsulating: Option<Child>,
    _impairer: Namespace,
    _switch: Namespace,
    _nginx: Nginx,
    pub server: Namespace,
    ground: Ground,
}

fn bridge(ns: &Namespace, ports: &[&str]) {
    ns.sh("ip link add name br0 type bridge mcast_snooping 0");
    ns.sysctl("net.ipv6.conf.br0.disable_ipv6", "1");
    ns.sh("ip link set br0 up");
    for port in ports {
        ns.bare_interface(port);
        ns.sh(&format!("ip link set {port} master br0"));
    }
}

impl Lab {
    /// Builds it, without an engine. Needs root.
    pub fn new(impaired: bool) -> Self {
        let ground = Ground::take();
        let [client, lb, switch, impairer, server] =
            ["client", "lb", "switch", "impair", "server"].map(Namespace::new);
        wire((&client, "eth0"), (&switch, "client"));
        wire((&lb, "wan"), (&switch, "engine"));
        wire((&server, "eth1"), (&switch, "server"));
        wire((&lb, "lan"), (&impairer, "near"));
        wire((&server, "eth0"), (&impairer, "far"));
        bridge(&switch, &["client", "engine", "server"]);
        let addresses =
            CLIENTS4.map(|a| format!("{a}/24")).into_iter().chain(CLIENTS6.map(|a| format!("{a}/64")));
        client
            .interface("eth0", &addresses.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>());
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        server.interface("eth0", &[&format!("{SERVER4}/24"), &format!("{SERVER6}/64")]);
        // The VIP lies behind the engine, for the server as a client.
        server.sh(&format!("ip route add {VIP4}/32 via 10.1.0.1"));
        let impairing = if impaired {
            impairer.bare_interface("near");
            impairer.bare_interface("far");
            Some(Mutex::new(impair(&impairer)))
        } else {
            bridge(&impairer, &["near", "far"]);
            None
        };
        let nginx = serve(&server, ground.path());
        Self {
            client,
            lb,
            impairing,
            decapsulating: None,
            _impairer: impairer,
            _switch: switch,
            _nginx: nginx,
            server,
            ground,
        }
    }

    /// A folder that goes with the lab.
    pub fn dir(&self) -> &Path {
        self.ground.path()
    }

    /// Starts tcpdump at the server's end of the engine's wire.
    pub fn capture_server(&self) -> Capture {
        Capture::start(&self.server, "eth0", self.dir().join("server.pcap"))
    }

    /// What an endpoint of `dsr-l2` is set up with: the VIP, for which it does not answer ARP, and a way to the client.
    pub fn give_server_the_vip(&self) {
        let server = &self.server;
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")] {
            for interface in ["all", "eth0", "eth1"] {
                server.sysctl(&format!("net.ipv4.conf.{interface}.{key}"), value);
            }
        }
        for vip in [DSR_VIP, IPIP_VIP, GUE_VIP] {
            server.sh(&format!("ip address add {vip}/32 dev lo"));
        }
        server.interface("eth1", &["203.0.113.20/24"]);
    }

    /// The far end of the tunnels, which this kernel has no devices for: what they bring goes into a TUN.
    pub fn decapsulate(&mut self) {
        let mut child = self
            .server
            .command("python3")
            .args(["-c", DECAPSULATE])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("its words");
        assert_eq!(line, "ready\n");
        self.server.sysctl("net.ipv4.conf.tunnel.rp_filter", "0");
        self.server.sh("ip link set tunnel up");
        self.decapsulating = Some(child);
    }

    /// Frames lost and delayed so far.
    pub fn impairer(&self) -> (u64, u64) {
        let mut child = self.impairing.as_ref().expect("an impaired lab").lock().expect("no panic");
        child.stdin.as_mut().expect("a pipe").write_all(b"?\n").expect("it listens");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("its words");
        let mut numbers = line.split_whitespace().map(|n| n.parse().expect("a number"));
        (numbers.next().expect("lost"), numbers.next().expect("delayed"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(child) = &mut self.decapsulating {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(child) = &self.impairing {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Carries frames between the two interfaces; of IP's it loses some and lets some wait, so that later ones overtake them.
const IMPAIR: &str = r#"
import heapq, random, select, socket, sys, time
random.seed(7)
a, b = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in "ab"]
a.bind(("near", 0)); b.bind(("far", 0))
late, lost, delayed, n = [], 0, 0, 0
print("ready", flush=True)
while True:
    timeout = max(0, late[0][0] - time.monotonic()) if late else 1
    for s in select.select([a, b, sys.stdin], [], [], timeout)[0]:
        if s is sys.stdin:
            if not sys.stdin.readline(): sys.exit()
            print(lost, delayed, flush=True)
            continue
        frame, (_, _, kind, _, _) = s.recvfrom(65536)
        if kind == socket.PACKET_OUTGOING: continue
        out, r = (b if s is a else a), random.random()
        ip = frame[12:14] in (b"\x08\x00", b"\x86\xdd")
        # Not neighbour discovery.
        ip = ip and not (frame[12:14] == b"\x86\xdd" and frame[20] == 58)
        if ip and r < 0.04:
            lost += 1
        elif ip and r < 0.14:
            delayed += 1; n += 1
            heapq.heappush(late, (time.monotonic() + random.uniform(0.001, 0.01), n, out, frame))
        else:
            out.send(frame)
    while late and late[0][0] <= time.monotonic():
        _, _, out, frame = heapq.heappop(late)
        out.send(frame)
"#;

/// Takes off the outer header of IP in IP, and of GUE, variant 1.
const DECAPSULATE: &str = r#"
import fcntl, os, select, socket, struct
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH", b"tunnel", 0x1001))
ipip = socket.socket(socket.AF_INET, socket.SOCK_RAW, 4)
gue = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); gue.bind(("10.1.0.11", 6080))
print("ready", flush=True)
while True:
    for s in select.select([ipip, gue], [], [])[0]:
        packet = s.recv(65536)
        os.write(tun, packet[(packet[0] & 15) * 4:] if s is ipip else packet)
"#;

fn impair(ns: &Namespace) -> Child {
    let mut child = ns
        .command("python3")
        .args(["-c", IMPAIR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut line = String::new();
    // Unbuffered: nothing but this line is there yet.
    BufReader::with_capacity(8, child.stdout.as_mut().expect("a pipe"))
        .read_line(&mut line)
        .expect("its words");
    assert_eq!(line, "ready\n");
    child
}

/// The engine's configuration for the lab.
pub fn config() -> String {
    let mut text = two_arm("[0, 1]", 512);
    text += &format!(
        r#"
[snat]
addresses = ["{SNAT4}", "{SNAT6}"]
"#
    );
    let (v4, v6) = (SERVER4.to_owned(), format!("[{SERVER6}]"));
    let vip6 = format!("[{VIP6}]");
    let proxy = "mode = \"full-nat\"\nclient_address = \"proxy-v2\"";
    let toa = "mode = \"full-nat\"\nclient_address = \"toa\"";
    for (name, vip, port, endpoint, more) in [
        ("v4", VIP4, 80, format!("{v4}:{PLAIN}"), "mode = \"full-nat\""),
        ("v6", &vip6, 80, format!("{v6}:{PLAIN}"), "mode = \"full-nat\""),
        ("nat64", &vip6, 64, format!("{v4}:{PLAIN}"), "mode = \"full-nat\""),
        ("nat46", VIP4, 46, format!("{v6}:{PLAIN}"), "mode = \"full-nat\""),
        ("dsr", DSR_VIP, PLAIN, v4.clone(), "mode = \"dsr-l2\""),
        ("ipip", IPIP_VIP, PLAIN, v4.clone(), "mode = \"dsr-ipip\""),
        ("gue", GUE_VIP, PLAIN, v4.clone(), "mode = \"dsr-gue\""),
        ("proxy4", VIP4, PROXIED, format!("{v4}:{PROXIED}"), proxy),
        ("proxy6", &vip6, PROXIED, format!("{v4}:{PROXIED}"), proxy),
        ("toa4", VIP4, TOA, format!("{v4}:{PLAIN}"), toa),
        ("toa6", &vip6, TOA, format!("{v6}:{PLAIN}"), toa),
        ("toa64", &vip6, TOA + 1, format!("{v4}:{PLAIN}"), toa),
    ] {
        text += &format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}:{port}\"\n{more}\n[[service.endpoint]]\naddress = \"{endpoint}\"\n"
        );
    }
    text
}
