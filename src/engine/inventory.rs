//! What each device gave at the start, and what is left to software: a table for who starts the engine.

use std::fmt::Write as _;

use super::PortStatus;
use crate::dpdk::Rss;

/// One line a port, under a line of headings.
pub(super) fn table(ports: &[PortStatus]) -> String {
    let headings = ["port", "device", "queues", "descriptors", "MTU", "link", "by the device", "in software"];
    let mut rows = vec![headings.map(str::to_owned)];
    rows.extend(ports.iter().map(row));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("pollux:");
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "  {cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(port: &PortStatus) -> [String; 8] {
    let granted = port.granted;
    let (mut device, mut software) = (Vec::new(), Vec::new());
    let mut split = |by_device: bool, what: &'static str| {
        if by_device { device.push(what) } else { software.push(what) }
    };
    split(granted.rx_ipv4_checksum, "IPv4 checksum");
    split(granted.tx_sctp_crc, "SCTP CRC32c");
    if port.vlan != 0 {
        split(false, "VLAN tag");
    }
    match granted.rss {
        Rss::Client => device.insert(0, "RSS by client"),
        Rss::Tuple => device.insert(0, "RSS"),
        Rss::None => {}
    }
    if !port.steered {
        software.insert(0, "hand-off");
    }
    let list = |what: Vec<&str>| if what.is_empty() { "-".to_owned() } else { what.join(", ") };
    let vlan = if port.vlan == 0 { String::new() } else { format!(" VLAN {}", port.vlan) };
    let shared = if port.shared { ", shared" } else { "" };
    // A DPDK name says its driver; a PCI address does not.
    let name = if port.device.starts_with(&port.driver) {
        port.device.clone()
    } else {
        format!("{} {}", port.driver, port.device)
    };
    [
        port.name.clone(),
        format!("{name}{vlan}{shared}"),
        format!("{} RX, {} TX", port.rx_queues, port.tx_queues),
        format!("{} RX, {} TX", granted.rx_descriptors, granted.tx_descriptors),
        granted.mtu.map_or_else(|| "-".into(), |mtu| mtu.to_string()),
        if port.link_up { "link up" } else { "link down" }.into(),
        list(device),
        list(software),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Mac;
    use crate::dpdk::{Granted, PortStats};

    fn port(name: &str, rx_queues: u16, granted: Granted) -> PortStatus {
        PortStatus {
            name: name.into(),
            device: "net_tap0".into(),
            driver: "net_tap".into(),
            mac: Mac::default(),
            rx_queues,
            tx_queues: 1,
            granted,
            steered: rx_queues == 1,
            vlan: 0,
            shared: false,
            link_up: true,
            stats: PortStats::default(),
        }
    }

    #[test]
    fn what_the_device_does_not_do_is_done_in_software() {
        let none = Granted { rx_descriptors: 512, tx_descriptors: 256, ..Granted::default() };
        let all =
            Granted { mtu: Some(9000), rss: Rss::Client, rx_ipv4_checksum: true, tx_sctp_crc: true, ..none };
        let some = Granted { rss: Rss::Tuple, ..none };
        let tagged = PortStatus { vlan: 7, shared: true, link_up: false, ..port("b", 1, none) };
        let pci = PortStatus {
            device: "0000:3b:00.0".into(),
            driver: "net_mlx5".into(),
            steered: true,
            ..port("nic", 4, all)
        };
        let text = table(&[port("a", 2, none), tagged, pci, port("c", 2, some)]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(
            lines[1..],
            [
                vec![
                    "pollux:",
                    "a",
                    "net_tap0",
                    "2 RX, 1 TX",
                    "512 RX, 256 TX",
                    "-",
                    "link up",
                    "-",
                    "hand-off, IPv4 checksum, SCTP CRC32c"
                ],
                vec![
                    "pollux:",
                    "b",
                    "net_tap0 VLAN 7, shared",
                    "1 RX, 1 TX",
                    "512 RX, 256 TX",
                    "-",
                    "link down",
                    "-",
                    "IPv4 checksum, SCTP CRC32c, VLAN tag"
                ],
                vec![
                    "pollux:",
                    "nic",
                    "net_mlx5 0000:3b:00.0",
                    "4 RX, 1 TX",
                    "512 RX, 256 TX",
                    "9000",
                    "link up",
                    "RSS by client, IPv4 checksum, SCTP CRC32c",
                    "-"
                ],
                vec![
                    "pollux:",
                    "c",
                    "net_tap0",
                    "2 RX, 1 TX",
                    "512 RX, 256 TX",
                    "-",
                    "link up",
                    "RSS",
                    "hand-off, IPv4 checksum, SCTP CRC32c"
                ],
            ]
        );
    }
}
