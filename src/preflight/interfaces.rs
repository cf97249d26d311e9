//! Interfaces of the kernel's that ports work on, and what the kernel needs for its side of a port.

use super::{Finding, Machine};
use crate::config::{Config, Port};
use crate::engine::device::kernel_interface;

/// DPDK's, of net_af_packet.
const DEFAULT_FRAMECNT: u32 = 512;
/// Frames that the kernel's ring should hold: a burst of a few milliseconds at 1 Mpps.
const FRAMECNT: u32 = 4096;

pub(super) fn check(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Of the calling process's own network namespace, unlike /sys/class/net.
    let known = machine.text("/proc/self/net/dev").unwrap_or_default();
    for port in &config.ports {
        let Some(interface) = kernel_interface(&port.device) else { continue };
        let subject = format!("port {}: interface", port.name);
        let there =
            known.lines().any(|line| line.split(':').next().is_some_and(|name| name.trim() == interface));
        findings.push(if there {
            Finding::ok(subject, interface)
        } else {
            let cure = "ip link shows those there are: change iface= in the port's device";
            Finding::lacks(subject, format!("{interface} does not exist"), cure)
        });
        findings.extend(ring(port));
    }
    let taps: Vec<_> = config.ports.iter().filter(|port| port.kernel.is_some()).collect();
    if !findings.is_empty() {
        findings.push(guard(machine, !taps.is_empty()));
    }
    if !taps.is_empty() {
        findings.push(tun(machine));
        findings.push(managed_neighbours(machine));
    }
    findings
}

/// What the kernel's ring cannot take is lost, and the driver does not say so.
fn ring(port: &Port) -> Option<Finding> {
    if !port.device.starts_with("net_af_packet") && !port.device.starts_with("eth_af_packet") {
        return None;
    }
    let given = port.device.split(',').find_map(|argument| argument.strip_prefix("framecnt="));
    let frames = given.and_then(|given| given.parse().ok()).unwrap_or(DEFAULT_FRAMECNT);
    let subject = format!("port {}: framecnt", port.name);
    Some(if frames < FRAMECNT {
        let found = format!(
            "the kernel's ring holds {frames} frames, and loses without a word what comes when it is full"
        );
        Finding::warn(
            subject,
            found,
            "add framecnt=8192,blocksz=4096 to the port's device (16 MiB for each direction)",
        )
    } else {
        Finding::ok(subject, frames.to_string())
    })
}

/// The kernel would answer beside the engine.
fn guard(machine: &Machine, needed: bool) -> Finding {
    let subject = "nft";
    if ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].iter().any(|path| machine.has(path)) {
        return Finding::ok(subject, "there");
    }
    let (found, cure) = (
        "not installed: nothing keeps the kernel from answering on the ports' interfaces",
        "apt install nftables",
    );
    if needed { Finding::lacks(subject, found, cure) } else { Finding::warn(subject, found, cure) }
}

fn tun(machine: &Machine) -> Finding {
    if machine.has("/dev/net/tun") {
        Finding::ok("TAP", "/dev/net/tun")
    } else {
        Finding::lacks("TAP", "there is no /dev/net/tun, and ports with kernel = need it", "modprobe tun")
    }
}

/// `NTF_EXT_MANAGED`.
fn managed_neighbours(machine: &Machine) -> Finding {
    let subject = "kernel";
    let release = machine.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version >= (5, 16) {
        Finding::ok(subject, release)
    } else {
        let found = format!("Linux {release} has no managed neighbours: those of quiet endpoints go stale");
        Finding::warn(subject, found, "Linux 5.16 or newer")
    }
}
