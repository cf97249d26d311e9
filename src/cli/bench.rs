//! `pollux bench`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pollux::bench::{self, BenchError, Case, Options};

use super::{Failure, complain, print};

/// Arguments of `pollux bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Flows in the table; the same as --connections
    #[arg(long, value_name = "N", conflicts_with = "connections")]
    pub flows: Option<usize>,
    /// L3 size of the packets, in bytes
    #[arg(long, value_name = "N", default_value_t = 46, value_parser = clap::value_parser!(u16).range(20..=1500))]
    pub packet_size: u16,
    /// Only this case: established-hot, established-cold, new-connections, new-and-expire, new-clients, handoff
    #[arg(long, value_parser = case)]
    pub case: Option<Case>,
    /// Connections; without it, the usual numbers
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// How long each case is measured
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,
    /// Leave out what a tick costs
    #[arg(long)]
    pub no_tick: bool,
    /// Packets of a burst
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub burst: u16,
    /// Packets in hugepages, which must be reserved, instead of ordinary memory
    #[arg(long)]
    pub hugepages: bool,
    /// Packets of a pass; without it, as many as no cache holds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=1 << 22))]
    pub frames: Option<u32>,
    /// Take what comes from this virtual device, such as net_pcap0,rx_pcap=F.pcap,infinite_rx=1, instead of the cases
    #[arg(long, value_name = "DEV", conflicts_with = "case")]
    pub port: Option<String>,
    /// Write one packet of each connection, for such a device, and end
    #[arg(long, value_name = "FILE", conflicts_with = "port")]
    pub write_pcap: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

fn case(name: &str) -> Result<Case, String> {
    let found = Case::ALL.into_iter().find(|case| case.name() == name);
    found.ok_or_else(|| format!("the cases are {}", Case::ALL.map(Case::name).join(", ")))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("takes 0 to 3600".into()) }
}

/// Measures this machine.
pub fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let options = Options {
        case: args.case,
        connections: args.connections.or(args.flows),
        packet_size: args.packet_size.into(),
        seconds: args.seconds,
        port: args.port.clone(),
        tick: !args.no_tick,
        burst: args.burst.into(),
        hugepages: args.hugepages,
        frames: args.frames.map(|n| n as usize),
    };
    if let Some(path) = &args.write_pcap {
        return match bench::write_pcap(&options, path) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::refused(format!("{}: {error}", path.display()))),
        };
    }
    let report = bench::run(&options, |spec| {
        complain(&format!(
            "pollux bench: {}, {} {} {}, {} connections\n",
            spec.case.name(),
            spec.mode.name,
            spec.protocol.name(),
            spec.family(),
            spec.connections
        ));
    })
    .map_err(|error| match error {
        BenchError::Usage(reason) => Failure::Usage(reason),
        error => Failure::refused(error),
    })?;
    print(&if args.json { format!("{:#}\n", report.json()) } else { report.to_string() })?;
    Ok(ExitCode::SUCCESS)
}
