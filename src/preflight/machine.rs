//! A machine as its kernel shows it under `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where to look: the root of this machine, or of a tree that shows another one.
#[derive(Clone, Debug)]
pub struct Machine(PathBuf);

/// A bit of a thread's capability sets (capabilities(7)).
pub type Capability = (&'static str, u32);
/// Interfaces: promiscuous mode, flags, TAPs, XDP.
pub const NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
/// Packet sockets.
pub const NET_RAW: Capability = ("CAP_NET_RAW", 13);
/// Locked memory without limit.
pub const IPC_LOCK: Capability = ("CAP_IPC_LOCK", 14);
/// What an XDP program needs to be loaded.
pub const BPF: Capability = ("CAP_BPF", 39);

/// Hugepages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pages {
    /// Size of each, KiB.
    pub kb: u64,
    /// Not in use.
    pub free: u64,
    /// Reserved.
    pub all: u64,
}

impl Machine {
    /// The one that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        Self::at("/")
    }

    /// The one whose `/proc`, `/sys`, `/dev` and programs are under `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// A path of that machine.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    /// What a file says, without the blanks around it; none where it cannot be read.
    #[must_use]
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// The names in a folder, in order; none of one that is not there.
    #[must_use]
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last name of where a link leads: a device's driver.
    #[must_use]
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_link(self.path(path)).ok()?.file_name()?.to_str().map(str::to_owned)
    }

    /// Whether there is something.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// CPUs of a file such as `/sys/devices/system/cpu/isolated`; none where it cannot be read.
    #[must_use]
    pub fn cpus(&self, path: impl AsRef<Path>) -> Vec<usize> {
        self.text(path).map(|text| cpu_list(&text)).unwrap_or_default()
    }

    /// CPUs that the scheduler leaves alone (`isolcpus=`). They are in no process's affinity, yet each may go there.
    #[must_use]
    pub fn isolated_cpus(&self) -> Vec<usize> {
        self.cpus("/sys/devices/system/cpu/isolated")
    }

    /// NUMA nodes with their CPUs; none where the kernel knows of none.
    #[must_use]
    pub fn nodes(&self) -> Vec<(usize, Vec<usize>)> {
        let folder = Path::new("/sys/devices/system/node");
        let number = |name: &String| name.strip_prefix("node")?.parse().ok();
        let mut nodes: Vec<_> = self
            .names(folder)
            .iter()
            .filter_map(number)
            .map(|node: usize| (node, self.cpus(folder.join(format!("node{node}/cpulist")))))
            .collect();
        nodes.sort();
        nodes
    }

    /// A line of `/proc/meminfo`, MiB.
    #[must_use]
    pub fn memory_mb(&self, name: &str) -> Option<u64> {
        let meminfo = self.text("/proc/meminfo")?;
        let kb = meminfo.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"))?;
        Some(kb.trim().parse::<u64>().ok()? >> 10)
    }

    /// Hugepages by size: the whole machine's, or a node's; none where the kernel has none.
    #[must_use]
    pub fn hugepages(&self, node: Option<usize>) -> Vec<Pages> {
        let folder = match node {
            None => PathBuf::from("/sys/kernel/mm/hugepages"),
            Some(node) => PathBuf::from(format!("/sys/devices/system/node/node{node}/hugepages")),
        };
        let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
        let number = |name: &str, file| self.text(folder.join(name).join(file))?.parse().ok();
        let of = |name: &String| {
            let (free, all) = (number(name, "free_hugepages")?, number(name, "nr_hugepages")?);
            Some(Pages { kb: size(name)?, free, all })
        };
        let mut pages: Vec<_> = self.names(&folder).iter().filter_map(of).collect();
        pages.sort();
        pages
    }

    /// Which of these the calling thread lacks; none where it cannot be read: the kernel will say.
    #[must_use]
    pub fn lacks(&self, needed: &[Capability]) -> Vec<Capability> {
        let set = self.text("/proc/thread-self/status").and_then(|status| effective(&status));
        let lacks = |(_, bit): &Capability| set.is_some_and(|set| set >> bit & 1 == 0);
        needed.iter().copied().filter(lacks).collect()
    }
}

/// The effective set in a thread's status.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// `0-3,8` as the kernel writes it.
pub(super) fn cpu_list(text: &str) -> Vec<usize> {
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let run = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => number(part).map(|one| one..=one),
    };
    text.split(',').filter_map(run).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(cpu_list("5"), [5]);
        assert_eq!(cpu_list(""), [0; 0]);
        assert_eq!(cpu_list("(null)"), [0; 0]);
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        let set = effective("Name:\tx\nCapEff:\t0000000000003000\nCapBnd:\t00\n");
        assert_eq!(set, Some(1 << NET_ADMIN.1 | 1 << NET_RAW.1));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn this_machine_has_memory_and_a_cpu() {
        let machine = Machine::this();
        assert!(machine.memory_mb("MemTotal:") > Some(0));
        assert!(!machine.cpus("/sys/devices/system/cpu/online").is_empty());
        assert!(!Machine::at("/nowhere").has("/proc"));
    }
}
