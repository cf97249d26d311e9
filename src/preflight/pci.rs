//! PCI devices: that they are there, DPDK's to use, and behind an IOMMU.

use std::path::{Path, PathBuf};

use super::{Finding, Machine};
use crate::config::Config;
use crate::engine::device::{Name, full_address};

const DEVICES: &str = "/sys/bus/pci/devices";
/// DPDK drives these through their kernel drivers, which stay.
const BIFURCATED: [&str; 2] = ["mlx5_core", "mlx4_core"];
/// Without an IOMMU between the device and the memory.
const UNPROTECTED: [&str; 2] = ["igb_uio", "uio_pci_generic"];

/// Ports on PCI devices, with their full addresses.
pub(super) fn addresses(config: &Config) -> impl Iterator<Item = (&str, String)> {
    config.ports.iter().filter_map(|port| match Name::parse(&port.device) {
        Name::Pci(address) => Some((port.name.as_str(), full_address(address))),
        Name::Vdev(..) => None,
    })
}

/// The node of a device; none where the kernel does not know.
pub(super) fn node(machine: &Machine, address: &str) -> Option<usize> {
    // −1: unknown.
    machine.text(at(address).join("numa_node"))?.parse().ok()
}

fn at(address: &str) -> PathBuf {
    Path::new(DEVICES).join(address)
}

pub(super) fn check(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (port, address) in addresses(config) {
        findings.push(driver(machine, port, &address));
        if machine.link(at(&address).join("driver")).as_deref() == Some("vfio-pci") {
            findings.push(group(machine, port, &address));
        }
    }
    if !findings.is_empty() {
        findings.insert(0, iommu(machine));
    }
    findings
}

fn iommu(machine: &Machine) -> Finding {
    let subject = "IOMMU";
    if !machine.names("/sys/class/iommu").is_empty() {
        return Finding::ok(subject, "on");
    }
    let unsafe_mode = machine.text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    let amd = machine.text("/proc/cpuinfo").is_some_and(|cpus| cpus.contains("AuthenticAMD"));
    let words = if amd { "iommu=pt" } else { "intel_iommu=on iommu=pt" };
    let cure = format!(
        "turn it on in the firmware (VT-d, AMD-Vi), add {words} to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot"
    );
    match unsafe_mode.as_deref() {
        Some("Y" | "1") => {
            Finding::warn(subject, "none: VFIO works without, and a device can write anywhere", cure)
        }
        _ => Finding::lacks(subject, "none, and vfio-pci wants one", cure),
    }
}

fn driver(machine: &Machine, port: &str, address: &str) -> Finding {
    let subject = format!("port {port}: driver");
    if !machine.has(at(address)) {
        return Finding::lacks(
            subject,
            format!("there is no PCI device {address}"),
            "lspci -D shows those there are",
        );
    }
    let bind = format!("modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci {address}");
    let Some(driver) = machine.link(at(address).join("driver")) else {
        return Finding::lacks(subject, format!("{address} is bound to none"), bind);
    };
    let found = format!("{address} is bound to {driver}");
    match driver.as_str() {
        "vfio-pci" => Finding::ok(subject, found),
        bifurcated if BIFURCATED.contains(&bifurcated) => {
            if machine.names("/sys/class/infiniband_verbs").is_empty() {
                let module = bifurcated.replace("core", "ib");
                let found = format!("{found}, but there are no verbs devices, through which DPDK uses it");
                return Finding::lacks(subject, found, format!("modprobe -a ib_uverbs {module}"));
            }
            Finding::ok(subject, format!("{found}, through which DPDK uses it"))
        }
        unprotected if UNPROTECTED.contains(&unprotected) => {
            Finding::warn(subject, format!("{found}, which protects no memory from the device"), bind)
        }
        _ => {
            let interfaces = machine.names(at(address).join("net"));
            let found = match &interfaces[..] {
                [] => found,
                names => format!("{found}; its interface {} leaves the kernel", names.join(", ")),
            };
            Finding::lacks(subject, found, bind)
        }
    }
}

/// VFIO gives a group to user space as a whole.
fn group(machine: &Machine, port: &str, address: &str) -> Finding {
    let subject = format!("port {port}: IOMMU group");
    let Some(group) = machine.link(at(address).join("iommu_group")) else {
        // With noiommu there are none.
        return Finding::ok(subject, "none");
    };
    let ours = |driver: Option<String>| match driver.as_deref() {
        None => true,
        Some(driver) => driver == "vfio-pci" || driver == "pcieport" || driver == "pci-stub",
    };
    let others: Vec<_> = machine
        .names(at(address).join("iommu_group/devices"))
        .into_iter()
        .filter(|other| !ours(machine.link(at(other).join("driver"))))
        .collect();
    if !others.is_empty() {
        let list = others.join(" ");
        let found = format!("group {group} has devices that the kernel drives: {list}");
        return Finding::lacks(subject, found, format!("dpdk-devbind.py --bind=vfio-pci {list}"));
    }
    let file = format!("/dev/vfio/{group}");
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    if rustix::fs::access(machine.path(&file), access).is_err() {
        let cure = format!(
            "chown pollux {file}, or the rule of the package (/usr/lib/udev/rules.d/60-pollux.rules)"
        );
        return Finding::lacks(subject, format!("{file} is not readable and writable to this user"), cure);
    }
    Finding::ok(subject, format!("{group}, {file} may be opened"))
}
