//! How a service's packets get to its endpoints: `mode` and what belongs to it, and `[snat]`.

use std::collections::HashMap;
use std::ops::Range;

use super::model::{ClientAddress, Mode, Protocol, Snat};
use super::network::{Network, special};
use super::report::Finding;
use super::section::{Located, Section};
use super::value::{self, Fault, quote};
use crate::addr::Addr;
use crate::tunnel::Kind;

/// SNAT addresses are tried one after the other where one has no port left, and each takes memory in every worker.
const MAX_SNAT: usize = 64;

/// IANA's port for GUE.
const GUE_PORT: u16 = 6080;

/// `mode` as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Dnat,
    FullNat,
    DsrL2,
    DsrIpip,
    DsrGue,
}

const NAMES: [(&str, Name); 5] = [
    ("dnat", Name::Dnat),
    ("full-nat", Name::FullNat),
    ("dsr-l2", Name::DsrL2),
    ("dsr-ipip", Name::DsrIpip),
    ("dsr-gue", Name::DsrGue),
];

impl Name {
    /// `full-nat`.
    pub fn text(self) -> &'static str {
        NAMES.iter().find(|(_, name)| *name == self).map_or("", |(text, _)| text)
    }

    /// Whether the endpoint answers the client itself, as the VIP.
    pub const fn is_dsr(self) -> bool {
        matches!(self, Self::DsrL2 | Self::DsrIpip | Self::DsrGue)
    }

    const fn is_tunnel(self) -> bool {
        matches!(self, Self::DsrIpip | Self::DsrGue)
    }

    /// Whether endpoints may be of the other family than the VIP.
    pub const fn crosses_families(self) -> bool {
        matches!(self, Self::FullNat) || self.is_tunnel()
    }
}

/// The mode of a service, with the places of what others are checked against.
pub(super) struct Draft {
    pub name: Name,
    pub mode: Mode,
    /// Where `mode` is, or the service.
    pub span: Range<usize>,
    source: Option<Located<Addr>>,
}

/// Reads `mode`, `client_address`, `tunnel_source` and `gue_port`.
pub(super) fn read(s: &mut Section<'_>, protocol: Protocol) -> Draft {
    let chosen = s.chosen("mode", &NAMES);
    let span = chosen.as_ref().map_or(s.span.clone(), |l| l.span.clone());
    let name = chosen.map_or(Name::Dnat, |l| l.value);
    let client_address = client_address(s, name, protocol);
    let source = tunnel_source(s, name);
    let port = s.integer("gue_port", 1..=u16::MAX).map_or(GUE_PORT, |l| l.value);
    let tunnel = |kind| Mode::DsrTunnel { kind, source: source.as_ref().map(|l| l.value) };
    let mode = match name {
        Name::Dnat => Mode::Dnat,
        Name::FullNat => Mode::FullNat(client_address),
        Name::DsrL2 => Mode::DsrL2,
        Name::DsrIpip => tunnel(Kind::Ipip),
        Name::DsrGue => tunnel(Kind::Gue(port)),
    };
    Draft { name, mode, span, source }
}

fn client_address(s: &mut Section<'_>, mode: Name, protocol: Protocol) -> ClientAddress {
    let names =
        [("none", ClientAddress::None), ("toa", ClientAddress::Toa), ("proxy-v2", ClientAddress::ProxyV2)];
    let Some(Located { value, span }) = s.chosen("client_address", &names) else {
        return ClientAddress::None;
    };
    if value == ClientAddress::None {
        return value;
    }
    if mode != Name::FullNat {
        let message = format!("`client_address` of {} has no meaning in mode {}", s.title, mode.text());
        let help = "remove it: the endpoint sees the client's address; or write `mode = \"full-nat\"`";
        s.sink.push(Finding::cross(span, message).help(help));
    } else if protocol != Protocol::Tcp {
        let message = format!("`client_address` of {} is for tcp, not {}", s.title, protocol.name());
        s.sink.push(Finding::cross(span, message).help("remove it"));
    }
    value
}

fn tunnel_source(s: &mut Section<'_>, mode: Name) -> Option<Located<Addr>> {
    let parse = |text: &str| if text.is_empty() { Ok(None) } else { host(text).map(Some) };
    let Located { value, span } = s.parsed("tunnel_source", parse)?;
    let value = value?;
    if !mode.is_tunnel() {
        let message = format!("`tunnel_source` of {} has no meaning in mode {}", s.title, mode.text());
        s.sink.push(Finding::cross(span.clone(), message).help("remove it"));
    }
    Some(Located { value, span })
}

fn host(text: &str) -> Result<Addr, Fault> {
    let addr = value::address(text)?;
    match special(addr) {
        Some(kind) => {
            Err(Fault::new(format!("is {}, {kind} address", quote(text)), "write a host's address"))
        }
        None => Ok(addr),
    }
}

/// What a mode asks of an endpoint.
pub(super) fn check_endpoint(
    e: &Section<'_>,
    mode: &Draft,
    vip: &Located<(Addr, (u16, u16))>,
    (address, port): (Addr, Option<u16>),
    span: &Range<usize>,
    net: &Network,
) {
    let (virtual_address, (first, last)) = vip.value;
    let name = mode.name.text();
    if virtual_address.is_v4() != address.is_v4() && !mode.name.crosses_families() {
        let (own, other) = (family(address), family(virtual_address));
        let message = format!("{} is {own}, but the service's VIP is {other}", e.title);
        let finding = Finding::cross(span.clone(), message).see(vip.span.clone(), "the VIP");
        e.sink.push(finding.help(format!("{name} keeps the family: write an {other} address")));
    }
    if mode.name.is_dsr()
        && let Some(port) = port
        && (first, last) != (port, port)
    {
        let message = format!("{} has port {port}, but the service has another", e.title);
        let finding = Finding::cross(span.clone(), message).see(vip.span.clone(), "the service's port");
        e.sink.push(finding.help(format!("{name} cannot change ports: leave it out")));
    }
    if mode.name == Name::DsrL2 && net.is_connected(address) == Some(false) {
        let message = format!("{} is on no port's own network", e.title);
        let finding = Finding::cross(span.clone(), message).see(mode.span.clone(), "the mode");
        e.sink.push(finding.help("dsr-l2 changes MAC addresses alone, so no router may lie between"));
    }
    if let Some(source) = &mode.source
        && source.value.is_v4() != address.is_v4()
    {
        let message =
            format!("{} is {}, but `tunnel_source` is {}", e.title, family(address), family(source.value));
        let finding = Finding::cross(span.clone(), message).see(source.span.clone(), "the tunnel's source");
        e.sink.push(finding.help("both ends of a tunnel are of one family"));
    }
}

const fn family(a: Addr) -> &'static str {
    if a.is_v4() { "IPv4" } else { "IPv6" }
}

/// `[snat]`, with the places of its addresses.
pub(super) struct SnatDraft {
    pub snat: Snat,
    addresses: Vec<Located<Addr>>,
    span: Option<Range<usize>>,
    whole: bool,
}

/// Reads `[snat]`.
pub(super) fn read_snat(root: &mut Section<'_>, net: &Network) -> SnatDraft {
    let sink = root.sink;
    let before = sink.errors();
    let mut draft = SnatDraft {
        snat: Snat { addresses: Vec::new(), ports: (1024, 65_535) },
        addresses: Vec::new(),
        span: None,
        whole: true,
    };
    let Some(mut s) = root.table("snat", "snat", "[snat]".to_owned()) else {
        draft.whole = sink.errors() == before;
        return draft;
    };
    let addresses = s.texts("addresses", host);
    if let Some(ports) = s.parsed("ports", |text| value::port_range(text, 1)) {
        draft.snat.ports = ports.value;
    }
    let mut first: HashMap<Addr, Range<usize>> = HashMap::new();
    for a in &addresses {
        if let Some(old) = first.insert(a.value, a.span.clone()) {
            let message = format!("`addresses` of [snat] has {} twice", a.value);
            sink.push(
                Finding::cross(a.span.clone(), message).see(old, "the first one is here").help("remove one"),
            );
        }
        if let Some((port, own)) = net.own(a.value) {
            let message = format!("SNAT address {} is an address of port {} itself", a.value, quote(port));
            let finding = Finding::cross(a.span.clone(), message).see(own, "the port's address");
            sink.push(finding.help(
                "what the port says itself would collide with it: take another address of that network",
            ));
        }
    }
    if let Some(extra) = addresses.get(MAX_SNAT) {
        let message = format!("[snat] has {} addresses; at most {MAX_SNAT} are possible", addresses.len());
        sink.push(Finding::local(extra.span.clone(), message));
    }
    draft.snat.addresses = addresses.iter().map(|l| l.value).collect();
    draft.span = Some(s.span.clone());
    draft.addresses = addresses;
    s.finish();
    draft.whole = sink.errors() == before;
    draft
}

impl SnatDraft {
    /// A service that needs SNAT, and one of its endpoints.
    pub fn check(&self, s: &Section<'_>, mode: &Draft, endpoint: &Located<Addr>) -> bool {
        let has = self.snat.addresses.iter().any(|a| a.is_v4() == endpoint.value.is_v4());
        if has || !self.whole || mode.name != Name::FullNat {
            return true;
        }
        let family = family(endpoint.value);
        let message =
            format!("{} needs an {family} address in [snat] for its endpoint {}", s.title, endpoint.value);
        let mut finding =
            Finding::cross(mode.span.clone(), message).see(endpoint.span.clone(), "the endpoint");
        if let Some(span) = &self.span {
            finding = finding.see(span.clone(), "[snat]");
        }
        s.sink.push(
            finding
                .help("add one that the endpoints send to this machine: [snat] with `addresses = [\"…\"]`"),
        );
        false
    }

    /// The place of an address that is one of SNAT's.
    pub fn place(&self, a: Addr) -> Option<Range<usize>> {
        self.addresses.iter().find(|l| l.value == a).map(|l| l.span.clone())
    }
}
