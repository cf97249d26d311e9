//! `pollux demo`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pollux::config::parse_duration;
use pollux::demo::{self, DemoError, Options};

use super::{Failure, print};

/// Arguments of `pollux demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after this long: 30s, 2m; without it, at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Where metrics are served; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Also serve the admin socket here, for `pollux status`, `top`, `flows`, `drain`…
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Runs the engine on traffic of its own.
pub fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let options = Options { duration: args.duration, listen: args.listen, socket: args.socket.clone() };
    let ask = args.socket.as_ref().map_or_else(String::new, |socket| {
        format!("\x20 state    pollux status --socket {0}; pollux top --socket {0}\n", socket.display())
    });
    let end = match args.duration {
        Some(duration) => format!("ends in {} s, or at Ctrl-C", duration.as_secs_f32()),
        None => "Ctrl-C ends it".to_owned(),
    };
    // A reader of standard output that went away does not end the demo.
    let announce = |address| {
        let _ = print(&format!(
            "pollux demo: real frames through the engine, made-up clients and endpoints; {end}\n\
             \n\
             \x20 metrics  http://{address}/metrics\n\
             \x20 health   http://{address}/healthz\n\
             \x20 start    http://{address}/\n\
             {ask}"
        ));
    };
    demo::run(&options, announce).map_err(|error| match error {
        DemoError::Config(report) => Failure::Config(report),
        error => Failure::refused(error),
    })?;
    Ok(ExitCode::SUCCESS)
}
