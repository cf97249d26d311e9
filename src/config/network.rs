//! `[[port]]`, `[[route]]` and `[[neighbor]]`

use std::collections::HashMap;
use std::ops::Range;

use super::model::{Neighbor, Port, Role, Route};
use super::names;
use super::report::{Finding, Sink};
use super::section::{Located, Section, text};
use super::value::{self, Fault, nearest, network, quote};
use crate::addr::{Addr, Mac, Prefix};

/// DPDK's own bound on devices (`RTE_MAX_ETHPORTS`) as distributions build it.
const MAX_PORTS: usize = 32;
/// RFC 8200 §5.
const MIN_MTU_V6: u16 = 1280;

/// A port with the places of what others refer to.
struct Draft {
    port: Port,
    name: Option<Located<String>>,
    device: Option<Range<usize>>,
    addresses: Vec<Located<Prefix>>,
    kernel: Option<Located<String>>,
}

/// The ports, and what is static about the network around them.
pub(super) struct Network {
    drafts: Vec<Draft>,
    routes: Vec<Route>,
    neighbors: Vec<Neighbor>,
    /// No port has an error: what is not found is not there.
    ports_whole: bool,
    routes_whole: bool,
}

/// Reads all three.
pub(super) fn read(root: &mut Section<'_>) -> Network {
    let sink = root.sink;
    let before = sink.errors();
    let sections = root.tables("port", "port", "name");
    if sections.is_empty() && root.place("port").is_none_or(|_| sink.errors() == before) {
        let finding = Finding::cross(0..0, "the configuration has no port");
        sink.push(finding.help("add a [[port]] with `name`, `device` and `addresses`"));
    }
    if let Some(extra) = sections.get(MAX_PORTS) {
        let message = format!("there are {} ports; at most {MAX_PORTS} are possible", sections.len());
        sink.push(Finding::local(extra.span.clone(), message));
    }
    let drafts: Vec<Draft> = sections.into_iter().map(port).collect();
    names::check_unique(sink, "port", drafts.iter().filter_map(|d| d.name.as_ref()));
    check_devices(sink, &drafts);
    check_kernel(sink, &drafts);
    let mut net = Network {
        drafts,
        routes: Vec::new(),
        neighbors: Vec::new(),
        ports_whole: false,
        routes_whole: false,
    };
    check_overlaps(sink, &net.drafts);
    net.ports_whole = sink.errors() == before;

    let before = sink.errors();
    net.routes = routes(root, &net);
    net.routes_whole = sink.errors() == before;
    net.neighbors = neighbors(root, &net);
    net
}

fn port(mut s: Section<'_>) -> Draft {
    let name = names::read_plain(&mut s, "\"wan\"");
    let device = s.require("device", "\"net_af_packet0,iface=eth1\"", |v| device(text(v)?));
    let role = s.choice(
        "role",
        &[("client", Role::Client), ("server", Role::Server), ("both", Role::Both)],
        Role::Both,
    );
    let before = s.sink.errors();
    let addresses = s.texts("addresses", own_address);
    check_own(&s, &addresses, s.sink.errors() == before);
    let mtu = s.integer("mtu", 68..=9600_u16);
    if let (Some(mtu), Some(v6)) = (&mtu, addresses.iter().find(|a| !a.value.addr.is_v4()))
        && mtu.value < MIN_MTU_V6
    {
        let message = format!("`mtu` of {} is {}, too small for its IPv6 address", s.title, mtu.value);
        let finding = Finding::local(mtu.span.clone(), message).see(v6.span.clone(), "the IPv6 address");
        s.sink.push(finding.help(format!("IPv6 needs {MIN_MTU_V6} or more (RFC 8200 §5)")));
    }
    let vlan = s.integer("vlan", 0..=4094_u16);
    let queues = s.integer("queues", 0..=128_u16);
    let [rx_descriptors, tx_descriptors] = ["rx_descriptors", "tx_descriptors"].map(|key| {
        let size = s.integer(key, 32..=32_768_u16);
        if let Some(size) = size.as_ref().filter(|n| !n.value.is_power_of_two()) {
            let message = format!(
                "`{key}` of {} is {}, not a power of two: many devices refuse that",
                s.title, size.value
            );
            let near = size.value.next_power_of_two();
            s.sink.push(Finding::warning(size.span.clone(), message).help(format!("write {near}")));
        }
        size.map_or(1024, |l| l.value)
    });
    let kernel = s.parsed("kernel", interface).filter(|name| !name.value.is_empty());
    let draft = Draft {
        port: Port {
            name: name.as_ref().map_or_else(String::new, |l| l.value.clone()),
            device: device.as_ref().map_or_else(String::new, |l| l.value.clone()),
            role,
            addresses: addresses.iter().map(|a| a.value).collect(),
            mtu: mtu.map_or(1500, |l| l.value),
            vlan: vlan.map_or(0, |l| l.value),
            queues: queues.map_or(0, |l| l.value),
            rx_descriptors,
            tx_descriptors,
            kernel: kernel.as_ref().map(|l| l.value.clone()),
        },
        kernel,
        name,
        device: device.map(|l| l.span),
        addresses,
    };
    s.finish();
    draft
}

/// The name of an interface of the kernel's; empty: none.
fn interface(text: &str) -> Result<String, Fault> {
    // The kernel's IFNAMSIZ counts the terminating NUL.
    const MOST: usize = 15;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.len() > MOST || !text.chars().all(plain) || matches!(text, "." | ".." | "all" | "default") {
        return Err(Fault::new(
            format!("is {}, no name for an interface", quote(text)),
            format!("use 1 to {MOST} letters, digits, _, - and .: \"px-wan\""),
        ));
    }
    Ok(text.to_owned())
}

/// The kernel's interface that a packet socket's vdev works on.
fn socket_interface(device: &str) -> Option<&str> {
    let (name, arguments) = device.split_once(',')?;
    let of_the_kernel = ["net_af_packet", "eth_af_packet", "net_af_xdp"].iter().any(|d| name.starts_with(d));
    of_the_kernel.then(|| arguments.split(',').find_map(|argument| argument.strip_prefix("iface=")))?
}

/// A TAP needs a name of its own.
fn check_kernel(sink: &Sink, drafts: &[Draft]) {
    for (i, b) in drafts.iter().enumerate() {
        let Some(name) = &b.kernel else { continue };
        for (j, a) in drafts.iter().enumerate() {
            if let (true, Some(first)) = (j < i, a.kernel.as_ref().filter(|first| first.value == name.value))
            {
                let message = format!("two ports have the `kernel` interface {}", quote(&name.value));
                let finding = Finding::cross(name.span.clone(), message);
                sink.push(
                    finding.help("give each a name of its own").see(first.span.clone(), "the first one"),
                );
            }
            if let (Some(device), true) =
                (&a.device, socket_interface(&a.port.device) == Some(name.value.as_str()))
            {
                let message = format!(
                    "`kernel` of port {} is {}, the interface that port {} works on",
                    quote(&b.port.name),
                    quote(&name.value),
                    quote(&a.port.name)
                );
                let finding = Finding::cross(name.span.clone(), message);
                sink.push(
                    finding.help("the engine makes this one: name a new one").see(device.clone(), "here"),
                );
            }
        }
    }
}

fn device(text: &str) -> Result<String, Fault> {
    let cure = || {
        let interface = if text.is_empty() { "eth1" } else { text };
        format!(
            "a PCI address is \"0000:3b:00.0\"; a kernel interface is \"net_af_packet0,iface={interface}\""
        )
    };
    if text.is_empty() {
        return Err(Fault::new("is empty", cure()));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Fault::new(format!("is {}, with white space in it", quote(text)), "leave it out"));
    }
    // Every DPDK vdev is called after its driver, net_… or virtio_user…, every bus address has a colon.
    if !text.contains(['_', ':']) {
        return Err(Fault::new(format!("is {}, neither a PCI address nor a DPDK vdev", quote(text)), cure()));
    }
    Ok(text.to_owned())
}

/// An address that an interface may have.
fn own_address(text: &str) -> Result<Prefix, Fault> {
    let p = value::interface_address(text)?;
    if let Some(kind) = special(p.addr) {
        return Err(Fault::new(format!("is {}, {kind} address", quote(text)), "a port needs one of its own"));
    }
    if p.addr.is_v4() && p.len < 31 {
        let host = p.addr.0 & !p.mask();
        let what = if host == 0 {
            "the network's address"
        } else if host == !p.mask() {
            "the network's broadcast address"
        } else {
            return Ok(p);
        };
        return Err(Fault::new(format!("is {}, {what}", quote(text)), "write the port's own address in it"));
    }
    Ok(p)
}

/// What an address is if it cannot be a host's.
pub(super) fn special(a: Addr) -> Option<&'static str> {
    if a.is_multicast() {
        return Some("a multicast");
    }
    let ip = std::net::IpAddr::from(a);
    if ip.is_unspecified() {
        Some("the unspecified")
    } else if ip.is_loopback() {
        Some("a loopback")
    } else if matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast()) {
        Some("the broadcast")
    } else {
        None
    }
}

fn check_own(s: &Section<'_>, addresses: &[Located<Prefix>], whole: bool) {
    if addresses.is_empty() && whole {
        let message = format!("{} has no address: nothing is directly connected to it", s.title);
        s.sink.push(Finding::warning(s.span.clone(), message).help("add `addresses = [\"203.0.113.2/24\"]`"));
    }
    for (i, a) in addresses.iter().enumerate() {
        if let Some(first) = addresses.iter().take(i).find(|b| b.value.addr == a.value.addr) {
            let message = format!("`addresses` of {} has {} twice", s.title, a.value.addr);
            let finding =
                Finding::cross(a.span.clone(), message).see(first.span.clone(), "the first one is here");
            s.sink.push(finding.help("remove one of them"));
        }
    }
}

/// The device's name without arguments, PCI addresses with their domain.
fn device_key(device: &str) -> String {
    let name = device.split(',').next().unwrap_or_default().to_ascii_lowercase();
    if name.matches(':').count() == 1 && !name.contains('_') { format!("0000:{name}") } else { name }
}

fn check_devices(sink: &Sink, drafts: &[Draft]) {
    for (i, b) in drafts.iter().enumerate() {
        let Some(span) = &b.device else { continue };
        for a in drafts.iter().take(i) {
            let Some(first) = &a.device else { continue };
            if device_key(&a.port.device) != device_key(&b.port.device) {
                continue;
            }
            let (message, help) = if a.port.device.contains('_') && a.port.device != b.port.device {
                let name = device_key(&b.port.device);
                let message = format!("the vdev {name} is there with two sets of arguments");
                (message, "number vdevs apart: net_af_packet0, net_af_packet1")
            } else if a.port.vlan == b.port.vlan {
                let message =
                    format!("device {} with vlan {} has two ports", quote(&b.port.device), b.port.vlan);
                (message, "give each port a device or a VLAN of its own")
            } else {
                continue;
            };
            let finding = Finding::cross(span.clone(), message);
            sink.push(finding.help(help).see(first.clone(), "the other port's device"));
        }
    }
}

/// Two networks that share an address.
fn overlap(a: Prefix, b: Prefix) -> bool {
    let (wide, narrow) = if a.len <= b.len { (a, b) } else { (b, a) };
    wide.contains(narrow.addr)
}

fn check_overlaps(sink: &Sink, drafts: &[Draft]) {
    for (i, b) in drafts.iter().enumerate() {
        for a in drafts.iter().take(i) {
            for new in &b.addresses {
                // Link-local networks are one per link, by definition the same.
                let clash = a.addresses.iter().find(|old| {
                    let local = old.value.addr.is_link_local_v6() && new.value.addr.is_link_local_v6();
                    overlap(old.value, new.value) && !local
                });
                let Some(old) = clash else { continue };
                let message = format!(
                    "network {} of port {} overlaps network {} of port {}",
                    network(new.value),
                    quote(&b.port.name),
                    network(old.value),
                    quote(&a.port.name)
                );
                let finding =
                    Finding::cross(new.span.clone(), message).see(old.span.clone(), "the other network");
                sink.push(finding.help("give each port networks of its own"));
            }
        }
    }
}

impl Network {
    pub fn into_parts(self) -> (Vec<Port>, Vec<Route>, Vec<Neighbor>) {
        (self.drafts.into_iter().map(|d| d.port).collect(), self.routes, self.neighbors)
    }

    /// The port's own address that equals `a`.
    pub fn own(&self, a: Addr) -> Option<(&str, Range<usize>)> {
        self.drafts.iter().find_map(|d| {
            let found = d.addresses.iter().find(|own| own.value.addr == a)?;
            Some((d.port.name.as_str(), found.span.clone()))
        })
    }

    /// Whether some port has an interface towards the kernel; unknown where ports have errors.
    pub fn has_kernel(&self) -> Option<bool> {
        self.ports_whole.then(|| self.drafts.iter().any(|d| d.kernel.is_some()))
    }

    /// Ports with a connected network that contains `a`.
    fn connected(&self, a: Addr) -> impl Iterator<Item = usize> {
        let on = move |d: &Draft| d.addresses.iter().any(|own| own.value.contains(a));
        self.drafts.iter().enumerate().filter(move |(_, d)| on(d)).map(|(i, _)| i)
    }

    /// Whether `a` is on a port's own network; unknown where ports have errors.
    pub fn is_connected(&self, a: Addr) -> Option<bool> {
        self.ports_whole.then(|| self.connected(a).next().is_some())
    }

    /// Whether a packet to `a` can leave; unknown where ports or routes have errors.
    pub fn reaches(&self, a: Addr) -> Option<bool> {
        let whole = self.ports_whole && self.routes_whole;
        whole.then(|| self.connected(a).next().is_some() || self.routes.iter().any(|r| r.prefix.contains(a)))
    }

    /// Reads a key that names a port.
    pub fn port_key(&self, s: &mut Section<'_>) -> Option<Located<usize>> {
        let name = s.parsed("port", |text| Ok(text.to_owned()))?;
        if let Some(i) = self.drafts.iter().position(|d| d.port.name == name.value && d.name.is_some()) {
            return Some(Located { value: i, span: name.span });
        }
        if self.drafts.iter().all(|d| d.name.is_some()) {
            let names = || self.drafts.iter().map(|d| d.port.name.as_str());
            let help = match nearest(&name.value, names()) {
                Some((near, true)) => format!("did you mean \"{near}\"?"),
                _ => format!("the ports are: {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message =
                format!("`port` of {} is {}, a port that does not exist", s.title, quote(&name.value));
            s.sink.push(Finding::cross(name.span, message).help(help));
        }
        None
    }
}

fn host(text: &str) -> Result<Addr, Fault> {
    let a = value::address(text)?;
    match special(a) {
        Some(kind) => {
            Err(Fault::new(format!("is {}, {kind} address", quote(text)), "write the address of a host"))
        }
        None => Ok(a),
    }
}

fn routes(root: &mut Section<'_>, net: &Network) -> Vec<Route> {
    let mut out = Vec::new();
    let mut first: HashMap<Prefix, Range<usize>> = HashMap::new();
    for mut s in root.tables("route", "route", "prefix") {
        let prefix = s.require("prefix", "\"0.0.0.0/0\"", |v| value::prefix(text(v)?));
        let via = s.require("via", "\"203.0.113.1\"", |v| host(text(v)?));
        if let Some(p) = &prefix {
            if let Some(span) = first.get(&p.value) {
                let message = format!("there are two routes to {}", p.value);
                let finding =
                    Finding::cross(p.span.clone(), message).see(span.clone(), "the first one is here");
                s.sink.push(finding.help("remove one of them"));
            } else {
                first.insert(p.value, p.span.clone());
            }
        }
        if let (Some(p), Some(via)) = (prefix, via) {
            check_via(&s, net, &p, &via);
            out.push(Route { prefix: p.value, via: via.value });
        }
        s.finish();
    }
    out
}

fn check_via(s: &Section<'_>, net: &Network, prefix: &Located<Prefix>, via: &Located<Addr>) {
    let refuse = |message: String, help: &str| {
        s.sink.push(Finding::cross(via.span.clone(), message).help(help));
    };
    if prefix.value.addr.is_v4() != via.value.is_v4() {
        let message = format!("`via` of {} is {}, of the other address family", s.title, via.value);
        return refuse(message, "a gateway is of the family of its prefix");
    }
    if let Some((port, own)) = net.own(via.value) {
        let message =
            format!("`via` of {} is {}, an address of port {} itself", s.title, via.value, quote(port));
        let finding = Finding::cross(via.span.clone(), message).see(own, "the port's address");
        return s.sink.push(finding.help("name the next router"));
    }
    let mut on = net.connected(via.value);
    match (on.next(), on.next()) {
        (None, _) if net.ports_whole => {
            let message = format!("`via` of {} is {}, which is on no port's network", s.title, via.value);
            refuse(message, "a gateway must be directly connected: correct it, or add the network to a port");
        }
        (Some(_), Some(_)) if net.ports_whole => {
            let message =
                format!("`via` of {} is {}, which is on the networks of two ports", s.title, via.value);
            refuse(message, "name a gateway that only one port reaches, by its global address");
        }
        _ => {}
    }
}

fn neighbors(root: &mut Section<'_>, net: &Network) -> Vec<Neighbor> {
    let mut out = Vec::new();
    let mut first: HashMap<(Addr, usize), Range<usize>> = HashMap::new();
    for mut s in root.tables("neighbor", "neighbor", "address") {
        let address = s.require("address", "\"10.1.0.10\"", |v| host(text(v)?));
        let mac = s.require("mac", "\"02:00:00:00:00:10\"", |v| unicast(text(v)?));
        let named = s.place("port").is_some();
        let port = net.port_key(&mut s);
        if let Some(address) = &address
            && let Some(port) = neighbor_port(&s, net, address, named, port.as_ref())
        {
            if let Some(span) = first.get(&(address.value, port)) {
                let message = format!("there are two neighbors {} on one port", address.value);
                let finding =
                    Finding::cross(address.span.clone(), message).see(span.clone(), "the first one is here");
                s.sink.push(finding.help("remove one of them"));
            }
            first.entry((address.value, port)).or_insert_with(|| address.span.clone());
            if let Some(mac) = mac {
                out.push(Neighbor { address: address.value, mac: mac.value, port });
            }
        }
        s.finish();
    }
    out
}

fn unicast(text: &str) -> Result<Mac, Fault> {
    let mac = value::mac(text)?;
    if mac.is_group() || mac == Mac::default() {
        let kind = if mac.is_group() { "a multicast or broadcast address" } else { "no address" };
        return Err(Fault::new(format!("is {}, {kind}", quote(text)), "write the MAC of one interface"));
    }
    Ok(mac)
}

/// The port of a neighbor: as named, or the one whose network it is on.
fn neighbor_port(
    s: &Section<'_>,
    net: &Network,
    address: &Located<Addr>,
    named: bool,
    port: Option<&Located<usize>>,
) -> Option<usize> {
    if let Some((owner, own)) = net.own(address.value) {
        let message = format!("neighbor {} is an address of port {} itself", address.value, quote(owner));
        let finding = Finding::cross(address.span.clone(), message).see(own, "the port's address");
        s.sink.push(finding.help("name the neighbor's own address"));
        return None;
    }
    let on: Vec<usize> = net.connected(address.value).collect();
    match (port, on.as_slice()) {
        (Some(port), _) if on.contains(&port.value) => Some(port.value),
        (Some(port), _) => {
            let name = net.drafts.get(port.value).map_or("", |d| d.port.name.as_str());
            if net.ports_whole {
                let message = format!("neighbor {} is on no network of port {}", address.value, quote(name));
                let finding =
                    Finding::cross(address.span.clone(), message).see(port.span.clone(), "the port");
                let right = on.first().and_then(|&i| net.drafts.get(i)).map_or_else(
                    || "correct the address, or add its network to the port".to_owned(),
                    |d| format!("it is on port {}", quote(&d.port.name)),
                );
                s.sink.push(finding.help(right));
            }
            None
        }
        (None, _) if named => None,
        (None, [one]) => Some(*one),
        (None, several) => {
            if net.ports_whole {
                let message = match several.len() {
                    0 => format!("neighbor {} is on no port's network", address.value),
                    n => format!("neighbor {} is on the networks of {n} ports", address.value),
                };
                let help = if several.is_empty() {
                    "correct the address, or add its network to a port"
                } else {
                    "say which with `port`"
                };
                s.sink.push(Finding::cross(address.span.clone(), message).help(help));
            }
            None
        }
    }
}
