//! What `/proc` and the root file system say of this machine and process.

use std::fs;

/// Reads the machine's figures; keeps the last reading of the CPU times.
#[derive(Debug)]
pub(super) struct Machine {
    cpus: Vec<Option<CpuTimes>>,
    ticks_per_second: f64,
    page_size: f64,
}

/// Busy and all time of one CPU since boot, in clock ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct CpuTimes {
    busy: u64,
    total: u64,
}

/// One reading. What cannot be read is `None`, and no sample is written for it: unknown is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub cpu_percent: Option<f64>,
    pub memory_percent: Option<f64>,
    pub disk_percent: Option<f64>,
    pub process: Option<Process>,
}

/// This process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: f64,
    pub virtual_bytes: f64,
    pub threads: f64,
    pub start_unix: f64,
    pub open_fds: f64,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            cpus: read("/proc/stat").map(|text| cpu_times(&text)).unwrap_or_default(),
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            page_size: rustix::param::page_size() as f64,
        }
    }

    /// Reads everything. `workers` has the CPU and the busy share of each worker.
    pub fn read(&mut self, workers: &[(usize, f64)]) -> Reading {
        let stat = read("/proc/stat");
        let now = stat.as_deref().map(cpu_times).unwrap_or_default();
        let before = std::mem::replace(&mut self.cpus, now);
        Reading {
            cpu_percent: cpu_percent(&before, &self.cpus, workers),
            memory_percent: read("/proc/meminfo").as_deref().and_then(memory_percent),
            disk_percent: rustix::fs::statvfs("/")
                .ok()
                .filter(|fs| fs.f_blocks > 0)
                .map(|fs| 100.0 * (1.0 - fs.f_bavail as f64 / fs.f_blocks as f64)),
            process: self.process(stat.as_deref()),
        }
    }

    fn process(&self, stat: Option<&str>) -> Option<Process> {
        let own = read("/proc/self/stat")?;
        let [user, system, threads, started, virtual_bytes, pages] = own_stat(&own)?;
        let boot: f64 = stat?.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Process {
            cpu_seconds: (user + system) / self.ticks_per_second,
            resident_bytes: pages * self.page_size,
            virtual_bytes,
            threads,
            start_unix: boot + started / self.ticks_per_second,
            // The directory itself is open while it is read.
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64,
        })
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// By CPU number, from `/proc/stat`: user nice system idle iowait irq softirq steal (guest time is in user and nice already).
fn cpu_times(stat: &str) -> Vec<Option<CpuTimes>> {
    let mut cpus = Vec::new();
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(n) = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse::<usize>().ok()) else {
            continue;
        };
        let times: Vec<u64> = fields.take(8).filter_map(|f| f.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal] = times[..] else { continue };
        if n >= cpus.len() {
            cpus.resize(n + 1, None);
        }
        let busy = user + nice + system + irq + softirq + steal;
        cpus[n] = Some(CpuTimes { busy, total: busy + idle + iowait });
    }
    cpus
}

/// Mean over all CPUs: a worker's CPU by the workers' own busy share, any other by its busy time.
fn cpu_percent(
    before: &[Option<CpuTimes>],
    now: &[Option<CpuTimes>],
    workers: &[(usize, f64)],
) -> Option<f64> {
    let (mut sum, mut cpus) = (0.0, 0_u32);
    for (n, times) in now.iter().enumerate() {
        let Some(times) = times else { continue };
        let mut own = workers.iter().filter(|w| w.0 == n).map(|w| w.1).peekable();
        sum += if own.peek().is_some() {
            own.sum::<f64>().min(1.0)
        } else {
            // A CPU that has just come online has no time before.
            let before = before.get(n).copied().flatten().unwrap_or_default();
            let total = times.total.saturating_sub(before.total);
            if total == 0 { 0.0 } else { times.busy.saturating_sub(before.busy) as f64 / total as f64 }
        };
        cpus += 1;
    }
    (cpus > 0).then(|| (100.0 * sum / f64::from(cpus)).clamp(0.0, 100.0))
}

/// `100 · (MemTotal − Hugetlb − MemAvailable) / (MemTotal − Hugetlb)`, from `/proc/meminfo`.
fn memory_percent(meminfo: &str) -> Option<f64> {
    let field = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    let huge = field("Hugetlb")
        .or_else(|| Some(field("HugePages_Total")? * field("Hugepagesize")?))
        .unwrap_or_default();
    let total = field("MemTotal")? - huge;
    (total > 0.0)
        .then(|| (100.0 * (total - field("MemAvailable").unwrap_or_default()) / total).clamp(0.0, 100.0))
}

/// utime, stime, num_threads, starttime, vsize and rss of `/proc/self/stat` (proc_pid_stat(5), fields 14, 15, 20, 22, 23, 24). The
/// command's name may contain blanks and parentheses: count from the last one.
fn own_stat(stat: &str) -> Option<[f64; 6]> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |n: usize| fields.get(n - 3)?.parse().ok();
    Some([field(14)?, field(15)?, field(20)?, field(22)?, field(23)?, field(24)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 100 800 0 0 0 0 0 0\ncpu1 500 0 500 0 0 0 0 0 0 0\n";
    const AFTER: &str = "cpu0 115 0 110 850 25 0 0 0 0 0\ncpu1 1000 0 1000 0 0 0 0 0 0 0\nintr 5\nbtime 17\n";

    #[test]
    fn a_spinning_worker_counts_by_its_work() {
        let (before, after) = (cpu_times(BEFORE), cpu_times(AFTER));
        assert_eq!(before.len(), 2);
        // CPU 0: a quarter busy, iowait not. CPU 1 spins, with a quarter of useful work.
        assert_eq!(cpu_percent(&before, &after, &[(1, 0.25)]), Some(25.0));
        assert_eq!(cpu_percent(&before, &after, &[(1, 0.75), (1, 0.75)]), Some(62.5));
        assert_eq!(cpu_percent(&before, &after, &[]), Some(62.5));
        assert_eq!(cpu_percent(&after, &after, &[]), Some(0.0));
        assert_eq!(cpu_percent(&before, &cpu_times("cpu  1 2 3\n"), &[]), None);
        assert_eq!(cpu_times("cpu0 1 2 3\ncpux 1 1 1 1 1 1 1 1\n"), []);
    }

    #[test]
    fn hugepages_are_not_memory_in_use() {
        let text = "MemTotal:     1000 kB\nMemFree: 1 kB\nMemAvailable:  300 kB\nHugetlb:   400 kB\n";
        assert_eq!(memory_percent(text), Some(50.0));
        let text = "MemTotal: 1000 kB\nMemAvailable: 300 kB\nHugePages_Total: 4\nHugepagesize: 100 kB\n";
        assert_eq!(memory_percent(text), Some(50.0));
        assert_eq!(memory_percent(""), None);
    }

    #[test]
    fn a_command_with_blanks_and_parentheses() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 12 0 999 4096000 321 0\n";
        assert_eq!(own_stat(stat), Some([250.0, 50.0, 12.0, 999.0, 4_096_000.0, 321.0]));
        assert_eq!(own_stat("7 (x"), None);
        assert_eq!(own_stat(""), None);
    }

    #[test]
    fn this_machine() {
        let mut machine = Machine::new();
        let reading = machine.read(&[(0, 0.5)]);
        for percent in [reading.cpu_percent, reading.memory_percent, reading.disk_percent] {
            assert!((0.0..=100.0).contains(&percent.unwrap()), "{reading:?}");
        }
        let process = reading.process.unwrap();
        assert!(process.resident_bytes > 1e6 && process.virtual_bytes >= process.resident_bytes);
        assert!(
            process.threads >= 1.0 && process.open_fds >= 3.0 && process.start_unix > 1.6e9,
            "{process:?}"
        );
    }
}
