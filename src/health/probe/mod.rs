//! One probe: a question to an endpoint, and whether its answer will do. Each ends by itself or is dropped at its timeout.

mod http;
mod ping;
mod sctp;
mod shared;
mod tls;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{TcpStream, UdpSocket};

use self::ping::Pings;
use self::sctp::Inits;
use self::tls::Contexts;
use super::board::Target;
use crate::config::Probe;

/// The longest UDP reply.
const MAX_DATAGRAM: usize = 65_535;

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
}

impl Probers {
    /// `seed` is secret: what others cannot guess they cannot answer.
    pub fn new(seed: u64) -> Self {
        Self { tls: Contexts::default(), pings: Pings::new(seed), inits: Inits::new(seed) }
    }

    #[cfg(test)]
    pub fn with_roots(seed: u64, roots: tokio_rustls::rustls::RootCertStore) -> Self {
        Self { tls: Contexts::with_roots(roots), ..Self::new(seed) }
    }

    /// Asks once.
    pub async fn probe(&self, target: &Target) -> Result<(), Failure> {
        let to = target.socket();
        match &target.check.probe {
            Probe::Tcp => connect(to).await.map(|_| ()),
            Probe::Udp { send, receive } => udp(to, send, receive).await,
            Probe::Http(http) => http::probe(to, http, &self.tls).await,
            Probe::Sctp => self.inits.probe(to).await,
            Probe::Ping => self.pings.probe(to.ip()).await,
        }
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    TcpStream::connect(to).await.map_err(|error| Failure::of("connect", &error))
}

async fn udp(to: SocketAddr, send: &[u8], receive: &[u8]) -> Result<(), Failure> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(|error| Failure::of("socket", &error))?;
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
