//! Cache lines fetched ahead of their use, and tables on huge pages.
//!
//! A packet's cost in a large table is that of its cache misses. A burst's stages say beforehand what they will read
//! ([`prefetch`]), so that the misses of many packets overlap; and tables ask for huge pages ([`Pages`], [`huge_vec`]),
//! without which most of these reads miss the TLB too.

use std::fs;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use bytemuck::Zeroable;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Size and alignment of a huge page.
const HUGE: usize = 2 << 20;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Starts to fetch every cache line of `at`. A hint: it costs an instruction a line, and waits for nothing.
#[inline(always)]
pub fn prefetch<T>(at: &T) {
    let start = std::ptr::from_ref(at).cast::<u8>();
    let mut offset = 0;
    while offset < size_of::<T>().max(1) {
        line(start.wrapping_add(offset));
        offset += LINE;
    }
}

/// Starts to fetch the cache line that `at` lies in.
#[inline(always)]
pub(super) fn line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it faults at no address. SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Which of sixteen lanes have this value, as bits.
#[inline(always)]
#[must_use]
pub fn lanes_with(low: &[u16; 8], high: &[u16; 8], value: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
        };
        // SAFETY: SSE2 is part of x86-64; both arrays are the 16 bytes that a load reads, whatever their alignment.
        let same = unsafe {
            let wanted = _mm_set1_epi16(value.cast_signed());
            let [low, high] = [low, high].map(|lanes| _mm_loadu_si128(lanes.as_ptr().cast()));
            _mm_movemask_epi8(_mm_packs_epi16(_mm_cmpeq_epi16(low, wanted), _mm_cmpeq_epi16(high, wanted)))
        };
        same.cast_unsigned()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let lanes = low.iter().chain(high).enumerate();
        lanes.fold(0, |found, (i, lane)| found | u32::from(*lane == value) << i)
    }
}

/// What the kernel says about huge pages for memory that asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// It gives them.
    Given,
    /// It is told not to (`/sys/kernel/mm/transparent_hugepage/enabled` is `never`), or has none.
    Refused,
}

/// Whether tables get huge pages on this machine.
#[must_use]
pub fn huge_pages() -> HugePages {
    match fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled") {
        Ok(text) if !text.contains("[never]") => HugePages::Given,
        _ => HugePages::Refused,
    }
}

/// Asks for huge pages behind the memory of `place`, which has not been touched yet: pages that are there already stay as they are.
fn advise_huge<T>(place: &mut [MaybeUninit<T>]) {
    let start = place.as_mut_ptr().addr();
    let end = start + size_of_val(place);
    // Whole pages inside.
    let (first, last) = (start.next_multiple_of(HUGE), end & !(HUGE - 1));
    if first < last {
        let at = place.as_mut_ptr().cast::<u8>().wrapping_add(first - start);
        // SAFETY: the range lies inside `place`; the advice changes what backs the memory and nothing that is in it.
        // Where it is refused, pages are small.
        let _ = unsafe { madvise(at.cast(), last - first, Advice::LinuxHugepage) };
    }
}

/// An empty vector with room for `capacity` elements, on huge pages where the kernel gives them.
#[must_use]
pub fn huge_vec<T>(capacity: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(capacity);
    advise_huge(vec.spare_capacity_mut());
    vec
}

/// A fixed array of zeroes in memory of its own, on huge pages where the kernel gives them. Its pages are taken as they are
/// first used: a table for millions costs nothing at the start.
#[derive(Debug)]
pub struct Pages<T> {
    /// Aligned to [`HUGE`], `len` elements.
    start: NonNull<T>,
    len: usize,
    /// The mapping around it.
    mapping: (NonNull<u8>, usize),
    _owns: PhantomData<T>,
}

// SAFETY: `Pages` owns its memory as a `Box<[T]>` does.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above; shared access gives `&[T]` alone.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: Zeroable> Pages<T> {
    /// `len` elements, all zero.
    ///
    /// # Panics
    /// Where the kernel gives no address space for them: as the allocator does, at the start.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::advised(len, Advice::LinuxHugepage)
    }

    /// The same, of which few elements will ever be used: on pages that are as small as the kernel has.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn sparse(len: usize) -> Self {
        Self::advised(len, Advice::LinuxNoHugepage)
    }

    fn advised(len: usize, advice: Advice) -> Self {
        const { assert!(align_of::<T>() <= HUGE && size_of::<T>() > 0) };
        let bytes = len.max(1).checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(HUGE));
        let bytes = bytes.expect("a table that fits in the address space");
        // SAFETY: a new private mapping, at an address that the kernel chooses: nothing is mapped over.
        let mapping = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let mapping = mapping.ok().and_then(|at| NonNull::new(at.cast::<u8>()));
        let mapping = mapping.unwrap_or_else(|| panic!("no memory for a table of {bytes} bytes"));
        let skip = mapping.addr().get().next_multiple_of(HUGE) - mapping.addr().get();
        // SAFETY: `skip` is below `HUGE`, by which the mapping is longer than the elements; the result is aligned for them.
        let start = unsafe { mapping.add(skip) }.cast::<T>();
        // SAFETY: the range lies inside the mapping, which is ours. Where the advice is refused, pages are small.
        let _ = unsafe { madvise(start.as_ptr().cast(), bytes - HUGE, advice) };
        Self { start, len, mapping: (mapping, bytes), _owns: PhantomData }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // `T: Zeroable` of a table has no drop glue to run: elements are plain data.
        let (at, bytes) = self.mapping;
        // SAFETY: the mapping was made in `zeroed` with this length, and nobody refers to it any more.
        let _ = unsafe { munmap(at.as_ptr().cast(), bytes) };
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements from `start` on are mapped, aligned, and valid: zeroes at first (`T: Zeroable`), then what
        // was written through `deref_mut`. Borrowed as `self` is.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_aligned_and_keep_what_is_written() {
        let mut pages = Pages::<u64>::zeroed(1_000_000);
        assert_eq!(pages.len(), 1_000_000);
        assert!(pages.as_ptr().addr().is_multiple_of(HUGE));
        assert!(pages.iter().all(|n| *n == 0));
        for (n, place) in (0..).zip(pages.iter_mut()) {
            *place = n;
        }
        assert!(pages.iter().zip(0..).all(|(n, wanted)| *n == wanted));
        assert!(Pages::<u8>::zeroed(0).is_empty());
    }

    #[test]
    fn advice_leaves_memory_as_it_is() {
        let mut memory = Vec::<u8>::with_capacity(3 * HUGE);
        advise_huge(memory.spare_capacity_mut());
        memory.resize(3 * HUGE, 7);
        assert!(memory.iter().all(|n| *n == 7));
        prefetch(&memory);
    }
}
