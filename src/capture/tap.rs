//! The workers' side: a word that says what is wanted, and a ring of copied packets for each worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;
use rtrb::chunks::WriteChunk;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::ids::PortId;
use crate::pipeline::{DropReason, Frame};
use crate::time::Instant;

/// Bytes of a worker's ring. Ordinary memory, all of it touched before the worker turns.
pub const RING_BYTES: usize = 4 << 20;

/// Bytes that are kept of a packet: all of any that there can be.
pub const SNAP: usize = 65_535;

/// Packets that are sent at once, at most.
pub const MAX_STAGED: usize = 512;

/// The comment on a packet that the TX queue had no room for. It was forwarded or originated before, so it is no drop with a
/// [`DropReason`].
pub const TX_FULL: &str = "tx_full";

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Received,
    Sent,
    TxFull,
    Dropped(DropReason),
}

impl Event {
    fn code(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Sent => 1,
            Self::TxFull => 2,
            Self::Dropped(reason) => 3 + reason.index() as u8,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Received,
            1 => Self::Sent,
            2 => Self::TxFull,
            n => DropReason::ALL.get(usize::from(n) - 3).map_or(Self::TxFull, |&r| Self::Dropped(r)),
        }
    }
}

/// What precedes a packet in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Of which capture: what an earlier one has left is skipped.
    pub session: u32,
    /// The turn's, by the engine's clock.
    pub time: u64,
    pub port: u8,
    pub event: Event,
    /// Bytes that follow.
    pub captured: u32,
    /// Bytes that the packet had.
    pub original: u32,
}

const HEADER: usize = 24;

impl Header {
    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.session.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.captured.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.original.to_le_bytes());
        bytes[12] = self.port;
        bytes[13] = self.event.code();
        bytes[16..].copy_from_slice(&self.time.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER]) -> Self {
        let [s0, s1, s2, s3, c0, c1, c2, c3, o0, o1, o2, o3, port, event, _, _, time @ ..] = *bytes;
        Self {
            session: u32::from_le_bytes([s0, s1, s2, s3]),
            captured: u32::from_le_bytes([c0, c1, c2, c3]),
            original: u32::from_le_bytes([o0, o1, o2, o3]),
            port,
            event: Event::from_code(event),
            time: u64::from_le_bytes(time),
        }
    }
}

/// What is wanted, as the one word that workers look at; 0 is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted(pub u64);

impl Wanted {
    pub const NOTHING: Self = Self(0);
    const PASSING: u64 = 1;

    /// `session` is not 0; no `port` is all of them.
    pub fn new(session: u32, port: Option<PortId>, drops_only: bool) -> Self {
        let port = port.map_or(0, |port| u64::from(port.0) + 1);
        Self(u64::from(session) << 32 | port << 8 | if drops_only { 0 } else { Self::PASSING })
    }

    fn session(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether dropped packets of this port are.
    fn port(self, port: PortId) -> bool {
        let only = self.0 >> 8 & 0x1ff;
        self != Self::NOTHING && (only == 0 || only == u64::from(port.0) + 1)
    }

    /// Whether received and sent packets of this port are.
    fn passing(self, port: PortId) -> bool {
        self.0 & Self::PASSING != 0 && self.port(port)
    }
}

/// What one worker says.
#[derive(Debug)]
struct Said {
    /// The word that it acts by.
    seen: CachePadded<AtomicU64>,
    /// Packets by port that its ring had no room for, ever.
    missed: Box<[AtomicU64]>,
}

/// The control threads' side of all workers' taps.
#[derive(Debug)]
pub struct Tap {
    wanted: CachePadded<AtomicU64>,
    workers: Box<[Said]>,
    ports: Box<[String]>,
    /// Where they are while no capture is on.
    readers: Mutex<Option<Vec<Reader>>>,
    sessions: AtomicU64,
}

impl Tap {
    /// The tap of an engine with these ports, and the ends for its workers.
    #[must_use]
    pub fn new(workers: usize, ports: Vec<String>) -> (Arc<Self>, Vec<TapWriter>) {
        Self::with_rings(workers, ports, RING_BYTES)
    }

    pub(super) fn with_rings(
        workers: usize,
        ports: Vec<String>,
        bytes: usize,
    ) -> (Arc<Self>, Vec<TapWriter>) {
        let (producers, readers): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (producer, ring) = RingBuffer::new(bytes);
                (producer, Reader { ring, head: None })
            })
            .unzip();
        let said = || Said {
            seen: CachePadded::default(),
            missed: ports.iter().map(|_| AtomicU64::new(0)).collect(),
        };
        let tap = Arc::new(Self {
            wanted: CachePadded::default(),
            workers: (0..workers).map(|_| said()).collect(),
            ports: ports.into(),
            readers: Mutex::new(Some(readers)),
            sessions: AtomicU64::new(0),
        });
        let writers = producers.into_iter().enumerate().map(|(worker, ring)| TapWriter {
            tap: Arc::clone(&tap),
            worker,
            ring,
            wanted: Wanted::NOTHING,
            now: 0,
        });
        let writers = writers.collect();
        (tap, writers)
    }

    /// The ports' names.
    pub(super) fn ports(&self) -> &[String] {
        &self.ports
    }

    /// The number of a capture that begins: never 0.
    pub(super) fn next_session(&self) -> u32 {
        let n = self.sessions.fetch_add(1, Ordering::Relaxed);
        (n % u64::from(u32::MAX - 1)) as u32 + 1
    }

    pub(super) fn want(&self, wanted: Wanted) {
        self.wanted.store(wanted.0, Ordering::Relaxed);
    }

    /// Whether this worker acts by it. What it has written before is in its ring then.
    pub(super) fn acts_by(&self, worker: usize, wanted: Wanted) -> bool {
        self.workers.get(worker).is_some_and(|said| said.seen.load(Ordering::Acquire) == wanted.0)
    }

    /// Packets of each port that found no room, over all workers, ever.
    pub(super) fn missed(&self) -> Vec<u64> {
        let of = |port| self.workers.iter().filter_map(move |said| said.missed.get(port));
        (0..self.ports.len()).map(|port| of(port).map(|n| n.load(Ordering::Relaxed)).sum()).collect()
    }

    /// The reading ends, for the one who has none of them yet.
    pub(super) fn lend(&self) -> Option<Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn give_back(&self, readers: Vec<Reader>) {
        *self.readers.lock().unwrap_or_else(PoisonError::into_inner) = Some(readers);
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct TapWriter {
    tap: Arc<Tap>,
    worker: usize,
    ring: Producer<u8>,
    wanted: Wanted,
    now: u64,
}

impl TapWriter {
    /// Touches the ring's memory: in the worker's thread, before it polls, so that it is that CPU's and no capture waits for
    /// page faults.
    pub fn touch(&mut self) {
        // Written with zeros, and not committed.
        let _ = self.ring.write_chunk(self.ring.slots());
    }

    /// Looks whether a capture is on: once a turn.
    #[inline]
    pub fn turn(&mut self, now: Instant) {
        let wanted = Wanted(self.tap.wanted.load(Ordering::Relaxed));
        if wanted != self.wanted {
            self.wanted = wanted;
            if let Some(said) = self.tap.workers.get(self.worker) {
                said.seen.store(wanted.0, Ordering::Release);
            }
        }
        self.now = now.0;
    }

    /// A burst from a device.
    #[inline]
    pub fn received<F: Frame>(&mut self, port: PortId, frames: &[F]) {
        if self.wanted.passing(port) {
            for frame in frames {
                self.write(port, Event::Received, frame.data(), frame.data().len());
            }
        }
    }

    /// A packet that was received and dropped at once, its bytes gone.
    pub fn refused(&mut self, port: PortId, len: usize, reason: DropReason) {
        if self.wanted.passing(port) {
            self.write(port, Event::Received, &[], len);
        }
        if self.wanted.port(port) {
            self.write(port, Event::Dropped(reason), &[], len);
        }
    }

    /// A dropped packet, as it was by then, and where it came in.
    #[inline]
    pub fn dropped<F: Frame>(&mut self, port: PortId, frame: &F, reason: DropReason) {
        if self.wanted.port(port) {
            self.write(port, Event::Dropped(reason), frame.data(), frame.data().len());
        }
    }

    /// Packets that the TX queue of this port had no room for.
    #[inline]
    pub fn not_sent<F: Frame>(&mut self, port: PortId, frames: &[F]) {
        if self.wanted.port(port) {
            for frame in frames {
                self.write(port, Event::TxFull, frame.data(), frame.data().len());
            }
        }
    }

    /// Copies packets that are about to be sent: they are gone afterwards, and nobody knows yet how many will be taken.
    #[inline]
    pub fn stage<F: Frame>(&mut self, port: PortId, frames: &[F]) -> Option<Staged<'_>> {
        if self.wanted.passing(port) { self.copy(port, frames) } else { None }
    }

    fn copy<F: Frame>(&mut self, port: PortId, frames: &[F]) -> Option<Staged<'_>> {
        let mut room = self.ring.slots();
        let mut ends = ArrayVec::new();
        let mut end = 0;
        for frame in frames {
            let needed = HEADER + frame.data().len().min(SNAP);
            if needed > room || ends.try_push(end + needed).is_err() {
                break;
            }
            room -= needed;
            end += needed;
        }
        let missed = self.tap.workers.get(self.worker)?.missed.get(port.index())?;
        let mut chunk = self.ring.write_chunk(end).ok()?;
        let (first, second) = chunk.as_mut_slices();
        let mut at = 0;
        for frame in frames.iter().take(ends.len()) {
            let data = frame.data();
            at = put(
                first,
                second,
                at,
                header(self.wanted, self.now, port, Event::Sent, data, data.len()),
                data,
            );
        }
        Some(Staged { chunk, ends, missed })
    }

    fn write(&mut self, port: PortId, event: Event, data: &[u8], len: usize) {
        let header = header(self.wanted, self.now, port, event, data, len);
        match self.ring.write_chunk(HEADER + header.captured as usize) {
            Ok(mut chunk) => {
                let (first, second) = chunk.as_mut_slices();
                put(first, second, 0, header, data);
                chunk.commit_all();
            }
            Err(_) => {
                if let Some(missed) =
                    self.tap.workers.get(self.worker).and_then(|said| said.missed.get(port.index()))
                {
                    add(missed, 1);
                }
            }
        }
    }
}

/// Packets that were copied and may be sent.
#[must_use = "nothing is captured without `sent`"]
#[derive(Debug)]
pub struct Staged<'a> {
    chunk: WriteChunk<'a, u8>,
    /// Where each packet's copy ends.
    ends: ArrayVec<usize, MAX_STAGED>,
    missed: &'a AtomicU64,
}

impl Staged<'_> {
    /// So many of them were.
    pub fn sent(self, n: usize) {
        let kept = n.min(self.ends.len());
        let end = kept.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        self.chunk.commit(end);
        add(self.missed, (n - kept) as u64);
    }
}

/// By the one worker that writes it.
fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

fn header(wanted: Wanted, time: u64, port: PortId, event: Event, data: &[u8], len: usize) -> Header {
    Header {
        session: wanted.session(),
        time,
        port: port.0,
        event,
        captured: data.len().min(SNAP) as u32,
        original: u32::try_from(len).unwrap_or(u32::MAX),
    }
}

/// Writes a record at `at` of the two parts of a chunk; where it ends.
fn put(first: &mut [u8], second: &mut [u8], at: usize, header: Header, data: &[u8]) -> usize {
    let data = data.get(..header.captured as usize).unwrap_or_default();
    let mut at = at;
    for part in [&header.to_bytes()[..], data] {
        let split = part.len().min(first.len().saturating_sub(at));
        let (a, b) = part.split_at(split);
        if let Some(to) = first.get_mut(at..at + a.len()) {
            to.copy_from_slice(a);
        }
        let from = (at + a.len()).saturating_sub(first.len());
        if let Some(to) = second.get_mut(from..from + b.len()) {
            to.copy_from_slice(b);
        }
        at += part.len();
    }
    at
}

/// The other end of a worker's ring.
#[derive(Debug)]
pub(super) struct Reader {
    ring: Consumer<u8>,
    /// The next packet's, where it was read already.
    head: Option<Header>,
}

impl Reader {
    /// The next packet's header.
    pub fn head(&mut self) -> Option<Header> {
        if self.head.is_none() {
            let mut bytes = [0; HEADER];
            self.ring.pop_entire_slice(&mut bytes).ok()?;
            self.head = Some(Header::from_bytes(&bytes));
        }
        self.head
    }

    /// Goes on to the next packet; the bytes of the one whose header was read replace what `into` has.
    pub fn body(&mut self, into: &mut Vec<u8>) {
        let Some(head) = self.head.take() else { return };
        into.clear();
        into.resize(head.captured as usize, 0);
        // A record is committed as a whole.
        let _ = self.ring.pop_entire_slice(into);
    }

    /// Whether its worker has ended.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}
