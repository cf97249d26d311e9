//! Between workers and the kernel's interfaces: rings, and the control thread that reads and writes the TAPs.
//!
//! What a worker punts is counted when it is in its ring; what the kernel sends is counted by the worker that takes it out
//! of the other. When that ring is full the thread stops reading, and the kernel's own queue of the interface, which
//! counts what it drops, takes over.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rtrb::{Consumer, Producer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dpdk::{Mbuf, Mempool};
use crate::health::ProbeNat;
use crate::ids::PortId;
use crate::kernel::Tap;
use crate::pipeline::Frame;
use crate::tunnel::MAX_OVERHEAD;

/// Frames on their way from one worker to the kernel; the policers' bursts fit in.
pub(super) const PUNTED: usize = 1024;
/// Frames on their way from the kernel to the worker that sends them.
pub(super) const INJECTED: usize = 512;
/// Frames that are moved in one direction before the other has its turn.
const TURN: usize = 64;
/// How long the thread waits for the kernel while the workers have nothing for it: a worker cannot wake it.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// A frame at the port that it came in by, or shall leave by.
pub(super) type AtPort = (PortId, Mbuf);

/// A port's TAP.
#[derive(Debug)]
pub(super) struct KernelPort {
    pub port: PortId,
    pub tap: Tap,
    /// The port's VLAN: the TAP's frames have no tag.
    pub vlan: u16,
    pub mtu: u16,
    /// VIPs are on it.
    pub has_vips: bool,
}

/// The control thread's ends.
pub(super) struct Exchange {
    pub ports: Arc<[KernelPort]>,
    pub from: Vec<Consumer<AtPort>>,
    pub to: Producer<AtPort>,
    pub pool: Mempool,
    /// Probes of VIPs, which the kernel takes for probes of endpoints.
    pub nat: Arc<ProbeNat>,
    /// For the next frame of the kernel's: one that has no buffer stays with it.
    pub spare: Option<Mbuf>,
    /// Frames that a TAP did not take.
    pub refused: Arc<AtomicU64>,
    /// An interface was removed, and it was said: the engine is not ready any more.
    pub gone: Arc<AtomicBool>,
}

impl Exchange {
    /// Starts the thread; it ends when `stop` is set.
    pub fn start(self, stop: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("pollux-tap".into()).spawn(move || self.run(&stop))
    }

    fn run(mut self, stop: &AtomicBool) {
        let largest = self.ports.iter().map(|port| usize::from(port.mtu)).max().unwrap_or(0);
        // MACs, EtherType, and room for a tag and a tunnel's header.
        let mut buffer = vec![0; largest + 18 + MAX_OVERHEAD];
        while !stop.load(Ordering::Relaxed) {
            let busy = self.punt() | self.inject(&mut buffer);
            if !busy {
                self.nap();
            }
        }
    }

    /// Workers to kernel; whether there was anything.
    fn punt(&mut self) -> bool {
        let Self { ports, from, nat, refused, .. } = self;
        let mut busy = false;
        for ring in from {
            for _ in 0..TURN {
                let Ok((port, mut frame)) = ring.pop() else { break };
                busy = true;
                remove_tag(&mut frame);
                let port = nat.incoming(frame.data_mut()).unwrap_or(port);
                let Some(to) = ports.iter().find(|to| to.port == port) else { continue };
                if let Err(error) = to.tap.send(frame.data())
                    && refused.fetch_add(1, Ordering::Relaxed) == 0
                {
                    tracing::warn!("{}: the kernel does not take a frame: {error}", to.tap.name());
                }
            }
        }
        busy
    }

    /// Kernel to worker; whether there was anything.
    fn inject(&mut self, buffer: &mut [u8]) -> bool {
        let Self { ports, to, pool, nat, spare, .. } = self;
        let mut busy = false;
        for KernelPort { port, tap, vlan, .. } in ports.iter() {
            // Behind the MACs, a tag's room is left, so that the frame need not be moved for it.
            for _ in 0..TURN {
                // Without room in the ring it stays there, too.
                let Some(mut mbuf) =
                    (!to.is_full()).then(|| spare.take().or_else(|| pool.frame(&[]))).flatten()
                else {
                    break;
                };
                let Ok(mut len) = tap.receive(&mut buffer[TAG..]) else {
                    *spare = Some(mbuf);
                    break;
                };
                busy = true;
                if let Some(probe) = nat.outgoing(*port, &buffer[TAG..TAG + len]) {
                    len = probe.len();
                    buffer[TAG..TAG + len].copy_from_slice(&probe);
                }
                let frame = if *vlan == 0 || len < MACS {
                    &buffer[TAG..TAG + len]
                } else {
                    buffer.copy_within(TAG..TAG + MACS, 0);
                    buffer[MACS..MACS + 2].copy_from_slice(&0x8100_u16.to_be_bytes());
                    buffer[MACS + 2..MACS + TAG].copy_from_slice(&vlan.to_be_bytes());
                    &buffer[..TAG + len]
                };
                // A buffer has room for any port's MTU, and the ring for this: nobody else fills it.
                if mbuf.fill(frame) {
                    let _ = to.push((*port, mbuf));
                }
            }
        }
        busy
    }

    fn nap(&mut self) {
        let Self { ports, to, gone, .. } = self;
        let mut taps: Vec<_> =
            ports.iter().map(|port| PollFd::from_borrowed_fd(port.tap.as_fd(), PollFlags::IN)).collect();
        // With no room for what the kernel sends, only time helps.
        let _ = poll(if to.is_full() { &mut [] } else { &mut taps[..] }, Some(&NAP));
        // Of an interface that was removed the kernel always has news, and never a frame.
        let broken = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        let Some(at) = taps.iter().position(|tap| tap.revents().intersects(broken)) else { return };
        if !gone.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "{}: somebody has removed the interface; nobody answers ARP, ND and echo there, and what is for the kernel is lost: start the engine again",
                ports[at].tap.name()
            );
        }
        thread::sleep(Duration::from_nanos(NAP.tv_nsec.unsigned_abs()));
    }
}

/// Bytes of both MACs.
const MACS: usize = 12;
/// Bytes of a VLAN tag.
const TAG: usize = 4;

/// Removes an 802.1Q tag: the TAP is the port's side of it.
fn remove_tag(frame: &mut Mbuf) {
    if frame.data().get(MACS..MACS + 2) == Some(&[0x81, 0]) && frame.data().len() >= MACS + TAG {
        frame.data_mut().copy_within(..MACS, TAG);
        frame.shrink_front(TAG);
    }
}
