//! The state of a running engine as JSON: one API, on the admin socket and, since it only reads, on the HTTP listener.
//!
//! Figures come from the aggregator's newest snapshot, the one that `/metrics` shows; names and settings from the configuration
//! and tables in force. Connections alone are asked from the workers. `openapi.json` describes it all, and is served.

mod flows;
mod model;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State as With;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

pub use self::model::*;
use self::views::State;
use crate::engine::Engine;
use crate::metrics::{Exposition, Publication, Ticker};

/// Where it all is.
pub const PREFIX: &str = "/api/v1/pollux";
/// The description.
pub const OPENAPI_PATH: &str = "/api/openapi.json";
/// The description itself, `OpenAPI` 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What handlers need.
#[derive(Clone)]
pub struct Api {
    engine: Arc<Engine>,
    publication: Arc<Publication>,
    ticker: Arc<Ticker>,
}

impl Api {
    /// Of an engine, by what its aggregator publishes.
    #[must_use]
    pub fn new(engine: Arc<Engine>, publication: Arc<Publication>, ticker: Arc<Ticker>) -> Self {
        Self { engine, publication, ticker }
    }

    /// Shows the state as of the newest snapshot.
    fn show<T>(&self, view: impl FnOnce(State<'_>) -> T) -> Result<Json<T>, Refused> {
        let newest = self.publication.last().ok_or(Refused::unavailable("no snapshot yet"))?;
        let (tables, config) = (self.engine.tables(), self.engine.config());
        let state = State {
            figures: &newest.figures,
            tables: &tables,
            config: &config,
            conditions: &self.engine.conditions(),
            of: self.of(&newest),
        };
        Ok(Json(view(state)))
    }

    fn of(&self, newest: &Exposition) -> Snapshot {
        let stale = self.publication.newest(self.engine.clock().now()).err();
        Snapshot {
            snapshot: views::seconds(newest.figures.unix),
            stale: stale.map(|stale| stale.to_string()),
        }
    }
}

/// All paths.
pub fn router(api: Api) -> Router {
    let path = |name: &str| format!("{PREFIX}/{name}");
    Router::new()
        .route(&path("status"), get(status))
        .route(&path("services"), get(services))
        .route(&path("endpoints"), get(endpoints))
        .route(&path("firewall"), get(firewall))
        .route(&path("ports"), get(ports))
        .route(&path("workers"), get(workers))
        .route(&path("flows"), get(flows::flows))
        .route(OPENAPI_PATH, get(openapi))
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
}

/// 405 on a path that takes other methods: `Allow` says which.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let error = format!("{} does not take {method}; see {OPENAPI_PATH}", uri.path());
    Refused(StatusCode::METHOD_NOT_ALLOWED, error).into_response()
}

/// 404.
pub(crate) async fn not_found(method: Method, uri: Uri) -> Response {
    let error = format!("nothing at {method} {}; {OPENAPI_PATH} says what is where", uri.path());
    Refused(StatusCode::NOT_FOUND, error).into_response()
}

type Answer<T> = Result<Json<T>, Refused>;

async fn status(With(api): With<Api>) -> Answer<Status> {
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = since_epoch(api.engine.started_at());
    let ready = api.publication.is_ready();
    let ports = api.engine.ports();
    api.show(|state| state.status(&ports, ready, started, since_epoch(SystemTime::now())))
}

async fn services(With(api): With<Api>) -> Answer<ServiceList> {
    api.show(|state| ServiceList { services: state.services(), of: state.of })
}

async fn endpoints(With(api): With<Api>) -> Answer<EndpointList> {
    let probes = api.engine.health();
    api.show(|state| EndpointList { endpoints: state.endpoints(probes), of: state.of })
}

async fn firewall(With(api): With<Api>) -> Answer<Firewall> {
    api.show(|state| state.firewall())
}

async fn ports(With(api): With<Api>) -> Answer<PortList> {
    let ports = api.engine.ports();
    api.show(|state| PortList { ports: state.ports(&ports), of: state.of })
}

async fn workers(With(api): With<Api>) -> Answer<WorkerList> {
    let now = api.engine.clock().now();
    let silence: Vec<Duration> =
        api.engine.counters().iter().map(|worker| now.since(worker.heartbeat())).collect();
    let (cpus, capacity) = (api.engine.worker_cpus(), api.engine.flow_capacity());
    api.show(|state| WorkerList { workers: state.workers(cpus, capacity, &silence), of: state.of })
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], OPENAPI).into_response()
}

/// Why there is no answer.
pub(crate) struct Refused(pub StatusCode, pub String);

impl Refused {
    fn unavailable(line: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, line.to_owned())
    }

    fn bad(line: String) -> Self {
        Self(StatusCode::BAD_REQUEST, line)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        (status, Json(Refusal { error })).into_response()
    }
}
