//! Pools of packet buffers.

use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::mbuf::Mbuf;
use super::{DpdkError, Eal};

/// A pool of mbufs with one segment each. Clones share it.
#[derive(Clone, Debug)]
pub struct Mempool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: NonNull<dpdk_sys::rte_mempool>,
    size: u32,
    eal: ManuallyDrop<Eal>,
}

// SAFETY: DPDK's default pool is a ring for many producers and consumers, with a cache for each lcore that only that
// lcore's thread uses: allocation and release may be called from every thread.
unsafe impl Send for Inner {}
// SAFETY: as above; all methods take `&self`.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Bytes in front of the data of a fresh frame.
    pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

    /// Buffers that each lcore keeps for itself.
    pub const CACHE: u32 = 256;

    /// A pool of `size` buffers with room for `data_room` bytes of frame each, headroom not counted.
    ///
    /// # Errors
    /// ENOMEM where EAL's memory does not suffice, EEXIST for a name in use.
    pub fn new(eal: &Eal, name: &str, size: u32, data_room: u16) -> Result<Self, DpdkError> {
        let operation = || format!("rte_pktmbuf_pool_create({name}, {size} buffers)");
        let c_name = CString::new(name).map_err(|_| DpdkError::new(operation(), INVALID))?;
        let room =
            data_room.checked_add(Self::HEADROOM).ok_or_else(|| DpdkError::new(operation(), INVALID))?;
        // A cache must not hold more than two thirds of the pool.
        let cache = Self::CACHE.min(size / 2);
        // SAFETY: EAL is initialised; the name is NUL-terminated and copied.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                c_name.as_ptr(),
                size,
                cache,
                0,
                room,
                dpdk_sys::PX_SOCKET_ID_ANY,
            )
        };
        let pool = NonNull::new(pool).ok_or_else(|| DpdkError::last(operation()))?;
        Ok(Self(Arc::new(Inner { pool, size, eal: ManuallyDrop::new(eal.clone()) })))
    }

    /// How many buffers there are.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.0.size
    }

    /// How many are out: in queues, rings and frames. Counts the caches of all lcores, so it is not for the data path, and
    /// approximate while others allocate.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is alive; the function only reads.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.0.pool.as_ptr()) }
    }

    /// A frame with these contents; `None` where no buffer is free or the bytes do not fit.
    #[must_use]
    pub fn frame(&self, bytes: &[u8]) -> Option<Mbuf> {
        // SAFETY: the pool is alive; the mbuf that comes back is reset and nobody else's.
        let mut frame = unsafe { Mbuf::from_raw(dpdk_sys::px_alloc(self.0.pool.as_ptr())) }?;
        frame.fill(bytes).then_some(frame)
    }

    /// Appends `n` empty frames to `frames`: all of them, or none and `false`.
    pub fn frames<const N: usize>(&self, n: usize, frames: &mut ArrayVec<Mbuf, N>) -> bool {
        if n > frames.remaining_capacity() {
            return false;
        }
        let len = frames.len();
        // SAFETY: `n` elements fit behind `len`, and an `Mbuf` is a pointer to an mbuf (transparent); on success DPDK has
        // written `n` valid pointers that are nobody else's, on failure nothing that counts.
        unsafe {
            let at = frames.as_mut_ptr().add(len).cast::<*mut dpdk_sys::rte_mbuf>();
            if dpdk_sys::px_alloc_bulk(self.0.pool.as_ptr(), at, n as u32) != 0 {
                return false;
            }
            frames.set_len(len + n);
        }
        true
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.0.pool.as_ptr()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the pool is alive, and this is the last handle: nobody allocates any more. A count of 0 means that no mbuf
        // exists outside, so that nobody can release one either.
        unsafe {
            if dpdk_sys::rte_mempool_in_use_count(self.pool.as_ptr()) == 0 {
                dpdk_sys::rte_mempool_free(self.pool.as_ptr());
                // Taken once, here; the field is not used afterwards.
                ManuallyDrop::drop(&mut self.eal);
            }
        }
        // Else the pool stays, and EAL with it: some mbuf still points here.
    }
}

const INVALID: i32 = 22;
