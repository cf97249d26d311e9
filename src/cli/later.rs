//! Commands that the contract has and this release does not do yet: their arguments are checked, then they refuse.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use pollux::control::DEFAULT_SOCKET;

use super::{ConfigFile, Failure};

#[derive(Debug, Subcommand)]
pub enum Later {
    /// State of the running engine (not supported yet)
    Status(Engine),
    /// Services of the running engine (not supported yet)
    Services(Engine),
    /// Endpoints of the running engine (not supported yet)
    Endpoints(Engine),
    /// Firewall rules of the running engine (not supported yet)
    Firewall(Engine),
    /// Ports of the running engine (not supported yet)
    Ports(Engine),
    /// Workers of the running engine (not supported yet)
    Workers(Engine),
    /// Connections, with state, age, packets and bytes (not supported yet)
    Flows {
        /// Only those of this service
        #[arg(long)]
        service: Option<String>,
        /// Only those of this client address
        #[arg(long)]
        client: Option<std::net::IpAddr>,
        /// Only those of this endpoint address
        #[arg(long)]
        endpoint: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        engine: Engine,
    },
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

/// How a running engine is asked.
#[derive(Debug, Args)]
pub struct Engine {
    /// Admin socket of the running engine
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
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
        Later::Status(_) => "status",
        Later::Services(_) => "services",
        Later::Endpoints(_) => "endpoints",
        Later::Firewall(_) => "firewall",
        Later::Ports(_) => "ports",
        Later::Workers(_) => "workers",
        Later::Flows { .. } => "flows",
        Later::Top(_) => "top",
        Later::Trace { .. } => "trace",
        Later::Import { .. } => "import",
    };
    Err(Failure::not_supported(&format!("`pollux {name}`")))
}
