//! What an engine shows of itself: the aggregator over its counters, and the HTTP listener.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Engine;
use crate::api::{self, Api};
use crate::config::Config;
use crate::dpdk;
use crate::ids::PortId;
use crate::listener::{self, Gate, Limits, ListenerStats, Security};
use crate::metrics::http::{self, Context};
use crate::metrics::{
    Aggregator, Clock, DeviceStats, HealthStats, KernelStats, PoolStats, PortStats, Publication, Settings,
    Ticker,
};

/// How often readiness is looked at.
const READINESS: Duration = Duration::from_millis(100);

/// Serves an engine's metrics until it is dropped.
pub struct Telemetry {
    ticker: Arc<Ticker>,
    publication: Arc<Publication>,
    api: Api,
    gate: Arc<Gate>,
    _stop: oneshot::Sender<()>,
}

impl Telemetry {
    /// Drives the aggregator: a reload tells it first.
    #[must_use]
    pub fn ticker(&self) -> Arc<Ticker> {
        Arc::clone(&self.ticker)
    }

    /// The state as JSON: for the admin socket, too.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// Where snapshots are, and what `/healthz` and `/readyz` go by.
    #[must_use]
    pub fn publication(&self) -> Arc<Publication> {
        Arc::clone(&self.publication)
    }

    /// What secures the listener: for a reload, too.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// `/readyz` fails from now on; after [`Engine::retire`], or it comes back.
    pub fn retire(&self) {
        self.publication.set_ready(false);
    }
}

/// Starts the aggregator's thread, and serves its snapshots on `listener`, which was bound before the engine started, to those whom `security`
/// lets read.
///
/// # Errors
/// Where no thread can be started.
pub fn serve(
    listener: TcpListener,
    security: Security,
    config: &Config,
    engine: &Arc<Engine>,
    runtime: &Handle,
) -> io::Result<Telemetry> {
    let engine_clock = engine.clock();
    let clock: Clock = Arc::new(move || engine_clock.now());
    let settings = Settings {
        metrics: config.metrics.clone(),
        ports: config.ports.iter().map(|port| port.name.clone()).collect(),
        worker_cpus: engine.worker_cpus().to_vec(),
        conntrack_capacity: engine.flow_capacity().iter().map(|&flows| flows as u64).sum(),
        unix_start: engine.started_at().duration_since(UNIX_EPOCH).unwrap_or_default(),
        dpdk_version: dpdk::version(),
        cycles_per_nano: engine.clock().cycles_per_nano(),
    };
    let tables = engine.tables();
    let gate = Gate::new(Limits::of(&config.metrics), security);
    let aggregator = Aggregator::new(settings, engine.counters(), &tables.names, tables.generation)
        .with_machine()
        .with_devices(Box::new(Devices { engine: Arc::clone(engine), gate: Arc::clone(&gate) }));
    let publication = aggregator.publication();
    let ticker = Arc::new(Ticker::start(aggregator, Arc::clone(&clock), || {})?);
    let api = Api::new(Arc::clone(engine), Arc::clone(&publication), Arc::clone(&ticker));

    let readiness_of = Arc::clone(&publication);
    runtime.spawn(readiness(Arc::clone(engine), Arc::clone(&publication)));
    let (stop, stopped) = oneshot::channel::<()>();
    let frozen = Arc::clone(&ticker);
    let context = Context { publication, clock, pairs: Arc::new(move || frozen.freeze()) };
    let public = http::pages(context.clone());
    let private = http::router(context).merge(api::router(api.clone()));
    let serving = Arc::clone(&gate);
    runtime.spawn(async move {
        let end = async {
            // Dropping the sender is the signal.
            let _ = stopped.await;
        };
        if let Err(error) = listener::serve(listener, serving, (public, private), end).await {
            tracing::error!("the HTTP listener: {error}");
        }
    });
    Ok(Telemetry { ticker, publication: readiness_of, api, gate, _stop: stop })
}

/// Links go down and come up: `/readyz` follows.
async fn readiness(engine: Arc<Engine>, publication: Arc<Publication>) {
    loop {
        publication.set_ready(engine.is_ready());
        // It may have been said between the look and the word.
        if engine.is_retired() {
            publication.set_ready(false);
        }
        tokio::time::sleep(READINESS).await;
    }
}

struct Devices {
    engine: Arc<Engine>,
    gate: Arc<Gate>,
}

impl DeviceStats for Devices {
    fn ports(&mut self) -> Vec<PortStats> {
        let ports = self.engine.ports();
        let stats = ports.iter().enumerate().map(|(index, port)| PortStats {
            port: PortId::at(index),
            link_up: port.link_up,
            rx_missed: port.stats.rx_missed,
            rx_no_mbuf: port.stats.rx_no_mbuf,
            rx_errors: port.stats.rx_errors,
            tx_errors: port.stats.tx_errors,
        });
        stats.collect()
    }

    fn pools(&mut self) -> Vec<PoolStats> {
        let pool = self.engine.mempool();
        let stats = pool.map(|pool| PoolStats {
            name: "pollux".into(),
            size: pool.size.into(),
            in_use: pool.in_use.into(),
        });
        stats.into_iter().collect()
    }

    fn kernel(&mut self) -> KernelStats {
        KernelStats {
            refused: self.engine.kernel_refused(),
            routes: self.engine.tables().routes.learned() as u64,
            lost_updates: self.engine.lost_neighbor_updates(),
        }
    }

    fn listener(&mut self) -> ListenerStats {
        self.gate.stats()
    }

    fn health(&mut self) -> HealthStats {
        HealthStats { endpoints: self.engine.health(), probes: self.engine.board().results() }
    }
}
