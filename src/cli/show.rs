//! `pollux status`, `services`, `endpoints`, `firewall`, `ports`, `workers`

use std::process::ExitCode;

use hyper::Method;
use pollux::api::{
    EndpointList, Firewall, PREFIX, PortList, Refusal, ServiceList, Snapshot, Status, WorkerList,
};
use pollux::control::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::engine::Engine;
use super::table::{Paint, Table, Tone, number, text};
use super::units::{bits, bytes, count, per_second, percent, pps, si, span};
use super::{Failure, complain, print};

/// State of the running engine, in a few lines.
pub fn status(engine: &Engine) -> Result<ExitCode, Failure> {
    show(engine, "status", status_lines)
}

/// Its services.
pub fn services(engine: &Engine) -> Result<ExitCode, Failure> {
    show(engine, "services", |list: &ServiceList, paint| services_table(list).render(paint))
}

/// Their endpoints.
pub fn endpoints(engine: &Engine) -> Result<ExitCode, Failure> {
    show(engine, "endpoints", |list: &EndpointList, paint| endpoints_table(list).render(paint))
}

/// The firewall's rules.
pub fn firewall(engine: &Engine) -> Result<ExitCode, Failure> {
    show(engine, "firewall", |list: &Firewall, paint| firewall_table(list).render(paint))
}

/// The ports.
pub fn ports(engine: &Engine) -> Result<ExitCode, Failure> {
    show(engine, "ports", |list: &PortList, paint| ports_table(list).render(paint))
}

/// The workers.
pub fn workers(engine: &Engine) -> Result<ExitCode, Failure> {
    show(engine, "workers", |list: &WorkerList, paint| workers_table(list).render(paint))
}

/// Asks for a part of the state: its JSON as it came, or rendered.
fn show<T: DeserializeOwned>(
    engine: &Engine,
    what: &str,
    render: impl FnOnce(&T, Paint) -> String,
) -> Result<ExitCode, Failure> {
    let body = ask(engine, what)?;
    if let Ok(Snapshot { stale: Some(stale), .. }) = serde_json::from_value(body.clone()) {
        complain(&format!("pollux: these figures are old: {stale}\n"));
    }
    if engine.json {
        print(&format!("{body:#}\n"))?;
    } else {
        print(&render(&understood(body)?, Paint::for_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the API says at this place, with its query.
pub fn ask(engine: &Engine, what: &str) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format!("no runtime: {error}")))?;
    let client = Client::new(&engine.socket);
    let target = format!("{PREFIX}/{what}");
    let asked = client.ask_json(Method::GET, &target, String::new());
    let (status, body) = runtime.block_on(asked).map_err(Failure::refused)?;
    if status.is_success() {
        return Ok(body);
    }
    let reason = serde_json::from_value(body).map_or_else(|_| status.to_string(), |Refusal { error }| error);
    Err(Failure::Refused(reason))
}

/// The answer of an engine of this version.
pub fn understood<T: DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body).map_err(|error| {
        Failure::refused(format!(
            "the engine's answer is not understood ({error}); is it of another version? `--json` shows it as it is"
        ))
    })
}

fn state_tone(state: &str) -> Tone {
    match state {
        "up" => Tone::Good,
        "drain" => Tone::Odd,
        _ => Tone::Bad,
    }
}

fn bad_if(bad: bool) -> Tone {
    if bad { Tone::Bad } else { Tone::Plain }
}

/// A share of what there is, with a tone as it runs out.
fn fullness(share: f64) -> Tone {
    match share {
        s if s >= 0.95 => Tone::Bad,
        s if s >= 0.8 => Tone::Odd,
        _ => Tone::Plain,
    }
}

pub fn status_lines(s: &Status, paint: Paint) -> String {
    let ready = if s.ready { paint.on(Tone::Good, "ready") } else { paint.on(Tone::Bad, "not ready") };
    let age = |since: f64| span(s.started + s.uptime_seconds - since);
    let reload =
        if s.config.last_reload_ok { "" } else { &paint.on(Tone::Bad, ", the last reload was refused") };
    let mut lines = vec![
        ("pollux", format!("{} ({}), {ready}, up {}", s.version, s.dpdk, span(s.uptime_seconds))),
        ("configuration", format!("{}, applied {} ago{reload}", s.config.generation, age(s.config.applied))),
        ("services", s.services.to_string()),
        ("endpoints", {
            let tone = bad_if(s.endpoints.unhealthy > 0);
            let unhealthy = paint.on(tone, &format!("{} unhealthy", s.endpoints.unhealthy));
            format!("{} healthy, {unhealthy}", s.endpoints.healthy)
        }),
        ("firewall rules", s.firewall_rules.to_string()),
        ("ports", paint.on(bad_if(s.ports_up < s.ports), &format!("{} of {} up", s.ports_up, s.ports))),
        ("workers", s.workers.to_string()),
        ("connections", {
            let c = &s.connections;
            let share = c.active as f64 / c.capacity.max(1) as f64;
            format!(
                "{} active (tcp {}, udp {}, sctp {}), {} closing or closed; {} of {}",
                signed(c.active),
                signed(c.tcp),
                signed(c.udp),
                signed(c.sctp),
                signed(c.closing + c.closed),
                paint.on(fullness(share), &percent(share)),
                count(c.capacity)
            )
        }),
        (
            "now",
            format!(
                "{}, {}, {} requests, {} errors",
                pps(s.rates.packets),
                bits(s.rates.bytes),
                per_second(s.rates.requests),
                per_second(s.rates.errors)
            ),
        ),
        (
            "since the start",
            format!(
                "{} packets, {}, {} requests, {} errors",
                count(s.totals.packets),
                bytes(s.totals.bytes),
                count(s.totals.requests),
                count(s.totals.errors)
            ),
        ),
    ];
    let l = &s.ledger;
    lines.push((
        "received",
        format!(
            "{}: {} forwarded, {} to the kernel, {} for the engine, {} held",
            count(l.rx),
            count(l.forwarded),
            count(l.punted),
            count(l.consumed),
            signed(l.held + l.handoff_ring)
        ),
    ));
    let mut dropped: Vec<_> = l.dropped.iter().filter(|(_, n)| **n > 0).collect();
    dropped.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let reasons: Vec<_> = dropped.iter().map(|(reason, n)| format!("{reason} {}", count(**n))).collect();
    let none = if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") };
    lines.push(("dropped", none));
    for pool in &s.mempools {
        let share = pool.in_use as f64 / pool.size.max(1) as f64;
        lines.push((
            "packet buffers",
            format!(
                "{} of {} in use ({})",
                count(pool.in_use),
                count(pool.size),
                paint.on(fullness(share), &percent(share))
            ),
        ));
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{}{:pad$}  {value}\n", paint.on(Tone::Head, name), "", pad = width - name.len())
    };
    lines.iter().map(line).collect()
}

/// A gauge that is a difference of counters.
fn signed(value: i64) -> String {
    u64::try_from(value).map_or_else(|_| si(value as f64, ""), count)
}

pub fn services_table(list: &ServiceList) -> Table {
    let mut table = Table::new(&[
        "service",
        "address",
        "proto",
        "mode",
        "algorithm",
        "endpoints",
        "conns",
        "requests",
        "errors",
        "packets",
        "bytes",
        "now",
        "",
    ]);
    for s in &list.services {
        let up = format!("{}/{}", s.endpoints_up, s.endpoints);
        let tone = match s.endpoints_up {
            0 => Tone::Bad,
            n if n < s.endpoints => Tone::Odd,
            _ => Tone::Good,
        };
        table.row([
            text(&s.name),
            text(&s.address),
            text(&s.protocol),
            text(&s.mode),
            text(&s.algorithm),
            number(up).tone(tone),
            number(count(s.connections)),
            number(count(s.requests)),
            number(count(s.errors)).tone(if s.rates.errors > 0.0 { Tone::Bad } else { Tone::Plain }),
            number(count(s.packets)),
            number(bytes(s.bytes)),
            number(pps(s.rates.packets)),
            number(bits(s.rates.bytes)),
        ]);
    }
    table
}

pub fn endpoints_table(list: &EndpointList) -> Table {
    let mut table =
        Table::new(&["service", "endpoint", "state", "health", "weight", "conns", "bytes", "now", "share"]);
    for e in &list.endpoints {
        let mut state = e.state.clone();
        if e.drained {
            state.push_str(" (by hand)");
        }
        let weight = if e.weight_percent < 100 {
            format!("{} ({} %)", e.weight, e.weight_percent)
        } else {
            e.weight.to_string()
        };
        let health = match &e.health {
            None => text("-").tone(Tone::Faint),
            Some(health) => {
                let rtt = health.rtt_seconds.map_or(String::new(), |rtt| format!(" {:.1} ms", rtt * 1e3));
                let most = health.round_trips.bound(0.99);
                let most = most.map_or(String::new(), |bound| format!(", 99 % ≤ {} ms", bound * 1e3));
                let flaps =
                    if health.flaps > 0 { format!(", {} flaps", health.flaps) } else { String::new() };
                let reason = health.reason.as_ref().map_or(String::new(), |reason| format!(", {reason}"));
                let shown = match health.state.as_str() {
                    "up" => format!("up{rtt}{most}{flaps}"),
                    state => format!("{state}{reason}{flaps}"),
                };
                text(shown).tone(state_tone(&health.state))
            }
        };
        table.row([
            text(&e.service),
            text(&e.address),
            text(state).tone(state_tone(&e.state)),
            health,
            number(weight),
            number(count(e.connections)),
            number(bytes(e.bytes)),
            number(bits(e.bytes_per_second)),
            number(percent(e.share)),
        ]);
    }
    table
}

fn firewall_table(list: &Firewall) -> Table {
    let mut table =
        Table::new(&["rule", "action", "protocol", "source", "destination", "port", "drops", "now"]);
    let any = || "any".to_owned();
    let places = |prefixes: &[String], ports: Option<(u16, u16)>| {
        let prefixes = if prefixes.is_empty() { any() } else { prefixes.join(",") };
        match ports {
            None => prefixes,
            Some((first, last)) if first == last => format!("{prefixes} port {first}"),
            Some((first, last)) => format!("{prefixes} port {first}-{last}"),
        }
    };
    for r in &list.rules {
        let drops = r.action == "drop";
        table.row([
            text(&r.name),
            text(&r.action).tone(if drops { Tone::Odd } else { Tone::Good }),
            text(r.protocol.map_or_else(any, protocol)),
            text(places(&r.source, r.source_port)),
            text(places(&r.destination, r.destination_port)),
            text(r.port.clone().unwrap_or_else(any)),
            number(if drops { count(r.drops) } else { "-".to_owned() }),
            number(if drops { pps(r.drops_per_second) } else { "-".to_owned() }),
        ]);
    }
    table
}

/// As the configuration names them.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn ports_table(list: &PortList) -> Table {
    let mut table = Table::new(&[
        "port", "device", "driver", "mac", "link", "role", "vlan", "queues", "rx", "rx now", "tx", "tx now",
        "lost",
    ]);
    for p in &list.ports {
        let lost = p.rx_missed + p.rx_no_mbuf + p.rx_errors + p.tx_errors + p.tx_dropped;
        table.row([
            text(&p.name),
            text(&p.device),
            text(&p.driver),
            text(&p.mac),
            if p.link_up { text("up").tone(Tone::Good) } else { text("down").tone(Tone::Bad) },
            text(&p.role),
            number(if p.vlan == 0 { "-".to_owned() } else { p.vlan.to_string() }),
            number(format!("{}/{}", p.rx_queues, p.tx_queues)),
            number(count(p.rx_packets)),
            number(pps(p.rates.rx_packets)),
            number(count(p.tx_packets)),
            number(pps(p.rates.tx_packets)),
            number(count(lost)).tone(bad_if(lost > 0)),
        ]);
    }
    table
}

pub fn workers_table(list: &WorkerList) -> Table {
    let mut table =
        Table::new(&["worker", "cpu", "busy", "busy time", "turns", "with work", "capacity", "heartbeat"]);
    for w in &list.workers {
        table.row([
            number(w.worker.to_string()),
            number(w.cpu.to_string()),
            number(percent(w.busy_ratio)).tone(fullness(w.busy_ratio)),
            number(span(w.busy_seconds)),
            number(count(w.polls)),
            number(count(w.busy_polls)),
            number(count(w.connection_capacity as u64)),
            number(format!("{} ago", span(w.heartbeat_seconds))).tone(bad_if(w.heartbeat_seconds > 3.0)),
        ]);
    }
    table
}
