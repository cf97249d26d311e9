//! Packet buffers that free themselves and can be sent once.

use std::mem;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::memory::line;
use crate::pipeline::{Frame, RxChecksum};

/// One frame in a DPDK buffer. Dropping it gives the buffer back to its pool; sending it takes it.
///
/// The frame is all in the first segment: what has more is linearised, or refused, where it is received.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an `Mbuf` is the only owner of its buffer (reference count 1, direct), and its pool takes releases from every
// thread (see `Mempool`).
unsafe impl Send for Mbuf {}

/// Whether all ports compute the CRC32c of SCTP at transmission. An mbuf does not know where it will leave, so it can
/// only promise what every port keeps; ports are of the process, as EAL is.
static SCTP_CRC: AtomicBool = AtomicBool::new(false);

/// Says whether every port computes the CRC32c of SCTP packets at transmission: then [`Frame::offload_sctp_crc`] accepts.
pub fn set_sctp_crc_offload(everywhere: bool) {
    SCTP_CRC.store(everywhere, Ordering::Relaxed);
}

impl Mbuf {
    /// Takes over an mbuf; `None` for NULL.
    ///
    /// # Safety
    /// The pointer is NULL or an mbuf that is initialised, direct, with reference count 1, whose pool lives as `Mempool`
    /// promises, and which nobody else uses any more.
    pub(super) unsafe fn from_raw(raw: *mut rte_mbuf) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// The buffer, now the caller's to release.
    pub(super) fn into_raw(self) -> *mut rte_mbuf {
        let raw = self.0.as_ptr();
        mem::forget(self);
        raw
    }

    fn raw(&self) -> &rte_mbuf {
        // SAFETY: the mbuf is valid and ours while `self` lives; nobody else writes it.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as for `raw`, and `self` is borrowed exclusively.
        unsafe { self.0.as_mut() }
    }

    /// Length of the frame in bytes, of all segments.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    /// Whether the frame has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that can be added at the front.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Whether the frame spreads over several buffers.
    #[inline]
    #[must_use]
    pub fn is_segmented(&self) -> bool {
        self.raw().nb_segs > 1
    }

    /// Makes the frame one segment; `false` where the first has no room for all.
    #[must_use]
    pub fn linearize(&mut self) -> bool {
        // SAFETY: the mbuf and its segments are valid and ours.
        unsafe { dpdk_sys::px_linearize(self.0.as_ptr()) == 0 }
    }

    /// Appends another frame as further segments, without copying: how a segmented frame is made. The other comes back
    /// where there would be too many.
    ///
    /// # Errors
    /// The other frame.
    pub fn chain(&mut self, other: Self) -> Result<(), Self> {
        // SAFETY: both are valid and ours; on success the segments belong to this frame and are released with it.
        if unsafe { dpdk_sys::px_chain(self.0.as_ptr(), other.0.as_ptr()) } == 0 {
            other.into_raw();
            Ok(())
        } else {
            Err(other)
        }
    }

    /// Replaces the contents; `false` and no change where they do not fit behind the headroom.
    #[must_use]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        let raw = self.raw_mut();
        let room = usize::from(raw.buf_len).saturating_sub(usize::from(raw.data_off));
        if bytes.len() > room || raw.nb_segs != 1 {
            return false;
        }
        // Fits in 16 bits because the room does.
        raw.data_len = bytes.len() as u16;
        raw.pkt_len = bytes.len() as u32;
        self.data_mut().copy_from_slice(bytes);
        true
    }

    /// Makes it a frame with these contents, as fresh from a device; `false` where they do not fit.
    #[must_use]
    pub fn renew(&mut self, bytes: &[u8]) -> bool {
        let raw = self.raw_mut();
        // The pool's buffers have as much in front, whatever became of it since.
        raw.data_off = (dpdk_sys::RTE_PKTMBUF_HEADROOM as u16).min(raw.buf_len);
        raw.ol_flags = 0;
        self.fill(bytes)
    }

    /// Forgets what devices noted about the frame: it starts anew, as if it came from the wire.
    pub(super) fn forget_offloads(&mut self) {
        self.raw_mut().ol_flags = 0;
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the mbuf is valid and ours, and `drop` is its last use.
        unsafe { dpdk_sys::px_free(self.0.as_ptr()) };
    }
}

/// Frees all frames at once: cheaper than one by one.
pub fn free_all<const N: usize>(frames: &mut ArrayVec<Mbuf, N>) {
    let n = frames.len() as u32;
    if n != 0 {
        // SAFETY: the first `n` elements are valid mbufs of ours, and an `Mbuf` is a pointer to one (transparent); the
        // length is 0 before they are released, so none is released twice.
        unsafe {
            frames.set_len(0);
            dpdk_sys::rte_pktmbuf_free_bulk(frames.as_mut_ptr().cast(), n);
        }
    }
}

impl Frame for Mbuf {
    #[inline]
    fn data(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: `data_off + data_len ≤ buf_len`: drivers and the methods here keep it. The bytes are initialised as far as
        // a device or `fill` has written them; the rest of a pool's memory is zeroed or old frames. Ours while `self` lives.
        unsafe {
            slice::from_raw_parts(
                raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off)),
                usize::from(raw.data_len),
            )
        }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        // SAFETY: as for `data`; the buffer is direct with one reference, and `self` is borrowed exclusively.
        unsafe {
            slice::from_raw_parts_mut(
                raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off)),
                usize::from(raw.data_len),
            )
        }
    }

    #[inline]
    fn grow_front(&mut self, n: usize) -> bool {
        let raw = self.raw_mut();
        let Ok(by) = u16::try_from(n) else { return false };
        let (Some(data_off), Some(data_len)) = (raw.data_off.checked_sub(by), raw.data_len.checked_add(by))
        else {
            return false;
        };
        raw.data_off = data_off;
        raw.data_len = data_len;
        raw.pkt_len += u32::from(by);
        true
    }

    /// The buffer's first line and the frame's, where that is in a fresh buffer: reading where it is would wait for the first one.
    #[inline(always)]
    fn prefetch(&self) {
        const USUAL: usize = size_of::<rte_mbuf>() + dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;
        let start = self.0.as_ptr().cast::<u8>();
        line(start);
        line(start.wrapping_add(USUAL));
    }

    #[inline]
    fn prefetch_front(&self) {
        line(self.data().as_ptr().wrapping_sub(1));
    }

    #[inline]
    fn shrink_front(&mut self, n: usize) {
        let raw = self.raw_mut();
        let by = u16::try_from(n).map_or(raw.data_len, |n| n.min(raw.data_len));
        // At most `data_off + data_len`, which fits because `buf_len` does.
        raw.data_off += by;
        raw.data_len -= by;
        raw.pkt_len -= u32::from(by);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let raw = self.raw_mut();
        if let Ok(len) = u16::try_from(len)
            && len < raw.data_len
        {
            raw.pkt_len -= u32::from(raw.data_len - len);
            raw.data_len = len;
        }
    }

    #[inline]
    fn rx_checksum(&self) -> RxChecksum {
        match self.raw().ol_flags & dpdk_sys::PX_MBUF_F_RX_IP_CKSUM_MASK {
            dpdk_sys::PX_MBUF_F_RX_IP_CKSUM_GOOD => RxChecksum::Good,
            dpdk_sys::PX_MBUF_F_RX_IP_CKSUM_BAD => RxChecksum::Bad,
            _ => RxChecksum::Unknown,
        }
    }

    fn offload_sctp_crc(&mut self, l2: usize, l3: usize) -> bool {
        // Widths of the fields in `tx_offload`.
        if !SCTP_CRC.load(Ordering::Relaxed) || l2 >= 1 << 7 || l3 >= 1 << 9 {
            return false;
        }
        let family = match self.data().get(l2).map(|byte| byte >> 4) {
            Some(4) => dpdk_sys::PX_MBUF_F_TX_IPV4,
            Some(6) => dpdk_sys::PX_MBUF_F_TX_IPV6,
            _ => return false,
        };
        // The device computes over a checksum field of 0 (RFC 9260 §6.8).
        let Some(field) = self.data_mut().get_mut(l2 + l3 + 8..l2 + l3 + 12) else { return false };
        field.fill(0);
        let raw = self.raw_mut();
        raw.ol_flags =
            raw.ol_flags & !dpdk_sys::PX_MBUF_F_TX_OFFLOAD_MASK | dpdk_sys::PX_MBUF_F_TX_SCTP_CKSUM | family;
        raw.__bindgen_anon_3.tx_offload = l2 as u64 | (l3 as u64) << 7;
        true
    }
}
