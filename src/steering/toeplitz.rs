//! The Toeplitz hash of RSS (Microsoft, "RSS hashing functions").

/// The hash of an input: the XOR, over its bits that are set, of the 32 bits of the key that begin at that bit. A key of four
/// bytes more than the input covers all of it; what a shorter one lacks counts as 0.
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bits = input.iter().enumerate().flat_map(|(at, byte)| {
        (0..8).filter(move |bit| byte >> (7 - bit) & 1 == 1).map(move |bit| 8 * at + bit)
    });
    bits.fold(0, |hash, bit| hash ^ window(key, bit))
}

/// The 32 bits of the key that begin at this bit.
fn window(key: &[u8], bit: usize) -> u32 {
    let bytes = (bit / 8..).take(5).map(|at| key.get(at).copied().unwrap_or(0));
    let wide = bytes.fold(0_u64, |wide, byte| wide << 8 | u64::from(byte));
    (wide >> (8 - bit % 8)) as u32
}

/// The hash of inputs of up to `N` bytes, modulo 128, by one table for each byte.
pub(super) struct Tables<const N: usize>([[u8; 256]; N]);

impl<const N: usize> Tables<N> {
    pub fn new(key: &[u8]) -> Self {
        let mut tables = [[0; 256]; N];
        for (at, table) in tables.iter_mut().enumerate() {
            for (byte, entry) in (0..).zip(table) {
                *entry = (0..8)
                    .filter(|bit| byte >> (7 - bit) & 1 == 1)
                    .fold(0, |hash, bit| hash ^ window(key, 8 * at + bit) as u8 & 0x7f);
            }
        }
        Self(tables)
    }

    /// The hash of an input whose first byte is byte `at` of the whole, all before it 0.
    #[inline]
    pub fn of<const M: usize>(&self, at: usize, input: [u8; M]) -> u8 {
        self.0.iter().skip(at).zip(input).fold(0, |hash, (table, byte)| hash ^ table[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The key of Microsoft's "Verifying the RSS hash calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn check(addresses: &[u8], ports: (u16, u16), of_addresses: u32, of_all: u32) {
        assert_eq!(toeplitz(&KEY, addresses), of_addresses);
        let all = [addresses, &ports.0.to_be_bytes(), &ports.1.to_be_bytes()].concat();
        assert_eq!(toeplitz(&KEY, &all), of_all);
    }

    #[test]
    fn vectors_of_the_specification() {
        let v4 = |src: &str, dst: &str| [src, dst].map(|a| a.parse::<Ipv4Addr>().unwrap().octets()).concat();
        let v6 = |src: &str, dst: &str| [src, dst].map(|a| a.parse::<Ipv6Addr>().unwrap().octets()).concat();
        check(&v4("66.9.149.187", "161.142.100.80"), (2794, 1766), 0x323e_8fc2, 0x51cc_c178);
        check(&v4("199.92.111.2", "65.69.140.83"), (14230, 4739), 0xd718_262a, 0xc626_b0ea);
        check(&v4("24.19.198.95", "12.22.207.184"), (12898, 38024), 0xd2d0_a5de, 0x5c2b_394a);
        check(&v4("38.27.205.30", "209.142.163.6"), (48228, 2217), 0x8298_9176, 0xafc7_327f);
        check(&v4("153.39.163.191", "202.188.127.2"), (44251, 1303), 0x5d18_09c5, 0x10e8_28a2);
        let (a, b) = ("3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1");
        check(&v6(a, b), (2794, 1766), 0x2cc1_8cd5, 0x4020_7d3d);
        check(&v6("3ffe:501:8::260:97ff:fe40:efab", "ff02::1"), (14230, 4739), 0x0f0c_461c, 0xdde5_1bbf);
        let (a, b) = ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", "fe80::200:f8ff:fe21:67cf");
        check(&v6(a, b), (44251, 38024), 0x4b61_e985, 0x02d1_feef);
    }

    #[test]
    fn tables_give_the_low_bits() {
        let tables = Tables::<18>::new(&KEY);
        let input: [u8; 18] = std::array::from_fn(|i| (i * 37 + 11) as u8);
        for len in 0..=18 {
            let mut some = input;
            some[len..].fill(0);
            assert_eq!(u32::from(tables.of(0, some)), toeplitz(&KEY, &input[..len]) & 0x7f);
        }
        let mut last = [0; 18];
        last[16..].copy_from_slice(&input[16..]);
        assert_eq!(tables.of(16, [input[16], input[17]]), tables.of(0, last));
    }
}
