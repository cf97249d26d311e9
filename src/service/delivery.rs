//! `service.mode`, compiled: what a new connection's entry is told.

use crate::config::Mode;
use crate::conntrack::Form;
use crate::ids::SourceId;
use crate::tables::Slots;
use crate::tunnel::Kind;

/// How packets get to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// What is done with them.
    pub form: Form,
    /// `tunnel_source`, of a tunnel.
    pub source: SourceId,
    /// `gue_port`, of a tunnel with UDP.
    pub port: u16,
}

impl Delivery {
    pub(super) fn compile(mode: Mode, slots: &mut Slots) -> Self {
        let (form, source, port) = match mode {
            Mode::Dnat => (Form::Dnat, None, 0),
            Mode::FullNat(client_address) => (Form::FullNat(client_address), None, 0),
            Mode::DsrL2 => (Form::DsrL2, None, 0),
            Mode::DsrTunnel { kind: Kind::Ipip, source } => (Form::DsrIpip, source, 0),
            Mode::DsrTunnel { kind: Kind::Gue(port), source } => (Form::DsrGue, source, port),
        };
        let source = source.map_or_else(SourceId::default, |addr| slots.source(addr));
        Self { form, source, port }
    }
}
