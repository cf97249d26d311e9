//! `pollux replay`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pollux::replay::{self, Options, PortFile};

use super::{ConfigFile, Failure, INVALID, print, warn};

/// Arguments of `pollux replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Capture to read, and the port at which its packets enter; without PORT the first one
    #[arg(long = "in", value_name = "[PORT=]FILE", required = true)]
    pub inputs: Vec<PortFile>,
    /// Capture to write, and the port whose packets it takes; without PORT, those of all ports
    #[arg(long = "out", value_name = "[PORT=]FILE")]
    pub outputs: Vec<PortFile>,
    /// Write the metrics as of the last packet's time
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Where randomness (hash keys, SNAT ports) comes from
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the packet ledger as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs captures through the pipeline.
pub fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let (config, warnings) = args.file.load()?;
    let options = Options {
        inputs: args.inputs.clone(),
        outputs: args.outputs.clone(),
        metrics: args.metrics.clone(),
        seed: args.seed,
    };
    let ledger = replay::run(&config, &options).map_err(|error| match error.exit_status() {
        INVALID => Failure::Usage(error.to_string()),
        _ => Failure::refused(error),
    })?;
    warn(&warnings);
    print(&if args.json { format!("{}\n", ledger.to_json()) } else { ledger.to_string() })?;
    Ok(ExitCode::SUCCESS)
}
