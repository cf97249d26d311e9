//! `pollux bench`: what a packet costs on this machine, whatever NIC it has or has not.
//!
//! - `case`: what is measured; `world`, `traffic`: the configuration under test and the packets
//! - `lane`: a worker of the engine between two ports made of rings; `reference`: a bare forward between the same
//! - `workers`: two workers side by side; `tick`: what a tick costs; `device`: real devices
//! - `measure`: both by turns; `report`, `machine`: what is shown

mod case;
mod device;
mod lane;
mod machine;
mod measure;
mod reference;
mod report;
mod tick;
mod traffic;
mod workers;
mod world;

use thiserror::Error;

pub use case::{Case, MODES, Mode, Spec};
pub use device::{DeviceRow, write_pcap};
pub use lane::Books;
pub use machine::Machine;
pub use report::{Report, Row, Spread};
pub use tick::Tick;

use self::measure::Rig;
use self::traffic::Traffic;
use crate::dpdk::{Clock, DpdkError, Eal, EalOptions, Mempool, allowed_cpus, pin_to};

/// Frames of a pass where they come from memory: buffers and data of 32 MiB, more than caches hold.
const FRAMES: usize = 1 << 18;
/// Bytes of a connection at most, for the estimate of what fits.
const CONNECTION: usize = 512;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only this case.
    pub case: Option<Case>,
    /// With so many connections.
    pub connections: Option<usize>,
    /// L3 bytes of a packet; less than the headers is as much as the headers.
    pub packet_size: usize,
    /// How long each case runs, seconds; three rounds at least.
    pub seconds: f64,
    /// From this vdev, instead of the cases.
    pub port: Option<String>,
    /// What a tick costs, too.
    pub tick: bool,
    /// Frames of an RX burst.
    pub burst: usize,
    /// Packets in hugepages, which must be reserved.
    pub hugepages: bool,
    /// Frames of a pass; none: as many as no cache holds.
    pub frames: Option<usize>,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum BenchError {
    /// DPDK or a port of it cannot be had.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// Too little memory.
    #[error("{what} needs {needed_mb} MiB of memory, {free_mb} MiB are available: {help}")]
    Memory {
        /// What does not fit.
        what: String,
        /// MiB.
        needed_mb: u64,
        /// MiB.
        free_mb: u64,
        /// What to do.
        help: &'static str,
    },
    /// A case cannot be as asked.
    #[error("{0}")]
    Usage(String),
    /// A packet that should have been forwarded was not.
    #[error("internal error: not every packet was forwarded: {0:?}")]
    Lost(Books),
    /// The configuration of a mode is not valid.
    #[error("internal error: the bench's configuration for {0} is not valid")]
    Mode(&'static str),
    /// Something that cannot be.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// Initialises DPDK with so much memory, and pins this thread to the last CPU that it may use; all of those.
fn start_dpdk(options: &Options, memory_mb: u64) -> Result<(Eal, Vec<usize>), BenchError> {
    let cpus = allowed_cpus();
    let cpu = *cpus.last().ok_or(BenchError::Internal("no CPU"))?;
    let eal = Eal::init(&EalOptions {
        hugepages: options.hugepages,
        memory_mb: memory_mb as u32,
        cpus: cpus.clone(),
        pci: Vec::new(),
        extra: Vec::new(),
    })?;
    if !pin_to(cpu) {
        return Err(BenchError::Usage(format!("CPU {cpu} cannot be used")));
    }
    Ok((eal, cpus))
}

/// Measures what the options ask for. `progress` hears of each case before it begins. DPDK can be initialised once in a
/// process, so this can be done once.
///
/// # Errors
/// What is missing on this machine; a packet that was lost.
pub fn run(options: &Options, mut progress: impl FnMut(&Spec)) -> Result<Report, BenchError> {
    if let Some(device) = &options.port {
        let cpus = allowed_cpus().len();
        let (clock, row) = device::measure(options, device)?;
        let machine = Machine::here(cpus, mhz(clock), options.hugepages, options.burst);
        return Ok(Report { machine, rows: Vec::new(), tick: None, device: Some(row) });
    }
    let specs = specs(options)?;
    let frames = options.frames.unwrap_or(FRAMES);
    let widest = specs.iter().map(|spec| Traffic::new(spec, options.packet_size).frame_len()).max();
    // Room for what a mode puts in front is the buffer's headroom.
    let room = widest.unwrap_or(0).next_multiple_of(64).max(128) as u16;
    let buffers = (frames + 2 * lane::MOST) as u32;
    let bytes = buffer_bytes(room, options.hugepages) * u64::from(buffers);
    let memory_mb = (bytes + bytes / 16) / (1 << 20) + 32;
    if !options.hugepages {
        check_memory("packets", memory_mb, "ask for fewer with --packet-size or --frames")?;
    }
    let (eal, cpus) = start_dpdk(options, memory_mb)?;
    let clock = Clock::start(&eal);
    let pool = Mempool::new(&eal, "bench", buffers, room)?;
    let rig = Rig { eal: &eal, clock, pool: &pool, options, frames, cpus: &cpus };
    let mut rows = Vec::new();
    for spec in &specs {
        check_memory(
            &format!("{} with {} connections", spec.case.name(), spec.connections),
            (spec.connections * CONNECTION) as u64 >> 20,
            "ask for fewer with --connections",
        )?;
        progress(spec);
        rows.push(rig.measure(spec)?);
    }
    let tick = match case::ticking(options.case, options.connections) {
        Some(spec) if options.tick && cpus.len() > 1 => {
            progress(&spec);
            Some(tick::measure(&rig, &spec)?)
        }
        _ => None,
    };
    let machine = Machine::here(cpus.len(), mhz(clock), options.hugepages, options.burst);
    Ok(Report { machine, rows, tick, device: None })
}

/// Rate of the time stamp counter.
fn mhz(clock: Clock) -> Option<f64> {
    clock.cycles_per_nano().map(|cycles| cycles * 1000.0)
}

/// What is asked for, or what is usual and fits.
fn specs(options: &Options) -> Result<Vec<Spec>, BenchError> {
    let free_mb = machine::memory_kb("MemAvailable") / 1024;
    let fitting = (free_mb.saturating_sub(1024) << 20) as usize / CONNECTION;
    // The largest is for machines that hold it twice.
    let most = options.connections.unwrap_or(fitting / 2);
    let specs = match (options.case, options.connections) {
        (Some(case), Some(connections)) => case::single(case, connections),
        (Some(case), None) if !case.is_usual() => case::single(case, most.min(1_000_000)),
        (Some(case), None) => {
            let mut specs = case::standard(most);
            specs.retain(|spec| spec.case == case);
            specs
        }
        (None, Some(connections)) => {
            let usual = Case::ALL.into_iter().filter(|case| case.is_usual());
            usual.flat_map(|case| case::single(case, connections)).collect()
        }
        (None, None) => case::standard(most),
    };
    let (mut specs, cpus) = (specs, allowed_cpus().len());
    specs.dedup();
    if cpus < 2 {
        if options.case == Some(Case::Handoff) {
            return Err(BenchError::Usage("handoff takes two workers, and there is one CPU".into()));
        }
        specs.retain(|spec| spec.workers <= cpus);
    }
    if specs.iter().any(|spec| spec.connections == 0 || spec.connections > 1 << 24) {
        return Err(BenchError::Usage("--connections takes 1 to 16777216".into()));
    }
    Ok(specs)
}

/// What DPDK takes for a buffer; on ordinary memory none crosses a page.
fn buffer_bytes(room: u16, hugepages: bool) -> u64 {
    let bytes = (64 + 128 + u64::from(Mempool::HEADROOM) + u64::from(room)).next_multiple_of(64);
    if hugepages || bytes > 4096 { bytes } else { 4096 / (4096 / bytes) }
}

fn check_memory(what: &str, needed_mb: u64, help: &'static str) -> Result<(), BenchError> {
    let free_mb = machine::memory_kb("MemAvailable") / 1024;
    if needed_mb > free_mb {
        return Err(BenchError::Memory { what: what.into(), needed_mb, free_mb, help });
    }
    Ok(())
}
