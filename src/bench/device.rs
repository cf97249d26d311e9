//! The second form: from a real device and back into it, so that another program can be run on the same one.
//!
//! A bare forward and the pipeline take turns on its queue. The traffic is whatever comes; [`write_pcap`] makes a capture that
//! `net_pcap` with `infinite_rx` gives again and again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Case, Spec, single};
use super::lane::Books;
use super::reference::{self, Touch};
use super::report::{Spread, round};
use super::traffic::{Step, Traffic};
use super::{BenchError, Options, check_memory, world};
use crate::config::Protocol;
use crate::counters::Term;
use crate::dpdk::{Clock, Mempool, PortSetup};
use crate::engine::stand::{Seat, Stand, StandConfig, stands};
use crate::ids::PortId;

/// Connections where none are asked for.
const CONNECTIONS: usize = 1 << 16;
/// Buffers: `net_pcap` keeps every packet of its file in one.
const BUFFERS: u32 = (1 << 18) - 1;
const BUFFER_BYTES: u16 = 2048;
/// How long one of the two has the device.
const TURN: Duration = Duration::from_millis(100);
/// Bursts between two looks at the clock.
const BURSTS: usize = 64;

/// What came out.
#[derive(Clone, Debug)]
pub struct DeviceRow {
    /// The device, as asked for.
    pub device: String,
    /// Nanoseconds a packet: the device's RX, the pipeline, the device's TX.
    pub nanos: Spread,
    /// The device's RX and TX, addresses swapped.
    pub reference: Spread,
    /// Pipeline to reference.
    pub ratio: Spread,
    /// Share of the pipeline's polls that found nothing: where it is not small, the source is what was measured.
    pub empty_polls: f64,
    /// Packets of the pipeline.
    pub books: Books,
}

impl DeviceRow {
    fn mpps(&self) -> f64 {
        if self.nanos.median > 0.0 { 1000.0 / self.nanos.median } else { 0.0 }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "device": self.device,
            "ns_per_packet": round(self.nanos.median),
            "reference_ns_per_packet": round(self.reference.median),
            "ratio": round(self.ratio.median),
            "mpps_per_worker": round(self.mpps()),
            "empty_polls": round(self.empty_polls),
            "rx": self.books.rx,
            "tx": self.books.tx,
            "dropped": self.books.dropped,
        })
    }
}

impl std::fmt::Display for DeviceRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}: {:.1} ns a packet ({:.1}–{:.1}), {:.2} Mpps; bare forward {:.1} ns; ratio {:.2}; {:.0} % of polls empty",
            self.device,
            self.nanos.median,
            self.nanos.low,
            self.nanos.high,
            self.mpps(),
            self.reference.median,
            self.ratio.median,
            self.empty_polls * 100.0
        )?;
        let Books { rx, tx, dropped, .. } = &self.books;
        writeln!(f, "pipeline: {rx} received, {tx} sent, dropped {dropped:?}")
    }
}

/// UDP, so that each packet may come at any time: the first of a connection opens it.
fn spec(options: &Options) -> Spec {
    let connections = options.connections.unwrap_or(CONNECTIONS);
    Spec { protocol: Protocol::Udp, ..single(Case::EstablishedCold, connections)[0] }
}

/// Writes one packet of each connection, in random order.
///
/// # Errors
/// What the file's system says.
pub fn write_pcap(options: &Options, path: &Path) -> io::Result<()> {
    let spec = spec(options);
    let traffic = Traffic::new(&spec, options.packet_size);
    let mut order: Vec<usize> = (0..spec.connections).collect();
    let mut random = super::measure::Random::below(spec.connections);
    for n in 0..order.len() {
        let other = random.next();
        order.swap(n, other);
    }
    let file = io::BufWriter::new(std::fs::File::create(path)?);
    let mut pcap = crate::pcap::PcapWriter::new(file)?;
    for (n, connection) in order.into_iter().enumerate() {
        let frame = traffic.frame(Step::Data, connection);
        pcap.write(n as u64, frame.len() as u32, &frame)?;
    }
    pcap.finish()?;
    Ok(())
}

/// Measures on a device.
pub(super) fn measure(options: &Options, device: &str) -> Result<(Clock, DeviceRow), BenchError> {
    let spec = spec(options);
    let buffer_bytes = super::buffer_bytes(BUFFER_BYTES, options.hugepages);
    let memory_mb = ((u64::from(BUFFERS) * buffer_bytes * 17 / 16) >> 20) + 64;
    if !options.hugepages {
        check_memory("the device's buffers", memory_mb, "use a machine with more")?;
    }
    let (eal, _) = super::start_dpdk(options, memory_mb)?;
    let clock = Clock::start(&eal);
    let pool = Mempool::new(&eal, "bench", BUFFERS, BUFFER_BYTES)?;
    let (name, arguments) = device.split_once(',').unwrap_or((device, ""));
    let setup = PortSetup {
        rx_queues: 1,
        rss: None,
        tx_queues: 1,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        mtu: 1500,
    };
    let (port, mut rx, mut tx) = eal.attach(name, arguments)?.start(&setup, &pool)?;
    let (_, tables) = world::one_armed(&spec, port.mac()?).map_err(|_| BenchError::Mode(spec.mode.name))?;
    let tables = Arc::new(tables);
    let (Some(rx), Some(tx)) = (rx.pop(), tx.pop()) else { return Err(BenchError::Internal("no queue")) };
    let config = StandConfig {
        tables: &tables,
        pool: &pool,
        clock,
        max_flows: spec.connections.max(1024),
        sizes: tables.sizes(world::pairs(spec.connections)),
        burst: options.burst,
        seed: 1,
    };
    let seats = vec![vec![Seat { port: PortId(0), rx, tx }]];
    let (mut stand, _counters) = stands(&config, seats).pop().ok_or(BenchError::Internal("no worker"))?;

    let (mut nanos, mut bare, mut ratios) = (vec![], vec![], vec![]);
    let rounds = ((options.seconds / (4.0 * TURN.as_secs_f64())) as usize).max(3);
    let mut polls = Polls::default();
    for round in 0..=rounds {
        let mut took = [0.0; 2];
        for way in [0, 1, 1, 0] {
            let (packets, nanos) = if way == 0 {
                pipeline(&mut stand, clock, &mut polls)
            } else {
                forward(&mut stand, clock, options.burst)
            };
            if packets == 0 {
                return Err(BenchError::Usage(format!("{device}: nothing comes in")));
            }
            took[way] += nanos as f64 / packets as f64 / 2.0;
        }
        // In the first one connections are made.
        if round > 0 {
            nanos.push(took[0]);
            bare.push(took[1]);
            ratios.push(took[0] / took[1]);
        }
    }
    let mut books = Books::default();
    books.add(stand.shard().writer().bank());
    let row = DeviceRow {
        device: device.into(),
        nanos: Spread::of(nanos),
        reference: Spread::of(bare),
        ratio: Spread::of(ratios),
        empty_polls: polls.empty as f64 / polls.all.max(1) as f64,
        books,
    };
    Ok((clock, row))
}

#[derive(Default)]
struct Polls {
    all: u64,
    empty: u64,
}

/// Packets sent by the pipeline in its turn, and nanoseconds.
fn pipeline(stand: &mut Stand, clock: Clock, polls: &mut Polls) -> (u64, u64) {
    let sent = |stand: &Stand| stand.shard().writer().bank().term(Term::Tx).get();
    let (start, before) = (clock.now(), sent(stand));
    loop {
        for _ in 0..BURSTS {
            let worked = stand.step(clock.now());
            polls.all += 1;
            polls.empty += u64::from(!worked);
        }
        let took = clock.now().since(start);
        if took >= TURN {
            return (sent(stand) - before, took.as_nanos() as u64);
        }
    }
}

/// The same by the bare forward.
fn forward(stand: &mut Stand, clock: Clock, burst: usize) -> (u64, u64) {
    let (start, mut packets) = (clock.now(), 0);
    loop {
        if let Some((rx, tx)) = stand.queues() {
            for _ in 0..BURSTS {
                packets += reference::forward(rx, tx, burst, Touch::Swap) as u64;
            }
        }
        let took = clock.now().since(start);
        if took >= TURN {
            return (packets, took.as_nanos() as u64);
        }
    }
}
