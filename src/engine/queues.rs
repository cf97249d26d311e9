//! How many queues a port gets, and which worker has which.

use super::EngineError;
use crate::config::{Port, Role};
use crate::dpdk::{DeviceInfo, Mempool, Rss, RssSetup};
use crate::steering::{BUCKETS, Steering};

/// The queues of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePlan {
    /// RX queues.
    pub rx: u16,
    /// TX queues.
    pub tx: u16,
}

impl QueuePlan {
    /// One queue a worker where the device can use them; all queues of a device whose queues are fed whether they are
    /// polled or not.
    pub fn of(port: &Port, info: &DeviceInfo, workers: usize) -> Result<Self, EngineError> {
        let workers = u16::try_from(workers).unwrap_or(u16::MAX);
        let most = info.max_rx_queues.min(info.max_tx_queues);
        if port.queues > most {
            return Err(EngineError::Queues {
                port: port.name.clone(),
                wanted: port.queues,
                driver: info.driver.clone(),
                most,
            });
        }
        if port.queues > 0 {
            return Ok(Self { rx: port.queues, tx: port.queues });
        }
        let rx = match info.driver.as_str() {
            // Made with as many queues as their arguments say, each with a socket, ring or file of its own.
            "net_af_packet" | "net_af_xdp" | "net_ring" | "net_pcap" => info.max_rx_queues,
            // The kernel spreads flows over a TAP's queues itself.
            "net_tap" => workers.min(info.max_rx_queues),
            _ if info.rss => workers.min(info.max_rx_queues),
            _ => 1,
        };
        let tx = match info.driver.as_str() {
            // These want as many of one as of the other.
            "net_af_xdp" | "net_tap" => rx,
            _ => workers.min(info.max_tx_queues),
        };
        Ok(Self { rx: rx.max(1), tx: tx.max(1) })
    }
}

/// The worker that has queue `queue` of the `queues` of port number `port`. Where there are as many as workers, queue n is
/// worker n's; else the queues of successive ports go to successive workers, so that two ports with one queue each
/// give work to two workers.
pub(super) fn worker_of(port: usize, queue: usize, queues: usize, workers: usize) -> usize {
    if queues >= workers { queue % workers } else { (port * queues + queue) % workers }
}

/// The TX queue of port number `port` that worker `worker` sends to: its own where it has one.
pub(super) fn tx_queue_for(port: usize, worker: usize, queues: usize, workers: usize) -> usize {
    (0..queues).find(|&queue| worker_of(port, queue, queues, workers) == worker).unwrap_or(worker % queues)
}

/// What RSS is to do on port number `port`.
pub(super) fn rss(steering: &Steering, role: Role, port: usize, plan: QueuePlan, workers: usize) -> RssSetup {
    RssSetup { role, key: *steering.key(), queues: of_buckets(steering, port, plan.rx.into(), workers) }
}

/// Whether all frames of TCP and UDP come to the worker that owns their connection, now that port number `port` has got this
/// of its device.
pub(super) fn is_steered(
    steering: &Steering,
    granted: Rss,
    port: usize,
    plan: QueuePlan,
    workers: usize,
) -> bool {
    workers == 1 || granted == Rss::Client && reach_owners(steering, port, plan.rx.into(), workers)
}

/// Where RSS shall send each bucket at port number `port`: to a queue of the worker that owns it, and where that has several,
/// to one after the other.
fn of_buckets(steering: &Steering, port: usize, queues: usize, workers: usize) -> [u16; BUCKETS] {
    let mut dealt = vec![0; workers];
    let owners = steering.workers();
    std::array::from_fn(|bucket| {
        let owner = owners[bucket].index();
        let own: Vec<_> =
            (0..queues).filter(|&queue| worker_of(port, queue, queues, workers) == owner).collect();
        dealt[owner] += 1;
        // A worker without a queue here gets its frames through the rings.
        let queue = own.get((dealt[owner] - 1) % own.len().max(1)).copied();
        queue.unwrap_or(bucket % queues.max(1)) as u16
    })
}

/// Whether, then, all frames that have an owner come to it.
fn reach_owners(steering: &Steering, port: usize, queues: usize, workers: usize) -> bool {
    let by_queue = of_buckets(steering, port, queues, workers);
    let polled_by = by_queue.map(|queue| worker_of(port, queue.into(), queues, workers));
    polled_by.iter().zip(steering.workers()).all(|(&worker, owner)| worker == owner.index())
}

/// Where frames can be at the same time: as many buffers are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// In the descriptors of all queues.
    pub descriptors: usize,
    /// Workers.
    pub workers: usize,
    /// In the hands of one worker: bursts, TX buffers, frames on hold.
    pub per_worker: usize,
    /// In rings between workers.
    pub rings: usize,
}

impl Places {
    /// Buffers of the pool; a power of two less one uses its memory best.
    pub fn buffers(&self) -> u32 {
        // A cache holds up to one and a half of its size.
        let caches = Mempool::CACHE as usize * 3 / 2;
        let sum = self.descriptors + self.rings + self.workers * (self.per_worker + caches) + caches;
        u32::try_from((sum + 1).next_power_of_two() - 1).unwrap_or(u32::MAX)
    }
}

/// Room for a frame in a buffer: any port's MTU with Ethernet header, two tags and FCS, and not less than what drivers
/// expect.
pub(super) fn data_room(ports: &[Port]) -> u16 {
    let mtu = ports.iter().map(|port| port.mtu).max().unwrap_or(1500);
    let room = (u32::from(mtu) + 14 + 8 + 4).next_multiple_of(64);
    u16::try_from(room).unwrap_or(u16::MAX).clamp(2048, u16::MAX - Mempool::HEADROOM)
}

/// Bytes that a buffer takes in memory. On ordinary memory DPDK lets none cross a page.
pub(super) fn buffer_bytes(data_room: u16, hugepages: bool) -> u32 {
    const HEADER_AND_MBUF: u32 = 64 + 128;
    let bytes = (HEADER_AND_MBUF + u32::from(Mempool::HEADROOM) + u32::from(data_room)).next_multiple_of(64);
    if hugepages { bytes } else { bytes.next_multiple_of(4096) }
}

/// Memory for so many buffers and what else DPDK needs, MiB.
pub(super) fn memory_mb(buffers: u32, buffer_bytes: u32) -> u32 {
    const ELSE_MB: u64 = 8;
    let bytes = u64::from(buffers) * u64::from(buffer_bytes);
    // The pool's ring and the gaps between its chunks.
    u32::try_from((bytes + bytes / 50).div_ceil(1 << 20) + ELSE_MB).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(queues: u16) -> Port {
        Port {
            name: "wan".into(),
            device: "x".into(),
            role: Role::Client,
            addresses: vec![],
            mtu: 1500,
            vlan: 0,
            queues,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            kernel: None,
        }
    }

    fn device(driver: &str, rx: u16, tx: u16, rss: bool) -> DeviceInfo {
        DeviceInfo {
            driver: driver.into(),
            max_rx_queues: rx,
            max_tx_queues: tx,
            rss,
            rx_ipv4_checksum: false,
            tx_sctp_crc: false,
            mtu: (68, 9000),
        }
    }

    fn plan(queues: u16, info: &DeviceInfo, workers: usize) -> (u16, u16) {
        let plan = QueuePlan::of(&port(queues), info, workers).unwrap();
        (plan.rx, plan.tx)
    }

    #[test]
    fn one_queue_a_worker_where_the_device_spreads() {
        assert_eq!(plan(0, &device("net_ixgbe", 128, 64, true), 4), (4, 4));
        assert_eq!(plan(0, &device("net_ixgbe", 2, 2, true), 4), (2, 2));
        assert_eq!(plan(0, &device("net_memif", 255, 255, false), 4), (1, 4));
        assert_eq!(plan(0, &device("net_af_packet", 1, 1, false), 4), (1, 1));
        assert_eq!(plan(0, &device("net_tap", 16, 16, true), 4), (4, 4));
    }

    #[test]
    fn queues_that_are_fed_are_polled() {
        assert_eq!(plan(0, &device("net_af_packet", 4, 4, false), 2), (4, 2));
        assert_eq!(plan(0, &device("net_af_xdp", 2, 2, false), 1), (2, 2));
    }

    #[test]
    fn a_configured_number_is_kept_or_refused() {
        assert_eq!(plan(2, &device("net_memif", 255, 255, false), 4), (2, 2));
        let error = QueuePlan::of(&port(4), &device("net_af_packet", 1, 1, false), 4).unwrap_err();
        assert_eq!(error.to_string(), "port wan: queues = 4, but net_af_packet has 1 here");
    }

    #[test]
    fn every_queue_has_one_worker_and_every_worker_a_queue_to_send_to() {
        for workers in 1..=8 {
            for queues in 1..=8 {
                for port in 0..4 {
                    for worker in 0..workers {
                        let queue = tx_queue_for(port, worker, queues, workers);
                        assert!(queue < queues);
                        let owner = worker_of(port, queue, queues, workers);
                        assert!(owner < workers);
                        // Who owns a queue uses one of his own.
                        if (0..queues).any(|q| worker_of(port, q, queues, workers) == worker) {
                            assert_eq!(owner, worker);
                        }
                    }
                }
            }
        }
        assert_eq!((worker_of(0, 0, 1, 2), worker_of(1, 0, 1, 2)), (0, 1));
    }

    #[test]
    fn buckets_come_to_their_owners_where_each_worker_has_a_queue() {
        for workers in 1..=8 {
            let steering = Steering::new(1, workers as u8);
            for queues in 1..=16 {
                for port in 0..3 {
                    let by_queue = of_buckets(&steering, port, queues, workers);
                    assert!(by_queue.iter().all(|&queue| usize::from(queue) < queues));
                    // No queue idles.
                    assert!(
                        (0..queues).all(|queue| by_queue.contains(&(queue as u16))),
                        "{workers} {queues}"
                    );
                    let reach = reach_owners(&steering, port, queues, workers);
                    assert_eq!(reach, queues >= workers, "{queues} queues, {workers} workers");
                }
            }
        }
        let steering = Steering::new(1, 2);
        assert_eq!(of_buckets(&steering, 0, 4, 2)[..6], [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn buffers_are_enough_for_all_places() {
        let places = Places { descriptors: 4096, workers: 2, per_worker: 2000, rings: 2048 };
        assert!(places.buffers() >= 4096 + 2 * (2000 + 384) + 2048);
        assert!((places.buffers() + 1).is_power_of_two());
        assert_eq!(data_room(&[port(0)]), 2048);
        assert_eq!(data_room(&[Port { mtu: 9000, ..port(0) }]), 9088);
        assert_eq!(data_room(&[Port { mtu: 65_535, ..port(0) }]), u16::MAX - Mempool::HEADROOM);
        assert_eq!((buffer_bytes(2048, true), buffer_bytes(2048, false)), (2368, 4096));
        assert_eq!(memory_mb(16_383, 4096), 64 + 2 + 8);
    }
}
