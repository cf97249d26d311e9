use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::config::{ClientAddress, Protocol};
use crate::conntrack::Form;
use crate::ids::{EndpointId, PairSlot, PortId, ServiceId, SourceId};
use crate::pipeline::DropReason;

const KEY: (u64, u64) = (0x0123_4567_89ab_cdef, 42);
const IDLE_MS: u32 = 30_000;

/// An entry may outlive its deadline by the wheel's granularity, not by more.
const TICK_MS: u64 = 128;

fn at(ms: u64) -> Instant {
    Instant::ZERO.after(Duration::from_millis(ms))
}

fn flow(protocol: Protocol, client: u32, client_port: u16) -> Flow {
    Flow {
        client: Addr(0xffff << 32 | u128::from(client)),
        vip: Addr::v4([203, 0, 113, 100]),
        endpoint: Addr::v4([10, 1, 0, 10]),
        client_port,
        vip_port: 80,
        endpoint_port: 8080,
        protocol,
        ingress: PortId(0),
        service: ServiceId(1),
        endpoint_id: EndpointId(2),
        pair: PairSlot(3),
        delta: [0; 2],
        next_hop: [0; 2],
        epoch: 0,
        idle_timeout_ms: IDLE_MS,
        form: Form::Dnat,
        source: SourceId(0),
        source_port: 0,
    }
}

const UDP: L4 = L4::Udp { sport: 1, dport: 2 };

fn tcp(flags: u8, seq: u32, ack: u32) -> L4 {
    L4::Tcp { sport: 1, dport: 2, flags, payload: 0, seq, ack }
}

fn syn() -> L4 {
    tcp(0x02, 100, 0)
}

fn syn_ack() -> L4 {
    tcp(0x12, 500, 101)
}

fn ack() -> L4 {
    tcp(0x10, 101, 501)
}

fn find(table: &Conntrack, flow: &Flow, direction: Direction) -> Option<(FlowId, Direction)> {
    let tuple = flow.tuple(direction);
    table.find(&tuple, table.hash(&tuple))
}

fn expire_all(table: &mut Conntrack, now: Instant) -> Vec<Expired> {
    let mut gone = Vec::new();
    while table.expire(now, 7, |e| gone.push(e)) {}
    gone
}

fn established(table: &mut Conntrack, flow: Flow, now: Instant) -> FlowId {
    let id = table.insert(flow, &syn(), now).unwrap();
    table.step(id, Direction::Reply, &syn_ack(), now);
    let step = table.step(id, Direction::Original, &ack(), now);
    assert_eq!((step.before, step.after), (FlowState::HalfOpen, FlowState::Established));
    id
}

#[test]
fn both_directions_lead_to_the_entry() {
    let mut table = Conntrack::new(10, KEY);
    let flow = flow(Protocol::Tcp, 1, 1000);
    assert_eq!(find(&table, &flow, Direction::Original), None);
    let id = table.insert(flow, &syn(), at(0)).unwrap();
    assert_eq!(find(&table, &flow, Direction::Original), Some((id, Direction::Original)));
    assert_eq!(find(&table, &flow, Direction::Reply), Some((id, Direction::Reply)));
    assert_eq!(table.flow(id), flow);
    assert_eq!(table.state(id), FlowState::HalfOpen);
    assert_eq!(table.len(), 1);
    for other in [
        Tuple { sport: 1001, ..flow.tuple(Direction::Original) },
        Tuple { protocol: Protocol::Udp, ..flow.tuple(Direction::Original) },
        Tuple { dst: flow.endpoint, ..flow.tuple(Direction::Original) },
    ] {
        assert_eq!(table.find(&other, table.hash(&other)), None);
    }
    table.set_next_hop(id, Direction::Original, 7);
    table.set_next_hop(id, Direction::Reply, 8);
    assert_eq!(table.flow(id).next_hop, [7, 8]);
    assert_eq!(table.remove(id).state, FlowState::HalfOpen);
    assert_eq!(find(&table, &flow, Direction::Original), None);
    assert_eq!(find(&table, &flow, Direction::Reply), None);
    assert!(table.is_empty());
}

#[test]
fn a_tuple_of_the_same_hash_must_be_equal_in_every_field() {
    let v4 = flow(Protocol::Tcp, 1, 1000);
    let high = |addr: Addr| Addr(addr.0 | 1 << 100);
    let v6 = Flow { client: high(v4.client), vip: high(v4.vip), endpoint: high(v4.endpoint), ..v4 };
    // A SNAT address stands in its place.
    let own = OwnAddresses::new(&[Addr::v4([10, 1, 0, 2])]);
    let snat = Flow { form: Form::FullNat(ClientAddress::None), source: SourceId(1), source_port: 77, ..v4 };
    for flow in [v4, v6, Flow { form: Form::DsrL2, ..v4 }, snat] {
        let mut table = Conntrack::new(1, KEY);
        table.set_own(own.clone());
        let id = table.insert(flow, &syn(), at(0)).unwrap();
        let view = table.view(id);
        assert_eq!(view.flow(), flow);
        for direction in [Direction::Original, Direction::Reply] {
            let tuple = flow.tuple_by(direction, &own);
            assert_eq!(view.tuple(direction, &own), tuple);
            assert!(view.has_tuple(direction, &tuple, &own));
            let others = [
                Tuple { src: Addr(tuple.src.0 ^ 1), ..tuple },
                Tuple { src: Addr(tuple.src.0 ^ 1 << 127), ..tuple },
                Tuple { dst: Addr(tuple.dst.0 ^ 1), ..tuple },
                Tuple { dst: Addr(tuple.dst.0 ^ 1 << 100), ..tuple },
                Tuple { sport: tuple.sport ^ 1, ..tuple },
                Tuple { dport: tuple.dport ^ 1 << 15, ..tuple },
                Tuple { protocol: Protocol::Udp, ..tuple },
                tuple.reversed(),
            ];
            for other in others {
                assert!(!view.has_tuple(direction, &other, &own), "{direction:?} {other:?}");
            }
        }
    }
}

#[test]
fn a_stale_id_does_nothing() {
    let mut table = Conntrack::new(10, KEY);
    let flow = flow(Protocol::Tcp, 1, 1000);
    let id = table.insert(flow, &syn(), at(0)).unwrap();
    table.remove(id);
    assert_eq!(table.remove(id), Expired { flow, state: FlowState::Closed, error: None });
    assert_eq!(table.state(id), FlowState::Closed);
    let step = table.step(id, Direction::Reply, &syn_ack(), at(5));
    let nothing = Step {
        before: FlowState::Closed,
        after: FlowState::Closed,
        error: None,
        pass: Ok(()),
        answered: None,
    };
    assert_eq!(step, nothing);
    assert!(!table.reopens(id, Direction::Original, &syn()));
    assert_eq!(table.flow(id), flow);
    assert!(table.is_empty());
    assert!(expire_all(&mut table, at(100_000)).is_empty());
}

#[test]
fn a_tuple_in_use_changes_nothing() {
    let mut table = Conntrack::new(1, KEY);
    let first = flow(Protocol::Tcp, 1, 1000);
    let id = table.insert(first, &syn(), at(0)).unwrap();
    // The same connection; another service with the same endpoint; a client that is the endpoint of another.
    let same_reply = Flow { vip_port: 81, ..first };
    let same_original = Flow { endpoint: Addr::v4([10, 1, 0, 11]), ..first };
    let crossing = Flow {
        client: first.vip,
        client_port: first.vip_port,
        endpoint: first.client,
        endpoint_port: first.client_port,
        vip: Addr::v4([203, 0, 113, 101]),
        ..first
    };
    let own = Flow { vip: first.client, vip_port: 7, client: first.client, client_port: 7, ..first };
    let own = Flow { endpoint: own.client, endpoint_port: 7, ..own };
    for flow in [first, same_reply, same_original, crossing, own] {
        assert_eq!(table.insert(flow, &syn(), at(0)), Err(InsertError::TupleInUse));
        assert_eq!(table.len(), 1);
    }
    assert_eq!(find(&table, &first, Direction::Reply), Some((id, Direction::Reply)));
    assert_eq!(find(&table, &same_reply, Direction::Original), None);
    table.remove(id);
    assert!(table.insert(same_reply, &syn(), at(0)).is_ok());
}

#[test]
fn all_of_the_capacity_can_be_used_again_and_again() {
    for capacity in [0, 1, 2, 5, 640, 20_480] {
        let mut table = Conntrack::new(capacity, KEY);
        assert_eq!(table.capacity(), capacity);
        let memory = table.entries.as_ptr();
        for round in 0..3 {
            for n in 0..capacity {
                let flow = flow(Protocol::Udp, round << 24 | n as u32 >> 8, n as u16 & 255);
                assert!(table.insert(flow, &UDP, at(0)).is_ok(), "{n} of {capacity}, round {round}");
            }
            assert_eq!(table.len(), capacity);
            let more = flow(Protocol::Udp, u32::MAX, 1);
            assert_eq!(table.insert(more, &UDP, at(0)), Err(InsertError::Full));
            assert_eq!(find(&table, &more, Direction::Original), None);
            for n in 0..capacity {
                table.remove(FlowId(n as u32));
            }
            assert!(table.is_empty());
        }
        assert_eq!(table.entries.as_ptr(), memory, "the slab does not move");
    }
}

#[test]
fn a_full_pair_of_buckets_is_full_and_changes_nothing() {
    // Two buckets have 20 places. The last connection finds none, or only one of the two that it needs.
    for taken in [0, 1] {
        let mut table = Conntrack::new(100, KEY);
        table.index = Index::new(10); // fewer buckets than there are entries
        let blocker = Key::new(FlowId(99), Direction::Original);
        if taken == 1 {
            assert!(table.index.insert(0, blocker));
        }
        let flows: Vec<_> = (0..11).map(|n| flow(Protocol::Udp, n, 9)).collect();
        let (fit, refused) = flows.split_at(10 - taken);
        assert!(fit.iter().all(|f| table.insert(*f, &UDP, at(0)).is_ok()));
        for f in refused {
            assert_eq!(table.insert(*f, &UDP, at(0)), Err(InsertError::Full));
        }
        assert_eq!((table.len(), table.index.len()), (fit.len(), 20 - taken));
        for direction in [Direction::Original, Direction::Reply] {
            assert!(refused.iter().all(|f| find(&table, f, direction).is_none()));
            assert!(fit.iter().all(|f| find(&table, f, direction).is_some()));
        }
        table.remove(find(&table, &fit[0], Direction::Reply).unwrap().0);
        assert!(table.insert(refused[0], &UDP, at(0)).is_ok());
    }
}

/// Expires alone in a table; says when, in ms, looking every millisecond.
fn expires_at(table: &mut Conntrack, from: u64) -> (u64, Expired) {
    for ms in from.. {
        let mut gone = None;
        table.expire(at(ms), 10, |e| gone = Some(e));
        if let Some(gone) = gone {
            return (ms, gone);
        }
        assert!(ms < from + 1_000_000, "never expires");
    }
    unreachable!()
}

#[test]
fn each_state_expires_at_its_deadline_and_not_before() {
    use FlowState::{Closed, Closing, Established, HalfOpen};
    let start = 12_345;
    let fin = tcp(0x11, 101, 501);
    let rst = tcp(0x14, 501, 101);
    let handshake = [(Direction::Reply, syn_ack()), (Direction::Original, ack())];
    let closing = [handshake[0], handshake[1], (Direction::Original, fin)];
    let reset = [handshake[0], handshake[1], (Direction::Reply, rst)];
    type Case<'a> = (&'a [(Direction, L4)], FlowState, u64, Option<FlowError>);
    let cases: [Case; 5] = [
        (&[], HalfOpen, 10_000, Some(FlowError::TimedOut)),
        (&handshake[..1], HalfOpen, 10_000, Some(FlowError::TimedOut)),
        (&handshake, Established, u64::from(IDLE_MS), None),
        (&closing, Closing, 120_000, None),
        (&reset, Closed, 10_000, None),
    ];
    for (packets, state, timeout, error) in cases {
        let mut table = Conntrack::new(10, KEY);
        let id = table.insert(flow(Protocol::Tcp, 1, 1000), &syn(), at(start)).unwrap();
        let mut last = start;
        for (direction, l4) in packets {
            last += 3_000;
            assert!(expire_all(&mut table, at(last)).is_empty());
            table.step(id, *direction, l4, at(last));
        }
        let (when, gone) = expires_at(&mut table, last);
        assert_eq!((gone.state, gone.error), (state, error));
        assert!((last + timeout..=last + timeout + TICK_MS).contains(&when), "{state:?} at {when}");
        assert!(table.is_empty());
    }
}

#[test]
fn udp_and_sctp_deadlines() {
    let mut table = Conntrack::new(10, KEY);
    let id = table.insert(flow(Protocol::Udp, 1, 1000), &UDP, at(0)).unwrap();
    table.step(id, Direction::Original, &UDP, at(20_000));
    let (when, gone) = expires_at(&mut table, 20_000);
    assert_eq!((gone.state, gone.error), (FlowState::HalfOpen, None));
    assert!((50_000..=50_000 + TICK_MS).contains(&when));

    let init = L4::Sctp { sport: 1, dport: 2, tag: 0, chunks: 2, initiate_tag: 5, reflected: false };
    let from = 60_000;
    let id = table.insert(flow(Protocol::Sctp, 1, 1000), &init, at(from)).unwrap();
    table.step(id, Direction::Original, &init, at(from + 5_000));
    let (when, gone) = expires_at(&mut table, from + 5_000);
    assert_eq!((gone.state, gone.error), (FlowState::HalfOpen, Some(FlowError::TimedOut)));
    assert!(
        (from + 10_000..=from + 10_000 + TICK_MS).contains(&when),
        "a retransmitted INIT does not prolong"
    );
}

#[test]
fn one_error_a_connection() {
    let mut table = Conntrack::new(10, KEY);
    let id = table.insert(flow(Protocol::Tcp, 1, 1000), &syn(), at(0)).unwrap();
    let data = L4::Tcp { sport: 1, dport: 2, flags: 0x10, payload: 9, seq: 1, ack: 101 };
    let step = table.step(id, Direction::Reply, &data, at(1));
    assert_eq!((step.error, step.pass), (Some(FlowError::Violation), Err(DropReason::TcpState)));
    assert_eq!((step.before, step.after), (FlowState::HalfOpen, FlowState::HalfOpen));
    let gone = expire_all(&mut table, at(60_000));
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].error, None);
}

#[test]
fn packets_keep_an_established_connection() {
    let mut table = Conntrack::new(10, KEY);
    let id = established(&mut table, flow(Protocol::Tcp, 1, 1000), at(0));
    let mut now = 0;
    for _ in 0..100 {
        now += u64::from(IDLE_MS) - 1;
        assert!(expire_all(&mut table, at(now)).is_empty());
        table.step(id, Direction::Reply, &tcp(0x10, 501, 101), at(now));
    }
    let (when, _) = expires_at(&mut table, now);
    assert!((now + u64::from(IDLE_MS)..=now + u64::from(IDLE_MS) + TICK_MS).contains(&when));
}

#[test]
fn a_deadline_that_comes_nearer_is_kept() {
    // It hangs 100 s ahead since it was looked at; then it ends, and has 10 s.
    let mut table = Conntrack::new(10, KEY);
    let flow = Flow { idle_timeout_ms: 100_000, ..flow(Protocol::Tcp, 1, 1000) };
    let id = established(&mut table, flow, at(0));
    table.step(id, Direction::Original, &ack(), at(15_000));
    assert!(expire_all(&mut table, at(15_000)).is_empty());
    table.step(id, Direction::Original, &tcp(0x14, 101, 501), at(16_000));
    let (when, gone) = expires_at(&mut table, 16_000);
    assert_eq!((gone.state, gone.error), (FlowState::Closed, None));
    assert!((26_000..=26_000 + TICK_MS).contains(&when), "gone at {when}");
}

#[test]
fn reopens_only_what_is_over_and_only_by_the_client() {
    let mut table = Conntrack::new(10, KEY);
    let flow = flow(Protocol::Tcp, 1, 1000);
    let id = established(&mut table, flow, at(0));
    assert!(!table.reopens(id, Direction::Original, &syn()));
    table.step(id, Direction::Original, &tcp(0x11, 101, 501), at(1));
    assert!(!table.reopens(id, Direction::Original, &syn()));
    table.step(id, Direction::Reply, &tcp(0x11, 501, 102), at(1));
    assert_eq!(table.state(id), FlowState::Closing);
    assert!(table.reopens(id, Direction::Original, &syn()));
    assert!(!table.reopens(id, Direction::Original, &ack()));
    assert!(!table.reopens(id, Direction::Reply, &syn()));
    table.step(id, Direction::Original, &tcp(0x10, 102, 502), at(1));
    assert_eq!(table.state(id), FlowState::Closed);
    assert!(table.reopens(id, Direction::Original, &syn()));
    assert_eq!(table.remove(id), Expired { flow, state: FlowState::Closed, error: None });
    assert_eq!(table.insert(flow, &syn(), at(1)), Ok(id));

    let udp = Flow { protocol: Protocol::Udp, ..flow };
    let id = table.insert(udp, &UDP, at(1)).unwrap();
    assert!(!table.reopens(id, Direction::Original, &UDP));
}

#[test]
fn opening_packets() {
    assert!(opens(&UDP));
    assert!(opens(&syn()));
    assert!(!opens(&syn_ack()));
    let sctp = |chunks| L4::Sctp { sport: 1, dport: 2, tag: 0, chunks, initiate_tag: 9, reflected: false };
    assert!(opens(&sctp(1 << 1)));
    assert!(!opens(&sctp(1 << 2)));
    assert!(!opens(&L4::Icmp { kind: 8, code: 0 }));
    assert!(!opens(&L4::Other));
}

#[test]
fn an_icmp_error_about_a_connection_passes_without_effect() {
    let mut table = Conntrack::new(10, KEY);
    let id = table.insert(flow(Protocol::Udp, 1, 1000), &UDP, at(0)).unwrap();
    let step = table.step(id, Direction::Reply, &L4::Icmp { kind: 3, code: 3 }, at(5_000));
    assert_eq!((step.after, step.error, step.pass), (FlowState::HalfOpen, None, Ok(())));
    let (when, _) = expires_at(&mut table, 5_000);
    assert!(when <= u64::from(IDLE_MS) + TICK_MS, "kept alive until {when}");
}

#[test]
fn the_budget_bounds_a_call_and_nothing_is_lost() {
    let mut table = Conntrack::new(1000, KEY);
    for n in 0..1000 {
        table.insert(flow(Protocol::Udp, n, 1), &UDP, at(u64::from(n))).unwrap();
    }
    let now = at(u64::from(IDLE_MS) + 1000 + TICK_MS);
    let mut gone = 0;
    for call in 1..=100 {
        let more = table.expire(now, 10, |_| gone += 1);
        assert_eq!((gone, more), (call * 10, call < 100));
    }
    assert!(table.is_empty());
    assert!(!table.expire(now, 10, |_| unreachable!()));
    assert!(!table.expire(now, 0, |_| unreachable!()));
}

#[test]
fn a_long_absence_is_one_revolution() {
    // The wheel is behind by hours when live entries hang in it: each is looked at once, and expiry comes to an end.
    let mut table = Conntrack::new(1000, KEY);
    let hours = 10 * 3_600_000;
    for n in 0..500 {
        table.insert(flow(Protocol::Udp, n, 1), &UDP, at(u64::from(n) * 500)).unwrap();
    }
    for n in 500..1000 {
        table.insert(flow(Protocol::Udp, n, 1), &UDP, at(hours + u64::from(n))).unwrap();
    }
    let mut gone = 0;
    assert!(!table.expire(at(hours + 1000), 2000, |e| {
        assert!((e.flow.client.0 as u32) < 500);
        gone += 1;
    }));
    assert_eq!((gone, table.len()), (500, 500));
    assert_eq!(expire_all(&mut table, at(hours + 1000 + u64::from(IDLE_MS) + TICK_MS)).len(), 500);
}

#[test]
fn timeouts_longer_than_a_revolution_and_absurd_ones() {
    for (idle, expected) in [(600_000_u32, 600_000_u64), (u32::MAX, 1 << 30), (0, 0)] {
        let mut table = Conntrack::new(10, KEY);
        let flow = Flow { idle_timeout_ms: idle, ..flow(Protocol::Udp, 1, 1) };
        table.insert(flow, &UDP, at(77)).unwrap();
        let mut now = 77;
        while !table.is_empty() {
            assert!(now <= 77 + expected + 1000, "still there");
            table.expire(at(now), 10, |_| assert!(now >= 77 + expected, "early: {now}"));
            now += if now + 10_000 < expected { 10_000 } else { 64 };
        }
    }
}

#[test]
fn milliseconds_wrap() {
    let wrap = 1 << 32;
    let mut table = Conntrack::new(10, KEY);
    let id = established(&mut table, flow(Protocol::Tcp, 1, 1000), at(wrap - 20_000));
    assert!(expire_all(&mut table, at(wrap + 9_000)).is_empty());
    table.step(id, Direction::Original, &ack(), at(wrap + 9_000));
    assert!(expire_all(&mut table, at(wrap + 38_999)).is_empty());
    assert_eq!(expire_all(&mut table, at(wrap + 39_000 + TICK_MS)).len(), 1);
}

#[test]
fn a_leap_of_any_length_expires_everything_that_was() {
    let day = 86_400_000;
    // 49.7 days and one second is one second, in 32 bits of milliseconds.
    for leap in [day, 24 * day, 25 * day, 49 * day, (1 << 32) + 1000, 3 * (1 << 32) + 1000, 20_000 * day] {
        let mut table = Conntrack::new(10, KEY);
        established(&mut table, flow(Protocol::Tcp, 1, 1), at(5));
        table.insert(flow(Protocol::Udp, 2, 2), &UDP, at(5)).unwrap();
        let fresh = table.insert(flow(Protocol::Udp, 3, 3), &UDP, at(5 + leap)).unwrap();
        assert_eq!(expire_all(&mut table, at(5 + leap)).len(), 2, "after {leap} ms");
        assert_eq!(table.len(), 1);
        assert_eq!(table.state(fresh), FlowState::HalfOpen);
        assert_eq!(expire_all(&mut table, at(5 + leap + u64::from(IDLE_MS) + TICK_MS)).len(), 1);
    }
}

#[test]
fn time_does_not_go_back() {
    let mut table = Conntrack::new(10, KEY);
    let id = table.insert(flow(Protocol::Udp, 1, 1), &UDP, at(100_000)).unwrap();
    table.step(id, Direction::Reply, &UDP, at(120_000));
    table.step(id, Direction::Reply, &UDP, at(50_000));
    assert!(expire_all(&mut table, at(60_000)).is_empty());
    assert!(expire_all(&mut table, at(149_999)).is_empty(), "the packet from the past counts as of 120 s");
    assert_eq!(expire_all(&mut table, at(150_000 + TICK_MS)).len(), 1);
}

#[derive(Clone, Debug)]
enum Op {
    Insert { client: u8, endpoint: u8, tcp: bool, idle_ms: u32 },
    Packet { client: u8, kind: u8, reply: bool },
    Remove { client: u8 },
    Wait { ms: u64 },
    Expire { budget: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let client = || 0..24_u8;
    let idle = prop_oneof![1..2_000_u32, 100_000..1_000_000_u32];
    let wait = prop_oneof![8 => 0..3_000_u64, 3 => 0..400_000_u64, 1 => 0..10_000_000_000_u64];
    let op = prop_oneof![
        6 => (client(), 0..3_u8, any::<bool>(), idle)
            .prop_map(|(client, endpoint, tcp, idle_ms)| Op::Insert { client, endpoint, tcp, idle_ms }),
        6 => (client(), 0..5_u8, any::<bool>()).prop_map(|(client, kind, reply)| Op::Packet { client, kind, reply }),
        2 => client().prop_map(|client| Op::Remove { client }),
        4 => wait.prop_map(|ms| Op::Wait { ms }),
        3 => (0..6_usize).prop_map(|budget| Op::Expire { budget }),
    ];
    prop::collection::vec(op, 1..200)
}

/// What the table should be, in the plainest way: the tuples, and when each connection is due.
#[derive(Default)]
struct Model {
    tuples: HashMap<Tuple, (FlowId, Direction)>,
    live: HashMap<u32, (Flow, u64)>,
}

impl Model {
    fn remove(&mut self, id: FlowId) {
        let (flow, _) = self.live.remove(&id.0).expect("known to the model");
        for direction in [Direction::Original, Direction::Reply] {
            assert_eq!(self.tuples.remove(&flow.tuple(direction)), Some((id, direction)));
        }
    }
}

/// 24 clients, of which pairs share address and port on different VIP ports, so that their tuples may collide.
fn small_flow(client: u8, endpoint: u8, protocol: Protocol, idle_timeout_ms: u32) -> Flow {
    Flow {
        vip_port: 80 + u16::from(client & 1),
        endpoint_port: 8000 + u16::from(endpoint),
        idle_timeout_ms,
        ..flow(protocol, u32::from(client >> 1), 1000)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_model(ops in ops(), capacity in 1..24_usize, key in any::<(u64, u64)>()) {
        let mut table = Conntrack::new(capacity, key);
        let mut model = Model::default();
        let mut now = 0;
        for op in ops {
            match op {
                Op::Insert { client, endpoint, tcp, idle_ms } => {
                    let (protocol, first) = if tcp { (Protocol::Tcp, syn()) } else { (Protocol::Udp, UDP) };
                    let flow = small_flow(client, endpoint, protocol, idle_ms);
                    let tuples = [Direction::Original, Direction::Reply].map(|d| (flow.tuple(d), d));
                    let expected = if tuples.iter().any(|(t, _)| model.tuples.contains_key(t)) {
                        Some(InsertError::TupleInUse)
                    } else if model.live.len() == capacity {
                        Some(InsertError::Full)
                    } else {
                        None
                    };
                    let result = table.insert(flow, &first, at(now));
                    prop_assert_eq!(result.err(), expected);
                    if let Ok(id) = result {
                        let due = now + u64::from(if tcp { 10_000 } else { idle_ms });
                        prop_assert!(model.live.insert(id.0, (flow, due)).is_none());
                        model.tuples.extend(tuples.map(|(t, d)| (t, (id, d))));
                    }
                }
                Op::Packet { client, kind, reply } => {
                    let protocol = if kind == 0 { Protocol::Udp } else { Protocol::Tcp };
                    let l4 = match kind {
                        0 => UDP,
                        1 => syn_ack(),
                        2 => ack(),
                        3 => if reply { tcp(0x11, 501, 101) } else { tcp(0x11, 101, 501) },
                        _ => if reply { tcp(0x14, 501, 101) } else { tcp(0x14, 101, 501) },
                    };
                    let direction = if reply { Direction::Reply } else { Direction::Original };
                    let tuple = small_flow(client, 0, protocol, 0).tuple(direction);
                    let found = table.find(&tuple, table.hash(&tuple));
                    prop_assert_eq!(found, model.tuples.get(&tuple).copied());
                    if let Some((id, direction)) = found {
                        let before = table.entries[id.0 as usize].machine;
                        let step = table.step(id, direction, &l4, at(now));
                        prop_assert_eq!(step.before, before.flow_state());
                        prop_assert_eq!(step.after, table.state(id));
                        // The machines are tested beside them; here the timer must follow what they say.
                        let refresh = before.clone().step(direction, &l4).refresh;
                        prop_assert!(refresh || step.before == step.after);
                        if refresh {
                            let (flow, due) = model.live.get_mut(&id.0).unwrap();
                            let timeout = match (flow.protocol, step.after) {
                                (Protocol::Tcp, FlowState::HalfOpen | FlowState::Closed) => 10_000,
                                (Protocol::Tcp, FlowState::Closing) => 120_000,
                                _ => flow.idle_timeout_ms,
                            };
                            *due = now + u64::from(timeout);
                        }
                    }
                }
                Op::Remove { client } => {
                    let tuple = small_flow(client, 0, Protocol::Udp, 0).tuple(Direction::Original);
                    if let Some((id, _)) = table.find(&tuple, table.hash(&tuple)) {
                        prop_assert_eq!(table.remove(id).flow, model.live[&id.0].0);
                        model.remove(id);
                    }
                }
                Op::Wait { ms } => now += ms,
                Op::Expire { budget } => {
                    let mut gone = Vec::new();
                    let more = table.expire(at(now), budget, |e| gone.push(e));
                    prop_assert!(gone.len() <= budget);
                    for gone in gone {
                        let (id, _) = model.tuples[&gone.flow.tuple(Direction::Original)];
                        let (flow, due) = model.live[&id.0];
                        prop_assert_eq!(flow, gone.flow);
                        prop_assert!(due <= now, "due at {}, gone at {}", due, now);
                        model.remove(id);
                    }
                    if !more {
                        for (flow, due) in model.live.values() {
                            prop_assert!(due + TICK_MS > now, "{flow:?} was due at {due}, is {now}");
                        }
                    }
                }
            }
            prop_assert_eq!(table.len(), model.live.len());
        }
        for (tuple, found) in &model.tuples {
            prop_assert_eq!(table.find(tuple, table.hash(tuple)), Some(*found));
            prop_assert_eq!(table.flow(found.0), model.live[&found.0.0].0);
        }
        // In the end everything goes, each once, and the places with it.
        let gone = expire_all(&mut table, at(now + 2_000_000));
        prop_assert_eq!(gone.len(), model.live.len());
        prop_assert!(table.is_empty());
        for n in 0..capacity {
            prop_assert!(table.insert(flow(Protocol::Udp, 1 << 20, n as u16), &UDP, at(now)).is_ok());
        }
    }
    /// Whatever is on the wire: no panic, at most one error, closed for good, a state that changes begins its timeout.
    #[test]
    fn any_packets_in_any_order(
        tcp in any::<bool>(),
        // Few numbers, and near ones, so that some fit.
        packets in prop::collection::vec((any::<bool>(), any::<u8>(), 0..20_u32, 0..20_u32, any::<u16>()), 0..60),
        base in any::<u32>(),
    ) {
        let packet = |flags, a: u32, b: u32, chunks| {
            if tcp {
                let (seq, ack) = (base.wrapping_add(a), base.wrapping_add(b));
                L4::Tcp { sport: 1, dport: 2, flags, payload: a * b, seq, ack }
            } else {
                let chunks = if flags & 1 == 0 { 1_u16 << (chunks & 15) } else { chunks };
                let reflected = flags & 2 != 0;
                L4::Sctp { sport: 1, dport: 2, tag: a & 3, chunks, initiate_tag: b & 3, reflected }
            }
        };
        let mut table = Conntrack::new(1, KEY);
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Sctp };
        let id = table.insert(flow(protocol, 1, 1), &packet(2, 1, 1, 2), at(0)).unwrap();
        let mut errors = 0;
        let mut now = 0;
        for (reply, flags, a, b, chunks) in packets {
            now += 100;
            let direction = if reply { Direction::Reply } else { Direction::Original };
            let step = table.step(id, direction, &packet(flags, a, b, chunks), at(now));
            errors += usize::from(step.error.is_some());
            prop_assert!(step.before != FlowState::Closed || step.after == FlowState::Closed);
            prop_assert!(step.before == step.after || table.entries[0].touched_ms as u64 == now);
            prop_assert!(step.pass.is_ok() || step.before == step.after);
        }
        let gone = expire_all(&mut table, at(now + 1_000_000));
        prop_assert_eq!(gone.len(), 1);
        errors += usize::from(gone[0].error.is_some());
        prop_assert!(errors <= 1);
    }
}
