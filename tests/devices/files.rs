//! Frames in files, for devices that have no other end.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use pollux::pcap::PcapWriter;

use crate::engine::METRICS;
use crate::net::Namespace;
use crate::scrape::Scrape;
use crate::topology::{CLIENT, SERVER};

/// Nobody answers ARP in a file.
pub const NEIGHBORS: &str = "[[neighbor]]\naddress = \"10.1.0.11\"\nmac = \"02:00:00:00:00:11\"\nport = \"lan\"\n\
    [[neighbor]]\naddress = \"203.0.113.10\"\nmac = \"02:00:00:00:00:10\"\nport = \"wan\"\n";
/// The MAC that DPDK gives the first pcap device.
const MAC: [u8; 6] = [0x02, 0x70, 0x63, 0x61, 0x70, 0x00];

/// A UDP datagram without checksum in a frame, tagged where `vlan` is not 0.
fn frame(vlan: u16, from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let mut frame = [MAC, [0x02, 0, 0, 0, 0, 0x10]].concat();
    if vlan != 0 {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x08, 0x00]);
    let payload = b"a datagram in a file";
    let len = 28 + payload.len() as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    for address in [from.0, to.0] {
        ip.extend(address.parse::<Ipv4Addr>().expect("an address").octets());
    }
    let sum: u32 = ip.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    for word in [from.1, to.1, len - 20, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

/// Datagrams of so many connections to the VIP.
pub fn requests(vlan: u16, count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|i| frame(vlan, (CLIENT, 30_000 + i), ("203.0.113.100", 7))).collect()
}

/// The server's answers to them.
pub fn answers(vlan: u16, count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|i| frame(vlan, (SERVER, 7), (CLIENT, 30_000 + i))).collect()
}

/// Writes a capture.
pub fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).expect("a file")).expect("a capture");
    for (i, frame) in frames.iter().enumerate() {
        writer.write(i as u64 * 1000, frame.len() as u32, frame).expect("a frame");
    }
}

/// VLAN and destination of the IPv4 packets in a capture that DPDK wrote: this machine's byte order, Ethernet.
pub fn read(path: &Path) -> Vec<(u16, IpAddr)> {
    let file = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let len = u32::from_ne_bytes(file[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        let frame = &file[at + 16..at + 16 + len];
        let vlan = if frame[12..14] == [0x81, 0] { u16::from_be_bytes([frame[14], frame[15]]) } else { 0 };
        let ip = if vlan == 0 { &frame[12..] } else { &frame[16..] };
        if ip[..2] == [8, 0] {
            let to: [u8; 4] = ip[18..22].try_into().expect("four bytes");
            packets.push((vlan, Ipv4Addr::from(to).into()));
        }
        at += 16 + len;
    }
    packets
}

/// A snapshot in which so many packets were forwarded, and no more.
pub fn wait_for_processed(ns: &Namespace, packets: u32) -> Scrape {
    wait_for(ns, "processed_packets_total", packets)
}

/// A snapshot in which a family has counted so many, and no more.
pub fn wait_for(ns: &Namespace, family: &str, packets: u32) -> Scrape {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let scrape = Scrape::fetch(ns, METRICS);
        let counted = scrape.sum(family);
        if counted == f64::from(packets) {
            return scrape;
        }
        assert!(
            counted < f64::from(packets) && Instant::now() < deadline,
            "{family}: {counted} of {packets}: {:?}",
            scrape
                .family("pollux_dropped_packets_total")
                .iter()
                .filter(|(_, n)| *n > 0.0)
                .collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
