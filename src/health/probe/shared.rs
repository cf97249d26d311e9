//! One socket for all probes of a kind and family: a raw socket gets everything of its protocol, so that a thousand of them would each
//! get the answers to all others.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use tokio::net::UdpSocket;
use tokio::sync::{OnceCell, oneshot};
use tokio::task::AbortHandle;

use super::Failure;

/// What comes from whom: a key of who waits for it, and what to tell.
pub(super) type Reader<K, T> = fn(IpAddr, &[u8]) -> Option<(K, T)>;

/// A socket for each family, opened when it is first needed.
#[derive(Debug)]
pub(super) struct Shared<K, T> {
    sockets: [OnceCell<Line>; 2],
    waiting: Arc<Mutex<HashMap<K, oneshot::Sender<T>>>>,
}

#[derive(Debug)]
struct Line {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Waits for an answer, and is forgotten when it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<K: Eq + Hash, T> {
    key: K,
    answer: oneshot::Receiver<T>,
    all: Arc<Mutex<HashMap<K, oneshot::Sender<T>>>>,
}

impl<K: Eq + Hash, T> Drop for Waiting<K, T> {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.key);
    }
}

impl<K: Eq + Hash, T> Waiting<K, T> {
    pub async fn answer(&mut self) -> Result<T, Failure> {
        (&mut self.answer).await.map_err(|_| Failure::Unable("the socket is gone".to_owned()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a socket is opened: the first of these that the kernel allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub kind: SocketType,
    pub protocol: Protocol,
    /// Whether the kernel gives IPv4 packets with their header (raw(7)).
    pub with_header: bool,
}

impl<K, T> Shared<K, T>
where
    K: Eq + Hash + Copy + Send + 'static,
    T: Send + 'static,
{
    pub fn new() -> Self {
        Self { sockets: [OnceCell::new(), OnceCell::new()], waiting: Arc::default() }
    }

    /// The socket of a family.
    pub async fn socket(&self, v4: bool, ways: &[Way], reader: Reader<K, T>) -> Result<&UdpSocket, Failure> {
        let open = || async { self.open(v4, ways, reader) };
        let line = self.sockets[usize::from(v4)].get_or_try_init(open).await.map_err(|error| {
            Failure::Unable(match error.kind() {
                io::ErrorKind::PermissionDenied => format!("a raw socket takes CAP_NET_RAW: {error}"),
                _ => format!("raw socket: {error}"),
            })
        })?;
        Ok(&line.socket)
    }

    fn open(&self, v4: bool, ways: &[Way], reader: Reader<K, T>) -> io::Result<Line> {
        let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let mut refused = io::Error::from(io::ErrorKind::Unsupported);
        for way in ways {
            match socket_with(family, way.kind, flags, Some(way.protocol)) {
                Ok(fd) => {
                    // The same calls as on a UDP socket.
                    let socket = Arc::new(UdpSocket::from_std(StdSocket::from(fd))?);
                    let waiting = Arc::clone(&self.waiting);
                    let read = listen(Arc::clone(&socket), waiting, v4 && way.with_header, reader);
                    let reader = tokio::spawn(read).abort_handle();
                    return Ok(Line { socket, reader });
                }
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }

    /// From now on an answer with this key is waited for.
    pub fn wait(&self, key: K) -> Waiting<K, T> {
        let (tell, answer) = oneshot::channel();
        lock(&self.waiting).insert(key, tell);
        Waiting { key, answer, all: Arc::clone(&self.waiting) }
    }
}

async fn listen<K: Eq + Hash, T>(
    socket: Arc<UdpSocket>,
    waiting: Arc<Mutex<HashMap<K, oneshot::Sender<T>>>>,
    with_header: bool,
    reader: Reader<K, T>,
) {
    let mut buffer = vec![0; 65_535];
    loop {
        // Errors are those of what was sent: of an address that cannot be reached, say.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        let mut packet = &buffer[..len];
        if with_header {
            let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
            packet = packet.get(header..).unwrap_or_default();
        }
        if let Some((key, answer)) = reader(from.ip(), packet)
            && let Some(tell) = lock(&waiting).remove(&key)
        {
            // Who has asked may have gone meanwhile.
            let _ = tell.send(answer);
        }
    }
}

/// Where a packet of a protocol without ports goes.
pub(super) fn portless(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 0)
}
