//! QUIC between stacks of other people: aioquic as client and as two servers, whose connection ids name them, with `pollux
//! run` between them. Clients move to other ports and addresses in the midst of their connections, and go on with the server
//! that they had.
//!
//! Needs root, and what `ci/test` and `ci/aioquic` install.

#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/engine.rs"]
mod engine;
#[path = "../lab/ground.rs"]
mod ground;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
#[allow(dead_code, reason = "of the SCTP lab, of which this needs a part")]
#[path = "../sctp/peer.rs"]
mod peer;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
mod topology;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use engine::{Engine, METRICS};
use peer::Peer;
use scrape::Scrape;
use topology::{FOUR, Lab, SIX, Service, config};

/// Connections to each service.
const CONNECTIONS: u16 = 4;

/// Has each client ask its server who it is; the `n`th question of each connection.
#[track_caller]
fn ask(clients: &mut [Peer], n: u32) -> Vec<String> {
    clients.iter_mut().for_each(|client| client.tell("ask"));
    let server = |client: &mut Peer| {
        let answer = client.line().expect("an answer");
        let (name, count) = answer.split_once(' ').unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(count, n.to_string(), "of one and the same connection");
        name.to_owned()
    };
    clients.iter_mut().map(server).collect()
}

/// Opens connections, moves them, and says which servers there were.
fn talk(lab: &Lab, service: &Service) -> BTreeSet<String> {
    let ports = 4000..4000 + CONNECTIONS;
    let mut clients: Vec<Peer> = ports.clone().map(|port| lab.connect(service, port)).collect();
    clients.iter_mut().for_each(|client| client.expect("connected"));
    let servers = ask(&mut clients, 1);
    let [home, away] = service.clients;
    let moves =
        [("rebind", home, 1000), ("rebind", away, 0), ("migrate", home, 2000), ("migrate", away, 3000)];
    for (n, (how, address, more)) in (2..).zip(moves) {
        for (client, port) in clients.iter_mut().zip(ports.clone()) {
            client.tell(&format!("{how} {address} {}", port + more));
            client.expect(if how == "rebind" { "rebound" } else { "migrated" });
        }
        assert_eq!(ask(&mut clients, n), servers, "{how} to {address}, ports {more} further");
    }
    clients.into_iter().for_each(Peer::finish);
    servers.into_iter().collect()
}

#[test]
fn connections_go_on_with_their_server_wherever_the_client_goes() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    for service in [FOUR, SIX] {
        assert_eq!(talk(&lab, &service).len(), 2, "both servers had connections of {service:?}");
    }

    let deadline = Instant::now() + Duration::from_secs(20);
    // Each tuple that a client had is an entry of its own.
    let tuples = f64::from(CONNECTIONS) * 5.0;
    loop {
        let scrape = Scrape::fetch(&lab.lb, METRICS);
        assert_eq!(scrape.violations(), "");
        let requests =
            [FOUR, SIX].map(|s| scrape.get("total_requests_per_service", &[("service", &*s.label())]));
        if requests == [tuples; 2] {
            assert_eq!(scrape.value("total_errors"), 0.0);
            // Kernels speak of their groups and routers to all.
            let mut drops = scrape.drops();
            drops.retain(|(reason, _)| *reason != "multicast");
            assert_eq!(drops, []);
            break;
        }
        assert!(Instant::now() < deadline, "{requests:?} entries");
        std::thread::sleep(Duration::from_millis(200));
    }
    engine.finish();
}
