//! Keeps the kernel off an interface that the engine works on through a packet socket.
//!
//! The kernel gets a copy of every packet there, and would answer it a second time: with a RST, with another echo. An
//! nftables chain at the interface's ingress drops them all, after packet sockets have seen them. A table of its own for
//! each process and interface, so that nobody removes another's, and that tells whose it was when it was left behind.

use std::fs;
use std::io::Write;
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
        let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).unwrap_or_default();
        let table = format!("{PREFIX}{}_{}", std::process::id(), index.trim());
        let rules = format!(
            "table netdev {table} {{\n chain guard {{\n  type filter hook ingress device \"{interface}\" priority -500; \
             policy drop;\n }}\n}}\n"
        );
        match nft(&["-f", "-"], &rules) {
            Ok(_) => Ok(Self { table }),
            Err(reason) => Err(KernelError::Guard { interface: interface.into(), reason }),
        }
    }

    /// Removes those of processes that are gone. Where there is no nft there are none.
    pub fn remove_stale() {
        let Ok(tables) = nft(&["list", "tables", "netdev"], "") else { return };
        for table in tables.lines().filter_map(|line| line.strip_prefix("table netdev ")) {
            let table = table.trim();
            if owner(table).is_some_and(|pid| pid != std::process::id() && !runs(pid)) {
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

/// The process that made a table, if it is a guard.
fn owner(table: &str) -> Option<u32> {
    let (pid, index) = table.strip_prefix(PREFIX)?.split_once('_')?;
    index.parse::<u32>().ok()?;
    pid.parse().ok()
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
        assert_eq!(owner("pollux_123_4"), Some(123));
        for other in ["pollux", "pollux_123", "pollux_x_4", "pollux_1_x", "filter", "mypollux_1_2"] {
            assert_eq!(owner(other), None, "{other}");
        }
        assert!(runs(std::process::id()));
        assert!(!runs(u32::MAX));
    }
}
