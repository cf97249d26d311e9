//! RX and TX queues: one call a burst.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use arrayvec::ArrayVec;

use super::Port;
use super::mbuf::Mbuf;
use crate::pipeline::{Frame, MAX_BURST};

/// One RX queue of a running port; the only handle of it.
#[derive(Debug)]
pub struct RxQueue {
    port: Port,
    id: u16,
    queue: u16,
    // DPDK's queues are for one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

/// One TX queue of a running port; the only handle of it.
#[derive(Debug)]
pub struct TxQueue {
    port: Port,
    id: u16,
    queue: u16,
    _not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(super) fn new(port: Port, queue: u16) -> Self {
        Self { id: port.id(), port, queue, _not_sync: PhantomData }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Appends at most `most` frames that have arrived to `frames`, fetched and [joined](Self::join_segments).
    #[inline]
    pub fn burst(
        &mut self,
        most: usize,
        frames: &mut ArrayVec<Mbuf, MAX_BURST>,
        refused: &mut ArrayVec<usize, MAX_BURST>,
    ) {
        let first = frames.len();
        self.read(most, frames);
        for frame in &frames[first..] {
            frame.prefetch();
        }
        Self::join_segments(frames, refused);
    }

    /// Appends at most `most` frames that have arrived to `frames`, as they are.
    #[inline]
    pub fn read(&mut self, most: usize, frames: &mut ArrayVec<Mbuf, MAX_BURST>) {
        let first = frames.len();
        let n = most.min(frames.remaining_capacity()) as u16;
        if n == 0 {
            return;
        }
        // SAFETY: the port is configured, started, and has this queue, as long as it lives; no other thread uses the queue
        // (one handle, `&mut self`). `n` elements fit behind `first`; an `Mbuf` is a pointer to an mbuf (transparent); the
        // driver writes as many valid mbufs as it returns, direct ones with one reference that are now ours, from a pool
        // that outlives them.
        unsafe {
            let at = frames.as_mut_ptr().add(first).cast();
            let received = dpdk_sys::px_rx_burst(self.id, self.queue, at, n);
            frames.set_len(first + usize::from(received.min(n)));
        }
    }

    /// Frames of several segments are made one; where that cannot be, they are freed and their lengths appended to `refused`.
    #[inline]
    pub fn join_segments(frames: &mut ArrayVec<Mbuf, MAX_BURST>, refused: &mut ArrayVec<usize, MAX_BURST>) {
        // Hardly ever: looked at by itself, without a decision for each.
        if !frames.iter().fold(false, |any, frame| any | frame.is_segmented()) {
            return;
        }
        let mut at = 0;
        while let Some(frame) = frames.get_mut(at) {
            if frame.is_segmented() && !frame.linearize() {
                let frame = frames.remove(at);
                // As many as there were frames: there is room.
                let _ = refused.try_push(frame.len());
                continue;
            }
            at += 1;
        }
    }
}

impl TxQueue {
    pub(super) fn new(port: Port, queue: u16) -> Self {
        Self { id: port.id(), port, queue, _not_sync: PhantomData }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Sends frames from the front of `frames`, as many as the queue takes; the others stay, moved to the front. How many
    /// were taken.
    #[inline]
    pub fn burst<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        let n = frames.len().min(usize::from(u16::MAX)) as u16;
        // SAFETY: the port is configured, started, and has this queue; no other thread uses the queue. The first `n`
        // elements are valid mbufs of ours; an `Mbuf` is a pointer to an mbuf (transparent).
        let taken = unsafe { dpdk_sys::px_tx_burst(self.id, self.queue, frames.as_mut_ptr().cast(), n) };
        let taken = usize::from(taken.min(n));
        // SAFETY: the driver owns the first `taken` mbufs now.
        unsafe { forget_front(frames, taken) };
        taken
    }
}

/// Takes the first `n` frames off without releasing them.
///
/// # Safety
/// `n` is at most the length, and those frames belong to somebody else now.
pub(super) unsafe fn forget_front<const N: usize>(frames: &mut ArrayVec<Mbuf, N>, n: usize) {
    let rest = frames.len() - n;
    // SAFETY: source and destination lie within the `len` initialised elements; afterwards the first `rest` are the ones
    // that were not taken, each once.
    unsafe {
        let at = frames.as_mut_ptr();
        ptr::copy(at.add(n), at, rest);
        frames.set_len(rest);
    }
}
