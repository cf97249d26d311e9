//! Memory: hugepages on the nodes where they are wanted, room for the tables, what may be locked.

use super::{Finding, IPC_LOCK, Machine, Pages, cpus, pci};
use crate::config::Config;
use crate::engine::device::tables_mb;

pub(super) fn check(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings =
        vec![if config.engine.hugepages { hugepages(config, machine) } else { ordinary(config, machine) }];
    findings.extend(tables(config, machine));
    findings.extend(transparent(machine));
    findings.extend(locked(config, machine));
    findings
}

fn ordinary(config: &Config, machine: &Machine) -> Finding {
    let wanted = u64::from(config.engine.memory_mb);
    let subject = "memory";
    let total = machine.memory_mb("MemTotal:").unwrap_or(u64::MAX);
    if wanted > total {
        let found = format!("engine.memory_mb = {wanted}, and this machine has {total} MiB");
        return Finding::lacks(subject, found, "set engine.memory_mb to less");
    }
    let found = format!("ordinary memory, engine.memory_mb = {wanted}");
    if pci::addresses(config).next().is_some() {
        let cure = "engine.hugepages = true, and hugepages for it";
        return Finding::warn(subject, format!("{found}: NICs are faster on hugepages"), cure);
    }
    Finding::ok(subject, found)
}

/// With `--in-memory` EAL takes pages of any size; those of the control threads' node first.
fn hugepages(config: &Config, machine: &Machine) -> Finding {
    let subject = "hugepages";
    let wanted_mb = u64::from(config.engine.memory_mb);
    let sizes = machine.hugepages(None);
    let Some(&Pages { kb, .. }) = sizes.first() else {
        let found = "this kernel has none";
        return Finding::lacks(
            subject,
            found,
            "set engine.hugepages = false, or boot a kernel with CONFIG_HUGETLBFS",
        );
    };
    let free_mb = |pages: &[Pages]| pages.iter().map(|pages| pages.kb * pages.free).sum::<u64>() >> 10;
    let nodes: Vec<_> =
        machine.nodes().into_iter().map(|(node, _)| (node, machine.hugepages(Some(node)))).collect();
    let mut found = format!("engine.memory_mb = {wanted_mb}; free: {} MiB", free_mb(&sizes));
    if nodes.len() > 1 {
        let each = nodes.iter().map(|(node, pages)| format!("{} on node {node}", free_mb(pages)));
        found += &format!(" ({})", each.collect::<Vec<_>>().join(", "));
    }
    let home = cpus::home(config, machine);
    let here = nodes.iter().find(|(node, _)| Some(*node) == home);
    // Of the smallest size, the one that can still be had on a running machine.
    let (folder, pages) = match here {
        Some((node, pages)) if nodes.len() > 1 => {
            (format!("/sys/devices/system/node/node{node}/hugepages"), &pages[..])
        }
        _ => ("/sys/kernel/mm/hugepages".to_owned(), &sizes[..]),
    };
    let reserved = pages.iter().find(|pages| pages.kb == kb).map_or(0, |pages| pages.all);
    let missing = (wanted_mb.saturating_sub(free_mb(pages)) << 10).div_ceil(kb);
    let cure = format!("echo {} > {folder}/hugepages-{kb}kB/nr_hugepages", reserved + missing);
    if free_mb(&sizes) < wanted_mb {
        // An engine that runs here has its own already.
        return Finding::lacks(subject, found, cure);
    }
    if let Some(node) = home
        && nodes.len() > 1
        && free_mb(pages) < wanted_mb
    {
        return Finding::warn(subject, format!("{found}; the engine is on node {node}"), cure);
    }
    Finding::ok(subject, found)
}

fn tables(config: &Config, machine: &Machine) -> Option<Finding> {
    let workers = config.engine.workers.len().max(1);
    let needed = tables_mb(config.engine.max_flows, workers);
    let free = machine.memory_mb("MemAvailable:")?;
    let dpdk = if config.engine.hugepages { 0 } else { u64::from(config.engine.memory_mb) };
    let found = format!(
        "engine.max_flows = {} takes {needed} MiB when the table is full, {} MiB are free",
        config.engine.max_flows,
        free.saturating_sub(dpdk)
    );
    let subject = "connection table";
    Some(if needed + dpdk > free {
        Finding::lacks(subject, found, "set engine.max_flows to less, or free memory")
    } else {
        Finding::ok(subject, found)
    })
}

/// The tables' memory asks for large pages with madvise(2).
fn transparent(machine: &Machine) -> Option<Finding> {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let said = machine.text(path)?;
    let chosen = said.split_once('[')?.1.split_once(']')?.0;
    let subject = "transparent hugepages";
    Some(if chosen == "never" {
        let found = "never: every look into a large connection table misses the TLB";
        Finding::warn(subject, found, format!("echo madvise > {path}"))
    } else {
        Finding::ok(subject, chosen)
    })
}

/// A NIC's DMA memory is locked by VFIO, and counts against the limit.
fn locked(config: &Config, machine: &Machine) -> Option<Finding> {
    pci::addresses(config).next()?;
    let subject = "locked memory";
    if machine.lacks(&[IPC_LOCK]).is_empty() {
        return Some(Finding::ok(subject, "CAP_IPC_LOCK: no limit"));
    }
    let limits = machine.text("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    let limit = line.split_whitespace().next()?;
    let wanted = u64::from(config.engine.memory_mb) << 20;
    Some(match limit.parse::<u64>() {
        Ok(bytes) if bytes < wanted => Finding::lacks(
            subject,
            format!("at most {} MiB, and a NIC needs engine.memory_mb = {}", bytes >> 20, wanted >> 20),
            "LimitMEMLOCK=infinity in the unit, ulimit -l unlimited in a shell, or CAP_IPC_LOCK",
        ),
        _ => Finding::ok(subject, format!("at most {limit}")),
    })
}
