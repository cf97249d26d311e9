//! SIGKILL, and the next start: nothing that the dead process has left is in the way, and nothing of it stays.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::assert_sound;
use crate::engine::Engine;
use crate::topology::{self, Lab, af_packet, one_box};

const PATIENCE: Duration = Duration::from_secs(30);

/// EAL's directory of a process.
fn directory(pid: u32) -> PathBuf {
    // Where EAL puts it for root.
    Path::new("/var/run/dpdk").join(format!("pollux-{pid}"))
}

#[test]
fn directories_and_the_admin_socket() {
    let lab = Lab::new();
    let socket = lab.dir().join("admin.sock");
    let config = one_box(&af_packet(0, "wan"), &af_packet(1, "lan"))
        .replace("socket = \"\"", &format!("socket = \"{}\"", socket.display()));
    let engine = Engine::start(&lab.lb, lab.dir(), &config);
    let killed = directory(engine.pid());
    assert!(killed.is_dir(), "EAL makes no {}", killed.display());
    engine.stop(Signal::KILL, PATIENCE);
    assert!(killed.is_dir() && socket.exists(), "nobody was there to remove them");

    let engine = Engine::start(&lab.lb, lab.dir(), &config);
    assert!(!killed.exists(), "{} is left", killed.display());
    UnixStream::connect(&socket).expect("the admin socket");
    lab.echo(&lab.client, 10);
    let own = directory(engine.pid());
    assert!(own.is_dir());
    engine.finish();
    assert!(!own.exists() && !socket.exists(), "an end as it should be leaves nothing");
}

/// The driver's program stays on the interface.
#[test]
fn programs_of_xdp_sockets() {
    let lab = Lab::new();
    let config = one_box("net_af_xdp0,iface=wan,force_copy=1", "net_af_xdp1,iface=lan,force_copy=1");
    for _ in 0..2 {
        let engine = Engine::start(&lab.lb, lab.dir(), &config);
        lab.echo(&lab.client, 10);
        engine.stop(Signal::KILL, PATIENCE);
    }
    let engine = Engine::start(&lab.lb, lab.dir(), &config);
    lab.echo(&lab.client, 10);
    assert_sound(&lab.lb);
    engine.finish();
}

#[test]
fn the_interface_of_a_tap() {
    let lab = Lab::new();
    let config = one_box("net_tap0,iface=px-tap", &af_packet(1, "lan"));
    for signal in [Signal::KILL, Signal::KILL, Signal::TERM] {
        let engine = Engine::start(&lab.lb, lab.dir(), &config);
        lab.lb.interface("px-tap", &[&format!("{}/24", topology::CLIENT)]);
        lab.echo(&lab.lb, 10);
        engine.stop(signal, PATIENCE);
        assert!(!lab.lb.run("ip link show px-tap").status.success(), "the TAP goes with the process");
    }
}

/// Pages of 2 MiB, reserved for as long as this lives.
struct Pages {
    more: u64,
}

const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl Pages {
    fn reserve(more: u64) -> Self {
        let wanted = Self::read("nr_hugepages") + more;
        let pages = Self { more };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            Self::write(wanted);
            let free = Self::read("free_hugepages");
            if free >= more {
                return pages;
            }
            assert!(
                Instant::now() < deadline,
                "{free} free hugepages of 2 MiB after {more} were asked for: this machine has no room"
            );
            // There may be room, in pieces that are too small.
            let _ = std::fs::write("/proc/sys/vm/compact_memory", "1");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn read(name: &str) -> u64 {
        let path = Path::new(RESERVED).with_file_name(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().parse().expect("a number")
    }

    fn write(pages: u64) {
        std::fs::write(RESERVED, pages.to_string()).unwrap_or_else(|e| panic!("{RESERVED}: {e}"));
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        Self::write(Self::read("nr_hugepages").saturating_sub(self.more));
    }
}

/// Files that lie in any mounted file system of hugepages.
fn page_files() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
    let folders = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, folder, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "hugetlbfs").then(|| PathBuf::from(folder))
    });
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    files.map(|entry| entry.path()).collect()
}

#[test]
fn hugepages() {
    let lab = Lab::new();
    let pages = Pages::reserve(128);
    let before = (page_files(), Pages::read("free_hugepages"));
    let config =
        one_box(&af_packet(0, "wan"), &af_packet(1, "lan")).replace("hugepages = false", "hugepages = true");
    for signal in [Signal::KILL, Signal::KILL, Signal::TERM] {
        let engine = Engine::start(&lab.lb, lab.dir(), &config);
        lab.echo(&lab.client, 10);
        assert!(Pages::read("free_hugepages") < before.1, "the engine takes no hugepages");
        engine.stop(signal, PATIENCE);
        // As many as before: or the second start would find too few.
        assert_eq!((page_files(), Pages::read("free_hugepages")), before, "after {signal:?}");
    }
    drop(pages);
}
