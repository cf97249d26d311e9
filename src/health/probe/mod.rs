//! One probe: a question to an endpoint, and whether its answer will do. Each ends by itself or is dropped at its timeout.

mod http;
mod ping;
mod sctp;
mod shared;
mod tls;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use self::ping::Pings;
use self::sctp::Inits;
use self::tls::Contexts;
use super::board::Target;
use super::nat::{Key, Pass, ProbeNat};
use crate::config::Probe;
use crate::wire::protocol;

/// The longest UDP reply.
const MAX_DATAGRAM: usize = 65_535;
/// The longest TCP segment of a probe through a VIP: a tunnel's header fits besides, with the MTU of any Ethernet.
const TUNNEL_MSS: u32 = 1200;

/// Why there was no good answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// By the endpoint's doing, or the network's.
    Bad(String),
    /// The probe could not be made here: it says nothing of the endpoint.
    Unable(String),
}

impl Failure {
    fn bad(reason: impl Into<String>) -> Self {
        Self::Bad(reason.into())
    }

    /// What is said of an error while doing something.
    fn of(doing: &str, error: &io::Error) -> Self {
        let here = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
        let reason = format!("{doing}: {error}");
        if Errno::from_io_error(error).is_some_and(|errno| here.contains(&errno)) {
            Self::Unable(reason)
        } else {
            Self::Bad(reason)
        }
    }
}

/// What probes share.
#[derive(Debug)]
pub(super) struct Probers {
    tls: Contexts,
    pings: Pings,
    inits: Inits,
    nat: Arc<ProbeNat>,
}

/// Whom a probe asks, and how its packets are known on the way through a VIP.
#[derive(Clone, Copy, Debug)]
struct Whom<'a> {
    target: &'a Target,
    nat: &'a Arc<ProbeNat>,
}

impl Whom<'_> {
    fn socket(self) -> SocketAddr {
        self.target.socket()
    }

    /// Has the packets translated that are known by `key`, where they go through a VIP.
    fn pass(self, key: Key) -> Option<Pass> {
        self.target.through.map(|way| self.nat.pass(key, self.target.address, way))
    }
}

impl Probers {
    /// `seed` is secret: what others cannot guess they cannot answer.
    pub fn new(seed: u64, nat: Arc<ProbeNat>) -> Self {
        Self { tls: Contexts::default(), pings: Pings::new(seed), inits: Inits::new(seed), nat }
    }

    #[cfg(test)]
    pub fn with_roots(seed: u64, roots: tokio_rustls::rustls::RootCertStore) -> Self {
        Self { tls: Contexts::with_roots(roots), ..Self::new(seed, Arc::default()) }
    }

    /// Asks once.
    pub async fn probe(&self, target: &Target) -> Result<(), Failure> {
        let whom = Whom { target, nat: &self.nat };
        match &target.check.probe {
            Probe::Tcp => connect(whom).await.map(|_| ()),
            Probe::Udp { send, receive } => udp(whom, send, receive).await,
            Probe::Http(http) => http::probe(whom, http, &self.tls).await,
            Probe::Sctp => self.inits.probe(whom).await,
            Probe::Ping => self.pings.probe(whom).await,
        }
    }
}

/// A connection, and what lets it through.
async fn connect(whom: Whom<'_>) -> Result<(TcpStream, Option<Pass>), Failure> {
    let to = whom.socket();
    let failed = |error: io::Error| Failure::of("connect", &error);
    if whom.target.through.is_none() {
        return Ok((TcpStream::connect(to).await.map_err(failed)?, None));
    }
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| Failure::of("socket", &error))?;
    let prepare = || {
        let options = SockRef::from(&socket);
        options.set_tcp_mss(TUNNEL_MSS)?;
        // A port that is bound is taken for all servers: it must be free again at once, without TIME_WAIT.
        options.set_linger(Some(Duration::ZERO))?;
        socket.bind(any(to))?;
        socket.local_addr()
    };
    let own = prepare().map_err(|error| Failure::of("socket", &error))?;
    let pass = whom.pass(Key::Port(protocol::TCP, own.port()));
    Ok((socket.connect(to).await.map_err(failed)?, pass))
}

/// Any address of the same family, any port.
fn any(to: SocketAddr) -> SocketAddr {
    if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}

async fn udp(whom: Whom<'_>, send: &[u8], receive: &[u8]) -> Result<(), Failure> {
    let to = whom.socket();
    let failed = |error: io::Error| Failure::of("socket", &error);
    let socket = UdpSocket::bind(any(to)).await.map_err(failed)?;
    let _pass = whom.pass(Key::Port(protocol::UDP, socket.local_addr().map_err(failed)?.port()));
    // Takes replies from there alone, and hears of ICMP errors.
    socket.connect(to).await.map_err(|error| Failure::of("connect", &error))?;
    socket.send(send).await.map_err(|error| Failure::of("send", &error))?;
    let mut reply = vec![0; MAX_DATAGRAM];
    let len = socket.recv(&mut reply).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::bad("port unreachable"),
        _ => Failure::of("receive", &error),
    })?;
    if reply[..len].starts_with(receive) {
        Ok(())
    } else {
        Err(Failure::bad(format!("another reply than expected: \"{}\"", shown(&reply[..len]))))
    }
}

/// The beginning of what an endpoint has said.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let more = if bytes.len() > MOST { "…" } else { "" };
    format!("{}{more}", bytes[..bytes.len().min(MOST)].escape_ascii())
}
