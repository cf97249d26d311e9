//! Threads that EAL did not start, made known to it.

use std::marker::PhantomData;

use super::{DpdkError, Eal};

/// This thread has an lcore id, and with it its own caches of the mempools, until the guard is dropped.
///
/// Pin the thread first: EAL notes its affinity here.
#[derive(Debug)]
pub struct Registration {
    _eal: Eal,
    // The id belongs to the thread: the guard must not leave it.
    _not_send: PhantomData<*const ()>,
}

impl Registration {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// ENOMEM where DPDK's lcores are used up, EINVAL where a secondary process is attached.
    pub fn new(eal: &Eal) -> Result<Self, DpdkError> {
        // SAFETY: EAL is initialised and stays so while the guard lives. A thread with an lcore id, such as the one that
        // initialised EAL, is left as it is by DPDK.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            return Err(DpdkError::last("rte_thread_register"));
        }
        Ok(Self { _eal: eal.clone(), _not_send: PhantomData })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: this thread is registered: the guard is made by a successful registration and cannot leave the thread.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
