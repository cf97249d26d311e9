//! The kernel's neighbours, mirrored into the workers; and those that it is to keep current for them.
//!
//! The kernel sees no data traffic, so by itself it would let neighbours grow old: next hops of the configuration are
//! installed as managed ones, which it asks for again and again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rtrb::Producer;

use super::exchange::KernelPort;
use crate::addr::{Addr, Mac};
use crate::ids::PortId;
use crate::kernel::{KernelError, NeighborEvent, Netlink, Watch};
use crate::pipeline::NeighborUpdate;
use crate::route::Hop;
use crate::tables::Tables;

/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often all neighbours are told anew: workers take one for confirmed for 30 s, and the kernel says nothing of one that
/// stays as it is.
const AGAIN: Duration = Duration::from_secs(10);
/// How long readiness waits for next hops that neither answer nor are given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker that takes nothing for this long asks for itself.
const FULL: Duration = Duration::from_millis(100);

/// The thread's state.
pub(super) struct Mirror {
    ports: Arc<[KernelPort]>,
    tables: Arc<Tables>,
    to: Vec<Producer<NeighborUpdate>>,
    netlink: Netlink,
    watch: Watch,
    /// Next hops that the kernel has neither found nor given up yet.
    open: HashSet<(PortId, Addr)>,
    known: HashMap<(PortId, Addr), Mac>,
    resolved: Arc<AtomicBool>,
}

impl Mirror {
    /// Installs the next hops of the configuration: endpoints, what leads to them, and `gateways`.
    ///
    /// # Errors
    /// Netlink that does not work.
    pub fn new(
        ports: Arc<[KernelPort]>,
        tables: Arc<Tables>,
        gateways: &[Addr],
        to: Vec<Producer<NeighborUpdate>>,
        resolved: Arc<AtomicBool>,
    ) -> Result<Self, KernelError> {
        // First the watch, so that nothing is missed.
        let watch = Watch::neighbors().map_err(KernelError::Netlink)?;
        let mut netlink = Netlink::new().map_err(KernelError::Netlink)?;
        let index = |port| ports.iter().find(|at| at.port == port).map(|at| at.tap.index());
        let mut open = HashSet::new();
        let mut fixed = HashSet::new();
        for &(port, addr, mac) in &tables.neighbors {
            fixed.insert((port, addr));
            if let Some(index) = index(port) {
                netlink.set_neighbor(index, addr, mac).map_err(KernelError::Netlink)?;
            }
        }
        let mut managed = true;
        for Hop { port, addr } in next_hops(&tables, gateways) {
            let Some(index) = index(port).filter(|_| managed && !fixed.contains(&(port, addr))) else {
                continue;
            };
            match netlink.manage_neighbor(index, addr) {
                Ok(()) => {
                    open.insert((port, addr));
                }
                Err(error) => {
                    tracing::warn!(
                        "the kernel does not keep neighbours current for us (Linux 5.16 does): {addr}: {error}"
                    );
                    managed = false;
                }
            }
        }
        Ok(Self { ports, tables, to, netlink, watch, open, known: HashMap::new(), resolved })
    }

    /// Starts the thread; it ends when `stop` is set.
    pub fn start(mut self, stop: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("pollux-netlink".into()).spawn(move || self.run(&stop))
    }

    fn run(&mut self, stop: &AtomicBool) {
        let deadline = Instant::now() + PATIENCE;
        // Everything at the start, now and then, and where the kernel had to leave something out.
        let mut lost = true;
        let mut again = Instant::now() + AGAIN;
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() >= again {
                again = Instant::now() + AGAIN;
                lost = true;
            }
            let events = if lost { self.netlink.neighbors() } else { self.watch.events() };
            match events {
                Ok(events) => {
                    lost = false;
                    for event in events {
                        self.take(&event);
                    }
                }
                Err(error) => {
                    tracing::debug!("neighbours over netlink: {error}");
                    lost = true;
                }
            }
            if self.open.is_empty() || Instant::now() >= deadline {
                self.resolved.store(true, Ordering::Release);
            }
            thread::sleep(LOOK);
        }
    }

    fn take(&mut self, event: &NeighborEvent) {
        let Some(port) = self.ports.iter().find(|at| at.tap.index() == event.index).map(|at| at.port) else {
            return;
        };
        let key = (port, event.addr);
        if event.failed {
            self.open.remove(&key);
            self.known.remove(&key);
        }
        let Some(mac) = event.mac else { return };
        self.open.remove(&key);
        let new = self.known.insert(key, mac) != Some(mac);
        if (new || event.confirmed) && !self.tables.is_local(event.addr) {
            self.tell(NeighborUpdate { port, addr: event.addr, mac, create: true });
        }
    }

    fn tell(&mut self, update: NeighborUpdate) {
        for ring in &mut self.to {
            let deadline = Instant::now() + FULL;
            while ring.push(update).is_err() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Where packets to endpoints and over `gateways` go first.
fn next_hops(tables: &Tables, gateways: &[Addr]) -> Vec<Hop> {
    let endpoints =
        tables.services.iter().flat_map(|service| &service.endpoints).map(|endpoint| endpoint.addr);
    let mut seen = HashSet::new();
    endpoints
        .chain(gateways.iter().copied())
        .filter_map(|addr| tables.routes.lookup(addr))
        .filter(|hop| !tables.is_local(hop.addr) && seen.insert((hop.port, hop.addr)))
        .collect()
}
