//! Services on their way from the configuration to their compiled form: first the slots, one service after the other; then what
//! takes time, the tables of hashes, on as many CPUs as there are.

use std::borrow::Cow;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use super::server_ids::ServerIds;
use super::{Choice, Cursor, Delivery, Endpoint, Service, least, maglev, round_robin};
use crate::config::{self, Algorithm, EndpointState, Loss};
use crate::ids::ServiceId;
use crate::tables::Slots;

/// Fewer services than these are not worth a thread.
const A_THREAD: usize = 16;

/// A service that has its slots.
#[derive(Debug)]
pub(crate) struct Draft<'c> {
    config: Cow<'c, config::Service>,
    id: ServiceId,
    endpoints: Box<[Endpoint]>,
    delivery: Delivery,
    cursor: Arc<Cursor>,
}

impl<'c> Draft<'c> {
    pub fn new(config: Cow<'c, config::Service>, slots: &mut Slots) -> Self {
        let id = slots.service(&config);
        let endpoints = config.endpoints.iter().map(|endpoint| Endpoint {
            id: slots.endpoint(id, endpoint),
            addr: endpoint.address,
            secondary: endpoint.secondary_addresses.as_slice().into(),
            port: endpoint.port,
            weight: endpoint.weight,
            state: endpoint.state,
        });
        let endpoints = endpoints.collect();
        Self {
            id,
            endpoints,
            delivery: Delivery::compile(config.mode, slots),
            cursor: slots.cursor(id),
            config,
        }
    }

    pub fn compile(self, workers: usize) -> Service {
        let Self { config, id, endpoints, delivery, cursor } = self;
        let table = |size, by| maglev::Table::new(size, by, config.vip, config.protocol, &endpoints);
        let choice = match config.algorithm {
            Algorithm::Maglev { size } => Choice::Table(table(size, maglev::By::Connection)),
            Algorithm::SourceHash { size } => Choice::Table(table(size, maglev::By::Address)),
            Algorithm::LeastConnections => Choice::LeastConnections(least::Views::new(&endpoints, workers)),
            Algorithm::RoundRobin => Choice::RoundRobin(round_robin::Sequence::new(&endpoints, cursor)),
        };
        let mut by_id: Box<[u16]> = (0..=u16::MAX).zip(&endpoints).map(|(n, _)| n).collect();
        by_id.sort_unstable_by_key(|n| endpoints[usize::from(*n)].id);
        let down = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Down);
        let lost = down.filter(|_| config.on_endpoint_down == Loss::Reset).map(|endpoint| endpoint.id);
        Service {
            id,
            vip: config.vip,
            secondary_vips: config.secondary_vips.as_slice().into(),
            ports: (config.first_port, config.last_port),
            protocol: config.protocol,
            delivery,
            idle_timeout_ms: u32::try_from(config.idle_timeout.as_millis()).unwrap_or(u32::MAX),
            persistence_ms: u32::try_from(config.persistence.as_millis()).unwrap_or(u32::MAX),
            on_no_endpoint: config.on_no_endpoint,
            lost: lost.collect(),
            server_ids: ServerIds::compile(&config),
            endpoints,
            by_id,
            choice,
        }
    }

    /// All of them, in their order.
    pub fn compile_all(drafts: Vec<Self>, workers: usize) -> Vec<Service> {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = cpus.min(drafts.len() / A_THREAD);
        if threads < 2 {
            return drafts.into_iter().map(|draft| draft.compile(workers)).collect();
        }
        let mut drafts = drafts.into_iter();
        let each = drafts.len().div_ceil(threads);
        thread::scope(|scope| {
            let mut parts = Vec::with_capacity(threads);
            for _ in 0..threads {
                let part: Vec<_> = drafts.by_ref().take(each).collect();
                let make = move || part.into_iter().map(|draft| draft.compile(workers)).collect::<Vec<_>>();
                parts.push(scope.spawn(make));
            }
            let made = parts.into_iter().map(ScopedJoinHandle::join);
            made.flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }
}
