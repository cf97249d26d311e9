//! tcpdump on a wire, and a reader of what it wrote that shares no code with the engine.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::{Namespace, signal};

/// IP protocol numbers.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

/// A TCP or UDP packet on a wire.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Microseconds since the epoch.
    pub time_us: u64,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    /// IP header and everything after it, as the IP header says.
    pub bytes: u64,
}

/// A running tcpdump.
pub struct Capture {
    child: Child,
    stderr: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Capture {
    /// Starts capturing all IP on an interface, headers and little more; returns once tcpdump listens.
    pub fn start(ns: &Namespace, interface: &str, file: PathBuf) -> Self {
        Self::start_with(ns, interface, file, "128")
    }

    /// The same with whole packets.
    #[allow(dead_code, reason = "not every lab looks at payloads")]
    pub fn start_whole(ns: &Namespace, interface: &str, file: PathBuf) -> Self {
        Self::start_with(ns, interface, file, "0")
    }

    fn start_with(ns: &Namespace, interface: &str, file: PathBuf, snapshot: &str) -> Self {
        let mut child = ns
            .command("tcpdump")
            .args([
                "-i",
                interface,
                "-n",
                "-s",
                snapshot,
                "-B",
                "65536",
                "--immediate-mode",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file)
            .arg("ip or ip6")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        while !said.contains("listening on") {
            let n = stderr.read_line(&mut said).expect("tcpdump's words");
            assert!(n > 0, "tcpdump on {interface} ended: {said}");
        }
        Self { child, stderr, file }
    }

    /// Stops it; all TCP and UDP packets in the order of their capture. Panics if the kernel kept any from tcpdump.
    pub fn stop(self) -> Vec<Packet> {
        let frames = self.stop_frames();
        frames.iter().filter_map(|(time_us, frame)| dissect(*time_us, frame)).collect()
    }

    /// Stops it; all frames as they were captured, with their times in microseconds since the epoch.
    pub fn stop_frames(mut self) -> Vec<(u64, Vec<u8>)> {
        self.catch_up();
        signal(self.child.id(), Signal::INT);
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("tcpdump's words");
        assert!(self.child.wait().expect("tcpdump ends").success(), "tcpdump: {said}");
        assert!(
            said.contains("\n0 packets dropped by kernel"),
            "the capture is incomplete and proves nothing: {said}"
        );
        read(&std::fs::read(&self.file).expect("tcpdump's file"))
    }
}

impl Capture {
    /// Waits until tcpdump has taken all that the kernel holds for it: when it is told to end it leaves the rest there.
    fn catch_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            signal(self.child.id(), Signal::USR1);
            let mut said = String::new();
            let n = self.stderr.read_line(&mut said).expect("tcpdump's words");
            assert!(n > 0, "tcpdump ended by itself");
            let counts: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
            match counts[..] {
                [captured, received, _] if captured == received => return,
                _ => assert!(Instant::now() < deadline, "tcpdump does not catch up: {said}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pcap file in this machine's byte order, microseconds, Ethernet: what tcpdump writes here.
fn read(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1), "not a microsecond Ethernet pcap");
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let time_us = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        let captured = word(at + 8) as usize;
        at += 16;
        packets.push((time_us, file[at..at + captured].to_vec()));
        at += captured;
    }
    packets
}

fn dissect(time_us: u64, frame: &[u8]) -> Option<Packet> {
    let u16_at = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let ip = &frame[14..];
    let (protocol, source, destination, bytes, l4) = match u16_at(frame, 12) {
        0x0800 => {
            let [source, destination] =
                [12, 16].map(|at| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]).into());
            assert_eq!(u16_at(ip, 6) & 0x3fff, 0, "a fragment on the wire");
            (ip[9], source, destination, u64::from(u16_at(ip, 2)), usize::from(ip[0] & 15) * 4)
        }
        0x86dd => {
            let [source, destination]: [IpAddr; 2] = [8, 24].map(|at| {
                let octets: [u8; 16] = ip[at..at + 16].try_into().expect("sixteen bytes");
                Ipv6Addr::from(octets).into()
            });
            (ip[6], source, destination, u64::from(u16_at(ip, 4)) + 40, 40)
        }
        other => panic!("EtherType {other:#06x} past the filter"),
    };
    matches!(protocol, TCP | UDP).then(|| Packet {
        time_us,
        source,
        destination,
        protocol,
        source_port: u16_at(ip, l4),
        destination_port: u16_at(ip, l4 + 2),
        bytes,
    })
}
