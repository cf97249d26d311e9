//! `pollux capture` on a running engine, with traffic over ring ports: the file against the engine's own ledger.
//!
//! One test with the engine in this process: DPDK is initialised once in a process. Needs tcpdump.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::addr::Mac;
use pollux::config::{self, Config};
use pollux::control::{self, Admin};
use pollux::counters::Term;
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer, RingProducer, allowed_cpus, ring_port};
use pollux::engine::{Engine, EnginePort};
use pollux::pcap::Reader;
use pollux::pipeline::{DropReason, Frame};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");

#[test]
fn capture_while_traffic_runs() {
    // Before DPDK: drivers change the environment while they are loaded, and a process that is started just then gets none.
    the_admin_socket_of_a_running_engine();
    let config = configuration();
    let eal = Engine::init_dpdk(&config).unwrap();
    let pool = Mempool::new(&eal, "wire", 16_383, 2048).unwrap();
    everything_is_in_the_file(&eal, &config, &pool);
    a_slow_reader_costs_nothing_but_the_count(&eal, &config, &pool);
    the_engines_end_ends_the_file(&eal, &config, &pool);
    ports_that_share_a_device(&eal, &pool);
    assert_eq!(pool.in_use(), 0);
}

// --- the checks

fn everything_is_in_the_file(eal: &Eal, config: &Config, pool: &Mempool) {
    let mut world = World::start(eal, config, pool, "all");
    let all = world.capture("all.pcapng", &[]);
    let second = world.capture_to_its_end("second.pcapng", &[]);
    assert_one_line(&second, 1, "another capture is on");
    assert!(!world.path("second.pcapng").exists());

    world.send(500, 53, 60);
    world.send(70, 54, 60); // no service
    world.send_frame(&[0xff; 13]);
    let mut long = pool.frame(&udp(53, 60)).unwrap();
    long.chain(pool.frame(&[0; 2048]).unwrap()).unwrap();
    world.send_mbuf(long);
    world.settle();
    let tally = all.interrupt();
    let ledger = Ledger::of(&world.engine);
    assert_eq!(world.forwarded(), 500, "{tally} {ledger:?}");
    assert_eq!((ledger.term(Term::Rx), ledger.term(Term::Tx)), (572, 500));
    let file = world.path("all.pcapng");
    let found = Found::read(&file);
    assert_eq!(found.received, ledger.term(Term::Rx));
    assert_eq!(found.sent, ledger.term(Term::Tx));
    let reasons: Vec<_> = DropReason::ALL
        .iter()
        .map(|&reason| (reason.label().to_owned(), ledger.reason(reason)))
        .filter(|(_, n)| *n > 0)
        .collect();
    assert_eq!(found.reasons, reasons);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert_eq!(
        tally,
        serde_json::json!({
            "packets": 1144, "received": 572, "sent": 500, "dropped": 72, "tx_full": 0, "missed": 0,
        })
    );
    // As others read it.
    assert_eq!(tcpdump(&file, ""), 1144);
    assert_eq!(tcpdump(&file, "udp dst port 53 and dst host 203.0.113.100"), 501 - 1);
    assert_eq!(tcpdump(&file, "dst host 10.1.0.10"), 500);
    let mut reader = Reader::open(&file).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut packets = 0;
    while let Some(record) = reader.next_packet().unwrap() {
        packets += 1;
        let age = now.saturating_sub(Duration::from_nanos(record.time.unwrap()));
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
    assert_eq!((packets, reader.cut_off()), (1144, None));

    // Narrowed; tcpdump would take the same.
    for (at, (args, packets)) in [
        (&["--port", "wan"][..], 30 + 10 + 10),
        (&["--port", "lan"], 30),
        (&["--drops"], 10),
        (&["--filter", "dst host 10.1.0.10"], 30),
        (&["--filter", "udp port 54", "--drops"], 10),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("narrow{at}.pcapng");
        let narrow = world.capture(&name, args);
        world.send(30, 53, 60);
        world.send(10, 54, 60);
        world.settle();
        let tally = narrow.interrupt();
        assert_eq!(tally["packets"], packets, "{args:?}");
        assert_eq!(tcpdump(&world.path(&name), ""), packets, "{args:?}");
    }
    let limited = world.capture("limited.pcapng", &["--limit", "7"]);
    world.send(30, 53, 60);
    assert_eq!(limited.wait()["packets"], 7);
    assert_eq!(tcpdump(&world.path("limited.pcapng"), ""), 7);

    for (args, status, word) in [
        (&["--port", "wam"][..], 1, "there is no port wam: the engine has wan, lan"),
        (&["--filter", "tcp and"], 2, "--filter: "),
        (&["--socket", "/nowhere/p.sock"], 1, "no engine is running here"),
    ] {
        assert_one_line(&world.capture_to_its_end("refused.pcapng", args), status, word);
    }
    assert!(!world.path("refused.pcapng").exists());
    strangers_are_refused(&world);
    world.stop();
}

/// The file's mode keeps others out; where that was changed, the engine does.
fn strangers_are_refused(world: &World) {
    assert!(rustix::process::geteuid().is_root(), "run as root: the test gives privileges up");
    let socket = world.path("p.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(world.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // Where nobody may read and run it.
    let pollux = world.path("pollux");
    std::fs::copy(POLLUX, &pollux).unwrap();
    for (mode, word) in [(0o600, "permission denied"), (0o666, "only root and the engine's own user")] {
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(mode)).unwrap();
        let out = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&pollux)
            .args(["capture", "--out", "/nowhere", "--socket"])
            .arg(&socket)
            .output()
            .unwrap();
        assert_one_line(&out, 1, word);
    }
}

/// The file is a pipe that nobody reads: all is forwarded, and what could not be kept is counted.
fn a_slow_reader_costs_nothing_but_the_count(eal: &Eal, config: &Config, pool: &Mempool) {
    let mut world = World::start(eal, config, pool, "slow");
    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (opened, open) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut file = std::fs::File::open(pipe).unwrap();
            opened.send(()).unwrap();
            wait.recv().unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            bytes
        }
    });
    let slow = world.capture("pipe", &[]);
    open.recv().unwrap();
    // 18 MB in and 18 MB out: more than all rings and sockets hold.
    let sent = 12_000;
    // A few at a time: on a busy machine a worker that waits for its CPU must not lose any.
    for _ in 0..sent / 100 {
        world.send(100, 53, 1472);
        world.settle();
    }
    assert_eq!(world.forwarded(), sent);
    let ledger = Ledger::of(&world.engine);
    assert_eq!((ledger.term(Term::Rx), ledger.term(Term::Tx)), (sent, sent));
    assert_eq!(ledger.dropped, 0);
    go.send(()).unwrap();
    let tally = slow.interrupt();
    let file = world.path("slow.pcapng");
    std::fs::write(&file, reader.join().unwrap()).unwrap();
    let (kept, missed) = (tally["packets"].as_u64().unwrap(), tally["missed"].as_u64().unwrap());
    assert_eq!(kept + missed, 2 * sent, "{tally}");
    assert!(kept > 1000 && missed > 1000, "{tally}");
    assert_eq!(tcpdump(&file, ""), kept);
    world.stop();
}

fn the_engines_end_ends_the_file(eal: &Eal, config: &Config, pool: &Mempool) {
    let mut world = World::start(eal, config, pool, "end");
    let capture = world.capture("end.pcapng", &[]);
    world.send(20, 53, 60);
    world.settle();
    let file = world.path("end.pcapng");
    let socket = world.path("p.sock");
    world.engine.stop();
    let World { runtime, admin, folder, .. } = world;
    runtime.block_on(admin.finish(Duration::from_secs(5)));
    let tally = capture.wait();
    assert_eq!((&tally["packets"], &tally["missed"]), (&40.into(), &0.into()));
    assert_eq!(tcpdump(&file, ""), 40);
    drop(runtime);
    assert!(!socket.exists(), "the socket stays");
    drop(folder);
}

/// `pollux run` by itself: a socket that a crash has left is replaced, one that is in use is not; it is gone at the end.
fn the_admin_socket_of_a_running_engine() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("p.sock");
    let file = folder.path().join("pollux.toml");
    let text = format!(
        "[engine]\nidle = \"backoff\"\nhugepages = false\nmemory_mb = 128\nmax_flows = 1024\n[[port]]\nname = \"wan\"\n\
         device = \"net_null0,no-rx=1\"\nrole = \"both\"\naddresses = [\"203.0.113.2/24\"]\n[history]\npath = \"\"\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n[control]\nsocket = \"{}\"\n",
        socket.display()
    );
    std::fs::write(&file, text).unwrap();
    let start = || {
        let mut child = Running(
            Command::new(POLLUX)
                .args(["run", "--config"])
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        // The second time the first one's file is there, and nobody answers.
        while UnixStream::connect(&socket).is_err() {
            assert!(child.0.try_wait().unwrap().is_none(), "pollux ended");
            assert!(Instant::now() < deadline, "no socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    };
    let mut first = start();
    let out = Command::new(POLLUX).args(["run", "--config"]).arg(&file).output().unwrap();
    assert_one_line(&out, 1, "another engine answers there");
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    assert!(socket.exists(), "SIGKILL leaves the file");

    let mut second = start();
    let capture = Capture::start(&socket, &folder.path().join("f.pcapng"), &[]);
    signal(&second.0, Signal::TERM);
    assert_eq!(second.0.wait().unwrap().code(), Some(0));
    assert_eq!(capture.wait()["missed"], 0);
    assert!(!socket.exists());
    let out = Command::new(POLLUX)
        .args(["capture", "--out", "/nowhere/f", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    assert_one_line(&out, 1, "no engine is running here");
}

// --- processes

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// A `pollux capture` that is on.
struct Capture(Running);

impl Capture {
    fn start(socket: &Path, out: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(POLLUX)
            .args(["capture", "--json", "--socket"])
            .arg(socket)
            .arg("--out")
            .arg(out)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says so once every packet is seen.
        let mut line = String::new();
        let said = child.stderr.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).unwrap();
        assert!(line.starts_with("pollux: capturing into "), "{line}");
        Self(Running(child))
    }

    /// Ends it as Ctrl-C does; what it says then.
    fn interrupt(self) -> serde_json::Value {
        signal(&self.0.0, Signal::INT);
        self.wait()
    }

    fn wait(mut self) -> serde_json::Value {
        let mut said = String::new();
        std::io::Read::read_to_string(self.0.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(self.0.0.wait().unwrap().code(), Some(0), "{said}");
        serde_json::from_str(&said).unwrap()
    }
}

fn assert_one_line(out: &Output, status: i32, word: &str) {
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(status), "{said}");
    assert!(said.trim_end().lines().count() == 1 && said.contains(word), "no {word:?}: {said}");
}

/// How many packets tcpdump finds.
fn tcpdump(file: &Path, filter: &str) -> u64 {
    let out = Command::new("tcpdump").args(["-n", "--count", "-r"]).arg(file).arg(filter).output();
    let out = out.expect("tcpdump; is it installed?");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    said.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// What the packets of a file say of themselves.
#[derive(Default)]
struct Found {
    received: u64,
    sent: u64,
    /// In the order of the reasons.
    reasons: Vec<(String, u64)>,
}

impl Found {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut found, mut at) = (Self::default(), 0);
        let mut reasons = vec![0; DropReason::COUNT];
        while at < bytes.len() {
            let (kind, length) = (word(at), word(at + 4) as usize);
            if kind == 6 {
                let mut option = at + 28 + (word(at + 20) as usize).next_multiple_of(4);
                let (mut flags, mut comment) = (0, None);
                while word(option) & 0xffff != 0 {
                    let (code, len) = (word(option) & 0xffff, (word(option) >> 16) as usize);
                    match code {
                        1 => {
                            comment = Some(std::str::from_utf8(&bytes[option + 4..option + 4 + len]).unwrap())
                        }
                        2 => flags = word(option + 4),
                        _ => panic!("option {code}"),
                    }
                    option += 4 + len.next_multiple_of(4);
                }
                match (comment, flags) {
                    (Some(comment), 1) => {
                        let reason = DropReason::ALL.iter().find(|r| r.label() == comment).unwrap();
                        reasons[reason.index()] += 1;
                    }
                    (None, 1) => found.received += 1,
                    (None, 2) => found.sent += 1,
                    other => panic!("{other:?}"),
                }
            }
            at += length;
        }
        found.reasons = DropReason::ALL
            .iter()
            .map(|reason| (reason.label().to_owned(), reasons[reason.index()]))
            .filter(|(_, n)| *n > 0)
            .collect();
        found
    }
}

/// Each packet is of the port that its VLAN says, also where another port has the device.
fn ports_that_share_a_device(eal: &Eal, pool: &Mempool) {
    let mut config = configuration();
    let device = config.ports[0].device.clone();
    for (port, vlan) in config.ports.iter_mut().zip([10, 20]) {
        (port.device, port.vlan) = (device.clone(), vlan);
    }
    let mut world = World::start(eal, &config, pool, "vlans");
    let captures = [("wan", 10_u8, 3_u64), ("lan", 20, 5)];
    for (port, vlan, n) in captures {
        let name = format!("{port}.pcapng");
        let capture = world.capture(&name, &["--port", port]);
        for (tag, n) in captures.map(|(_, vlan, n)| (vlan, n)) {
            // No service.
            let mut frame = udp(54, 60);
            frame.splice(12..12, [0x81, 0, 0, tag]);
            (0..n).for_each(|_| world.send_frame(&frame));
        }
        world.settle();
        let tally = capture.interrupt();
        assert_eq!((&tally["received"], &tally["dropped"]), (&n.into(), &n.into()), "VLAN {vlan}: {tally}");
    }
    world.stop();
}

// --- the engine and the other ends of its wires

struct World {
    engine: Engine,
    runtime: Runtime,
    admin: Admin,
    folder: tempfile::TempDir,
    pool: Mempool,
    wan_in: RingProducer,
    wan_out: RingConsumer,
    lan_in: RingProducer,
    lan_out: RingConsumer,
    arrived: u64,
}

impl World {
    fn start(eal: &Eal, config: &Config, pool: &Mempool, name: &str) -> Self {
        let [wan, lan] =
            ["wan", "lan"].map(|side| ring_port(eal, &format!("{name}{side}"), 1, 1, 2048).unwrap());
        let mut ports = vec![
            EnginePort { device: wan.device, mac: Some(Mac([2, 0, 0, 0, 1, 1])) },
            EnginePort { device: lan.device, mac: Some(Mac([2, 0, 0, 0, 1, 2])) },
        ];
        if config.ports[0].device == config.ports[1].device {
            ports.truncate(1);
        }
        let engine = Engine::start_on(eal, config, ports).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let socket = control::bind(&folder.path().join("p.sock")).unwrap();
        let admin =
            control::serve(socket, engine.tap(), engine.clock(), None, None, runtime.handle()).unwrap();
        let only = |mut ends: Vec<_>| ends.pop().unwrap();
        Self {
            engine,
            runtime,
            admin,
            folder,
            pool: pool.clone(),
            wan_in: only(wan.inject),
            wan_out: wan.collect.into_iter().next().unwrap(),
            lan_in: only(lan.inject),
            lan_out: lan.collect.into_iter().next().unwrap(),
            arrived: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn capture(&self, name: &str, args: &[&str]) -> Capture {
        Capture::start(&self.path("p.sock"), &self.path(name), args)
    }

    fn capture_to_its_end(&self, name: &str, args: &[&str]) -> Output {
        let mut command = Command::new(POLLUX);
        command.arg("capture").args(args).arg("--out").arg(self.path(name));
        if !args.contains(&"--socket") {
            command.arg("--socket").arg(self.path("p.sock"));
        }
        command.output().unwrap()
    }

    /// So many requests of so many bytes of payload to a port of the VIP, from many clients.
    fn send(&mut self, n: u64, port: u16, payload: usize) {
        for i in 0..n {
            let mut frame = udp(port, payload);
            frame[29] = (i % 200) as u8 + 1;
            // The checksum by difference would do; anew is shorter.
            frame[24..26].fill(0);
            let sum = checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            self.send_frame(&frame);
        }
    }

    fn send_frame(&mut self, bytes: &[u8]) {
        let frame = self.pool.frame(bytes).unwrap();
        self.send_mbuf(frame);
    }

    fn send_mbuf(&mut self, frame: Mbuf) {
        let mut frames = ArrayVec::<Mbuf, 1>::from([frame]);
        // Never more on the way than the other side's ring holds.
        while self.wan_in.waiting() > 500 || self.wan_in.send(&mut frames) != 1 {
            self.drain();
        }
        self.drain();
    }

    fn drain(&mut self) {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        self.lan_out.receive(64, &mut frames);
        self.arrived += frames.iter().filter(|frame| frame.data()[12..14] == [8, 0]).count() as u64;
        frames.clear();
        self.wan_out.receive(64, &mut frames);
    }

    /// Waits until the engine has dealt with what was sent.
    fn settle(&mut self) {
        while self.wan_in.waiting() + self.lan_in.waiting() > 0 {
            self.drain();
        }
        // From one worker's turn into another's, into the queue of the first, and out.
        for _ in 0..4 {
            let later = self.engine.clock().now().after(Duration::from_millis(5));
            while self.engine.counters().iter().any(|counters| counters.heartbeat() < later) {
                self.drain();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut last = u64::MAX;
        while last != self.arrived {
            last = self.arrived;
            self.drain();
        }
    }

    /// Frames that have arrived behind the engine since the last call.
    fn forwarded(&mut self) -> u64 {
        std::mem::take(&mut self.arrived)
    }

    fn stop(self) {
        self.engine.stop();
        self.runtime.block_on(self.admin.finish(Duration::from_secs(1)));
    }
}

/// The sum over all workers.
#[derive(Debug)]
struct Ledger {
    terms: Vec<u64>,
    reasons: Vec<u64>,
    dropped: u64,
}

impl Ledger {
    fn of(engine: &Engine) -> Self {
        let mut ledger =
            Self { terms: vec![0; Term::ALL.len()], reasons: vec![0; DropReason::COUNT], dropped: 0 };
        let workers = engine.counters();
        for worker in &workers {
            worker.ask(1);
        }
        for worker in &workers {
            let deadline = Instant::now() + Duration::from_secs(10);
            let bank = loop {
                assert!(Instant::now() < deadline, "a worker does not turn");
                match worker.at_rest(1) {
                    Some(bank) => break bank,
                    None => std::thread::yield_now(),
                }
            };
            for (sum, term) in ledger.terms.iter_mut().zip(Term::ALL) {
                *sum += bank.term(term).get();
            }
            for (sum, &reason) in ledger.reasons.iter_mut().zip(DropReason::ALL) {
                *sum += bank.dropped(reason).get();
                ledger.dropped += bank.dropped(reason).get();
            }
        }
        ledger
    }

    fn term(&self, term: Term) -> u64 {
        self.terms[term as usize]
    }

    fn reason(&self, reason: DropReason) -> u64 {
        self.reasons[reason.index()]
    }
}

/// A request to a port of the VIP.
fn udp(port: u16, payload: usize) -> Vec<u8> {
    let len = (28 + payload) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 51, 100, 7, 203, 0, 113, 100];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 9, 1, 8, 0];
    frame.extend(ip);
    frame.extend(4000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((len - 20).to_be_bytes());
    // No UDP checksum (RFC 768).
    frame.extend([0, 0]);
    frame.resize(frame.len() + payload, 0x61);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Two workers, ring ports, one service with one endpoint whose MAC is known.
fn configuration() -> Config {
    let text = r#"
[engine]
hugepages = false
memory_mb = 192
max_flows = 8192
idle      = "backoff"
[[port]]
name      = "wan"
device    = "net_ring0"
role      = "client"
addresses = ["203.0.113.2/24"]
[[port]]
name      = "lan"
device    = "net_ring1"
role      = "server"
addresses = ["10.1.0.1/24"]
[[neighbor]]
address = "10.1.0.10"
mac     = "02:00:00:00:02:0a"
[[service]]
name     = "dns"
vip      = "203.0.113.100:53"
protocol = "udp"
[[service.endpoint]]
address = "10.1.0.10:53"
[history]
path = ""
[control]
socket = ""
"#;
    let (mut config, _) = config::parse("test", text).unwrap_or_else(|report| panic!("{report}"));
    let cpus = allowed_cpus();
    config.engine.workers = (0..2).map(|i| cpus[i % cpus.len()]).collect();
    config.metrics.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}
