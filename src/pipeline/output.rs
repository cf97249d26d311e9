//! Where packets go when the pipeline has decided: the one door out of the core.

use crate::addr::{Addr, Mac};
use crate::conntrack::FlowId;
use crate::ids::{PairSlot, PortId, ServiceId, WorkerId};
use crate::pipeline::{DropReason, Errand};

/// What is credited once the TX burst has taken a forwarded packet (a packet counts as processed only then), and what the
/// connection's own count has been told with the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// The connection that let it pass, where it has an entry.
    pub flow: Option<FlowId>,
    /// The client–endpoint pair of the connection.
    pub pair: PairSlot,
    /// L3 bytes as received: IP header and everything after it, without padding.
    pub bytes: u32,
    /// Of an ICMP error that follows its connection, which is processed, but of no L4 protocol: the connection's service.
    pub icmp_error: Option<ServiceId>,
}

/// Takes each packet with its verdict. Implemented by the worker (mbufs, queues, rings), by replay (files) and by fixtures.
pub trait Output<F> {
    /// Verdict Forward: send `frame`, complete with its L2 header, out of `port`. The implementation reports each frame
    /// to [`crate::counters::Writer::transmitted`] or `tx_dropped` when the device has answered.
    fn forward(&mut self, port: PortId, frame: F, account: Account);

    /// Verdict Drop.
    fn drop(&mut self, port: PortId, frame: F, reason: DropReason);

    /// Verdict Punt: to the kernel's interface of `port`, as it came in.
    ///
    /// # Errors
    /// The frame itself, when the ring is full.
    fn punt(&mut self, port: PortId, frame: F) -> Result<(), F>;

    /// Verdict Consume: the engine itself was the destination.
    fn consume(&mut self, port: PortId, frame: F);

    /// Verdict `HandOff`: to the worker that owns the connection. The frame comes back where the ring is full.
    ///
    /// # Errors
    /// The frame itself, when the ring is full.
    fn hand_off(&mut self, to: WorkerId, handed: Handed<F>) -> Result<(), F>;

    /// A frame of the engine's own (RST, ICMP, ARP, ND), or a further fragment when `fragment` is set, to be copied
    /// and sent out of `port`. `false` where no buffer is free.
    fn originate(&mut self, port: PortId, frame: &[u8], fragment: bool) -> bool;

    /// Tell every other worker what was learnt of a neighbour.
    fn announce(&mut self, update: NeighborUpdate);
}

/// A frame on its way to another worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handed<F> {
    /// Where it came in.
    pub port: PortId,
    /// The frame, as it came in.
    pub frame: F,
    /// Of a fragment: the source and destination port of its datagram, for the connection's owner. A fragment without goes to
    /// the worker that learns them.
    pub ports: Option<(u16, u16)>,
    /// What for.
    pub errand: Errand,
}

impl<F> Handed<F> {
    /// A whole packet, to the owner of its connection; a fragment, to the worker that learns its ports.
    pub const fn to_owner(port: PortId, frame: F) -> Self {
        Self { port, frame, ports: None, errand: Errand::Own }
    }
}

/// A neighbour's MAC, learnt by one worker and told to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborUpdate {
    /// The port it is behind.
    pub port: PortId,
    /// Its address.
    pub addr: Addr,
    /// Its MAC.
    pub mac: Mac,
    /// Whether the neighbour asked *us* or answered us (then an entry is made), or was only overheard (then one is updated).
    pub create: bool,
}
