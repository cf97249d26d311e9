//! Machines that are trees of files.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::{Finding, Machine, Verdict, check};
use crate::config;

/// Two NUMA nodes of four CPUs, of which 2, 3, 6 and 7 are isolated; hugepages on both; an IOMMU; two NICs of node 0, each in a group of
/// its own and bound to vfio-pci; the interfaces `lo` and `eth1`; all capabilities. Nothing is lacking.
struct Tree(TempDir);

const NICS: [&str; 2] = ["0000:3b:00.0", "0000:3b:00.1"];

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.put("proc/meminfo", "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\n");
        tree.put("proc/thread-self/status", "CapEff:\t000001ffffffffff\n");
        tree.put("proc/self/status", "Cpus_allowed:\t33\nCpus_allowed_list:\t0-1,4-5\n");
        tree.put(
            "proc/self/limits",
            "Max locked memory         8388608              8388608              bytes     \n",
        );
        tree.put("proc/self/net/dev", "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth1: 0 0\n");
        tree.put("proc/cmdline", "quiet isolcpus=managed_irq,domain,2-3,6-7 nohz_full=2-3,6-7\n");
        tree.put("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n");
        tree.put("proc/cpuinfo", "vendor_id\t: GenuineIntel\n");
        tree.put("sys/devices/system/cpu/online", "0-7\n");
        tree.put("sys/devices/system/cpu/isolated", "2-3,6-7\n");
        tree.put("sys/devices/system/cpu/nohz_full", "2-3,6-7\n");
        for cpu in 0..8 {
            tree.put(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"), "performance\n");
        }
        tree.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        tree.hugepages("sys/kernel/mm", 2048, 1024);
        for (node, cpus) in [(0, "0-3"), (1, "4-7")] {
            tree.put(&format!("sys/devices/system/node/node{node}/cpulist"), cpus);
            tree.hugepages(&format!("sys/devices/system/node/node{node}"), 1024, 512);
        }
        tree.put("sys/class/iommu/dmar0/x", "");
        for (group, nic) in ["41", "42"].into_iter().zip(NICS) {
            let device = format!("sys/bus/pci/devices/{nic}");
            tree.put(&format!("{device}/numa_node"), "0\n");
            tree.bind(nic, Some("vfio-pci"));
            tree.put(&format!("sys/kernel/iommu_groups/{group}/devices/{nic}"), "");
            symlink(
                format!("../../../../kernel/iommu_groups/{group}"),
                tree.path(&format!("{device}/iommu_group")),
            )
            .unwrap();
            tree.put(&format!("dev/vfio/{group}"), "");
        }
        tree.put("dev/net/tun", "");
        tree.put("usr/sbin/nft", "");
        tree
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn hugepages(&self, folder: &str, all: u64, free: u64) {
        self.put(&format!("{folder}/hugepages/hugepages-2048kB/nr_hugepages"), &all.to_string());
        self.put(&format!("{folder}/hugepages/hugepages-2048kB/free_hugepages"), &free.to_string());
        self.put(&format!("{folder}/hugepages/hugepages-1048576kB/nr_hugepages"), "0");
        self.put(&format!("{folder}/hugepages/hugepages-1048576kB/free_hugepages"), "0");
    }

    fn bind(&self, nic: &str, driver: Option<&str>) {
        let link = self.path(&format!("sys/bus/pci/devices/{nic}/driver"));
        let _ = fs::remove_file(&link);
        if let Some(driver) = driver {
            self.put(&format!("sys/bus/pci/drivers/{driver}/x"), "");
            symlink(format!("../../drivers/{driver}"), link).unwrap();
        }
    }

    fn check(&self, text: &str) -> Vec<Finding> {
        let (config, _) = config::parse("test", text).unwrap_or_else(|report| panic!("{report}"));
        check(&config, &Machine::at(self.0.path()))
    }

    /// The findings that are not ok, as `verdict subject: found -> cure`.
    fn complaints(&self, text: &str) -> Vec<String> {
        let wrong = self.check(text).into_iter().filter(|finding| finding.verdict != Verdict::Ok);
        wrong
            .map(|f| {
                format!("{} {}: {} -> {}", f.verdict.name(), f.subject, f.found, f.cure.unwrap_or_default())
            })
            .collect()
    }
}

/// Two NICs, two workers.
const NIC: &str = r#"
[engine]
workers   = [2, 3]
main_cpu  = 0
memory_mb = 1024
max_flows = 1_000_000
[[port]]
name   = "wan"
device = "0000:3b:00.0"
addresses = ["203.0.113.2/24"]
[[port]]
name   = "lan"
device = "3B:00.1"
addresses = ["10.1.0.1/24"]
"#;

/// A packet socket.
const SOCKET: &str = r#"
[engine]
hugepages = false
idle      = "backoff"
memory_mb = 128
max_flows = 1024
[[port]]
name   = "lan"
device = "net_af_packet0,iface=eth1,framecnt=8192,blocksz=4096"
addresses = ["10.1.0.1/24"]
kernel = ""
"#;

#[test]
fn a_machine_that_has_everything() {
    let tree = Tree::new();
    assert_eq!(tree.complaints(NIC), [""; 0]);
    assert_eq!(tree.complaints(SOCKET), [""; 0]);
    let with_kernel = SOCKET.replace("kernel = \"\"", "kernel = \"px-lan\"");
    assert_eq!(tree.complaints(&with_kernel), [""; 0]);
    let subjects: Vec<_> = tree.check(NIC).into_iter().map(|finding| finding.subject).collect();
    for subject in [
        "hugepages",
        "connection table",
        "transparent hugepages",
        "locked memory",
        "CPUs",
        "isolated CPUs",
        "NUMA nodes",
        "IOMMU",
        "port wan: driver",
        "port lan: IOMMU group",
        "capabilities",
    ] {
        assert!(subjects.iter().any(|s| s == subject), "{subject} in {subjects:?}");
    }
}

/// One thing is taken away or changed; exactly this is complained of.
#[track_caller]
fn lacking(text: &str, change: impl FnOnce(&Tree), complaint: &str) {
    let tree = Tree::new();
    change(&tree);
    assert_eq!(tree.complaints(text), [complaint]);
}

#[test]
fn hugepages() {
    let few = |tree: &Tree| {
        tree.hugepages("sys/kernel/mm", 8, 8);
        tree.hugepages("sys/devices/system/node/node0", 8, 8);
        tree.hugepages("sys/devices/system/node/node1", 0, 0);
    };
    lacking(
        NIC,
        few,
        "lacks hugepages: engine.memory_mb = 1024; free: 16 MiB (16 on node 0, 0 on node 1) -> \
         echo 512 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
    );
    // Those that somebody has are reserved on top.
    let used = |tree: &Tree| {
        tree.hugepages("sys/kernel/mm", 512, 12);
        tree.remove("sys/devices/system/node");
    };
    lacking(
        NIC,
        used,
        "lacks hugepages: engine.memory_mb = 1024; free: 24 MiB -> \
         echo 1012 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    );
    let elsewhere = |tree: &Tree| {
        tree.hugepages("sys/kernel/mm", 2048, 514);
        tree.hugepages("sys/devices/system/node/node0", 1024, 2);
    };
    lacking(
        NIC,
        elsewhere,
        "warn hugepages: engine.memory_mb = 1024; free: 1028 MiB (4 on node 0, 1024 on node 1); the engine is on node 0 -> \
         echo 1534 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
    );
    lacking(
        NIC,
        |tree| tree.remove("sys/kernel/mm/hugepages"),
        "lacks hugepages: this kernel has none -> set engine.hugepages = false, or boot a kernel with CONFIG_HUGETLBFS",
    );
    lacking(
        &NIC.replace("[engine]", "[engine]\nhugepages = false"),
        |_| (),
        "warn memory: ordinary memory, engine.memory_mb = 1024: NICs are faster on hugepages -> \
         engine.hugepages = true, and hugepages for it",
    );
}

#[test]
fn memory() {
    lacking(
        SOCKET,
        |tree| tree.put("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
        "warn transparent hugepages: never: every look into a large connection table misses the TLB -> \
         echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    );
    let tree = Tree::new();
    tree.put("proc/meminfo", "MemTotal: 102400 kB\nMemAvailable: 51200 kB\n");
    let complaints = tree.complaints(SOCKET);
    assert!(complaints[0].starts_with("lacks memory: engine.memory_mb = 128, and this machine has 100 MiB"));
    assert!(
        complaints[1].starts_with("lacks connection table: engine.max_flows = 1024 takes "),
        "{complaints:?}"
    );
}

#[test]
fn cpus() {
    lacking(
        &NIC.replace("[2, 3]", "[2, 9, 10]"),
        |_| (),
        "lacks CPUs: there is no CPU 9-10; this process may use 0-7 -> set engine.workers and engine.main_cpu to CPUs of these",
    );
}

#[test]
fn cpus_that_are_not_isolated() {
    lacking(
        NIC,
        |tree| {
            tree.put("sys/devices/system/cpu/isolated", "3\n");
            tree.put("proc/self/status", "Cpus_allowed_list:\t0-7\n");
        },
        "warn isolated CPUs: the kernel runs other things on the workers' CPUs, or interrupts them with its tick -> \
         add isolcpus=2-3 to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot",
    );
    lacking(
        NIC,
        |tree| {
            tree.put("sys/devices/system/cpu/nohz_full", "(null)\n");
            tree.put("proc/cmdline", "quiet\n");
        },
        "warn isolated CPUs: the kernel runs other things on the workers' CPUs, or interrupts them with its tick -> \
         add nohz_full=2-3 rcu_nocbs=2-3 to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot",
    );
    lacking(
        NIC,
        |tree| tree.put("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave"),
        "warn CPU frequency: not \"performance\" on CPUs 3 -> cpupower -c 3 frequency-set -g performance",
    );
    lacking(
        &NIC.replace("main_cpu  = 0", "main_cpu  = 2"),
        |_| (),
        "warn CPUs: a CPU has several workers, or a worker and the control threads: they take turns -> \
         give each a CPU of its own in engine.workers and engine.main_cpu",
    );
}

#[test]
fn nodes() {
    lacking(
        &NIC.replace("[2, 3]", "[6, 7]").replace("main_cpu  = 0", "main_cpu  = 4"),
        |_| (),
        "warn NUMA nodes: workers on node 1; engine.main_cpu, and so DPDK's memory, on node 1; port wan on node 0; port lan on \
         node 0 -> engine.workers and engine.main_cpu of node 0: CPUs 0-3",
    );
    // The kernel does not know where the NICs are.
    let tree = Tree::new();
    for nic in NICS {
        tree.put(&format!("sys/bus/pci/devices/{nic}/numa_node"), "-1\n");
    }
    assert_eq!(tree.complaints(NIC), [""; 0]);
}

#[test]
fn pci_devices() {
    let wan = NICS[0];
    lacking(
        NIC,
        |tree| tree.remove(&format!("sys/bus/pci/devices/{wan}")),
        "lacks port wan: driver: there is no PCI device 0000:3b:00.0 -> lspci -D shows those there are",
    );
    lacking(
        NIC,
        |tree| {
            tree.bind(wan, Some("ice"));
            tree.put(&format!("sys/bus/pci/devices/{wan}/net/ens1f0/x"), "");
        },
        "lacks port wan: driver: 0000:3b:00.0 is bound to ice; its interface ens1f0 leaves the kernel -> \
         modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
    );
    lacking(
        NIC,
        |tree| tree.bind(wan, None),
        "lacks port wan: driver: 0000:3b:00.0 is bound to none -> modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
    );
    lacking(
        NIC,
        |tree| tree.bind(wan, Some("igb_uio")),
        "warn port wan: driver: 0000:3b:00.0 is bound to igb_uio, which protects no memory from the device -> \
         modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
    );
    lacking(
        NIC,
        |tree| tree.bind(wan, Some("mlx5_core")),
        "lacks port wan: driver: 0000:3b:00.0 is bound to mlx5_core, but there are no verbs devices, through which DPDK uses it -> \
         modprobe -a ib_uverbs mlx5_ib",
    );
    let tree = Tree::new();
    tree.bind(wan, Some("mlx5_core"));
    tree.put("sys/class/infiniband_verbs/uverbs0/x", "");
    assert_eq!(tree.complaints(NIC), [""; 0]);
}

#[test]
fn iommu() {
    let cure = "turn it on in the firmware (VT-d, AMD-Vi), add intel_iommu=on iommu=pt to GRUB_CMDLINE_LINUX in /etc/default/grub; \
                update-grub; reboot";
    let gone = |tree: &Tree| tree.remove("sys/class/iommu/dmar0");
    lacking(NIC, gone, &format!("lacks IOMMU: none, and vfio-pci wants one -> {cure}"));
    lacking(
        NIC,
        |tree| {
            gone(tree);
            tree.put("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
        },
        &format!("warn IOMMU: none: VFIO works without, and a device can write anywhere -> {cure}"),
    );
    lacking(
        NIC,
        |tree| {
            tree.put("sys/kernel/iommu_groups/41/devices/0000:3b:00.2", "");
            tree.put("sys/bus/pci/devices/0000:3b:00.2/class", "");
            tree.bind("0000:3b:00.2", Some("i40e"));
        },
        "lacks port wan: IOMMU group: group 41 has devices that the kernel drives: 0000:3b:00.2 -> \
         dpdk-devbind.py --bind=vfio-pci 0000:3b:00.2",
    );
    lacking(
        NIC,
        |tree| tree.remove("dev/vfio/42"),
        "lacks port lan: IOMMU group: /dev/vfio/42 is not readable and writable to this user -> \
         chown pollux /dev/vfio/42, or the rule of the package (/usr/lib/udev/rules.d/60-pollux.rules)",
    );
}

#[test]
fn interfaces() {
    lacking(
        &SOCKET.replace("eth1", "eth7"),
        |_| (),
        "lacks port lan: interface: eth7 does not exist -> ip link shows those there are: change iface= in the port's device",
    );
    lacking(
        &SOCKET.replace(",framecnt=8192", ""),
        |_| (),
        "warn port lan: framecnt: the kernel's ring holds 512 frames, and loses without a word what comes when it is full -> \
         add framecnt=8192,blocksz=4096 to the port's device (16 MiB for each direction)",
    );
    let nft = |tree: &Tree| tree.remove("usr/sbin/nft");
    let said = "nft: not installed: nothing keeps the kernel from answering on the ports' interfaces -> apt install nftables";
    lacking(SOCKET, nft, &format!("warn {said}"));
    let with_kernel = SOCKET.replace("kernel = \"\"", "kernel = \"px-lan\"");
    lacking(&with_kernel, nft, &format!("lacks {said}"));
    lacking(
        &with_kernel,
        |tree| tree.remove("dev/net"),
        "lacks TAP: there is no /dev/net/tun, and ports with kernel = need it -> modprobe tun",
    );
    lacking(
        &with_kernel,
        |tree| tree.put("proc/sys/kernel/osrelease", "5.10.0-33-amd64\n"),
        "warn kernel: Linux 5.10.0-33-amd64 has no managed neighbours: those of quiet endpoints go stale -> Linux 5.16 or newer",
    );
}

#[test]
fn capabilities() {
    let none = |tree: &Tree| tree.put("proc/thread-self/status", "CapEff:\t0000000000000000\n");
    let cure = "run this, and the engine, as root or as the unit does (AmbientCapabilities=)";
    lacking(
        SOCKET,
        none,
        &format!(
            "lacks capabilities: this process lacks CAP_NET_RAW (port lan: net_af_packet) and CAP_NET_ADMIN (port lan: \
             net_af_packet) -> {cure}"
        ),
    );
    let tree = Tree::new();
    none(&tree);
    assert_eq!(
        tree.complaints(NIC),
        [
            "lacks locked memory: at most 8 MiB, and a NIC needs engine.memory_mb = 1024 -> LimitMEMLOCK=infinity in the unit, \
             ulimit -l unlimited in a shell, or CAP_IPC_LOCK",
            &format!("lacks capabilities: this process lacks CAP_IPC_LOCK (DMA memory of NICs) -> {cure}"),
        ]
    );
}
