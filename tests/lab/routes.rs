//! The kernel's routes on the ports' interfaces steer balanced traffic, live connections included; VIPs come and go with their
//! services' endpoints, and a routing daemon announces them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::bird::Bird;
use crate::engine::Engine;
use crate::kernel::kernel_config;
use crate::net::Namespace;
use crate::settled;
use crate::topology::{Lab, SERVERS, WEB4, WEB6, clients, server};
use crate::traffic;
use crate::witness::Witness;

/// A VIP to which the client has no route but the one that it learns.
const VIP: &str = "198.51.100.80";
/// A network behind the client, to which the engine has no route but the one that its kernel learns.
const BEHIND: &str = "192.0.2.10";
/// What a change may take.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What changes take, where the machine runs: what it has stalled for is not counted.
struct Clock(Witness);

impl Clock {
    /// How long it takes until `done`.
    #[track_caller]
    fn within(&self, limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
        let start = Instant::now();
        while !done() {
            let stalled = self.0.late(start, Instant::now());
            assert!(
                start.elapsed() < limit + stalled,
                "{what}: not within {limit:?}, and {stalled:?} of stalls"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }
}

/// The lab's configuration with one more web service, whose endpoints are all in this state.
fn with_vip(state: &str) -> String {
    let mut text = kernel_config("[1]");
    text.push_str(&format!(
        "\n[[service]]\nname = \"announced\"\nvip = \"{VIP}:80\"\nprotocol = \"tcp\"\nmode = \"dnat\"\nalgorithm = \"maglev\"\n"
    ));
    for i in 0..SERVERS.len() {
        let address = server(i, true);
        text.push_str(&format!("[[service.endpoint]]\naddress = \"{address}:8080\"\nstate = \"{state}\"\n"));
    }
    text
}

/// BIRD beside the engine, as `config/bird.conf` has it: the test's addresses are those of the example.
fn beside() -> String {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/bird.conf");
    std::fs::read_to_string(example).expect("config/bird.conf")
}

/// BIRD in the client's namespace.
const ROUTER: &str = r#"
router id 203.0.113.10;
log stderr all;
protocol device { scan time 1; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol static behind { ipv4; route 192.0.2.0/24 blackhole; }
protocol bgp pollux {
  local 203.0.113.10 as 65000;
  neighbor 203.0.113.2 as 65001;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export where proto = "behind"; next hop self; };
}
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol bgp pollux6 {
  local 2001:db8:1::10 as 65000;
  neighbor 2001:db8:1::2 as 65001;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv6 { import all; export none; };
}
"#;

#[test]
fn a_routing_daemon_announces_vips_that_have_endpoints_and_its_routes_steer_traffic() {
    let clock = Clock(Witness::start());
    let lab = Lab::new();
    lab.client.sh("ip route del 198.51.100.0/24");
    lab.client.sh(&format!("ip address add {BEHIND}/32 dev lo"));
    let engine = Engine::start(&lab.lb, lab.dir(), &with_vip("up"));
    let curl = |source: &str| {
        let line =
            format!("curl -sS -m 2 -o /dev/null -w %{{http_code}} --interface {source} http://{VIP}/1000");
        String::from_utf8_lossy(&lab.client.run(&line).stdout).into_owned()
    };
    let client = clients(true)[0].to_string();
    assert_eq!(curl(&client), "000", "without a route");

    let _lb = Bird::start(&lab.lb, lab.dir(), "lb", &beside());
    let _router = Bird::start(&lab.client, lab.dir(), "router", ROUTER);
    let announced = || !lab.client.sh(&format!("ip route show {VIP}")).is_empty();
    clock.within(Duration::from_secs(20), "the VIP's route at the client", announced);
    let route = lab.client.sh(&format!("ip route show {VIP}"));
    assert!(route.contains("via 203.0.113.2") && route.contains("proto bird"), "{route}");
    assert_eq!(curl(&client), "200");
    clock.within(Duration::from_secs(20), "the route of a VIP of IPv6", || {
        lab.client.sh(&format!("ip -6 route show {}", WEB6.vip)).contains("via 2001:db8:1::2")
    });

    // The other way round: replies to what is behind the client go by the route that the engine's kernel has learnt.
    clock.within(Duration::from_secs(5), "the route to what is behind the client", || {
        lab.lb.sh("ip route show 192.0.2.0/24 dev px-wan").contains("via 203.0.113.10")
    });
    clock.within(AT_ONCE, "a reply by that route", || curl(BEHIND) == "200");
    let gateway = lab.lb.sh("ip neigh show 203.0.113.10 dev px-wan");
    assert!(gateway.contains("managed"), "a gateway that was learnt: {gateway}");
    assert!(settled(&lab).value("pollux_kernel_routes") >= 1.0);

    // No endpoint, no VIP, no route; and back.
    let on_tap = || lab.lb.sh("ip -o address show dev px-wan").contains(&format!(" {VIP}/32"));
    for _ in 0..2 {
        engine.reload(&with_vip("down"));
        clock.within(AT_ONCE, "the VIP off the interface", || !on_tap());
        // Two daemons that are not ours take their time.
        clock.within(Duration::from_secs(5), "the VIP's route gone", || !announced());
        assert_eq!(curl(&client), "000", "the VIP is announced no more");
        // The other VIPs stay, and are served.
        traffic::fetch(&lab.client, &WEB4, 3);

        engine.reload(&with_vip("up"));
        clock.within(AT_ONCE, "the VIP on the interface", on_tap);
        clock.within(Duration::from_secs(5), "the VIP's route again", announced);
        clock.within(AT_ONCE, "the service again", || curl(BEHIND) == "200");
    }
    // Next hops follow, too: one endpoint has moved.
    let managed =
        |address: &str| lab.lb.sh(&format!("ip neigh show {address} dev px-lan")).contains("managed");
    assert!(managed("10.1.0.13") && !managed("10.1.0.14"));
    engine.reload(&with_vip("up").replace("10.1.0.13:", "10.1.0.14:"));
    clock.within(AT_ONCE, "the new endpoint kept current", || managed("10.1.0.14"));
    clock.within(AT_ONCE, "the old one let go", || !managed("10.1.0.13"));
    assert_eq!(settled(&lab).violations(), "");
    engine.finish();
}

/// Says its name and the question to whoever asks, from the address that was asked.
struct Oracle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Oracle {
    fn start(ns: &Namespace, at: SocketAddr, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = ns.inside(|| UdpSocket::bind(at).expect("an address of its own"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let mut question = [0; 32];
                if let Ok((n, from)) = socket.recv_from(&mut question) {
                    let answer = [name.as_bytes(), b" ", &question[..n]].concat();
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A server's link-local address.
fn link_local(ns: &Namespace) -> String {
    let line = ns.sh("ip -6 -o address show dev eth0 scope link");
    let prefix =
        line.split_whitespace().find(|word| word.starts_with("fe80:")).expect("a link-local address");
    prefix.split('/').next().unwrap_or_default().to_owned()
}

#[test]
fn a_changed_route_or_mac_takes_effect_within_a_second_on_live_connections() {
    /// Of both servers, on their loopback interfaces: which one is asked is the route's choice.
    const ANYCAST: [&str; 2] = ["10.9.0.5", "fd00:9::5"];
    const PORT: u16 = 5353;
    const VIPS: [&str; 2] = ["203.0.113.100", "2001:db8:1::100"];

    let clock = Clock(Witness::start());
    let lab = Lab::new();
    let mut text = kernel_config("[0, 1]");
    let mut oracles = Vec::new();
    for (vip, address) in VIPS.into_iter().zip(ANYCAST) {
        let [vip, endpoint] = [vip, address].map(|a| SocketAddr::new(a.parse().expect("an address"), PORT));
        text.push_str(&format!(
            "\n[[service]]\nname = \"oracle {vip}\"\nvip = \"{vip}\"\nprotocol = \"udp\"\nmode = \"dnat\"\n\
             algorithm = \"maglev\"\n[[service.endpoint]]\naddress = \"{endpoint}\"\n"
        ));
        for (ns, name) in lab.servers.iter().zip(SERVERS) {
            let len = if endpoint.is_ipv4() { "/32" } else { "/128 nodad" };
            ns.sh(&format!("ip address add {address}{len} dev lo"));
            oracles.push(Oracle::start(ns, endpoint, name));
        }
    }
    let engine = Engine::start(&lab.lb, lab.dir(), &text);

    for ipv4 in [true, false] {
        let family = usize::from(!ipv4);
        // Of IPv6 the gateways are link-local, as routing protocols have them.
        let via = |i: usize| if ipv4 { server(i, true).to_string() } else { link_local(&lab.servers[i]) };
        let to: IpAddr = VIPS[family].parse().expect("an address");
        let socket = lab.client.inside(|| {
            let socket = UdpSocket::bind((clients(ipv4)[0], 0)).expect("a socket");
            socket.connect((to, PORT)).expect("a route");
            socket
        });
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        // Questions asked, and how many of them before the last change.
        let (asked, before) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let answers = |name: &str| {
            let question = asked.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send(question.to_string().as_bytes());
            // Whatever round trips take, each answer counts that is to a question asked after the change.
            let mut heard = [0; 64];
            while let Ok(n) = socket.recv(&mut heard) {
                let said = String::from_utf8_lossy(&heard[..n]);
                let (who, question) = said.split_once(' ').expect("a name, and the question");
                let question: usize = question.parse().expect("a number");
                if who == name && question >= before.load(Ordering::Relaxed) {
                    return true;
                }
            }
            false
        };
        let soon = |what: &str, name: &str| {
            before.store(asked.load(Ordering::Relaxed), Ordering::Relaxed);
            clock.within(AT_ONCE, what, || answers(name))
        };
        let route = |change: &str, i: usize| {
            lab.lb.sh(&format!("ip route {change} {} via {} dev px-lan", ANYCAST[family], via(i)));
        };

        assert!(!answers("s1"), "without a route");
        let mut took = Vec::new();
        route("add", 0);
        took.push(("a new route", soon("the first route", "s1")));
        route("replace", 1);
        took.push(("another gateway", soon("the second route", "s2")));
        // A longer prefix before a shorter one, whatever its metric; when it goes the shorter one is taken.
        lab.lb.sh(&format!(
            "ip route add {} via {} dev px-lan metric 9",
            if ipv4 { "10.9.0.0/24" } else { "fd00:9::/64" },
            via(2)
        ));
        std::thread::sleep(Duration::from_millis(300));
        soon("the longest prefix", "s2");
        lab.lb.sh(&format!("ip route del {}", ANYCAST[family]));
        took.push(("a shorter prefix", soon("the third route", "s3")));

        // The gateway has another MAC, and says so.
        let gateway = &lab.servers[2];
        let notify = if ipv4 { "net.ipv4.conf.eth0.arp_notify" } else { "net.ipv6.conf.eth0.ndisc_notify" };
        let before = via(2);
        gateway.sysctl(notify, "1");
        gateway.sh(&format!("ip link set eth0 address 02:00:00:00:78:0{family}"));
        assert_eq!(via(2), before);
        took.push(("a MAC that is announced", soon("another MAC", "s3")));
        // Or only the kernel knows.
        gateway.sysctl(notify, "0");
        gateway.sysctl("net.ipv4.conf.eth0.arp_ignore", "8");
        gateway.sh(&format!("ip link set eth0 address 02:00:00:00:79:0{family}"));
        lab.lb.sh(&format!(
            "ip neigh replace {before} lladdr 02:00:00:00:79:0{family} nud permanent dev px-lan"
        ));
        took.push(("a MAC that the kernel is told", soon("the last MAC", "s3")));
        eprintln!("{}: {took:?}", VIPS[family]);
        gateway.sysctl("net.ipv4.conf.eth0.arp_ignore", "0");
    }
    assert_eq!(settled(&lab).violations(), "");
    engine.finish();
}
