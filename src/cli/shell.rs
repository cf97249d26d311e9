//! `pollux completions`, `pollux man`: made of the same description that parses the arguments.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, print};

/// Arguments of `pollux completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Arguments of `pollux man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A folder that exists
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pollux", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `pollux.1` and a page for each command.
pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .map_err(|error| Failure::refused(format!("{}: {error}", args.folder.display())))?;
    Ok(ExitCode::SUCCESS)
}
