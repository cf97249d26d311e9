//! The end of a process of which a thread will not end.

use std::ffi::c_int;

// SAFETY: as libc has it (_exit(2)); it takes any number and does not return.
unsafe extern "C" {
    safe fn _exit(status: c_int) -> !;
}

/// Ends the process as it stands, without the exit handlers of DPDK, its drivers and stdio: those would free, or wait for, what a
/// thread in a driver still uses. The kernel takes back all that was open.
pub fn exit_at_once(status: u8) -> ! {
    _exit(status.into())
}
