use super::*;

const V4: u128 = 0xffff_0000_0000;

/// What a device computes, from the key alone.
fn by_device(steering: &Steering, addr: Addr, port: u16) -> WorkerId {
    let port = port.to_be_bytes();
    let input = if addr.is_v4() {
        [&addr.v4_octets()[..], &port].concat()
    } else {
        [&addr.v6_octets()[..], &port].concat()
    };
    steering.workers()[toeplitz(&steering.key()[..40], &input) as usize % BUCKETS]
}

/// A client by its number.
type Pattern<'a> = &'a mut dyn FnMut(u32) -> (Addr, u16);

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[test]
fn a_device_with_the_key_agrees() {
    let mut seed = 1;
    for workers in [1, 2, 3, 4, 16, 128, 255] {
        let steering = Steering::new(random(&mut seed), workers);
        let clients = Clients::new(&steering);
        for _ in 0..200 {
            let (a, b) = (u128::from(random(&mut seed)), u128::from(random(&mut seed)));
            for addr in [Addr(V4 | a & 0xffff_ffff), Addr(a << 64 | b)] {
                let port = (a ^ b) as u16;
                let worker = clients.worker(addr, port);
                assert_eq!(worker, by_device(&steering, addr, port));
                assert!(worker.0 < workers);
            }
        }
    }
}

#[test]
fn the_secret_makes_the_key() {
    let [a, b, c] = [1, 1, 2].map(|secret| Steering::new(secret, 4));
    assert_eq!(a.key(), b.key());
    assert_ne!(a.key(), c.key());
    // No window of it comes again: it is neither periodic nor symmetric.
    let mut windows: Vec<_> = (0..8 * (KEY_LEN - 4))
        .map(|bit| {
            let mut input = [0; KEY_LEN];
            input[bit / 8] = 0x80 >> (bit % 8);
            toeplitz(a.key(), &input)
        })
        .collect();
    windows.sort_unstable();
    windows.dedup();
    assert_eq!(windows.len(), 8 * (KEY_LEN - 4));
}

#[test]
fn neighbours_have_one_bucket_each() {
    let steering = Steering::new(5, 128);
    let clients = Clients::new(&steering);
    let all_differ = |client: &dyn Fn(u16) -> WorkerId| {
        let mut workers: Vec<_> = (0..128).map(|i| client(i).0).collect();
        workers.sort_unstable();
        workers.dedup();
        workers.len() == 128
    };
    let v4 = |host: u16| Addr(V4 | 0xc633_6400 | u128::from(host));
    let v6 = |subnet: u16, host: u16| Addr(0x2001_0db8 << 96 | u128::from(subnet) << 64 | u128::from(host));
    assert!(all_differ(&|i| clients.worker(v4(7), 0x8000 + i)));
    assert!(all_differ(&|i| clients.worker(v4(7), 0x8001 + 2 * i)));
    assert!(all_differ(&|i| clients.worker(v4(i), 443)));
    assert!(all_differ(&|i| clients.worker(v6(0, 7), 0x8000 + i)));
    assert!(all_differ(&|i| clients.worker(v6(0, i), 443)));
    assert!(all_differ(&|i| clients.worker(v6(i, 1), 443)));
    assert!(all_differ(&|i| clients.worker_of_port(0x8000 + i)));
}

/// Chi-squared over the workers: 16 384 clients of each pattern, under several keys. Of a fair hash it exceeds its mean by six
/// standard deviations about never; neighbours do better than that, and what is linear shows as gross unevenness.
#[test]
fn clients_spread_evenly() {
    let mut seed = 3;
    let mut fair = move |_| (Addr(V4 | u128::from(random(&mut seed) as u32)), random(&mut seed) as u16);
    let v6 = |low: u128| Addr(0x2001_0db8 << 96 | low);
    let mut patterns: [(&str, Pattern<'_>); 7] = [
        ("random", &mut fair),
        ("ports", &mut |i| (Addr(V4 | 0x0a00_0001), i as u16)),
        ("addresses", &mut |i| (Addr(V4 | 0x0a00_0000 | u128::from(i)), 40_000)),
        ("addresses and ports", &mut |i| {
            (Addr(V4 | 0x0a00_0000 | u128::from(i >> 8)), 40_000 + (i & 255) as u16)
        }),
        ("IPv6 ports", &mut |i| (v6(1), i as u16)),
        ("IPv6 hosts", &mut |i| (v6(u128::from(i)), 40_000)),
        ("IPv6 subnets", &mut |i| (v6(u128::from(i) << 64 | 1), 40_000)),
    ];
    for secret in 0..8 {
        for workers in [2_u8, 3, 4, 16] {
            let clients = Clients::new(&Steering::new(secret, workers));
            // 128 buckets, dealt round: some workers have one more.
            let shares: Vec<_> = (0..workers)
                .map(|w| f64::from((127 - u32::from(w)) / u32::from(workers) + 1) * 128.0)
                .collect();
            for (name, pattern) in &mut patterns {
                let mut count = vec![0_u32; usize::from(workers)];
                for i in 0..16_384 {
                    let (addr, port) = pattern(i);
                    count[clients.worker(addr, port).index()] += 1;
                }
                let chi: f64 =
                    count.iter().zip(&shares).map(|(&n, share)| (f64::from(n) - share).powi(2) / share).sum();
                let freedom = f64::from(workers - 1);
                let off = (chi - freedom) / (2.0 * freedom).sqrt();
                assert!(off < 12.0, "{name}, key {secret}, {workers} workers: {count:?}");
            }
        }
    }
}
