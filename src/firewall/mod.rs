//! The firewall: first match wins.
//!
//! Linear in the number of rules, which a packet meets only when it opens a connection or when the rules have changed.
//! Within a rule the cheap comparisons come first.

#[cfg(test)]
mod tests;

use crate::addr::{Addr, Prefix};
use crate::config::{self, Action};
use crate::ids::{PortId, RuleId};
use crate::tables::Slots;

/// The rules, in file order.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    rules: Box<[Rule]>,
}

/// What a rule can look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// Ingress port.
    pub port: PortId,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP, UDP and SCTP ports, source and destination. A rule with ports never matches a packet without.
    pub ports: Option<(u16, u16)>,
}

#[derive(Clone, Debug)]
struct Rule {
    id: RuleId,
    drops: bool,
    port: Option<PortId>,
    protocol: Option<u8>,
    source_port: Option<(u16, u16)>,
    destination_port: Option<(u16, u16)>,
    source: Box<[Net]>,
    destination: Box<[Net]>,
}

/// A prefix with its mask worked out.
#[derive(Clone, Debug)]
struct Net {
    bits: u128,
    mask: u128,
    v4: bool,
}

impl Firewall {
    pub(crate) fn compile(rules: &[config::Rule], slots: &mut Slots) -> Self {
        let nets = |prefixes: &[Prefix]| prefixes.iter().map(Net::new).collect();
        let rules = rules.iter().map(|rule| Rule {
            id: slots.rule(&rule.name),
            drops: rule.action == Action::Drop,
            port: rule.port.map(PortId::at),
            protocol: rule.protocol,
            source_port: rule.source_port,
            destination_port: rule.destination_port,
            source: nets(&rule.source),
            destination: nets(&rule.destination),
        });
        Self { rules: rules.collect() }
    }

    /// The drop rule that is the first match, or none: the packet may pass.
    #[inline]
    #[must_use]
    pub fn dropped_by(&self, subject: &Subject) -> Option<RuleId> {
        let first = self.rules.iter().find(|rule| rule.matches(subject))?;
        first.drops.then_some(first.id)
    }

    /// The rule that is the first match, and whether it drops.
    #[must_use]
    pub fn first_match(&self, subject: &Subject) -> Option<(RuleId, bool)> {
        let first = self.rules.iter().find(|rule| rule.matches(subject))?;
        Some((first.id, first.drops))
    }

    /// Whether there are no rules, and nothing need be asked.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    fn matches(&self, subject: &Subject) -> bool {
        self.port.is_none_or(|port| port == subject.port)
            && self.protocol.is_none_or(|protocol| protocol == subject.protocol)
            && within(self.source_port, subject.ports.map(|(source, _)| source))
            && within(self.destination_port, subject.ports.map(|(_, destination)| destination))
            && within_any(&self.source, subject.src)
            && within_any(&self.destination, subject.dst)
    }
}

/// Whether the port lies in the range; no range takes everything, a range takes no packet without ports.
fn within(range: Option<(u16, u16)>, port: Option<u16>) -> bool {
    range.is_none_or(|(first, last)| port.is_some_and(|port| (first..=last).contains(&port)))
}

/// Whether one of the prefixes contains the address; none at all take everything.
fn within_any(nets: &[Net], addr: Addr) -> bool {
    nets.is_empty() || nets.iter().any(|net| net.contains(addr))
}

impl Net {
    fn new(prefix: &Prefix) -> Self {
        Self { bits: prefix.addr.0 & prefix.mask(), mask: prefix.mask(), v4: prefix.addr.is_v4() }
    }

    fn contains(&self, addr: Addr) -> bool {
        // The family matters for IPv6 prefixes so short that they cover ::ffff:0:0/96, the form in which IPv4 is kept.
        addr.0 & self.mask == self.bits && addr.is_v4() == self.v4
    }
}
