//! What a machine lacks for a configuration, before the engine is started there: `pollux check --system`.
//!
//! Everything is read from `/proc`, `/sys` and `/dev` under a root, and nothing is changed: the tests bring trees of their own.

mod cpus;
mod interfaces;
mod machine;
mod memory;
mod pci;

use serde::Serialize;

use crate::config::Config;
use crate::engine::device;

pub use self::machine::{BPF, Capability, IPC_LOCK, Machine, NET_ADMIN, NET_RAW, Pages};

/// How a machine stands to one need of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// The engine does not start, or the port has no traffic.
    Lacks,
}

impl Verdict {
    /// `ok`, `warn` or `lacks`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Lacks => "lacks",
        }
    }
}

/// What was found about one need.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What it is about: `hugepages`, `port wan: driver`…
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What there is.
    pub found: String,
    /// What to do about it, a command where one does; none where nothing is to be done.
    pub cure: Option<String>,
}

impl Finding {
    fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Ok, found: found.into(), cure: None }
    }

    fn warn(subject: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        let cure = Some(cure.into());
        Self { subject: subject.into(), verdict: Verdict::Warn, found: found.into(), cure }
    }

    fn lacks(subject: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Lacks, ..Self::warn(subject, found, cure) }
    }
}

/// What this configuration finds on this machine, in the order in which it is worth mending.
#[must_use]
pub fn check(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = memory::check(config, machine);
    findings.extend(cpus::check(config, machine));
    findings.extend(pci::check(config, machine));
    findings.extend(interfaces::check(config, machine));
    findings.push(capabilities(config, machine));
    findings
}

/// Those of the calling process: of who runs the check, which should be who runs the engine.
fn capabilities(config: &Config, machine: &Machine) -> Finding {
    let subject = "capabilities";
    let mut needed = device::needed(&config.ports);
    for port in &config.ports {
        if port.device.starts_with("net_af_xdp") {
            needed.push((BPF, format!("port {}: net_af_xdp", port.name)));
            break;
        }
    }
    if pci::addresses(config).next().is_some() {
        needed.push((IPC_LOCK, "DMA memory of NICs".to_owned()));
    }
    let all: Vec<_> = needed.iter().map(|(capability, _)| *capability).collect();
    let lacking = machine.lacks(&all);
    if lacking.is_empty() {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        let none = "none is needed".to_owned();
        return Finding::ok(subject, if names.is_empty() { none } else { names.join(", ") });
    }
    let missing: Vec<_> = needed
        .iter()
        .filter(|(capability, _)| lacking.contains(capability))
        .map(|((name, _), what)| format!("{name} ({what})"))
        .collect();
    let found = format!("this process lacks {}", missing.join(" and "));
    Finding::lacks(
        subject,
        found,
        "run this, and the engine, as root or as the unit does (AmbientCapabilities=)",
    )
}

#[cfg(test)]
mod tests;
