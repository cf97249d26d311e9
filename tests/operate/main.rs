//! A service under constant load from real clients while everything is done to it that operators do, and a server dies.
//!
//! ```text
//!   client ── wan [ pollux ] lan ── switch ── s1 … s7, nginx each
//! ```
//!
//! The clients keep a ledger of every request: by which connection, of which server, when, and how it ended. It alone is what is
//! judged. Needs root, and the programs that `ci/test` installs.

#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/engine.rs"]
mod engine;
#[path = "../lab/ground.rs"]
mod ground;
mod load;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
#[path = "../lab/nginx.rs"]
mod nginx;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
#[path = "../lab/witness.rs"]
mod witness;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::{Engine, METRICS};
use ground::{Ground, two_arm};
use load::{Ledger, Load, Request};
use net::{Namespace, wire};
use nginx::Nginx;
use scrape::Scrape;
use witness::Witness;

const VIP: &str = "203.0.113.100";
const CLIENT: &str = "203.0.113.10";
const HTTP: u16 = 8080;
/// Those that the service begins with, and those that come later.
const FIRST: usize = 5;
const ALL: usize = 7;
/// Which servers what is done to; s1 and s5 are left alone.
const FLAPS: usize = 1;
const DRAINED: usize = 2;
const KILLED: usize = 3;

const INTERVAL: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_millis(200);
const FALL: u32 = 2;
/// How late this machine may be, with everything else that it does; and by what a witness proves beyond that.
const LATE: Duration = Duration::from_millis(500);
const RELOADS: usize = 100;
/// Between the starts of two reloads: 100 in a minute, and more.
const PACE: Duration = Duration::from_millis(450);

fn address(i: usize) -> String {
    format!("10.1.0.{}", 11 + i)
}

fn name(i: usize) -> String {
    format!("s{}", i + 1)
}

struct Lab {
    client: Namespace,
    lb: Namespace,
    nginx: Vec<Nginx>,
    _switch: Namespace,
    _servers: Vec<Namespace>,
    ground: Ground,
}

impl Lab {
    fn new() -> Self {
        let ground = Ground::take();
        let [client, lb, switch] = ["client", "lb", "switch"].map(Namespace::new);
        wire((&client, "eth0"), (&lb, "wan"));
        wire((&switch, "uplink"), (&lb, "lan"));
        client.interface("eth0", &[&format!("{CLIENT}/24")]);
        lb.bare_interface("wan");
        lb.bare_interface("lan");
        switch.sh("ip link add name br0 type bridge mcast_snooping 0");
        switch.sysctl("net.ipv6.conf.br0.disable_ipv6", "1");
        switch.sh("ip link set br0 up");
        switch.bare_interface("uplink");
        switch.sh("ip link set uplink master br0");
        let servers: Vec<_> = (0..ALL).map(|i| Namespace::new(&name(i))).collect();
        let mut lab = Self { client, lb, nginx: Vec::new(), _switch: switch, _servers: Vec::new(), ground };
        for (i, server) in servers.iter().enumerate() {
            let own = name(i);
            wire((server, "eth0"), (&lab._switch, &own));
            lab._switch.bare_interface(&own);
            lab._switch.sh(&format!("ip link set {own} master br0"));
            server.interface("eth0", &[&format!("{}/24", address(i))]);
            server.sh("ip route add default via 10.1.0.1");
            let dir = lab.ground.path().join(&own);
            std::fs::create_dir_all(dir.join("www")).expect("a folder for nginx");
            std::fs::write(dir.join("www/page"), vec![b'x'; 1000]).expect("a page");
            std::fs::write(lab.health(i), "well").expect("a page");
            let serve = format!(
                "keepalive_requests 10000000; keepalive_timeout 1h;
                 server {{ listen {HTTP} backlog=512; add_header X-Server {own}; }}"
            );
            lab.nginx.push(Nginx::start(server, &dir, &serve));
        }
        lab._servers = servers;
        lab
    }

    /// What server `i` answers its probes with, while it is there.
    fn health(&self, i: usize) -> PathBuf {
        self.ground.path().join(name(i)).join("www/healthz")
    }

    fn pollux(&self, arguments: &str) -> String {
        let socket = self.ground.path().join("p.sock");
        self.lb.sh(&format!("{} {arguments} --socket {}", env!("CARGO_BIN_EXE_pollux"), socket.display()))
    }
}

/// The file, with so many of the servers; `n` makes it another one each time.
fn config(lab: &Lab, servers: usize, n: usize) -> String {
    let mut text = two_arm("[0, 1]", 512);
    for port in ["px-wan", "px-lan"] {
        text = text.replacen("kernel    = \"\"", &format!("kernel    = \"{port}\""), 1);
    }
    let socket = lab.ground.path().join("p.sock");
    text = text.replace("socket = \"\"", &format!("socket = \"{}\"", socket.display()));
    let _ = write!(
        text,
        r#"
[[firewall]]
name   = "scanners {n}"
action = "drop"
source = ["192.0.2.{}/32"]

[[service]]
name         = "web"
vip          = "{VIP}:80"
algorithm    = "round-robin"
idle_timeout = "{}s"
[service.health_check]
kind     = "http"
interval = "{INTERVAL:?}"
timeout  = "{TIMEOUT:?}"
rise     = 1
fall     = {FALL}
expect   = "200"
"#,
        n % 250,
        240 + n % 2
    );
    for i in 0..servers {
        let _ = write!(
            text,
            "[[service.endpoint]]\naddress = \"{}:{HTTP}\"\nweight = {}\n",
            address(i),
            1 + n % 3 / 2
        );
    }
    text
}

/// When what was done.
struct Events {
    drained: Instant,
    killed: Instant,
    added: Instant,
    flaps: usize,
}

/// Does all of it, in the time that the reloads take.
fn operate(lab: &mut Lab, engine: &Engine) -> Events {
    let began = Instant::now();
    let (mut drained, mut killed, mut added) = (began, began, began);
    let mut flaps = 0;
    for n in 1..=RELOADS {
        // Half a second well, half a second not, all the time.
        if n % 2 == 0 {
            std::fs::rename(lab.health(FLAPS), lab.health(FLAPS).with_extension("off")).expect("it was well");
            flaps += 1;
        } else if n > 1 {
            std::fs::rename(lab.health(FLAPS).with_extension("off"), lab.health(FLAPS)).expect("it was not");
        }
        if n == 20 {
            lab.pollux(&format!("drain web {}:{HTTP}", address(DRAINED)));
            drained = Instant::now();
        }
        if n == 45 {
            killed = Instant::now();
            lab.nginx[KILLED].kill();
        }
        let servers = if n < 70 { FIRST } else { ALL };
        std::fs::write(engine.file(), config(lab, servers, n)).expect("the file");
        let said = lab.pollux("reload");
        assert!(said.contains("scanners"), "reload {n}: {said}");
        if n == 70 {
            added = Instant::now();
        }
        let due = began + PACE * n as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    println!("{RELOADS} reloads in {:.1?}", began.elapsed());
    Events { drained, killed, added, flaps }
}

#[test]
fn nothing_that_operators_do_costs_a_request() {
    let mut lab = Lab::new();
    let text = config(&lab, FIRST, 0);
    let engine = Engine::start(&lab.lb, lab.ground.path(), &text);
    let to = SocketAddr::new(VIP.parse::<IpAddr>().expect("an address"), 80);
    let witness = Witness::start();
    let load = Load::start(&lab.client, CLIENT.parse().expect("an address"), to);
    std::thread::sleep(Duration::from_secs(3));
    let events = operate(&mut lab, &engine);
    std::thread::sleep(Duration::from_secs(2));
    let ledger = load.stop();
    judge(&ledger, &events, &witness);

    let scrape = Scrape::fetch(&lab.lb, METRICS);
    assert_eq!(scrape.violations(), "");
    assert_eq!(scrape.value("pollux_config_generation"), 1.0 + RELOADS as f64, "{}", engine.log());
    assert_eq!(scrape.value("pollux_config_last_reload_successful"), 1.0);
    let of = |family: &str, i: usize| {
        let (service, endpoint) = (format!("{VIP}:80"), format!("{}:{HTTP}", address(i)));
        scrape.get(family, &[("service", &service), ("endpoint", &endpoint)])
    };
    let flaps = of("pollux_endpoint_flaps_total", FLAPS);
    println!("{} flaps seen of {} times down and up", flaps, events.flaps);
    // Two probes must fail: not every half second without health is enough on a busy machine.
    assert!(flaps >= events.flaps as f64 / 2.0, "{flaps} of {}", 2 * events.flaps);
    assert_eq!(of("pollux_endpoint_up", KILLED), 0.0);
    // What the file says nothing of has outlived all reloads, and is shown.
    let endpoints = lab.pollux("endpoints --json");
    let drained = format!("{}:{HTTP}", address(DRAINED));
    let endpoints: serde_json::Value = serde_json::from_str(&endpoints).expect("JSON");
    let shown = endpoints["endpoints"].as_array();
    let shown = shown.and_then(|all| all.iter().find(|e| e["address"] == drained.as_str()));
    let shown = shown.unwrap_or_else(|| panic!("{endpoints}"));
    assert_eq!((&shown["state"], &shown["drained"]), (&"drain".into(), &true.into()), "{shown}");
    engine.finish();
}

/// What the ledger must show.
fn judge(ledger: &Ledger, events: &Events, witness: &Witness) {
    let Events { drained, killed, added, .. } = *events;
    let killed_server = name(KILLED);
    let bound = INTERVAL * FALL + TIMEOUT;
    let (mut answered, mut opened, mut of_dead) = (0, 0, 0);
    let (mut refused, mut worst) = (0, Duration::ZERO);
    let mut faults = Vec::new();
    for request in &ledger.requests {
        let Request { server, first, began, ended, outcome, .. } = request;
        let after = |event: Instant| began.saturating_duration_since(event);
        match outcome {
            Ok(()) => {
                answered += 1;
                opened += usize::from(*first);
            }
            // It went down with its server.
            Err(_) if server.as_deref() == Some(&*killed_server) && *ended >= killed => of_dead += 1,
            Err(_)
                if server.is_none()
                    && *ended >= killed
                    && after(killed) <= bound + LATE + witness.late(killed, *began) =>
            {
                refused += 1;
                worst = worst.max(after(killed));
            }
            Err(error) => faults.push(format!(
                "{error}: {} {server:?}, {:.2?} after the kill",
                if *first { "new" } else { "kept" },
                ended.saturating_duration_since(killed)
            )),
        }
    }
    println!(
        "{answered} requests answered, on {opened} connections; {of_dead} on connections of the killed server failed; \
         {refused} new connections failed, the last {worst:.2?} after the kill, of {bound:?}"
    );
    assert!(
        faults.is_empty(),
        "{} requests failed, such as {:#?}",
        faults.len(),
        &faults[..faults.len().min(10)]
    );
    assert!(answered > 5_000 && opened > 1_000, "too little load to show anything");
    assert!(of_dead > 0 && refused > 0, "nobody noticed the kill");

    // Who served what when: (on new connections, on kept ones).
    let served = |i: usize, from: Instant| {
        let own = name(i);
        let all = ledger
            .requests
            .iter()
            .filter(|r| r.outcome.is_ok() && r.server.as_deref() == Some(&*own) && r.began >= from);
        let (new, kept): (Vec<_>, Vec<_>) = all.partition(|r| r.first);
        (new.len(), kept.len())
    };
    let settled = Duration::from_millis(200);
    let (new, kept) = served(DRAINED, drained + settled);
    println!("drained: {new} new connections, {kept} requests on old ones");
    assert!(new == 0 && kept > 100, "draining: {new} new connections, {kept} requests on old ones");
    assert_eq!(served(KILLED, killed + bound + LATE), (0, 0));
    for i in [0, FLAPS, 4] {
        assert!(served(i, added).0 > 20 && served(i, added).1 > 100, "{}: {:?}", name(i), served(i, added));
    }
    for i in FIRST..ALL {
        let (new, _) = served(i, added);
        println!("added {}: {new} new connections", name(i));
        assert!(new > 50, "{} has {new} new connections", name(i));
    }
}
