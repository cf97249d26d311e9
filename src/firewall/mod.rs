//! The firewall: first match wins.

use crate::addr::Addr;
use crate::ids::{PortId, RuleId};

/// The rules, in file order.
#[derive(Debug)]
pub struct Firewall {}

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

impl Firewall {
    /// The drop rule that is the first match, or none: the packet may pass.
    #[must_use]
    pub fn dropped_by(&self, _subject: &Subject) -> Option<RuleId> {
        todo!()
    }
}
