//! The floor of a hand-over between two workers: what the memory alone takes, whatever is done with the packets.
//!
//! A frame is two lines that come from memory, and its connection three lines of tables at random places (bucket, entry, pair). A worker
//! either looks at its own frames, and changes them and those three; or it looks at a frame, as it must to know whose it is, passes
//! it through a ring, and the other one looks at it again and changes it and its own three. Bursts of 32, fetched as a worker does: own frames
//! a burst ahead, others' when they are taken out of the ring. No packet is parsed, nothing looked up.
#![allow(missing_docs, clippy::unwrap_used)]

use std::array;
use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use arrayvec::ArrayVec;
use pollux::dpdk::memory::{Pages, prefetch};
use pollux::dpdk::{allowed_cpus, pin_to};
use rtrb::{Consumer, Producer, RingBuffer};

const BURST: usize = 32;
/// Frames of a worker: together they are in no cache of a CPU's own.
const FRAMES: usize = 1 << 16;
/// Connections of a worker.
const CONNECTIONS: usize = 100_000;
const ROUNDS: usize = 15;

type Line = [AtomicU64; 8];

/// Buffers, as mbufs lie in their pool.
struct Frames(Pages<Line>);

impl Frames {
    /// Lines of a buffer.
    const STRIDE: usize = 36;

    /// A header's line, and behind it and the headroom the packet's.
    fn lines(&self, frame: usize) -> [&Line; 2] {
        [0, 4].map(|line| &self.0[frame * Self::STRIDE + line])
    }

    fn fetch(&self, frame: u32) {
        self.lines(frame as usize).into_iter().for_each(prefetch);
    }

    fn look(&self, frame: u32) -> u64 {
        let [header, packet] = self.lines(frame as usize);
        header[0].load(Relaxed) ^ packet[0].load(Relaxed)
    }
}

/// As large as what the engine's rings carry.
#[derive(Clone, Copy)]
struct Handed {
    frame: u32,
    _known: [u64; 3],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each its own.
    Own,
    /// Each the other's.
    Crossed,
}

/// What one worker touches besides frames.
struct Tables([Pages<Line>; 3]);

impl Tables {
    fn new() -> Self {
        // Two directions in buckets of ten half full; an entry each; counters of half as many pairs, four in a line.
        Self([CONNECTIONS / 5 * 2, CONNECTIONS, CONNECTIONS / 8].map(Pages::zeroed))
    }

    /// Which lines a packet wants.
    fn draw(&self, seed: &mut u64) -> [usize; 3] {
        *seed ^= *seed >> 12;
        *seed ^= *seed << 25;
        *seed ^= *seed >> 27;
        let random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        array::from_fn(|i| {
            let at = (((random >> (8 * i)) & 0xffff_ffff) as usize * self.0[i].len()) >> 32;
            prefetch(&self.0[i][at]);
            at
        })
    }

    fn count(&self, lines: [usize; 3]) {
        for (table, line) in self.0.iter().zip(lines) {
            add(&table[line][0], 1);
        }
    }
}

/// One writer: no lock prefix.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

/// A burst of one's own: looked at, and the packets changed.
fn work(frames: &Frames, burst: impl Iterator<Item = u32> + Clone, tables: &Tables, seed: &mut u64) -> u64 {
    let lines: ArrayVec<_, BURST> = burst.clone().map(|_| tables.draw(seed)).collect();
    let mut sum = 0;
    for (frame, lines) in burst.zip(lines) {
        sum ^= frames.look(frame);
        add(&frames.lines(frame as usize)[1][1], 1);
        tables.count(lines);
    }
    sum
}

/// One worker: nanoseconds a frame.
fn run(
    frames: &Frames,
    first: usize,
    way: Way,
    ends: Option<(&mut Producer<Handed>, &mut Consumer<Handed>)>,
    tables: &Tables,
    barrier: &Barrier,
) -> f64 {
    // Written anew, and pushed out of the cache by those behind.
    for frame in first..first + FRAMES {
        frames.lines(frame).into_iter().for_each(|line| add(&line[0], 1));
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ first as u64;
    let mut sum = 0;
    let bursts = |n: usize| (first + n * BURST..).take(BURST).map(|frame| frame as u32);
    barrier.wait();
    let start = Instant::now();
    match (way, ends) {
        (Way::Crossed, Some((out, inbox))) => {
            let (mut sent, mut taken) = (0, 0);
            while sent < FRAMES / BURST || taken < FRAMES {
                let mut came = ArrayVec::<u32, BURST>::new();
                if let Ok(chunk) = inbox.read_chunk(inbox.slots().min(BURST)) {
                    came.extend(chunk.into_iter().map(|handed| handed.frame));
                }
                came.iter().for_each(|frame| frames.fetch(*frame));
                if sent < FRAMES / BURST
                    && let Ok(chunk) = out.write_chunk_uninit(BURST)
                {
                    if sent + 1 < FRAMES / BURST {
                        bursts(sent + 1).for_each(|frame| frames.fetch(frame));
                    }
                    sum ^= bursts(sent).map(|frame| frames.look(frame)).fold(0, |a, b| a ^ b);
                    chunk.fill_from_iter(bursts(sent).map(|frame| Handed { frame, _known: [sum; 3] }));
                    sent += 1;
                } else if came.is_empty() {
                    spin_loop();
                }
                taken += came.len();
                sum ^= work(frames, came.iter().copied(), tables, &mut seed);
            }
        }
        _ => {
            for n in 0..FRAMES / BURST {
                if n + 1 < FRAMES / BURST {
                    bursts(n + 1).for_each(|frame| frames.fetch(frame));
                }
                sum ^= work(frames, bursts(n), tables, &mut seed);
            }
        }
    }
    let took = start.elapsed().as_nanos() as f64 / FRAMES as f64;
    std::hint::black_box(sum);
    took
}

/// The slower one's time, of so many workers side by side.
fn pass(frames: &Frames, tables: &[Tables], way: Way, cpus: &[usize]) -> f64 {
    let barrier = Barrier::new(cpus.len());
    let (to_second, from_first) = RingBuffer::new(1024);
    let (to_first, from_second) = RingBuffer::new(1024);
    let ends = [(to_second, from_second), (to_first, from_first)];
    thread::scope(|scope| {
        let workers: Vec<_> = cpus
            .iter()
            .zip(ends)
            .enumerate()
            .map(|(n, (cpu, mut ends))| {
                let (barrier, tables) = (&barrier, &tables[n]);
                scope.spawn(move || {
                    assert!(pin_to(*cpu));
                    run(frames, n * FRAMES, way, Some((&mut ends.0, &mut ends.1)), tables, barrier)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).fold(0.0, f64::max)
    })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let cpus = allowed_cpus();
    let [.., one, other] = cpus[..] else { return eprintln!("two CPUs are needed") };
    let frames = Frames(Pages::zeroed(2 * FRAMES * Frames::STRIDE));
    let tables = [Tables::new(), Tables::new()];
    let mut took = [vec![], vec![], vec![]];
    for _ in 0..ROUNDS {
        took[0].push(pass(&frames, &tables, Way::Own, &[other]));
        took[1].push(pass(&frames, &tables, Way::Own, &[one, other]));
        took[2].push(pass(&frames, &tables, Way::Crossed, &[one, other]));
    }
    let [alone, own, crossed] = took.map(median);
    println!("five lines a frame, ns a frame and worker, medians of {ROUNDS}");
    println!("one worker, its own            {alone:6.1}");
    println!("two workers, each its own      {own:6.1}   {:.2} x one", 2.0 * alone / own);
    println!("two workers, each the other's  {crossed:6.1}   {:.2} x one", 2.0 * alone / crossed);
    println!("                      more by  {:6.1}", crossed - own);
}
