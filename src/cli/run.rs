//! `pollux run`

use std::process::ExitCode;

use clap::Args;
use pollux::listener::{self, Loaded};

use pollux::dpdk::exit_at_once;
use pollux::engine::{self, RunError};

use super::{ConfigFile, Failure, complain, warn};

/// Arguments of `pollux run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs the engine until SIGTERM or SIGINT.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let Loaded { config, security, warnings } = listener::load(&args.file.config, None)?;
    match engine::run(&config, security, &args.file.config, || warn(&warnings)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(hung @ RunError::Hung(_)) => {
            complain(&format!("pollux: {hung}\n"));
            exit_at_once(1)
        }
        Err(error) => Err(Failure::refused(error)),
    }
}
