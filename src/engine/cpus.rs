//! Which thread runs where.

use super::EngineError;
use crate::config::Engine;
use crate::dpdk::MAX_LCORES;

/// lcores for workers; one is the thread's that initialises DPDK.
const MOST_WORKERS: usize = MAX_LCORES - 1;

/// The CPUs of the workers: as configured, or the last one. Isolated CPUs (`isolcpus=`) are not in any process's mask, but whoever asks
/// for one may have it.
pub(super) fn of_workers(
    engine: &Engine,
    allowed: &[usize],
    isolated: &[usize],
) -> Result<Vec<usize>, EngineError> {
    let cpus = match &engine.workers[..] {
        [] => allowed.last().copied().into_iter().collect(),
        cpus => cpus.to_vec(),
    };
    if cpus.len() > MOST_WORKERS {
        return Err(EngineError::TooManyWorkers { workers: cpus.len(), most: MOST_WORKERS });
    }
    match cpus.iter().find(|cpu| !allowed.contains(cpu) && !isolated.contains(cpu)) {
        Some(&cpu) => {
            let mut all: Vec<_> = allowed.iter().chain(isolated).copied().collect();
            all.sort_unstable();
            all.dedup();
            Err(EngineError::Cpu { cpu, allowed: ranges(&all) })
        }
        None => Ok(cpus),
    }
}

/// The CPUs of all other threads: as configured, or those without a worker, or, where every CPU has one, all.
pub(super) fn of_control(
    engine: &Engine,
    allowed: &[usize],
    workers: &[usize],
) -> Result<Vec<usize>, EngineError> {
    if let Some(cpu) = engine.main_cpu {
        return if allowed.contains(&cpu) {
            Ok(vec![cpu])
        } else {
            Err(EngineError::Cpu { cpu, allowed: ranges(allowed) })
        };
    }
    let free: Vec<_> = allowed.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
    Ok(if free.is_empty() { allowed.to_vec() } else { free })
}

/// CPUs in short: `0-3,8`.
pub(crate) fn ranges(cpus: &[usize]) -> String {
    let mut text = String::new();
    for run in cpus.chunk_by(|a, b| a + 1 == *b) {
        if !text.is_empty() {
            text.push(',');
        }
        match run {
            [only] => text.push_str(&only.to_string()),
            [first, .., last] => text.push_str(&format!("{first}-{last}")),
            [] => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Idle, OnUnknown, Transit};

    fn engine(workers: &[usize], main_cpu: Option<usize>) -> Engine {
        Engine {
            workers: workers.to_vec(),
            main_cpu,
            hugepages: false,
            memory_mb: 64,
            eal_args: vec![],
            max_flows: 1024,
            burst: 32,
            idle: Idle::Poll,
            on_unknown: OnUnknown::Drop,
            transit: Transit::Drop,
            shutdown_delay: Duration::ZERO,
        }
    }

    #[test]
    fn workers_get_what_they_ask_for_or_the_last() {
        assert_eq!(of_workers(&engine(&[], None), &[0, 1, 3], &[4]).unwrap(), [3]);
        assert_eq!(of_workers(&engine(&[1, 1], None), &[0, 1], &[]).unwrap(), [1, 1]);
        assert_eq!(of_workers(&engine(&[2, 3], None), &[0, 1], &[2, 3]).unwrap(), [2, 3]);
        let error = of_workers(&engine(&[1, 7], None), &[0, 1], &[2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "engine: CPU 7 does not exist or is not allowed to this process, which may use 0-2"
        );
        assert!(of_workers(&engine(&[0; 200], None), &[0], &[]).is_err());
    }

    #[test]
    fn control_threads_keep_off_the_workers_cpus() {
        assert_eq!(of_control(&engine(&[], Some(1)), &[0, 1, 2], &[2]).unwrap(), [1]);
        assert_eq!(of_control(&engine(&[], None), &[0, 1, 2], &[2]).unwrap(), [0, 1]);
        assert_eq!(of_control(&engine(&[], None), &[0, 1], &[1, 0]).unwrap(), [0, 1]);
        assert!(of_control(&engine(&[], Some(9)), &[0, 1], &[1]).is_err());
    }

    #[test]
    fn cpus_in_short() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
    }
}
