//! What the ports have of the kernel: guards on interfaces that it shares with us, TAPs, and the threads that serve them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer, RingBuffer};

use super::exchange::{self, AtPort, Exchange, KernelPort};
use super::learn::Learner;
use super::mirror::{Mirror, Tell};
use super::{Engine, EngineError, device, handoff};
use crate::addr::Addr;
use crate::config::{Config, Role};
use crate::dpdk::Mempool;
use crate::ids::PortId;
use crate::kernel::{Guard, KernelError, Netlink, Tap, TapSettings};
use crate::pipeline::NeighborUpdate;
use crate::tables::Tables;

/// Guards for the interfaces that the ports work on through packet sockets; those of a process that is gone are removed.
/// Without a TAP a port can do without: the kernel has no address there if its administrator took care.
pub(super) fn guards(config: &Config) -> Result<Vec<Guard>, EngineError> {
    let interfaces: Vec<_> = config
        .ports
        .iter()
        .filter_map(|port| device::kernel_interface(&port.device).map(|interface| (port, interface)))
        .collect();
    if interfaces.is_empty() {
        return Ok(Vec::new());
    }
    let ours: Vec<_> = interfaces.iter().map(|(_, interface)| *interface).collect();
    Guard::remove_stale(&ours);
    let mut guards = Vec::new();
    for (port, interface) in interfaces {
        match Guard::new(interface) {
            Ok(guard) => guards.push(guard),
            Err(error) if port.kernel.is_some() => {
                return Err(EngineError::Kernel { port: port.name.clone(), error });
            }
            Err(error) => tracing::warn!("port {}: {error}; give it no address in the kernel", port.name),
        }
    }
    Ok(guards)
}

/// The ports' TAPs; none where no port has one.
pub(super) fn open(config: &Config, tables: &Tables) -> Result<Option<Arc<[KernelPort]>>, EngineError> {
    let wanted: Vec<_> = config
        .ports
        .iter()
        .enumerate()
        .filter_map(|(index, port)| port.kernel.as_ref().map(|name| (PortId::at(index), port, name)))
        .collect();
    let Some((_, first, _)) = wanted.first() else { return Ok(None) };
    let mut netlink = Netlink::new().map_err(|error| EngineError::Kernel {
        port: first.name.clone(),
        error: KernelError::Netlink(error),
    })?;
    let vips = vips(tables);
    // VIPs belong where clients are; routing daemons find them there.
    let some_for_clients = wanted.iter().any(|(_, port, _)| port.role != Role::Server);
    let mut ports = Vec::new();
    for (id, port, name) in wanted {
        let has_vips = port.role != Role::Server || !some_for_clients;
        let settings = TapSettings {
            name,
            mac: tables.ports[id.index()].mac,
            mtu: port.mtu,
            addresses: &port.addresses,
            vips: if has_vips { &vips } else { &[] },
        };
        let tap = Tap::create(&mut netlink, &settings)
            .map_err(|error| EngineError::Kernel { port: port.name.clone(), error })?;
        ports.push(KernelPort { port: id, tap, vlan: port.vlan, mtu: port.mtu, has_vips });
    }
    Ok(Some(ports.into()))
}

/// VIPs with a service that has an endpoint for new connections.
pub(super) fn vips(tables: &Tables) -> Vec<Addr> {
    let mut vips = Vec::new();
    for service in tables.services.iter() {
        let serves = service.endpoints.iter().any(|endpoint| endpoint.takes_new());
        for vip in service.vips().filter(|_| serves) {
            if !vips.contains(&vip) {
                vips.push(vip);
            }
        }
    }
    vips
}

/// One worker's ends.
#[derive(Default)]
pub(super) struct Ends {
    pub punted: Option<Producer<AtPort>>,
    pub injected: Option<Consumer<AtPort>>,
    pub neighbors: Option<Consumer<NeighborUpdate>>,
}

/// What the threads will need.
pub(super) struct Service {
    exchange: Exchange,
    mirror: Mirror,
}

/// The rings between so many workers of an engine and the kernel's interfaces, and what serves them.
pub(super) fn connect(
    engine: &Engine,
    ports: &Arc<[KernelPort]>,
    workers: usize,
    pool: &Mempool,
) -> Result<(Vec<Ends>, Service), EngineError> {
    let mut ends: Vec<Ends> = (0..workers).map(|_| Ends::default()).collect();
    let (mut from, mut to_workers) = (Vec::new(), Vec::new());
    for end in &mut ends {
        let (punted, consumer) = RingBuffer::new(exchange::PUNTED);
        let (producer, neighbors) = RingBuffer::new(handoff::UPDATES);
        from.push(consumer);
        to_workers.push(producer);
        (end.punted, end.neighbors) = (Some(punted), Some(neighbors));
    }
    let (to, injected) = RingBuffer::new(exchange::INJECTED);
    // One of them is enough: it reaches every port.
    if let Some(first) = ends.first_mut() {
        first.injected = Some(injected);
    }
    let (refused, gone) = (Arc::clone(&engine.kernel_refused), Arc::clone(&engine.kernel_gone));
    let (ports_of_exchange, pool) = (Arc::clone(ports), pool.clone());
    let exchange = Exchange {
        ports: ports_of_exchange,
        from,
        to,
        pool,
        nat: engine.health.nat(),
        spare: None,
        refused,
        gone,
    };
    let tell = Tell { to: to_workers, lost: Arc::clone(&engine.lost_updates) };
    let learner = Learner {
        tables: engine.tables.clone(),
        publisher: Arc::clone(&engine.publisher),
        compiler: Arc::clone(&engine.compiler),
    };
    let mirror = Mirror::new(Arc::clone(ports), learner, tell, Arc::clone(&engine.resolved))
        .map_err(|error| EngineError::Kernels(error.to_string()))?;
    Ok((ends, Service { exchange, mirror }))
}

impl Service {
    /// Starts the threads; they end when `stop` is set.
    pub fn start(self, stop: &Arc<AtomicBool>) -> Result<[JoinHandle<()>; 2], EngineError> {
        let failed = |error: std::io::Error| EngineError::Kernels(error.to_string());
        let exchange = self.exchange.start(Arc::clone(stop)).map_err(failed)?;
        let mirror = self.mirror.start(Arc::clone(stop)).map_err(failed)?;
        Ok([exchange, mirror])
    }
}

/// Buffers that the rings and the thread can hold.
pub(super) const fn places(workers: usize) -> usize {
    workers * exchange::PUNTED + exchange::INJECTED + 2
}
