//! What the numbers were found on.

use std::fmt;
use std::fs;

use serde_json::{Value, json};

/// A machine, as far as it matters.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Rate of the time stamp counter, where that is the clock.
    pub tsc_mhz: Option<f64>,
    /// MiB.
    pub memory_mb: u64,
    /// Whether packets are in hugepages.
    pub hugepages: bool,
    /// The kernel's setting for transparent huge pages, which the tables may be on.
    pub transparent_hugepages: String,
    /// `SCHED_FIFO` and the like.
    pub scheduling: &'static str,
    /// DPDK's release.
    pub dpdk: String,
    /// Packets of an RX burst.
    pub burst: usize,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here(cpus: usize, tsc_mhz: Option<f64>, hugepages: bool, burst: usize) -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            cpus,
            tsc_mhz,
            memory_mb: memory_kb("MemTotal") / 1024,
            hugepages,
            transparent_hugepages: fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
                .ok()
                .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned()))
                .unwrap_or_else(|| "none".into()),
            scheduling: scheduling(),
            dpdk: crate::dpdk::version(),
            burst,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cpus": self.cpus,
            "tsc_mhz": self.tsc_mhz.map(f64::round),
            "memory_mb": self.memory_mb,
            "packet_memory": self.packet_memory(),
            "transparent_hugepages": self.transparent_hugepages,
            "scheduling": self.scheduling,
            "dpdk": self.dpdk,
            "burst": self.burst,
            "version": env!("CARGO_PKG_VERSION"),
            "optimized": !cfg!(debug_assertions),
        })
    }

    const fn packet_memory(&self) -> &'static str {
        if self.hugepages { "hugepages" } else { "ordinary" }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mhz = self.tsc_mhz.map_or_else(String::new, |mhz| format!(" at {mhz:.0} MHz"));
        writeln!(
            f,
            "{}, {} CPUs{mhz}, {} MiB; {}; packets in {} memory, transparent huge pages: {}; scheduling {}; bursts of {}",
            self.cpu,
            self.cpus,
            self.memory_mb,
            self.dpdk,
            self.packet_memory(),
            self.transparent_hugepages,
            self.scheduling,
            self.burst
        )?;
        if cfg!(debug_assertions) {
            writeln!(f, "This is a debug build: its figures say nothing.")?;
        }
        Ok(())
    }
}

/// A field of `/proc/meminfo`, in kB; 0 where there is none.
pub fn memory_kb(name: &str) -> u64 {
    field("/proc/meminfo", name)
        .and_then(|value| value.trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or_default()
}

/// The first line of this name in a file of `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The policy, field 41 of `/proc/self/stat`; the name in it may have blanks.
fn scheduling() -> &'static str {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let policy = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(38));
    match policy {
        Some("0") => "SCHED_OTHER",
        Some("1") => "SCHED_FIFO",
        Some("2") => "SCHED_RR",
        Some("3") => "SCHED_BATCH",
        Some("6") => "SCHED_DEADLINE",
        _ => "unknown",
    }
}
