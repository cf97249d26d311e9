//! CPUs: that they are there, left alone by the kernel, and on the node of memory and NICs.

use std::collections::BTreeSet;

use super::{Finding, Machine, Verdict, pci};
use crate::config::{Config, Idle};
use crate::engine::cpus::ranges;

pub(super) fn check(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![workers(config, machine)];
    if !config.engine.workers.is_empty() && findings[0].verdict != Verdict::Lacks {
        findings.push(isolation(config, machine));
        findings.extend(governor(config, machine));
    }
    findings.extend(nodes(config, machine));
    findings
}

/// The node of the control threads, and so of DPDK's memory; none where it is not configured, or nodes are unknown.
pub(super) fn home(config: &Config, machine: &Machine) -> Option<usize> {
    let cpu = config.engine.main_cpu.or_else(|| config.engine.workers.first().copied())?;
    node_of(machine, cpu)
}

fn node_of(machine: &Machine, cpu: usize) -> Option<usize> {
    machine.nodes().into_iter().find(|(_, cpus)| cpus.contains(&cpu)).map(|(node, _)| node)
}

fn workers(config: &Config, machine: &Machine) -> Finding {
    let subject = "CPUs";
    let wanted = &config.engine.workers;
    let isolated = machine.isolated_cpus();
    let status = machine.text("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut usable = match allowed {
        Some(list) => super::machine::cpu_list(list),
        None => machine.cpus("/sys/devices/system/cpu/online"),
    };
    usable.extend(isolated);
    usable.sort_unstable();
    usable.dedup();
    let all = || wanted.iter().chain(&config.engine.main_cpu).copied();
    let missing: Vec<_> = all().filter(|cpu| !usable.contains(cpu)).collect();
    if !missing.is_empty() {
        let found = format!("there is no CPU {}; this process may use {}", ranges(&missing), ranges(&usable));
        return Finding::lacks(subject, found, "set engine.workers and engine.main_cpu to CPUs of these");
    }
    let distinct: BTreeSet<_> = all().collect();
    if distinct.len() < all().count() {
        let found = "a CPU has several workers, or a worker and the control threads: they take turns";
        return Finding::warn(
            subject,
            found,
            "give each a CPU of its own in engine.workers and engine.main_cpu",
        );
    }
    if wanted.is_empty() {
        return Finding::ok(
            subject,
            format!("one worker, on CPU {}", usable.last().copied().unwrap_or_default()),
        );
    }
    Finding::ok(subject, format!("workers on {}", ranges(&sorted(wanted))))
}

fn sorted(cpus: &[usize]) -> Vec<usize> {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus
}

/// A poll-mode worker that is interrupted by the scheduler or its tick loses packets meanwhile.
fn isolation(config: &Config, machine: &Machine) -> Finding {
    let subject = "isolated CPUs";
    if config.engine.idle != Idle::Poll {
        return Finding::ok(subject, "not needed: workers sleep (engine.idle)");
    }
    let workers = sorted(&config.engine.workers);
    let cmdline = machine.text("/proc/cmdline").unwrap_or_default();
    let given = |key: &str| {
        let word = cmdline.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        // Flags before the list: isolcpus=managed_irq,domain,2-5.
        word.map(super::machine::cpu_list).unwrap_or_default()
    };
    let nohz = machine.cpus("/sys/devices/system/cpu/nohz_full");
    let mut rcu = given("rcu_nocbs");
    // The kernel's own rule: nohz_full implies it.
    rcu.extend(&nohz);
    let sets = [("isolcpus", machine.isolated_cpus()), ("nohz_full", nohz), ("rcu_nocbs", rcu)];
    let short: Vec<_> = sets
        .iter()
        .filter(|(_, cpus)| workers.iter().any(|cpu| !cpus.contains(cpu)))
        .map(|(key, _)| format!("{key}={}", ranges(&workers)))
        .collect();
    if short.is_empty() {
        return Finding::ok(subject, ranges(&workers));
    }
    let found = "the kernel runs other things on the workers' CPUs, or interrupts them with its tick";
    let cure =
        format!("add {} to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot", short.join(" "));
    Finding::warn(subject, found, cure)
}

/// Frequency governors see poll-mode CPUs busy always, but take their time to.
fn governor(config: &Config, machine: &Machine) -> Option<Finding> {
    let path = |cpu: &usize| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let slow: Vec<_> = sorted(&config.engine.workers)
        .into_iter()
        .filter(|cpu| machine.text(path(cpu)).is_some_and(|governor| governor != "performance"))
        .collect();
    if slow.is_empty() || config.engine.idle != Idle::Poll {
        return None;
    }
    let list = ranges(&slow);
    let found = format!("not \"performance\" on CPUs {list}");
    Some(Finding::warn("CPU frequency", found, format!("cpupower -c {list} frequency-set -g performance")))
}

/// Memory and NICs of another node cost each packet a way across.
fn nodes(config: &Config, machine: &Machine) -> Option<Finding> {
    let nodes = machine.nodes();
    if nodes.len() < 2 || config.engine.workers.is_empty() {
        return None;
    }
    let subject = "NUMA nodes";
    let of_cpus: BTreeSet<_> =
        config.engine.workers.iter().filter_map(|&cpu| node_of(machine, cpu)).collect();
    let of_main = config.engine.main_cpu.and_then(|cpu| node_of(machine, cpu));
    let devices: Vec<_> = pci::addresses(config)
        .filter_map(|(port, address)| Some((port, pci::node(machine, &address)?)))
        .collect();
    let all: BTreeSet<_> =
        of_cpus.iter().copied().chain(of_main).chain(devices.iter().map(|(_, node)| *node)).collect();
    let list = |nodes: &BTreeSet<usize>| nodes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if all.len() == 1 {
        return Some(Finding::ok(subject, format!("all on node {}", list(&all))));
    }
    let mut found = format!("workers on node {}", list(&of_cpus));
    if let Some(node) = of_main {
        found += &format!("; engine.main_cpu, and so DPDK's memory, on node {node}");
    }
    for (port, node) in &devices {
        found += &format!("; port {port} on node {node}");
    }
    // The NICs cannot move.
    let wanted = devices.first().map(|(_, node)| *node).or(of_cpus.first().copied())?;
    let cpus = nodes.iter().find(|(node, _)| *node == wanted).map(|(_, cpus)| ranges(cpus))?;
    let cure = format!("engine.workers and engine.main_cpu of node {wanted}: CPUs {cpus}");
    Some(Finding::warn(subject, found, cure))
}
