//! SCTP between stacks of other people: usrsctp as client and as servers, over raw IP, each in a network namespace of its
//! own with `pollux run` between them. What the metrics say is compared with captures of both wires, in which every CRC32c
//! is computed anew.
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
mod packet;
mod peer;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
mod topology;

use engine::{Engine, METRICS};
use packet::Sctp;
use scrape::Scrape;
use topology::{CLOSED, Lab, MOVED, SAME, SIX, Service, config};

/// Messages each way over one association.
const MESSAGES: u32 = 1000;

/// A scrape when all is counted.
fn settled(lab: &Lab) -> Scrape {
    Scrape::settled(&lab.lb, METRICS)
}

/// How the client ends an association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Shutdown,
    Abort,
}

/// One association from its set-up to its end, both sides checked. Scrapes while it lives: it is one active SCTP flow
/// and one request, and no error before its end.
fn talk(lab: &Lab, service: &Service, end: End, before: f64, errors: f64) {
    let mut client = lab.client(service, MESSAGES);
    client.expect("connected");
    client.expect(&format!("talked got={MESSAGES} wrong=0 badsum=0"));
    let alive = settled(lab);
    for (family, value) in [
        ("active_flow_count_sctp", 1.0),
        ("active_conntrack_count", 1.0),
        ("active_flow_count_tcp", 0.0),
        ("active_flow_count_udp", 0.0),
        ("total_requests", before + 1.0),
        ("total_errors", errors),
    ] {
        assert_eq!(alive.value(family), value, "{family} while {} lives", service.name);
    }
    client.tell(if end == End::Abort { "abort" } else { "shutdown" });
    client.expect("closed");
    client.finish();
}

#[test]
fn associations_are_carried_and_counted_once() {
    let lab = Lab::new();
    let captures = lab.capture();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());

    let ends = [
        (&SAME, End::Shutdown),
        (&MOVED, End::Shutdown),
        (&SIX, End::Shutdown),
        (&SAME, End::Abort),
        (&MOVED, End::Abort),
    ];
    let mut errors = 0.0;
    for (before, (service, end)) in ends.into_iter().enumerate() {
        talk(&lab, service, end, before as f64, errors);
        errors += f64::from(u8::from(end == End::Abort));
    }
    // Nobody listens at the endpoint's port: its ABORT answers INIT.
    let mut refused = lab.client(&CLOSED, 1);
    refused.expect("refused Connection refused");
    refused.finish();

    let scrape = settled(&lab);
    let ended = lab.servers_said();
    let (wan, lan) = captures;
    let (wan, lan) = (wan.stop_frames(), lan.stop_frames());
    let errors = [(Sctp::errors(&lan), true), (Sctp::errors(&wan), false)];
    let (wan, lan) = (Sctp::all(&wan), Sctp::all(&lan));

    // The servers' own ledger.
    let count = |how: &str| {
        let line = format!("ended got={MESSAGES} wrong=0 how={how}");
        ended.iter().filter(|said| **said == line).count()
    };
    assert_eq!((count("shutdown"), count("abort")), (3, 2), "{ended:#?}");
    assert_eq!(ended.iter().filter(|line| line.starts_with("ended")).count(), 5, "{ended:#?}");
    assert!(ended.iter().filter(|line| *line == "stats badsum=0").count() == 2, "{ended:#?}");

    // The wires' ledger: every packet's CRC32c is right, and what came in went out.
    assert!(wan.len() > 5 * 2 * MESSAGES as usize / 2, "only {} packets", wan.len());
    for packet in wan.iter().chain(&lan) {
        assert!(packet.crc_is_right(), "{packet:?}");
    }
    let (sent, returned): (Vec<_>, Vec<_>) = wan.iter().partition(|p| topology::is_client(p.source));
    let (forwarded, answered): (Vec<_>, Vec<_>) = lan.iter().partition(|p| topology::is_client(p.source));
    assert_eq!((sent.len(), answered.len()), (forwarded.len(), returned.len()), "lost on the way");
    // In order, and untouched but for the ports: where those stay, the CRC stays too.
    for (a, b) in sent.iter().zip(&forwarded).chain(answered.iter().zip(&returned)) {
        assert_eq!(a.behind_the_header(), b.behind_the_header());
        let ports_stay = a.ports() == b.ports();
        assert_eq!(a.crc() == b.crc(), ports_stay, "{a:?} became {b:?}");
    }
    assert!(sent.iter().zip(&forwarded).any(|(a, b)| a.ports() != b.ports()), "no port was rewritten");
    assert!(sent.iter().zip(&forwarded).any(|(a, b)| a.ports() == b.ports()), "no port was kept");

    // The metrics' ledger.
    let of_sctp: Vec<_> = forwarded.iter().chain(&returned).copied().collect();
    let errors = errors.iter().flat_map(|(errors, from_client)| {
        errors.iter().filter(|error| topology::is_client(error.source) == *from_client)
    });
    let out: Vec<_> = of_sctp.iter().copied().chain(errors).collect();
    let bytes = |packets: &[&Sctp]| packets.iter().map(|p| p.bytes).sum::<u64>();
    for (family, value) in [
        ("processed_sctp_packets", of_sctp.len() as u64),
        ("processed_sctp_bytes", bytes(&of_sctp)),
        ("processed_packets_total", out.len() as u64),
        ("processed_bytes_total", bytes(&out)),
        ("processed_tcp_packets", 0),
        ("processed_udp_packets", 0),
        ("active_flow_count_sctp", 0),
        ("total_requests", 6),
        ("total_errors", 3),
    ] {
        assert_eq!(scrape.value(family), value as f64, "{family}");
    }
    for (service, requests, errors) in
        [(SAME, 2.0, 1.0), (MOVED, 2.0, 1.0), (SIX, 1.0, 0.0), (CLOSED, 1.0, 1.0)]
    {
        let label = service.label();
        let of = |family: &str| scrape.get(family, &[("service", &label)]);
        assert_eq!(of("total_requests_per_service"), requests, "requests of {label}");
        assert_eq!(of("total_errors_per_service"), errors, "errors of {label}");
        let mine = out.iter().filter(|p| service.has(p)).collect::<Vec<_>>();
        assert_eq!(of("service_traffic_packets"), mine.len() as f64, "packets of {label}");
        assert_eq!(of("service_traffic_bytes"), mine.iter().map(|p| p.bytes).sum::<u64>() as f64);
    }
    let dropped = scrape.family("pollux_dropped_packets_total");
    let wrong: Vec<_> = dropped.iter().filter(|(l, n)| *n > 0.0 && l["reason"].contains("sctp")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    engine.finish();
}

#[test]
fn a_broken_crc_is_never_made_good() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &config());
    // The ports stay, and with them the wrong CRC: the server must see it for itself.
    lab.forge(&SAME);
    // The port changes: a CRC computed anew would hide the damage.
    lab.forge(&MOVED);
    let scrape = settled(&lab);
    let dropped: f64 = scrape
        .family("pollux_dropped_packets_total")
        .iter()
        .filter(|(labels, _)| labels["reason"] == "sctp_checksum")
        .map(|(_, n)| n)
        .sum();
    assert_eq!(dropped, 1.0, "the one whose port changes");
    assert_eq!(scrape.value("processed_sctp_packets"), 1.0, "the other one");
    let said = lab.servers_said();
    let mut badsum: Vec<_> = said.iter().filter(|line| line.starts_with("stats")).collect();
    badsum.sort();
    assert_eq!(badsum, ["stats badsum=0", "stats badsum=1"], "usrsctp verifies: {said:#?}");
    engine.finish();
}
