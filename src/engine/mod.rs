//! The engine at work: DPDK, ports, workers, and what the rest of the process may see of them.
//!
//! Three kinds of thread: the workers here, one to a CPU; the aggregator and the control threads elsewhere, which reach the
//! workers only through counters and rings.

mod cpus;
mod device;
mod error;
mod exchange;
mod handoff;
mod idle;
mod inventory;
mod kernel;
mod mirror;
mod queues;
mod run;
pub(crate) mod stand;
mod telemetry;
mod transmit;
mod worker;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use rtrb::{Consumer, RingBuffer};

pub use self::error::EngineError;
pub use self::run::{RunError, run};
pub use self::telemetry::{Telemetry, serve};

use self::device::Name;
use self::idle::Rest;
use self::queues::{Places, QueuePlan};
use self::transmit::{Io, RELAY, Relay, TX_BUFFER, TxPort, Way};
use self::worker::{Inlet, Worker};
use crate::addr::Mac;
use crate::capture::{Tap, TapWriter};
use crate::config::{self, Config};
use crate::counters::{WorkerCounters, Writer};
use crate::dpdk::{
    Clock, Device, DeviceInfo, Eal, EalOptions, Granted, Mbuf, Mempool, Port, PortSetup, PortStats,
    Registration, RxQueue, TxQueue, allowed_cpus, pin_to, set_sctp_crc_offload,
};
use crate::fragment;
use crate::ids::{PortId, WorkerId};
use crate::kernel::Guard;
use crate::pipeline::{MAX_BURST, Resolution, Shard, ShardConfig};
use crate::steering::Steering;
use crate::tables::{LinkInfo, Slots, Tables};

/// Packets that a shard lets wait for a next hop's MAC.
const HELD: usize = 1024;

/// A device for a configured port.
#[derive(Debug)]
pub struct EnginePort {
    /// The device, not started.
    pub device: Device,
    /// The MAC to have instead of the device's own: ring ports have none.
    pub mac: Option<Mac>,
}

impl From<Device> for EnginePort {
    fn from(device: Device) -> Self {
        Self { device, mac: None }
    }
}

/// What is known of a port.
#[derive(Clone, Debug)]
pub struct PortStatus {
    /// Its configured name.
    pub name: String,
    /// DPDK's name of the device.
    pub device: String,
    /// The driver.
    pub driver: String,
    /// The station address.
    pub mac: Mac,
    /// RX queues.
    pub rx_queues: u16,
    /// TX queues.
    pub tx_queues: u16,
    /// What the device gave besides.
    pub granted: Granted,
    /// Whether TCP and UDP come to the worker that owns their connection, as far as the device does what it says.
    pub steered: bool,
    /// 802.1Q id; 0: untagged.
    pub vlan: u16,
    /// Shares the device of an earlier port.
    pub shared: bool,
    /// Whether the link is up.
    pub link_up: bool,
    /// What the device has counted: nothing where it is an earlier port's.
    pub stats: PortStats,
}

/// Packet buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolStatus {
    /// In queues, rings and frames.
    pub in_use: u32,
    /// All.
    pub size: u32,
}

/// The running engine. Dropping it stops it.
#[derive(Debug)]
pub struct Engine {
    running: Mutex<Option<Running>>,
    stop: Arc<AtomicBool>,
    ready: AtomicBool,
    counters: Vec<Arc<WorkerCounters>>,
    cpus: Vec<usize>,
    flow_capacity: Vec<usize>,
    tables: Arc<Tables>,
    lost_updates: Arc<AtomicU64>,
    tap: Arc<Tap>,
    /// The next hops are found, where the kernel looks for them.
    resolved: Arc<AtomicBool>,
    /// The secret of the process.
    seed: u64,
    clock: Clock,
    started_at: SystemTime,
}

/// What ends with the engine, in the order in which it must.
#[derive(Debug)]
struct Running {
    threads: Vec<JoinHandle<()>>,
    ports: Vec<RunningPort>,
    pool: Mempool,
    _eal: Eal,
    guards: Vec<Guard>,
}

#[derive(Debug)]
struct RunningPort {
    port: Port,
    name: String,
    driver: String,
    mac: Mac,
    plan: QueuePlan,
    steered: bool,
    /// The interface of the kernel's that it is on.
    interface: Option<String>,
    vlan: u16,
    shared: bool,
}

impl RunningPort {
    fn link_up(&self) -> bool {
        // Drivers of packet sockets call their links up whatever becomes of the interface.
        self.port.link_up() && self.interface.as_deref().is_none_or(device::has_carrier)
    }
}

impl Engine {
    /// Starts the engine on the configured devices. DPDK can be initialised once in a process, so this can be done once.
    ///
    /// # Errors
    /// What this machine lacks, or DPDK refuses.
    pub fn start(config: &Config) -> Result<Self, EngineError> {
        let eal = Self::init_dpdk(config)?;
        let devices = Self::open_devices(&eal, config)?;
        Self::start_on(&eal, config, devices)
    }

    /// Opens the configured devices, not started yet: one a port, but for ports that share a device by their VLANs.
    ///
    /// # Errors
    /// A device or interface that is not there, a driver that DPDK has not, a privilege that is missing, what the driver
    /// logged.
    pub fn open_devices(eal: &Eal, config: &Config) -> Result<Vec<EnginePort>, EngineError> {
        let devices = device::open(eal, &config.ports)?;
        Ok(devices.into_iter().map(EnginePort::from).collect())
    }

    /// Initialises DPDK as the configuration says, with its PCI devices but without its vdevs: for those who bring ports
    /// of their own.
    ///
    /// The calling thread is afterwards restricted to the control threads' CPUs, and threads that it starts inherit that.
    ///
    /// # Errors
    /// CPUs that cannot be used, hugepages that are missing, what EAL says.
    pub fn init_dpdk(config: &Config) -> Result<Eal, EngineError> {
        let allowed = allowed_cpus();
        let workers = cpus::of_workers(&config.engine, &allowed)?;
        let cpus = cpus::of_control(&config.engine, &allowed, &workers)?;
        let engine = &config.engine;
        if engine.hugepages {
            device::check_hugepages(engine.memory_mb)?;
        } else {
            device::check_memory(engine.memory_mb)?;
        }
        let ordinary_mb = if engine.hugepages { 0 } else { engine.memory_mb.into() };
        device::check_tables(engine.max_flows, workers.len(), ordinary_mb)?;
        let pci = config.ports.iter().filter_map(|port| match Name::parse(&port.device) {
            Name::Pci(address) => Some(address.to_owned()),
            Name::Vdev(..) => None,
        });
        let options = EalOptions {
            hugepages: engine.hugepages,
            memory_mb: engine.memory_mb,
            cpus,
            pci: pci.collect(),
            extra: engine.eal_args.clone(),
        };
        Eal::init(&options).map_err(EngineError::Eal)
    }

    /// Starts the engine on these devices, one for each configured port, in their order; one for all ports that share it by
    /// their VLANs.
    ///
    /// # Errors
    /// What a device refuses; memory that does not suffice; a thread that cannot be started.
    ///
    /// # Panics
    /// Where there are more or fewer.
    pub fn start_on(eal: &Eal, config: &Config, devices: Vec<EnginePort>) -> Result<Self, EngineError> {
        let seats = device::seats(&config.ports);
        let on_devices = device::on_devices(&config.ports, &seats);
        assert_eq!(on_devices.len(), devices.len(), "one device a port, or a VLAN");
        // Not this thread's own CPUs, which are the control threads' by now.
        let cpus = cpus::of_workers(&config.engine, eal.allowed_cpus())?;
        let workers = cpus.len();

        let guards = kernel::guards(config)?;
        let infos = infos(&on_devices, &devices)?;
        let plans = on_devices
            .iter()
            .zip(&infos)
            .map(|(port, info)| QueuePlan::of(port, info, workers))
            .collect::<Result<Vec<_>, _>>()?;
        set_sctp_crc_offload(infos.iter().all(|info| info.tx_sctp_crc));
        let pool = pool(eal, config, &on_devices, &plans, workers)?;

        let seed = RandomState::new().hash_one("worker");
        let steering = Steering::new(seed, workers as u8);
        let mut started = Vec::new();
        let mut queues = Vec::new();
        for (index, (((port, EnginePort { device, mac }), plan), info)) in
            on_devices.iter().zip(devices).zip(plans).zip(infos).enumerate()
        {
            let setup = PortSetup {
                rx_queues: plan.rx,
                rss: Some(queues::rss(&steering, port.role, index, plan, workers)),
                tx_queues: plan.tx,
                rx_descriptors: port.rx_descriptors,
                tx_descriptors: port.tx_descriptors,
                mtu: port.mtu,
            };
            let refused = |error| EngineError::Port { port: port.name.clone(), error };
            let (handle, rx, tx) = device.start(&setup, &pool).map_err(refused)?;
            let mac = mac.map_or_else(|| handle.mac(), Ok).map_err(refused)?;
            let steered = queues::is_steered(&steering, handle.granted().rss, index, plan, workers);
            started.push((handle, info.driver, mac, plan, steered));
            queues.push(DeviceQueues { ports: Vec::new(), rx, tx });
        }
        let mut ports = Vec::new();
        for (index, (port, seat)) in config.ports.iter().zip(seats).enumerate() {
            let (handle, driver, mac, plan, steered) = &started[seat];
            let on_device = &mut queues[seat].ports;
            ports.push(RunningPort {
                port: handle.clone(),
                name: port.name.clone(),
                driver: driver.clone(),
                mac: *mac,
                plan: *plan,
                steered: *steered,
                interface: device::kernel_interface(&port.device).map(str::to_owned),
                vlan: port.vlan,
                shared: !on_device.is_empty(),
            });
            on_device.push((port.vlan, PortId(index as u8)));
        }
        drop(started);

        let links: Vec<_> = ports.iter().map(|port| LinkInfo { mac: port.mac, promiscuous: false }).collect();
        let tables = Arc::new(Tables::compile(config, &links, &mut Slots::default()));
        let kernel = kernel::open(config, &tables)?;
        let sizes = tables.sizes(pairs(config, workers));
        let (counters, writers): (Vec<_>, Vec<_>) = (0..workers).map(|_| WorkerCounters::new(sizes)).unzip();
        let (tap, taps) = Tap::new(workers, config.ports.iter().map(|port| port.name.clone()).collect());

        let mut engine = Self {
            running: Mutex::new(None),
            stop: Arc::new(AtomicBool::new(false)),
            ready: AtomicBool::new(false),
            counters,
            cpus,
            flow_capacity: Vec::new(),
            tables,
            lost_updates: Arc::new(AtomicU64::new(0)),
            tap,
            resolved: Arc::new(AtomicBool::new(kernel.is_none())),
            seed,
            clock: Clock::start(eal),
            started_at: SystemTime::now(),
        };
        // On an error from here on, dropping the engine ends the threads that run already.
        let (mut ends, service) = match &kernel {
            Some(ports) => {
                let (ends, service) =
                    kernel::connect(ports, config, &engine.tables, workers, &pool, &engine.resolved)?;
                (ends, Some(service))
            }
            None => ((0..workers).map(|_| kernel::Ends::default()).collect(), None),
        };
        let running = Running { threads: Vec::new(), ports, pool, _eal: eal.clone(), guards };
        *engine.running() = Some(running);
        engine.flow_capacity = engine.spawn(eal, config, queues, writers, taps, &mut ends)?;
        if let Some(service) = service {
            let threads = service.start(&engine.stop)?;
            if let Some(running) = &mut *engine.running() {
                running.threads.extend(threads);
            }
        }
        engine.ready.store(true, Ordering::Release);
        Ok(engine)
    }

    /// Starts the workers and waits until each polls. The connections that each can hold.
    fn spawn(
        &self,
        eal: &Eal,
        config: &Config,
        queues: Vec<DeviceQueues>,
        writers: Vec<Writer>,
        taps: Vec<TapWriter>,
        kernel_ends: &mut Vec<kernel::Ends>,
    ) -> Result<Vec<usize>, EngineError> {
        let workers = writers.len();
        let pool = match &*self.running() {
            Some(running) => running.pool.clone(),
            None => return Ok(Vec::new()),
        };
        let max_flows = (config.engine.max_flows as usize).div_ceil(workers);
        let (told, tell) = mpsc::channel();
        let sides = distribute(queues, workers);
        let seats = writers.into_iter().zip(taps).zip(sides).zip(handoff::mesh(workers));
        let seats = seats.zip(kernel_ends.drain(..)).enumerate();
        for (index, ((((writer, tap), Side { rx, tx }), ends), kernel_ends)) in seats {
            let kernel::Ends { punted, injected, neighbors } = kernel_ends;
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
            let (eal, tables, stop) = (eal.clone(), Arc::clone(&self.tables), Arc::clone(&self.stop));
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
                let shard = Shard::new(&shard, &tables, writer).beside(peers);
                io.tap.touch();
                let _ = told.send(Ok((index, shard.connections().1)));
                drop(told);
                let (frames_from, rest) = (ends.frames_from, Rest::new(idle));
                Worker { shard, tables, rx, frames_from, updates_from, injected, io, burst, clock, rest }
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

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the workers count, in their order.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<WorkerCounters>> {
        self.counters.clone()
    }

    /// The tables in force.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// The CPU of each worker.
    #[must_use]
    pub fn worker_cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Which worker owns a client, for whoever spreads frames as a NIC does. Secret: see [`Steering`].
    #[must_use]
    pub fn steering(&self) -> Steering {
        Steering::new(self.seed, self.cpus.len() as u8)
    }

    /// Connections that each worker's table can hold.
    #[must_use]
    pub fn flow_capacity(&self) -> &[usize] {
        &self.flow_capacity
    }

    /// Neighbour updates that did not reach another worker, which then asks for itself.
    #[must_use]
    pub fn lost_neighbor_updates(&self) -> u64 {
        self.lost_updates.load(Ordering::Relaxed)
    }

    /// Where captures of its packets begin.
    #[must_use]
    pub fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.tap)
    }

    /// The clock of all workers: what their heartbeats are to be compared with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// When the engine was started.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Ports with their links and the devices' own counters, in the configured order; none after [`Engine::stop`]. A
    /// device that does not tell its counters shows 0.
    #[must_use]
    pub fn ports(&self) -> Vec<PortStatus> {
        let running = self.running();
        let ports = running.as_ref().map_or(&[][..], |running| &running.ports);
        ports
            .iter()
            .map(|running| PortStatus {
                name: running.name.clone(),
                device: running.port.name().to_owned(),
                driver: running.driver.clone(),
                mac: running.mac,
                rx_queues: running.plan.rx,
                tx_queues: running.plan.tx,
                granted: running.port.granted(),
                steered: running.steered,
                vlan: running.vlan,
                shared: running.shared,
                link_up: running.link_up(),
                stats: match running.shared {
                    true => PortStats::default(),
                    false => running.port.stats().unwrap_or_default(),
                },
            })
            .collect()
    }

    /// Packet buffers; none after [`Engine::stop`].
    #[must_use]
    pub fn mempool(&self) -> Option<MempoolStatus> {
        let running = self.running();
        running
            .as_ref()
            .map(|Running { pool, .. }| MempoolStatus { in_use: pool.in_use(), size: pool.size() })
    }

    /// Whether traffic may be sent here: the workers poll, the kernel has found the next hops (or has had its time to), every
    /// link is up, and nobody has said that the end is near.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
            && self.resolved.load(Ordering::Acquire)
            && self.running().as_ref().is_some_and(|running| running.ports.iter().all(RunningPort::link_up))
    }

    /// Says that the end is near: not ready any more, but everything goes on.
    pub fn retire(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Ends the workers, frees all frames, stops and closes the ports. What was counted stays readable.
    pub fn stop(&self) {
        self.retire();
        self.stop.store(true, Ordering::Relaxed);
        let Some(Running { threads, ports, pool, _eal, guards }) = self.running().take() else { return };
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!("{name} has panicked");
            }
        }
        // The workers' queues are gone with them: this closes the ports, then frees the pool.
        drop(ports);
        drop(pool);
        // Last, so that the kernel never speaks where we may still listen.
        drop(guards);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Pair slots of one worker: more than series, so that the aggregator can choose which pairs have one; never more than
/// connections.
fn pairs(config: &Config, workers: usize) -> usize {
    let flows = (config.engine.max_flows as usize).div_ceil(workers);
    flows.min(4 * config.metrics.flow_series_limit + 1024)
}

fn failed(worker: usize, reason: &str) -> EngineError {
    EngineError::Worker { worker, reason: reason.into() }
}

fn infos(ports: &[config::Port], devices: &[EnginePort]) -> Result<Vec<DeviceInfo>, EngineError> {
    ports
        .iter()
        .zip(devices)
        .map(|(port, EnginePort { device, .. })| {
            device.info().map_err(|error| EngineError::Port { port: port.name.clone(), error })
        })
        .collect()
}

/// The pool of packet buffers for all ports and workers.
fn pool(
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

/// One worker's queues and ways out.
#[derive(Default)]
struct Side {
    rx: Vec<Inlet>,
    tx: Vec<TxPort>,
}

/// The queues of a device, and the ports on it: VLAN and number, one at least.
struct DeviceQueues {
    ports: Vec<(u16, PortId)>,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
}

/// Gives the queues of all devices to the workers, with a ring to a TX queue's owner for who has none, and for each further
/// port on the device.
fn distribute(devices: Vec<DeviceQueues>, workers: usize) -> Vec<Side> {
    let mut sides: Vec<Side> = (0..workers).map(|_| Side::default()).collect();
    for (index, DeviceQueues { ports, rx, tx }) in devices.into_iter().enumerate() {
        let Some((&(_, id), others)) = ports.split_first() else { continue };
        let (rx_queues, tx_queues) = (rx.len(), tx.len());
        for (number, queue) in rx.into_iter().enumerate() {
            sides[queues::worker_of(index, number, rx_queues, workers)].rx.push(Inlet {
                queue,
                port: id,
                others: others.into(),
            });
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
