//! How many packet buffers the engine needs, and the pool of them.

use super::queues::{self, Places, QueuePlan};
use super::transmit::{RELAY, TX_BUFFER};
use super::{EngineError, handoff, kernel};
use crate::config::{self, Config};
use crate::dpdk::{Eal, Mempool};
use crate::fragment;
use crate::pipeline::MAX_BURST;

/// Packets that a shard lets wait for a next hop's MAC.
const HELD: usize = 1024;

/// The pool of packet buffers for all ports and workers.
pub(super) fn pool(
    eal: &Eal,
    config: &Config,
    on_devices: &[config::Port],
    plans: &[QueuePlan],
    workers: usize,
) -> Result<Mempool, EngineError> {
    let queues = |plan: &QueuePlan| usize::from(plan.rx) + usize::from(plan.tx);
    let descriptors = on_devices.iter().zip(plans).map(|(port, plan)| {
        usize::from(plan.rx) * usize::from(port.rx_descriptors)
            + usize::from(plan.tx) * usize::from(port.tx_descriptors)
    });
    // A worker without a TX queue at a port has a ring to one, and its owner a backlog.
    let relays: usize = plans.iter().map(|plan| workers.saturating_sub(usize::from(plan.tx))).sum();
    // Of a shared device all ports but one have such rings only.
    let relays = relays + config.ports.len().saturating_sub(on_devices.len()) * workers;
    let places = Places {
        // Some drivers keep a burst of their own in each queue.
        descriptors: descriptors.sum::<usize>() + plans.iter().map(queues).sum::<usize>() * MAX_BURST,
        workers,
        per_worker: 3 * MAX_BURST + config.ports.len() * TX_BUFFER + HELD + fragment::WAITING,
        rings: workers * workers.saturating_sub(1) * handoff::FRAMES
            + relays * (RELAY + MAX_BURST)
            + if config.ports.iter().any(|port| port.kernel.is_some()) { kernel::places(workers) } else { 0 },
    };
    let (buffers, room) = (places.buffers(), queues::data_room(&config.ports));
    let buffer_bytes = queues::buffer_bytes(room, config.engine.hugepages);
    let needed_mb = queues::memory_mb(buffers, buffer_bytes);
    let memory_mb = config.engine.memory_mb;
    let too_little = |needed_mb| EngineError::Memory {
        memory_mb,
        needed_mb,
        buffers,
        buffer_bytes,
        workers,
        ports: config.ports.len(),
    };
    if needed_mb > memory_mb {
        return Err(too_little(needed_mb));
    }
    Mempool::new(eal, "pollux", buffers, room).map_err(|error| {
        if error.errno() == OUT_OF_MEMORY {
            // The estimate was too low for how the memory is cut up.
            too_little(memory_mb.saturating_add(needed_mb / 2))
        } else {
            EngineError::Eal(error)
        }
    })
}

const OUT_OF_MEMORY: i32 = 12;
