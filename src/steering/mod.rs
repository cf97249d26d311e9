//! How clients are spread over the workers: by a hash that a NIC can compute as well as we can.
//!
//! RSS on the source of what clients send, and on the destination of what endpoints send, hashes the same six or eighteen
//! bytes: the client's address and port. Where a device does that with this key, frames come to the worker that owns their
//! connection.
//!
//! Toeplitz is linear over GF(2): who knows the key can aim connections at one worker, and who does not can aim at
//! nothing. The key is random, one for the process, and never leaves it.

mod toeplitz;

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

pub use self::toeplitz::toeplitz;

use self::toeplitz::Tables;
use crate::addr::Addr;
use crate::ids::WorkerId;

/// Bytes of the key: what the devices that want the longest key want.
pub const KEY_LEN: usize = 52;
/// Buckets of the hash, by its low bits; what the redirection tables of devices have, or a multiple.
pub const BUCKETS: usize = 128;
/// Bytes of a client: an IPv6 address and a port.
const INPUT: usize = 18;

/// The key, and which worker has which bucket.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    key: [u8; KEY_LEN],
    workers: [u8; BUCKETS],
}

impl Steering {
    /// From a secret, for this many workers. The buckets are dealt round.
    ///
    /// Of the keys that the secret gives, in their order, the first is taken under which neighbours spread evenly: 128
    /// clients that differ only in the low bits of their port (or every second port, as Linux takes them), of their address,
    /// or of their IPv6 subnet, have one bucket each.
    #[must_use]
    pub fn new(secret: u64, workers: u8) -> Self {
        let mut sip = SipHasher13::new_with_keys(secret, 0x6f77_6e65_7200_0000);
        let mut key = [0; KEY_LEN];
        loop {
            for word in key.chunks_mut(8) {
                sip.write_u8(0);
                word.copy_from_slice(&sip.finish().to_be_bytes()[..word.len()]);
            }
            if SPREAD.iter().all(|&bit| spreads(&key, bit)) {
                break;
            }
        }
        let workers = workers.max(1);
        Self { key, workers: std::array::from_fn(|bucket| (bucket % usize::from(workers)) as u8) }
    }

    /// The key, as devices want it.
    #[must_use]
    pub const fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// The worker of each bucket.
    #[must_use]
    pub fn workers(&self) -> [WorkerId; BUCKETS] {
        self.workers.map(WorkerId)
    }
}

/// The last of seven neighbouring bits of the input: of an IPv4 address, the port behind it, the port but for its last bit;
/// likewise of IPv6, and of the /64.
const SPREAD: [usize; 7] = [31, 47, 46, 127, 143, 142, 63];

/// Whether the seven bits of the input that end with this one select all 128 buckets.
fn spreads(key: &[u8; KEY_LEN], last: usize) -> bool {
    let key_bit = |bit: usize| key[bit / 8] >> (7 - bit % 8) & 1;
    // What each bit of the input does to the low seven bits of the hash: the end of its window of the key.
    let effect = |bit: usize| (bit + 25..bit + 32).fold(0_u8, |low, at| low << 1 | key_bit(at));
    let mut basis = [0_u8; 7];
    (last - 6..=last).all(|bit| {
        let mut rest = effect(bit);
        while rest != 0 {
            let pivot = &mut basis[rest.ilog2() as usize];
            if *pivot == 0 {
                *pivot = rest;
                return true;
            }
            rest ^= *pivot;
        }
        false
    })
}

/// A [`Steering`] in tables: a few ns for a client.
pub struct Clients {
    tables: Tables<INPUT>,
    workers: [u8; BUCKETS],
}

impl Clients {
    /// For this steering.
    #[must_use]
    pub fn new(steering: &Steering) -> Self {
        Self { tables: Tables::new(&steering.key), workers: steering.workers }
    }

    /// The worker of a client's address and port.
    #[inline]
    #[must_use]
    pub fn worker(&self, addr: Addr, port: u16) -> WorkerId {
        let bucket = if addr.is_v4() {
            self.tables.of(0, addr.v4_octets()) ^ self.tables.of(4, port.to_be_bytes())
        } else {
            self.tables.of(0, addr.v6_octets()) ^ self.tables.of(16, port.to_be_bytes())
        };
        WorkerId(self.workers[usize::from(bucket) % BUCKETS])
    }

    /// The worker of a client's port alone.
    #[inline]
    #[must_use]
    pub fn worker_of_port(&self, port: u16) -> WorkerId {
        WorkerId(self.workers[usize::from(self.tables.of(4, port.to_be_bytes())) % BUCKETS])
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the secret.
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
