//! Multi-homed SCTP between stacks of other people: usrsctp with two addresses as client and as server, `pollux run` with two
//! VIPs between them. One path is cut in the midst of a transfer, and then the other: the association goes on, and is one
//! connection all the time.
//!
//! Needs root, and the programs and libraries that `ci/test` installs.

#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/capture.rs"]
mod capture;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/engine.rs"]
mod engine;
#[path = "../lab/ground.rs"]
mod ground;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
#[allow(dead_code, reason = "of the SCTP lab, of which this needs a part")]
#[path = "../sctp/packet.rs"]
mod packet;
#[allow(dead_code, reason = "of the SCTP lab, of which this needs a part")]
#[path = "../sctp/peer.rs"]
mod peer;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
mod topology;

use engine::{Engine, METRICS};
use packet::Sctp;
use scrape::Scrape;
use topology::{CLIENTS, ENDPOINTS, Lab, VIPS, config};

/// Messages each way in one round.
const MESSAGES: u32 = 500;

/// A scrape when all is counted.
fn settled(lab: &Lab) -> Scrape {
    Scrape::settled(&lab.lb, METRICS)
}

/// The association is one connection of the client's first address with the endpoint's first, and nothing was dropped.
#[track_caller]
fn assert_one(scrape: &Scrape, requests: f64, active: f64) {
    for (family, value) in [
        ("active_flow_count_sctp", active),
        ("active_conntrack_count", active),
        ("total_requests", requests),
        ("total_errors", 0.0),
    ] {
        assert_eq!(scrape.value(family), value, "{family}");
    }
    let dropped = scrape.family("pollux_dropped_packets_total");
    let dropped: Vec<_> = dropped.iter().filter(|(_, n)| *n > 0.0).collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn an_association_outlives_each_of_its_paths() {
    let mut lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.ground.path(), &config());
    let capture = lab.capture();
    let talked = format!("talked got={MESSAGES} wrong=0 badsum=0");
    for (first, requests) in [(0, 1.0), (1, 2.0)] {
        let mut client = lab.connect(first, MESSAGES);
        client.expect("connected");
        client.expect(&talked);
        lab.wait_for_paths(&mut client);
        for cut in [first, 1 - first] {
            client.tell("again");
            lab.cut(cut);
            client.expect(&talked);
            assert_one(&settled(&lab), requests, 1.0);
            lab.mend(cut);
            lab.wait_for_paths(&mut client);
        }
        client.tell("shutdown");
        client.expect("closed");
        client.finish();
        assert_one(&settled(&lab), requests, 0.0);
    }

    let scrape = settled(&lab);
    let packets = Sctp::all(&capture.stop_frames());
    assert!(packets.iter().all(Sctp::crc_is_right));
    // Both of the endpoint's addresses were talked to, from both of the client's.
    for client in CLIENTS {
        let path = |endpoint: &str| {
            let ends = [client, endpoint].map(|a| a.parse::<std::net::IpAddr>().expect("an address"));
            packets.iter().filter(|p| [p.source, p.destination] == ends).count()
        };
        let counts = ENDPOINTS.map(path);
        assert!(counts.iter().sum::<usize>() > 500, "{client}: {counts:?}");
    }
    // All paths count for the endpoint's first address, and for the one that the client's INIT came from.
    let service = format!("{}:2905", VIPS[0]);
    let total = scrape.value("processed_sctp_packets");
    assert_eq!(total, packets.len() as f64, "what the server's wire shows");
    let pairs: f64 = CLIENTS
        .iter()
        .map(|sip| {
            let labels = [("service", &*service), ("sip", sip), ("dip", ENDPOINTS[0])];
            let packets = scrape.get("lb_rule_interaction_packets", &labels);
            assert!(packets > 1000.0, "{sip}: {packets}");
            packets
        })
        .sum();
    assert_eq!(pairs, total);
    engine.finish();
}
