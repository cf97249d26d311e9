//! What DPDK refused, and why.

use std::ffi::{CStr, c_int};
use std::fmt;

/// A call of DPDK that failed: the operation, what `rte_errno` says, and what the driver has logged meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkError {
    operation: String,
    errno: i32,
    log: Option<String>,
}

impl DpdkError {
    /// With an error number of one's own (positive).
    #[must_use]
    pub fn new(operation: impl Into<String>, errno: i32) -> Self {
        Self { operation: operation.into(), errno, log: None }
    }

    /// With `rte_errno` of this thread: for functions that return NULL or -1.
    pub(super) fn last(operation: impl Into<String>) -> Self {
        // SAFETY: reads a thread-local variable that exists from the start of the process.
        Self::new(operation, unsafe { dpdk_sys::px_errno() })
    }

    /// Adds what was logged about it; the line of the driver before those of EAL.
    #[must_use]
    pub(super) fn with_log(mut self, log: Option<String>) -> Self {
        self.log = log;
        self
    }

    /// What was tried.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// `rte_errno`, positive.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What DPDK has logged meanwhile, if anything.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }
}

/// The value of a function that returns a negative error number, -1 being one like any other (EPERM).
pub(super) fn check(operation: impl FnOnce() -> String, ret: c_int) -> Result<c_int, DpdkError> {
    if ret < 0 { Err(DpdkError::new(operation(), -ret)) } else { Ok(ret) }
}

/// The text of an error number, also of DPDK's own ones.
fn text(errno: i32) -> String {
    // SAFETY: `rte_strerror` accepts any number, may be called before EAL, and returns a NUL-terminated string that is
    // static or belongs to this thread and is copied before the next call.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno)) }.to_string_lossy().into_owned()
}

impl fmt::Display for DpdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, text(self.errno))?;
        match &self.log {
            Some(log) => write!(f, " ({log})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DpdkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_operation_and_reason() {
        let error = DpdkError::new("rte_eth_dev_start(wan)", 16);
        assert_eq!(error.to_string(), "rte_eth_dev_start(wan): Device or resource busy");
        let error = error.with_log(Some("i40e: no link".into()));
        assert_eq!(error.to_string(), "rte_eth_dev_start(wan): Device or resource busy (i40e: no link)");
        assert_eq!(check(|| "x".into(), -22), Err(DpdkError::new("x", 22)));
        assert_eq!(check(|| "x".into(), 3), Ok(3));
    }
}
