//! `pollux run`

use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, Failure};

/// Arguments of `pollux run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs the engine until SIGTERM or SIGINT.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let _config = args.file.load()?;
    Err(Failure::not_supported("`pollux run`"))
}
