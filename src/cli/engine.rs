//! How a running engine is asked.

use std::path::PathBuf;

use clap::Args;

use pollux::control::DEFAULT_SOCKET;

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
