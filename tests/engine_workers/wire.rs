//! The other ends of the wires: clients and endpoints.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux::config::Config;
use pollux::dpdk::{Eal, Mbuf, Mempool, RingConsumer, RingPort, RingProducer, ring_port};
use pollux::engine::{Engine, EnginePort};
use pollux::pipeline::Frame;

use crate::network::*;

pub struct Wire {
    pub pool: Mempool,
    pub wan_in: RingProducer,
    pub wan_out: RingConsumer,
    pub lan_in: RingProducer,
    pub lan_out: RingConsumer,
    pub endpoints: BTreeMap<(Ipv4Addr, u16), Ipv4Addr>,
    pub replies: Vec<(Ipv4Addr, u16)>,
    pub arps: u64,
    pub wan_sent_bytes: u64,
    pub wan_bytes: u64,
    pub lan_bytes: u64,
}

impl Wire {
    pub fn send_wan(&mut self, bytes: &[u8]) {
        self.wan_sent_bytes += bytes.len() as u64;
        let mut frames = ArrayVec::<Mbuf, 1>::from([self.pool.frame(bytes).unwrap()]);
        assert_eq!(self.wan_in.send(&mut frames), 1);
    }

    /// Plays the endpoints and the clients until so many replies have come back.
    pub fn exchange_until(&mut self, replies: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.replies.len() < replies {
            assert!(Instant::now() < deadline, "{} of {replies} replies", self.replies.len());
            self.exchange();
        }
    }

    pub fn exchange(&mut self) {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        self.lan_out.receive(64, &mut frames);
        let mut answers = ArrayVec::<Mbuf, 64>::new();
        for frame in frames.drain(..) {
            let bytes = frame.data();
            self.lan_bytes += bytes.len() as u64;
            let answer = if bytes[12..14] == [8, 6] {
                self.arps += 1;
                arp_reply(bytes)
            } else {
                assert_eq!(bytes[..12], [endpoint_mac(bytes[33]).0, LAN_MAC.0].concat());
                let client = (address(bytes, 26), u16::from_be_bytes([bytes[34], bytes[35]]));
                let endpoint = address(bytes, 30);
                let before = self.endpoints.insert(client, endpoint);
                assert!(before.is_none_or(|before| before == endpoint), "a connection keeps its endpoint");
                assert_eq!(checksum(&bytes[14..34]), 0);
                udp(
                    (endpoint_mac(bytes[33]), LAN_MAC),
                    (endpoint.octets(), 5353),
                    (client.0.octets(), client.1),
                    b"pong, and a little longer",
                )
            };
            answers.push(self.pool.frame(&answer).unwrap());
        }
        let n = answers.len();
        assert_eq!(self.lan_in.send(&mut answers), n);

        self.wan_out.receive(64, &mut frames);
        for frame in &frames {
            let bytes = frame.data();
            self.wan_bytes += bytes.len() as u64;
            assert_eq!(bytes[..12], [GATEWAY_MAC.0, WAN_MAC.0].concat());
            assert_eq!((address(bytes, 26).octets(), &bytes[34..36]), (VIP, &[0, 53][..]));
            assert_eq!(&bytes[42..67], b"pong, and a little longer");
            assert_eq!(checksum(&bytes[14..34]), 0);
            self.replies.push((address(bytes, 30), u16::from_be_bytes([bytes[36], bytes[37]])));
        }
    }

    /// Waits until the engine has taken what was sent, and some more, so that it has also dealt with it.
    pub fn settle(&mut self, engine: &Engine) {
        while self.wan_in.waiting() + self.lan_in.waiting() > 0 {
            std::thread::yield_now();
        }
        // From one worker's turn into another's, into the queue of the first, and out.
        for _ in 0..4 {
            let later = engine.clock().now().after(Duration::from_millis(20));
            while engine.counters().iter().any(|counters| counters.heartbeat() < later) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Takes what has arrived on the LAN side, and does not answer. How many requests were among it.
    pub fn drain_lan(&mut self) -> u64 {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        self.lan_out.receive(64, &mut frames);
        frames.iter().filter(|frame| frame.data()[12..14] == [8, 0]).count() as u64
    }
}

pub fn start(eal: &Eal, pool: &Mempool, workers: usize, ring: u32) -> (Engine, Wire) {
    start_as(eal, pool, &config(workers), ring)
}

pub fn start_as(eal: &Eal, pool: &Mempool, config: &Config, ring: u32) -> (Engine, Wire) {
    let workers = config.engine.workers.len();
    let [wan, lan] = ports(eal, &format!("w{workers}x{ring}"), ring);
    let ports = vec![
        EnginePort { device: wan.device, mac: Some(WAN_MAC) },
        EnginePort { device: lan.device, mac: Some(LAN_MAC) },
    ];
    let engine = Engine::start_on(eal, config, ports).unwrap();
    let only = |mut ends: Vec<_>| ends.pop().unwrap();
    let wire = Wire {
        pool: pool.clone(),
        wan_in: only(wan.inject),
        wan_out: wan.collect.into_iter().next().unwrap(),
        lan_in: only(lan.inject),
        lan_out: lan.collect.into_iter().next().unwrap(),
        endpoints: BTreeMap::new(),
        replies: Vec::new(),
        arps: 0,
        wan_sent_bytes: 0,
        wan_bytes: 0,
        lan_bytes: 0,
    };
    (engine, wire)
}

pub fn ports(eal: &Eal, name: &str, size: u32) -> [RingPort; 2] {
    ["wan", "lan"].map(|side| ring_port(eal, &format!("{name}{side}"), 1, 1, size).unwrap())
}
