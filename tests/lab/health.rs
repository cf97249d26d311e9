//! Servers that are killed and revived under probes: who gets connections, how soon, and what an operator is told.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::{Engine, METRICS};
use crate::kernel::kernel_config;
use crate::prometheus::Prometheus;
use crate::scrape::Scrape;
use crate::servers::{HTTP_PORT, get, serve};
use crate::settled;
use crate::topology::{EMPTY, Lab, SERVERS, WEB4, WEB6, clients, server};
use crate::witness::Witness;

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(300);
const FALL: u32 = 2;
/// How late this machine may be, with everything else that it does; and by what a witness proves beyond that.
const LATE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(15);

/// Every endpoint is probed at its address' web server, whatever it serves; none is administratively down.
fn probed_config() -> String {
    let check = format!(
        "health_check = {{ kind = \"http\", port = {HTTP_PORT}, path = \"/1\", expect = \"200\", \
         interval = \"500ms\", timeout = \"300ms\", rise = 2, fall = {FALL} }}\n"
    );
    kernel_config("[1]")
        .replace("mode = \"dnat\"\n", &format!("mode = \"dnat\"\n{check}"))
        .replace("state = \"down\"", "state = \"up\"")
}

/// A page: which server it is of.
fn ask(lab: &Lab) -> Result<String, String> {
    let to = SocketAddr::new(WEB4.address(), WEB4.port);
    lab.client.inside(|| get(clients(true)[0], to, "/1", Duration::from_secs(2)).map(|page| page.server))
}

fn wait(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !done() {
        assert!(from.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    from.elapsed()
}

/// Asks all the time while `f` runs: when requests failed.
fn failures_during<T>(lab: &Lab, f: impl FnOnce() -> T) -> (T, Vec<Instant>) {
    let (stop, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let to = SocketAddr::new(WEB4.address(), WEB4.port);
            lab.client.inside(|| {
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    if get(clients(true)[0], to, "/1", Duration::from_secs(2)).is_err() {
                        failed.lock().expect("no panic").push(asked);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        let done = f();
        stop.store(true, Ordering::Relaxed);
        done
    });
    (done, failed.into_inner().expect("no panic"))
}

fn endpoint_metric(scrape: &Scrape, family: &str, i: usize) -> f64 {
    let endpoint = SocketAddr::new(server(i, true), HTTP_PORT).to_string();
    scrape.get(family, &[("service", &WEB4.label()), ("endpoint", &endpoint)])
}

fn has_vip(lab: &Lab) -> bool {
    lab.lb.sh("ip -o address show dev px-wan").contains(&format!(" {}/32 ", WEB4.vip))
}

#[test]
fn a_dead_server_gets_no_connections_and_a_revived_one_does() {
    let mut lab = Lab::new();
    let witness = Witness::start();
    let engine = Engine::start(&lab.lb, lab.dir(), &probed_config());
    // Ready is when the first probes have ended.
    let served: std::collections::BTreeSet<_> =
        (0..30).map(|_| ask(&lab).unwrap_or_else(|e| panic!("ready, but {e}"))).collect();
    assert_eq!(served.iter().map(String::as_str).collect::<Vec<_>>(), SERVERS);
    let scrape = settled(&lab);
    assert_eq!(scrape.value("healthy_endpoints_count"), 18.0);
    assert_eq!(scrape.value("unhealthy_endpoints_count"), 0.0);
    assert_eq!([0, 1, 2].map(|i| endpoint_metric(&scrape, "pollux_endpoint_up", i)), [1.0; 3]);
    let probes = endpoint_metric(&scrape, "pollux_probe_seconds_count", 0);
    assert!(probes >= 2.0, "{probes} probes");

    // A server dies while clients ask on.
    let dead = lab.nginx.remove(0);
    let ((), failed) = failures_during(&lab, || {
        drop(dead);
        std::thread::sleep(INTERVAL * FALL + TIMEOUT + LATE + Duration::from_secs(1));
    });
    let (first, last) = (*failed.first().expect("nobody noticed"), *failed.last().expect("nobody noticed"));
    let (took, stalled) = (last - first, witness.late(first, last));
    let bound = INTERVAL * FALL + TIMEOUT;
    println!(
        "failover: {} requests failed, the last one {took:?} after the first, of {bound:?}",
        failed.len()
    );
    assert!(took <= bound + LATE + stalled, "requests failed for {took:?}, more than {bound:?}");
    for _ in 0..20 {
        assert_ne!(ask(&lab).as_deref(), Ok(SERVERS[0]));
    }
    let scrape = settled(&lab);
    assert_eq!([0, 1, 2].map(|i| endpoint_metric(&scrape, "pollux_endpoint_up", i)), [0.0, 1.0, 1.0]);
    assert_eq!(scrape.value("healthy_endpoints_count"), 12.0);
    assert_eq!(scrape.value("unhealthy_endpoints_count"), 6.0);
    assert_eq!(endpoint_metric(&scrape, "pollux_endpoint_flaps_total", 0), 1.0);
    let state =
        |state| scrape.get("pollux_service_endpoints", &[("service", &WEB6.label()), ("state", state)]);
    assert_eq!(["up", "drain", "down", "pending"].map(state), [2.0, 0.0, 1.0, 0.0]);

    // A reload with nothing new about it forgets nothing; and nobody fails.
    let ((), failed) = failures_during(&lab, || {
        engine.reload(&probed_config().replace("idle_timeout = \"2s\"", "idle_timeout = \"3s\""));
        std::thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(failed.len(), 0, "under the reload");
    assert_eq!(settled(&lab).value("pollux_config_generation"), 2.0, "{}", engine.log());

    // It comes back, and gets connections again.
    lab.nginx.insert(0, serve(&lab.servers[0], SERVERS[0], lab.dir()));
    let revived = Instant::now();
    let took = wait("the revived server serves", || ask(&lab).as_deref() == Ok(SERVERS[0]));
    let stalled = witness.late(revived, revived + took);
    assert!(took <= INTERVAL * 2 + TIMEOUT + LATE + stalled, "{took:?}, and {stalled:?} of stalls");

    // All die: nobody is sent here any more. And come back.
    assert!(has_vip(&lab));
    lab.nginx.clear();
    wait("the VIP is withdrawn", || !has_vip(&lab));
    assert_eq!(settled(&lab).value("healthy_endpoints_count"), 0.0);
    lab.nginx = (0..3).map(|i| serve(&lab.servers[i], SERVERS[i], lab.dir())).collect();
    wait("the VIP is back", || has_vip(&lab));
    wait("it serves", || ask(&lab).is_ok());
    assert_eq!(settled(&lab).violations(), "");
    engine.finish();
}

#[test]
fn the_alerts_of_dead_endpoints_fire_and_clear() {
    let mut lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &probed_config());
    // The rules as they are, but in a hurry.
    let rules =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus/rules/loxilb.yml"))
            .expect("the rules");
    let hurried = rules.lines().map(|line| match line.trim_start().split_once(' ') {
        Some(("interval:", _)) => line.replace(line.trim_start(), "interval: 1s"),
        Some(("for:", _)) => line.replace(line.trim_start(), "for: 2s"),
        _ => line.to_owned(),
    });
    let file = lab.dir().join("rules.yml");
    std::fs::write(&file, hurried.collect::<Vec<_>>().join("\n") + "\n").expect("the rules");
    let prometheus = Prometheus::start_with_rules(&lab.lb, lab.dir(), METRICS, Some(&file));
    let firing = |alert: &str| {
        prometheus.query(&lab.lb, &format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}"))
            == Some(1.0)
    };
    let alerts = || ["UnhealthyEndpoints", "AllEndpointsDown"].map(firing);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(alerts(), [false, false], "all are well");

    let last = lab.nginx.split_off(2);
    lab.nginx.clear();
    wait("two of three are dead", || alerts() == [true, false]);
    drop(last);
    wait("all are dead", || alerts() == [true, true]);
    lab.nginx = vec![serve(&lab.servers[0], SERVERS[0], lab.dir())];
    wait("one is back", || alerts() == [true, false]);
    let others: Vec<_> = (1..3).map(|i| serve(&lab.servers[i], SERVERS[i], lab.dir())).collect();
    lab.nginx.extend(others);
    wait("all are back", || alerts() == [false, false]);
    assert_eq!(Scrape::fetch(&lab.lb, METRICS).value("unhealthy_endpoints_count"), 0.0, "{}", EMPTY.name);
    engine.finish();
}
