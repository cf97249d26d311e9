//! What one configuration changes in another: what a reload does, and what takes a restart.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::addr::Addr;
use crate::config::{
    Access, Algorithm, Config, Endpoint, Engine, HealthCheck, Loss, Metrics, Neighbor, Port, Protocol, Route,
    Rule, Service,
};

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// `[[service]]`, by name.
    Service,
    /// `[[service.endpoint]]`, by service and address.
    Endpoint,
    /// `[[firewall]]`, by name.
    Rule,
    /// `[[route]]`, by prefix and gateway.
    Route,
    /// `[[neighbor]]`, by port and address.
    Neighbor,
    /// `[[port]]`, by name.
    Port,
    /// Another table: `engine`, `snat`, `metrics`, `limits`, `control`.
    Settings,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Comes.
    Added,
    /// Goes.
    Removed,
    /// Stays, with other values.
    Changed,
    /// Stays, at another place of the order.
    Moved,
}

/// A key with another value, as the file has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Field {
    /// The key.
    pub key: String,
    /// The value in force.
    pub from: String,
    /// The new one.
    pub to: String,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub thing: Thing,
    /// Which one.
    pub name: String,
    /// What becomes of it.
    pub action: Action,
    /// The keys, where it is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// All changes.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diff {
    /// What a reload does.
    pub changes: Vec<Change>,
    /// What only a restart does. Where there is any, a reload does nothing at all.
    pub restart: Vec<Change>,
}

impl Diff {
    /// From the configuration in force to a new one.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut diff = Self::default();
        diff.engine(&old.engine, &new.engine);
        diff.ports(&old.ports, &new.ports);
        diff.metrics(&old.metrics, &new.metrics);
        if old.control.socket != new.control.socket {
            let fields = vec![field("socket", &old.control.socket, &new.control.socket)];
            diff.restart.push(settings("control", fields));
        }
        if old.snat != new.snat {
            let fields = differing([
                field("addresses", many(&old.snat.addresses), many(&new.snat.addresses)),
                field("ports", range(Some(old.snat.ports)), range(Some(new.snat.ports))),
            ]);
            diff.restart.push(settings("snat", fields));
        }
        diff.services(&old.services, &new.services);
        diff.rules(old, new);
        diff.routes(old, new);
        if old.control.watch != new.control.watch {
            let fields = vec![field("watch", old.control.watch, new.control.watch)];
            diff.changes.push(settings("control", fields));
        }
        diff
    }

    /// With these files of the listener's, by key and path: they are the same ones, but have other contents.
    #[must_use]
    pub fn with_rewritten(mut self, rewritten: &[(&str, String)]) -> Self {
        if !rewritten.is_empty() {
            let fields = rewritten
                .iter()
                .map(|(key, path)| field(key, path.clone(), format!("{path}, with other contents")));
            self.changes.push(settings("metrics", fields.collect()));
        }
        self
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.restart.is_empty()
    }

    fn engine(&mut self, old: &Engine, new: &Engine) {
        let live = [
            field("on_unknown", word(old.on_unknown), word(new.on_unknown)),
            field("transit", word(old.transit), word(new.transit)),
            field("shutdown_delay", old.shutdown_delay, new.shutdown_delay),
        ];
        let fixed = [
            field("workers", &old.workers, &new.workers),
            field("main_cpu", some(old.main_cpu), some(new.main_cpu)),
            field("hugepages", old.hugepages, new.hugepages),
            field("memory_mb", old.memory_mb, new.memory_mb),
            field("eal_args", &old.eal_args, &new.eal_args),
            field("max_flows", old.max_flows, new.max_flows),
            field("burst", old.burst, new.burst),
            field("idle", word(old.idle), word(new.idle)),
        ];
        // Whatever else `[engine]` has or comes to have is fixed.
        let same = Engine {
            on_unknown: new.on_unknown,
            transit: new.transit,
            shutdown_delay: new.shutdown_delay,
            ..old.clone()
        } == *new;
        self.table("engine", live, fixed, same);
    }

    fn metrics(&mut self, old: &Metrics, new: &Metrics) {
        let live = [
            field("tick", old.tick, new.tick),
            field("distribution_tick", old.distribution_tick, new.distribution_tick),
            field("service_label", word(old.service_label), word(new.service_label)),
            field("flow_series_limit", old.flow_series_limit, new.flow_series_limit),
            field("aliases", old.aliases, new.aliases),
            field("max_connections", old.max_connections, new.max_connections),
            field("header_timeout", old.header_timeout, new.header_timeout),
        ];
        let live = live.into_iter().chain(access(&old.access, &new.access));
        let fixed = [field("listen", old.listen, new.listen)];
        let same = Metrics {
            tick: new.tick,
            distribution_tick: new.distribution_tick,
            service_label: new.service_label,
            flow_series_limit: new.flow_series_limit,
            aliases: new.aliases,
            max_connections: new.max_connections,
            header_timeout: new.header_timeout,
            access: new.access.clone(),
            ..old.clone()
        } == *new;
        self.table("metrics", live, fixed, same);
    }

    fn table<const M: usize>(
        &mut self,
        name: &str,
        live: impl IntoIterator<Item = Field>,
        fixed: [Field; M],
        same: bool,
    ) {
        let live = differing(live);
        if !live.is_empty() {
            self.changes.push(settings(name, live));
        }
        if !same {
            self.restart.push(settings(name, differing(fixed)));
        }
    }

    /// Ports are the devices': nothing of them changes while they run.
    fn ports(&mut self, old: &[Port], new: &[Port]) {
        let fields = |a: &Port, b: &Port| {
            differing([
                field("device", &a.device, &b.device),
                field("role", word(a.role), word(b.role)),
                field("addresses", many(&a.addresses), many(&b.addresses)),
                field("mtu", a.mtu, b.mtu),
                field("vlan", a.vlan, b.vlan),
                field("queues", a.queues, b.queues),
                field("rx_descriptors", a.rx_descriptors, b.rx_descriptors),
                field("tx_descriptors", a.tx_descriptors, b.tx_descriptors),
                field("kernel", some(a.kernel.as_ref()), some(b.kernel.as_ref())),
            ])
        };
        compare(&mut self.restart, Thing::Port, old, new, |port| port.name.clone(), fields);
        moved(&mut self.restart, Thing::Port, old, new, |port| port.name.clone());
    }

    fn services(&mut self, old: &[Arc<Service>], new: &[Arc<Service>]) {
        let (old, new) = unlike(old, new);
        let before: HashMap<_, &Arc<Service>> = old.iter().map(|s| (bound(s), s)).collect();
        let after: HashSet<_> = new.iter().map(|s| bound(s)).collect();
        for service in old.iter().filter(|s| !after.contains(&bound(s))) {
            self.changes.push(plain(Thing::Service, service.name.clone(), Action::Removed));
            self.endpoints(service, &service.endpoints, &[]);
        }
        for service in new {
            let Some(old) = before.get(&bound(service)) else {
                self.changes.push(plain(Thing::Service, service.name.clone(), Action::Added));
                self.endpoints(service, &[], &service.endpoints);
                continue;
            };
            if *old == service {
                continue;
            }
            let mut fields = differing([
                field("algorithm", algorithm(old), algorithm(service)),
                field("maglev_size", some(maglev_size(old)), some(maglev_size(service))),
                field("mode", old.mode.name(), service.mode.name()),
                field("client_address", old.mode.client_address(), service.mode.client_address()),
                field("tunnel_source", some(old.mode.tunnel_source()), some(service.mode.tunnel_source())),
                field("gue_port", some(old.mode.gue_port()), some(service.mode.gue_port())),
                field("idle_timeout", old.idle_timeout, service.idle_timeout),
                field("on_no_endpoint", word(old.on_no_endpoint), word(service.on_no_endpoint)),
                field("on_endpoint_down", word(old.on_endpoint_down), word(service.on_endpoint_down)),
                field("on_endpoint_removed", removed(old), removed(service)),
                field("slow_start", old.slow_start, service.slow_start),
                field("secondary_vips", many(&old.secondary_vips), many(&service.secondary_vips)),
                field("quic_server_id_bytes", old.quic_server_id_bytes, service.quic_server_id_bytes),
            ]);
            fields.extend(health_check(old.health_check.as_ref(), service.health_check.as_ref()));
            let same = Service { endpoints: service.endpoints.clone(), ..Service::clone(old) } == **service;
            if !same {
                let name = service.name.clone();
                self.changes.push(Change { thing: Thing::Service, name, action: Action::Changed, fields });
            }
            self.endpoints(service, &old.endpoints, &service.endpoints);
        }
    }

    fn endpoints(&mut self, service: &Service, old: &[Endpoint], new: &[Endpoint]) {
        let name = |e: &Endpoint| format!("{} {}", service.name, address(e.address, e.port));
        let fields = |a: &Endpoint, b: &Endpoint| {
            differing([
                field("weight", a.weight, b.weight),
                field("state", word(a.state), word(b.state)),
                field("secondary_addresses", many(&a.secondary_addresses), many(&b.secondary_addresses)),
                field("server_id", hex(&a.server_id), hex(&b.server_id)),
            ])
        };
        compare(&mut self.changes, Thing::Endpoint, old, new, name, fields);
    }

    fn rules(&mut self, old: &Config, new: &Config) {
        let port_name = |rule: &Rule| some(rule.port.and_then(|n| old.ports.get(n)).map(|port| &port.name));
        let (old, new) = (&old.firewall, &new.firewall);
        let fields = |a: &Rule, b: &Rule| {
            differing([
                field("action", word(a.action), word(b.action)),
                field("protocol", some(a.protocol), some(b.protocol)),
                field("source", many(&a.source), many(&b.source)),
                field("destination", many(&a.destination), many(&b.destination)),
                field("source_port", range(a.source_port), range(b.source_port)),
                field("destination_port", range(a.destination_port), range(b.destination_port)),
                field("port", port_name(a), port_name(b)),
            ])
        };
        compare(&mut self.changes, Thing::Rule, old, new, |rule| rule.name.clone(), fields);
        moved(&mut self.changes, Thing::Rule, old, new, |rule| rule.name.clone());
    }

    fn routes(&mut self, old: &Config, new: &Config) {
        let name = |route: &Route| format!("{} via {}", route.prefix, route.via);
        compare(&mut self.changes, Thing::Route, &old.routes, &new.routes, name, |_, _| Vec::new());
        let name = |n: &Neighbor| {
            let port = old.ports.get(n.port).map_or("?", |port| &port.name);
            format!("{} on {port}", n.address)
        };
        let fields = |a: &Neighbor, b: &Neighbor| differing([field("mac", a.mac, b.mac)]);
        compare(&mut self.changes, Thing::Neighbor, &old.neighbors, &new.neighbors, name, fields);
    }
}

/// What differs between two health checks.
fn health_check(old: Option<&HealthCheck>, new: Option<&HealthCheck>) -> Vec<Field> {
    let keys = |check: Option<&HealthCheck>| match check {
        Some(check) => check.keys(),
        None => vec![("kind", "none".to_owned())],
    };
    let (old, new) = (keys(old), keys(new));
    let value = |keys: &[(&str, String)], key: &str| {
        keys.iter().find(|(name, _)| *name == key).map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
    };
    let names = new.iter().chain(old.iter().filter(|(name, _)| !new.iter().any(|(n, _)| n == name)));
    names
        .map(|(name, _)| Field {
            key: format!("health_check.{name}"),
            from: value(&old, name),
            to: value(&new, name),
        })
        .filter(|field| field.from != field.to)
        .collect()
}

/// What makes a service the same one. One that is bound elsewhere is another: it begins anew.
fn bound(service: &Service) -> (&str, Addr, u16, u16, Protocol) {
    (&service.name, service.vip, service.first_port, service.last_port, service.protocol)
}

/// Two lists without what both begin and end with: as a rule, what has changed.
fn unlike<'a, T: PartialEq>(old: &'a [T], new: &'a [T]) -> (&'a [T], &'a [T]) {
    let first = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[first..], &new[first..]);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (&old[..old.len() - last], &new[..new.len() - last])
}

/// Things that have a name each.
fn compare<T: PartialEq>(
    changes: &mut Vec<Change>,
    thing: Thing,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> String,
    fields: impl Fn(&T, &T) -> Vec<Field>,
) {
    let (old, new) = unlike(old, new);
    let before: HashMap<String, &T> = old.iter().map(|item| (name(item), item)).collect();
    let after: HashSet<String> = new.iter().map(&name).collect();
    let gone = old.iter().map(&name).filter(|name| !after.contains(name));
    changes.extend(gone.map(|name| plain(thing, name, Action::Removed)));
    for item in new {
        let name = name(item);
        match before.get(&name) {
            None => changes.push(plain(thing, name, Action::Added)),
            Some(old) if **old != *item => {
                changes.push(Change { thing, name, action: Action::Changed, fields: fields(old, item) });
            }
            Some(_) => {}
        }
    }
}

/// Things whose order counts: those that have gone past another one that stays.
fn moved<T, K: Hash + Eq + Clone + Into<String>>(
    changes: &mut Vec<Change>,
    thing: Thing,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> K,
) {
    let before: Vec<K> = old.iter().map(&name).collect();
    let after: Vec<K> = new.iter().map(&name).collect();
    let (was, is): (HashSet<&K>, HashSet<&K>) = (before.iter().collect(), after.iter().collect());
    let stay = before.iter().filter(|name| is.contains(name));
    let now = after.iter().filter(|name| was.contains(name));
    let moved = stay.zip(now).filter(|(a, b)| a != b);
    changes.extend(moved.map(|(_, name)| plain(thing, name.clone().into(), Action::Moved)));
}

fn plain(thing: Thing, name: String, action: Action) -> Change {
    Change { thing, name, action, fields: Vec::new() }
}

fn settings(name: &str, fields: Vec<Field>) -> Change {
    Change { thing: Thing::Settings, name: name.to_owned(), action: Action::Changed, fields }
}

fn field<T: Debug>(key: &str, from: T, to: T) -> Field {
    let shown = |value: T| format!("{value:?}").trim_matches('"').to_owned();
    Field { key: key.to_owned(), from: shown(from), to: shown(to) }
}

/// A value, or `-` where there is none.
fn some(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The keys that say who may read, with their paths.
fn access(old: &Access, new: &Access) -> [Field; 5] {
    fn paths(access: &Access) -> [(&'static str, Option<&Path>); 5] {
        let (token, tls, web) = match access {
            Access::Keys { bearer_token_file, tls } => (bearer_token_file.as_deref(), tls.as_ref(), None),
            Access::WebConfig(path) => (None, None, Some(path.as_path())),
        };
        [
            ("bearer_token_file", token),
            ("tls_certificate", tls.map(|tls| tls.certificate.as_path())),
            ("tls_key", tls.map(|tls| tls.key.as_path())),
            ("tls_client_ca", tls.and_then(|tls| tls.client_ca.as_deref())),
            ("web_config", web),
        ]
    }
    let shown = |path: Option<&Path>| some(path.map(Path::display));
    let (old, new) = (paths(old), paths(new));
    std::array::from_fn(|n| field(old[n].0, shown(old[n].1), shown(new[n].1)))
}

fn many(values: &[impl Display]) -> String {
    let all: Vec<_> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", all.join(", "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn range(ports: Option<(u16, u16)>) -> String {
    some(ports.map(|(first, last)| format!("{first}-{last}")))
}

fn differing(fields: impl IntoIterator<Item = Field>) -> Vec<Field> {
    fields.into_iter().filter(|field| field.from != field.to).collect()
}

/// An enum's variant as the file writes it: `RoundRobin` is `round-robin`.
fn word(variant: impl Debug) -> String {
    let mut word = String::new();
    for (at, c) in format!("{variant:?}").chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

fn algorithm(service: &Service) -> String {
    match service.algorithm {
        Algorithm::Maglev { .. } => "maglev".to_owned(),
        other => word(other),
    }
}

fn removed(service: &Service) -> &'static str {
    match service.on_endpoint_removed {
        Loss::Keep => "drain",
        Loss::Reset => "reset",
    }
}

fn maglev_size(service: &Service) -> Option<u32> {
    match service.algorithm {
        Algorithm::Maglev { size } => Some(size),
        _ => None,
    }
}

/// An endpoint's address as the file has it: without a port where the client's is kept.
pub(super) fn address(addr: Addr, port: u16) -> String {
    match port {
        0 => addr.to_string(),
        port => SocketAddr::new(addr.into(), port).to_string(),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thing = match self.thing {
            Thing::Service => "service ",
            Thing::Endpoint => "endpoint ",
            Thing::Rule => "firewall rule ",
            Thing::Route => "route ",
            Thing::Neighbor => "neighbor ",
            Thing::Port => "port ",
            Thing::Settings => "",
        };
        let sign = match self.action {
            Action::Added => '+',
            Action::Removed => '-',
            Action::Changed | Action::Moved => '~',
        };
        write!(f, "{sign} {thing}{}", self.name)?;
        match self.action {
            Action::Moved => f.write_str(": at another place of the order")?,
            Action::Changed if self.fields.is_empty() => f.write_str(": other settings")?,
            _ => {}
        }
        for (at, Field { key, from, to }) in self.fields.iter().enumerate() {
            write!(f, "{} {key} {from} -> {to}", if at == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const TEXT: &str = "[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\naddresses = [\"10.1.0.1/24\"]\n\
        [[firewall]]\nname = \"a\"\naction = \"drop\"\n[[firewall]]\nname = \"b\"\naction = \"allow\"\n\
        [[neighbor]]\naddress = \"10.1.0.9\"\nmac = \"02:00:00:00:00:09\"\n\
        [[service]]\nname = \"web\"\nvip = \"203.0.113.1:80\"\n[[service.endpoint]]\naddress = \"10.1.0.10:80\"\n\
        [[service.endpoint]]\naddress = \"10.1.0.11:80\"\n";

    fn parsed(text: &str) -> Config {
        config::parse("t", text).unwrap_or_else(|e| panic!("{e}")).0
    }

    fn diff(from: &str, to: &str) -> (Vec<String>, Vec<String>) {
        assert!(TEXT.contains(from), "{from}");
        let diff = Diff::between(&parsed(TEXT), &parsed(&TEXT.replacen(from, to, 1)));
        let shown = |changes: &[Change]| changes.iter().map(ToString::to_string).collect();
        (shown(&diff.changes), shown(&diff.restart))
    }

    #[test]
    fn each_change_is_said_as_the_file_says_it() {
        let endpoint = "[[service.endpoint]]\naddress = \"10.1.0.11:80\"\n";
        for (from, to, says) in [
            ("", "", &[][..]),
            ("10.1.0.11:80", "10.1.0.12:80", &["- endpoint web 10.1.0.11:80", "+ endpoint web 10.1.0.12:80"]),
            (endpoint, "", &["- endpoint web 10.1.0.11:80"]),
            (
                "address = \"10.1.0.11:80\"",
                "address = \"10.1.0.11:80\"\nweight = 2\nstate = \"drain\"",
                &["~ endpoint web 10.1.0.11:80: weight 1 -> 2, state up -> drain"],
            ),
            (
                "vip = \"203.0.113.1:80\"",
                "vip = \"203.0.113.1:80\"\nalgorithm = \"round-robin\"\non_endpoint_removed = \"reset\"\nidle_timeout = \"1m\"",
                &[
                    "~ service web: algorithm maglev -> round-robin, maglev_size 65537 -> -, idle_timeout 240s -> 60s, \
                   on_endpoint_removed drain -> reset",
                ],
            ),
            (
                "203.0.113.1:80",
                "203.0.113.1:81",
                &[
                    "- service web",
                    "- endpoint web 10.1.0.10:80",
                    "- endpoint web 10.1.0.11:80",
                    "+ service web",
                    "+ endpoint web 10.1.0.10:80",
                    "+ endpoint web 10.1.0.11:80",
                ],
            ),
            ("action = \"drop\"", "action = \"allow\"", &["~ firewall rule a: action drop -> allow"]),
            (
                "[[firewall]]\nname = \"a\"\naction = \"drop\"\n[[firewall]]\nname = \"b\"\naction = \"allow\"",
                "[[firewall]]\nname = \"b\"\naction = \"allow\"\n[[firewall]]\nname = \"a\"\naction = \"drop\"",
                &[
                    "~ firewall rule b: at another place of the order",
                    "~ firewall rule a: at another place of the order",
                ],
            ),
            (
                "00:09\"",
                "00:0a\"",
                &["~ neighbor 10.1.0.9 on wan: mac 02:00:00:00:00:09 -> 02:00:00:00:00:0a"],
            ),
            (
                "[[service]]",
                "[[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"10.1.0.2\"\n[metrics]\ntick = \"5s\"\n[[service]]",
                &["~ metrics: tick 10s -> 5s", "+ route 0.0.0.0/0 via 10.1.0.2"],
            ),
        ] {
            let (changes, restart) = diff(from, to);
            let mut changes: Vec<_> = changes.iter().map(String::as_str).collect();
            let mut says = says.to_vec();
            changes.sort_unstable();
            says.sort_unstable();
            assert_eq!(changes, says, "{from} -> {to}");
            assert!(restart.is_empty(), "{restart:?}");
        }
    }

    #[test]
    fn what_belongs_to_devices_and_threads_takes_a_restart() {
        for (from, to, says) in [
            ("device = \"net_null0\"", "device = \"net_null1\"", "~ port wan: device net_null0 -> net_null1"),
            ("10.1.0.1/24", "10.1.0.1/16", "~ port wan: addresses [10.1.0.1/24] -> [10.1.0.1/16]"),
            ("[[port]]", "[engine]\nworkers = [0, 1]\n[[port]]", "~ engine: workers [] -> [0, 1]"),
            (
                "[[port]]",
                "[metrics]\nlisten = \"127.0.0.1:1\"\n[[port]]",
                "~ metrics: listen 127.0.0.1:8080 -> 127.0.0.1:1",
            ),
            ("[[port]]", "[control]\nsocket = \"\"\n[[port]]", "~ control: socket Default -> Off"),
        ] {
            let (changes, restart) = diff(from, to);
            assert_eq!((changes, restart), (vec![], vec![says.to_owned()]));
        }
    }
}
