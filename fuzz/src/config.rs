//! The reader of configurations, its reports, and the compiler of what it lets through.

use pollux::addr::Mac;
use pollux::config::{self, Algorithm, Severity, Style};
use pollux::tables::{LinkInfo, Slots, Tables};

/// Entries of maglev tables that are still compiled: beyond, it takes long and shows nothing new.
const MOST_ENTRIES: u32 = 10_000;

/// Any text.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let problems = match config::parse("f", &text) {
        Ok((config, warnings)) => {
            let entries = config.services.iter().map(|s| match s.algorithm {
                Algorithm::Maglev { size } | Algorithm::SourceHash { size } => size,
                _ => 1,
            });
            if entries.fold(0, u32::saturating_add) <= MOST_ENTRIES {
                let link = LinkInfo { mac: Mac([2, 0, 0, 0, 0, 1]), promiscuous: false };
                let links = vec![link; config.ports.len()];
                let tables = Tables::compile(&config, &links, &mut Slots::default());
                assert_eq!(tables.ports.len(), config.ports.len());
            }
            warnings
        }
        Err(report) => {
            assert!(report.problems().iter().any(|p| p.severity() == Severity::Error));
            assert_eq!(report.lines().lines().count(), report.problems().len(), "{}", report.lines());
            report.problems().to_vec()
        }
    };
    let _ = Style::Plain.render(&problems);
    let _ = Style::Graphical { color: true, width: 60 }.render(&problems);
}
