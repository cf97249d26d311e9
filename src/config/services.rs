//! `[[service]]` and its endpoints

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::health;
use super::model::{Algorithm, Config, Endpoint, EndpointState, Loss, Protocol, Refusal, Service};
use super::modes::{self, SnatDraft};
use super::names;
use super::network::{Network, special};
use super::report::{Finding, Sink};
use super::secondary::Secondary;
use super::section::{Located, Section, Title, text};
use super::server_ids::ServerIds;
use super::share::Finder;
use super::value::{self, Fault, quote};
use crate::addr::Addr;

/// The greatest Maglev table: 32 MiB of slots per service.
const MAX_MAGLEV: u32 = 1 << 24;
/// A table this many times the number of endpoints keeps shares within about one percent (Eisenbud et al., §5.3).
const MAGLEV_SLOTS_PER_ENDPOINT: usize = 100;

/// Tables name endpoints with 16 bits.
const MAX_ENDPOINTS: usize = 65_535;
/// Longer than this a client address is hardly the same client.
const MAX_PERSISTENCE: Duration = Duration::from_secs(30 * 86_400);
/// The longest slow start.
const MAX_SLOW_START: Duration = Duration::from_secs(86_400);

/// Virtual address and ports.
type Vip = (Addr, (u16, u16));

/// By their names; the tables' sizes are filled in later.
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("maglev", Algorithm::Maglev { size: 0 }),
    ("round-robin", Algorithm::RoundRobin),
    ("least-connections", Algorithm::LeastConnections),
    ("source-hash", Algorithm::SourceHash { size: 0 }),
];

/// A service with the places of what others refer to.
struct Draft<'a> {
    service: Arc<Service>,
    title: Title<'a>,
    name: Option<Located<String>>,
    vip: Option<Located<Vip>>,
    /// Its further VIPs, with the ports of the first.
    secondary: Vec<Located<Vip>>,
    endpoints: Vec<Located<Addr>>,
}

/// Reads all services; those that are the same in `before` are its objects.
pub(super) fn read(
    root: &mut Section<'_>,
    net: &Network,
    snat: &SnatDraft,
    before: Option<&Config>,
) -> Vec<Arc<Service>> {
    let sink = root.sink;
    let sections = root.tables("service", "service", "name");
    if sections.is_empty() && root.place("service").is_none() {
        let finding = Finding::warning(0..0, "the configuration has no service: nothing is balanced");
        sink.push(finding.help("add a [[service]] with `name`, `vip` and endpoints"));
    }
    let before = before.map(Finder::new);
    let drafts = sections.into_iter().enumerate().map(|(place, s)| {
        let mut draft = service(s, net, snat);
        if let Some(before) = &before {
            draft.service = before.share(place, draft.service);
        }
        draft
    });
    let drafts: Vec<Draft<'_>> = drafts.collect();
    names::check_unique(sink, "service", drafts.iter().filter_map(|d| d.name.as_ref()));
    check_overlaps(sink, &drafts);
    check_loops(sink, &drafts);
    check_snat(sink, &drafts, snat);
    drafts.into_iter().map(|d| d.service).collect()
}

fn service<'a>(mut s: Section<'a>, net: &Network, snat: &SnatDraft) -> Draft<'a> {
    let name = names::read(&mut s, "\"web\"");
    let vip = s.require("vip", "\"203.0.113.100:80\"", |v| vip(text(v)?));
    let protocol = s.choice("protocol", &Protocol::ALL.map(|p| (p.name(), p)), Protocol::Tcp);
    let mode = modes::read(&mut s, protocol);
    let chosen = s.chosen("algorithm", &ALGORITHMS).map_or(Algorithm::Maglev { size: 0 }, |l| l.value);
    let size = s.integer("maglev_size", 2..=MAX_MAGLEV);
    if let Some(size) = &size {
        check_prime(&s, size);
    }
    let size_value = size.as_ref().map_or(65_537, |l| l.value);
    let (algorithm, has_table) = match chosen {
        Algorithm::Maglev { .. } => (Algorithm::Maglev { size: size_value }, true),
        Algorithm::SourceHash { .. } => (Algorithm::SourceHash { size: size_value }, true),
        other => (other, false),
    };
    let persistence =
        s.duration("persistence", Duration::ZERO..=MAX_PERSISTENCE).map_or(Duration::ZERO, |l| l.value);
    let idle_default = match protocol {
        Protocol::Tcp | Protocol::Sctp => Duration::from_secs(240),
        Protocol::Udp => Duration::from_secs(20),
    };
    // The table counts in milliseconds of 32 bits.
    let idle_range = Duration::from_millis(100)..=Duration::from_secs(30 * 86_400);
    let idle_timeout = s.duration("idle_timeout", idle_range).map_or(idle_default, |l| l.value);
    let on_no_endpoint =
        s.choice("on_no_endpoint", &[("drop", Refusal::Drop), ("reject", Refusal::Reject)], Refusal::Drop);
    let on_endpoint_down =
        s.choice("on_endpoint_down", &[("keep", Loss::Keep), ("reset", Loss::Reset)], Loss::Keep);
    let on_endpoint_removed =
        s.choice("on_endpoint_removed", &[("drain", Loss::Keep), ("reset", Loss::Reset)], Loss::Keep);
    let slow_start =
        s.duration("slow_start", Duration::ZERO..=MAX_SLOW_START).map_or(Duration::ZERO, |l| l.value);
    let mut server_ids = ServerIds::read(&mut s, protocol);
    let secondary = Secondary::read(&mut s, protocol, mode.name, vip.as_ref().map(|l| l.value.0));
    let (endpoints, places) = endpoints(&mut s, net, vip.as_ref(), &secondary, &mode, &mut server_ids);
    let checked = s.table("health_check", "service.health_check", format!("health_check of {}", s.title));
    let own_port =
        vip.as_ref().map(|l| l.value.1).filter(|(first, last)| first == last).map_or(0, |(p, _)| p);
    let address = vip.as_ref().map(|l| l.value.0);
    let checks =
        health::Checked { mode: mode.name, vip: address, endpoints: &endpoints, port: own_port, net };
    let health_check = checked.and_then(|table| health::read(table, &checks));
    // One complaint is enough.
    let _ = places.iter().all(|endpoint| snat.check(&s, &mode, endpoint));
    if has_table {
        check_maglev_size(&s, size.map_or(s.span.clone(), |l| l.span), size_value, endpoints.len());
    }
    let (vip_addr, (first_port, last_port)) = vip.as_ref().map_or((Addr::default(), (0, 0)), |l| l.value);
    let draft = Draft {
        service: Arc::new(Service {
            name: name.as_ref().map_or_else(String::new, |l| l.value.clone()),
            vip: vip_addr,
            secondary_vips: secondary.0.iter().map(|l| l.value).collect(),
            first_port,
            last_port,
            protocol,
            mode: mode.mode,
            algorithm,
            persistence,
            idle_timeout,
            on_no_endpoint,
            quic_server_id_bytes: server_ids.bytes,
            on_endpoint_down,
            on_endpoint_removed,
            slow_start,
            health_check,
            endpoints,
        }),
        title: s.title.clone(),
        name,
        secondary: match &vip {
            Some(vip) => secondary
                .0
                .into_iter()
                .map(|l| Located { value: (l.value, vip.value.1), span: l.span })
                .collect(),
            None => Vec::new(),
        },
        vip,
        endpoints: places,
    };
    s.finish();
    draft
}

fn vip(text: &str) -> Result<Vip, Fault> {
    let (addr, ports) = value::address_ports(text)?;
    if let Some(kind) = special(addr) {
        return Err(Fault::new(
            format!("is {}, {kind} address", quote(text)),
            "a virtual address is an ordinary one that the routers send here",
        ));
    }
    let ports = ports.ok_or_else(|| {
        let shown = if addr.is_v4() { addr.to_string() } else { format!("[{addr}]") };
        Fault::new(format!("is {}, which has no port", quote(text)), format!("add it: \"{shown}:80\""))
    })?;
    Ok((addr, ports))
}

fn check_prime(s: &Section<'_>, size: &Located<u32>) {
    let n = u64::from(size.value);
    if !value::is_prime(n) {
        let message = format!("`maglev_size` of {} is {n}, which is not a prime", s.title);
        s.sink.push(
            Finding::local(size.span.clone(), message)
                .help(format!("the next one is {}", value::next_prime(n))),
        );
    }
}

fn check_maglev_size(s: &Section<'_>, span: Range<usize>, size: u32, endpoints: usize) {
    let slots = size as usize;
    let help = || {
        let wanted = value::next_prime((endpoints * MAGLEV_SLOTS_PER_ENDPOINT) as u64);
        format!("write a prime of at least {MAGLEV_SLOTS_PER_ENDPOINT} times the endpoints, such as {wanted}")
    };
    if slots <= endpoints {
        let message =
            format!("`maglev_size` of {} is {size}, too small for its {endpoints} endpoints", s.title);
        s.sink.push(Finding::cross(span, message).help(help()));
    } else if slots < endpoints.saturating_mul(MAGLEV_SLOTS_PER_ENDPOINT) {
        let message = format!(
            "`maglev_size` of {} is {size}: shares will be coarse with {endpoints} endpoints",
            s.title
        );
        s.sink.push(Finding::warning(span, message).help(help()));
    }
}

fn endpoints(
    s: &mut Section<'_>,
    net: &Network,
    vip: Option<&Located<Vip>>,
    secondary: &Secondary,
    mode: &modes::Draft,
    server_ids: &mut ServerIds,
) -> (Vec<Endpoint>, Vec<Located<Addr>>) {
    let before = s.sink.errors();
    let mut out = Vec::new();
    let mut places = Vec::new();
    let mut first: HashMap<(Addr, u16), Range<usize>> = HashMap::new();
    for mut e in s.tables("endpoint", "service.endpoint", "address") {
        let given = e.require("address", "\"10.1.0.10:8080\"", |v| endpoint_address(text(v)?));
        let weight = e.integer("weight", 0..=65_535_u32).map_or(1, |l| l.value);
        let states =
            [("up", EndpointState::Up), ("drain", EndpointState::Drain), ("down", EndpointState::Down)];
        let state = e.choice("state", &states, EndpointState::Up);
        let server_id = server_ids.endpoint(&mut e);
        let further = secondary.endpoint(&mut e, given.as_ref().map(|l| l.value.0));
        if let Some(Located { value: (address, port), span }) = given {
            check_endpoint(&e, net, vip, mode, (address, port), &span);
            let key = (address, port.unwrap_or(0));
            if let Some(old) = first.get(&key) {
                let message = format!("{} is there twice", e.title);
                let finding = Finding::cross(span.clone(), message).see(old.clone(), "the first one is here");
                e.sink.push(finding.help("remove one of them; for a greater share raise its `weight`"));
            } else {
                first.insert(key, span.clone());
            }
            places.push(Located { value: address, span });
            let secondary_addresses = further.iter().map(|l| l.value).collect();
            for l in further {
                check_host(&e, net, l.value, &l.span);
                places.push(l);
            }
            let port = port.unwrap_or(0);
            out.push(Endpoint { address, secondary_addresses, port, weight, state, server_id });
        }
        e.finish();
    }
    if out.len() > MAX_ENDPOINTS {
        let message = format!("{} has {} endpoints", s.title, out.len());
        s.sink.push(
            Finding::local(s.span.clone(), message).help(format!("at most {MAX_ENDPOINTS} are possible")),
        );
    }
    if before == s.sink.errors() && !out.iter().any(|e| e.state == EndpointState::Up && e.weight > 0) {
        let (why, help) = if out.is_empty() {
            ("has no endpoint", "add a [[service.endpoint]] below it")
        } else {
            (
                "has no endpoint that is up with a weight above 0",
                "set one's `state` to \"up\" and its `weight` to 1",
            )
        };
        let message = format!("{} {why}: every connection is refused", s.title);
        s.sink.push(Finding::warning(s.span.clone(), message).help(help));
    }
    (out, places)
}

fn endpoint_address(text: &str) -> Result<(Addr, Option<u16>), Fault> {
    let (addr, ports) = value::address_ports(text)?;
    if let Some(kind) = special(addr) {
        return Err(Fault::new(format!("is {}, {kind} address", quote(text)), "write the address of a host"));
    }
    match ports {
        None => Ok((addr, None)),
        Some((first, last)) if first == last => Ok((addr, Some(first))),
        Some(_) => Err(Fault::new(
            format!("is {}, with a range of ports", quote(text)),
            "name one port; or none, for a service on a port range: the client's port is kept",
        )),
    }
}

fn check_endpoint(
    e: &Section<'_>,
    net: &Network,
    vip: Option<&Located<Vip>>,
    mode: &modes::Draft,
    (address, port): (Addr, Option<u16>),
    span: &Range<usize>,
) {
    if let Some(vip) = vip {
        modes::check_endpoint(e, mode, vip, (address, port), span, net);
        let (_, (first, last)) = vip.value;
        if port.is_none() && first == last && !mode.name.is_dsr() {
            let message = format!("{} has no port", e.title);
            let shown = if address.is_v4() { address.to_string() } else { format!("[{address}]") };
            let finding =
                Finding::cross(span.clone(), message).see(vip.span.clone(), "the service has a single port");
            e.sink.push(
                finding.help(format!("add it: \"{shown}:{first}\"; only a port range may leave it out")),
            );
        }
    }
    check_host(e, net, address, span);
}

/// Whether an endpoint's address is one that a host can have.
fn check_host(e: &Section<'_>, net: &Network, address: Addr, span: &Range<usize>) {
    if let Some((port, own)) = net.own(address) {
        let message = format!("{} is an address of port {} itself", e.title, quote(port));
        let finding = Finding::cross(span.clone(), message).see(own, "the port's address");
        e.sink.push(finding.help("an endpoint is another host"));
    } else if net.reaches(address) == Some(false) && net.has_kernel() == Some(false) {
        // The kernel may have a route, or learn one.
        let message = format!("{} is on no port's network and no route leads to it", e.title);
        e.sink.push(Finding::warning(span.clone(), message).help("add a [[route]], or correct the address"));
    }
}

/// Services that claim the same address, protocol and port.
fn check_overlaps(sink: &Sink, drafts: &[Draft<'_>]) {
    let mut claims: Vec<(&Draft<'_>, &Located<Vip>)> =
        drafts.iter().flat_map(|d| d.vip.iter().chain(&d.secondary).map(move |vip| (d, vip))).collect();
    claims.sort_by_key(|(d, vip)| (d.service.protocol, vip.value, vip.span.start));
    // Of the claims so far on this address and protocol, the one that reaches furthest.
    let mut furthest: Option<(&Draft<'_>, &Located<Vip>)> = None;
    for (d, vip) in claims {
        let (addr, (first, last)) = vip.value;
        if let Some((other, before)) = furthest
            && other.service.protocol == d.service.protocol
            && before.value.0 == addr
        {
            if before.value.1.1 >= first {
                overlapping(sink, (d, vip), (other, before));
            }
            if before.value.1.1 >= last {
                continue;
            }
        }
        furthest = Some((d, vip));
    }
}

fn overlapping(sink: &Sink, a: (&Draft<'_>, &Located<Vip>), b: (&Draft<'_>, &Located<Vip>)) {
    let (late, early) = if a.1.span.start > b.1.span.start { (a, b) } else { (b, a) };
    let (addr, _) = late.1.value;
    let first = late.1.value.1.0.max(early.1.value.1.0);
    let last = late.1.value.1.1.min(early.1.value.1.1);
    let ports = if first == last { format!("port {first}") } else { format!("ports {first}-{last}") };
    let message = format!(
        "{} overlaps {}: both have {} {ports} of {addr}",
        late.0.title,
        early.0.title,
        late.0.service.protocol.name()
    );
    let finding =
        Finding::cross(late.1.span.clone(), message).see(early.1.span.clone(), "the other service's VIP");
    sink.push(finding.help("give one of them other ports, another address or another protocol"));
}

/// SNAT addresses that are a VIP or an endpoint: answers would go astray.
fn check_snat(sink: &Sink, drafts: &[Draft], snat: &SnatDraft) {
    for d in drafts {
        let vip = d.vip.iter().map(|vip| (vip.value.0, &vip.span, "the VIP"));
        let endpoints = d.endpoints.iter().map(|e| (e.value, &e.span, "an endpoint"));
        for (addr, span, what) in vip.chain(endpoints) {
            let Some(place) = snat.place(addr) else { continue };
            let message = format!("SNAT address {addr} is {what} of {}", d.title);
            let finding = Finding::cross(place, message).see(span.clone(), what);
            sink.push(finding.help("take another address of that network for [snat]"));
        }
    }
}

/// Endpoints that are a VIP themselves: the packet would come back.
fn check_loops(sink: &Sink, drafts: &[Draft<'_>]) {
    let vips: HashMap<Addr, (&Draft<'_>, Range<usize>)> = drafts
        .iter()
        .flat_map(|d| d.vip.iter().chain(&d.secondary).map(move |vip| (vip.value.0, (d, vip.span.clone()))))
        .collect();
    for d in drafts {
        for e in &d.endpoints {
            let Some((owner, span)) = vips.get(&e.value) else { continue };
            let message = format!("endpoint {} of {} is the VIP of {}", e.value, d.title, owner.title);
            let finding = Finding::cross(e.span.clone(), message).see(span.clone(), "the VIP");
            sink.push(finding.help("name the address of a host"));
        }
    }
}
