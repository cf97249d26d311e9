//! Where DPDK's log goes: never to stdout, where EAL sends it by default.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::stdio::dup2_stderr;

use super::DpdkError;

/// Runs `what` with DPDK's log kept in memory, so that an error can say what the driver said. What is logged by something
/// that succeeds is of interest to developers only.
///
/// Not for two threads at once: the callers hold the mutex of [`super::Eal`], or are inside its initialisation.
pub(super) fn captured<T>(what: impl FnOnce() -> Result<T, DpdkError>) -> Result<T, DpdkError> {
    let file = memfd_create("dpdk-log", MemfdFlags::CLOEXEC).ok().map(File::from);
    // EAL's last words before it gives up, and those of libraries that drivers use, go to stderr past the log.
    let stderr = file.as_ref().and_then(|file| {
        let own = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3).ok()?;
        dup2_stderr(file).ok()?;
        Some(own)
    });
    redirect(file.as_ref().map_or(std::io::stderr().as_raw_fd(), AsRawFd::as_raw_fd));
    let result = what();
    if let Some(own) = stderr {
        // Where this fails nothing could be said of it.
        let _ = dup2_stderr(own);
    }
    redirect(std::io::stderr().as_raw_fd());
    let mut text = String::new();
    if let Some(mut file) = file
        && file.seek(SeekFrom::Start(0)).is_ok()
    {
        // What is not UTF-8 is of no use in a message.
        let _ = file.read_to_string(&mut text);
    }
    for line in text.lines() {
        tracing::debug!(target: "dpdk", "{line}");
    }
    result.map_err(|error| error.with_log(telling(&text)))
}

fn redirect(fd: i32) {
    // SAFETY: the descriptor is open and is duplicated; calls do not overlap (see `captured`). A thread that logs at the
    // moment writes to the old or to the new place. Where it fails, the log stays where it was.
    let _ = unsafe { dpdk_sys::px_log_to_fd(fd) };
}

fn telling(log: &str) -> Option<String> {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next();
    lines.find(|line| !line.starts_with("EAL:")).or(first).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn the_drivers_own_line_comes_first() {
        let log = "EAL: Driver cannot attach the device (net_x)\nx_probe(): no such thing\nEAL: Failed\n";
        assert_eq!(telling(log).as_deref(), Some("x_probe(): no such thing"));
        assert_eq!(telling("EAL: a\nEAL: b\n").as_deref(), Some("EAL: a"));
        assert_eq!(telling(""), None);
    }
}
