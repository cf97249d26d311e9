//! `pollux run`

use std::process::ExitCode;

use clap::Args;
use pollux::listener::{self, Loaded};

use super::{ConfigFile, Failure, warn};

/// Arguments of `pollux run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs the engine until SIGTERM or SIGINT.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let Loaded { config, security, warnings } = listener::load(&args.file.config)?;
    pollux::engine::run(&config, security, &args.file.config, || warn(&warnings))
        .map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}
