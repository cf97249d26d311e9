//! DPDK's own hash table (`rte_hash`, cuckoo hashing with buckets of eight), as far as ours is compared with it.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use super::error::check;
use super::{DpdkError, Eal};

/// A table from keys of 16 bytes to numbers, hashed as DPDK does where nothing else is asked for (CRC32c).
#[derive(Debug)]
pub struct Hash {
    table: NonNull<dpdk_sys::rte_hash>,
    /// Lives longer than the table.
    _eal: Eal,
}

/// A key.
pub type HashKey = [u8; 16];

impl Hash {
    /// Keys that are looked up at once.
    pub const BURST: usize = 32;

    /// A table for so many keys, in EAL's memory.
    ///
    /// # Errors
    /// ENOMEM where that does not suffice, EEXIST for a name in use.
    pub fn new(eal: &Eal, name: &CStr, keys: u32) -> Result<Self, DpdkError> {
        let parameters = dpdk_sys::rte_hash_parameters {
            name: name.as_ptr(),
            entries: keys,
            key_len: size_of::<HashKey>() as u32,
            socket_id: dpdk_sys::PX_SOCKET_ID_ANY,
            ..Default::default()
        };
        // SAFETY: EAL is initialised; the parameters and the name in them are read during the call alone.
        let table = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        let table =
            NonNull::new(table).ok_or_else(|| DpdkError::last(format!("rte_hash_create({keys} keys)")))?;
        Ok(Self { table, _eal: eal.clone() })
    }

    /// Enters a key, or gives it another number.
    ///
    /// # Errors
    /// ENOSPC where there is no room.
    pub fn insert(&mut self, key: &HashKey, number: usize) -> Result<(), DpdkError> {
        let number = std::ptr::without_provenance_mut::<c_void>(number);
        // SAFETY: the table is alive, nobody else writes it (`&mut self`), the key has the table's length and is copied, and the
        // number is never followed as a pointer.
        let added =
            unsafe { dpdk_sys::rte_hash_add_key_data(self.table.as_ptr(), key.as_ptr().cast(), number) };
        check(|| "rte_hash_add_key_data".to_owned(), added).map(|_| ())
    }

    /// How many of these keys are there, and the sum of their numbers.
    #[must_use]
    pub fn find(&self, keys: &[HashKey; Self::BURST]) -> (u32, usize) {
        let keys = keys.each_ref().map(|key| key.as_ptr().cast::<c_void>());
        let mut hits = 0_u64;
        let mut numbers = [std::ptr::null_mut::<c_void>(); Self::BURST];
        // SAFETY: the table is alive and not written meanwhile (`&self`); `BURST` keys of its length, as many places for numbers, and
        // 64 bits for as many hits.
        let found = unsafe {
            dpdk_sys::rte_hash_lookup_bulk_data(
                self.table.as_ptr(),
                keys.as_ptr().cast_mut(),
                Self::BURST as u32,
                &raw mut hits,
                numbers.as_mut_ptr(),
            )
        };
        let sum = numbers.iter().map(|number| number.addr()).fold(0, usize::wrapping_add);
        (found.unsigned_abs(), sum)
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        // SAFETY: the table is alive, and this is its last use.
        unsafe { dpdk_sys::rte_hash_free(self.table.as_ptr()) };
    }
}
