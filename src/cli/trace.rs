//! `pollux trace`

use std::process::ExitCode;

use clap::Args;
use pollux::trace::{self, Described, GRAMMAR};

use super::{ConfigFile, Failure, print, warn};

/// Arguments of `pollux trace`.
#[derive(Debug, Args)]
#[command(after_help = GRAMMAR)]
pub struct TraceArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// For example `tcp 198.51.100.7:4000 > 203.0.113.100:80 syn`, quoted
    #[arg(required = true, value_name = "PACKET")]
    packet: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Sends one packet through the pipeline.
pub fn run(args: &TraceArgs) -> Result<ExitCode, Failure> {
    let described = Described::parse(&args.packet.join(" "))
        .map_err(|unclear| Failure::Usage(format!("the packet: {unclear}\n{GRAMMAR}")))?;
    let (config, warnings) = args.file.load()?;
    let trace = trace::run(&config, &described).map_err(|error| Failure::Usage(error.to_string()))?;
    warn(&warnings);
    if args.json {
        let json = serde_json::to_value(&trace).map_err(Failure::refused)?;
        print(&format!("{json:#}\n"))?;
    } else {
        print(&trace.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
