//! Other balancers' exports as a configuration, and what could not be translated.
//!
//! What comes out is a configuration that [`config::parse`] accepts: each service is tried, and what this release refuses of it is left
//! out and noted. What a dump does not say at all, the ports and routes, is there as an example to be edited.

mod ipvsadm;
mod loxilb;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

pub use self::ipvsadm::ipvsadm;
pub use self::loxilb::loxilb;

use crate::config::{self, Protocol};

/// The dump is none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// A configuration, and what is not in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The file.
    pub text: String,
    /// What could not be translated, a line each; also in the text, as comments.
    pub notes: Vec<String>,
    /// Services that were.
    pub services: usize,
}

/// An endpoint of a dump.
#[derive(Clone, Debug)]
struct Endpoint {
    address: SocketAddr,
    weight: u32,
}

/// A service of a dump, in this engine's words.
#[derive(Clone, Debug)]
struct Service {
    /// Where in the dump it is.
    at: String,
    name: Option<String>,
    vip: IpAddr,
    ports: (u16, u16),
    protocol: Protocol,
    algorithm: &'static str,
    persistence_s: u32,
    idle_timeout_s: u32,
    /// Lines that a release may refuse, each with what it is: tried one by one.
    wishes: Vec<(String, String)>,
    /// Prefixes that may use it; none: all.
    sources: Vec<String>,
    endpoints: Vec<Endpoint>,
    notes: Vec<String>,
    /// Weights were not looked at.
    note_weights: bool,
    /// How it forwards, once an endpoint has said.
    mode: Option<&'static str>,
}

impl Service {
    fn new(at: String, vip: IpAddr, ports: (u16, u16), protocol: Protocol) -> Self {
        Self {
            at,
            name: None,
            vip,
            ports,
            protocol,
            algorithm: "maglev",
            persistence_s: 0,
            idle_timeout_s: 0,
            wishes: Vec::new(),
            sources: Vec::new(),
            endpoints: Vec::new(),
            notes: Vec::new(),
            note_weights: false,
            mode: None,
        }
    }

    /// A line that a release may refuse, and what it is.
    fn wish(&mut self, line: String, what: String) {
        if !self.wishes.iter().any(|(wish, _)| *wish == line) {
            self.wishes.push((line, what));
        }
    }

    /// How packets go to an endpoint: the same for all of a service.
    fn forward(&mut self, mode: &'static str, endpoint: &str) {
        match self.mode {
            None => {
                self.mode = Some(mode);
                if mode != "dnat" {
                    let what =
                        format!("mode {mode} (dnat is used, endpoints must answer by way of this machine)");
                    // Before what needs it.
                    self.wishes.insert(0, (format!("mode = \"{mode}\""), what));
                }
            }
            Some(first) if first != mode => {
                self.note(format!("endpoint {endpoint}: mode {mode}, while the service has {first}"));
            }
            Some(_) => {}
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// The VIP with its ports.
    fn address(&self) -> String {
        let first = SocketAddr::new(self.vip, self.ports.0).to_string();
        if self.ports.0 == self.ports.1 { first } else { format!("{first}-{}", self.ports.1) }
    }

    fn render(&self, name: &str, wishes: &[&str]) -> String {
        let mut text = format!(
            "[[service]]\nname = {}\nvip = {}\nprotocol = \"{}\"\nalgorithm = \"{}\"\n",
            quoted(name),
            quoted(&self.address()),
            self.protocol.name(),
            self.algorithm
        );
        if self.persistence_s > 0 {
            let _ = writeln!(text, "persistence = \"{}s\"", self.persistence_s);
        }
        if self.idle_timeout_s > 0 {
            let _ = writeln!(text, "idle_timeout = \"{}s\"", self.idle_timeout_s);
        }
        for wish in wishes {
            let _ = writeln!(text, "{wish}");
        }
        for endpoint in &self.endpoints {
            let _ =
                writeln!(text, "[[service.endpoint]]\naddress = {}", quoted(&endpoint.address.to_string()));
            if endpoint.weight != 1 {
                let _ = writeln!(text, "weight = {}", endpoint.weight);
            }
        }
        text
    }

    /// What allows its sources and nobody else.
    fn rules(&self, name: &str) -> String {
        if self.sources.is_empty() {
            return String::new();
        }
        let to = format!(
            "destination = [{}]\nprotocol = \"{}\"\ndestination_port = \"{}-{}\"\n",
            quoted(&self.vip.to_string()),
            self.protocol.name(),
            self.ports.0,
            self.ports.1
        );
        let sources: Vec<_> = self.sources.iter().map(|source| quoted(source)).collect();
        let short: String = name.chars().take(100).collect();
        format!(
            "[[firewall]]\nname = {}\naction = \"allow\"\nsource = [{}]\n{to}[[firewall]]\nname = {}\naction = \"drop\"\n{to}",
            quoted(&format!("{short} sources")),
            sources.join(", "),
            quoted(&format!("{short} others")),
        )
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One arm, and a default route for each family: an example.
const PORTS: &str = r#"# The dump says nothing of ports and routes: these are an example. Put in yours.
[[port]]
name = "wan"
device = "0000:00:00.0"
role = "both"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]
[[route]]
prefix = "0.0.0.0/0"
via = "192.0.2.1"
[[route]]
prefix = "::/0"
via = "2001:db8::1"
"#;

/// The configuration of these services. `lost` is what is of no service.
fn compose(services: &[Service], lost: &[String]) -> Result<Imported, Unreadable> {
    // Two on one VIP and port are seen together alone, which takes its time.
    compose_by(services, lost, false).or_else(|_| compose_by(services, lost, true))
}

fn compose_by(services: &[Service], lost: &[String], together: bool) -> Result<Imported, Unreadable> {
    let mut notes = lost.to_vec();
    notes.push("ports, routes: not in the dump; an example is there, to be edited".to_owned());
    let mut text = String::new();
    for note in &notes {
        let _ = writeln!(text, "# not translated: {}", one_line(note));
    }
    text.push_str(PORTS);
    let mut names = HashSet::new();
    let mut taken = 0;
    for service in services {
        let (vip, protocol) = (service.address(), service.protocol.name());
        let mut name = match &service.name {
            Some(name) if !name.trim().is_empty() => {
                name.chars().filter(|c| !c.is_control()).take(100).collect()
            }
            _ => format!("{protocol}-{}", vip.replace(['[', ']'], "").replace(':', "-")),
        };
        let plain = name.clone();
        for n in 2.. {
            if names.insert(name.clone()) {
                break;
            }
            name = format!("{plain}-{n}");
        }
        let mut own = service.notes.clone();
        let bare = service.render(&name, &[]);
        let rules = service.rules(&name);
        let before = if together { &text } else { PORTS };
        let mut kept = if let Err(reason) = accepted(&format!("{before}{bare}{rules}")) {
            own.push(format!("left out: {reason}"));
            None
        } else {
            Some(Vec::new())
        };
        if let Some(kept) = &mut kept {
            for (wish, what) in &service.wishes {
                kept.push(wish.as_str());
                // Tables last: keys behind one would be its own.
                kept.sort_by_key(|wish| wish.starts_with('['));
                if let Err(reason) = accepted(&format!("{PORTS}{}", service.render(&name, kept))) {
                    kept.retain(|kept| kept != wish);
                    own.push(format!("{what}: {reason}"));
                }
            }
        }
        let at = format!("{} ({vip} {protocol})", service.at);
        text.push('\n');
        for note in own {
            let note = one_line(&format!("{at}: {note}"));
            let _ = writeln!(text, "# not translated: {note}");
            notes.push(note);
        }
        if let Some(kept) = kept {
            text.push_str(&service.render(&name, &kept));
            text.push_str(&rules);
            taken += 1;
        }
    }
    accepted(&text).map_err(|reason| Unreadable(format!("what came out is not valid: {reason}")))?;
    Ok(Imported { text, notes, services: taken })
}

/// Nothing gets out of a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether a configuration is valid; else the first reason why not.
fn accepted(text: &str) -> Result<(), String> {
    match config::parse("import", text) {
        Ok(_) => Ok(()),
        Err(report) => {
            Err(report.problems().first().map_or_else(String::new, |problem| problem.message().to_owned()))
        }
    }
}
