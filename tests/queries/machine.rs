//! A machine whose figures are the test's: memory, CPU time, and a root file system that can be filled.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Where, an empty folder: the outside of the machine's root.
pub const ROOT: &str = "POLLUX_QUERIES_ROOT";

/// Makes the machine, and runs the test (`$0` and its arguments) in it: a small file system as root, with all that the real one has
/// mounted into it, and files in place of what the kernel says.
pub const SCRIPT: &str = r#"
set -euo pipefail
mount --make-rprivate /
ip link set lo up
# For the kernel's side of the probes.
for n in 10 11 12; do ip address add 192.168.2.$n/32 dev lo; done
root=$POLLUX_QUERIES_ROOT
mount -t tmpfs -o size=4m,mode=755 pollux-root "$root"
mkdir "$root/figures"
cp /proc/meminfo "$root/figures/meminfo"
cp /proc/stat "$root/figures/stat"
for entry in /*; do
  if [ -L "$entry" ]; then
    cp -a "$entry" "$root/"
  elif [ -d "$entry" ]; then
    mkdir -p "$root$entry"
    mount --rbind "$entry" "$root$entry"
  fi
done
mount --bind "$root/figures/meminfo" "$root/proc/meminfo"
mount --bind "$root/figures/stat" "$root/proc/stat"
here=$PWD
exec chroot "$root" bash -c 'cd "$1"; shift; exec "$@"' bash "$here" "$0" "$@"
"#;

/// The root file system's size in the script.
const ROOT_BYTES: usize = 4 << 20;
const CPUS: usize = 64;

/// The machine as the engine sees it.
pub struct Machine {
    began: Instant,
    /// Clock ticks of each CPU so far, and when they were written.
    busy: u64,
    idle: u64,
    last: u64,
    cpu: f64,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self { began: Instant::now(), busy: 0, idle: 0, last: 0, cpu: 0.0 };
        machine.memory(0.0);
        machine
    }

    /// From now on so much of each is in use, in percent.
    pub fn set(&mut self, cpu: f64, memory: f64, disk: f64) {
        self.cpu = cpu;
        self.memory(memory);
        let fill = vec![1; (ROOT_BYTES as f64 * disk / 100.0) as usize];
        fs::write("/figures/fill", fill).unwrap();
        self.turn();
    }

    /// Lets the CPUs' clocks go on. Overwritten in place, same length: a reader never sees half of it.
    pub fn turn(&mut self) {
        let now = self.began.elapsed().as_millis() as u64 / 10;
        let passed = now - self.last;
        let busy = (passed as f64 * self.cpu / 100.0).round() as u64;
        self.last = now;
        self.busy += busy;
        self.idle += passed - busy;
        let mut text = String::new();
        for cpu in 0..CPUS {
            text += &format!("cpu{cpu} {:>10} 0 0 {:>10} 0 0 0 0 0 0\n", self.busy, self.idle);
        }
        text += "btime 1700000000\n";
        overwrite("/figures/stat", &text);
    }

    fn memory(&self, percent: f64) {
        let available = (1_000_000.0 * (1.0 - percent / 100.0)) as u64;
        overwrite(
            "/figures/meminfo",
            &format!("MemTotal: 1000000 kB\nMemAvailable: {available:>8} kB\nHugetlb: 0 kB\n"),
        );
    }
}

fn overwrite(path: &str, text: &str) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    if file.metadata().unwrap().len() == text.len() as u64 {
        file.write_all_at(text.as_bytes(), 0).unwrap();
    } else {
        file.set_len(0).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}
