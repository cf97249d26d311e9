//! `ipvsadm-save -n`, the same as `ipvsadm -S -n`: a line for each service and each of its real servers, as arguments of ipvsadm(8).

use std::net::SocketAddr;

use super::{Endpoint, Imported, Service, Unreadable, compose};
use crate::config::Protocol;

/// Kernel's, where `-p` has no number (ipvsadm(8)).
const USUAL_PERSISTENCE_S: u32 = 300;

/// Translates a dump.
///
/// # Errors
/// A dump without any service.
pub fn ipvsadm(dump: &str) -> Result<Imported, Unreadable> {
    let mut services: Vec<Service> = Vec::new();
    let mut lost = Vec::new();
    let mut lines = 0;
    for (number, line) in (1..).zip(dump.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = format!("line {number}");
        match words.first() {
            None => continue,
            Some(word) if word.starts_with('#') => continue,
            Some(&"-A" | &"--add-service") => {
                match Line::read(&words[1..]).and_then(|line| service(&at, &line)) {
                    Ok(service) => services.push(service),
                    Err(reason) => lost.push(format!("{at}: {reason}: {line}")),
                }
            }
            Some(&"-a" | &"--add-server") => {
                if let Err(reason) = Line::read(&words[1..]).and_then(|line| server(&line, &mut services)) {
                    lost.push(format!("{at}: {reason}: {line}"));
                }
            }
            Some(_) => lost.push(format!("{at}: neither -A nor -a: {line}")),
        }
        lines += 1;
    }
    if services.is_empty() {
        let reason = lost.first().map_or_else(|| format!("{lines} lines"), Clone::clone);
        return Err(Unreadable(format!(
            "this is no dump of `ipvsadm-save -n` with a service in it ({reason})"
        )));
    }
    compose(&services, &lost)
}

/// Which service is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    Address(Protocol, SocketAddr),
    Mark,
}

/// The arguments of a line.
struct Line<'a> {
    key: Key,
    options: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Line<'a> {
    fn read(words: &[&'a str]) -> Result<Self, String> {
        let mut key = None;
        let mut options = Vec::new();
        let mut words = words.iter().copied().peekable();
        while let Some(word) = words.next() {
            // A value does not begin like an option.
            let mut value = || words.next_if(|next| !next.starts_with('-'));
            let protocol = match word {
                "-t" | "--tcp-service" => Protocol::Tcp,
                "-u" | "--udp-service" => Protocol::Udp,
                "--sctp-service" => Protocol::Sctp,
                "-f" | "--fwmark-service" => {
                    value();
                    key = Some(Key::Mark);
                    continue;
                }
                word => {
                    options.push((word, value()));
                    continue;
                }
            };
            let text = value().ok_or("no address")?;
            key = Some(Key::Address(protocol, address(text)?));
        }
        Ok(Self { key: key.ok_or("no service is named")?, options })
    }

    fn get(&self, names: [&str; 2]) -> Option<Option<&'a str>> {
        self.options.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT; dump with -n"))
}

fn service(at: &str, line: &Line<'_>) -> Result<Service, String> {
    let Key::Address(protocol, vip) = line.key else {
        return Err("a service by firewall mark".into());
    };
    if vip.port() == 0 {
        return Err("a service on all ports; list them, or a range".into());
    }
    let mut service = Service::new(at.to_owned(), vip.ip(), (vip.port(), vip.port()), protocol);
    let flags = line.get(["-b", "--sched-flags"]).flatten().unwrap_or_default();
    let by_port = flags.split(',').any(|flag| flag.ends_with("-port"));
    let scheduler = line.get(["-s", "--scheduler"]).flatten().unwrap_or("wlc");
    service.algorithm = match scheduler {
        "rr" | "wrr" => "round-robin",
        "lc" | "wlc" => "least-connections",
        "sh" | "mh" if by_port => "maglev",
        "sh" | "mh" => "source-hash",
        "sed" | "nq" => {
            service.note(format!("scheduler {scheduler}: least-connections is the nearest"));
            "least-connections"
        }
        other => {
            service.note(format!("scheduler {other}: there is nothing like it, maglev is used"));
            "maglev"
        }
    };
    // Equal shares whatever the weights.
    if matches!(scheduler, "rr" | "lc") {
        service.note_weights = true;
    }
    for (option, value) in &line.options {
        match *option {
            "-s" | "--scheduler" => {}
            "-b" | "--sched-flags" => {
                let odd = flags.split(',').filter(|flag| !flag.ends_with("-port"));
                for flag in odd {
                    service.note(format!("scheduler flag {flag}"));
                }
            }
            "-p" | "--persistent" => {
                let seconds = value.map_or(Ok(USUAL_PERSISTENCE_S), str::parse);
                service.persistence_s = seconds.map_err(|_| format!("{option}: no number of seconds"))?;
            }
            "-M" | "--netmask" if matches!(value, Some("255.255.255.255" | "128")) => {}
            "-M" | "--netmask" => {
                let mask = value.unwrap_or_default();
                service.note(format!("persistence by network ({mask}): it is by address here"));
            }
            "-6" | "--ipv6" => {}
            "-o" | "--ops" => service.note("one-packet scheduling: a UDP connection idles out instead"),
            "--pe" => service.note(format!("persistence engine {}", value.unwrap_or_default())),
            other => service.note(format!("option {other}")),
        }
    }
    Ok(service)
}

fn server(line: &Line<'_>, services: &mut [Service]) -> Result<(), String> {
    let Key::Address(protocol, vip) = line.key else {
        return Err("of a service by firewall mark".into());
    };
    let same = |s: &&mut Service| s.protocol == protocol && s.vip == vip.ip() && s.ports.0 == vip.port();
    let service = services.iter_mut().find(same).ok_or("of a service that is not there")?;
    let real = line.get(["-r", "--real-server"]).flatten().ok_or("no real server")?;
    let address = address(real)?;
    let mut weight = 1;
    let mut mode = "dsr-l2";
    let mut tunnel = "ipip";
    for (option, value) in &line.options {
        match *option {
            "-r" | "--real-server" | "-g" | "--gatewaying" => {}
            "-m" | "--masquerading" => mode = "dnat",
            "-i" | "--ipip" => mode = "dsr-ipip",
            "--tun-type" => tunnel = value.unwrap_or_default(),
            "--tun-port" => {
                let port = value.unwrap_or_default();
                service.wish(format!("gue_port = {port}"), format!("--tun-port {port}"));
            }
            "-w" | "--weight" => {
                let number = value.and_then(|value| value.parse().ok());
                weight = number.ok_or_else(|| format!("{option}: no number"))?;
            }
            // No threshold.
            "-x" | "--u-threshold" | "-y" | "--l-threshold" if *value == Some("0") => {}
            other => {
                let value = value.unwrap_or_default();
                service.note(format!("real server {real}: option {other} {value}"));
            }
        }
    }
    if mode == "dsr-ipip" && tunnel != "ipip" {
        mode = if tunnel == "gue" { "dsr-gue" } else { "dsr-ipip" };
        if tunnel != "gue" {
            service.note(format!("real server {real}: tunnel of type {tunnel}"));
        }
    }
    service.forward(mode, real);
    if service.note_weights && weight > 1 {
        service.note(format!("real server {real}: weight {weight}, which the scheduler did not look at: 1"));
        weight = 1;
    }
    service.endpoints.push(Endpoint { address, weight });
    Ok(())
}
