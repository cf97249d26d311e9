//! The workers' start: queues and rings given out, a thread for each.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread;

use rtrb::{Consumer, RingBuffer};

use super::handoff::Inbox;
use super::idle::Rest;
use super::listing::Clerk;
use super::publish::Subscription;
use super::transmit::{Io, RELAY, Relay, TxPort, Way};
use super::worker::{Inlet, Stopwatch, Worker};
use super::{Engine, EngineError, cpus, handoff, kernel, queues};
use crate::capture::TapWriter;
use crate::config::Config;
use crate::counters::Writer;
use crate::dpdk::{Eal, Mbuf, Registration, RxQueue, TxQueue, allowed_cpus, pin_to};
use crate::ids::{PortId, WorkerId};
use crate::pipeline::{MAX_BURST, Resolution, Shard, ShardConfig};

impl Engine {
    /// Starts the workers and waits until each polls. The connections that each can hold.
    pub(super) fn spawn(
        &self,
        eal: &Eal,
        config: &Config,
        queues: Vec<DeviceQueues>,
        seats: Vec<Seat>,
    ) -> Result<Vec<usize>, EngineError> {
        let workers = seats.len();
        let pool = match &*self.running() {
            Some(running) => running.pool.clone(),
            None => return Ok(Vec::new()),
        };
        let max_flows = (config.engine.max_flows as usize).div_ceil(workers);
        let (told, tell) = mpsc::channel();
        let sides = distribute(queues, workers);
        let seats = seats.into_iter().zip(sides).zip(handoff::mesh(workers)).enumerate();
        for (index, ((seat, Side { rx, tx }), ends)) in seats {
            let Seat { writer, tap, subscription, kernel, listing } = seat;
            let kernel::Ends { punted, injected, neighbors } = kernel;
            let shard = ShardConfig {
                worker: WorkerId(index as u8),
                workers: workers as u8,
                max_flows,
                seed: self.seed,
                resolution: Resolution::Discover,
            };
            let lost = Arc::clone(&self.lost_updates);
            let mut io = Io::new(pool.clone(), tap, tx, ends.frames_to, ends.updates_to, lost, punted);
            let mut updates_from = ends.updates_from;
            updates_from.extend(neighbors);
            let (eal, tables, stop) = (eal.clone(), self.tables(), Arc::clone(&self.stop));
            let peers = self.counters.clone().into();
            let (cpu, clock, told) = (self.cpus[index], self.clock, told.clone());
            let (burst, idle) = (usize::from(config.engine.burst).clamp(1, MAX_BURST), config.engine.idle);
            let body = move || {
                if !pin_to(cpu) {
                    let allowed = cpus::ranges(&allowed_cpus());
                    let _ = told.send(Err(EngineError::Cpu { cpu, allowed }));
                    return;
                }
                let _registered = match Registration::new(&eal) {
                    Ok(registered) => registered,
                    Err(error) => {
                        let _ = told.send(Err(failed(index, &error.to_string())));
                        return;
                    }
                };
                // Here, so that the tables' memory is this CPU's.
                let stopwatch = Stopwatch::new(writer.shared().meter());
                let shard = Shard::new(&shard, &tables, writer).beside(peers);
                io.tap.touch();
                let _ = told.send(Ok((index, shard.connections().1)));
                drop(told);
                let frames_from = ends.frames_from.into_iter().map(Inbox::new).collect();
                let rest = Rest::new(idle);
                Worker {
                    shard,
                    tables,
                    subscription,
                    rx,
                    frames_from,
                    updates_from,
                    injected,
                    listing,
                    io,
                    burst,
                    clock,
                    rest,
                    stopwatch,
                }
                .run(&stop);
            };
            let thread = thread::Builder::new()
                .name(format!("pollux-w{index}"))
                .spawn(body)
                .map_err(|error| failed(index, &error.to_string()))?;
            if let Some(running) = &mut *self.running() {
                running.threads.push(thread);
            }
        }
        drop(told);
        let mut capacity = vec![0; workers];
        for _ in 0..workers {
            let (index, flows) =
                tell.recv().unwrap_or_else(|_| Err(failed(0, "a thread ended while it started")))?;
            capacity[index] = flows;
        }
        Ok(capacity)
    }
}

fn failed(worker: usize, reason: &str) -> EngineError {
    EngineError::Worker { worker, reason: reason.into() }
}

/// What a worker has from the rest of the process.
pub(super) struct Seat {
    pub writer: Writer,
    pub tap: TapWriter,
    pub subscription: Subscription,
    pub kernel: kernel::Ends,
    pub listing: Clerk,
}

/// One worker's queues and ways out.
#[derive(Default)]
struct Side {
    rx: Vec<Inlet>,
    tx: Vec<TxPort>,
}

/// The queues of a device, and the ports on it: VLAN and number, one at least.
pub(super) struct DeviceQueues {
    pub ports: Vec<(u16, PortId)>,
    pub rx: Vec<RxQueue>,
    pub tx: Vec<TxQueue>,
}

/// Gives the queues of all devices to the workers, with a ring to a TX queue's owner for who has none, and for each further
/// port on the device.
fn distribute(devices: Vec<DeviceQueues>, workers: usize) -> Vec<Side> {
    let mut sides: Vec<Side> = (0..workers).map(|_| Side::default()).collect();
    for (index, DeviceQueues { ports, rx, tx }) in devices.into_iter().enumerate() {
        let Some((&(_, id), others)) = ports.split_first() else { continue };
        let (rx_queues, tx_queues) = (rx.len(), tx.len());
        for (number, queue) in rx.into_iter().enumerate() {
            sides[queues::worker_of(index, number, rx_queues, workers)].rx.push(Inlet::new(
                queue,
                id,
                others.into(),
            ));
        }
        let mut relays: Vec<Vec<Relay>> = (0..tx_queues).map(|_| Vec::new()).collect();
        // With more queues than workers the first that a worker owns is the one that it uses.
        let mut own: HashMap<usize, (usize, TxQueue)> = HashMap::new();
        for (number, queue) in tx.into_iter().enumerate() {
            own.entry(queues::worker_of(index, number, tx_queues, workers)).or_insert((number, queue));
        }
        for (worker, side) in sides.iter_mut().enumerate() {
            if !own.contains_key(&worker) {
                let (producer, consumer): (_, Consumer<Mbuf>) = RingBuffer::new(RELAY);
                relays[queues::tx_queue_for(index, worker, tx_queues, workers)].push(Relay::new(consumer));
                side.tx.push(TxPort::new(id, Way::Other(producer)));
            }
            for &(_, other) in others {
                let (producer, consumer): (_, Consumer<Mbuf>) = RingBuffer::new(RELAY);
                relays[queues::tx_queue_for(index, worker, tx_queues, workers)].push(Relay::new(consumer));
                side.tx.push(TxPort::new(other, Way::Other(producer)));
            }
        }
        for (worker, (number, queue)) in own {
            let relays = std::mem::take(&mut relays[number]);
            sides[worker].tx.push(TxPort::new(id, Way::Own(queue, relays)));
        }
    }
    for side in &mut sides {
        // That is how they are found.
        side.tx.sort_by_key(|port| port.id().index());
    }
    sides
}
