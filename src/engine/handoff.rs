//! Rings between workers: one producer, one consumer each, one ring for every ordered pair.
//!
//! Frames carry the tick in which their sender counted them out. The receiver leaves those of a tick that it has not
//! reached in the ring: the aggregator asks one worker after the other, so for a moment one may be ahead. So no snapshot
//! shows a frame that came in without having gone out.

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::dpdk::Mbuf;
use crate::pipeline::{Frame, Handed, MAX_BURST, NeighborUpdate};

/// Frames that a ring holds.
pub(super) const FRAMES: usize = 1024;
/// Neighbour updates that a ring holds.
pub(super) const UPDATES: usize = 64;

/// A frame on its way to the worker that owns its connection.
#[derive(Debug)]
pub(super) struct Ticked {
    /// The tick in which it was counted out.
    pub tick: u32,
    /// The frame, and what is known of it.
    pub handed: Handed<Mbuf>,
}

/// One worker's ends of the rings.
#[derive(Debug)]
pub(super) struct Ends {
    /// To the worker of each index; none to itself.
    pub frames_to: Vec<Option<Producer<Ticked>>>,
    /// From the others.
    pub frames_from: Vec<Consumer<Ticked>>,
    /// To the worker of each index; none to itself.
    pub updates_to: Vec<Option<Producer<NeighborUpdate>>>,
    /// From the others.
    pub updates_from: Vec<Consumer<NeighborUpdate>>,
}

/// The rings of so many workers, by worker.
pub(super) fn mesh(workers: usize) -> Vec<Ends> {
    let frames = pairs(workers, FRAMES);
    let updates = pairs(workers, UPDATES);
    frames
        .into_iter()
        .zip(updates)
        .map(|((frames_to, frames_from), (updates_to, updates_from))| Ends {
            frames_to,
            frames_from,
            updates_to,
            updates_from,
        })
        .collect()
}

type Sides<T> = (Vec<Option<Producer<T>>>, Vec<Consumer<T>>);

fn pairs<T>(workers: usize, size: usize) -> Vec<Sides<T>> {
    let mut sides: Vec<Sides<T>> = (0..workers).map(|_| (Vec::new(), Vec::new())).collect();
    for from in 0..workers {
        for to in 0..workers {
            if from == to {
                sides[from].0.push(None);
                continue;
            }
            let (producer, consumer) = RingBuffer::new(size);
            sides[from].0.push(Some(producer));
            sides[to].1.push(consumer);
        }
    }
    sides
}

/// The end of a ring that frames are put into. What goes there in a turn is put in together: an index that two CPUs share is
/// written once, not for every frame.
#[derive(Debug)]
pub(super) struct Outlet {
    ring: Producer<Ticked>,
    staged: ArrayVec<Ticked, MAX_BURST>,
    /// Free places of the ring, at least.
    room: usize,
}

impl Outlet {
    pub fn new(ring: Producer<Ticked>) -> Self {
        Self { ring, staged: ArrayVec::new(), room: 0 }
    }

    /// Takes a frame, which is in the ring after [`flush`](Self::flush).
    ///
    /// # Errors
    /// The frame, where the ring is full.
    #[inline]
    pub fn push(&mut self, ticked: Ticked) -> Result<(), Mbuf> {
        if self.staged.is_full() {
            self.flush();
        }
        if self.staged.len() >= self.room {
            self.room = self.ring.slots();
            if self.staged.len() >= self.room {
                return Err(ticked.handed.frame);
            }
        }
        self.staged.try_push(ticked).map_err(|error| error.element().handed.frame)
    }

    /// Puts into the ring what was taken.
    pub fn flush(&mut self) {
        let n = self.staged.len();
        // There is room for all that were taken, and nobody else puts anything in.
        if n > 0
            && let Ok(chunk) = self.ring.write_chunk_uninit(n)
        {
            self.room -= chunk.fill_from_iter(self.staged.drain(..));
        }
    }
}

/// The end of a ring that frames are taken from.
#[derive(Debug)]
pub(super) struct Inbox {
    ring: Consumer<Ticked>,
    /// Taken, and not worked on yet.
    pub frames: Box<ArrayVec<Handed<Mbuf>, MAX_BURST>>,
}

impl Inbox {
    pub fn new(ring: Consumer<Ticked>) -> Self {
        Self { ring, frames: Box::default() }
    }

    /// Takes a burst of frames that were counted out up to `tick`. They were in another CPU's cache last, and are fetched: best
    /// something else is worked on meanwhile.
    pub fn take(&mut self, tick: u32) {
        let Self { ring, frames } = self;
        let Ok(chunk) = ring.read_chunk(ring.slots().min(frames.remaining_capacity())) else { return };
        let (first, second) = chunk.as_slices();
        let ready = first.iter().chain(second).take_while(|ticked| !is_after(ticked.tick, tick)).count();
        frames.extend(chunk.into_iter().take(ready).map(|Ticked { handed, .. }| handed));
        for handed in &**frames {
            handed.frame.prefetch();
        }
    }
}

/// Whether tick `a` comes after `b`; they are never far apart, and wrap.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_a_ring_to_every_other() {
        let mut sides = pairs::<(usize, usize)>(4, 2);
        for (from, side) in sides.iter_mut().enumerate() {
            assert!(side.0[from].is_none());
            for (to, producer) in side.0.iter_mut().enumerate() {
                if let Some(producer) = producer {
                    producer.push((from, to)).unwrap();
                }
            }
        }
        for (to, side) in sides.iter_mut().enumerate() {
            let mut got: Vec<_> = side.1.iter_mut().map(|consumer| consumer.pop().unwrap()).collect();
            got.sort_unstable();
            let want: Vec<_> = (0..4).filter(|&from| from != to).map(|from| (from, to)).collect();
            assert_eq!(got, want);
        }
        assert!(pairs::<u8>(1, 2)[0].1.is_empty());
    }

    #[test]
    fn ticks_wrap() {
        assert!(is_after(1, 0) && !is_after(0, 0) && !is_after(0, 1));
        assert!(is_after(0, u32::MAX) && !is_after(u32::MAX, 0));
    }
}
