//! What the kernel refuses.

use std::io;

/// Something that the kernel, or one of its tools, did not do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The TAP is another process's.
    #[error(
        "kernel = \"{name}\": another process has this TAP open, perhaps another Pollux: end it, or choose another name"
    )]
    Busy {
        /// The interface.
        name: String,
    },
    /// There is such an interface, and it is no TAP.
    #[error("kernel = \"{name}\": there is an interface of this name that is no TAP: choose another name")]
    NoTap {
        /// The interface.
        name: String,
    },
    /// The TAP cannot be made.
    #[error(
        "kernel = \"{name}\": {error}; a TAP needs /dev/net/tun (modprobe tun) and CAP_NET_ADMIN: run as root, or give the \
         binary that capability"
    )]
    Tap {
        /// The interface.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The TAP does not take its settings.
    #[error("kernel = \"{name}\": {what}: {error}")]
    Settings {
        /// The interface.
        name: String,
        /// What was being set.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Netlink does not work.
    #[error("netlink: {0}")]
    Netlink(io::Error),
    /// The guard cannot be put up.
    #[error("interface {interface}: cannot keep the kernel from answering there: nft: {reason}")]
    Guard {
        /// The interface.
        interface: String,
        /// What nft said, or why it did not run.
        reason: String,
    },
}
