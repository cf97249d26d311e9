//! `[engine]`

use std::collections::HashSet;
use std::time::Duration;

use super::model::{Engine, Idle, OnUnknown, Transit};
use super::network::Network;
use super::report::Finding;
use super::section::{Section, integer};
use crate::pipeline::MAX_BURST;

/// The highest CPU number that is believed.
const MAX_CPU: u32 = 4095;
/// DPDK numbers at most 128 lcores (`RTE_MAX_LCORE`), and one is the main one's.
const MAX_WORKERS: usize = 127;
/// More would not fit the entries' 32-bit indices with room for what the table keeps beside them.
const MAX_FLOWS: u32 = 1 << 30;

pub(super) fn read(mut s: Section<'_>, net: &Network) -> Engine {
    let workers = s.list("workers", |v| integer(v, &(0..=MAX_CPU)));
    let mut seen = HashSet::new();
    for cpu in &workers {
        if !seen.insert(cpu.value) {
            let message = format!("CPU {} has several workers: correct, but they share its time", cpu.value);
            s.sink.push(
                Finding::warning(cpu.span.clone(), message).help("name each CPU once, unless it is a test"),
            );
        }
    }
    if let (true, Some(span)) = (workers.len() > MAX_WORKERS, s.place("workers")) {
        let message = format!("`workers` of [engine] names {} workers", workers.len());
        s.sink.push(Finding::local(span, message).help(format!("at most {MAX_WORKERS} are possible")));
    }
    let main_cpu = s.integer("main_cpu", 0..=MAX_CPU);
    if let Some(main) = main_cpu.as_ref().filter(|cpu| seen.contains(&cpu.value)) {
        let message =
            format!("`main_cpu` of [engine] is {}, the CPU of a worker too: correct, but slower", main.value);
        s.sink.push(
            Finding::warning(main.span.clone(), message).help("name a CPU without a worker, or leave it out"),
        );
    }
    let transit = s.choice("transit", &[("drop", Transit::Drop), ("kernel", Transit::Kernel)], Transit::Drop);
    if let (Transit::Kernel, Some(false), Some(span)) = (transit, net.has_kernel(), s.place("transit")) {
        let message = "`transit` of [engine] is \"kernel\", but no port has a `kernel` interface".to_owned();
        let help = "give the ports on its way `kernel = \"px-…\"`, or write \"drop\"";
        s.sink.push(Finding::cross(span, message).help(help));
    }
    let engine = Engine {
        transit,
        workers: workers.iter().map(|cpu| cpu.value as usize).collect(),
        main_cpu: main_cpu.map(|cpu| cpu.value as usize),
        hugepages: s.flag("hugepages", true),
        memory_mb: s.integer("memory_mb", 16..=16 << 20).map_or(1024, |l| l.value),
        eal_args: s.texts("eal_args", |text| Ok(text.to_owned())).into_iter().map(|l| l.value).collect(),
        max_flows: s.integer("max_flows", 1..=MAX_FLOWS).map_or(4_000_000, |l| l.value),
        burst: s.integer("burst", 1..=MAX_BURST as u16).map_or(32, |l| l.value),
        idle: s.choice("idle", &[("poll", Idle::Poll), ("backoff", Idle::Backoff)], Idle::Poll),
        on_unknown: s.choice(
            "on_unknown",
            &[("drop", OnUnknown::Drop), ("reset", OnUnknown::Reset), ("pickup", OnUnknown::Pickup)],
            OnUnknown::Drop,
        ),
        shutdown_delay: s
            .duration("shutdown_delay", Duration::ZERO..=Duration::from_secs(3600))
            .map_or(Duration::ZERO, |l| l.value),
    };
    s.finish();
    engine
}
