//! Receive-side scaling: which hash a device is asked for, its key, and its redirection table.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_rss_reta_entry64};

use crate::config::Role;
use crate::steering::{BUCKETS, KEY_LEN};

/// How a device shall spread frames over its RX queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssSetup {
    /// Whose packets come in: clients are on the source side of what they send, and on the destination side of what is sent to
    /// them.
    pub role: Role,
    /// The Toeplitz key, or what of it the device wants.
    pub key: [u8; KEY_LEN],
    /// The queue of each bucket: of each value of the hash, modulo their number.
    pub queues: [u16; BUCKETS],
}

/// How a device spreads frames over its RX queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rss {
    /// It does not, or in a way of its own.
    #[default]
    None,
    /// By a hash of both addresses and ports.
    Tuple,
    /// By a hash of the client's address and port, with the key and the queues asked for.
    Client,
}

/// Bytes of a key that cover an IPv6 address and a port.
const KEY_OF_CLIENT: usize = 18 + 4;

/// The hash functions asked for: addresses, and ports where there are some.
const FUNCTIONS: u64 =
    dpdk_sys::PX_RSS_IP | dpdk_sys::PX_RSS_TCP | dpdk_sys::PX_RSS_UDP | dpdk_sys::PX_RSS_SCTP;

/// Entries of a redirection table that DPDK reads or writes together.
const GROUP: usize = 64;

/// Whether a device spreads frames by a hash.
pub(super) fn offered(info: &rte_eth_dev_info) -> bool {
    info.flow_type_rss_offloads & FUNCTIONS != 0
}

/// The hash functions to ask for, and what they amount to.
fn functions(role: Role, offered: u64) -> (u64, Rss) {
    let one_side = match role {
        Role::Client => dpdk_sys::PX_RSS_L3_SRC_ONLY | dpdk_sys::PX_RSS_L4_SRC_ONLY,
        Role::Server => dpdk_sys::PX_RSS_L3_DST_ONLY | dpdk_sys::PX_RSS_L4_DST_ONLY,
        Role::Both => 0,
    };
    let functions = FUNCTIONS & offered;
    let ports = dpdk_sys::PX_RSS_TCP_UDP;
    if functions == 0 {
        (0, Rss::None)
    } else if one_side != 0 && one_side & !offered == 0 && functions & ports == ports {
        (functions | one_side, Rss::Client)
    } else {
        (functions, Rss::Tuple)
    }
}

/// Whether a redirection table of this size, filled with `queues` over and over or with the first of them, sends every hash
/// to the queue of its bucket. Devices look up the low bits of the hash.
fn fits(size: u16, queues: &[u16; BUCKETS]) -> bool {
    let size = usize::from(size);
    size.is_power_of_two() && (0..BUCKETS).all(|bucket| queues[bucket] == queues[bucket % size])
}

impl RssSetup {
    /// The key in the length that the device wants; empty where it does not say.
    pub(super) fn key_for(&self, info: &rte_eth_dev_info) -> Vec<u8> {
        self.key.iter().copied().cycle().take(info.hash_key_size.into()).collect()
    }

    /// Writes into a configuration what the device can of it. `key` has to live as long as `conf` is used.
    pub(super) fn ask(&self, info: &rte_eth_dev_info, key: &mut [u8], conf: &mut rte_eth_conf) -> Rss {
        let (functions, by) = functions(self.role, info.flow_type_rss_offloads);
        if by == Rss::None {
            return by;
        }
        conf.rxmode.mq_mode = dpdk_sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
        let rss = &mut conf.rx_adv_conf.rss_conf;
        rss.rss_hf = functions;
        // Without one the device has a key of its own.
        if !key.is_empty() {
            rss.rss_key = key.as_mut_ptr();
            rss.rss_key_len = info.hash_key_size;
        }
        if key.len() < KEY_OF_CLIENT { Rss::Tuple } else { by }
    }

    /// Fills the redirection table of a started port that hashes so, and says what has come of it.
    pub(super) fn redirect(&self, id: u16, info: &rte_eth_dev_info, by: Rss) -> Rss {
        let size = info.reta_size;
        if size == 0 {
            return by.min_tuple();
        }
        let mut groups = groups(size);
        for (entry, queue) in (0..usize::from(size)).zip(self.queues.iter().cycle()) {
            groups[entry / GROUP].reta[entry % GROUP] = *queue;
        }
        // SAFETY: the port exists and was configured; `groups` covers `size` entries and is ours.
        let ret = unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(id, groups.as_mut_ptr(), size) };
        // A device that keeps a table of its own still spreads.
        if ret != 0 || !fits(size, &self.queues) {
            return by.min_tuple();
        }
        // One that does not show its table is believed.
        match redirection(id, size) {
            Some(table) if table.iter().zip(self.queues.iter().cycle()).any(|(a, b)| a != b) => {
                by.min_tuple()
            }
            _ => by,
        }
    }
}

impl Rss {
    /// What is left of it without the right table.
    fn min_tuple(self) -> Self {
        if self == Self::Client { Self::Tuple } else { self }
    }
}

/// Reads a redirection table of this size.
pub(super) fn redirection(id: u16, size: u16) -> Option<Vec<u16>> {
    let mut groups = groups(size);
    // SAFETY: the port exists; `groups` covers `size` entries and is ours.
    let ret = unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(id, groups.as_mut_ptr(), size) };
    (ret == 0).then(|| groups.iter().flat_map(|group| group.reta).take(size.into()).collect())
}

/// Room for so many entries, all of them meant.
fn groups(size: u16) -> Vec<rte_eth_rss_reta_entry64> {
    let size = usize::from(size);
    let group = |first: usize| rte_eth_rss_reta_entry64 {
        mask: u64::MAX >> (GROUP - (size - first).min(GROUP)),
        ..Default::default()
    };
    (0..size).step_by(GROUP).map(group).collect()
}

#[cfg(test)]
mod tests {
    use dpdk_sys::*;

    use super::*;
    use crate::steering::{Steering, toeplitz};

    #[test]
    fn toeplitz_is_dpdks() {
        for secret in 0..20 {
            let steering = Steering::new(secret, 4);
            let key = steering.key();
            let input: Vec<u8> = (0..36).map(|i| key[i] ^ (i * 7) as u8).collect();
            for words in 1..=9 {
                let input = &input[..4 * words];
                let mut cpu_order: Vec<u32> =
                    input.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
                // Aligned, as DPDK reads words of it.
                let aligned: Vec<u32> =
                    key.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
                // SAFETY: there are `words` words, and a key of 13 ≥ `words` + 1.
                let theirs =
                    unsafe { px_softrss(cpu_order.as_mut_ptr(), words as u32, aligned.as_ptr().cast()) };
                assert_eq!(toeplitz(key, input), theirs);
            }
        }
    }

    #[test]
    fn one_side_where_the_device_can() {
        let tuple = PX_RSS_IP | PX_RSS_TCP | PX_RSS_UDP;
        let sides = PX_RSS_L3_SRC_ONLY | PX_RSS_L4_SRC_ONLY | PX_RSS_L3_DST_ONLY | PX_RSS_L4_DST_ONLY;
        let all = tuple | sides;
        let source = tuple | PX_RSS_L3_SRC_ONLY | PX_RSS_L4_SRC_ONLY;
        assert_eq!(functions(Role::Client, all), (source, Rss::Client));
        let destination = tuple | PX_RSS_L3_DST_ONLY | PX_RSS_L4_DST_ONLY;
        assert_eq!(functions(Role::Server, all), (destination, Rss::Client));
        assert_eq!(functions(Role::Both, all), (tuple, Rss::Tuple));
        assert_eq!(functions(Role::Server, source), (tuple, Rss::Tuple));
        assert_eq!(functions(Role::Client, all & !PX_RSS_L4_SRC_ONLY), (tuple, Rss::Tuple));
        assert_eq!(functions(Role::Client, PX_RSS_IP | sides), (PX_RSS_IP, Rss::Tuple));
        assert_eq!(functions(Role::Client, sides), (0, Rss::None));
    }

    #[test]
    fn smaller_tables_fit_where_the_queues_repeat() {
        let dealt = |n: usize| std::array::from_fn(|bucket| (bucket % n) as u16);
        for queues in [2, 3, 4, 5, 8] {
            for size in [128, 256, 512, 4096] {
                assert!(fits(size, &dealt(queues)), "{queues} queues, {size} entries");
            }
            for size in [1, 2, 4, 8, 16, 32, 64] {
                let whole = usize::from(size) % queues == 0;
                assert_eq!(fits(size, &dealt(queues)), whole, "{queues} queues, {size} entries");
            }
            assert!(!fits(0, &dealt(queues)) && !fits(192, &dealt(queues)));
        }
    }

    #[test]
    fn groups_mean_what_there_is() {
        assert_eq!(groups(128).iter().map(|g| g.mask).collect::<Vec<_>>(), [u64::MAX; 2]);
        assert_eq!(groups(64 + 3).iter().map(|g| g.mask).collect::<Vec<_>>(), [u64::MAX, 7]);
        assert_eq!(groups(4)[0].mask, 15);
        assert!(groups(0).is_empty());
    }
}
