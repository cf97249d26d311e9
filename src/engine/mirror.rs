//! What the kernel knows, mirrored into the workers: its neighbours and routes. And what it is to have for them: VIPs, and the
//! neighbours that it is to keep current.
//!
//! The kernel sees no data traffic, so by itself it would let neighbours grow old: next hops are installed as managed ones,
//! which it asks for again and again. VIPs and next hops follow the tables in force.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rtrb::Producer;
use tokio::sync::watch;

use super::exchange::KernelPort;
use super::kernel::vips;
use super::learn::Learner;
use crate::addr::{Addr, Mac, Prefix};
use crate::ids::PortId;
use crate::kernel::{KernelError, NeighborEvent, Netlink, RouteWatch, Watch};
use crate::pipeline::NeighborUpdate;
use crate::route::{Hop, Learned};
use crate::tables::Tables;

/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often everything is read anew: workers take a neighbour for confirmed for 30 s, and the kernel says nothing of one that
/// stays as it is, nor of routes that go with their interface.
const AGAIN: Duration = Duration::from_secs(10);
/// How long readiness waits for next hops that neither answer nor are given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker that takes nothing for this long asks for itself.
const FULL: Duration = Duration::from_millis(100);
/// Of its time the thread spends no more than one part in so many on a large table of routes that never comes to rest.
const REST: u32 = 4;
/// A table that has changed so often while it was read is taken as it was read.
const TORN: u32 = 3;
/// What a kernel says that has no managed neighbours.
const EINVAL: i32 = 22;

/// The ways to the workers.
pub(super) struct Tell {
    pub to: Vec<Producer<NeighborUpdate>>,
    /// Updates that a worker had no room for.
    pub lost: Arc<AtomicU64>,
}

/// The thread's state.
pub(super) struct Mirror {
    ports: Arc<[KernelPort]>,
    learner: Learner,
    published: watch::Receiver<Arc<Tables>>,
    /// What the kernel has been told of.
    tables: Arc<Tables>,
    tell: Tell,
    netlink: Netlink,
    neighbor_watch: Watch,
    route_watch: RouteWatch,
    /// The routes in the tables in force.
    learned: Vec<Learned>,
    /// How often in a row they have changed while they were read.
    torn: u32,
    /// On the interfaces that have them.
    vips: HashSet<Addr>,
    fixed: HashMap<Hop, Mac>,
    managed: HashSet<Hop>,
    can_manage: bool,
    /// Next hops that the kernel has neither found nor given up yet.
    open: HashSet<Hop>,
    known: HashMap<Hop, Mac>,
    resolved: Arc<AtomicBool>,
}

impl Mirror {
    /// Begins to watch, and to follow the tables. `resolved` is set once the kernel's routes are in force and it has found the
    /// next hops, or given them up.
    ///
    /// # Errors
    /// Netlink that does not work.
    pub fn new(
        ports: Arc<[KernelPort]>,
        learner: Learner,
        tell: Tell,
        resolved: Arc<AtomicBool>,
    ) -> Result<Self, KernelError> {
        // First the watches, so that nothing is missed.
        let neighbor_watch = Watch::neighbors().map_err(KernelError::Netlink)?;
        let route_watch = RouteWatch::new().map_err(KernelError::Netlink)?;
        let mut published = learner.tables.subscribe();
        let tables = Arc::clone(&published.borrow_and_update());
        // The interfaces were made with them.
        let vips = vips(&tables).into_iter().collect();
        let mut mirror = Self {
            ports,
            learner,
            published,
            tables,
            tell,
            netlink: Netlink::new().map_err(KernelError::Netlink)?,
            neighbor_watch,
            route_watch,
            learned: Vec::new(),
            torn: 0,
            vips,
            fixed: HashMap::new(),
            managed: HashSet::new(),
            can_manage: true,
            open: HashSet::new(),
            known: HashMap::new(),
            resolved,
        };
        mirror.follow();
        Ok(mirror)
    }

    /// Starts the thread; it ends when `stop` is set.
    pub fn start(mut self, stop: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("pollux-netlink".into()).spawn(move || self.run(&stop))
    }

    fn run(&mut self, stop: &AtomicBool) {
        let deadline = Instant::now() + PATIENCE;
        // Everything at the start, now and then, and where the kernel had to leave something out.
        let (mut routes_due, mut neighbors_due) = (true, true);
        let mut again = Instant::now() + AGAIN;
        let mut rested = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= again {
                again = now + AGAIN;
                (routes_due, neighbors_due) = (true, true);
            }
            routes_due |= self.route_watch.changed();
            if routes_due && now >= rested {
                routes_due = !self.read_routes();
                rested = Instant::now() + now.elapsed() * (REST - 1);
            }
            if self.published.has_changed().unwrap_or(false) {
                self.tables = Arc::clone(&self.published.borrow_and_update());
                self.follow();
            }
            neighbors_due = !self.read_neighbors(neighbors_due);
            if !routes_due && self.open.is_empty() || now >= deadline {
                self.resolved.store(true, Ordering::Release);
            }
            thread::sleep(LOOK);
        }
    }

    /// Reads the kernel's routes, and publishes them where they are others. Whether that is done.
    fn read_routes(&mut self) -> bool {
        let Self { ports, netlink, .. } = self;
        let (learned, whole) = match netlink.routes(|index| port_of(ports, index)) {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!("routes over netlink: {error}");
                return false;
            }
        };
        self.torn = if whole { 0 } else { self.torn + 1 };
        // One that never comes to rest is taken as it is, or nothing new would ever take effect.
        if self.torn != 0 && self.torn < TORN {
            return false;
        }
        if learned == self.learned {
            return whole;
        }
        if let Err(stuck) = self.learner.learn(learned.clone()) {
            tracing::warn!("{stuck}: the kernel's new routes have to wait");
            return false;
        }
        tracing::debug!("{} route(s) of the kernel's are in force", learned.len());
        self.learned = learned;
        whole
    }

    /// Reads all neighbours, or the events since; whether nothing was left out.
    fn read_neighbors(&mut self, all: bool) -> bool {
        let events = if all { self.netlink.neighbors() } else { self.neighbor_watch.events() };
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!("neighbours over netlink: {error}");
                return false;
            }
        };
        for event in &events {
            self.take(event);
        }
        if all {
            // An interface that goes down and comes up has lost them.
            let hop = |event: &NeighborEvent| {
                port_of(&self.ports, event.index).map(|port| Hop { port, addr: event.addr })
            };
            let there: HashSet<_> = events.iter().filter_map(hop).collect();
            self.managed.retain(|hop| there.contains(hop));
            self.fixed.retain(|hop, _| there.contains(hop));
            self.follow();
        }
        true
    }

    fn take(&mut self, event: &NeighborEvent) {
        let Some(port) = port_of(&self.ports, event.index) else { return };
        let hop = Hop { port, addr: event.addr };
        if event.failed {
            self.open.remove(&hop);
            self.known.remove(&hop);
        }
        let Some(mac) = event.mac else { return };
        self.open.remove(&hop);
        let new = self.known.insert(hop, mac) != Some(mac);
        if (new || event.confirmed) && !self.tables.is_local(event.addr) {
            self.tell.all(NeighborUpdate { port, addr: event.addr, mac, create: true });
        }
    }

    /// Lets the kernel have what the tables say: VIPs, neighbours that are configured, next hops. What it refuses is tried
    /// again now and then.
    fn follow(&mut self) {
        self.follow_vips();
        let tables = Arc::clone(&self.tables);
        let fixed: HashMap<_, _> =
            tables.neighbors.iter().map(|&(port, addr, mac)| (Hop { port, addr }, mac)).collect();
        let wanted: HashSet<_> =
            next_hops(&tables).into_iter().filter(|hop| !fixed.contains_key(hop)).collect();
        let stale = self.managed.iter().chain(self.fixed.keys());
        let stale: Vec<_> =
            stale.filter(|hop| !wanted.contains(hop) && !fixed.contains_key(hop)).copied().collect();
        for hop in stale {
            self.managed.remove(&hop);
            self.fixed.remove(&hop);
            self.open.remove(&hop);
            if let Some(index) = self.index(hop.port)
                && let Err(error) = self.netlink.delete_neighbor(index, hop.addr)
            {
                tracing::debug!("neighbour {} stays the kernel's: {error}", hop.addr);
            }
        }
        for (hop, mac) in fixed {
            let Some(index) = self.index(hop.port).filter(|_| self.fixed.get(&hop) != Some(&mac)) else {
                continue;
            };
            self.managed.remove(&hop);
            match self.netlink.set_neighbor(index, hop.addr, mac) {
                Ok(()) => _ = self.fixed.insert(hop, mac),
                Err(error) => tracing::warn!("the kernel does not take neighbour {}: {error}", hop.addr),
            }
        }
        for hop in wanted {
            let Some(index) =
                self.index(hop.port).filter(|_| self.can_manage && !self.managed.contains(&hop))
            else {
                continue;
            };
            // One that was configured before would be taken for right for ever.
            if self.fixed.remove(&hop).is_some() {
                let _ = self.netlink.delete_neighbor(index, hop.addr);
            }
            match self.netlink.manage_neighbor(index, hop.addr) {
                Ok(()) => {
                    self.managed.insert(hop);
                    if !self.known.contains_key(&hop) {
                        self.open.insert(hop);
                    }
                }
                Err(error) if error.raw_os_error() == Some(EINVAL) => {
                    tracing::warn!(
                        "the kernel does not keep neighbours current for us (Linux 5.16 does): {}: {error}",
                        hop.addr
                    );
                    self.can_manage = false;
                }
                Err(error) => {
                    tracing::warn!("the kernel does not keep neighbour {} current: {error}", hop.addr);
                }
            }
        }
    }

    /// VIPs come and go with the endpoints of their services, and routing daemons announce or withdraw them.
    fn follow_vips(&mut self) {
        let wanted: HashSet<_> = vips(&self.tables).into_iter().collect();
        let changes: Vec<_> = wanted.symmetric_difference(&self.vips).copied().collect();
        for vip in changes {
            let add = wanted.contains(&vip);
            let prefix = Prefix { addr: vip, len: if vip.is_v4() { 32 } else { 128 } };
            let mut failed = None;
            for KernelPort { port, tap, .. } in self.ports.iter().filter(|at| at.has_vips) {
                if self.tables.ports[port.index()].owns(vip) {
                    continue;
                }
                let done = if add {
                    self.netlink.add_address(tap.index(), prefix, true)
                } else {
                    self.netlink.delete_address(tap.index(), prefix)
                };
                if let Err(error) = done {
                    failed = Some((tap.name(), error));
                }
            }
            match failed {
                Some((interface, error)) if add => {
                    tracing::warn!("VIP {vip} is not on {interface}: {error}");
                }
                _ => {
                    let how = if add { "has an endpoint: it is" } else { "has no endpoint: it is not" };
                    tracing::info!("VIP {vip} {how} on the kernel's interfaces");
                    if add {
                        self.vips.insert(vip);
                    } else {
                        self.vips.remove(&vip);
                    }
                }
            }
        }
    }

    /// The interface of a port's.
    fn index(&self, port: PortId) -> Option<u32> {
        self.ports.iter().find(|at| at.port == port).map(|at| at.tap.index())
    }
}

impl Tell {
    fn all(&mut self, update: NeighborUpdate) {
        for ring in &mut self.to {
            let deadline = Instant::now() + FULL;
            while ring.push(update).is_err() {
                // A worker that has ended takes nothing any more.
                if ring.is_abandoned() || Instant::now() >= deadline {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Whose an interface is.
fn port_of(ports: &[KernelPort], index: u32) -> Option<PortId> {
    ports.iter().find(|at| at.tap.index() == index).map(|at| at.port)
}

/// Where packets to endpoints and over gateways go first, each once.
fn next_hops(tables: &Tables) -> HashSet<Hop> {
    let endpoints = tables.services.iter().flat_map(|service| &service.endpoints);
    endpoints
        .flat_map(|endpoint| endpoint.addresses())
        .filter_map(|address| tables.routes.lookup(address))
        .chain(tables.routes.gateways())
        .filter(|hop| !tables.is_local(hop.addr))
        .collect()
}
