//! Ports: what a device can, its configuration, link and counters.

use std::any::Any;
use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_link, rte_eth_stats};

use super::error::check;
use super::log::captured;
use super::queue::{RxQueue, TxQueue};
use super::rss::{self, Rss, RssSetup};
use super::{DpdkError, Eal, Mempool};
use crate::addr::Mac;

/// A device that EAL has, not configured yet. Dropping it closes it.
#[derive(Debug)]
pub struct Device(Closer);

/// Closes the port when dropped.
#[derive(Debug)]
struct Closer {
    eal: Eal,
    id: u16,
    name: String,
    /// The name as EAL knows it, of a virtual device.
    vdev: Option<CString>,
    started: bool,
    promiscuous: bool,
    granted: Granted,
    /// What the device itself uses and does not own: the rings of a ring port, the pool of its RX queues.
    keep: Keep,
}

#[derive(Default)]
struct Keep(Vec<Box<dyn Any + Send + Sync>>);

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} objects", self.0.len())
    }
}

/// What a device can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The driver's name: `net_af_packet`, `net_ixgbe`.
    pub driver: String,
    /// Most RX queues.
    pub max_rx_queues: u16,
    /// Most TX queues.
    pub max_tx_queues: u16,
    /// Whether it spreads packets over its RX queues by a hash of addresses and ports.
    pub rss: bool,
    /// Whether it verifies IPv4 header checksums.
    pub rx_ipv4_checksum: bool,
    /// Whether it computes the CRC32c of SCTP.
    pub tx_sctp_crc: bool,
    /// Smallest and largest L3 MTU.
    pub mtu: (u16, u16),
}

/// How a port is to be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSetup {
    /// RX queues.
    pub rx_queues: u16,
    /// With more than one RX queue: how to spread frames over them, where the device can.
    pub rss: Option<RssSetup>,
    /// TX queues.
    pub tx_queues: u16,
    /// Size of an RX ring; adjusted to what the device takes.
    pub rx_descriptors: u16,
    /// Size of a TX ring; likewise.
    pub tx_descriptors: u16,
    /// L3 MTU.
    pub mtu: u16,
}

/// What a device made of its [`PortSetup`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Size of an RX ring, as adjusted.
    pub rx_descriptors: u16,
    /// Size of a TX ring, as adjusted.
    pub tx_descriptors: u16,
    /// L3 MTU; none where the device has none of its own.
    pub mtu: Option<u16>,
    /// How it spreads frames over the RX queues.
    pub rss: Rss,
    /// Whether it verifies IPv4 header checksums.
    pub rx_ipv4_checksum: bool,
    /// Whether it computes the CRC32c of SCTP.
    pub tx_sctp_crc: bool,
}

/// A running port. Clones share it; it is stopped and closed when the last clone and all of its queues are gone.
#[derive(Clone, Debug)]
pub struct Port(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    closer: Closer,
    /// DPDK's control functions are not for two threads at once on one port.
    control: Mutex<()>,
}

/// What the device itself has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because the RX ring was full.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames lost for want of a buffer.
    pub rx_no_mbuf: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

impl Device {
    pub(super) fn new(eal: Eal, id: u16, name: &str, vdev: Option<CString>) -> Self {
        let (name, keep) = (name.into(), Keep::default());
        Self(Closer {
            eal,
            id,
            name,
            vdev,
            started: false,
            promiscuous: false,
            granted: Granted::default(),
            keep,
        })
    }

    /// Holds on to what the device uses until it is closed.
    pub(super) fn keep(&mut self, what: impl Any + Send + Sync) {
        self.0.keep.0.push(Box::new(what));
    }

    /// The device's name: a PCI address or a vdev.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it can.
    ///
    /// # Errors
    /// What the driver says.
    pub fn info(&self) -> Result<DeviceInfo, DpdkError> {
        let info = self.0.info()?;
        let driver = if info.driver_name.is_null() {
            String::new()
        } else {
            // SAFETY: the driver's name is a NUL-terminated static string of the loaded driver.
            unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
        };
        Ok(DeviceInfo {
            driver,
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            rss: rss::offered(&info),
            rx_ipv4_checksum: info.rx_offload_capa & dpdk_sys::PX_RX_OFFLOAD_IPV4_CKSUM != 0,
            tx_sctp_crc: info.tx_offload_capa & dpdk_sys::PX_TX_OFFLOAD_SCTP_CKSUM != 0,
            mtu: (info.min_mtu, info.max_mtu),
        })
    }

    /// Configures and starts the port; its queues, in their order.
    ///
    /// # Errors
    /// What the driver refuses; the device is closed then.
    pub fn start(
        self,
        setup: &PortSetup,
        pool: &Mempool,
    ) -> Result<(Port, Vec<RxQueue>, Vec<TxQueue>), DpdkError> {
        let mut closer = self.0;
        closer.keep.0.push(Box::new(pool.clone()));
        let eal = closer.eal.clone();
        {
            let _exclusive = eal.exclusive();
            captured(|| closer.start(setup, pool))?;
        }
        let port = Port(Arc::new(Inner { closer, control: Mutex::new(()) }));
        let rx = (0..setup.rx_queues).map(|queue| RxQueue::new(port.clone(), queue)).collect();
        let tx = (0..setup.tx_queues).map(|queue| TxQueue::new(port.clone(), queue)).collect();
        Ok((port, rx, tx))
    }
}

impl Closer {
    fn info(&self) -> Result<rte_eth_dev_info, DpdkError> {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port exists until `self` closes it; `info` is ours.
        let ret = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id, &raw mut info) };
        check(|| self.operation("rte_eth_dev_info_get"), ret)?;
        Ok(info)
    }

    fn operation(&self, function: &str) -> String {
        format!("{function}({})", self.name)
    }

    fn start(&mut self, setup: &PortSetup, pool: &Mempool) -> Result<(), DpdkError> {
        let id = self.id;
        let info = self.info()?;

        let mut conf = rte_eth_conf::default();
        // What drivers cannot be told here they are told below, or take what comes.
        conf.rxmode.mtu = u32::from(setup.mtu.clamp(info.min_mtu.max(1), info.max_mtu.max(1)));
        conf.rxmode.offloads = dpdk_sys::PX_RX_OFFLOAD_IPV4_CKSUM & info.rx_offload_capa;
        conf.txmode.offloads = dpdk_sys::PX_TX_OFFLOAD_SCTP_CKSUM & info.tx_offload_capa;
        // A TAP's queues are fed by the kernel, and its RSS wants an eBPF program.
        let spread = setup.rss.filter(|_| setup.rx_queues > 1 && !self.name.starts_with("net_tap"));
        // Lives over the call.
        let mut key = spread.map_or_else(Vec::new, |rss| rss.key_for(&info));
        let mut by = Rss::None;
        if let Some(rss) = spread {
            by = rss.ask(&info, &mut key, &mut conf);
        }
        // SAFETY: the port exists and is not started; `conf` and the key that it points to live over the call and are
        // copied.
        let ret =
            unsafe { dpdk_sys::rte_eth_dev_configure(id, setup.rx_queues, setup.tx_queues, &raw const conf) };
        check(|| self.operation("rte_eth_dev_configure"), ret)?;
        drop(key);
        self.granted.rx_ipv4_checksum = conf.rxmode.offloads != 0;
        self.granted.tx_sctp_crc = conf.txmode.offloads != 0;

        let (mut rx_descriptors, mut tx_descriptors) = (setup.rx_descriptors, setup.tx_descriptors);
        // SAFETY: the port is configured; both numbers are ours.
        let ret = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx_descriptors, &raw mut tx_descriptors)
        };
        check(|| self.operation("rte_eth_dev_adjust_nb_rx_tx_desc"), ret)?;

        (self.granted.rx_descriptors, self.granted.tx_descriptors) = (rx_descriptors, tx_descriptors);

        // SAFETY: the port exists; the function only reads.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) }.cast_unsigned();
        for queue in 0..setup.rx_queues {
            // SAFETY: the port is configured with at least `queue + 1` RX queues and not started; NULL stands for the
            // driver's defaults; the pool outlives the port (`keep`).
            let ret = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    id,
                    queue,
                    rx_descriptors,
                    socket,
                    ptr::null(),
                    pool.as_ptr(),
                )
            };
            check(|| self.operation(&format!("rte_eth_rx_queue_setup[{queue}]")), ret)?;
        }
        for queue in 0..setup.tx_queues {
            // SAFETY: as above, for TX queues.
            let ret =
                unsafe { dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, ptr::null()) };
            check(|| self.operation(&format!("rte_eth_tx_queue_setup[{queue}]")), ret)?;
        }
        self.granted.mtu = self.set_mtu(setup.mtu)?.then_some(setup.mtu);

        // SAFETY: the port is configured, and all of its queues are set up.
        check(|| self.operation("rte_eth_dev_start"), unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        self.started = true;
        // Some drivers forget at their start what they were told before it.
        self.granted.rss = match spread {
            Some(rss) if by != Rss::None => rss.redirect(id, &info, by),
            _ => Rss::None,
        };
        self.receive_multicast();
        Ok(())
    }

    /// Tells the device its MTU where it has another. Whether it knows it now.
    fn set_mtu(&self, mtu: u16) -> Result<bool, DpdkError> {
        let mut now = 0;
        // SAFETY: the port exists; `now` is ours.
        let ret = unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.id, &raw mut now) };
        if ret == 0 && now == mtu {
            return Ok(true);
        }
        // SAFETY: the port exists and is not started.
        match unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.id, mtu) } {
            // Rings and the like have none: they take what fits a buffer.
            UNSUPPORTED => Ok(false),
            ret => check(|| self.operation(&format!("rte_eth_dev_set_mtu[{mtu}]")), ret).map(|_| true),
        }
    }

    /// Neighbour solicitations for VIPs come to multicast addresses that only the engine knows of (RFC 4861 §7.2.2). Where
    /// the device cannot take all multicast it takes all frames, and the parser drops those for others. VIPs have the
    /// port's own MAC and need neither.
    fn receive_multicast(&mut self) {
        // SAFETY: the port exists; these functions may be called on a started port.
        unsafe {
            if dpdk_sys::rte_eth_allmulticast_enable(self.id) != 0 {
                self.promiscuous = dpdk_sys::rte_eth_promiscuous_enable(self.id) == 0;
            }
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        // SAFETY: the port exists and nobody uses its queues: each queue holds the port, and this is its end. It is stopped
        // before it is closed, closed once, and its pool and rings are still there (`keep` goes after this).
        unsafe {
            if self.promiscuous {
                // An interface of the kernel's would stay so.
                dpdk_sys::rte_eth_promiscuous_disable(self.id);
            }
            if self.started {
                dpdk_sys::rte_eth_dev_stop(self.id);
            }
            dpdk_sys::rte_eth_dev_close(self.id);
            if let Some(vdev) = &self.vdev {
                // Its name is free again, and what its driver still holds is let go. A PCI device stays probed.
                dpdk_sys::rte_eal_hotplug_remove(c"vdev".as_ptr(), vdev.as_ptr());
            }
        }
        self.eal.release(self.id);
    }
}

impl Port {
    pub(super) fn id(&self) -> u16 {
        self.0.closer.id
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.closer.name
    }

    /// The station address.
    ///
    /// # Errors
    /// What the driver says.
    pub fn mac(&self) -> Result<Mac, DpdkError> {
        let mut mac = dpdk_sys::rte_ether_addr::default();
        let ret = self.control(|id| {
            // SAFETY: the port exists; `mac` is ours.
            unsafe { dpdk_sys::rte_eth_macaddr_get(id, &raw mut mac) }
        });
        check(|| self.0.closer.operation("rte_eth_macaddr_get"), ret)?;
        Ok(Mac(mac.addr_bytes))
    }

    /// Whether the link is up.
    #[must_use]
    pub fn link_up(&self) -> bool {
        let mut link = rte_eth_link::default();
        let ret = self.control(|id| {
            // SAFETY: the port exists; `link` is ours.
            unsafe { dpdk_sys::rte_eth_link_get_nowait(id, &raw mut link) }
        });
        ret == 0 && u32::from(link.link_status()) == dpdk_sys::RTE_ETH_LINK_UP
    }

    /// What the device has counted.
    ///
    /// # Errors
    /// What the driver says.
    pub fn stats(&self) -> Result<PortStats, DpdkError> {
        let mut stats = rte_eth_stats::default();
        let ret = self.control(|id| {
            // SAFETY: the port exists; `stats` is ours.
            unsafe { dpdk_sys::rte_eth_stats_get(id, &raw mut stats) }
        });
        check(|| self.0.closer.operation("rte_eth_stats_get"), ret)?;
        Ok(PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_errors: stats.oerrors,
        })
    }

    /// What the device made of its set-up.
    #[must_use]
    pub fn granted(&self) -> Granted {
        self.0.closer.granted
    }

    /// The device's redirection table: the queue of each bucket; none where the device does not tell.
    #[must_use]
    pub fn redirection(&self) -> Option<Vec<u16>> {
        self.control(|id| rss::redirection(id, self.0.closer.info().ok()?.reta_size))
    }

    /// Whether the port takes frames for other stations too.
    #[must_use]
    pub fn promiscuous(&self) -> bool {
        self.0.closer.promiscuous
    }

    fn control<T>(&self, call: impl FnOnce(u16) -> T) -> T {
        let _one_at_a_time = self.0.control.lock().unwrap_or_else(PoisonError::into_inner);
        call(self.id())
    }
}

/// -ENOTSUP.
const UNSUPPORTED: i32 = -95;
