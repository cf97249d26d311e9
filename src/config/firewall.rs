//! `[[firewall]]`

use toml::de::DeValue;

use super::model::{Action, Protocol, Rule};
use super::names;
use super::network::Network;
use super::report::Finding;
use super::section::{Located, Section, integer, text};
use super::value::{self, Fault, nearest, quote};

/// Names of IP protocols that rules may use (IANA numbers).
const PROTOCOLS: [(&str, u8); 5] = [("tcp", 6), ("udp", 17), ("sctp", 132), ("icmp", 1), ("icmpv6", 58)];

/// Reads all rules.
pub(super) fn read(root: &mut Section<'_>, net: &Network) -> Vec<Rule> {
    let sink = root.sink;
    let sections = root.tables("firewall", "firewall", "name");
    let count = sections.len();
    let mut rules = Vec::with_capacity(count);
    let mut known = Vec::with_capacity(count);
    for (i, section) in sections.into_iter().enumerate() {
        let (title, span) = (section.title.clone(), section.span.clone());
        let before = sink.errors();
        let (rule, name) = rule(section, net);
        if i + 1 < count && sink.errors() == before && matches_all(&rule) {
            let message = format!("{title} matches every packet: the rules after it are never reached");
            sink.push(Finding::warning(span, message).help("move it to the end, or say what it is for"));
        }
        rules.push(rule);
        known.extend(name);
    }
    names::check_unique(sink, "firewall rule", &known);
    rules
}

fn matches_all(rule: &Rule) -> bool {
    let Rule { name: _, action: _, protocol, source, destination, source_port, destination_port, port } =
        rule;
    protocol.is_none()
        && source.is_empty()
        && destination.is_empty()
        && source_port.is_none()
        && destination_port.is_none()
        && port.is_none()
}

fn rule(mut s: Section<'_>, net: &Network) -> (Rule, Option<Located<String>>) {
    let name = names::read(&mut s, "\"block_telnet\"");
    let actions = [("drop", Action::Drop), ("allow", Action::Allow)];
    let action = if s.place("action").is_some() {
        s.choice("action", &actions, Action::Drop)
    } else {
        s.require("action", "\"drop\"", |_| Ok(Action::Drop)).map_or(Action::Drop, |l| l.value)
    };
    let protocol = s.read("protocol", protocol);
    let source = s.texts("source", value::prefix);
    let destination = s.texts("destination", value::prefix);
    let source_port = s.read("source_port", ports);
    let destination_port = s.read("destination_port", ports);
    if let Some(p) = protocol.as_ref().filter(|p| Protocol::ALL.iter().all(|known| known.number() != p.value))
    {
        for (key, ports) in [("source_port", &source_port), ("destination_port", &destination_port)] {
            if let Some(ports) = ports {
                let message = format!("`{key}` of {} is set, but its protocol has no ports", s.title);
                let finding = Finding::local(ports.span.clone(), message).see(p.span.clone(), "the protocol");
                s.sink.push(
                    finding.help(format!("remove `{key}`, or write protocol tcp, udp or sctp, or none")),
                );
            }
        }
    }
    let port = net.port_key(&mut s);
    let rule = Rule {
        name: name.as_ref().map_or_else(String::new, |l| l.value.clone()),
        action,
        protocol: protocol.map(|l| l.value),
        source: source.into_iter().map(|l| l.value).collect(),
        destination: destination.into_iter().map(|l| l.value).collect(),
        source_port: source_port.map(|l| l.value),
        destination_port: destination_port.map(|l| l.value),
        port: port.map(|l| l.value),
    };
    s.finish();
    (rule, name)
}

/// A name, or a number as it is or as text.
fn protocol(v: &DeValue<'_>) -> Result<u8, Fault> {
    let DeValue::String(name) = v else {
        return integer(v, &(0..=255_u8));
    };
    if let Some(&(_, number)) = PROTOCOLS.iter().find(|(known, _)| known == name) {
        return Ok(number);
    }
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        let range = || Fault::new(format!("is {}", quote(name)), "a protocol number may be 0 to 255");
        return name.parse().map_err(|_| range());
    }
    let help = match nearest(name, PROTOCOLS.map(|(known, _)| known)) {
        Some((near, true)) => format!("did you mean \"{near}\"?"),
        _ => "it may be \"tcp\", \"udp\", \"sctp\", \"icmp\", \"icmpv6\" or a number".to_owned(),
    };
    Err(Fault::new(format!("is {}, which is unknown", quote(name)), help))
}

/// A port or a range as text, or one port as a number.
fn ports(v: &DeValue<'_>) -> Result<(u16, u16), Fault> {
    match v {
        DeValue::Integer(_) => integer(v, &(0..=u16::MAX)).map(|port| (port, port)),
        _ => value::port_range(text(v)?, 0),
    }
}
