//! Connections whose endpoint a reload removes: two kernels that say nothing learn of it at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::net::connect_from;
use crate::settled;
use crate::topology::{Lab, clients, config, server};

const PORT: u16 = 5001;
const PATIENCE: Duration = Duration::from_secs(10);

fn vip(v4: bool) -> SocketAddr {
    let address: IpAddr = if v4 { "203.0.113.100" } else { "2001:db8:1::100" }.parse().expect("an address");
    SocketAddr::new(address, PORT)
}

/// The lab's services, and one of each family with this server behind it.
fn with_server(i: usize, loss: &str) -> String {
    let services = [true, false].map(|v4| {
        let (vip, endpoint) = (vip(v4), SocketAddr::new(server(i, v4), PORT));
        format!(
            "\n[[service]]\nname = \"lost {v4}\"\nvip = \"{vip}\"\non_endpoint_removed = \"{loss}\"\n\
             [[service.endpoint]]\naddress = \"{endpoint}\"\n"
        )
    });
    config("[0]") + &services.concat()
}

/// Both ends of a connection over the service.
fn connection(lab: &Lab, listener: &TcpListener, v4: bool) -> [TcpStream; 2] {
    let client = lab
        .client
        .inside(|| connect_from(clients(v4)[0], vip(v4), PATIENCE))
        .unwrap_or_else(|e| panic!("{}: {e}", vip(v4)));
    let (server, _) = listener.accept().expect("a connection");
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    [client, server]
}

/// That something gets from the first end to the second one.
fn says([from, to]: [&TcpStream; 2], what: &[u8]) {
    let ([mut from, mut to], mut heard) = ([from, to], vec![0; what.len()]);
    from.write_all(what).expect("writing");
    to.read_exact(&mut heard).expect("reading");
    assert_eq!(heard, what);
}

#[test]
fn idle_connections_of_a_removed_endpoint_are_reset() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &with_server(0, "reset"));
    let talks = [true, false].map(|v4| {
        let at = SocketAddr::new(server(0, v4), PORT);
        let listener = lab.servers[0].inside(|| TcpListener::bind(at)).expect("a listener");
        let [client, server] = connection(&lab, &listener, v4);
        says([&client, &server], &[b'?'; 3000]);
        says([&server, &client], &[b'!'; 30_000]);
        (client, server)
    });
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    engine.reload(&with_server(1, "reset"));
    for (client, server) in &talks {
        for (who, mut end) in [("client", client), ("server", server)] {
            let heard = end.read(&mut [0; 1]).map_err(|e| e.kind());
            assert_eq!(heard, Err(ErrorKind::ConnectionReset), "{who}: {}", engine.log());
        }
    }
    println!("idle connections reset {:?} after the signal", began.elapsed());
    let scrape = settled(&lab);
    assert_eq!(scrape.violations(), "");
    assert_eq!(scrape.value("active_flow_count_tcp"), 0.0);
    // Nobody's error.
    assert_eq!(scrape.value("total_errors"), 0.0);
    engine.finish();
}

#[test]
fn connections_of_a_removed_endpoint_drain() {
    let lab = Lab::new();
    let engine = Engine::start(&lab.lb, lab.dir(), &with_server(0, "drain"));
    let at = SocketAddr::new(server(0, true), PORT);
    let listener = lab.servers[0].inside(|| TcpListener::bind(at)).expect("a listener");
    let [client, server] = connection(&lab, &listener, true);
    engine.reload(&with_server(1, "drain"));
    let deadline = Instant::now() + PATIENCE;
    while settled(&lab).value("pollux_config_generation") < 2.0 {
        assert!(Instant::now() < deadline, "{}", engine.log());
    }
    says([&client, &server], b"still here");
    says([&server, &client], b"and here");
    engine.finish();
}
