//! `pollux demo`

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pollux::config::parse_duration;

use super::Failure;

/// Arguments of `pollux demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after this long: 30s, 2m; without it, at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Where metrics are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

/// Runs the engine on traffic of its own.
pub fn run(_args: &DemoArgs) -> Result<ExitCode, Failure> {
    Err(Failure::not_supported("`pollux demo`"))
}
