//! A worker's way out: TX buffers, rings to other workers, and the list of frames to free.
//!
//! Where a device has fewer TX queues than there are workers, each queue belongs to one worker, and the others reach it
//! through a ring of their own that it empties. Such a ring is a part of the TX queue: what fits into it counts as taken,
//! by the worker that put it in, whose counters alone know the pair; what does not is dropped and counted, as with a full
//! queue. The owner never drops what it finds there: what the device does not take stays for the next turn. So each frame
//! is counted once, by one worker, in the tick in which it was forwarded, and nobody locks or waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, PushError};

use super::exchange::AtPort;
use super::handoff::{Outlet, Ticked};
use crate::capture::TapWriter;
use crate::counters::{Term, Writer};
use crate::dpdk::{Mbuf, Mempool, TxQueue, free_all};
use crate::ids::{PairSlot, PortId, ServiceId, WorkerId};
use crate::pipeline::{Account, DropReason, Frame, Handed, MAX_BURST, NeighborUpdate, Output};

/// Frames that a turn can have for one port.
pub(super) const TX_BUFFER: usize = 512;
/// Frames that a ring to the owner of a TX queue holds.
pub(super) const RELAY: usize = 512;
/// Neighbour updates that wait for room in a ring.
const PENDING: usize = 64;

/// Where the frames of one worker for one port go.
#[derive(Debug)]
pub(super) struct TxPort {
    id: PortId,
    frames: Box<ArrayVec<Mbuf, TX_BUFFER>>,
    /// For each of `frames` the one at its place.
    notes: Box<[Note; TX_BUFFER]>,
    /// Bytes of `frames`.
    bytes: u64,
    /// Frames that found the buffer full, not counted yet.
    overflow: u32,
    way: Way,
}

/// What to count when a frame is taken: of an [`Account`] as much as most have.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// [`NOBODY`] where nothing is credited.
    pair: PairSlot,
    bytes: u32,
    /// Of an ICMP error alone.
    service: Option<ServiceId>,
}

const _: () = assert!(size_of::<Note>() == 16);

/// No slot.
const NOBODY: PairSlot = PairSlot(u32::MAX);
/// Of a frame that is nobody's.
const NOTHING: Note = Note { pair: NOBODY, bytes: 0, service: None };

impl Note {
    #[inline(always)]
    fn new(account: Account) -> Self {
        let Account { pair, bytes, icmp_error, .. } = account;
        Self { pair, bytes, service: icmp_error }
    }

    #[inline(always)]
    fn account(self) -> Option<Account> {
        let Self { pair, bytes, service } = self;
        (pair != NOBODY).then_some(Account { flow: None, pair, bytes, icmp_error: service })
    }
}

/// The device's queue, or the ring to its owner.
#[derive(Debug)]
pub(super) enum Way {
    /// This worker owns the queue, and empties these rings into it.
    Own(TxQueue, Vec<Relay>),
    /// Another does, or the port shares another's device.
    Other(Producer<Mbuf>),
}

/// The end of a ring of another worker's frames for a queue of ours.
#[derive(Debug)]
pub(super) struct Relay {
    from: Consumer<Mbuf>,
    /// Taken from the ring, not yet taken by the device.
    backlog: ArrayVec<Mbuf, MAX_BURST>,
}

impl Relay {
    pub fn new(from: Consumer<Mbuf>) -> Self {
        Self { from, backlog: ArrayVec::new() }
    }

    /// Sends what the queue takes; whether there was anything.
    fn send(&mut self, queue: &mut TxQueue) -> bool {
        while !self.backlog.is_full() {
            let Ok(frame) = self.from.pop() else { break };
            self.backlog.push(frame);
        }
        if self.backlog.is_empty() {
            return false;
        }
        queue.burst(&mut self.backlog);
        true
    }

    fn is_done(&self) -> bool {
        self.backlog.is_empty() && self.from.is_empty() && self.from.is_abandoned()
    }
}

impl TxPort {
    pub fn new(id: PortId, way: Way) -> Self {
        Self { id, frames: Box::default(), notes: Box::new([NOTHING; TX_BUFFER]), bytes: 0, overflow: 0, way }
    }

    /// The port.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Puts a frame into the buffer; it comes back where that is full.
    #[inline(always)]
    fn push(&mut self, frame: Mbuf, account: Option<Account>) -> Option<Mbuf> {
        let (len, place) = (frame.data().len() as u64, self.frames.len());
        if let Err(error) = self.frames.try_push(frame) {
            self.overflow += 1;
            return Some(error.element());
        }
        self.bytes += len;
        self.notes[place] = account.map_or(NOTHING, Note::new);
        None
    }

    /// One TX burst, and the bookkeeping of what it took and what it did not. Whether there was anything.
    fn flush(&mut self, writer: &Writer, tap: &mut TapWriter, relays_first: bool) -> bool {
        let Self { id, frames, notes, bytes, overflow, way } = self;
        let mut busy = false;
        let mut relay_all = |way: &mut Way| {
            if let Way::Own(queue, relays) = way {
                for relay in relays {
                    busy |= relay.send(queue);
                }
            }
        };
        if relays_first {
            relay_all(way);
        }
        let waiting = frames.len();
        if waiting > 0 {
            let taken = {
                let staged = tap.stage(*id, frames);
                let taken = match way {
                    Way::Own(queue, _) => queue.burst(frames),
                    Way::Other(ring) => relay(ring, frames),
                };
                if let Some(staged) = staged {
                    staged.sent(taken);
                }
                taken
            };
            tap.not_sent(*id, frames);
            writer.processed(notes[..taken].iter().filter_map(|note| note.account()));
            let left: u64 = frames.iter().map(|frame| frame.data().len() as u64).sum();
            writer.sent(*id, taken as u64, std::mem::take(bytes) - left);
            for _ in taken..waiting {
                writer.tx_dropped(*id);
            }
            free_all(frames);
        }
        for _ in 0..std::mem::take(overflow) {
            writer.tx_dropped(*id);
        }
        if !relays_first {
            relay_all(way);
        }
        busy
    }
}

/// Moves frames from the front into the ring, as many as fit; the others stay. How many fitted.
fn relay(ring: &mut Producer<Mbuf>, frames: &mut ArrayVec<Mbuf, TX_BUFFER>) -> usize {
    let n = ring.slots().min(frames.len());
    match ring.write_chunk_uninit(n) {
        Ok(chunk) => chunk.fill_from_iter(frames.drain(..n)),
        Err(_) => 0,
    }
}

/// Neighbour updates for one other worker: those that its ring had no room for are tried again.
#[derive(Debug)]
struct Outbox {
    to: Producer<NeighborUpdate>,
    pending: ArrayVec<NeighborUpdate, PENDING>,
}

/// One worker's way out.
#[derive(Debug)]
pub(super) struct Io {
    /// The tick that the worker counts in.
    pub tick: u32,
    /// Where a capture sees what comes and goes.
    pub tap: TapWriter,
    pool: Mempool,
    ports: Box<[TxPort]>,
    handed: Box<[Option<Outlet>]>,
    outboxes: Vec<Outbox>,
    lost_updates: Arc<AtomicU64>,
    /// To the kernel's interfaces, where there are any.
    punted: Option<Producer<AtPort>>,
    freed: ArrayVec<Mbuf, MAX_BURST>,
    relays_first: bool,
}

impl Io {
    pub fn new(
        pool: Mempool,
        tap: TapWriter,
        ports: Vec<TxPort>,
        handed: Vec<Option<Producer<Ticked>>>,
        updates: Vec<Option<Producer<NeighborUpdate>>>,
        lost_updates: Arc<AtomicU64>,
        punted: Option<Producer<AtPort>>,
    ) -> Self {
        Self {
            tick: 0,
            tap,
            pool,
            ports: ports.into(),
            handed: handed.into_iter().map(|ring| ring.map(Outlet::new)).collect(),
            outboxes: updates
                .into_iter()
                .flatten()
                .map(|to| Outbox { to, pending: ArrayVec::new() })
                .collect(),
            lost_updates,
            punted,
            freed: ArrayVec::new(),
            relays_first: false,
        }
    }

    /// At the end of a turn: sends, counts, frees. Whether other workers' frames were sent.
    pub fn flush(&mut self, writer: &Writer) -> bool {
        // In turn, so that under a full queue neither side's frames always lose.
        self.relays_first = !self.relays_first;
        let mut busy = false;
        for port in &mut self.ports {
            busy |= port.flush(writer, &mut self.tap, self.relays_first);
        }
        for outlet in self.handed.iter_mut().flatten() {
            outlet.flush();
        }
        for outbox in &mut self.outboxes {
            let Outbox { to, pending } = outbox;
            let n = to.slots().min(pending.len());
            for update in pending.drain(..n) {
                let _ = to.push(update);
            }
        }
        free_all(&mut self.freed);
        busy
    }

    /// In the middle of a turn: sends where a TX buffer has so much that a burst cut into fragments might not fit.
    pub fn relieve(&mut self, writer: &Writer) {
        if self.ports.iter().any(|tx| tx.frames.len() >= TX_BUFFER / 8) {
            self.flush(writer);
        }
    }

    /// The queue of the first port, where this worker owns it.
    pub fn first_queue(&mut self) -> Option<&mut TxQueue> {
        match &mut self.ports.first_mut()?.way {
            Way::Own(queue, _) => Some(queue),
            Way::Other(_) => None,
        }
    }

    /// At the worker's end: lets go of the rings to others, and sends what others had put into those to it. Whether all
    /// is sent.
    pub fn finish(&mut self) -> bool {
        self.handed = Box::default();
        self.outboxes.clear();
        self.punted = None;
        let mut done = true;
        let ports = std::mem::take(&mut self.ports).into_vec();
        self.ports = ports
            .into_iter()
            .filter_map(|mut port| match &mut port.way {
                Way::Other(_) => None,
                Way::Own(queue, relays) => {
                    for relay in relays {
                        relay.send(queue);
                        done &= relay.is_done();
                    }
                    Some(port)
                }
            })
            .collect();
        done
    }

    /// A frame of the kernel's.
    pub fn inject(&mut self, port: PortId, frame: Mbuf, writer: &Writer) {
        writer.bank().term(Term::Injected).add(1);
        self.send(port, frame, None);
    }

    fn free(&mut self, frame: Mbuf) {
        if self.freed.is_full() {
            free_all(&mut self.freed);
        }
        self.freed.push(frame);
    }

    #[inline(always)]
    fn send(&mut self, port: PortId, frame: Mbuf, account: Option<Account>) {
        let Some(tx) = self.ports.get_mut(port.index()) else { return self.free(frame) };
        let refused = tx.push(frame, account);
        if let Some(frame) = refused {
            self.tap.not_sent(port, std::slice::from_ref(&frame));
            self.free(frame);
        }
    }
}

impl Output<Mbuf> for Io {
    #[inline(always)]
    fn forward(&mut self, port: PortId, frame: Mbuf, account: Account) {
        self.send(port, frame, Some(account));
    }

    #[inline]
    fn drop(&mut self, port: PortId, frame: Mbuf, reason: DropReason) {
        self.tap.dropped(port, &frame, reason);
        self.free(frame);
    }

    fn punt(&mut self, port: PortId, frame: Mbuf) -> Result<(), Mbuf> {
        let Some(ring) = &mut self.punted else { return Err(frame) };
        ring.push((port, frame)).map_err(|PushError::Full((_, frame))| frame)
    }

    fn consume(&mut self, _port: PortId, frame: Mbuf) {
        self.free(frame);
    }

    #[inline]
    fn hand_off(&mut self, to: WorkerId, handed: Handed<Mbuf>) -> Result<(), Mbuf> {
        let Some(Some(outlet)) = self.handed.get_mut(to.index()) else { return Err(handed.frame) };
        outlet.push(Ticked { tick: self.tick, handed })
    }

    fn originate(&mut self, port: PortId, bytes: &[u8], _fragment: bool) -> bool {
        match self.pool.frame(bytes) {
            Some(frame) => {
                self.send(port, frame, None);
                true
            }
            None => false,
        }
    }

    fn announce(&mut self, update: NeighborUpdate) {
        for outbox in &mut self.outboxes {
            // Behind those that wait already.
            let late = if outbox.pending.is_empty() { outbox.to.push(update).is_err() } else { true };
            if late && outbox.pending.try_push(update).is_err() {
                // The other worker will ask for itself.
                self.lost_updates.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
