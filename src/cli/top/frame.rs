//! What there is to see, as text.

use std::cmp::Ordering;
use std::fmt;

use super::{History, Now};
use crate::cli::table::{Paint, Table, Tone, number, text};
use crate::cli::units::{bits, count, per_second, percent, pps, span};

/// Values that a sparkline shows.
const HISTORY: usize = 30;

/// What services and endpoints are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// The most bytes a second first.
    Traffic,
    /// The most connections first.
    Connections,
    /// The alphabet.
    Name,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traffic => "traffic",
            Self::Connections => "connections",
            Self::Name => "name",
        })
    }
}

impl By {
    /// Of two with their bytes a second and connections, which comes first; equal where their names decide.
    fn order(self, a: (f64, u64), b: (f64, u64)) -> Ordering {
        match self {
            Self::Traffic => b.0.total_cmp(&a.0),
            Self::Connections => b.1.cmp(&a.1),
            Self::Name => Ordering::Equal,
        }
    }
}

/// Adds what is now.
pub(super) fn note(history: &mut History, now: &Now) {
    let mut before = std::mem::take(history);
    for e in &now.endpoints.endpoints {
        let key = (e.service.clone(), e.address.clone());
        let mut values = before.remove(&key).unwrap_or_default();
        values.push_back(e.bytes_per_second);
        if values.len() > HISTORY {
            values.pop_front();
        }
        history.insert(key, values);
    }
}

/// All of it, longer than a terminal may be, with so many rows of each list.
pub(super) fn frame(now: &Now, history: &History, by: By, rows: usize, paint: Paint) -> String {
    let s = &now.status;
    let mut out = String::new();
    let ready = if s.ready { paint.on(Tone::Good, "ready") } else { paint.on(Tone::Bad, "not ready") };
    out.push_str(&format!(
        "{} {}, {ready}, up {}",
        paint.on(Tone::Head, "pollux"),
        s.version,
        span(s.uptime_seconds)
    ));
    if let Some(stale) = &s.of.stale {
        out.push_str(&paint.on(Tone::Bad, &format!("; these figures are old: {stale}")));
    }
    out.push_str(&format!(
        "\n{}  {}  requests {}  errors {}  connections {} of {}  endpoints {} up, {} down\n\n",
        pps(s.rates.packets),
        bits(s.rates.bytes),
        per_second(s.rates.requests),
        per_second(s.rates.errors),
        count(u64::try_from(s.connections.active).unwrap_or_default()),
        count(s.connections.capacity),
        s.endpoints.healthy,
        s.endpoints.unhealthy
    ));

    let mut services: Vec<_> = now.services.services.iter().collect();
    services.sort_by(|a, b| {
        by.order((a.rates.bytes, a.connections), (b.rates.bytes, b.connections)).then(a.name.cmp(&b.name))
    });
    let mut table =
        Table::new(&["service", "address", "endpoints", "conns", "packets", "traffic", "requests", "errors"]);
    for s in services.iter().take(rows) {
        table.row([
            text(&s.name),
            text(format!("{} {}", s.address, s.protocol)),
            number(format!("{}/{}", s.endpoints_up, s.endpoints)),
            number(count(s.connections)),
            number(pps(s.rates.packets)),
            number(bits(s.rates.bytes)),
            number(per_second(s.rates.requests)),
            number(per_second(s.rates.errors)),
        ]);
    }
    section(&mut out, &table, (services.len(), rows), paint);

    let mut endpoints: Vec<_> = now.endpoints.endpoints.iter().collect();
    endpoints.sort_by(|a, b| {
        by.order((a.bytes_per_second, a.connections), (b.bytes_per_second, b.connections))
            .then_with(|| (&a.service, &a.address).cmp(&(&b.service, &b.address)))
    });
    let mut table = Table::new(&["endpoint", "of", "state", "conns", "share", "traffic", "lately"]);
    for e in endpoints.iter().take(rows) {
        let key = (e.service.clone(), e.address.clone());
        table.row([
            text(&e.address),
            text(&e.service),
            text(&e.state).tone(if e.state == "up" { Tone::Good } else { Tone::Odd }),
            number(count(e.connections)),
            number(percent(e.share)),
            number(bits(e.bytes_per_second)),
            text(history.get(&key).map_or_else(String::new, |values| sparkline(values.iter().copied()))),
        ]);
    }
    section(&mut out, &table, (endpoints.len(), rows), paint);

    if !s.top_clients.is_empty() {
        let mut table = Table::new(&["client", "traffic"]);
        for client in s.top_clients.iter().take(rows) {
            table.row([text(&client.client), number(bits(client.bytes_per_second))]);
        }
        section(&mut out, &table, (0, rows), paint);
    }

    let mut drops: Vec<_> = s.ledger.dropped.iter().filter(|(_, total)| **total > 0).collect();
    drops.sort_by_key(|(reason, total)| (std::cmp::Reverse(**total), reason.as_str()));
    if !drops.is_empty() {
        let mut table = Table::new(&["dropped", "packets", "now"]);
        for (reason, total) in drops.iter().take(rows) {
            let rate = s.ledger.dropped_rates.get(*reason).copied().unwrap_or_default();
            let tone = if rate > 0.0 { Tone::Bad } else { Tone::Plain };
            table.row([text(reason.as_str()), number(count(**total)), number(pps(rate)).tone(tone)]);
        }
        section(&mut out, &table, (drops.len(), rows), paint);
    }

    let mut table = Table::new(&["worker", "cpu", "busy", ""]);
    for w in &now.workers.workers {
        let tone = if w.busy_ratio > 0.9 { Tone::Bad } else { Tone::Good };
        table.row([
            number(w.worker.to_string()),
            number(w.cpu.to_string()),
            number(percent(w.busy_ratio)),
            text(bar(w.busy_ratio, 30)).tone(tone),
        ]);
    }
    section(&mut out, &table, (0, rows), paint);
    out.pop();
    out
}

/// A table of so many, of which so many are shown at most.
fn section(out: &mut String, table: &Table, (all, rows): (usize, usize), paint: Paint) {
    out.push_str(&table.render(paint));
    if all > rows {
        out.push_str(&paint.on(Tone::Faint, &format!("and {} more\n", all - rows)));
    }
    out.push('\n');
}

/// A block for each value, as high as it is beside the highest.
fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.clone().fold(0.0, f64::max);
    let block = |value: f64| {
        let part = if highest > 0.0 { value / highest } else { 0.0 };
        BLOCKS[((part * 7.0).round() as usize).min(7)]
    };
    values.map(block).collect()
}

/// So many blocks of `width`.
fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "·".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use pollux::api::{Endpoint, EndpointList, Service, ServiceList, Status, WorkerList};

    use super::*;

    fn nothing() -> Now {
        Now {
            status: Status::default(),
            services: ServiceList::default(),
            endpoints: EndpointList::default(),
            workers: WorkerList::default(),
        }
    }

    #[test]
    fn blocks() {
        assert_eq!(sparkline([0.0, 1.0, 7.0].into_iter()), "▁▂█");
        assert_eq!(sparkline([0.0, 0.0].into_iter()), "▁▁");
        assert_eq!((bar(0.5, 4), bar(2.0, 2), bar(0.0, 2)), ("██··".into(), "██".into(), "··".into()));
    }

    #[test]
    fn a_history_is_of_what_there_is() {
        let mut history = HashMap::new();
        let mut now = nothing();
        now.endpoints.endpoints.push(Endpoint { address: "a".into(), ..Default::default() });
        for _ in 0..HISTORY + 5 {
            note(&mut history, &now);
        }
        assert_eq!(history.values().map(VecDeque::len).collect::<Vec<_>>(), [HISTORY]);
        assert!(frame(&now, &history, By::Traffic, 10, Paint(false)).contains(&"▁".repeat(HISTORY)));
        now.endpoints.endpoints.clear();
        note(&mut history, &now);
        assert!(history.is_empty());
    }

    #[test]
    fn sorted_as_asked_and_cut_where_there_are_more() {
        let mut now = nothing();
        for (name, bytes, connections) in [("a", 1.0, 5), ("b", 3.0, 1), ("c", 2.0, 9)] {
            let mut service = Service { name: name.into(), connections, ..Default::default() };
            service.rates.bytes = bytes;
            now.services.services.push(service);
        }
        let shown = |by: By, rows: usize| {
            let text = frame(&now, &HashMap::new(), by, rows, Paint(false));
            let names = text.lines().filter_map(|line| line.split_whitespace().next());
            let names: String = names.filter(|name| ["a", "b", "c"].contains(name)).collect();
            (names, text.contains("and 1 more"))
        };
        assert_eq!(shown(By::Traffic, 10), ("bca".into(), false));
        assert_eq!(shown(By::Connections, 10), ("cab".into(), false));
        assert_eq!(shown(By::Name, 10), ("abc".into(), false));
        assert_eq!(shown(By::Name, 2), ("ab".into(), true));
    }
}
