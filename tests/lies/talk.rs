//! Connections of the kernel's through the engine: each says something all the time, and hears it back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pollux::addr::Addr;

use crate::liar::Tuple;
use crate::net::{Namespace, connect_from};

const CLIENT: &str = "203.0.113.10";
const SERVICE: &str = "203.0.113.200:80";
const SERVER: (&str, u16) = ("10.1.0.11", 8080);
/// Between two words of a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection that hears nothing for so long is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connections.
pub struct Talk {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Result<(), String>>>,
    tuples: Vec<Tuple>,
    ended: Arc<AtomicUsize>,
}

impl Talk {
    /// Opens so many, and has each say something.
    pub fn start(client: &Namespace, server: &Namespace, connections: usize) -> Self {
        let listener = server.inside(|| TcpListener::bind(SERVER).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut bytes = [0; 8192];
                    while let Ok(n @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..n]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let service: SocketAddr = SERVICE.parse().unwrap();
        let streams: Vec<TcpStream> = client.inside(|| {
            (0..connections)
                .map(|i| {
                    connect_from(CLIENT.parse().unwrap(), service, PATIENCE)
                        .unwrap_or_else(|error| panic!("connection {i}: {error}"))
                })
                .collect()
        });
        let address = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().unwrap());
        let tuples = streams
            .iter()
            .flat_map(|stream| {
                let port = stream.local_addr().unwrap().port();
                [
                    (address(CLIENT), port, Addr::from(service.ip()), service.port()),
                    (address(SERVER.0), SERVER.1, address(CLIENT), port),
                ]
            })
            .collect();
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let rounds: Vec<_> = streams.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        let threads = streams
            .into_iter()
            .zip(&rounds)
            .enumerate()
            .map(|(i, (stream, rounds))| {
                let (stop, ended, rounds) = (Arc::clone(&stop), Arc::clone(&ended), Arc::clone(rounds));
                std::thread::spawn(move || {
                    let outcome = converse(stream, i, &stop, &rounds);
                    ended.fetch_add(usize::from(!stop.load(Ordering::Relaxed)), Ordering::Relaxed);
                    outcome.map_err(|error| format!("connection {i}: {error}"))
                })
            })
            .collect();
        let talk = Self { stop, rounds, threads, tuples, ended };
        crate::rig::wait_until("everybody says something", 20, || talk.rounds().iter().all(|n| *n > 0));
        talk
    }

    /// Of both directions.
    pub fn tuples(&self) -> Vec<Tuple> {
        self.tuples.clone()
    }

    /// What each has said and heard so far.
    pub fn rounds(&self) -> Vec<u64> {
        self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).collect()
    }

    /// Panics where one has ended.
    pub fn assert_alive(&mut self) {
        if self.ended.load(Ordering::Relaxed) == 0 {
            return;
        }
        let ended = self.threads.extract_if(.., |thread| thread.is_finished());
        let said: Vec<_> = ended.filter_map(|thread| thread.join().unwrap().err()).collect();
        panic!("lost: {said:?}");
    }

    /// Closes all; how many came to a good end.
    pub fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let outcomes = self.threads.into_iter().map(|thread| thread.join().unwrap());
        outcomes.inspect(|outcome| assert_eq!(*outcome, Ok(()))).count()
    }
}

/// Until told to stop, then FIN and FIN.
fn converse(
    mut stream: TcpStream,
    number: usize,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Result<(), std::io::Error> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut heard = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let round = rounds.load(Ordering::Relaxed) as usize;
        let said: Vec<u8> =
            (0..1 + (round * 331 + number) % 4000).map(|i| (i + round + number) as u8).collect();
        stream.write_all(&said)?;
        stream.read_exact(&mut heard[..said.len()])?;
        if heard[..said.len()] != said {
            return Err(std::io::Error::other(format!("hears something else than it said, round {round}")));
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    match stream.read(&mut heard)? {
        0 => Ok(()),
        n => Err(std::io::Error::other(format!("{n} bytes that nobody has said"))),
    }
}
