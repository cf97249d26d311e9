//! Connections aimed at one place of a table cost no more than any others. Counted is what a lookup touches, bucket lines and
//! entries, which no busy machine changes.

use std::cell::Cell;

use super::hash::TupleHash;
use super::key::Key;
use super::{Direction, FlowId, Tuple};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::index::Index;

const CONNECTIONS: usize = 1 << 16;

/// The key that Microsoft publishes for RSS and that most NICs come with.
const RSS_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The Toeplitz hash of RSS.
fn toeplitz(input: &[u8]) -> u32 {
    let mut hash = 0;
    for bit in (0..input.len() * 8).filter(|bit| input[bit / 8] >> (7 - bit % 8) & 1 == 1) {
        let (at, shift) = (bit / 8, bit % 8);
        let window = RSS_KEY[at..].iter().chain(&[0; 5]).take(5).fold(0_u64, |w, b| w << 8 | u64::from(*b));
        hash ^= (window >> (8 - shift)) as u32;
    }
    hash
}

/// A tuple in the order in which RSS reads it.
fn bytes(t: &Tuple) -> Vec<u8> {
    let ports = [t.sport.to_be_bytes(), t.dport.to_be_bytes()].concat();
    if t.src.is_v4() {
        [&t.src.v4_octets()[..], &t.dst.v4_octets(), &ports].concat()
    } else {
        [&t.src.v6_octets()[..], &t.dst.v6_octets(), &ports].concat()
    }
}

/// What a client may choose: its port in the low 16 bits, and above them as much of its address as it likes.
fn tuple(free: u128, v4: bool) -> Tuple {
    let (src, dst) = if v4 {
        (0xffff_0000_0000 | free >> 16, 0xffff_cb00_7164)
    } else {
        (0x2001_0db8 << 96 | free >> 16, 0x2001_0db8_0001 << 80 | 0x100)
    };
    Tuple { src: Addr(src), dst: Addr(dst), sport: free as u16, dport: 443, protocol: Protocol::Tcp }
}

/// Tuples of one hash: `hash` is affine over GF(2), so choices that change nothing form a space, and what `bits` free bits leave
/// of it has 2¹⁶ members or more.
fn collide(bits: usize, v4: bool, hash: impl Fn(&Tuple) -> u64) -> Vec<Tuple> {
    let zero = hash(&tuple(0, v4));
    // (effect, choice), brought to echelon form: what has no effect in the end spans the space.
    let mut pivots: Vec<(u64, u128)> = Vec::new();
    let mut kernel = Vec::new();
    for bit in 0..bits {
        let mut row = (hash(&tuple(1 << bit, v4)) ^ zero, 1_u128 << bit);
        for pivot in &pivots {
            if row.0 ^ pivot.0 < row.0 {
                row = (row.0 ^ pivot.0, row.1 ^ pivot.1);
            }
        }
        if row.0 == 0 {
            kernel.push(row.1);
        } else {
            pivots.push(row);
            pivots.sort_by_key(|p| std::cmp::Reverse(p.0));
        }
    }
    assert!(kernel.len() >= 16, "{} of {bits} bits are free", kernel.len());
    let tuples: Vec<_> = (0..CONNECTIONS)
        .map(|n| (0..16).filter(|i| n >> i & 1 == 1).fold(0, |free, i| free ^ kernel[i]))
        .map(|free| tuple(free, v4))
        .collect();
    assert!(tuples.iter().all(|t| hash(t) == zero), "they collide");
    tuples
}

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Enters connections in a table that they fill, and looks each up both ways. How many lines and entries that touches, in all
/// and at worst; `None` where one is refused.
fn cost(clients: &[Tuple], hash: impl Fn(&Tuple) -> u64) -> Option<(usize, usize)> {
    let mut index = Index::new(2 * clients.len());
    let endpoint = |t: &Tuple| Tuple { dst: Addr(t.dst.0 ^ 0xff), dport: 8443, ..*t }.reversed();
    let keys: Vec<(Key, u64)> = (0..)
        .zip(clients)
        .flat_map(|(n, t)| {
            let key = |direction| Key::new(FlowId(n), direction);
            [(key(Direction::Original), hash(t)), (key(Direction::Reply), hash(&endpoint(t)))]
        })
        .collect();
    if !keys.iter().all(|&(key, hash)| index.insert(hash, key)) {
        return None;
    }
    let touched = keys.iter().map(|&(key, hash)| {
        let entries = Cell::new(0);
        let found = index.find(hash, |k| {
            entries.set(entries.get() + 1);
            k == key
        });
        assert_eq!(found, Some(key));
        entries.get() + index.lines_to(key, hash)
    });
    Some(touched.fold((0, 0), |(all, worst), n| (all + n, worst.max(n))))
}

#[test]
fn toeplitz_is_the_one_of_rss() {
    // From Microsoft's "Verifying the RSS hash calculation": 66.9.149.187:2794 to 161.142.100.80:1766.
    let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
    assert_eq!(toeplitz(&input), 0x51cc_c178);
}

#[test]
fn connections_made_to_collide_cost_what_others_cost() {
    let crc = |t: &Tuple| u64::from(crc32c::crc32c(&bytes(t)));
    let rss = |t: &Tuple| u64::from(toeplitz(&bytes(t)));
    let attacks = [
        ("Toeplitz", collide(48, true, rss)),
        ("CRC32c", collide(48, true, crc)),
        ("both", collide(80, false, |t| rss(t) << 32 | crc(t))),
    ];
    let mut seed = 1;
    let fair: Vec<_> = (0..CONNECTIONS).map(|_| tuple(u128::from(random(&mut seed) >> 16), true)).collect();
    for secret in 0..4 {
        let keyed = TupleHash::new((secret, 99));
        let (fair, fair_worst) = cost(&fair, |t| keyed.of(t)).unwrap();
        for (name, attack) in &attacks {
            let (touched, worst) = cost(attack, |t| keyed.of(t)).unwrap();
            assert!(touched <= 2 * fair, "{name}, key {secret}: {touched} lines and entries, others {fair}");
            assert!(worst <= 2 * fair_worst, "{name}, key {secret}: {worst} for one, others {fair_worst}");
        }
    }
    // What would have become of a table without a secret.
    assert_eq!(cost(&attacks[0].1, rss), None);
    assert_eq!(cost(&attacks[1].1, crc), None);
}
