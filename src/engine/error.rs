//! Why the engine does not start: one line each, with what to do about it.

use std::time::Duration;

use thiserror::Error;

use crate::dpdk::DpdkError;
use crate::kernel::KernelError;

/// Threads that do not end: a driver does not return to them.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{} did not stop within {} s; the process ends without it, and its ports are left as they are", names(.threads), .patience.as_secs_f32())]
pub struct Hung {
    /// Their names.
    pub threads: Vec<String>,
    /// How long they were waited for.
    pub patience: Duration,
}

/// `worker 3` for `pollux-w3`.
fn names(threads: &[String]) -> String {
    let name = |thread: &String| match thread.strip_prefix("pollux-w") {
        Some(number) => format!("worker {number}"),
        None => thread.clone(),
    };
    threads.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// `CAP_NET_RAW (port wan: net_af_packet)`…
fn lacking(missing: &[(&'static str, String)]) -> String {
    missing
        .iter()
        .map(|(capability, what)| format!("{capability} ({what})"))
        .collect::<Vec<_>>()
        .join(" and ")
}

fn setcap(missing: &[(&'static str, String)]) -> String {
    missing.iter().map(|(capability, _)| capability.to_lowercase()).collect::<Vec<_>>().join(",")
}

/// Why the engine does not start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A worker's or the control threads' CPU cannot be used.
    #[error("engine: CPU {cpu} does not exist or is not allowed to this process, which may use {allowed}")]
    Cpu {
        /// The CPU asked for.
        cpu: usize,
        /// Those there are, as `0-3,8`.
        allowed: String,
    },
    /// More workers than DPDK has lcores.
    #[error("engine.workers: {workers} workers, but DPDK was built for {most}")]
    TooManyWorkers {
        /// Workers asked for.
        workers: usize,
        /// Most there can be.
        most: usize,
    },
    /// Not enough free hugepages for `engine.memory_mb`.
    #[error(
        "engine.memory_mb = {memory_mb} needs {needed} free hugepages of {page_kb} kB, there are {free}: reserve them \
         (sysctl -w vm.nr_hugepages={needed}), or set engine.hugepages = false"
    )]
    Hugepages {
        /// Memory asked for, MiB.
        memory_mb: u32,
        /// Size of a page, KiB.
        page_kb: u64,
        /// Pages that it takes.
        needed: u64,
        /// Pages that are free.
        free: u64,
    },
    /// The connection tables would not fit.
    #[error(
        "engine.max_flows = {max_flows} takes {needed_mb} MiB when the table is full, but {free_mb} MiB are free: set less"
    )]
    FlowMemory {
        /// Connections asked for.
        max_flows: u32,
        /// What their tables take, MiB.
        needed_mb: u64,
        /// What is free, MiB.
        free_mb: u64,
    },
    /// More than the machine has.
    #[error("engine.memory_mb = {memory_mb}, but this machine has {total_mb} MiB: set less")]
    NoSuchMemory {
        /// Memory asked for, MiB.
        memory_mb: u32,
        /// Memory there is, MiB.
        total_mb: u64,
    },
    /// The kernel has no hugepages.
    #[error("engine.hugepages = true, but this kernel has no hugepages: set engine.hugepages = false")]
    NoHugepages,
    /// EAL refused.
    #[error("DPDK does not start: {0}")]
    Eal(#[source] DpdkError),
    /// `engine.memory_mb` does not hold the packet buffers.
    #[error(
        "engine.memory_mb = {memory_mb} is too little: {buffers} packet buffers of {buffer_bytes} bytes (descriptors, \
         rings and bursts of {workers} worker(s) and {ports} port(s)) need {needed_mb}: set engine.memory_mb = {needed_mb} or more"
    )]
    Memory {
        /// Memory there is, MiB.
        memory_mb: u32,
        /// Memory that it takes, MiB.
        needed_mb: u32,
        /// Packet buffers.
        buffers: u32,
        /// Bytes that each takes.
        buffer_bytes: u32,
        /// Workers.
        workers: usize,
        /// Ports.
        ports: usize,
    },
    /// The interface of a vdev does not exist.
    #[error("port {port}: interface {interface} does not exist (see ip link)")]
    NoInterface {
        /// The port's name.
        port: String,
        /// The kernel's name of the interface.
        interface: String,
    },
    /// The socket that a killed process has left where a vdev is to listen.
    #[error("port {port}: nobody listens on {}, and it cannot be removed: {error}", .path.display())]
    StaleSocket {
        /// The port's name.
        port: String,
        /// The socket's file.
        path: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Capabilities are missing: all of them at once.
    #[error(
        "this process lacks {}: run as root, or as the unit does (AmbientCapabilities=), or setcap {}+ep on the binary",
        lacking(.missing), setcap(.missing)
    )]
    Privilege {
        /// Each with what needs it.
        missing: Vec<(&'static str, String)>,
    },
    /// No such PCI device.
    #[error("port {port}: there is no PCI device {device} (see lspci -D)")]
    NoPciDevice {
        /// The port's name.
        port: String,
        /// The address.
        device: String,
    },
    /// The PCI device is not DPDK's to use.
    #[error(
        "port {port}: DPDK does not drive {device}, which is bound to {driver}: bind it to vfio-pci \
         (dpdk-devbind.py --bind=vfio-pci {device}), if DPDK has a driver for it"
    )]
    PciDriver {
        /// The port's name.
        port: String,
        /// The address.
        device: String,
        /// The kernel's driver.
        driver: String,
    },
    /// DPDK has no driver of that name.
    #[error(
        "port {port}: DPDK has no driver for the virtual device {device} (net_af_packet0, net_tap0, net_memif0… are)"
    )]
    NoDriver {
        /// The port's name.
        port: String,
        /// The vdev's name.
        device: String,
    },
    /// More queues asked for than the device has.
    #[error("port {port}: queues = {wanted}, but {driver} has {most} here")]
    Queues {
        /// The port's name.
        port: String,
        /// Queues asked for.
        wanted: u16,
        /// The driver.
        driver: String,
        /// Queues that it has.
        most: u16,
    },
    /// The device or its driver refused.
    #[error("port {port}: {error}")]
    Port {
        /// The port's name.
        port: String,
        /// What was refused.
        #[source]
        error: DpdkError,
    },
    /// The kernel refused what a port needs of it.
    #[error("port {port}: {error}")]
    Kernel {
        /// The port's name.
        port: String,
        /// What was refused.
        #[source]
        error: KernelError,
    },
    /// A thread for the kernel's interfaces could not be started.
    #[error("the kernel's interfaces: {0}")]
    Kernels(String),
    /// A worker's thread could not be started or pinned.
    #[error("worker {worker}: {reason}")]
    Worker {
        /// Which.
        worker: usize,
        /// Why.
        reason: String,
    },
}
