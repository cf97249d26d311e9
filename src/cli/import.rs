//! `pollux import`

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pollux::import::{self, Imported};
use serde_json::json;

use super::{Failure, complain, print};

/// Longest dump that is read, bytes.
const MOST: u64 = 256 << 20;

/// Arguments of `pollux import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose export it is
    format: ImportFormat,
    /// The export; - is standard input
    file: PathBuf,
    /// Print the configuration and what it lacks as JSON
    #[arg(long)]
    json: bool,
}

/// What `pollux import` reads.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ImportFormat {
    /// ipvsadm-save -n
    Ipvsadm,
    /// loxicmd get lb -o json, or lbconfig.txt
    Loxilb,
}

/// Prints the configuration, and on standard error what it lacks.
pub fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let failed =
        |reason: &dyn std::fmt::Display| Failure::refused(format!("{}: {reason}", args.file.display()));
    let dump = read(&args.file).map_err(|error| failed(&error))?;
    let imported = match args.format {
        ImportFormat::Ipvsadm => import::ipvsadm(&dump),
        ImportFormat::Loxilb => import::loxilb(&dump),
    };
    let Imported { text, notes, services } = imported.map_err(|error| failed(&error))?;
    if args.json {
        let json = json!({ "services": services, "configuration": text, "not_translated": notes });
        print(&format!("{json:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&text)?;
    let noun = if services == 1 { "service" } else { "services" };
    complain(&format!("pollux: {services} {noun} translated; not translated:\n"));
    for note in notes {
        complain(&format!("  {note}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(MOST).read_to_string(&mut text)?;
    } else {
        fs::File::open(path)?.take(MOST).read_to_string(&mut text)?;
    }
    Ok(text)
}
