//! A client, an engine and a server that says back what it hears, over TCP and UDP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::METRICS;
use crate::ground::{Ground, two_arm};
use crate::net::{Namespace, connect_from, wire};
use crate::scrape::http_get;

pub const CLIENT: &str = "203.0.113.10";
pub const VIP: &str = "203.0.113.100";
const PORT: u16 = 7;

pub struct Lab {
    pub client: Namespace,
    pub lb: Namespace,
    _server: Namespace,
    ground: Ground,
}

impl Lab {
    /// Builds it, without an engine.
    pub fn new() -> Self {
        let ground = Ground::take();
        let [client, lb, server] = ["client", "lb", "server"].map(Namespace::new);
        wire((&client, "eth0"), (&lb, "wan"));
        wire((&server, "eth0"), (&lb, "lan"));
        client.interface("eth0", &[&format!("{CLIENT}/24")]);
        server.interface("eth0", &["10.1.0.11/24"]);
        server.sh("ip route add default via 10.1.0.1");
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        // They end with the process.
        server.inside(|| {
            let listener = TcpListener::bind(("10.1.0.11", PORT)).expect("the server's port");
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || echo(stream));
                }
            });
            let socket = UdpSocket::bind(("10.1.0.11", PORT)).expect("the server's port");
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..n], from);
                }
            });
        });
        Self { client, lb, _server: server, ground }
    }

    pub fn dir(&self) -> &Path {
        self.ground.path()
    }

    /// Status of an HTTP path of the engine's; 0: nobody is there.
    pub fn status(&self, path: &str) -> u16 {
        http_get(&self.lb, METRICS, path).map_or(0, |(status, _)| status)
    }

    /// A connection of the client's to the service.
    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let (from, to) = (CLIENT.parse().expect("an address"), format!("{VIP}:{PORT}"));
        self.client.inside(|| connect_from(from, to.parse().expect("an address"), Duration::from_secs(2)))
    }

    /// A socket of the client's towards the service.
    pub fn datagrams(&self) -> UdpSocket {
        self.client.inside(|| {
            let socket = UdpSocket::bind((CLIENT, 0)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
            socket.connect(SocketAddr::new(VIP.parse().expect("an address"), PORT)).expect("a route");
            socket
        })
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 2048];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Says something over a connection, and hears it back.
pub fn talk(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut heard = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut heard)?;
    if &heard == b"hello" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// The same with one datagram.
pub fn ask(socket: &UdpSocket) -> std::io::Result<()> {
    let mut heard = [0; 16];
    socket.send(b"hello")?;
    let n = socket.recv(&mut heard)?;
    if &heard[..n] == b"hello" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// The engine's configuration; `engine` is further lines of its table.
pub fn config(engine: &str, socket: &str) -> String {
    let text = two_arm("[0]", 256)
        .replacen("[engine]\n", &format!("[engine]\n{engine}\n"), 1)
        .replace("max_flows = 65_536", "max_flows = 4096")
        .replace("socket = \"\"", &format!("socket = \"{socket}\""));
    let service = |name, protocol| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{VIP}:{PORT}\"\nprotocol = \"{protocol}\"\n[[service.endpoint]]\n\
             address = \"10.1.0.11:{PORT}\"\n"
        )
    };
    text + &service("echo", "tcp") + &service("echo-udp", "udp")
}

/// Until it holds; panics after so many seconds.
pub fn wait_until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
