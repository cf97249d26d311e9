//! The configuration file: parsed with spans, validated whole, every problem at once.
//!
//! [`parse`] is pure: text in; a [`Config`] and warnings, or a [`Report`] out. The TOML parser gives values with their
//! places; one file of this folder reads each group of tables through `section`, which notes what is wrong and goes
//! on with a default, so that a single pass finds everything. What a later release builds is listed in `later`.

mod control;
mod engine;
mod firewall;
mod health;
mod later;
mod metrics;
mod model;
mod modes;
mod names;
mod network;
mod report;
mod secondary;
mod section;
mod server_ids;
mod services;
mod share;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

pub use health::{HealthCheck, Http, Probe, ProbeTarget, Statuses, Tls};
pub use model::*;
pub use report::{Problem, Report, Severity, Style, Warning};
pub(crate) use share::Finder;
pub use source::{Position, Source};

use report::{Finding, Sink};
use section::Section;

/// The largest file that is read, in bytes: a guard against devices without an end.
const MAX_BYTES: u64 = 256 << 20;

/// Reads and validates a configuration file, but none of the files that it names.
///
/// # Errors
/// The file cannot be read, or is not a valid configuration: a report of every problem.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), Report> {
    load_with(path, None, |_| ((), Vec::new())).map(|(config, (), warnings)| (config, warnings))
}

/// A problem not of the file itself, but of what a key of it leads to.
#[derive(Clone, Debug)]
pub struct Beyond {
    /// The table.
    pub table: &'static str,
    /// Its key.
    pub key: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: one line.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

/// As [`load`]; services that are the same in `before`, a configuration that was read earlier, are its objects, so that comparing the two
/// costs what is different. `open` sees to what the configuration names beyond the file, and its problems are reported with the file's own.
///
/// # Errors
/// As [`load`], or `open` found an error.
pub fn load_with<T>(
    path: &Path,
    before: Option<&Config>,
    open: impl FnOnce(&Config) -> (T, Vec<Beyond>),
) -> Result<(Config, T, Vec<Warning>), Report> {
    let name = path.display().to_string();
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let (why, cure) = unreadable(&error);
            return Err(whole_file(&name, &format!("cannot read the configuration: {why}; {cure}")));
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse_after(&name, &text, before, open),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let message = "the configuration is not UTF-8 text; save it as UTF-8";
            Err(report(Arc::new(Source::new(&name, &text)), vec![Finding::local(at..at + 1, message)]))
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> (String, &'static str) {
    let named = "name the file with --config FILE";
    match error.kind() {
        io::ErrorKind::NotFound => ("no such file".to_owned(), named),
        io::ErrorKind::IsADirectory => {
            ("it is a directory".to_owned(), "name the file in it with --config FILE")
        }
        io::ErrorKind::PermissionDenied => {
            ("permission denied".to_owned(), "make it readable for the user that runs pollux")
        }
        io::ErrorKind::FileTooLarge => (format!("it is larger than {} MiB", MAX_BYTES >> 20), named),
        _ => (error.to_string(), named),
    }
}

fn whole_file(name: &str, message: &str) -> Report {
    report(Arc::new(Source::new(name, "")), vec![Finding::whole_file(message)])
}

/// A duration as the file has it: `"250ms"`, `"10s"`, `"2m"`, `"1h"`.
///
/// # Errors
/// What is wrong with it and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    value::duration(text).map_err(|fault| format!("{}; {}", fault.message, fault.help))
}

/// Validates the text of a configuration file; `name` is what the problems call the file. Never panics.
///
/// # Errors
/// A report of every problem.
pub fn parse(name: &str, text: &str) -> Result<(Config, Vec<Warning>), Report> {
    parse_after(name, text, None, |_| ((), Vec::new())).map(|(config, (), warnings)| (config, warnings))
}

fn parse_after<T>(
    name: &str,
    text: &str,
    before: Option<&Config>,
    open: impl FnOnce(&Config) -> (T, Vec<Beyond>),
) -> Result<(Config, T, Vec<Warning>), Report> {
    let source = Arc::new(Source::new(name, text));
    let (document, errors) = DeTable::parse_recoverable(text);
    let document = document.get_ref();
    let sink = Sink::default();
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let config = read_config(&sink, document, base, before);
    let (opened, beyond) = open(&config);
    for Beyond { table, key, severity, message, cure } in beyond {
        let table = document.get(table);
        let place = table.and_then(|table| Some(table.get_ref().as_table()?.get(key)?.span()));
        // A key that is not there has its default.
        let place = place.or(table.map(toml::Spanned::span)).unwrap_or(0..0);
        let finding = match severity {
            Severity::Error => Finding::cross(place, message),
            Severity::Warning => Finding::warning(place, message),
        };
        sink.push(finding.help(cure));
    }
    let findings = syntax::merge(&source, &errors, sink.into_findings());
    let problems = in_order(&source, findings);
    if problems.iter().any(|p| p.severity() == Severity::Error) {
        Err(Report::new(problems))
    } else {
        Ok((config, opened, problems))
    }
}

/// Reads every table; paths are those from `base`. What is malformed is noted in the sink and replaced by its default.
fn read_config(sink: &Sink, document: &DeTable<'_>, base: &Path, before: Option<&Config>) -> Config {
    let empty = DeTable::new();
    let mut root = Section::root(sink, document);
    let network = network::read(&mut root);
    let engine = engine::read(root.table_or("engine", &empty), &network);
    let snat = modes::read_snat(&mut root, &network);
    let services = services::read(&mut root, &network, &snat, before);
    for (key, title) in [("limits", "[limits]"), ("history", "[history]")] {
        if let Some(table) = root.table(key, key, title.to_owned()) {
            table.finish();
        }
    }
    let firewall = firewall::read(&mut root, &network);
    let metrics = metrics::read(root.table_or("metrics", &empty), base);
    let control = control::read(root.table_or("control", &empty));
    root.finish();
    let (ports, routes, neighbors) = network.into_parts();
    Config { engine, ports, routes, neighbors, services, snat: snat.snat, firewall, metrics, control }
}

fn report(source: Arc<Source>, findings: Vec<Finding>) -> Report {
    Report::new(in_order(&source, findings))
}

fn in_order(source: &Arc<Source>, mut findings: Vec<Finding>) -> Vec<Problem> {
    findings.sort_by_key(Finding::start);
    findings.into_iter().map(|f| Problem::new(f, Arc::clone(source))).collect()
}
