//! The command line: arguments, exit status, where output goes. What the commands do is the library's.

mod bench;
mod capture;
mod check;
mod demo;
mod engine;
mod flows;
mod import;
mod reload;
mod replay;
mod run;
mod shell;
mod show;
mod table;
mod top;
mod trace;
mod units;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pollux::config::{self, Config, Report, Style, Warning};
use tracing_subscriber::EnvFilter;

/// Wrong usage or invalid configuration. clap exits with the same for usage.
const INVALID: u8 = 2;

/// L4 load balancer and packet engine on DPDK, with metrics that are exact.
#[derive(Debug, Parser)]
#[command(
    name = "pollux",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done; 1 refused or failed; \
    2 wrong usage or invalid configuration."
)]
struct Cli {
    /// Form of the log on standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine in the foreground
    Run(run::RunArgs),
    /// Validate a configuration without starting
    Check(check::CheckArgs),
    /// Run captures through the pipeline, on virtual time
    Replay(replay::ReplayArgs),
    /// Run the whole engine on in-process traffic: no NIC, no root, no hugepages
    Demo(demo::DemoArgs),
    /// Measure this machine: the pipeline against a bare forward of the same packets
    Bench(bench::BenchArgs),
    /// A running engine's packets, also dropped ones with their reason, as pcapng
    Capture(capture::CaptureArgs),
    /// Ask the running engine to read its configuration again
    Reload(reload::ReloadArgs),
    /// What a reload would change
    Diff(reload::DiffArgs),
    /// Take an endpoint out gracefully
    Drain(reload::DrainArgs),
    /// Put a drained endpoint back
    Undrain(reload::DrainArgs),
    /// State of the running engine
    Status(engine::Engine),
    /// Its services: endpoints, connections, counters, rates
    Services(engine::Engine),
    /// Its endpoints: state, connections, share
    Endpoints(engine::Engine),
    /// Its connections, out of the workers' tables
    Flows(flows::FlowsArgs),
    /// Its firewall rules, and what they dropped
    Firewall(engine::Engine),
    /// Its ports: devices, links, counters
    Ports(engine::Engine),
    /// Its workers: CPUs and load
    Workers(engine::Engine),
    /// Live view: rates, services, endpoints, top clients, drops, workers
    Top(top::TopArgs),
    /// What the pipeline does to one described packet, stage by stage
    Trace(trace::TraceArgs),
    /// Turn another balancer's export into a configuration
    Import(import::ImportArgs),
    /// Print what a shell needs to complete commands and options
    Completions(shell::CompletionsArgs),
    /// Write the manual's pages into a folder
    #[command(hide = true)]
    Man(shell::ManArgs),
}

/// The configuration file of a command.
#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/pollux/pollux.toml")]
    config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<(Config, Vec<Warning>), Failure> {
        Ok(config::load(&self.config)?)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// An invalid configuration: status 2.
    Config(Report),
    /// Wrong usage that only the command itself could find: status 2.
    Usage(String),
    /// Refused or failed, for this reason: status 1. Its first line stands by itself.
    Refused(String),
}

impl Failure {
    /// Refused or failed with this reason.
    pub fn refused(reason: impl Display) -> Self {
        Self::Refused(reason.to_string())
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Config(report)
    }
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(cli.log_format);
    let done = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Capture(args) => capture::run(args),
        Command::Reload(args) => reload::reload(args),
        Command::Diff(args) => reload::diff(args),
        Command::Drain(args) => reload::drain(args),
        Command::Undrain(args) => reload::undrain(args),
        Command::Status(engine) => show::status(engine),
        Command::Services(engine) => show::services(engine),
        Command::Endpoints(engine) => show::endpoints(engine),
        Command::Flows(args) => flows::run(args),
        Command::Firewall(engine) => show::firewall(engine),
        Command::Ports(engine) => show::ports(engine),
        Command::Workers(engine) => show::workers(engine),
        Command::Top(args) => top::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Import(args) => import::run(args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    };
    match done {
        Ok(status) => status,
        Err(Failure::Config(report)) => {
            complain(&report.render(&Style::for_stderr()));
            ExitCode::from(INVALID)
        }
        Err(Failure::Usage(reason)) => {
            complain(&format!("pollux: {reason}\n"));
            ExitCode::from(INVALID)
        }
        Err(Failure::Refused(reason)) => {
            complain(&format!("pollux: {reason}\n"));
            ExitCode::FAILURE
        }
    }
}

/// `RUST_LOG` chooses what is logged; without it, from `info` on.
fn init_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Writes to standard output. A reader that went away is no failure of the command.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Shows warnings on standard error. Not before it is known that the command does not fail: the reason comes first then.
fn warn(warnings: &[Warning]) {
    complain(&Style::for_stderr().render(warnings));
}

/// Writes to standard error, where nobody could be told of a failure.
fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
