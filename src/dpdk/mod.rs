//! Safe handles for DPDK: EAL, buffer pools, mbufs, ports, queues and rings.
//!
//! This is the one module of the engine with `unsafe` code. What its types promise each other:
//!
//! - An [`Eal`] exists only after `rte_eal_init` has succeeded, and EAL is cleaned up when the last clone is gone. Every
//!   other handle holds a clone, so nothing of DPDK is called before or after.
//! - A [`Mempool`] is freed only when all of its mbufs are back. Where one is still out, the pool and EAL with it stay for
//!   the rest of the process: an [`Mbuf`] is valid wherever and however long it lives.
//! - A [`Port`] holds its pool, is configured before anybody can have a handle, and is stopped and closed when the last of
//!   its queues and the port itself are gone: a queue can always be polled.
//! - An RX or TX queue has one handle, which can be sent to another thread but not shared, because DPDK's queues are not
//!   for two threads.
#![allow(unsafe_code)]

mod affinity;
mod clock;
mod eal;
mod error;
mod exit;
mod hash;
mod leftovers;
mod log;
mod mbuf;
pub mod memory;
mod mempool;
mod port;
mod queue;
mod ring;
mod rss;
mod thread;

pub use affinity::{allowed_cpus, pin_to, restrict_to};
pub use clock::Clock;
pub use eal::{Eal, EalOptions};
pub use error::DpdkError;
pub use exit::exit_at_once;
pub use hash::{Hash, HashKey};
pub use mbuf::{Mbuf, free_all, set_sctp_crc_offload};
pub use mempool::Mempool;
pub use port::{Device, DeviceInfo, Granted, Port, PortSetup, PortStats};
pub use queue::{RxQueue, TxQueue};
pub use ring::{RingConsumer, RingPort, RingProducer, ring_port};
pub use rss::{Rss, RssSetup};
pub use thread::Registration;

/// Threads that can be registered, the one that initialises EAL included.
pub const MAX_LCORES: usize = dpdk_sys::RTE_MAX_LCORE as usize;

/// The release of DPDK that is linked, as `DPDK 22.11.3`.
#[must_use]
pub fn version() -> String {
    // SAFETY: `rte_version` takes nothing, may be called before EAL, and returns a NUL-terminated static string.
    unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}
