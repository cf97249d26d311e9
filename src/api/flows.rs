//! `flows`: connections, page by page, out of the workers' tables.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as With};
use serde::Deserialize;

use super::model::{Flow, FlowList};
use super::views::protocol;
use super::{Answer, Api, Refused};
use crate::addr::Addr;
use crate::counters::FlowState;
use crate::engine::{Listed, Wanted};
use crate::ids::{EndpointId, ServiceId};

/// Connections of an answer, where nobody says how many.
const USUAL: usize = 100;
/// Most connections of an answer.
const MOST: usize = 10_000;

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    service: Option<String>,
    client: Option<String>,
    endpoint: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn flows(
    With(api): With<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer<FlowList> {
    let Query(asked) = asked.map_err(|error| Refused::bad(error.body_text()))?;
    let limit = asked.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Refused::bad(format!("limit is {limit}; it takes 1 to {MOST}")));
    }
    let tables = api.engine.tables();
    let names = &tables.names.services;
    let service = match &asked.service {
        None => None,
        Some(name) => {
            let found = names.iter().find(|service| service.name == *name).map(|service| service.id);
            Some(found.ok_or_else(|| {
                let all: Vec<_> = names.iter().map(|service| service.name.as_str()).collect();
                let says = format!("there is no service {name:?}; there are {}", all.join(", "));
                Refused(axum::http::StatusCode::NOT_FOUND, says)
            })?)
        }
    };
    let wanted = Wanted {
        service,
        client: asked.client.as_deref().map(client).transpose()?,
        endpoint: asked.endpoint.as_deref().map(endpoint).transpose()?,
    };
    let listing = api.engine.listing();
    let (mut worker, mut from) = asked.cursor.as_deref().map_or(Ok((0, 0)), cursor)?;
    let mut found: Vec<(usize, Listed)> = Vec::new();
    while worker < listing.workers() && found.len() < limit {
        let page = listing.page(worker, wanted, from, limit - found.len()).await;
        let (listed, next) = page.map_err(|late| Refused::unavailable(&late.to_string()))?;
        found.extend(listed.into_iter().map(|listed| (worker, listed)));
        (worker, from) = match next {
            Some(next) => (worker, next),
            None => (worker + 1, 0),
        };
    }
    let next = (worker < listing.workers()).then(|| format!("{worker}.{from}"));
    let pairs: Vec<(EndpointId, Addr)> =
        found.iter().map(|(_, (flow, _))| (flow.endpoint_id, flow.client)).collect();
    let counted = api.ticker.pairs(&pairs);
    let name = |id: ServiceId| names.iter().find(|service| service.id == id).map(|s| s.name.clone());
    let rows = found.into_iter().zip(counted).map(|((worker, (flow, age)), pair)| Flow {
        service: name(flow.service),
        protocol: protocol(flow.protocol),
        client: SocketAddr::new(flow.client.into(), flow.client_port).to_string(),
        vip: SocketAddr::new(flow.vip.into(), flow.vip_port).to_string(),
        endpoint: SocketAddr::new(flow.endpoint.into(), flow.endpoint_port).to_string(),
        state: FlowState::label(age.state).to_owned(),
        idle_seconds: f64::from(age.idle_ms) / 1e3,
        age_seconds: age.age_ms as f64 / 1e3,
        expires_seconds: f64::from(age.left_ms) / 1e3,
        worker,
        packets: age.packets,
        bytes: age.bytes,
        pair_packets: pair.map(|pair| pair.packets),
        pair_bytes: pair.map(|pair| pair.bytes),
    });
    Ok(Json(FlowList { flows: rows.collect(), next }))
}

fn client(text: &str) -> Result<Addr, Refused> {
    let address: Result<IpAddr, _> = text.parse();
    address.map(Addr::from).map_err(|_| Refused::bad(format!("client is {text:?}, which is no IP address")))
}

/// With or without a port.
fn endpoint(text: &str) -> Result<(Addr, Option<u16>), Refused> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((ip.into(), None));
    }
    match text.parse::<SocketAddr>() {
        Ok(socket) => Ok((socket.ip().into(), Some(socket.port()))),
        Err(_) => {
            Err(Refused::bad(format!("endpoint is {text:?}, which is no IP address, with or without a port")))
        }
    }
}

fn cursor(text: &str) -> Result<(usize, usize), Refused> {
    let parts =
        text.split_once('.').and_then(|(worker, from)| Some((worker.parse().ok()?, from.parse().ok()?)));
    parts.ok_or_else(|| Refused::bad(format!("cursor is {text:?}; it takes what `next` said")))
}
