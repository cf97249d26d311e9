//! `pollux reload`, `diff`, `drain`, `undrain`

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};
use pollux::control::{
    Client, DIFF_PATH, DRAIN_PATH, EndpointRequest, FileRequest, RELOAD_PATH, UNDRAIN_PATH,
};
use pollux::reload::{Change, Override};
use serde::Deserialize;
use serde_json::Value;

use super::engine::Engine;
use super::{ConfigFile, Failure, INVALID, complain, print};

/// Arguments of `pollux reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Configuration file, if another than the engine's own; it is the engine's own from then on
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    engine: Engine,
}

/// Arguments of `pollux diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    engine: Engine,
}

/// Arguments of `pollux drain` and `pollux undrain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The service's name
    service: String,
    /// The endpoint's address, with its port: 10.1.0.10:8080
    endpoint: String,
    #[command(flatten)]
    engine: Engine,
}

/// What the engine says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: String,
    generation: u64,
    changes: Vec<Change>,
    restart: Vec<Change>,
    runtime: Vec<Override>,
    rendered: String,
}

/// Lets the running engine read its file again.
pub fn reload(args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let (status, body) = ask(&args.engine, RELOAD_PATH, &file_request(args.config.as_deref())?)?;
    if args.engine.json {
        print(&format!("{body:#}\n"))?;
    }
    let answer: Answer = serde_json::from_value(body).unwrap_or_default();
    if !status.is_success() {
        return Err(refusal(&answer));
    }
    complain(&answer.rendered);
    if !args.engine.json {
        let changes = listed(&answer.changes, "nothing has changed");
        let generation = answer.generation;
        print(&format!("{changes}{}configuration {generation} is in force\n", runtime(&answer.runtime)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what a reload would do.
pub fn diff(args: &DiffArgs) -> Result<ExitCode, Failure> {
    let (status, body) = ask(&args.engine, DIFF_PATH, &file_request(Some(&args.file.config))?)?;
    if args.engine.json {
        print(&format!("{body:#}\n"))?;
    }
    let answer: Answer = serde_json::from_value(body).unwrap_or_default();
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        complain(&format!("pollux: {}\n{}", answer.error, answer.rendered));
        return Ok(ExitCode::from(INVALID));
    }
    if !status.is_success() {
        return Err(refusal(&answer));
    }
    complain(&answer.rendered);
    if !args.engine.json {
        let restart = match &*answer.restart {
            [] => String::new(),
            restart => {
                format!(
                    "only a restart changes this, and until then a reload is refused:\n{}",
                    lines(restart)
                )
            }
        };
        let none = if restart.is_empty() { "a reload would change nothing" } else { "" };
        print(&format!("{}{}{restart}", listed(&answer.changes, none), runtime(&answer.runtime)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes an endpoint out gracefully.
pub fn drain(args: &DrainArgs) -> Result<ExitCode, Failure> {
    change(args, DRAIN_PATH)
}

/// Puts a drained endpoint back.
pub fn undrain(args: &DrainArgs) -> Result<ExitCode, Failure> {
    change(args, UNDRAIN_PATH)
}

fn change(args: &DrainArgs, path: &str) -> Result<ExitCode, Failure> {
    let request = EndpointRequest { service: args.service.clone(), endpoint: args.endpoint.clone() };
    let (status, body) =
        ask(&args.engine, path, &serde_json::to_string(&request).map_err(Failure::refused)?)?;
    if !status.is_success() {
        return Err(refusal(&serde_json::from_value(body).unwrap_or_default()));
    }
    if args.engine.json {
        print(&format!("{body:#}\n"))?;
    } else {
        let Override { service, endpoint, state } = serde_json::from_value(body).map_err(Failure::refused)?;
        print(&format!("{service} {endpoint}: {state}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The engine's working directory is another: it gets an absolute path.
fn file_request(config: Option<&Path>) -> Result<String, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
    };
    let stderr = io::stderr();
    let color = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let request = FileRequest {
        config: config.map(absolute).transpose()?,
        graphical: stderr.is_terminal().then_some(color),
    };
    serde_json::to_string(&request).map_err(Failure::refused)
}

fn ask(engine: &Engine, path: &str, request: &str) -> Result<(StatusCode, Value), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format!("no runtime: {error}")))?;
    let client = Client::new(&engine.socket);
    runtime.block_on(client.ask_json(Method::POST, path, request.to_owned())).map_err(Failure::refused)
}

fn refusal(answer: &Answer) -> Failure {
    Failure::Refused(
        format!("{}\n{}{}", answer.error, answer.rendered, lines(&answer.restart)).trim_end().to_owned(),
    )
}

fn lines(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("  {change}\n")).collect()
}

fn listed(changes: &[Change], none: &str) -> String {
    match changes {
        [] if none.is_empty() => String::new(),
        [] => format!("{none}\n"),
        changes => changes.iter().map(|change| format!("{change}\n")).collect(),
    }
}

fn runtime(overrides: &[Override]) -> String {
    let line =
        |o: &Override| format!("drained at run time, whatever the file says: {} {}\n", o.service, o.endpoint);
    overrides.iter().map(line).collect()
}
