//! `pollux check`

use std::process::ExitCode;

use clap::Args;
use pollux::config::{Config, Problem, Severity};
use pollux::listener::{self, Loaded};
use pollux::preflight::{self, Finding, Machine, Verdict};
use serde_json::{Value, json};

use super::table::{Paint, Tone};
use super::{ConfigFile, Failure, INVALID, print, warn};

/// Arguments of `pollux check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Also say what this machine lacks
    #[arg(long)]
    system: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Validates, and tells every problem; then what this machine lacks: status 1 where the engine would not start.
pub fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let path = &args.file.config;
    let loaded = listener::load(path, None);
    let findings = match &loaded {
        Ok(loaded) if args.system => Some(preflight::check(&loaded.config, &Machine::this())),
        _ => None,
    };
    if args.json {
        let (config, problems) = match &loaded {
            Ok(loaded) => (Some(&loaded.config), loaded.warnings.as_slice()),
            Err(report) => (None, report.problems()),
        };
        let mut out = as_json(&path.display().to_string(), config, problems);
        if let Some(findings) = &findings {
            out["system"] = json!(findings);
        }
        print(&format!("{out:#}\n"))?;
        if loaded.is_err() {
            return Ok(ExitCode::from(INVALID));
        }
    } else {
        let Loaded { config, warnings, .. } = loaded?;
        warn(&warnings);
        print(&format!("{}: valid: {}\n", path.display(), summary(&config)))?;
        if let Some(findings) = &findings {
            print(&shown(findings, Paint::for_stdout()))?;
        }
    }
    let lacking: Vec<_> = findings.iter().flatten().filter(|f| f.verdict == Verdict::Lacks).collect();
    if lacking.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let subjects: Vec<_> = lacking.iter().map(|finding| finding.subject.as_str()).collect();
    Err(Failure::refused(format!("this machine lacks what the engine needs: {}", subjects.join(", "))))
}

/// A line for each finding, and its cure below.
fn shown(findings: &[Finding], paint: Paint) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { subject, verdict, found, cure } in findings {
        let tone = match verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warn => Tone::Odd,
            Verdict::Lacks => Tone::Bad,
        };
        let word = paint.on(tone, &format!("{:5}", verdict.name()));
        text += &format!("{word}  {subject:width$}  {found}\n");
        if let Some(cure) = cure {
            text += &format!("{:7}{:width$}  {}\n", "", "", paint.on(Tone::Faint, &format!("-> {cure}")));
        }
    }
    text
}

fn summary(config: &Config) -> String {
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    [
        count(config.ports.len(), "port"),
        count(config.services.len(), "service"),
        count(config.services.iter().map(|s| s.endpoints.len()).sum(), "endpoint"),
        count(config.firewall.len(), "firewall rule"),
    ]
    .join(", ")
}

fn as_json(file: &str, config: Option<&Config>, problems: &[Problem]) -> Value {
    let of = |severity| -> Vec<Value> {
        problems.iter().filter(|p| p.severity() == severity).map(problem_as_json).collect()
    };
    let mut out = json!({
        "file": file,
        "valid": config.is_some(),
        "errors": of(Severity::Error),
        "warnings": of(Severity::Warning),
    });
    if let Some(config) = config {
        out["ports"] = json!(config.ports.len());
        out["services"] = json!(config.services.len());
        out["endpoints"] = json!(config.services.iter().map(|s| s.endpoints.len()).sum::<usize>());
        out["firewall_rules"] = json!(config.firewall.len());
    }
    out
}

fn problem_as_json(problem: &Problem) -> Value {
    let place = problem.position();
    json!({
        "file": problem.file(),
        "line": place.map(|p| p.line),
        "column": place.map(|p| p.column),
        "message": problem.message(),
        "help": problem.cure(),
    })
}
