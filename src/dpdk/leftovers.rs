//! What processes that were killed have left in EAL's directories.
//!
//! EAL makes a directory for each `--file-prefix`, and a process that ends as it should removes its own (`eal.rs`). Hugepage
//! files there are none: with `--in-memory` the pages have no names and go with the process.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// What the names of our directories begin with; the process id follows.
const PREFIX: &str = "pollux-";

/// The `--file-prefix` of a process.
pub(super) fn file_prefix(pid: u32) -> String {
    format!("{PREFIX}{pid}")
}

/// Removes the directories in `parent` of processes of ours that are gone. What cannot be removed stays: it is in
/// nobody's way, but where a process gets an id again.
pub(super) fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        if pid != std::process::id() && !Path::new("/proc").join(pid.to_string()).exists() {
            let path = entry.path();
            if in_use(&path) {
                continue;
            }
            tracing::info!("removing {}, left behind by a process that is gone", path.display());
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Whether somebody holds one of the files: a process of another process namespace, whose id means nothing here. DPDK locks
/// the files that it shares.
fn in_use(directory: &Path) -> bool {
    let locked = |path: &Path| {
        File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
    };
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| locked(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_dead_processes_of_ours_go() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("config"), "").unwrap();
            path
        };
        // Beyond the largest id that Linux gives.
        let dead = make("pollux-4194305");
        let held = make("pollux-4194306");
        let others = [
            make(&file_prefix(std::process::id())),
            make("pollux-1"),
            make("pollux-"),
            make("pollux-x"),
            make("rte"),
            make("4194305"),
        ];
        let lock = File::open(held.join("config")).unwrap();
        flock(&lock, FlockOperation::LockShared).unwrap();

        remove_stale(parent.path());
        assert!(!dead.exists());
        assert!(held.exists(), "somebody has a file of it locked");
        assert!(others.iter().all(|other| other.exists()));
        drop(lock);
        remove_stale(parent.path());
        assert!(!held.exists());
        remove_stale(Path::new("/no/such/directory"));
    }
}
