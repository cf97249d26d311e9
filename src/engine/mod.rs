//! The engine at work: DPDK, ports, workers, and what the rest of the process may see of them.
//!
//! Three kinds of thread: the workers here, one to a CPU; the aggregator and the control threads elsewhere, which reach the
//! workers only through counters and rings.

mod apply;
mod buffers;
pub(crate) mod cpus;
pub(crate) mod device;
mod error;
mod exchange;
mod handoff;
mod idle;
mod inventory;
mod kernel;
mod learn;
mod listing;
mod mirror;
mod notify;
mod publish;
mod queues;
mod run;
pub(crate) mod stand;
mod start;
mod telemetry;
mod transmit;
mod worker;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

pub use self::apply::ApplyError;
pub use self::error::{EngineError, Hung};
pub use self::listing::{Late, Listed, Listing, Wanted};
pub use self::notify::Notifier;
pub use self::publish::Stuck;
pub use self::run::{RunError, run};
pub use self::telemetry::{Telemetry, serve};

use self::apply::Compiler;
use self::buffers::pool;
use self::device::Name;
use self::publish::Publisher;
use self::queues::QueuePlan;
use self::start::{DeviceQueues, Seat};
use crate::addr::Mac;
use crate::capture::Tap;
use crate::config::{self, Config};
use crate::counters::WorkerCounters;
use crate::dpdk::{
    Clock, Device, DeviceInfo, Eal, EalOptions, Granted, Mempool, Port, PortSetup, PortStats, allowed_cpus,
    set_sctp_crc_offload,
};
use crate::health::{Board, EndpointHealth};
use crate::ids::PortId;
use crate::kernel::Guard;
use crate::preflight::Machine;
use crate::steering::Steering;
use crate::tables::{Conditions, LinkInfo, Slots, Sources, Tables};

/// How long threads have to end when the engine is told to stop. A worker takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether they have.
const LOOK: Duration = Duration::from_millis(5);

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
    retired: AtomicBool,
    counters: Vec<Arc<WorkerCounters>>,
    cpus: Vec<usize>,
    flow_capacity: Vec<usize>,
    /// The tables in force; who subscribes hears of new ones.
    tables: watch::Sender<Arc<Tables>>,
    publisher: Arc<Mutex<Publisher>>,
    /// Stable ids, and what the devices told: for the next configuration.
    compiler: Arc<Mutex<Compiler>>,
    /// What endpoints' probes say.
    health: Arc<Board>,
    lost_updates: Arc<AtomicU64>,
    kernel_refused: Arc<AtomicU64>,
    /// An interface of the kernel's was removed.
    kernel_gone: Arc<AtomicBool>,
    tap: Arc<Tap>,
    listing: Arc<Listing>,
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
        let workers = cpus::of_workers(&config.engine, &allowed, &Machine::this().isolated_cpus())?;
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
        let cpus = cpus::of_workers(&config.engine, eal.allowed_cpus(), &Machine::this().isolated_cpus())?;
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
        let mut slots = Slots::default();
        // Nobody has been probed yet.
        let health = Arc::new(Board::default());
        let mut conditions = Conditions::default();
        health.plan(None, config);
        health.write(config, &mut conditions);
        let sources = Sources { config, links: &links, conditions: &conditions };
        let tables = Arc::new(Tables::next(&sources, None, &mut slots, true));
        let kernel = kernel::open(config, &tables)?;
        let sizes = tables.sizes(pairs(config, workers));
        let (counters, writers): (_, Vec<_>) = (0..workers).map(|_| WorkerCounters::new(sizes)).unzip();
        let (tap, taps) = Tap::new(workers, config.ports.iter().map(|port| port.name.clone()).collect());

        let (listing, clerks) = Listing::new(workers);
        let shared = Arc::new(config.clone());
        health.settle(Arc::clone(&shared));
        let compiler =
            Compiler { config: shared, conditions: Arc::new(conditions), slots, links, learned: Vec::new() };
        let (publisher, subscriptions) = Publisher::new(workers);
        let mut engine = Self {
            running: Mutex::new(None),
            stop: Arc::new(AtomicBool::new(false)),
            ready: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            counters,
            cpus,
            flow_capacity: Vec::new(),
            tables: watch::Sender::new(Arc::clone(&tables)),
            publisher: Arc::new(Mutex::new(publisher)),
            compiler: Arc::new(Mutex::new(compiler)),
            health,
            lost_updates: Arc::default(),
            kernel_refused: Arc::default(),
            kernel_gone: Arc::default(),
            tap,
            listing: Arc::new(listing),
            resolved: Arc::new(AtomicBool::new(kernel.is_none())),
            seed,
            clock: Clock::start(eal),
            started_at: SystemTime::now(),
        };
        // On an error from here on, dropping the engine ends the threads that run already.
        let (ends, service): (Vec<_>, _) = match &kernel {
            Some(ports) => {
                let (ends, service) = kernel::connect(&engine, ports, workers, &pool)?;
                (ends, Some(service))
            }
            None => ((0..workers).map(|_| kernel::Ends::default()).collect(), None),
        };
        let running = Running { threads: Vec::new(), ports, pool, _eal: eal.clone(), guards };
        *engine.running() = Some(running);
        let seats = writers.into_iter().zip(taps).zip(subscriptions).zip(ends).zip(clerks);
        let seats = seats
            .map(|((((writer, tap), subscription), kernel), listing)| Seat {
                writer,
                tap,
                subscription,
                kernel,
                listing,
            })
            .collect();
        engine.flow_capacity = engine.spawn(eal, config, queues, seats)?;
        if let Some(service) = service {
            let threads = service.start(&engine.stop)?;
            if let Some(running) = &mut *engine.running() {
                running.threads.extend(threads);
            }
        }
        engine.ready.store(true, Ordering::Release);
        Ok(engine)
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
        Arc::clone(&self.tables.borrow())
    }

    /// The tables in force, and those that come: for who must follow a change (VIPs on the kernel's interfaces, managed
    /// neighbours). A change is seen here once every worker goes by it. Also without a runtime: `has_changed`.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Tables>> {
        self.tables.subscribe()
    }

    /// What is probed, and what came of it.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.health)
    }

    /// Every configured endpoint, in file order: its state, and what its probe says.
    #[must_use]
    pub fn health(&self) -> Vec<EndpointHealth> {
        self.health.endpoints(&self.tables().names)
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

    /// Punted frames that the kernel's interface did not take.
    #[must_use]
    pub fn kernel_refused(&self) -> u64 {
        self.kernel_refused.load(Ordering::Relaxed)
    }

    /// Where captures of its packets begin.
    #[must_use]
    pub fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.tap)
    }

    /// Where its connections are listed.
    #[must_use]
    pub fn listing(&self) -> Arc<Listing> {
        Arc::clone(&self.listing)
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

    /// Whether traffic may be sent here: the workers poll, the kernel has found the next hops and every endpoint's first probe has ended
    /// (or they have had their time to), every link is up and every interface of the kernel's still there, and nobody has said that the
    /// end is near.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.waits_for().is_none()
    }

    /// What keeps it from being ready, in a few words.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if self.is_retired() {
            return Some("stopping".into());
        }
        if !self.ready.load(Ordering::Acquire) {
            return Some("starting".into());
        }
        if !self.resolved.load(Ordering::Acquire) {
            return Some("the kernel looks for next hops".into());
        }
        if !self.health.is_settled() {
            return Some("endpoints are being probed for the first time".into());
        }
        if self.kernel_gone.load(Ordering::Relaxed) {
            return Some("an interface of the kernel's is gone".into());
        }
        let running = self.running();
        let ports = running.as_ref().map_or(&[][..], |running| &running.ports);
        let down: Vec<_> =
            ports.iter().filter(|port| !port.link_up()).map(|port| port.name.as_str()).collect();
        match &down[..] {
            [] => None,
            [one] => Some(format!("port {one} has no link")),
            many => Some(format!("ports {} have no link", many.join(", "))),
        }
    }

    /// Says that the end is near: not ready any more, but everything goes on.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether somebody has said so.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Ends the workers, frees all frames, stops and closes the ports. What was counted stays readable. A thread that does not end
    /// is logged, and keeps what it has.
    pub fn stop(&self) {
        if let Err(hung) = self.stop_within(PATIENCE) {
            tracing::error!("{hung}");
        }
    }

    /// The same, with so much time for the threads to end.
    ///
    /// # Errors
    /// Threads that did not. Their ports, frames and DPDK itself stay as they are for the rest of the process, which had better be
    /// short: [`exit_at_once`](crate::dpdk::exit_at_once).
    pub fn stop_within(&self, patience: Duration) -> Result<(), Hung> {
        self.retire();
        self.stop.store(true, Ordering::Relaxed);
        let Some(running) = self.running().take() else { return Ok(()) };
        let Running { threads, ports, pool, _eal: eal, guards } = running;
        let deadline = Instant::now() + patience;
        let mut hung = Vec::new();
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if !thread.is_finished() {
                hung.push(name);
            } else if thread.join().is_err() {
                tracing::error!("{name} has panicked");
            }
        }
        if hung.is_empty() {
            // The workers' queues are gone with them: this closes the ports, then frees the pool.
            drop(ports);
            drop(pool);
        } else {
            std::mem::forget((ports, pool, eal));
        }
        // Last, so that the kernel never speaks where we may still listen.
        drop(guards);
        if hung.is_empty() { Ok(()) } else { Err(Hung { threads: hung, patience }) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
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

/// Pair slots of one worker: as many as it may have connections, so that each pair is counted by itself. What is not used takes no memory.
fn pairs(config: &Config, workers: usize) -> usize {
    (config.engine.max_flows as usize).div_ceil(workers)
}
