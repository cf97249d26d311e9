//! `pollux demo`: the whole engine on ports made of rings, with a [`World`] at the other ends of the wires.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrayvec::ArrayVec;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CONFIG, World};
use crate::addr::Mac;
use crate::config::{self, Config, Report};
use crate::control;
use crate::dpdk::{
    Clock, DpdkError, Mbuf, Mempool, RingConsumer, RingProducer, allowed_cpus, free_all, ring_port,
};
use crate::engine::{self, Engine, EngineError, EnginePort};
use crate::ids::PortId;
use crate::listener::{self, BindError, Security};
use crate::pipeline::Frame;
use crate::reload::{self, Reloader};

/// Workers, where there are as many CPUs.
const WORKERS: usize = 2;
/// Places in each ring.
const RING: u32 = 2048;
/// Buffers for what is on the wires, and their size.
const BUFFERS: u32 = 16_383;
const BUFFER_BYTES: u16 = 2048;
/// Frames taken from a ring at once.
const BURST: usize = 64;
/// Between two looks at the rings: what keeps a laptop cool.
const STEP: Duration = Duration::from_millis(1);
/// The same traffic each time.
const SEED: u64 = 1;
/// Where the configuration is in the tree.
const FILE: &str = "config/demo.toml";
/// How long clients of the admin socket have to take the ends of their answers.
const FAREWELL: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// End after so long; none: at SIGINT or SIGTERM.
    pub duration: Option<Duration>,
    /// Where the metrics are served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The admin socket, where there is to be one.
    pub socket: Option<PathBuf>,
}

/// Why the demo does not start.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The listen address cannot be used.
    #[error("{0}")]
    Listen(#[from] BindError),
    /// The admin socket cannot be where it should be.
    #[error(transparent)]
    Admin(#[from] control::BindError),
    /// The demo's configuration does not suit this engine.
    #[error("the configuration of the demo is not valid")]
    Config(Report),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Rings or buffers cannot be had.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// A thread or a signal handler cannot be had.
    #[error("control threads: {0}")]
    Threads(#[from] io::Error),
}

/// Runs the demo until it is told to end. `announce` hears once where the metrics are, when they are there.
///
/// # Errors
/// What kept it from starting; nothing runs then.
pub fn run(options: &Options, announce: impl FnOnce(SocketAddr)) -> Result<(), DemoError> {
    // First: a busy address is the likeliest obstacle, and DPDK takes its time.
    let listener = listener::bind(options.listen)?;
    let address = listener.local_addr()?;
    let socket = options.socket.as_deref().map(control::bind).transpose()?;
    let config = configuration(options)?;
    let eal = Engine::init_dpdk(&config)?;
    let queues = config.engine.workers.len() as u16;
    let pool = Mempool::new(&eal, "wires", BUFFERS, BUFFER_BYTES)?;
    let (mut devices, mut wires) = (Vec::new(), Vec::new());
    for (port, config) in config.ports.iter().enumerate() {
        let rings = ring_port(&eal, &config.name, queues, queues, RING)?;
        devices.push(EnginePort { device: rings.device, mac: Some(Mac([2, 0, 0, 0, 0, port as u8 + 1])) });
        wires.push(Wire { port: PortId::at(port), inject: rings.inject, collect: rings.collect });
    }
    let engine = Arc::new(Engine::start_on(&eal, &config, devices)?);

    let runtime =
        Builder::new_multi_thread().worker_threads(2).thread_name("pollux-ctl").enable_all().build()?;
    let mut signals = Signals::new(&runtime)?;
    let telemetry = engine::serve(listener, Security::default(), &config, &engine, runtime.handle())?;
    let admin = match socket {
        Some(socket) => {
            let reloader =
                Reloader::new(Arc::clone(&engine), telemetry.ticker(), telemetry.gate(), Path::new(FILE));
            let reloader = Arc::new(reloader);
            runtime.spawn(reload::keep(Arc::clone(&reloader)));
            let (tap, clock, api) = (engine.tap(), engine.clock(), telemetry.api());
            Some(control::serve(socket, tap, clock, Some(reloader), Some(api), runtime.handle())?)
        }
        None => None,
    };
    let (world, clock) = (World::new(&config, SEED), engine.clock());
    let wiring = Wiring { world, wires, pool: pool.clone(), clock, stuck: None };
    let traffic = Traffic::start(wiring)?;
    announce(address);
    if !address.ip().is_loopback() {
        tracing::warn!("{address} is not on loopback: everybody who reaches it can read the demo's metrics");
    }

    runtime.block_on(async {
        match options.duration {
            Some(duration) => {
                tokio::select! {
                    () = tokio::time::sleep(duration) => {}
                    () = signals.end() => {}
                }
            }
            None => signals.end().await,
        }
    });
    drop(traffic);
    engine.stop();
    if let Some(admin) = admin {
        runtime.block_on(admin.finish(FAREWELL));
    }
    drop(telemetry);
    runtime.shutdown_timeout(Duration::from_secs(1));
    // Not before the engine's ports have let go of the last frames.
    drop(pool);
    Ok(())
}

/// The demo's configuration, for this machine.
fn configuration(options: &Options) -> Result<Config, DemoError> {
    // Its warnings are about what is meant to be so.
    let (mut config, _) = config::parse(FILE, CONFIG).map_err(DemoError::Config)?;
    config.metrics.listen = options.listen;
    let cpus = allowed_cpus();
    config.engine.workers = cpus[cpus.len().saturating_sub(WORKERS)..].to_vec();
    Ok(config)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new(runtime: &Runtime) -> io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The thread in which the world turns, until this is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn start(mut wiring: Wiring) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("world".into()).spawn(move || {
            while !told.load(Ordering::Relaxed) {
                wiring.turn();
                thread::sleep(STEP);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// The far ends of a port's rings.
struct Wire {
    port: PortId,
    inject: Vec<RingProducer>,
    collect: Vec<RingConsumer>,
}

/// The world and its wires.
struct Wiring {
    world: World,
    wires: Vec<Wire>,
    pool: Mempool,
    clock: Clock,
    /// What did not fit: first the next time, so that nothing is lost but in the engine.
    stuck: Option<(PortId, Vec<u8>)>,
}

impl Wiring {
    fn turn(&mut self) {
        let now = self.clock.now();
        let mut frames = ArrayVec::<Mbuf, BURST>::new();
        for wire in &mut self.wires {
            for ring in &mut wire.collect {
                while ring.receive(BURST, &mut frames) > 0 {
                    for frame in &frames {
                        self.world.receive(now, wire.port, frame.data());
                    }
                    free_all(&mut frames);
                }
            }
        }
        self.world.advance(now);
        while let Some((port, bytes)) = self.stuck.take().or_else(|| self.world.next_frame()) {
            if !self.inject(port, &bytes) {
                self.stuck = Some((port, bytes));
                return;
            }
        }
    }

    fn inject(&mut self, port: PortId, bytes: &[u8]) -> bool {
        let Some(wire) = self.wires.get_mut(port.index()) else { return true };
        let queue = spread(bytes, wire.inject.len());
        let (Some(ring), Some(frame)) = (wire.inject.get_mut(queue), self.pool.frame(bytes)) else {
            return false;
        };
        ring.send(&mut ArrayVec::<Mbuf, 1>::from([frame])) == 1
    }
}

/// The RX queue of a frame, as a NIC spreads them: by the IP addresses, the same for both directions. It is not the engine's
/// own function of the same purpose, so that workers have packets to hand to each other.
fn spread(frame: &[u8], queues: usize) -> usize {
    let addresses = match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(26..34),
        Some([0x86, 0xdd]) => frame.get(22..54),
        _ => None,
    };
    let sum: usize = addresses.into_iter().flatten().map(|&byte| usize::from(byte)).sum();
    sum % queues.max(1)
}
