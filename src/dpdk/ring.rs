//! Ports made of rings: both ends of the wire in one process. What the demo and the tests drive the engine with.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::mbuf::Mbuf;
use super::queue::forget_front;
use super::{Device, DpdkError, Eal};

/// A port, and the other side of its wire.
#[derive(Debug)]
pub struct RingPort {
    /// The port, to be started like any other.
    pub device: Device,
    /// What is put in here arrives in the RX queue of the same number.
    pub inject: Vec<RingProducer>,
    /// What is sent to the TX queue of the same number comes out here.
    pub collect: Vec<RingConsumer>,
}

/// The end of a ring that frames are put into; the only one.
#[derive(Debug)]
pub struct RingProducer(Arc<Ring>);

/// The end of a ring that frames are taken from; the only one.
#[derive(Debug)]
pub struct RingConsumer(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    ring: NonNull<dpdk_sys::rte_ring>,
    _eal: Eal,
}

// SAFETY: the ring is used by one producer and one consumer, each one handle: a queue of the port, and `RingProducer` or
// `RingConsumer`, which take `&mut self`.
unsafe impl Send for Ring {}
// SAFETY: as above: a shared `Ring` gives no access but through those handles.
unsafe impl Sync for Ring {}

/// Makes a port of rings with `size` places each, a power of two (one place stays empty).
///
/// # Errors
/// ENOMEM, EINVAL for a size that is none, EEXIST for a name in use.
pub fn ring_port(
    eal: &Eal,
    name: &str,
    rx_queues: u16,
    tx_queues: u16,
    size: u32,
) -> Result<RingPort, DpdkError> {
    let rings = |direction: &str, n: u16| {
        (0..n).map(|i| Ring::new(eal, &format!("{name}-{direction}{i}"), size)).collect::<Result<Vec<_>, _>>()
    };
    let (rx, tx) = (rings("rx", rx_queues)?, rings("tx", tx_queues)?);
    let pointers = |rings: &[Arc<Ring>]| rings.iter().map(|ring| ring.ring.as_ptr()).collect::<Vec<_>>();
    let (rx_pointers, tx_pointers) = (pointers(&rx), pointers(&tx));
    let operation = || format!("rte_eth_from_rings({name})");
    let c_name = CString::new(name).map_err(|_| DpdkError::new(operation(), 22))?;
    // SAFETY: EAL is initialised; name and arrays are copied; the rings outlive the port, which keeps them.
    let id = unsafe {
        dpdk_sys::rte_eth_from_rings(
            c_name.as_ptr(),
            rx_pointers.as_ptr(),
            rx_pointers.len() as u32,
            tx_pointers.as_ptr(),
            tx_pointers.len() as u32,
            0,
        )
    };
    let id = u16::try_from(id).map_err(|_| DpdkError::last(operation()))?;
    let mut device = eal.adopt(id, &format!("net_ring_{name}"));
    device.keep((rx.clone(), tx.clone()));
    Ok(RingPort {
        device,
        inject: rx.into_iter().map(RingProducer).collect(),
        collect: tx.into_iter().map(RingConsumer).collect(),
    })
}

impl Ring {
    fn new(eal: &Eal, name: &str, size: u32) -> Result<Arc<Self>, DpdkError> {
        let operation = || format!("rte_ring_create({name})");
        let c_name = CString::new(name).map_err(|_| DpdkError::new(operation(), 22))?;
        let flags = dpdk_sys::PX_RING_F_SP_ENQ | dpdk_sys::PX_RING_F_SC_DEQ;
        // SAFETY: EAL is initialised; the name is NUL-terminated and copied.
        let ring =
            unsafe { dpdk_sys::rte_ring_create(c_name.as_ptr(), size, dpdk_sys::PX_SOCKET_ID_ANY, flags) };
        let ring = NonNull::new(ring).ok_or_else(|| DpdkError::last(operation()))?;
        Ok(Arc::new(Self { ring, _eal: eal.clone() }))
    }

    /// Appends at most `n` frames.
    ///
    /// # Safety
    /// No other thread takes from the ring.
    unsafe fn take<const N: usize>(&self, n: usize, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        let len = frames.len();
        let n = n.min(frames.remaining_capacity());
        // SAFETY: the ring is alive; `n` elements fit behind `len`; what comes out of the ring are mbufs that were given up
        // by whoever put them in, so they are ours.
        unsafe {
            let at = frames.as_mut_ptr().add(len).cast();
            let taken = dpdk_sys::px_ring_dequeue_burst(self.ring.as_ptr(), at, n as u32) as usize;
            frames.set_len(len + taken.min(n));
            taken.min(n)
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut frames = ArrayVec::<Mbuf, 32>::new();
        // SAFETY: the last handle is gone: nobody else uses the ring.
        while unsafe { self.take(32, &mut frames) } != 0 {
            super::free_all(&mut frames);
        }
        // SAFETY: as above; the ring is empty and is not used afterwards.
        unsafe { dpdk_sys::rte_ring_free(self.ring.as_ptr()) };
    }
}

impl RingProducer {
    /// Puts in frames from the front of `frames`, as many as fit; the others stay. How many were put in.
    pub fn send<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        for frame in frames.iter_mut() {
            frame.forget_offloads();
        }
        self.put(frames)
    }

    /// [`send`](Self::send) without a look at the frames: they must be as from the wire, and what of them is not in the cache
    /// stays out of it.
    pub fn put<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        let n = frames.len() as u32;
        // SAFETY: the ring is alive, and this is its only producer; the first `n` elements are valid mbufs of ours, and an
        // `Mbuf` is a pointer to one (transparent).
        let put =
            unsafe { dpdk_sys::px_ring_enqueue_burst(self.0.ring.as_ptr(), frames.as_mut_ptr().cast(), n) };
        let put = put.min(n) as usize;
        // SAFETY: those in the ring belong to whoever takes them out.
        unsafe { forget_front(frames, put) };
        put
    }

    /// Frames that wait in the ring.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.count()
    }
}

impl RingConsumer {
    /// Appends at most `n` frames to `frames`; how many.
    pub fn receive<const N: usize>(&mut self, n: usize, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        // SAFETY: this is the ring's only consumer.
        unsafe { self.0.take(n, frames) }
    }

    /// Frames that wait in the ring.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.count()
    }
}

impl Ring {
    fn count(&self) -> usize {
        // SAFETY: the ring is alive; the function only reads.
        unsafe { dpdk_sys::px_ring_count(self.ring.as_ptr()) as usize }
    }
}
