//! Which CPUs a thread may run on.
//!
//! EAL pins the thread that initialises it, and threads inherit their creator's mask, so every thread's is set.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that the calling thread may run on, ascending.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    sched_getaffinity(None)
        .map(|set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
        .unwrap_or_default()
}

/// Pins the calling thread to one CPU; `false` where it does not exist or is not allowed.
#[must_use]
pub fn pin_to(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// Lets the calling thread run on these CPUs only; `false` and no change where none of them may be used.
pub fn restrict_to(cpus: &[usize]) -> bool {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_and_released() {
        std::thread::spawn(|| {
            let all = allowed_cpus();
            let last = *all.last().unwrap();
            assert!(pin_to(last));
            assert_eq!(allowed_cpus(), [last]);
            assert!(restrict_to(&all));
            assert_eq!(allowed_cpus(), all);
            assert!(!restrict_to(&[]));
        })
        .join()
        .unwrap();
    }
}
