//! What every lab stands on: the machine to itself, a folder, and an engine between two networks.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::net::remove_leftovers;

/// The last field of a lab, so that everything else has gone when the next one may begin: they share two cores.
pub struct Ground {
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Ground {
    /// Waits for the labs of other tests of this process. Needs root.
    pub fn take() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(rustix::process::geteuid().is_root(), "the lab makes network namespaces: run it as root");
        remove_leftovers();
        let dir = tempfile::Builder::new().prefix("pollux-lab-").tempdir().expect("a folder");
        Self { dir, _alone: alone }
    }

    /// For configurations and logs.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The configuration of an engine with `wan` towards clients and `lan` towards servers, both veth; services are to follow.
#[allow(dead_code, reason = "not every lab has two networks")]
pub fn two_arm(workers: &str, memory_mb: u32) -> String {
    format!(
        r#"
[engine]
workers   = {workers}
hugepages = false
memory_mb = {memory_mb}
max_flows = 65_536
idle      = "backoff"

[[port]]
name      = "wan"
device    = "net_af_packet0,iface=wan,blocksz=4096,framesz=2048,framecnt=8192,qpairs=1"
role      = "client"
addresses = ["203.0.113.2/24", "2001:db8:1::2/64"]
kernel    = ""
[[port]]
name      = "lan"
device    = "net_af_packet1,iface=lan,blocksz=4096,framesz=2048,framecnt=8192,qpairs=1"
role      = "server"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
kernel    = ""

[metrics]
listen            = "127.0.0.1:8080"
tick              = "1s"
distribution_tick = "2s"

[history]
path = ""

[control]
socket = ""
"#
    )
}
