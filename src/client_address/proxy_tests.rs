//! The splice between a model client and a model endpoint, over a wire that loses, doubles, delays and reorders.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::wire::tcp::flag::{ACK, FIN, RST, SYN};

#[test]
fn headers_of_both_families() {
    let v4 = header((Addr::v4([198, 51, 100, 7]), 4000), (Addr::v4([203, 0, 113, 100]), 80));
    assert_eq!(
        v4[..],
        [
            13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x11, 0, 12, 198, 51, 100, 7, 203, 0, 113,
            100, 0x0f, 0xa0, 0, 80
        ]
    );
    let client = Addr(0x2001_0db8 << 96 | 7);
    let v6 = header((client, 4000), (Addr(0x2001_0db8 << 96 | 8), 443));
    assert_eq!((v6.len(), v6[12..16].to_vec()), (52, vec![0x21, 0x21, 0, 36]));
    assert_eq!((v6[16..32].to_vec(), &v6[48..]), (client.v6_octets().to_vec(), &[0x0f, 0xa0, 1, 187][..]));
    assert_eq!((v4.len(), v6.len()), (len(Addr::v4([1; 4])), len(client)));
}

const LEN: u32 = 28;

fn outward(splice: &Splice, flags: u8, seq: u32, payload: u32) -> (u32, bool, u32) {
    let Outward { seq, insert, keep } = splice.outward(flags, seq, payload);
    (seq, insert, keep)
}

#[test]
fn the_header_goes_with_what_begins_the_stream_until_it_is_acknowledged() {
    let mut s = Splice::new(u32::MAX, LEN as usize);
    assert_eq!(outward(&s, SYN, u32::MAX, 9), (u32::MAX, false, 0), "no data in the SYN");
    assert_eq!(outward(&s, ACK, 0, 0), (0, true, 0), "the handshake's last segment");
    assert_eq!(outward(&s, ACK, 0, 100), (0, true, 100));
    assert_eq!(outward(&s, ACK, 100, 100), (128, false, 100));
    assert_eq!(s.inward(0), 0);
    assert_eq!(s.inward(10), 0, "a part of the header");
    assert_eq!(outward(&s, ACK, 0, 100), (0, true, 100), "again");
    assert_eq!(s.inward(28), 0);
    assert_eq!(outward(&s, ACK, 0, 100), (28, false, 100));
    assert_eq!(s.inward(128), 100);
    assert_eq!(s.inward(28), 0, "an old one");
    // Gone round: the number of the first byte comes again, and is nothing special.
    assert_eq!(outward(&s, ACK, 0, 100), (28, false, 100));
    assert_eq!(outward(&s, ACK, u32::MAX, 1), (27, false, 1));
    assert_eq!(s.inward(10), 10_u32.wrapping_sub(LEN));
}

#[test]
fn keep_alives_and_resets_of_a_silent_client() {
    let mut s = Splice::new(499, LEN as usize);
    assert_eq!(outward(&s, ACK, 499, 0), (499, false, 0));
    assert_eq!(outward(&s, ACK, 499, 1), (499, false, 1));
    assert_eq!(outward(&s, ACK, 499, 50), (499, false, 1), "not over the header");
    assert_eq!(outward(&s, RST, 500, 0), (500, false, 0));
    s.inward(500 + 10);
    assert_eq!(outward(&s, RST, 500, 0), (510, false, 0));
    s.inward(500 + LEN);
    assert_eq!(outward(&s, RST, 500, 0), (500 + LEN, false, 0));
    assert_eq!(outward(&s, ACK, 499, 1), (499, false, 1));
    assert_eq!(outward(&s, ACK | FIN, 500, 0), (500 + LEN, false, 0));
}

#[test]
fn blocks() {
    let mut s = Splice::new(999, LEN as usize);
    s.inward(1000);
    // The header is lost, what follows is there: all but the first byte, which stands for the header.
    assert_eq!(s.block(1028, 2028), Some((1001, 2000)));
    assert_eq!(s.block(1528, 2028), Some((1500, 2000)));
    assert_eq!(s.block(1010, 1029), None);
    s.inward(1028);
    assert_eq!(s.block(1528, 2028), Some((1500, 2000)));
    assert_eq!(s.block(1000, 1028), None, "of the header that came twice");
    assert_eq!(s.block(1000, 1128), Some((1000, 1100)), "with what came with it");
    s.inward(2028);
    assert_eq!(s.block(1000, 1128), Some((972, 1100)), "too old to matter");
}

/// On the wire to the endpoint: what it would get.
#[derive(Clone, Debug)]
struct Sent {
    seq: u32,
    bytes: Vec<u8>,
    fin: bool,
}

/// On the wire to the client: the endpoint's own numbers.
#[derive(Clone, Debug)]
struct Answer {
    ack: u32,
    blocks: Vec<(u32, u32)>,
}

struct Client {
    isn: u32,
    data: Vec<u8>,
    /// Offsets in the data; the FIN is at its end.
    una: usize,
    next: usize,
    /// As the blocks say.
    sacked: BTreeSet<usize>,
}

struct Endpoint {
    isn: u32,
    /// By offset in its stream: header, data, and the FIN as a byte.
    got: Vec<Option<u8>>,
    header: Vec<u8>,
    doubled: Option<(u32, u32)>,
}

impl Endpoint {
    fn contiguous(&self) -> usize {
        self.got.iter().position(Option::is_none).unwrap_or(self.got.len())
    }

    /// Takes no more than `room` bytes of it.
    fn receive(&mut self, sent: &Sent, room: usize) {
        let bytes = sent.bytes.iter().copied().chain(sent.fin.then_some(0xff));
        let mut seen_before = true;
        for (n, byte) in bytes.enumerate().take(room) {
            let at = sent.seq.wrapping_add(n as u32).wrapping_sub(self.isn.wrapping_add(1));
            // Before the stream: a keep-alive.
            if at as i32 >= 0 {
                let slot = &mut self.got[at as usize];
                seen_before &= slot.is_some();
                assert!(slot.is_none_or(|old| old == byte), "two different bytes at {at}");
                *slot = Some(byte);
            }
        }
        let end = sent.seq.wrapping_add(sent.bytes.len().min(room) as u32);
        self.doubled =
            (seen_before && sent.bytes.len() <= room && !sent.bytes.is_empty()).then_some((sent.seq, end));
    }

    fn answer(&mut self) -> Answer {
        let first = self.isn.wrapping_add(1);
        let ack = self.contiguous();
        let mut blocks = Vec::from_iter(self.doubled.take());
        let mut at = ack;
        while at < self.got.len() && blocks.len() < 4 {
            let Some(left) = (at..self.got.len()).find(|n| self.got[*n].is_some()) else { break };
            let right = (left..self.got.len()).find(|n| self.got[*n].is_none()).unwrap_or(self.got.len());
            blocks.push((first.wrapping_add(left as u32), first.wrapping_add(right as u32)));
            at = right;
        }
        Answer { ack: first.wrapping_add(ack as u32), blocks }
    }
}

impl Client {
    fn base(&self) -> u32 {
        self.isn.wrapping_add(1)
    }

    /// A segment from an offset on, as the splice and the wire make it.
    fn send(&self, splice: &Splice, at: usize, len: usize, header: &[u8], apart: bool) -> Vec<Sent> {
        let end = (at + len).min(self.data.len());
        let payload = &self.data[at.min(end)..end];
        let fin = len > 0 && end == self.data.len();
        let flags = ACK | if fin { FIN } else { 0 };
        let seq = self.base().wrapping_add(at as u32);
        let out = splice.outward(flags, seq, payload.len() as u32);
        assert_eq!(out.keep as usize, payload.len());
        match (out.insert, apart) {
            (false, _) => vec![Sent { seq: out.seq, bytes: payload.to_vec(), fin }],
            (true, false) => vec![Sent { seq: out.seq, bytes: [header, payload].concat(), fin }],
            (true, true) => vec![
                Sent { seq: out.seq, bytes: header.to_vec(), fin: false },
                Sent { seq: splice.behind(), bytes: payload.to_vec(), fin },
            ],
        }
    }

    /// What the endpoint says must be true of the client's own bytes.
    fn hear(&mut self, answer: &Answer, splice: &mut Splice, endpoint: &Endpoint) {
        let header = endpoint.header.len();
        let ack = splice.inward(answer.ack);
        let acked = ack.wrapping_sub(self.base()) as i32;
        if acked < 0 {
            // Late, and from before the numbers moved.
            assert!(acked >= -(header as i32) && self.una > 0);
            return;
        }
        let acked = acked as usize;
        assert!(acked <= self.next, "acknowledges {acked} of {}", self.next);
        assert!(acked == 0 || endpoint.contiguous() >= header + acked, "acknowledges what did not come");
        self.una = self.una.max(acked);
        for (left, right) in &answer.blocks {
            let Some((left, right)) = splice.block(*left, *right) else { continue };
            let [left, right] = [left, right].map(|edge| edge.wrapping_sub(self.base()) as i32);
            assert!(left < right && right as usize <= self.next, "a block {left}..{right}");
            for at in left.max(0)..right {
                assert!(endpoint.got[header + at as usize].is_some(), "a block over what did not come");
                assert!(at > 0 || endpoint.contiguous() >= header, "the first byte without the header");
                self.sacked.insert(at as usize);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// New data of this length.
    Send(usize),
    /// From the first byte that is not acknowledged, or from the first that no block covers.
    Again(usize, bool),
    /// A pure ACK: the handshake's, or a window update.
    Bare,
    /// A keep-alive.
    Probe,
    /// One from the wire to the endpoint: which, whether it stays on the wire, how many bytes find room.
    Arrive(prop::sample::Index, bool, Option<usize>),
    /// One from the wire to the client: which, whether it stays.
    Hear(prop::sample::Index, bool),
    Lose(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (1..80_usize).prop_map(Act::Send),
        2 => (1..80_usize, any::<bool>()).prop_map(|(n, b)| Act::Again(n, b)),
        1 => Just(Act::Bare),
        1 => Just(Act::Probe),
        5 => (index(), prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..40_usize)).prop_map(|(i, d, r)| Act::Arrive(i, d, r)),
        4 => (index(), prop::bool::weighted(0.2)).prop_map(|(i, d)| Act::Hear(i, d)),
        2 => index().prop_map(Act::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_endpoint_gets_the_header_and_then_the_stream(
        isn in prop_oneof![any::<u32>(), Just(u32::MAX), Just(u32::MAX - 20), Just(u32::MAX / 2 - 10)],
        v6 in any::<bool>(),
        apart in any::<bool>(),
        len in 0..600_usize,
        acts in prop::collection::vec(act(), 0..300),
    ) {
        let header: Vec<u8> = (0..if v6 { 52 } else { 28 }).map(|n| 0x80 | n).collect();
        let data: Vec<u8> = (0..len).map(|n| n as u8 & 0x7f).collect();
        let mut splice = Splice::new(isn, header.len());
        let mut client = Client { isn, data, una: 0, next: 0, sacked: BTreeSet::new() };
        let mut endpoint =
            Endpoint { isn, got: vec![None; header.len() + len + 1], header: header.clone(), doubled: None };
        let (mut out, mut back): (Vec<Sent>, Vec<Answer>) = (Vec::new(), Vec::new());
        // The FIN takes a number, too.
        let whole = len + 1;
        for act in acts {
            match act {
                Act::Send(n) => {
                    if client.next < whole {
                        out.extend(client.send(&splice, client.next, n, &header, apart));
                        client.next = (client.next + n).min(len);
                        if client.next == len { client.next = whole; }
                    }
                }
                Act::Again(n, hole) => {
                    let hole = (client.una..client.next).find(|at| hole && !client.sacked.contains(at));
                    let at = hole.unwrap_or(client.una).min(len);
                    // What was never sent is not sent again.
                    let n = if client.next == whole { n } else { n.min(client.next.saturating_sub(at)) };
                    if n > 0 { out.extend(client.send(&splice, at, n, &header, apart)); }
                }
                Act::Bare => out.extend(client.send(&splice, client.next, 0, &header, apart)),
                Act::Probe if client.una == client.next => {
                    let sent = splice.outward(ACK, client.base().wrapping_add(client.una as u32).wrapping_sub(1), 0);
                    prop_assert!(!sent.insert || client.una == 1);
                }
                Act::Probe => {}
                Act::Arrive(which, stays, room) if !out.is_empty() => {
                    let at = which.index(out.len());
                    let sent = if stays { out[at].clone() } else { out.swap_remove(at) };
                    endpoint.receive(&sent, room.unwrap_or(usize::MAX));
                    back.push(endpoint.answer());
                }
                Act::Hear(which, stays) if !back.is_empty() => {
                    let at = which.index(back.len());
                    let answer = if stays { back[at].clone() } else { back.swap_remove(at) };
                    client.hear(&answer, &mut splice, &endpoint);
                }
                Act::Lose(which) if !out.is_empty() => { out.swap_remove(which.index(out.len())); }
                Act::Arrive(..) | Act::Hear(..) | Act::Lose(_) => {}
            }
        }
        // From here on nothing is lost: a client that repeats what is not acknowledged comes to an end.
        client.next = whole;
        for _ in 0..=whole {
            for sent in client.send(&splice, client.una.min(len), 40, &header, apart) {
                endpoint.receive(&sent, usize::MAX);
            }
            let answer = endpoint.answer();
            client.hear(&answer, &mut splice, &endpoint);
            if client.una == whole { break; }
        }
        prop_assert_eq!(client.una, whole);
        let stream: Vec<u8> = endpoint.got.iter().map(|b| b.unwrap_or(0)).collect();
        prop_assert_eq!(&stream[..header.len()], &header[..]);
        prop_assert_eq!(&stream[header.len()..header.len() + len], &client.data[..]);
    }
}
