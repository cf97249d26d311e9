//! From `port.device` to a device of DPDK, with what is missing on this machine said before DPDK says it less clearly.

use std::fs;
use std::path::Path;

use super::EngineError;
use crate::config::{Port, Role};
use crate::conntrack::Conntrack;
use crate::control::is_abandoned;
use crate::dpdk::{Device, Eal};
use crate::preflight::{Capability, Machine, NET_ADMIN, NET_RAW, Pages};

/// What `port.device` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// A PCI address.
    Pci(&'a str),
    /// A virtual device: its name and arguments.
    Vdev(&'a str, &'a str),
}

impl<'a> Name<'a> {
    /// `0000:3b:00.0` and `3b:00.0` are PCI addresses, anything else is a vdev.
    pub fn parse(device: &'a str) -> Self {
        if is_pci(device) {
            return Self::Pci(device);
        }
        match device.split_once(',') {
            Some((name, arguments)) => Self::Vdev(name, arguments),
            None => Self::Vdev(device, ""),
        }
    }
}

fn is_pci(device: &str) -> bool {
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let short = |text: &str| {
        text.split_once(':').is_some_and(|(bus, rest)| {
            hex(bus, 2)
                && rest.split_once('.').is_some_and(|(device, function)| hex(device, 2) && hex(function, 1))
        })
    };
    short(device) || device.split_once(':').is_some_and(|(domain, rest)| hex(domain, 4) && short(rest))
}

/// Which device each port is on, counted in the order in which they are first named: ports with VLANs of their own can
/// share one.
pub(super) fn seats(ports: &[Port]) -> Vec<usize> {
    let mut firsts: Vec<usize> = Vec::new();
    let mut seats: Vec<usize> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let shares = |&first: &usize| {
            let on_it = ports.iter().take(index).zip(&seats);
            let mut others = on_it.filter(|(_, seat)| firsts.get(**seat) == Some(&first));
            ports[first].device == port.device && others.all(|(other, _)| other.vlan != port.vlan)
        };
        let seat = firsts.iter().position(shares).unwrap_or(firsts.len());
        if seat == firsts.len() {
            firsts.push(index);
        }
        seats.push(seat);
    }
    seats
}

/// The ports as their devices see them: one for each device, called after the first port on it, with what its ports need.
pub(super) fn on_devices(ports: &[Port], seats: &[usize]) -> Vec<Port> {
    let mut devices: Vec<Port> = Vec::new();
    for (port, seat) in ports.iter().zip(seats) {
        match devices.get_mut(*seat) {
            None => devices.push(port.clone()),
            Some(device) => {
                device.mtu = device.mtu.max(port.mtu);
                if device.role != port.role {
                    device.role = Role::Both;
                }
                device.queues = device.queues.max(port.queues);
                device.rx_descriptors = device.rx_descriptors.max(port.rx_descriptors);
                device.tx_descriptors = device.tx_descriptors.max(port.tx_descriptors);
            }
        }
    }
    devices
}

/// Opens the devices of all ports, each once, in the order in which they are first named.
pub(super) fn open(eal: &Eal, ports: &[Port]) -> Result<Vec<Device>, EngineError> {
    for port in ports {
        if let Some(interface) = kernel_interface(&port.device)
            && !exists(interface)
        {
            return Err(EngineError::NoInterface { port: port.name.clone(), interface: interface.into() });
        }
    }
    check_privileges(ports)?;
    on_devices(ports, &seats(ports))
        .iter()
        .map(|port| match Name::parse(&port.device) {
            Name::Pci(address) => open_pci(eal, port, address),
            Name::Vdev(name, arguments) => open_vdev(eal, port, name, arguments),
        })
        .collect()
}

/// As DPDK and sysfs name a PCI device: with its domain, in small letters.
pub(crate) fn full_address(address: &str) -> String {
    let full = if address.matches(':').count() == 1 { format!("0000:{address}") } else { address.to_owned() };
    full.to_ascii_lowercase()
}

fn open_pci(eal: &Eal, port: &Port, address: &str) -> Result<Device, EngineError> {
    let full = full_address(address);
    eal.find(&full).map_err(|error| {
        let sys = Path::new("/sys/bus/pci/devices").join(&full);
        if !sys.exists() {
            return EngineError::NoPciDevice { port: port.name.clone(), device: address.into() };
        }
        let driver = fs::read_link(sys.join("driver")).ok();
        match driver.as_deref().and_then(Path::file_name) {
            Some(driver) if driver == "vfio-pci" => EngineError::Port { port: port.name.clone(), error },
            driver => EngineError::PciDriver {
                port: port.name.clone(),
                device: address.into(),
                driver: driver.map_or_else(|| "no driver".into(), |name| name.to_string_lossy().into_owned()),
            },
        }
    })
}

fn open_vdev(eal: &Eal, port: &Port, name: &str, arguments: &str) -> Result<Device, EngineError> {
    let driver = driver(name);
    if let Some(path) = listens_at(driver, arguments)
        && is_abandoned(path)
    {
        // DPDK takes any file there for another's, and refuses the device.
        tracing::info!("removing {}, left behind by a process that is gone", path.display());
        fs::remove_file(path).map_err(|error| EngineError::StaleSocket {
            port: port.name.clone(),
            path: path.into(),
            error,
        })?;
    }
    eal.attach(name, arguments).map_err(|error| {
        // What EAL says where no driver wants the name.
        if error.log().is_some_and(|log| log.contains("failed to parse device")) {
            EngineError::NoDriver { port: port.name.clone(), device: name.into() }
        } else {
            EngineError::Port { port: port.name.clone(), error }
        }
    })
}

/// `net_af_packet` of `net_af_packet0`.
fn driver(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The interface of the kernel's that a vdev wants to exist.
fn interface<'a>(driver: &str, arguments: &'a str) -> Option<&'a str> {
    // A TAP's `iface` is one that it makes.
    if !matches!(driver, "net_af_packet" | "eth_af_packet" | "net_af_xdp") {
        return None;
    }
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

/// The socket that a vdev listens on, where that has a file.
fn listens_at<'a>(driver: &str, arguments: &'a str) -> Option<&'a Path> {
    let value =
        |key: &str| arguments.split(',').find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
    let path = match driver {
        "net_memif" if value("role") == Some("server") && value("socket-abstract") == Some("no") => {
            value("socket")
        }
        "net_vhost" | "eth_vhost" if value("client").is_none_or(|client| client == "0") => value("iface"),
        "net_virtio_user" if value("server") == Some("1") => value("path"),
        _ => None,
    };
    path.map(Path::new)
}

/// The interface of the kernel's whose packets a device takes through a packet socket.
pub(crate) fn kernel_interface(device: &str) -> Option<&str> {
    match Name::parse(device) {
        Name::Pci(_) => None,
        Name::Vdev(name, arguments) => interface(driver(name), arguments),
    }
}

/// Whether an interface is up and has a link.
pub(super) fn has_carrier(interface: &str) -> bool {
    // Of one that is down it cannot be read.
    let carrier = fs::read_to_string(Path::new("/sys/class/net").join(interface).join("carrier"));
    carrier.is_ok_and(|carrier| carrier.trim() == "1")
}

/// Capabilities without which ports fail, each with what needs it first: for packet sockets, and for promiscuous mode, which multicast
/// needs there; for TAPs.
pub(crate) fn needed(ports: &[Port]) -> Vec<(Capability, String)> {
    let mut needed: Vec<(Capability, String)> = Vec::new();
    for port in ports {
        let driver = match Name::parse(&port.device) {
            Name::Pci(_) => "",
            Name::Vdev(name, _) => driver(name),
        };
        let of_driver: &[Capability] = match driver {
            "net_af_packet" | "eth_af_packet" | "net_af_xdp" => &[NET_RAW, NET_ADMIN],
            "net_tap" | "net_tun" => &[NET_ADMIN],
            _ => &[],
        };
        let of_kernel: &[Capability] = if port.kernel.is_some() { &[NET_ADMIN] } else { &[] };
        let each = of_driver.iter().map(|c| (*c, driver)).chain(of_kernel.iter().map(|c| (*c, "kernel")));
        for (capability, what) in each {
            if needed.iter().all(|(known, _)| *known != capability) {
                needed.push((capability, format!("port {}: {what}", port.name)));
            }
        }
    }
    needed
}

fn check_privileges(ports: &[Port]) -> Result<(), EngineError> {
    let needed = needed(ports);
    let capabilities: Vec<_> = needed.iter().map(|(capability, _)| *capability).collect();
    let lacking = Machine::this().lacks(&capabilities);
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|(capability, _)| lacking.contains(capability))
        .map(|((name, _), what)| (name, what))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(EngineError::Privilege { missing }) }
}

/// Says what hugepages are missing for this much memory.
pub(super) fn check_hugepages(memory_mb: u32) -> Result<(), EngineError> {
    enough(memory_mb, &Machine::this().hugepages(None))
}

/// Whether this network namespace has an interface; sysfs shows the one that it was mounted in.
fn exists(interface: &str) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .is_ok_and(|socket| name_to_index(&socket, interface).is_ok())
}

/// Says when a machine does not have this much ordinary memory at all.
pub(super) fn check_memory(memory_mb: u32) -> Result<(), EngineError> {
    match Machine::this().memory_mb("MemTotal:") {
        Some(total_mb) if u64::from(memory_mb) > total_mb => {
            Err(EngineError::NoSuchMemory { memory_mb, total_mb })
        }
        // Where the kernel does not tell, DPDK will.
        _ => Ok(()),
    }
}

/// What the connection tables of so many workers take once they are full of IPv6 connections, MiB.
pub(crate) fn tables_mb(max_flows: u32, workers: usize) -> u64 {
    let each = (max_flows as usize).div_ceil(workers.max(1));
    (Conntrack::bytes(each, true) as u64).saturating_mul(workers as u64) >> 20
}

/// Says when the connection tables would not fit into ordinary memory once they are full, beside `memory_mb` for DPDK: their
/// pages are taken as connections come, and then it would be too late.
pub(super) fn check_tables(max_flows: u32, workers: usize, memory_mb: u64) -> Result<(), EngineError> {
    let needed_mb = tables_mb(max_flows, workers);
    match Machine::this().memory_mb("MemAvailable:") {
        Some(free_mb) if needed_mb + memory_mb > free_mb => {
            Err(EngineError::FlowMemory { max_flows, needed_mb, free_mb: free_mb.saturating_sub(memory_mb) })
        }
        _ => Ok(()),
    }
}

fn enough(memory_mb: u32, pages: &[Pages]) -> Result<(), EngineError> {
    let wanted_kb = u64::from(memory_mb) * 1024;
    if pages.iter().map(|pages| pages.kb * pages.free).sum::<u64>() >= wanted_kb {
        return Ok(());
    }
    // The smallest are the ones that can still be reserved on a running machine.
    let &Pages { kb: page_kb, free, .. } = pages.iter().min().ok_or(EngineError::NoHugepages)?;
    Err(EngineError::Hugepages { memory_mb, page_kb, needed: wanted_kb.div_ceil(page_kb), free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_vdevs_are_told_apart() {
        for pci in ["0000:3b:00.0", "3b:00.1", "10de:0A:1f.7"] {
            assert_eq!(Name::parse(pci), Name::Pci(pci));
        }
        assert_eq!(Name::parse("net_tap0"), Name::Vdev("net_tap0", ""));
        assert_eq!(
            Name::parse("net_af_packet0,iface=eth1,qpairs=2"),
            Name::Vdev("net_af_packet0", "iface=eth1,qpairs=2")
        );
        assert_eq!(Name::parse("0000:3b:00"), Name::Vdev("0000:3b:00", ""));
    }

    #[test]
    fn interfaces_that_must_exist() {
        assert_eq!(driver("net_af_packet12"), "net_af_packet");
        assert_eq!(interface("net_af_packet", "qpairs=1,iface=eth1"), Some("eth1"));
        assert_eq!(interface("net_tap", "iface=tap7"), None);
    }

    #[test]
    fn sockets_that_a_device_listens_on() {
        let path = |driver, arguments| listens_at(driver, arguments).and_then(Path::to_str);
        assert_eq!(path("net_memif", "role=server,socket=/run/m,socket-abstract=no,id=7"), Some("/run/m"));
        for elsewhere in [
            "role=client,socket=/run/m,socket-abstract=no",
            "role=server,socket=/run/m",
            "role=server,socket=/run/m,socket-abstract=yes",
            "role=server,socket-abstract=no",
        ] {
            assert_eq!(path("net_memif", elsewhere), None, "{elsewhere}");
        }
        assert_eq!(path("net_vhost", "iface=/run/v,queues=1"), Some("/run/v"));
        assert_eq!(path("net_vhost", "iface=/run/v,client=1"), None);
        assert_eq!(path("net_virtio_user", "path=/run/v,queues=1"), None);
        assert_eq!(path("net_virtio_user", "path=/run/v,server=1"), Some("/run/v"));
        assert_eq!(path("net_af_packet", "iface=eth0"), None);
    }

    #[test]
    fn ports_share_a_device_by_vlans_alone() {
        let port = |device: &str, vlan, mtu| Port {
            name: device.into(),
            device: device.into(),
            role: crate::config::Role::Both,
            addresses: vec![],
            mtu,
            vlan,
            kernel: None,
            queues: 0,
            rx_descriptors: 64,
            tx_descriptors: 64,
        };
        let ports = [port("a", 1, 1500), port("b", 0, 1500), port("a", 2, 9000), port("b", 0, 1500)];
        assert_eq!(seats(&ports), [0, 1, 0, 2], "the same VLAN twice is for DPDK to refuse");
        let devices = on_devices(&ports, &seats(&ports));
        assert_eq!(
            devices.iter().map(|d| (&*d.device, d.mtu)).collect::<Vec<_>>(),
            [("a", 9000), ("b", 1500), ("b", 1500)]
        );
    }

    #[test]
    fn hugepages_that_are_missing_are_named() {
        let pages = |kb, free| Pages { kb, free, all: free };
        assert!(enough(64, &[pages(2048, 32)]).is_ok());
        assert!(enough(1025, &[pages(2048, 1), pages(1_048_576, 1)]).is_ok());
        assert_eq!(
            enough(1024, &[pages(1_048_576, 0), pages(2048, 3)]).unwrap_err().to_string(),
            "engine.memory_mb = 1024 needs 512 free hugepages of 2048 kB, there are 3: reserve them (sysctl -w \
             vm.nr_hugepages=512), or set engine.hugepages = false"
        );
        assert!(matches!(enough(1, &[]), Err(EngineError::NoHugepages)));
    }
}
