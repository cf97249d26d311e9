//! `pollux top`

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use pollux::api::{EndpointList, ServiceList, Status, WorkerList};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};

use super::engine::Engine;
use super::show::{ask, understood};
use super::table::{Paint, Table, Tone, number, text};
use super::units::{bits, count, per_second, percent, pps, span};
use super::{Failure, print};

/// Values that a sparkline shows.
const HISTORY: usize = 30;
/// Rows of a list.
const ROWS: usize = 10;

/// Arguments of `pollux top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// One frame, and the end; so it is also where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// Seconds between two frames; the figures change with every metrics.tick
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    interval: u16,
    #[command(flatten)]
    engine: Engine,
}

/// What a frame is made of.
struct Now {
    status: Status,
    services: ServiceList,
    endpoints: EndpointList,
    workers: WorkerList,
}

/// Of an endpoint: its service and its address.
type Key = (String, String);

/// Shows frames until q, or one.
pub fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    if args.engine.json {
        let parts = ["status", "services", "endpoints", "workers"];
        let asked: Result<BTreeMap<_, _>, Failure> =
            parts.into_iter().map(|part| Ok((part, ask(&args.engine, part)?))).collect();
        print(&format!("{:#}\n", json!(asked?)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut history = HashMap::new();
    let now = fetch(&args.engine)?;
    if args.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        note(&mut history, &now);
        print(&frame(&now, &history, Paint::for_stdout()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let screen = Screen::open().map_err(|error| Failure::refused(format!("the terminal: {error}")))?;
    let ended = live(args, now, &mut history);
    drop(screen);
    ended?;
    Ok(ExitCode::SUCCESS)
}

fn live(args: &TopArgs, first: Now, history: &mut HashMap<Key, VecDeque<f64>>) -> Result<(), Failure> {
    let mut now = first;
    let mut seen = f64::NEG_INFINITY;
    loop {
        // One value a tick, however often it is looked at.
        if now.status.of.snapshot > seen {
            seen = now.status.of.snapshot;
            note(history, &now);
        }
        draw(&frame(&now, history, Paint::for_stdout()));
        if quits(Duration::from_secs(args.interval.into())) {
            return Ok(());
        }
        now = fetch(&args.engine)?;
    }
}

fn fetch(engine: &Engine) -> Result<Now, Failure> {
    let get = |what: &str| -> Result<Value, Failure> { ask(engine, what) };
    Ok(Now {
        status: understood(get("status")?)?,
        services: understood(get("services")?)?,
        endpoints: understood(get("endpoints")?)?,
        workers: understood(get("workers")?)?,
    })
}

fn note(history: &mut HashMap<Key, VecDeque<f64>>, now: &Now) {
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

/// All of it, longer than a terminal may be.
fn frame(now: &Now, history: &HashMap<Key, VecDeque<f64>>, paint: Paint) -> String {
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
    services.sort_by(|a, b| b.rates.bytes.total_cmp(&a.rates.bytes).then(a.name.cmp(&b.name)));
    let mut table =
        Table::new(&["service", "address", "endpoints", "conns", "packets", "traffic", "requests", "errors"]);
    for s in services.iter().take(ROWS) {
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
    section(&mut out, &table, services.len(), paint);

    let mut endpoints: Vec<_> = now.endpoints.endpoints.iter().collect();
    endpoints.sort_by(|a, b| {
        b.bytes_per_second
            .total_cmp(&a.bytes_per_second)
            .then_with(|| (&a.service, &a.address).cmp(&(&b.service, &b.address)))
    });
    let mut table = Table::new(&["endpoint", "of", "state", "conns", "share", "traffic", "lately"]);
    for e in endpoints.iter().take(ROWS) {
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
    section(&mut out, &table, endpoints.len(), paint);

    if !s.top_clients.is_empty() {
        let mut table = Table::new(&["client", "traffic"]);
        for client in s.top_clients.iter().take(ROWS) {
            table.row([text(&client.client), number(bits(client.bytes_per_second))]);
        }
        section(&mut out, &table, 0, paint);
    }

    let mut drops: Vec<_> = s.ledger.dropped.iter().filter(|(_, total)| **total > 0).collect();
    drops.sort_by_key(|(reason, total)| (std::cmp::Reverse(**total), reason.as_str()));
    if !drops.is_empty() {
        let mut table = Table::new(&["dropped", "packets", "now"]);
        for (reason, total) in drops.iter().take(ROWS) {
            let rate = s.ledger.dropped_rates.get(*reason).copied().unwrap_or_default();
            let tone = if rate > 0.0 { Tone::Bad } else { Tone::Plain };
            table.row([text(reason.as_str()), number(count(**total)), number(pps(rate)).tone(tone)]);
        }
        section(&mut out, &table, drops.len(), paint);
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
    section(&mut out, &table, 0, paint);
    out.pop();
    out
}

fn section(out: &mut String, table: &Table, all: usize, paint: Paint) {
    out.push_str(&table.render(paint));
    if all > ROWS {
        out.push_str(&paint.on(Tone::Faint, &format!("and {} more\n", all - ROWS)));
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

/// Draws over what was there, no more than fits.
fn draw(frame: &str) {
    let (rows, columns) = match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 1 => (usize::from(size.ws_row), usize::from(size.ws_col)),
        _ => (24, 80),
    };
    let mut out = String::from("\x1b[H");
    for line in frame.lines().take(rows - 1) {
        out.push_str(&clipped(line, columns));
        out.push_str("\x1b[K\r\n");
    }
    out.push_str("\x1b[J\x1b[2mq quits\x1b[0m\x1b[K");
    let mut stdout = io::stdout().lock();
    // A terminal that went away is found by the next look at the keys.
    let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
}

/// The first so many characters; what only colours is none.
fn clipped(line: &str, columns: usize) -> String {
    let (mut shown, mut escape) = (0, false);
    let mut out = String::new();
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        }
        if escape {
            out.push(c);
            escape = c != 'm';
        } else if shown < columns {
            out.push(c);
            shown += 1;
        }
    }
    out
}

/// Waits; whether somebody wants to leave: q, Ctrl-C, or the end of the input.
fn quits(wait: Duration) -> bool {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return false };
        let stdin = io::stdin();
        let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut keys, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return true,
        }
        let mut key = [0; 16];
        match rustix::io::read(&stdin, &mut key) {
            Ok(0) | Err(_) => return true,
            Ok(n) if key[..n].iter().any(|key| matches!(key, b'q' | b'Q' | 3)) => return true,
            Ok(_) => {}
        }
    }
}

/// The alternate screen, with keys as they are typed; back to what it was when dropped.
struct Screen {
    before: Termios,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before };
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| stdout.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        assert_eq!(sparkline([0.0, 1.0, 7.0].into_iter()), "▁▂█");
        assert_eq!(sparkline([0.0, 0.0].into_iter()), "▁▁");
        assert_eq!((bar(0.5, 4), bar(2.0, 2), bar(0.0, 2)), ("██··".into(), "██".into(), "··".into()));
    }

    #[test]
    fn colour_is_not_counted() {
        assert_eq!(clipped("\x1b[1mabcd\x1b[0m", 2), "\x1b[1mab\x1b[0m");
        assert_eq!(clipped("ab", 3), "ab");
    }

    #[test]
    fn a_history_is_of_what_there_is() {
        let mut history = HashMap::new();
        let mut now = Now {
            status: Status::default(),
            services: ServiceList::default(),
            endpoints: EndpointList::default(),
            workers: WorkerList::default(),
        };
        now.endpoints.endpoints.push(pollux::api::Endpoint { address: "a".into(), ..Default::default() });
        for _ in 0..HISTORY + 5 {
            note(&mut history, &now);
        }
        assert_eq!(history.values().map(VecDeque::len).collect::<Vec<_>>(), [HISTORY]);
        assert!(frame(&now, &history, Paint(false)).contains(&"▁".repeat(HISTORY)));
        now.endpoints.endpoints.clear();
        note(&mut history, &now);
        assert!(history.is_empty());
    }
}
