//! Clients that never rest: some keep their connections, some open a new one for each request. All of it is written down.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::net::{Namespace, connect_from};

/// Threads that keep connections, connections of each, and threads that open new ones.
const KEEPERS: usize = 4;
const KEPT: usize = 8;
const OPENERS: usize = 3;
/// Between two requests of a thread.
const PAUSE: Duration = Duration::from_millis(4);
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Who has answered, or answered before on the connection; none: nobody yet.
    pub server: Option<Arc<str>>,
    /// The first of its connection.
    pub first: bool,
    pub began: Instant,
    pub ended: Instant,
    pub outcome: Result<(), String>,
}

/// All that was asked.
#[derive(Debug, Default)]
pub struct Ledger {
    pub requests: Vec<Request>,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Request>>>,
}

impl Load {
    /// Starts them in a namespace.
    pub fn start(ns: &Namespace, source: IpAddr, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        ns.inside(|| {
            // Threads are born in the namespace of who starts them.
            for n in 0..KEEPERS + OPENERS {
                let stop = Arc::clone(&stop);
                let connections = if n < KEEPERS { KEPT } else { 0 };
                load.threads.push(std::thread::spawn(move || work(source, to, connections, &stop)));
            }
        });
        load
    }

    /// Ends them: their ledger.
    pub fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let requests = self.threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect();
        Ledger { requests }
    }
}

/// A client with so many connections that it keeps; 0: each request has its own.
fn work(source: IpAddr, to: SocketAddr, connections: usize, stop: &AtomicBool) -> Vec<Request> {
    let mut kept: Vec<Option<Connection>> = (0..connections.max(1)).map(|_| None).collect();
    let mut ledger = Vec::new();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let place = turn % kept.len();
        let mut connection = kept[place].take();
        let first = connection.is_none();
        let server = connection.as_ref().and_then(|c| c.server.clone());
        let began = Instant::now();
        let outcome = ask(source, to, &mut connection);
        let server = connection.as_ref().and_then(|c| c.server.clone()).or(server);
        if outcome.is_ok() && connections > 0 {
            kept[place] = connection;
        }
        ledger.push(Request { server, first, began, ended: Instant::now(), outcome });
        std::thread::sleep(PAUSE);
    }
    ledger
}

struct Connection {
    stream: BufReader<TcpStream>,
    server: Option<Arc<str>>,
}

fn ask(source: IpAddr, to: SocketAddr, connection: &mut Option<Connection>) -> Result<(), String> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let stream = connect_from(source, to, PATIENCE).map_err(|e| format!("connect: {e}"))?;
            connection.insert(Connection { stream: BufReader::new(stream), server: None })
        }
    };
    let request = b"GET /page HTTP/1.1\r\nHost: lab\r\n\r\n";
    connection.stream.get_mut().write_all(request).map_err(|e| format!("request: {e}"))?;
    let (mut status, mut length, mut server) = (String::new(), 0, None);
    loop {
        let mut line = String::new();
        let read = connection.stream.read_line(&mut line).map_err(|e| format!("answer: {e}"))?;
        if read == 0 {
            return Err("answer: closed".into());
        }
        let line = line.trim_end();
        if status.is_empty() {
            status = line.to_owned();
        } else if line.is_empty() {
            break;
        } else if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse().map_err(|e| format!("{line}: {e}"))?;
        } else if let Some(value) = line.strip_prefix("X-Server: ") {
            server = Some(Arc::from(value));
        }
    }
    let mut body = vec![0; length];
    connection.stream.read_exact(&mut body).map_err(|e| format!("body: {e}"))?;
    let known = connection.server.take();
    if status != "HTTP/1.1 200 OK" || length != 1000 || known.is_some() && known != server {
        return Err(format!("{status}, {length} bytes, of {server:?} after {known:?}"));
    }
    connection.server = server;
    Ok(())
}
