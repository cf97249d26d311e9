//! What the engine must tell of its devices, so that this module needs to know none.

use crate::health::{EndpointHealth, Results};
use crate::ids::PortId;
use crate::listener::ListenerStats;

/// Reads what devices and buffer pools count themselves. Called once a tick in the aggregator's thread.
pub trait DeviceStats: Send {
    /// Every port's counters since it was started.
    fn ports(&mut self) -> Vec<PortStats>;

    /// Every buffer pool.
    fn pools(&mut self) -> Vec<PoolStats>;

    /// What goes between workers and the kernel.
    fn kernel(&mut self) -> KernelStats;

    /// What the HTTP listener counts.
    fn listener(&mut self) -> ListenerStats {
        ListenerStats::default()
    }

    /// Configured endpoints, and how their probes ended.
    fn health(&mut self) -> HealthStats {
        HealthStats::default()
    }
}

/// What is known of endpoints' health.
#[derive(Clone, Debug, Default)]
pub struct HealthStats {
    /// All that are configured.
    pub endpoints: Vec<EndpointHealth>,
    /// How probes ended, by kind.
    pub probes: Vec<(&'static str, Results)>,
}

/// Counters of a NIC or vdev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStats {
    /// Which port.
    pub port: PortId,
    /// Whether its link is up.
    pub link_up: bool,
    /// Frames dropped because the RX queues were full.
    pub rx_missed: u64,
    /// Frames dropped because no buffer was free.
    pub rx_no_mbuf: u64,
    /// Frames found broken.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

/// A pool of packet buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Its name.
    pub name: String,
    /// Buffers that it has.
    pub size: u64,
    /// Buffers in use.
    pub in_use: u64,
}

/// Counts of what goes between workers and the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// Punted frames that the kernel's interface did not take.
    pub refused: u64,
    /// Routes of the kernel's in force.
    pub routes: u64,
    /// Neighbours that a worker was not told of.
    pub lost_updates: u64,
}
