//! Ports with an interface of the kernel's: the kernel answers there, and gets there, and nothing of it is left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use pollux::kernel::Guard;
use rustix::process::Signal;

use crate::engine::{Engine, METRICS};
use crate::net::{Namespace, connect_from};
use crate::scrape::Scrape;
use crate::servers::HTTP_PORT;
use crate::topology::{ECHO4, ECHO6, Lab, SERVERS, WEB4, WEB6, clients, config, server};
use crate::{settled, traffic};

/// Where a server of the kernel's listens, on all addresses.
const SSH: u16 = 2222;
const OWN: &str = "203.0.113.2";
const OWN6: &str = "2001:db8:1::2";
const PATIENCE: Duration = Duration::from_secs(30);

/// The lab's configuration with an interface of the kernel's for each port.
pub fn kernel_config(workers: &str) -> String {
    config(workers).replacen("kernel    = \"\"", "kernel    = \"px-wan\"", 1).replacen(
        "kernel    = \"\"",
        "kernel    = \"px-lan\"",
        1,
    )
}

/// A server of the kernel's in this namespace: sends back what it gets.
fn listen(ns: &Namespace) {
    let listener = ns.inside(|| TcpListener::bind(("::", SSH)).expect("a listener"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Says so much to the kernel's server, and hears it back.
fn converse(client: &Namespace, to: SocketAddr, bytes: usize) {
    client.inside(|| {
        let mut stream = connect_from(clients(to.is_ipv4())[0], to, PATIENCE)
            .unwrap_or_else(|e| panic!("the kernel's server at {to}: {e}"));
        let said: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
        for part in said.chunks(4096) {
            stream.write_all(part).expect("a connection");
            let mut heard = vec![0; part.len()];
            stream.read_exact(&mut heard).unwrap_or_else(|e| panic!("{to}: {e}"));
            assert!(heard == part, "{to}: not what was said");
        }
    });
}

fn address(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().expect("an address"), port)
}

/// The guards' tables.
fn guards(lab: &Lab) -> Vec<String> {
    let tables = lab.lb.sh("nft list tables");
    tables.lines().filter_map(|l| l.strip_prefix("table netdev pollux_")).map(str::to_owned).collect()
}

fn statistic(lab: &Lab, interface: &str, name: &str) -> f64 {
    let text = lab.lb.sh(&format!("cat /sys/class/net/{interface}/statistics/{name}"));
    text.trim().parse().expect("a number")
}

#[test]
fn the_kernel_answers_on_its_interfaces_and_for_vips_only_arp_nd_and_ping() {
    for workers in ["[1]", "[0, 1]"] {
        let lab = Lab::new();
        listen(&lab.lb);
        let engine = Engine::start(&lab.lb, lab.dir(), &kernel_config(workers));

        let mac = lab.lb.mac("wan");
        assert_eq!(lab.lb.mac("px-wan"), mac);
        assert_eq!(lab.lb.mac("px-lan"), lab.lb.mac("lan"));
        let addresses = lab.lb.sh("ip -o address show dev px-wan");
        for prefix in [
            "203.0.113.2/24",
            "2001:db8:1::2/64",
            "203.0.113.100/32",
            "198.51.100.7/32",
            "2001:db8:1::100/128",
        ] {
            assert!(addresses.contains(&format!(" {prefix} ")), "{prefix} is not in {addresses}");
        }

        for target in [WEB4.vip, OWN, ECHO4.vip, WEB6.vip, OWN6, ECHO6.vip] {
            lab.client.ping(5, &format!("-s 1200 {target}"));
        }
        for target in [WEB4.vip, OWN, WEB6.vip, OWN6] {
            let entry = lab.client.sh(&format!("ip neigh show {target} dev eth0"));
            assert!(
                entry.contains(&format!("lladdr {mac}")),
                "the neighbour of {target} is {entry:?}, not {mac}"
            );
        }

        // To the kernel, and from it: a server of its own, and probes of endpoints.
        converse(&lab.client, address(OWN, SSH), 200_000);
        converse(&lab.client, address(OWN6, SSH), 200_000);
        for i in 0..SERVERS.len() {
            for ipv4 in [true, false] {
                let to = SocketAddr::new(server(i, ipv4), HTTP_PORT);
                let own = if ipv4 { "10.1.0.1" } else { "fd00:1::1" }.parse().expect("an address");
                lab.lb
                    .inside(|| connect_from(own, to, PATIENCE))
                    .unwrap_or_else(|e| panic!("probe of {to}: {e}"));
            }
        }
        // A VIP exposes nothing of the machine.
        for vip in [WEB4.vip, WEB6.vip] {
            let to = address(vip, SSH);
            let refused = lab
                .client
                .inside(|| connect_from(clients(to.is_ipv4())[0], to, Duration::from_millis(500)))
                .expect_err("a VIP exposes the kernel's server");
            assert_ne!(
                refused.kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{to}: the kernel has answered"
            );
        }
        // Balancing goes on beside it.
        for service in [&WEB4, &WEB6] {
            let served = traffic::fetch(&lab.client, service, 30);
            assert_eq!(served.values().sum::<usize>(), 30);
        }
        let managed = lab.lb.sh("ip neigh show dev px-lan");
        for i in 0..SERVERS.len() {
            let entry =
                managed.lines().find(|l| l.starts_with(&format!("{} ", server(i, true)))).unwrap_or("");
            assert!(entry.contains("lladdr") && entry.contains("managed"), "{entry:?} in {managed}");
        }

        let scrape = settled(&lab);
        assert!(scrape.get("pollux_dropped_packets_total", &[("reason", "no_service")]) >= 2.0);
        assert_same_counts(&lab, &scrape);
        engine.finish();
        for interface in ["px-wan", "px-lan"] {
            assert!(
                !lab.lb.run(&format!("ip link show {interface}")).status.success(),
                "{interface} is left"
            );
        }
        assert_eq!(guards(&lab), [""; 0], "guards are left");
    }
}

/// The ledger's terms are the kernel's own counts.
fn assert_same_counts(lab: &Lab, scrape: &Scrape) {
    let deadline = Instant::now() + PATIENCE;
    let mut scrape = scrape.clone();
    loop {
        assert_eq!(scrape.violations(), "");
        let counted =
            ["punted", "injected"].map(|term| scrape.value(&format!("pollux_{term}_packets_total")));
        let kernel = ["rx_packets", "tx_packets"].map(|name| {
            ["px-wan", "px-lan"].map(|interface| statistic(lab, interface, name)).iter().sum::<f64>()
        });
        assert!(counted.iter().all(|n| *n > 300.0), "hardly anything went that way: {counted:?}");
        if counted == kernel {
            return;
        }
        // The kernel speaks now and then (neighbours are kept current), and the counters follow a tick later.
        assert!(
            Instant::now() < deadline,
            "punted and injected {counted:?}, the kernel has counted {kernel:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
        scrape = Scrape::fetch(&lab.lb, METRICS);
    }
}

#[test]
fn a_kill_leaves_nothing_in_the_way() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &kernel_config("[1]"));
    let first = guards(&lab);
    assert_eq!(first.len(), 2, "{first:?}");
    engine.stop(Signal::KILL, PATIENCE);
    assert_eq!(guards(&lab), first, "nobody was there to remove them");
    // An interface that was left behind, with an address of another day.
    lab.lb.sh("ip tuntap add mode tap name px-wan");
    lab.lb.sh("ip address add 192.0.2.77/24 dev px-wan");
    // Guards of another PID namespace: on our interface, and on one that may be somebody's who lives.
    let index = lab.lb.sh("cat /sys/class/net/wan/ifindex");
    let (replaced, others) = (format!("1_{}_1", index.trim()), "1_999999_1");
    for guard in [&*replaced, others] {
        lab.lb.sh(&format!("nft add table netdev pollux_{guard}"));
    }

    let engine = Engine::start(&lab.lb, lab.dir(), &kernel_config("[1]"));
    assert!(guards(&lab).iter().any(|guard| guard == others), "another's guard was removed");
    lab.lb.sh(&format!("nft delete table netdev pollux_{others}"));
    let second = guards(&lab);
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(!second.contains(&replaced), "{second:?}");
    assert!(second.iter().all(|guard| !first.contains(guard)), "{second:?} has one of {first:?}");
    let addresses = lab.lb.sh("ip -o address show dev px-wan");
    assert!(!addresses.contains("192.0.2.77") && addresses.contains("203.0.113.2/24"), "{addresses}");
    lab.client.ping(3, OWN);
    // Another one cannot have the same interface, and takes nothing of the first one's with it.
    let file = lab.dir().join("second.toml");
    let text = kernel_config("[1]").replace("127.0.0.1:8080", "127.0.0.1:8081");
    std::fs::write(&file, text).expect("a configuration file");
    let second_run = lab.lb.run(&format!("{} run --config {}", env!("CARGO_BIN_EXE_pollux"), file.display()));
    let said = String::from_utf8_lossy(&second_run.stderr).into_owned();
    assert!(!second_run.status.success() && said.contains("another process has this TAP open"), "{said}");
    assert_eq!(guards(&lab), second, "the guards of the one that runs");
    engine.finish();
    assert_eq!(guards(&lab), [""; 0], "guards are left");
}

#[test]
fn guards_know_interfaces_also_where_sysfs_shows_others() {
    let lab = Lab::new();
    // Inside, but with the mounts of this process.
    let up = lab.lb.inside(|| ["wan", "lan"].map(|interface| Guard::new(interface).expect("a guard")));
    let found = guards(&lab);
    for interface in ["wan", "lan"] {
        let index = lab.lb.sh(&format!("cat /sys/class/net/{interface}/ifindex"));
        let begin = format!("{}_{}_", std::process::id(), index.trim());
        assert!(found.iter().any(|guard| guard.starts_with(&begin)), "none of {interface} in {found:?}");
    }
    lab.lb.inside(move || drop(up));
    assert_eq!(guards(&lab), [""; 0], "guards are left");
}

/// Time on a CPU that the thread which serves the TAPs has taken.
fn tap_thread_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let stats = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let stat = stats.into_iter().find(|stat| stat.contains("(pollux-tap)")).expect("the thread");
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime, in hundredths of a second.
    Duration::from_millis(10 * (11..13).map(|at| fields[at].parse::<u64>().expect("a time")).sum::<u64>())
}

#[test]
fn an_interface_that_somebody_removes_is_told_once_and_costs_no_cpu() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &kernel_config("[1]"));
    lab.lb.sh("ip link delete px-wan");
    let before = tap_thread_time(engine.pid());
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let took = tap_thread_time(engine.pid()).saturating_sub(before);
    assert!(took < started.elapsed() / 4, "{took:?} of a CPU in {:?}", started.elapsed());
    let said = engine.log();
    assert_eq!(said.matches("px-wan: somebody has removed the interface").count(), 1, "{said}");
    // Nobody answers for the VIPs there: no traffic should come here, but what does come is forwarded, and nothing hangs.
    let status =
        |path: &str| lab.lb.sh(&format!("curl -s -o /dev/null -w %{{http_code}} http://{METRICS}{path}"));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let is = ["/readyz", "/healthz"].map(status);
        if is == ["503", "200"] {
            break;
        }
        assert!(Instant::now() < deadline, "readiness and health: {is:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(settled(&lab).violations(), "");
    engine.finish();
}

#[test]
fn endpoints_reach_the_outside_through_the_kernel_where_transit_is_its() {
    let lab = Lab::new();
    lab.client.sh("ip route add 10.1.0.0/24 via 203.0.113.2");
    lab.lb.sysctl("net.ipv4.ip_forward", "1");
    let client = clients(true)[0].to_string();

    let engine = Engine::start(&lab.lb, lab.dir(), &kernel_config("[1]"));
    let ping = lab.servers[0].run(&format!("ping -n -c 3 -i 0.2 -W 1 {client}"));
    assert!(!ping.status.success(), "transit = \"drop\" lets pings through");
    assert!(settled(&lab).get("pollux_dropped_packets_total", &[("reason", "transit")]) >= 3.0);
    engine.finish();

    let transit = kernel_config("[1]").replace("[engine]", "[engine]\ntransit = \"kernel\"");
    let engine = Engine::start(&lab.lb, lab.dir(), &transit);
    lab.servers[0].ping(3, &client);
    assert_eq!(settled(&lab).violations(), "");
    engine.finish();
}

/// Says a word on each socket: how many of them hear it back, until so much later.
fn echoes(sockets: &[UdpSocket], word: &str, patience: Duration) -> usize {
    for socket in sockets {
        socket.send(word.as_bytes()).expect("a route");
    }
    let deadline = Instant::now() + patience;
    let hears = |socket: &&UdpSocket| {
        let mut heard = [0; 64];
        loop {
            // What has come already is heard also where the time is over.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            socket.set_read_timeout(Some(left)).expect("a timeout");
            match socket.recv(&mut heard) {
                // An echo of another word has come too late to be heard then.
                Ok(n) if &heard[..n] != word.as_bytes() => {}
                result => return result.is_ok(),
            }
        }
    };
    sockets.iter().filter(hears).count()
}

#[test]
fn neighbors_that_the_kernel_knows_are_known_to_the_workers_within_a_second() {
    /// Connections: so many that some are the silent server's, and some are not.
    const ALL: usize = 48;

    let lab = Lab::new();
    // It answers no ARP for its address: only the kernel can tell where it is.
    let silent = &lab.servers[0];
    silent.sysctl("net.ipv4.conf.eth0.arp_ignore", "8");
    let tell = |mac: &str| {
        let address = server(0, true);
        lab.lb.sh(&format!("ip neigh replace {address} lladdr {mac} nud permanent dev px-lan"));
        std::thread::sleep(Duration::from_secs(1));
    };
    for workers in ["[1]", "[0, 1]"] {
        // Ready all the same: it is given up.
        let engine = Engine::start(&lab.lb, lab.dir(), &kernel_config(workers));
        tell(&silent.mac("eth0"));
        let served = traffic::fetch(&lab.client, &WEB4, 30);
        assert_eq!(served.keys().collect::<Vec<_>>(), SERVERS.each_ref());

        let sockets: Vec<_> = lab.client.inside(|| {
            let to = SocketAddr::new(ECHO4.address(), ECHO4.port);
            (0..ALL)
                .map(|_| {
                    let socket = UdpSocket::bind((clients(true)[0], 0)).expect("a socket");
                    socket.connect(to).expect("a route");
                    socket
                })
                .collect()
        });
        assert_eq!(echoes(&sockets, "at first", PATIENCE), ALL);
        let last = if workers == "[1]" { 1 } else { 2 };
        silent.sh(&format!("ip link set eth0 address 02:00:00:00:77:0{last}"));
        let before = echoes(&sockets, "before", Duration::from_millis(500));
        assert!(
            (1..ALL).contains(&before),
            "{before} of {ALL} before the kernel has told where the server is now"
        );
        tell(&format!("02:00:00:00:77:0{last}"));
        let after = echoes(&sockets, "after", PATIENCE);
        assert_eq!(after, ALL, "live connections, a second after the kernel has told");
        assert_eq!(settled(&lab).violations(), "");
        engine.finish();
    }
}
