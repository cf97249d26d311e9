//! A pool of packet buffers that is exhausted: the client's side is an interface of the kernel's, from which libpcap takes
//! frames into the engine's buffers; the server's side is a ring that is large enough to keep all of them.
//!
//! libpcap's driver is one that counts each frame that it loses: `net_af_packet` leaves them to the kernel, which drops what
//! does not fit its ring, and `net_tap` waits for a signal that does not come any more once the interface's queue is full.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pollux::dpdk::{Mempool, RingConsumer, RingProducer, ring_port};
use pollux::engine::{Engine, EnginePort};

use crate::net::{Namespace, wire};
use crate::rig::{Bench, LAN_MAC, SERVER_MAC, Shown, VIP, WAN_MAC, config, drain, send, wait_until};
use crate::witness::Witness;

/// More than the engine has buffers.
const RING: u32 = 32_768;
/// Frames that must have died for want of a buffer, each time.
const LOST: u64 = 500;
const CLIENT: &str = "203.0.113.10";
const CLIENT_MAC: &str = "02:00:00:00:09:02";

/// The server's side: an echo, when it takes what is there.
struct Server {
    pool: Mempool,
    out: RingConsumer,
    back: RingProducer,
}

impl Server {
    /// Takes all, echoes whole datagrams. How many frames.
    fn serve(&mut self) -> usize {
        let Self { pool, out, back } = self;
        drain(out, |frame| {
            // UDP, and no fragment.
            if frame.len() < 42 || frame[12..15] != [8, 0, 0x45] || frame[20] & 0x3f != 0 || frame[21] != 0 {
                return;
            }
            let mut answer = frame.to_vec();
            answer[..6].copy_from_slice(&LAN_MAC.0);
            answer[6..12].copy_from_slice(&SERVER_MAC.0);
            for (a, b, len) in [(26, 30, 4), (34, 36, 2)] {
                for i in 0..len {
                    answer.swap(a + i, b + i);
                }
            }
            // Checksums do not mind; a full ring loses it.
            send(pool, back, &answer);
        })
    }
}

pub fn nothing_is_lost_but_packets(bench: &Bench) {
    let Bench { eal, pool, cpus } = bench;
    let seconds = std::env::var("POLLUX_CHURN_SECONDS").map_or(15, |text| text.parse().unwrap());
    // For long at a low rate: it is about what adds up.
    let pause = if seconds > 60 { Duration::from_secs(2) } else { Duration::ZERO };
    // Known to each other whatever happens: questions that are lost are asked again after a second, and that would be measured.
    let neighbor = format!("[[neighbor]]\naddress = \"{CLIENT}\"\nmac = \"{CLIENT_MAC}\"\n");
    let config = config(cpus, &neighbor);
    let (ns, lb) = (Namespace::new("client"), Namespace::new("lb"));
    wire((&ns, "eth0"), (&lb, "wan"));
    ns.sh(&format!("ip link set eth0 address {CLIENT_MAC}"));
    ns.interface("eth0", &[&format!("{CLIENT}/24")]);
    ns.sh(&format!("ip neigh replace {VIP} lladdr {WAN_MAC} nud permanent dev eth0"));
    lb.bare_interface("wan");
    let mut lan = ring_port(eal, "churn", 1, 1, RING).unwrap();
    // The driver's sockets are of the namespace in which they are made.
    let engine = lb.inside(|| {
        let wan = eal.attach("net_pcap0", "rx_iface_in=wan,tx_iface=wan").unwrap();
        let ports = vec![
            EnginePort { device: wan, mac: Some(WAN_MAC) },
            EnginePort { device: lan.device, mac: Some(LAN_MAC) },
        ];
        Engine::start_on(eal, &config, ports).unwrap()
    });
    let shown = Shown::new(engine, &config);
    let mut server = Server { pool: pool.clone(), out: lan.collect.remove(0), back: lan.inject.remove(0) };
    let sockets: Vec<UdpSocket> = ns.inside(|| {
        (0..64)
            .map(|_| {
                let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
                socket.connect(SocketAddr::new(VIP.parse().unwrap(), 53)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                socket
            })
            .collect()
    });
    let witness = Witness::start();
    let mempool = || shown.engine.mempool().unwrap();
    let no_mbuf = || shown.engine.ports()[0].stats.rx_no_mbuf;
    let seen = || {
        let stats = shown.engine.ports()[0].stats;
        stats.rx_packets + stats.rx_no_mbuf
    };
    let size = mempool().size;
    assert!(size < RING - 1, "{size} buffers: the ring has to hold them all");

    assert!(
        echoes(&sockets[0], &mut server, Duration::from_secs(5), &witness),
        "no echo before anything has happened"
    );
    // Held pieces, if the kernel has said something odd meanwhile.
    wait_until("buffers come to rest", 20, || {
        let first = mempool().in_use;
        std::thread::sleep(Duration::from_millis(200));
        first == mempool().in_use
    });
    let at_start = mempool().in_use;
    let sent = || {
        let text = ns.sh("cat /sys/class/net/eth0/statistics/tx_packets");
        text.trim().parse::<u64>().unwrap()
    };
    // The kernel has said a few words before the engine listened.
    let mut unseen = 0;
    wait_until("no frame is on its way", 20, || {
        let first = (sent(), seen());
        std::thread::sleep(Duration::from_millis(200));
        unseen = first.0 - first.1;
        first == (sent(), seen())
    });

    let started = Instant::now();
    let (mut cycles, mut slowest, mut turn) = (0_u32, Duration::ZERO, 0_usize);
    while cycles < 3 || started.elapsed() < Duration::from_secs(seconds) {
        let before = no_mbuf();
        // Long: on a busy machine the driver gets little of it.
        let deadline = Instant::now() + Duration::from_secs(300);
        while no_mbuf() < before + LOST {
            assert!(
                Instant::now() < deadline,
                "cycle {cycles}: {:?} and no want of buffers ({})",
                mempool(),
                no_mbuf()
            );
            // No faster than the driver reads, so that nothing is lost but for want of a buffer.
            let mut due = seen();
            for _ in 0..100 {
                turn += 1;
                // Some in fragments; the rest of a datagram whose first piece dies has to wait, and to go.
                let fragmented = turn.is_multiple_of(16);
                let len = if fragmented { 4000 } else { turn * 7 % 1400 };
                sockets[turn % sockets.len()].send(&[7; 4000][..len]).unwrap();
                due += if fragmented { 3 } else { 1 };
            }
            wait_until("the driver reads", 10, || seen() >= due);
        }
        // Relief.
        let relieved = Instant::now();
        // Without thousands of answers, which would be measured.
        drain(&mut server.out, |_| ());
        assert!(
            echoes(&sockets[turn % sockets.len()], &mut server, Duration::from_secs(1), &witness),
            "cycle {cycles}: no echo within a second of relief, {:?}",
            mempool()
        );
        slowest = slowest.max(relieved.elapsed());
        cycles += 1;
        std::thread::sleep(pause);
    }

    // Pieces without their first one wait for up to 15 s.
    wait_until("all buffers are back", 40, || {
        server.serve();
        mempool().in_use == at_start
    });
    let scrape = shown.settled();
    assert_eq!(mempool().in_use, at_start);
    let get = |family: &str| scrape.get(family, &[("port", "wan")]);
    let lost = get("pollux_port_rx_no_mbuf_packets_total");
    assert!(lost >= f64::from(cycles) * LOST as f64);
    // Each frame that the kernel has sent was received, or is counted as lost.
    let (mut given, mut accounted) = (0.0, 1.0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while given != accounted {
        given = (sent() - unseen) as f64;
        let scrape = shown.scrape();
        let families = ["rx", "rx_no_mbuf", "rx_missed"]
            .map(|what| scrape.get(&format!("pollux_port_{what}_packets_total"), &[("port", "wan")]));
        accounted = families.iter().sum();
        assert!(
            given == accounted || Instant::now() < deadline,
            "{given} sent, {families:?} received and lost"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(scrape.get("pollux_mempool_buffers_in_use", &[("pool", "pollux")]), f64::from(at_start));
    eprintln!(
        "{cycles} times exhausted in {:?}: {given} frames, {lost} lost for want of a buffer, of {size} buffers {at_start} in use \
         before and after, recovered within {slowest:?}",
        started.elapsed()
    );
    shown.stop();
}

/// Whether a datagram comes back within so long; stalls of the machine do not count.
fn echoes(socket: &UdpSocket, server: &mut Server, patience: Duration, witness: &Witness) -> bool {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let question = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                server.serve();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let mut heard = false;
        while !heard && began.elapsed() < patience + witness.late(began, Instant::now()) {
            let _ = socket.send(&question);
            let mut answer = [0; 2048];
            while let Ok(n) = socket.recv(&mut answer) {
                if answer[..n] == question {
                    heard = true;
                    break;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap();
        heard
    })
}
