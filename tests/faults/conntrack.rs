//! A connection table that is full.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pollux::dpdk::{Mempool, RingConsumer, RingProducer, ring_port};
use pollux::engine::{Engine, EnginePort};
use pollux::wire::build;

use crate::rig::{
    Bench, GATEWAY_MAC, LAN_MAC, SERVER_MAC, Shown, Told, VIP, WAN_MAC, config, drain, send, wait_until,
};

const CAPACITY: u32 = 8192;
const ESTABLISHED: u16 = 500;
/// What is read back and forth, and must not be mistaken for growth: stacks, allocators' arenas.
const SLACK_KB: u64 = 2048;

type Client = (Ipv4Addr, u16);

/// Clients and a server whose TCP is just enough.
struct Ends {
    pool: Mempool,
    wan_in: RingProducer,
    wan_out: RingConsumer,
    lan_in: RingProducer,
    lan_out: RingConsumer,
    /// Next sequence numbers of client and server.
    open: BTreeMap<Client, (u32, u32)>,
    /// Clients that are answered; the others only send SYNs.
    served: BTreeSet<Client>,
    /// Answers that came this round.
    heard: BTreeSet<Client>,
}

impl Ends {
    fn offer(&mut self, frame: &[u8]) {
        while !send(&self.pool, &mut self.wan_in, frame) {
            self.exchange();
        }
    }

    /// The server acknowledges and echoes; clients take note.
    fn exchange(&mut self) {
        let mut answers = Vec::new();
        let Self { served, lan_out, .. } = self;
        drain(lan_out, |frame| {
            let Some(Told { src, dst }) = Told::of(frame) else { return };
            if !served.contains(&src) {
                return;
            }
            let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let (seq, ack, payload) = (number(38), number(42), &frame[54..]);
            let answer = build::eth(SERVER_MAC, LAN_MAC).ip(dst.0, src.0).tcp(dst.1, src.1);
            if frame[47] & 0x02 != 0 {
                answers.push(answer.syn().seq(5000).ack(seq + 1).frame());
            } else if !payload.is_empty() {
                answers.push(answer.seq(ack).ack(seq + payload.len() as u32).payload(payload).frame());
            }
        });
        for answer in answers {
            assert!(send(&self.pool, &mut self.lan_in, &answer), "the server's ring is full");
        }
        let Self { heard, open, wan_out, .. } = self;
        drain(wan_out, |frame| {
            let Some(Told { dst, .. }) = Told::of(frame) else { return };
            let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let len = frame.len() as u32 - 54 + u32::from(frame[47] & 0x02 != 0);
            open.insert(dst, (number(42), number(38) + len));
            heard.insert(dst);
        });
    }

    fn syn(&mut self, client: Client) {
        let frame =
            build::eth(GATEWAY_MAC, WAN_MAC).ip(client.0, VIP).tcp(client.1, 80).syn().seq(1000).frame();
        self.offer(&frame);
    }

    fn connect(&mut self, client: Client) {
        self.served.insert(client);
        self.syn(client);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.open.contains_key(&client) {
            assert!(Instant::now() < deadline, "{client:?} is not answered");
            self.exchange();
        }
        let (seq, ack) = self.open[&client];
        let frame =
            build::eth(GATEWAY_MAC, WAN_MAC).ip(client.0, VIP).tcp(client.1, 80).seq(seq).ack(ack).frame();
        self.offer(&frame);
    }

    /// Everybody who has a connection says something, again if need be, and is answered.
    fn everybody_talks(&mut self, what: &str) {
        self.heard.clear();
        let speakers = self.open.clone();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.heard.len() < speakers.len() {
            assert!(Instant::now() < deadline, "{what}: {} of {} talk", self.heard.len(), speakers.len());
            for (client, (seq, ack)) in &speakers {
                if !self.heard.contains(client) {
                    let packet = build::eth(GATEWAY_MAC, WAN_MAC).ip(client.0, VIP).tcp(client.1, 80);
                    self.offer(&packet.seq(*seq).ack(*ack).payload(b"still there?").frame());
                }
            }
            let patience = Instant::now() + Duration::from_millis(100);
            while self.heard.len() < speakers.len() && Instant::now() < patience {
                self.exchange();
            }
        }
    }
}

fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

pub fn ten_times_its_capacity(bench: &Bench) {
    let Bench { eal, pool, cpus } = bench;
    let config = config(cpus, "");
    assert_eq!(config.engine.max_flows, CAPACITY);
    let [wan, lan] = ["fullwan", "fulllan"].map(|name| ring_port(eal, name, 1, 1, 2048).unwrap());
    let ports = vec![
        EnginePort { device: wan.device, mac: Some(WAN_MAC) },
        EnginePort { device: lan.device, mac: Some(LAN_MAC) },
    ];
    let shown = Shown::new(Engine::start_on(eal, &config, ports).unwrap(), &config);
    let only = |mut ends: Vec<_>| ends.pop().unwrap();
    let mut ends = Ends {
        pool: pool.clone(),
        wan_in: only(wan.inject),
        wan_out: wan.collect.into_iter().next().unwrap(),
        lan_in: only(lan.inject),
        lan_out: lan.collect.into_iter().next().unwrap(),
        open: BTreeMap::new(),
        served: BTreeSet::new(),
        heard: BTreeSet::new(),
    };
    for i in 0..ESTABLISHED {
        ends.connect((Ipv4Addr::new(198, 51, 100, i as u8 % 250 + 1), 10_000 + i));
    }
    ends.everybody_talks("an empty table");

    let started = Instant::now();
    let mut offered = 0_u32;
    let mut after_first = 0;
    while offered < 10 * CAPACITY {
        let [_, a, b, c] = offered.to_be_bytes();
        ends.syn((Ipv4Addr::new(100, 64 + a, b, c), 1024 + (offered % 60_000) as u16));
        ends.exchange();
        offered += 1;
        if offered.is_multiple_of(CAPACITY / 2) {
            ends.everybody_talks(&format!("after {offered} more connections than {ESTABLISHED}"));
            shown.scrape();
        }
        if offered == 2 * CAPACITY {
            // The table was full: all that it can take it has taken.
            after_first = rss_kb();
        }
    }
    let grown = rss_kb().saturating_sub(after_first);
    assert!(grown <= SLACK_KB, "{grown} kB more memory after ten times the capacity than after two times");
    eprintln!("{offered} SYNs in {:?}, {grown} kB more memory", started.elapsed());

    let scrape = shown.settled();
    let created = scrape.value("pollux_connections_total");
    let refused = scrape.get("pollux_refused_requests_total", &[("reason", "table_full")]);
    let requests = f64::from(u32::from(ESTABLISHED) + offered);
    // A worker that is kept from its CPU loses some before they are anybody's.
    let lost = scrape.get("pollux_dropped_packets_total", &[("reason", "handoff_full")]);
    assert_eq!(created + refused, scrape.value("total_requests"), "each attempt is created or refused");
    assert!(
        created + refused <= requests && created + refused + lost >= requests,
        "{created} created and {refused} refused of {requests}, {lost} lost between workers"
    );
    assert_eq!(scrape.get("pollux_dropped_packets_total", &[("reason", "conntrack_full")]), refused);
    assert_eq!(scrape.get("pollux_conntrack_insert_failures_total", &[("reason", "table_full")]), refused);
    assert!(refused >= f64::from(offered / 10), "hardly anybody was refused: {refused} of {offered}");
    assert!(scrape.sum("pollux_conntrack_entries") <= f64::from(CAPACITY));
    let established =
        scrape.get("pollux_conntrack_entries", &[("protocol", "tcp"), ("state", "established")]);
    assert_eq!(established, f64::from(ESTABLISHED));

    // Half-open ones time out, and there is room again.
    wait_until("half-open connections time out", 20, || {
        shown.scrape().sum("pollux_conntrack_entries") == f64::from(ESTABLISHED)
    });
    ends.connect((Ipv4Addr::new(198, 51, 100, 251), 9999));
    ends.everybody_talks("an empty table again");
    shown.stop();
    assert_eq!(pool.in_use(), 0);
}
