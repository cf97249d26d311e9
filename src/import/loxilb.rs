//! LoxiLB's load balancers: `loxicmd get lb -o json`, `loxicmd save --lb` (`lbconfig.txt`), or what `GET /netlox/v1/config/loadbalancer/all`
//! says: `{"lbAttr": [{"serviceArguments": {…}, "secondaryIPs": […], "allowedSources": […], "endpoints": […]}]}`.
//! Releases write some keys differently (`inactiveTimeOut`, `inactiveTimeout`): their case does not matter here.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use super::{Endpoint, Imported, Service, Unreadable, compose, quoted};
use crate::config::Protocol;

/// LoxiLB's own, where persistence has no time.
const USUAL_PERSISTENCE_S: u32 = 10_800;

/// Translates an export.
///
/// # Errors
/// Text that is none.
pub fn loxilb(dump: &str) -> Result<Imported, Unreadable> {
    let value: Value = serde_json::from_str(dump).map_err(|error| {
        Unreadable(format!("this is no JSON ({error}); export with `loxicmd get lb -o json`"))
    })?;
    let rules = match &value {
        Value::Array(rules) => Some(rules),
        Value::Object(top) => Object(top).get("lbattr").and_then(Value::as_array),
        _ => None,
    };
    let rules = rules.ok_or_else(|| Unreadable("there is no list `lbAttr` in it".into()))?;
    let mut services = Vec::new();
    let mut lost = Vec::new();
    for (n, rule) in rules.iter().enumerate() {
        let at = format!("lbAttr[{n}]");
        match service(&at, rule) {
            Ok(service) => services.push(service),
            Err(reason) => lost.push(format!("{at}: {reason}")),
        }
    }
    compose(&services, &lost)
}

/// A JSON object whose keys are asked for in lower case.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn of(value: &'a Value, what: &str) -> Result<Self, String> {
        value.as_object().map(Self).ok_or_else(|| format!("{what} is no object"))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> &'a str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    fn port(&self, key: &str) -> Result<u16, String> {
        u16::try_from(self.number(key)).map_err(|_| format!("{key} is {}", self.number(key)))
    }

    fn is_set(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    fn list(&self, key: &str) -> &'a [Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

fn address(text: &str, what: &str) -> Result<IpAddr, String> {
    // Some releases write a VIP with its mask.
    text.split('/').next().unwrap_or_default().parse().map_err(|_| format!("{what} is {text:?}, no address"))
}

fn service(at: &str, rule: &Value) -> Result<Service, String> {
    let rule = Object::of(rule, "it")?;
    let arguments = rule.get("servicearguments").ok_or("no serviceArguments")?;
    let arguments = Object::of(arguments, "serviceArguments")?;
    let vip = address(arguments.text("externalip"), "externalIP")?;
    let protocol = match arguments.text("protocol").to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(format!("protocol {other:?} is not balanced here")),
    };
    if arguments.is_set("egress") {
        return Err("an egress rule: connections from inside to outside are not balanced here".into());
    }
    if arguments.is_set("snat") {
        return Err("a source NAT rule, no service; LoxiLB makes it of a firewall rule".into());
    }
    if arguments.number("mode") == 4 {
        return Err("mode 4, fullproxy: TCP is not terminated here".into());
    }
    let first = arguments.port("port")?;
    let last = arguments.port("portmax")?.max(first);
    let mut service = Service::new(at.to_owned(), vip, (first, last), protocol);
    let name = arguments.text("name");
    service.name = (!name.is_empty()).then(|| name.to_owned());
    selection(&arguments, &mut service);
    settings(&arguments, &mut service);
    probe(&arguments, &mut service);
    let secondary: Vec<String> = rule
        .list("secondaryips")
        .iter()
        .filter_map(Value::as_object)
        .map(|ip| quoted(Object(ip).text("secondaryip")))
        .collect();
    if !secondary.is_empty() {
        let list = secondary.join(", ");
        service.wish(format!("secondary_vips = [{list}]"), format!("secondaryIPs {list}"));
    }
    for source in rule.list("allowedsources").iter().filter_map(Value::as_object) {
        service.sources.push(Object(source).text("prefix").to_owned());
    }
    let mode = match arguments.number("mode") {
        0 => "dnat",
        1 | 2 | 5 => "full-nat",
        3 => "dsr-l2",
        other => {
            service.note(format!("mode {other}"));
            "dnat"
        }
    };
    for endpoint in rule.list("endpoints") {
        let endpoint = Object::of(endpoint, "an endpoint")?;
        let ip = address(endpoint.text("endpointip"), "endpointIP")?;
        let address = SocketAddr::new(ip, endpoint.port("targetport")?);
        service.forward(mode, &address.to_string());
        let mut weight = u32::try_from(endpoint.number("weight")).unwrap_or(u32::MAX);
        if service.note_weights && weight > 1 {
            service
                .note(format!("endpoint {address}: weight {weight}, which the selection did not look at: 1"));
        }
        if service.note_weights {
            weight = 1;
        }
        service.endpoints.push(Endpoint { address, weight });
    }
    Ok(service)
}

fn selection(arguments: &Object<'_>, service: &mut Service) {
    service.note_weights = true;
    service.algorithm = match arguments.number("sel") {
        0 => "round-robin",
        1 => "maglev",
        2 => {
            service.note_weights = false;
            "round-robin"
        }
        3 => {
            let seconds = u32::try_from(arguments.number("persisttimeout")).unwrap_or(u32::MAX);
            service.persistence_s = if seconds == 0 { USUAL_PERSISTENCE_S } else { seconds };
            "round-robin"
        }
        4 => "least-connections",
        other => {
            service.note(format!("sel {other}: there is nothing like it, maglev is used"));
            "maglev"
        }
    };
}

fn settings(arguments: &Object<'_>, service: &mut Service) {
    service.idle_timeout_s = u32::try_from(arguments.number("inactivetimeout")).unwrap_or(u32::MAX);
    if arguments.is_set("proxyprotocolv2") {
        service.wish("client_address = \"proxy-v2\"".into(), "proxyprotocolv2".into());
    }
    if arguments.is_set("bgp") {
        service.note("bgp: VIPs are announced by a routing daemon on the kernel's interface");
    }
    for key in ["security", "lbsec"] {
        if arguments.number(key) != 0 {
            service.note(format!("{key} {}: TLS passes as it comes", arguments.number(key)));
        }
    }
    let block = arguments.number("block");
    if block != 0 {
        service.note(format!("block {block}: it tells rules of one VIP and port apart, by a mark"));
    }
    for key in ["privateip", "path", "host"] {
        let value = arguments.text(key);
        if !value.is_empty() {
            service.note(format!("{key} {value:?}"));
        }
    }
}

fn probe(arguments: &Object<'_>, service: &mut Service) {
    let kind = match arguments.text("probetype") {
        "" if !arguments.is_set("monitor") => return,
        "none" => return,
        // What LoxiLB does of its own.
        "" if service.protocol == Protocol::Udp => "ping",
        "" => service.protocol.name(),
        "connect-tcp" => "tcp",
        "connect-udp" => "udp",
        "connect-sctp" => "sctp",
        "icmp" => "ping",
        other => other,
    };
    let mut table = format!("[service.health_check]\nkind = {}", quoted(kind));
    let port = arguments.number("probeport");
    if port != 0 {
        table.push_str(&format!("\nport = {port}"));
    }
    let interval = arguments.number("probetimeout");
    if interval != 0 {
        table.push_str(&format!("\ninterval = \"{interval}s\""));
    }
    let retries = arguments.number("proberetries");
    if retries != 0 {
        table.push_str(&format!("\nfall = {retries}"));
    }
    let (request, reply) = (arguments.text("probereq"), arguments.text("proberesp"));
    if kind.starts_with("http") && !request.is_empty() {
        table.push_str(&format!("\npath = {}", quoted(&format!("/{}", request.trim_start_matches('/')))));
    } else if kind == "udp" && !request.is_empty() {
        table.push_str(&format!("\nsend = {}", quoted(request)));
    }
    if !reply.is_empty() {
        let key = if kind.starts_with("http") { "body" } else { "receive" };
        table.push_str(&format!("\n{key} = {}", quoted(reply)));
    }
    service.wish(table, format!("health check {kind}"));
}
