//! What workers must know of each other to choose an endpoint.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use pollux::config::Algorithm;
use pollux::counters::Term;
use pollux::dpdk::{Eal, Mempool};
use pollux::ids::EndpointId;

use crate::ledger::Ledger;
use crate::network::{CLIENTS, config, request};
use crate::wire::start_as;

/// By round-robin connections of one client would go to all endpoints.
pub fn clients_keep_their_endpoint(eal: &Eal, pool: &Mempool, workers: usize) {
    let mut config = config(workers);
    let service = Arc::make_mut(&mut config.services[0]);
    (service.algorithm, service.persistence) = (Algorithm::RoundRobin, Duration::from_secs(60));
    let (engine, mut wire) = start_as(eal, pool, &config, 2048);
    for client in 0..CLIENTS {
        wire.send_wan(&request(client, 1));
        wire.exchange_until(usize::from(client) + 1);
    }
    wire.settle(&engine);
    let mut kept: BTreeMap<Ipv4Addr, Ipv4Addr> = BTreeMap::new();
    for ((client, port), endpoint) in &wire.endpoints {
        assert_eq!(kept.entry(*client).or_insert(*endpoint), endpoint, "{client}:{port}");
    }
    let connections = wire.endpoints.len();
    assert!(connections == usize::from(CLIENTS) && kept.len() < connections, "some clients connect twice");
    let ledger = Ledger::of(&engine);
    assert_eq!(ledger.dropped, 0);
    assert_eq!(ledger.term(Term::HandedOut), ledger.term(Term::HandedIn));
    engine.stop();
}

pub fn connections_are_counted_over_all_workers(eal: &Eal, pool: &Mempool, workers: usize) {
    let mut config = config(workers);
    Arc::make_mut(&mut config.services[0]).algorithm = Algorithm::LeastConnections;
    let (engine, mut wire) = start_as(eal, pool, &config, 2048);
    for client in 0..CLIENTS {
        wire.send_wan(&request(client, 1));
        wire.exchange_until(usize::from(client) + 1);
    }
    wire.settle(&engine);
    let mut counts: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    for endpoint in wire.endpoints.values() {
        *counts.entry(*endpoint).or_default() += 1;
    }
    let (most, least) = (counts.values().max().unwrap(), counts.values().min().unwrap());
    assert!(counts.len() == 3 && most - least <= 2 * workers, "{counts:?}");
    let active =
        |endpoint: u32| engine.counters().iter().map(|c| c.active(EndpointId(endpoint))).sum::<u32>();
    assert_eq!((0..3).map(active).sum::<u32>(), u32::from(CLIENTS));
    engine.stop();
}
