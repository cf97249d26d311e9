//! The engine in trouble, in this process: what hangs is seen, what is full is refused and counted, and what was taken comes
//! back. One test: DPDK is initialised once in a process; the engine on it can be started again and again.
//!
//! Needs root, for network namespaces. `POLLUX_CHURN_SECONDS=3600` runs the churn of buffers for an hour.
#![allow(clippy::unwrap_used)]

mod conntrack;
mod health;
mod mempool;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
mod rig;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
#[path = "../lab/witness.rs"]
mod witness;

use pollux::dpdk::{Mempool, allowed_cpus};
use pollux::engine::Engine;

#[test]
fn faults() {
    net::remove_leftovers();
    let cpus = allowed_cpus();
    let eal = Engine::init_dpdk(&rig::config(&cpus, "")).unwrap();
    let pool = Mempool::new(&eal, "wire", 16_383, 2048).unwrap();
    let bench = rig::Bench { eal, pool, cpus };

    health::a_worker_that_hangs(&bench);
    health::an_aggregator_that_hangs(&bench);
    conntrack::ten_times_its_capacity(&bench);
    mempool::nothing_is_lost_but_packets(&bench);
    assert_eq!(bench.pool.in_use(), 0);
}
