//! `pollux check`

use std::process::ExitCode;

use clap::Args;
use pollux::config::{self, Config, Problem, Severity};
use serde_json::{Value, json};

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

/// Validates, and tells every problem.
pub fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let path = &args.file.config;
    let loaded = listener::load(path);
    if args.json {
        let (config, problems) = match &loaded {
            Ok(loaded) => (Some(&loaded.config), loaded.warnings.as_slice()),
            Err(report) => (None, report.problems()),
        };
        print(&format!("{:#}\n", as_json(&path.display().to_string(), config, problems)))?;
        if loaded.is_err() {
            return Ok(ExitCode::from(INVALID));
        }
    } else {
        let Loaded { config, warnings, .. } = loaded?;
        warn(&warnings);
        print(&format!("{}: valid: {}\n", path.display(), summary(&config)))?;
    }
    if args.system {
        return Err(Failure::not_supported("`--system`"));
    }
    Ok(ExitCode::SUCCESS)
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
