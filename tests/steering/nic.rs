//! A NIC in software: rings as queues, and RSS as devices do it, with a Toeplitz hash of its own, bit by bit.

use std::ops::Range;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer, RingProducer, ring_port};
use pollux::engine::EnginePort;
use pollux::pipeline::Frame;
use pollux::wire::build;

use crate::network::{LAN_MAC, WAN_MAC};

/// Which port of the engine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Clients: RSS hashes the source.
    Wan,
    /// Endpoints: RSS hashes the destination.
    Lan,
}

/// How frames are spread over the queues: by a key, and so many queues in turn in the redirection table.
#[derive(Clone, Debug)]
pub struct Rss {
    pub key: Vec<u8>,
    pub queues: u16,
    /// Entries of the redirection table, a power of two.
    pub table: u32,
}

impl Rss {
    /// The queue that a frame comes in by.
    pub fn queue(&self, side: Side, frame: &[u8]) -> usize {
        let hash = input(side, frame).map_or(0, |input| self.hash(&input));
        // Buckets are dealt to the queues in turn; a larger table repeats them.
        (hash % self.table % 128 % u32::from(self.queues)) as usize
    }

    /// Shifts the key past the input, bit by bit, and adds it wherever the input has a 1.
    fn hash(&self, input: &[u8]) -> u32 {
        let mut window = u32::from_be_bytes(self.key[..4].try_into().unwrap());
        let mut hash = 0;
        for bit in 0..input.len() * 8 {
            if input[bit / 8] & 0x80 >> (bit % 8) != 0 {
                hash ^= window;
            }
            let next = self.key[4 + bit / 8] >> (7 - bit % 8) & 1;
            window = window << 1 | u32::from(next);
        }
        hash
    }
}

/// What devices hash: the address of one side, and its port where there is one and the datagram is whole; nothing of what is no
/// IP.
fn input(side: Side, frame: &[u8]) -> Option<Vec<u8>> {
    let l3 = build::l3(frame);
    let one = |source: Range<usize>, destination: Range<usize>| match side {
        Side::Wan => &l3[source],
        Side::Lan => &l3[destination],
    };
    let (address, protocol, l4, fragment) = match &frame[12..14] {
        [0x08, 0x00] => {
            let fragment = u16::from_be_bytes([l3[6], l3[7]]) & 0x3fff != 0;
            (one(12..16, 16..20), l3[9], usize::from(l3[0] & 15) * 4, fragment)
        }
        [0x86, 0xdd] => (one(8..24, 24..40), l3[6], 40, l3[6] == 44),
        _ => return None,
    };
    let mut input = address.to_vec();
    if !fragment && [6, 17, 132].contains(&protocol) {
        input.extend(one(l4..l4 + 2, l4 + 2..l4 + 4));
    }
    Some(input)
}

/// How long a frame, or a buffer for one, is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The other end of a port's wire.
struct End {
    inject: Vec<RingProducer>,
    collect: Vec<RingConsumer>,
}

/// Both wires of the engine.
pub struct Wires {
    pool: Mempool,
    rss: Rss,
    ends: [End; 2],
    /// Frames put on them.
    pub sent: u64,
    /// Frames that came out.
    pub received: u64,
}

impl Wires {
    /// Devices with so many queues each, and the other ends of their wires.
    pub fn new(eal: &Eal, pool: &Mempool, name: &str, rss: Rss) -> (Vec<EnginePort>, Self) {
        let mut ports = Vec::new();
        let ends = [("wan", WAN_MAC), ("lan", LAN_MAC)].map(|(side, mac)| {
            let name = format!("{name}{side}");
            let port = ring_port(eal, &name, rss.queues, rss.queues, 1024).unwrap();
            ports.push(EnginePort { device: port.device, mac: Some(mac) });
            End { inject: port.inject, collect: port.collect }
        });
        (ports, Self { pool: pool.clone(), rss, ends, sent: 0, received: 0 })
    }

    /// From now on with this key.
    pub fn set_key(&mut self, key: &[u8]) {
        self.rss.key = key.to_vec();
    }

    /// A frame into the engine.
    pub fn send(&mut self, side: Side, frame: &[u8]) {
        let queue = self.rss.queue(side, frame);
        let deadline = Instant::now() + PATIENCE;
        let buffer = loop {
            match self.pool.frame(frame) {
                Some(buffer) => break buffer,
                // A worker that has no CPU at the moment has them.
                None => assert!(Instant::now() < deadline, "no buffer comes back"),
            }
            std::thread::yield_now();
        };
        let mut frames = ArrayVec::<Mbuf, 1>::from([buffer]);
        assert_eq!(self.ends[side as usize].inject[queue].send(&mut frames), 1);
        self.sent += 1;
    }

    /// A frame into the engine, and the one that comes of it, with where it comes out.
    pub fn pass(&mut self, side: Side, frame: &[u8]) -> (Side, Vec<u8>) {
        self.send(side, frame);
        let deadline = Instant::now() + PATIENCE;
        loop {
            for side in [Side::Wan, Side::Lan] {
                if let Some(out) = self.take(side) {
                    build::verify(&out).unwrap();
                    self.received += 1;
                    return (side, out);
                }
            }
            assert!(Instant::now() < deadline, "nothing comes of {frame:02x?}");
            std::thread::yield_now();
        }
    }

    /// Through to the other side.
    pub fn through(&mut self, side: Side, frame: &[u8]) -> Vec<u8> {
        let (out, frame) = self.pass(side, frame);
        assert_ne!(out, side);
        frame
    }

    /// A frame that has come out, if any.
    fn take(&mut self, side: Side) -> Option<Vec<u8>> {
        let mut frames = ArrayVec::<Mbuf, 1>::new();
        let rings = &mut self.ends[side as usize].collect;
        rings.iter_mut().any(|ring| ring.receive(1, &mut frames) > 0).then(|| frames[0].data().to_vec())
    }

    /// Whether all that was sent has been taken, and all that came out.
    pub fn are_empty(&self) -> bool {
        let waiting = |end: &End| {
            end.inject.iter().map(RingProducer::waiting).sum::<usize>()
                + end.collect.iter().map(RingConsumer::waiting).sum::<usize>()
        };
        self.ends.iter().map(waiting).sum::<usize>() == 0
    }
}
