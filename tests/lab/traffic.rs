//! The client: what it asks for, and its own ledger of it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::net::{Namespace, connect_from};
use crate::servers::{BODY_SIZES, body, get};
use crate::topology::{Service, clients};

/// Fetches `requests` pages of all sizes, four at a time, from both client addresses in turn; checks every body. How many
/// pages each server has sent.
pub fn fetch(client: &Namespace, service: &Service, requests: usize) -> BTreeMap<String, usize> {
    let (next, servers) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let to = SocketAddr::new(service.address(), service.port);
    let one = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= requests {
                return;
            }
            let size = BODY_SIZES[i % BODY_SIZES.len()];
            let source = clients(to.is_ipv4())[i / BODY_SIZES.len() % 2];
            let page = get(source, to, &format!("/{size}"), Duration::from_secs(20))
                .unwrap_or_else(|e| panic!("request {i}, {size} bytes from {to}: {e}"));
            assert!(
                page.body == body(&page.server, size),
                "request {i}: not the {size} bytes of {:?}",
                page.server
            );
            *servers.lock().expect("no panic").entry(page.server).or_default() += 1;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| client.inside(one));
        }
    });
    servers.into_inner().expect("no panic")
}

/// Sends datagrams of all sizes up to the MTU from `sockets` sockets, ten each, and checks that each comes back.
pub fn echo(client: &Namespace, service: &Service, sockets: usize) {
    let to = SocketAddr::new(service.address(), service.port);
    let most = if to.is_ipv4() { 1472 } else { 1452 };
    client.inside(|| {
        for s in 0..sockets {
            let socket = UdpSocket::bind((clients(to.is_ipv4())[s % 2], 0)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket.connect(to).expect("a route");
            for i in 0..10 {
                let sent = body("client", if i == 9 { most } else { (s * 10 + i) * most / (sockets * 10) });
                let mut got = [0; 2048];
                socket.send(&sent).unwrap_or_else(|e| panic!("datagram to {to}: {e}"));
                let n = socket
                    .recv(&mut got)
                    .unwrap_or_else(|e| panic!("{} bytes to {to}: no echo: {e}", sent.len()));
                assert!(got[..n] == sent[..], "the echo of {} bytes from {to} differs", sent.len());
            }
        }
    });
}

/// Connects `times` times where each attempt must be refused at once.
pub fn expect_refused(client: &Namespace, service: &Service, times: usize) {
    let to = SocketAddr::new(service.address(), service.port);
    client.inside(|| {
        for i in 0..times {
            let source = clients(to.is_ipv4())[i % 2];
            let error = connect_from(source, to, Duration::from_secs(5)).expect_err("nobody listens");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{to}: {error}");
        }
    });
}

/// Sends `times` datagrams that nobody will answer.
pub fn send_into_the_void(client: &Namespace, to: SocketAddr, times: usize) {
    client.inside(|| {
        let socket = UdpSocket::bind((clients(to.is_ipv4())[0], 0)).expect("a socket");
        for _ in 0..times {
            socket.send_to(b"nobody hears", to).expect("a route");
        }
    });
}
