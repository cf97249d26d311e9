//! `pollux replay`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, Failure};

/// Arguments of `pollux replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Capture to read, and the port at which its packets enter; without PORT the first one
    #[arg(long = "in", value_name = "[PORT=]FILE", required = true, value_parser = capture)]
    pub inputs: Vec<Capture>,
    /// Capture to write, and the port whose packets it takes; without PORT, those of all ports
    #[arg(long = "out", value_name = "[PORT=]FILE", value_parser = capture)]
    pub outputs: Vec<Capture>,
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

/// A capture file, perhaps of one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// The port's name.
    pub port: Option<String>,
    /// The file.
    pub path: PathBuf,
}

/// `PORT=FILE` or `FILE`. What stands before `=` is a port if it could be one's name: `./a=b.pcap` is a file.
fn capture(text: &str) -> Result<Capture, String> {
    let name = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let (port, path) = match text.split_once('=') {
        Some(("", _)) => return Err("the port's name is empty; write PORT=FILE".to_owned()),
        Some((port, path)) if name(port) => (Some(port.to_owned()), path),
        _ => (None, text),
    };
    if path.is_empty() {
        return Err("the file's name is empty; write PORT=FILE or FILE".to_owned());
    }
    Ok(Capture { port, path: PathBuf::from(path) })
}

/// Runs captures through the pipeline.
pub fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let _config = args.file.load()?;
    Err(Failure::not_supported("`pollux replay`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_may_name_a_port() {
        let parts = |text| capture(text).map(|c| (c.port, c.path.display().to_string()));
        assert_eq!(parts("wan=in.pcap"), Ok((Some("wan".into()), "in.pcap".into())));
        assert_eq!(parts("in.pcap"), Ok((None, "in.pcap".into())));
        assert_eq!(parts("./a=b.pcap"), Ok((None, "./a=b.pcap".into())));
        assert_eq!(parts("wan=a=b.pcap"), Ok((Some("wan".into()), "a=b.pcap".into())));
        assert!(parts("=in.pcap").is_err() && parts("wan=").is_err() && parts("").is_err());
    }
}
