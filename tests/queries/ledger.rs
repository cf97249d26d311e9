//! What clients and endpoints saw: counted where frames come out of the engine, and shown to Prometheus beside the engine's figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Service, protocol, client, endpoint; packets and L3 bytes.
pub struct Pair {
    pub service: &'static str,
    pub protocol: &'static str,
    pub sip: Ipv4Addr,
    pub dip: Ipv4Addr,
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Default)]
pub struct Counts {
    pub pairs: Vec<Pair>,
    /// First packets of connections, and those that were refused, by service.
    pub requests: BTreeMap<&'static str, (u64, u64)>,
    /// Echo requests that a firewall rule is against.
    pub pings: u64,
    /// Connections that are open, by protocol.
    pub open: BTreeMap<&'static str, u64>,
}

/// Shared with the thread that shows it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Counts>>);

impl Ledger {
    pub fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves it, as long as the process lives.
    pub fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let request = BufReader::new(&stream).lines().map_while(Result::ok);
                request.take_while(|line| !line.is_empty()).for_each(drop);
                let page = ledger.lock().page();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{page}",
                    page.len()
                );
            }
        });
        address
    }
}

impl Counts {
    fn page(&self) -> String {
        let mut page = String::new();
        let mut all = (0, 0);
        for (name, (requests, errors)) in &self.requests {
            let _ = writeln!(page, "ledger_requests{{service=\"{name}\"}} {requests}");
            let _ = writeln!(page, "ledger_errors{{service=\"{name}\"}} {errors}");
            all = (all.0 + requests, all.1 + errors);
        }
        let _ = writeln!(page, "ledger_all_requests {}\nledger_all_errors {}", all.0, all.1);
        for Pair { service, protocol, sip, dip, packets, bytes } in &self.pairs {
            let labels = format!("service=\"{service}\",protocol=\"{protocol}\",sip=\"{sip}\",dip=\"{dip}\"");
            let _ = writeln!(page, "ledger_packets{{{labels}}} {packets}");
            let _ = writeln!(page, "ledger_bytes{{{labels}}} {bytes}");
        }
        let (packets, bytes) = self.sum();
        let _ = writeln!(page, "ledger_all_packets {packets}\nledger_all_bytes {bytes}");
        let _ = writeln!(page, "ledger_drops{{fw_rule=\"block_icmp\"}} {}", self.pings);
        for (protocol, open) in &self.open {
            let _ = writeln!(page, "ledger_open{{protocol=\"{protocol}\"}} {open}");
        }
        page
    }

    /// Packets and bytes over all pairs.
    pub fn sum(&self) -> (u64, u64) {
        self.pairs.iter().fold((0, 0), |sum, pair| (sum.0 + pair.packets, sum.1 + pair.bytes))
    }
}
