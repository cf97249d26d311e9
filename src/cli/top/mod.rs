//! `pollux top`

mod frame;
mod screen;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use pollux::api::{EndpointList, ServiceList, Status, WorkerList};
use serde_json::{Value, json};

use self::frame::{By, frame, note};
use self::screen::{Key, Screen};
use super::engine::Engine;
use super::show::{ask, understood};
use super::table::Paint;
use super::{Failure, print};

/// Rows of a list, until all are asked for.
const ROWS: usize = 10;

/// Arguments of `pollux top`.
#[derive(Debug, Args)]
#[command(after_help = KEYS)]
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

const KEYS: &str = "\
Keys:
  q, Esc, Ctrl-C       leave
  t, c, n              sort services and endpoints by traffic, connections, name
  a                    all rows of each list, or the first ten
  Up, Down, k, j       a line up, down
  PgUp, PgDn, space    a page up, down
  Home, End, g, G      to the top, to the end";

/// What a frame is made of.
struct Now {
    status: Status,
    services: ServiceList,
    endpoints: EndpointList,
    workers: WorkerList,
}

/// The endpoints' rates of late, by service and address.
type History = HashMap<(String, String), VecDeque<f64>>;

/// Shows frames until somebody leaves, or one.
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
        print(&frame(&now, &history, By::Traffic, ROWS, Paint::for_stdout()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let screen = Screen::open().map_err(|error| Failure::refused(format!("the terminal: {error}")))?;
    let ended = live(args, now, &mut history, &screen);
    drop(screen);
    ended?;
    Ok(ExitCode::SUCCESS)
}

fn live(args: &TopArgs, first: Now, history: &mut History, screen: &Screen) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    let interval = Duration::from_secs(args.interval.into());
    let (mut by, mut rows) = (By::Traffic, ROWS);
    let mut from = 0;
    let mut now = first;
    let mut seen = f64::NEG_INFINITY;
    loop {
        // One value a tick, however often it is looked at.
        if now.status.of.snapshot > seen {
            seen = now.status.of.snapshot;
            note(history, &now);
        }
        let due = Instant::now() + interval;
        loop {
            let text = frame(&now, history, by, rows, paint);
            from = screen.draw(&text, from, &by.to_string(), paint);
            let page = screen.page();
            let Some(key) = screen.key(due) else { break };
            match key {
                Key::Leave => return Ok(()),
                Key::Char('t') => by = By::Traffic,
                Key::Char('c') => by = By::Connections,
                Key::Char('n') => by = By::Name,
                Key::Char('a') => rows = if rows == ROWS { usize::MAX } else { ROWS },
                Key::Down | Key::Char('j') => from += 1,
                Key::Up | Key::Char('k') => from = from.saturating_sub(1),
                Key::PageDown | Key::Char(' ') => from += page,
                Key::PageUp => from = from.saturating_sub(page),
                Key::Home | Key::Char('g') => from = 0,
                // No further than there is something to see.
                Key::End | Key::Char('G') => from = usize::MAX,
                Key::Char(_) | Key::Resized => {}
            }
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
