//! Probes against real servers on loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, UdpSocket};
use tokio::runtime::Runtime;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::board::{Board, Target};
use super::probe::{Failure, Probers};
use super::{Verdict, keep, raise_file_limit};
use crate::addr::Addr;
use crate::config::{self, Algorithm, Config, EndpointState, HealthCheck, Probe};
use crate::service::tests::service;
use crate::tables::Conditions;

#[path = "../../tests/lab/witness.rs"]
mod witness;

use witness::Witness;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A health check as the file has it.
fn check(keys: &str) -> HealthCheck {
    configured(keys).services[0].health_check.clone().unwrap()
}

fn configured(keys: &str) -> Config {
    let text = format!(
        "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.1.0.1/24\"]\nkernel = \"px\"\n\
         [[service]]\nname = \"web\"\nvip = \"203.0.113.1:80\"\n\
         [service.health_check]\n{keys}\n[[service.endpoint]]\naddress = \"10.1.0.10:80\"\n"
    );
    config::parse("t", &text).unwrap().0
}

fn target(to: SocketAddr, keys: &str) -> Target {
    Target { address: Addr::from(to.ip()), port: to.port(), check: Arc::new(check(keys)), through: None }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One probe, within a second.
fn ask_by(probers: &Probers, runtime: &Runtime, to: SocketAddr, keys: &str) -> Result<(), String> {
    let target = target(to, keys);
    let asked = async { tokio::time::timeout(Duration::from_secs(1), probers.probe(&target)).await };
    match runtime.block_on(asked) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Bad(reason))) => Err(reason),
        Ok(Err(Failure::Unable(reason))) => panic!("{reason}"),
        Err(_) => Err("timeout".into()),
    }
}

fn ask(to: SocketAddr, keys: &str) -> Result<(), String> {
    let runtime = runtime();
    let probers = runtime.block_on(async { Probers::new(1, Arc::default()) });
    ask_by(&probers, &runtime, to, keys)
}

/// An address of the loopback network on which nothing listens.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 77, 0, 1], 9))
}

#[test]
fn tcp_is_up_where_a_connection_is_accepted() {
    for ip in [LOCALHOST, Ipv6Addr::LOCALHOST.into()] {
        let listener = StdListener::bind((ip, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(ask(to, "kind = \"tcp\""), Ok(()));
        drop(listener);
        let refused = ask(to, "kind = \"tcp\"").unwrap_err();
        assert!(refused.starts_with("connect: Connection refused"), "{refused}");
    }
}

#[test]
fn udp_is_up_where_the_reply_begins_as_it_should() {
    let server = StdUdp::bind((LOCALHOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((len, from)) = server.recv_from(&mut buffer) {
            match &buffer[..len] {
                b"quit" => return,
                b"silence" => {}
                request => drop(server.send_to(&[b"re:", request].concat(), from)),
            }
        }
    });
    assert_eq!(ask(to, "kind = \"udp\"\nsend = \"a\"\nreceive = \"re:a\""), Ok(()));
    assert_eq!(ask(to, "kind = \"udp\"\nsend = \"hex:00ff\"\nreceive = \"hex:72653a00\""), Ok(()));
    assert_eq!(ask(to, "kind = \"udp\"\nsend = \"a\""), Ok(()), "any reply");
    let other = ask(to, "kind = \"udp\"\nsend = \"a\"\nreceive = \"b\"").unwrap_err();
    assert_eq!(other, "another reply than expected: \"re:a\"");
    assert_eq!(ask(to, "kind = \"udp\"\nsend = \"silence\"").unwrap_err(), "timeout");
    ask(to, "kind = \"udp\"\nsend = \"quit\"").unwrap_err();
    assert_eq!(ask(nobody(), "kind = \"udp\"\nsend = \"a\"").unwrap_err(), "port unreachable");
}

#[test]
fn ping_is_up_where_the_echo_comes_back() {
    let runtime = runtime();
    let probers = runtime.block_on(async { Probers::new(1, Arc::default()) });
    for ip in [LOCALHOST, Ipv6Addr::LOCALHOST.into(), "127.3.2.1".parse().unwrap()] {
        let to = SocketAddr::new(ip, 0);
        assert_eq!(ask_by(&probers, &runtime, to, "kind = \"ping\""), Ok(()), "{ip}");
    }
    // TEST-NET-2 (RFC 5737): no host is there, whatever the routes.
    let nowhere = ask_by(&probers, &runtime, "198.51.100.77:0".parse().unwrap(), "kind = \"ping\"");
    assert!(nowhere.is_err(), "{nowhere:?}");
}

/// A server of one page at a time.
fn serve(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
    let listener = StdListener::bind((LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1000];
        while !request.ends_with(b"\r\n\r\n") {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "no whole request");
            request.extend_from_slice(&buffer[..len]);
        }
        // In pieces, as they come over a network.
        for piece in answer.as_bytes().chunks(7) {
            if stream.write_all(piece).is_err() {
                break;
            }
            stream.flush().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        String::from_utf8(request).unwrap()
    });
    (to, thread)
}

#[test]
fn http_wants_the_status_and_the_body() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\nthe database is healthy\n";
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhealt\r\n3\r\nhy!\r\n0\r\n\r\n";
    const OLD: &str = "HTTP/1.0 200 OK\r\n\r\nall is healthy";
    for (answer, keys, expected) in [
        (OK, "", Ok(())),
        (OK, "body = \"is healthy\"", Ok(())),
        (CHUNKED, "body = \"healthy\"", Ok(())),
        (OLD, "body = \"healthy\"", Ok(())),
        (OK, "body = \"sick\"", Err("the body lacks \"sick\"")),
        (OK, "expect = \"204\"", Err("status 200, not 204")),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "", Err("status 503, not 200-399")),
        ("HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "", Ok(())),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "expect = \"200, 400-404\"", Ok(())),
    ] {
        let (to, server) = serve(answer);
        let got = ask(to, &format!("kind = \"http\"\n{keys}"));
        assert_eq!(got, expected.map_err(str::to_owned), "{answer} {keys}");
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nhost: {to}\r\n")), "{request}");
    }
    let (to, server) = serve(OK);
    assert_eq!(ask(to, "kind = \"http\"\nhost = \"www.example\"\npath = \"/a?b=c\""), Ok(()));
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\nhost: www.example\r\n"), "{request}");
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n", ""] {
        let (to, server) = serve(garbage);
        let got = ask(to, "kind = \"http\"").unwrap_err();
        assert!(got.starts_with("HTTP: "), "{got}");
        server.join().unwrap();
    }
}

/// A child that goes with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let out = Command::new(program).args(args).current_dir(dir).output();
    let out = out.unwrap_or_else(|e| panic!("{program}: {e}; is it installed?"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn start(program: &Path, args: &[&str], dir: &Path) -> Killed {
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    Killed(child.unwrap())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    StdListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Asks until there is a good answer, for some seconds.
fn becomes_good(ask: impl Fn() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(why) = ask() {
        assert!(Instant::now() < deadline, "{why}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// nginx at this port, with the certificate that is there; none where somebody has taken the port meanwhile.
fn nginx_with(d: &Path, port: u16) -> Option<Killed> {
    let p = d.display();
    let conf = format!(
        "daemon off; master_process off; pid {p}/pid; error_log {p}/error.log;
         events {{ worker_connections 64; }}
         http {{
           access_log off; client_body_temp_path {p}/t1; proxy_temp_path {p}/t2; fastcgi_temp_path {p}/t3;
           uwsgi_temp_path {p}/t4; scgi_temp_path {p}/t5;
           server {{
             listen 0.0.0.0:{port} ssl; ssl_certificate {p}/server.pem; ssl_certificate_key {p}/server.key;
             location /healthz {{ return 200 'all is well'; }}
             location /sick {{ return 503; }}
           }}
         }}"
    );
    std::fs::write(d.join("nginx.conf"), conf).unwrap();
    let conf = format!("{p}/nginx.conf");
    let mut nginx = start(Path::new("nginx"), &["-p", ".", "-e", "error.log", "-c", &conf], d);
    // It says who it is once it listens.
    while !d.join("pid").exists() {
        if nginx.0.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(nginx)
}

#[test]
fn https_wants_a_certificate_that_is_the_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    run("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"], d);
    let ca = ["req", "-x509", "-key", "key.pem", "-subj", "/CN=Test CA", "-days", "2", "-out", "ca.pem"];
    run("openssl", &ca, d);
    run("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "server.key"], d);
    run(
        "openssl",
        &["req", "-new", "-key", "server.key", "-subj", "/CN=www.example", "-out", "server.csr"],
        d,
    );
    std::fs::write(d.join("names"), "subjectAltName = DNS:www.example, IP:127.0.0.1\n").unwrap();
    let sign = "x509 -req -in server.csr -CA ca.pem -CAkey key.pem -CAcreateserial -days 2 -extfile names -out server.pem";
    run("openssl", &sign.split(' ').collect::<Vec<_>>(), d);
    let (port, _nginx) = std::iter::repeat_with(free_port)
        .take(5)
        .find_map(|port| Some((port, nginx_with(d, port)?)))
        .expect("a port that stays free");

    let runtime = runtime();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(d.join("ca.pem")).unwrap()).unwrap();
    let (trusting, plain) = runtime
        .block_on(async { (Probers::with_roots(1, roots), Probers::with_roots(1, RootCertStore::empty())) });
    let named = "kind = \"https\"\nhost = \"www.example\"\n";
    let local = SocketAddr::new(LOCALHOST, port);
    becomes_good(|| ask_by(&trusting, &runtime, local, &format!("{named}body = \"well\"")));
    assert_eq!(ask_by(&trusting, &runtime, local, "kind = \"https\""), Ok(()), "by its address");
    let sick = ask_by(&trusting, &runtime, local, &format!("{named}path = \"/sick\""));
    assert_eq!(sick.unwrap_err(), "status 503, not 200-399");

    let wrong = |probers, to, keys: &str, say: &str| {
        let got = ask_by(probers, &runtime, to, keys).unwrap_err();
        assert!(got.starts_with("TLS: ") && got.contains(say), "{keys}: {got}");
        assert_eq!(ask_by(probers, &runtime, to, &format!("{keys}\nverify = false")), Ok(()), "{keys}");
    };
    wrong(&trusting, local, "kind = \"https\"\nhost = \"other.example\"", "not valid for name");
    wrong(&trusting, SocketAddr::from(([127, 0, 0, 2], port)), "kind = \"https\"", "not valid for name");
    wrong(&plain, local, named, "UnknownIssuer");
}

#[test]
fn sctp_is_up_where_an_init_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sctp/peer.c");
    run("gcc", &["-std=gnu11", "-O1", "-o", "peer", source, "-lusrsctp", "-lpthread"], dir.path());
    let peer = start(&dir.path().join("peer"), &["server", "127.0.0.1", "3868"], dir.path());
    let runtime = runtime();
    let probers = runtime.block_on(async { Probers::new(u64::from(std::process::id()), Arc::default()) });
    let ask = |port| ask_by(&probers, &runtime, SocketAddr::new(LOCALHOST, port), "kind = \"sctp\"");
    becomes_good(|| ask(3868));
    for _ in 0..20 {
        assert_eq!(ask(3868), Ok(()));
    }
    assert_eq!(ask(3869).unwrap_err(), "refused: ABORT", "usrsctp knows no such port");
    drop(peer);
    assert_eq!(ask(3868).unwrap_err(), "timeout");
}

/// A configuration of services, each with its endpoints at these addresses of loopback.
fn config_of(services: &[(&str, &HealthCheck, &[SocketAddr])]) -> Config {
    let mut config = configured("kind = \"tcp\"");
    config.services = services
        .iter()
        .map(|(name, check, endpoints)| {
            let mut one = service(Algorithm::RoundRobin, &vec![(1, EndpointState::Up); endpoints.len()]);
            for (endpoint, at) in one.endpoints.iter_mut().zip(*endpoints) {
                (endpoint.address, endpoint.port) = (Addr::from(at.ip()), at.port());
            }
            Arc::new(config::Service {
                name: (*name).to_owned(),
                health_check: Some((*check).clone()),
                ..one
            })
        })
        .collect();
    config
}

fn downs(board: &Board, config: &Config, before: &Conditions) -> Vec<(String, u8)> {
    let mut conditions = before.clone();
    board.write(config, &mut conditions);
    let mut found: Vec<_> = conditions
        .iter()
        .filter(|(_, _, condition)| condition.down)
        .map(|(service, (address, _), _)| (service.to_owned(), address.v4_octets()[3]))
        .collect();
    found.sort();
    found
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 80))
}

fn record(board: &Board, last: u8, check: &HealthCheck, good: bool) {
    let check = Arc::new(HealthCheck { port: 0, ..check.clone() });
    let target = Target { address: Addr::from(at(last).ip()), port: 80, check, through: None };
    let result = if good { Ok(()) } else { Err(Failure::Bad("no".into())) };
    board.record(&target, result, Duration::from_millis(1));
}

#[test]
fn a_probe_is_shared_and_its_verdict_survives_reloads() {
    let none = Conditions::default();
    let (tcp, named) = (check("kind = \"tcp\""), check("kind = \"tcp\"\nport = 80"));
    let board = Board::default();
    let one = config_of(&[("a", &tcp, &[at(1), at(2)]), ("b", &named, &[at(2), at(3)])]);
    board.plan(None, &one);
    board.settle(Arc::new(one.clone()));
    assert_eq!(board.targets().len(), 3, "2 is probed once, also where the port is named");
    let all = ["a", "a", "b", "b"].into_iter().map(str::to_owned).zip([1, 2, 2, 3]);
    assert_eq!(downs(&board, &one, &none), all.collect::<Vec<_>>(), "pending");
    assert!(!board.is_settled());
    for last in [1, 2, 3] {
        record(&board, last, &tcp, last != 3);
    }
    assert!(board.is_settled());
    assert_eq!(downs(&board, &one, &none), [("b".to_owned(), 3)]);

    // Other intervals: what is said holds until enough speaks against it. 4 is new; 1 goes.
    let slow = check("kind = \"tcp\"\ninterval = \"9s\"");
    let two = config_of(&[("a", &tcp, &[at(2), at(4)]), ("b", &slow, &[at(2), at(3)])]);
    board.plan(Some(&one), &two);
    assert_eq!(board.targets().len(), 6, "nothing goes before the new one is in force");
    board.settle(Arc::new(two.clone()));
    assert_eq!(board.targets().len(), 4);
    assert_eq!(downs(&board, &two, &none), [("a".to_owned(), 4), ("b".to_owned(), 3)]);
    record(&board, 2, &slow, false);
    record(&board, 2, &slow, false);
    assert_eq!(downs(&board, &two, &none).len(), 2, "fall = 3");
    record(&board, 2, &slow, false);
    assert_eq!(
        downs(&board, &two, &none),
        [("a".to_owned(), 4), ("b".to_owned(), 2), ("b".to_owned(), 3)],
        "by its own probe"
    );

    // No probe any more: nobody is down. And again one: nobody is down until it says so.
    let mut three = two.clone();
    three.services.iter_mut().for_each(|service| Arc::make_mut(service).health_check = None);
    let mut conditions = none.clone();
    board.write(&two, &mut conditions);
    board.plan(Some(&two), &three);
    assert_eq!(downs(&board, &three, &conditions), []);
    board.settle(Arc::new(three.clone()));
    assert_eq!(board.targets().len(), 0);
    board.plan(Some(&three), &two);
    assert_eq!(downs(&board, &two, &none), []);
}

#[test]
fn what_cannot_be_probed_keeps_its_state() {
    let tcp = check("kind = \"tcp\"\nfall = 1");
    let board = Board::default();
    let config = config_of(&[("a", &tcp, &[at(1)])]);
    board.plan(None, &config);
    record(&board, 1, &tcp, true);
    let (target, _) = board.targets().remove(0);
    for _ in 0..10 {
        board.record(&target, Err(Failure::Unable("no files".into())), Duration::ZERO);
    }
    assert_eq!(downs(&board, &config, &Conditions::default()), []);
    let results = board.results();
    assert_eq!(
        (results[0].0, results[0].1.good, results[0].1.failed, results[0].1.unable),
        ("tcp", 1, 0, 10)
    );
}

/// Each of 5 000 endpoints is probed in every interval, spread over it, and their death is seen in time and published in few pieces.
#[test]
fn five_thousand_endpoints_at_once() {
    const MANY: u16 = 5_000;
    const INTERVAL: Duration = Duration::from_secs(3);
    /// How late this machine may be, with everything else that it does; and by what a witness proves beyond that.
    const LATE: Duration = Duration::from_millis(1500);
    raise_file_limit();
    let runtime = runtime();
    let accepted: Arc<Mutex<Vec<(SocketAddr, Instant)>>> = Arc::default();
    // All of them are one listener, whose queue must hold the first second.
    let listener = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        socket.listen(u32::from(MANY)).unwrap()
    });
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::clone(&accepted);
    let server = runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let to = stream.local_addr().unwrap();
            seen.lock().unwrap().push((to, Instant::now()));
        }
    });
    let endpoints: Vec<_> =
        (0..MANY).map(|n| SocketAddr::from(([127, 9, (n >> 8) as u8, (n & 0xff) as u8], port))).collect();
    let tcp = check("kind = \"tcp\"\ninterval = \"3s\"\ntimeout = \"1s\"\nrise = 1\nfall = 2");
    let config = config_of(&[("a", &tcp, &endpoints), ("b", &tcp, &endpoints)]);
    let board = Arc::new(Board::default());
    board.plan(None, &config);
    board.settle(Arc::new(config.clone()));
    let published: Arc<Mutex<Vec<usize>>> = Arc::default();
    let publish = {
        let (board, config, published) = (Arc::clone(&board), config.clone(), Arc::clone(&published));
        move || {
            published.lock().unwrap().push(downs(&board, &config, &Conditions::default()).len());
            true
        }
    };
    let witness = Witness::start();
    let began = Instant::now();
    runtime.spawn(keep(Arc::clone(&board), publish));
    std::thread::sleep(INTERVAL * 3);
    assert_eq!(downs(&board, &config, &Conditions::default()).len(), 0, "all are up");
    let until = Instant::now();

    let mut starts: std::collections::HashMap<SocketAddr, Vec<Instant>> = Default::default();
    for (to, when) in accepted.lock().unwrap().iter() {
        starts.entry(*to).or_default().push(*when);
    }
    assert_eq!(starts.len(), usize::from(MANY));
    let mut worst = Duration::ZERO;
    for times in starts.values() {
        // Of two services, one probe.
        assert!(times.len() <= 5, "{} probes in three intervals", times.len());
        let from = std::iter::once(began).chain(times.iter().copied());
        let to = times.iter().copied().chain([until]);
        let gaps = from.zip(to).map(|(a, b)| (b - a).saturating_sub(witness.late(a, b)));
        worst = gaps.max().unwrap().max(worst);
    }
    println!("5 000 endpoints: the longest gap between two probes was {worst:?} of {INTERVAL:?}");
    assert!(worst <= INTERVAL.mul_f64(1.05) + LATE, "a gap of {worst:?}");

    server.abort();
    let killed = Instant::now();
    let bound = INTERVAL * 2 + Duration::from_secs(1);
    while downs(&board, &config, &Conditions::default()).len() < 2 * usize::from(MANY) {
        let stalled = witness.late(killed, Instant::now());
        assert!(killed.elapsed() < bound + LATE + stalled, "not all are down after {:?}", killed.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("all down {:?} after their death, of {bound:?}", killed.elapsed());
    std::thread::sleep(Duration::from_millis(100));
    let published = published.lock().unwrap();
    assert_eq!(published.last(), Some(&(2 * usize::from(MANY))), "the last word");
    assert!(published.len() < 2 * usize::from(MANY), "gathered: {}", published.len());
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Bounds hold for a single endpoint, too: when it dies and when it comes back.
#[test]
fn one_endpoint_dies_and_comes_back() {
    let witness = Witness::start();
    let runtime = runtime();
    let socket = runtime.block_on(UdpSocket::bind((LOCALHOST, 0))).unwrap();
    let to = socket.local_addr().unwrap();
    let echo = |socket: UdpSocket| async move {
        let mut buffer = [0; 100];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    };
    let server = runtime.spawn(echo(socket));
    let udp =
        check("kind = \"udp\"\nsend = \"x\"\ninterval = \"200ms\"\ntimeout = \"100ms\"\nrise = 2\nfall = 3");
    let config = config_of(&[("a", &udp, &[to])]);
    let board = Arc::new(Board::default());
    board.plan(None, &config);
    board.settle(Arc::new(config.clone()));
    runtime.spawn(keep(Arc::clone(&board), || true));
    let verdict = || match downs(&board, &config, &Conditions::default()).len() {
        0 => Verdict::Up,
        _ => Verdict::Down,
    };
    let late = Duration::from_millis(300);
    let wait = |from: Instant, wanted, most: Duration| {
        while verdict() != wanted {
            let stalled = witness.late(from, Instant::now());
            assert!(from.elapsed() < most + late + stalled, "not {wanted:?} after {:?}", from.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        from.elapsed()
    };
    wait(Instant::now(), Verdict::Up, Duration::from_millis(300));
    let died = Instant::now();
    server.abort();
    let took = wait(died, Verdict::Down, Duration::from_millis(1500));
    assert!(took > Duration::from_millis(300), "not before the third failure: {took:?}");
    let revived = Instant::now();
    let socket = runtime.block_on(UdpSocket::bind(to)).unwrap();
    runtime.spawn(echo(socket));
    let took = wait(revived, Verdict::Up, Duration::from_millis(500));
    assert!(took > Duration::from_millis(150), "not before the second success: {took:?}");
    assert!(matches!(config.services[0].health_check.as_ref().unwrap().probe, Probe::Udp { .. }));
}
