//! Commands that the contract has and this release does not do yet: their arguments are checked, then they refuse.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::engine::Engine;
use super::{ConfigFile, Failure};

#[derive(Debug, Subcommand)]
pub enum Later {
    /// Live view: rates, services, endpoints, top clients (not supported yet)
    Top(Engine),
    /// What the pipeline does to one described packet, stage by stage (not supported yet)
    Trace {
        #[command(flatten)]
        file: ConfigFile,
        /// For example `tcp 198.51.100.7:4000 > 203.0.113.100:80 syn`
        #[arg(required = true)]
        packet: Vec<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Turn another balancer's export into a configuration (not supported yet)
    Import { format: ImportFormat, file: PathBuf },
}

/// What `pollux import` reads.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ImportFormat {
    Ipvsadm,
    Loxilb,
}

/// Refuses.
pub fn run(command: &Later) -> Result<ExitCode, Failure> {
    let name = match command {
        Later::Top(_) => "top",
        Later::Trace { .. } => "trace",
        Later::Import { .. } => "import",
    };
    Err(Failure::not_supported(&format!("`pollux {name}`")))
}
