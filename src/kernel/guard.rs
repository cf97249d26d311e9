//! Keeps the kernel off an interface that the engine works on through a packet socket.
//!
//! The kernel gets a copy of every packet there, and would answer it a second time: with a RST, with another echo. An
//! nftables chain at the interface's ingress drops them all, after packet sockets have seen them. A table of its own for
//! each process and interface, so that nobody removes another's, and that tells whose it was when it was left behind: process,
//! interface, and the PID namespace in which the process has that id.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::KernelError;

const PREFIX: &str = "pollux_";

/// The guard of one interface. Removed when dropped.
#[derive(Debug)]
pub struct Guard {
    table: String,
}

impl Guard {
    /// Puts it up.
    ///
    /// # Errors
    /// No nft, no privilege, a kernel without `netdev` tables.
    pub fn new(interface: &str) -> Result<Self, KernelError> {
        let owner = Owner { pid: std::process::id(), index: index(interface), namespace: pid_namespace() };
        let table = owner.table();
        let rules = format!(
            "table netdev {table} {{\n chain guard {{\n  type filter hook ingress device \"{interface}\" priority -500; \
             policy drop;\n }}\n}}\n"
        );
        match nft(&["-f", "-"], &rules) {
            Ok(_) => Ok(Self { table }),
            Err(reason) => Err(KernelError::Guard { interface: interface.into(), reason }),
        }
    }

    /// Removes those of processes that are gone. Of another PID namespace nobody can tell that here: those stay, but on the
    /// interfaces `ours`, which are about to get guards of this process. Where there is no nft there are none.
    pub fn remove_stale(ours: &[&str]) {
        let Ok(tables) = nft(&["list", "tables", "netdev"], "") else { return };
        let ours: Vec<_> = ours.iter().map(|interface| index(interface)).collect();
        let (own, namespace) = (std::process::id(), pid_namespace());
        for table in tables.lines().filter_map(|line| line.strip_prefix("table netdev ")) {
            let table = table.trim();
            let Some(owner) = Owner::of(table) else { continue };
            let stale = if owner.namespace == namespace {
                owner.pid != own && !runs(owner.pid)
            } else {
                ours.contains(&owner.index)
            };
            if stale {
                tracing::info!("removing the ingress guard {table}, left behind by a process that is gone");
                remove(table);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        remove(&self.table);
    }
}

fn remove(table: &str) {
    if let Err(reason) = nft(&["delete", "table", "netdev", table], "") {
        tracing::error!("the ingress guard {table} stays: {reason}");
    }
}

/// Whose a guard is, as its table's name tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    pid: u32,
    /// Of the interface.
    index: u32,
    /// Inode of the PID namespace.
    namespace: u64,
}

impl Owner {
    fn table(&self) -> String {
        let Self { pid, index, namespace } = self;
        format!("{PREFIX}{pid}_{index}_{namespace}")
    }

    /// None of a table that is no guard.
    fn of(table: &str) -> Option<Self> {
        let mut numbers = table.strip_prefix(PREFIX)?.split('_');
        let pid = numbers.next()?.parse().ok()?;
        let index = numbers.next()?.parse().ok()?;
        let namespace = numbers.next()?.parse().ok()?;
        numbers.next().is_none().then_some(Self { pid, index, namespace })
    }
}

/// The number of an interface in this thread's network namespace, whose sysfs need not be mounted here; 0: there is none.
fn index(interface: &str) -> u32 {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| name_to_index(&socket, interface))
        .unwrap_or_default()
}

fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino()).unwrap_or_default()
}

/// Whether a process with this id runs our program: ids are used again.
fn runs(pid: u32) -> bool {
    let name = |pid: &str| fs::read_to_string(Path::new("/proc").join(pid).join("comm")).ok();
    name(&pid.to_string()).is_some_and(|theirs| Some(theirs) == name("self"))
}

/// Runs nft; what it printed.
fn nft(arguments: &[&str], input: &str) -> Result<String, String> {
    let run = || -> std::io::Result<std::process::Output> {
        // A service's PATH may lack the folder where it is.
        let program = if Path::new("/usr/sbin/nft").exists() { "/usr/sbin/nft" } else { "nft" };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    match run() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("it failed").trim().to_owned())
        }
        Err(error) => Err(format!("{error} (the package nftables has it)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_guards_are_known_by_their_names() {
        let owner = Owner { pid: 123, index: 4, namespace: 4_026_531_836 };
        assert_eq!(owner.table(), "pollux_123_4_4026531836");
        assert_eq!(Owner::of(&owner.table()), Some(owner));
        for other in [
            "pollux",
            "pollux_123_4",
            "pollux_x_4_5",
            "pollux_1_x_5",
            "pollux_1_2_",
            "pollux_1_2_3_4",
            "filter",
            "mypollux_1_2_3",
        ] {
            assert_eq!(Owner::of(other), None, "{other}");
        }
        assert_ne!((index("lo"), pid_namespace()), (0, 0));
        assert_eq!(index("no-such-if"), 0);
        assert!(runs(std::process::id()));
        assert!(!runs(u32::MAX));
    }
}
