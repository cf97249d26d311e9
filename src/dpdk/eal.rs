//! DPDK's environment: once per process.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::check;
use super::leftovers;
use super::log::captured;
use super::port::Device;
use super::{DpdkError, allowed_cpus, restrict_to};

/// EAL can be initialised once, and after its clean-up never again.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// DPDK 22.11's memif leaves an interrupt source registered when a port is closed, and EAL's interrupt thread crashes on it
/// when the clean-up has unmapped its memory. Without a clean-up the kernel does the same a moment later.
const CLEANUP_CRASHES: &str = "net_memif";

/// What EAL is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EalOptions {
    /// Hugepage memory, or ordinary memory, which needs no set-up and no privileges.
    pub hugepages: bool,
    /// Memory for DPDK, MiB.
    pub memory_mb: u32,
    /// CPUs of the calling thread, and of the threads that EAL and it start.
    pub cpus: Vec<usize>,
    /// PCI addresses to probe; no others are.
    pub pci: Vec<String>,
    /// Passed on as they are, after all others.
    pub extra: Vec<String>,
}

impl EalOptions {
    /// EAL's command line.
    fn arguments(&self, prefix: &str) -> Vec<String> {
        let cpus: Vec<_> = self.cpus.iter().map(usize::to_string).collect();
        let mut arguments = vec![
            "pollux".to_owned(),
            // Warnings and worse.
            format!("--log-level={}", dpdk_sys::RTE_LOG_WARNING),
            // One lcore, for the calling thread; workers register themselves.
            format!("--lcores=0@({})", cpus.join(",")),
            // Its socket would be one more listener, and its thread one more thread.
            "--no-telemetry".to_owned(),
            // Two engines on a machine must not meet in one directory.
            format!("--file-prefix={prefix}"),
            format!("-m{}", self.memory_mb),
        ];
        if self.hugepages {
            // Nothing is left behind, not even by a crash.
            arguments.push("--in-memory".into());
        } else {
            // DPDK 22.11 refuses --in-memory here; --no-shconf is what of it matters without hugepages.
            arguments.extend(["--no-huge".into(), "--no-shconf".into()]);
        }
        if self.pci.is_empty() {
            // Physical addresses, which need privileges, are for real devices only.
            arguments.extend(["--no-pci".into(), "--iova-mode=va".into()]);
        }
        arguments.extend(self.pci.iter().map(|address| format!("--allow={address}")));
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// DPDK, initialised. Clones share it; it is cleaned up when the last is gone.
#[derive(Clone, Debug)]
pub struct Eal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Ports that have a handle.
    taken: Mutex<Vec<u16>>,
    allowed: Vec<usize>,
    /// A driver was used that does not survive EAL's clean-up.
    no_cleanup: AtomicBool,
    runtime_dir: Option<PathBuf>,
}

impl Eal {
    /// Initialises EAL. The calling thread is afterwards allowed on `options.cpus`, not pinned to one as EAL leaves it.
    ///
    /// # Errors
    /// What EAL says; EALREADY in a process that has done it before.
    pub fn init(options: &EalOptions) -> Result<Self, DpdkError> {
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::new("rte_eal_init: only once in a process", ALREADY));
        }
        let prefix = leftovers::file_prefix(std::process::id());
        let arguments = options.arguments(&prefix);
        let arguments = arguments
            .iter()
            .map(|argument| CString::new(argument.as_str()).map(CString::into_raw))
            .collect::<Result<Vec<*mut c_char>, _>>()
            .map_err(|_| DpdkError::new("rte_eal_init: NUL byte in an argument", INVALID))?;
        // EAL keeps pointers to its arguments: they live as long as the process.
        let argc = arguments.len() as c_int;
        let argv = Vec::leak(arguments);

        let allowed = allowed_cpus();
        // EAL's own threads inherit this mask.
        restrict_to(&options.cpus);
        let result = captured(|| {
            // SAFETY: `argv` has `argc` NUL-terminated, writable strings that are never freed, and this is the only call in
            // the process (`INITIALISED`).
            if unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) } < 0 {
                Err(DpdkError::last("rte_eal_init"))
            } else {
                Ok(())
            }
        });
        restrict_to(&options.cpus);
        result?;
        let (taken, no_cleanup) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let runtime_dir = runtime_dir(&prefix);
        if let Some(parent) = runtime_dir.as_deref().and_then(Path::parent) {
            leftovers::remove_stale(parent);
        }
        Ok(Self(Arc::new(Inner { taken, allowed, no_cleanup, runtime_dir })))
    }

    /// The CPUs that the calling thread of [`Eal::init`] had been allowed before.
    #[must_use]
    pub fn allowed_cpus(&self) -> &[usize] {
        &self.0.allowed
    }

    /// Creates a virtual device: `net_af_packet0` with `iface=eth1`.
    ///
    /// # Errors
    /// What the driver logged: no such driver, no such interface, no privileges.
    pub fn attach(&self, name: &str, arguments: &str) -> Result<Device, DpdkError> {
        let operation = || format!("rte_eal_hotplug_add(vdev, {name}, {arguments})");
        let (Ok(c_name), Ok(c_arguments)) = (CString::new(name), CString::new(arguments)) else {
            return Err(DpdkError::new(operation(), INVALID));
        };
        let mut taken = self.exclusive();
        if name.starts_with(CLEANUP_CRASHES) {
            self.0.no_cleanup.store(true, Ordering::Relaxed);
        }
        captured(|| {
            // SAFETY: EAL is initialised; all three strings are NUL-terminated and copied by EAL.
            let ret = unsafe {
                dpdk_sys::rte_eal_hotplug_add(c"vdev".as_ptr(), c_name.as_ptr(), c_arguments.as_ptr())
            };
            check(operation, ret)
        })?;
        self.take(&mut taken, name, Some(c_name))
    }

    /// The port of a device that EAL has probed, by its name: a PCI address.
    ///
    /// # Errors
    /// ENODEV where EAL has no port of that name, EBUSY where it has a handle already.
    pub fn find(&self, name: &str) -> Result<Device, DpdkError> {
        let mut taken = self.exclusive();
        self.take(&mut taken, name, None)
    }

    fn take(&self, taken: &mut Vec<u16>, name: &str, vdev: Option<CString>) -> Result<Device, DpdkError> {
        let operation = || format!("rte_eth_dev_get_port_by_name({name})");
        let c_name = CString::new(name).map_err(|_| DpdkError::new(operation(), INVALID))?;
        let mut id = 0;
        // SAFETY: EAL is initialised; the name is NUL-terminated, `id` is ours.
        check(operation, unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) })?;
        if taken.contains(&id) {
            return Err(DpdkError::new(operation(), BUSY));
        }
        taken.push(id);
        Ok(Device::new(self.clone(), id, name, vdev))
    }

    /// What control calls of several threads must not do at once: the list of ports, DPDK's log.
    pub(super) fn exclusive(&self) -> MutexGuard<'_, Vec<u16>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of a virtual device that was made otherwise than by [`Eal::attach`].
    pub(super) fn adopt(&self, id: u16, name: &str) -> Device {
        self.exclusive().push(id);
        Device::new(self.clone(), id, name, CString::new(name).ok())
    }

    /// The port is closed: its number may be given to another.
    pub(super) fn release(&self, id: u16) {
        self.exclusive().retain(|&taken| taken != id);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.no_cleanup.get_mut() {
            // SAFETY: EAL is initialised, and with the last handle nothing of it is in use: ports, pools, rings and
            // registered threads hold handles of their own.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        }
        if let Some(path) = &self.runtime_dir {
            // EAL leaves it behind; it is this process's own, and of no use to any other.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The directory that EAL has made for this process alone.
fn runtime_dir(prefix: &str) -> Option<PathBuf> {
    // SAFETY: EAL is initialised; the string is NUL-terminated, static, and copied here.
    let path = unsafe {
        let path = dpdk_sys::rte_eal_get_runtime_dir();
        if path.is_null() {
            return None;
        }
        CStr::from_ptr(path)
    };
    let path = Path::new(path.to_str().ok()?);
    // With another prefix in `eal_args` the directory may be shared.
    path.file_name().is_some_and(|name| name == prefix).then(|| path.to_owned())
}

const BUSY: i32 = 16;
const INVALID: i32 = 22;
const ALREADY: i32 = 114;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_memory_needs_no_hugepage_and_no_pci_option() {
        let options =
            EalOptions { memory_mb: 64, cpus: vec![0, 2], extra: vec!["--foo".into()], ..Default::default() };
        let line = options.arguments("p").join(" ");
        assert_eq!(
            line,
            "pollux --log-level=5 --lcores=0@(0,2) --no-telemetry --file-prefix=p -m64 --no-huge --no-shconf --no-pci \
             --iova-mode=va --foo"
        );
    }

    #[test]
    fn pci_devices_are_the_only_ones_probed() {
        let options = EalOptions {
            hugepages: true,
            memory_mb: 1024,
            cpus: vec![0],
            pci: vec!["0000:3b:00.0".into()],
            extra: vec![],
        };
        let line = options.arguments("p").join(" ");
        assert!(line.ends_with("-m1024 --in-memory --allow=0000:3b:00.0"), "{line}");
    }
}
