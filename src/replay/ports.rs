//! `[PORT=]FILE`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use super::ReplayError;
use crate::addr::Mac;
use crate::config::Config;
use crate::ids::PortId;

/// A capture file and the port that its packets pass by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFile {
    /// The port's name, if one is given.
    pub port: Option<String>,
    /// The file.
    pub file: PathBuf,
}

impl FromStr for PortFile {
    type Err = Infallible;

    /// What stands before the first `=` is the port, unless there is a `/` in it: then all is a path.
    fn from_str(s: &str) -> Result<Self, Infallible> {
        Ok(match s.split_once('=') {
            Some((port, file)) if !port.contains('/') => {
                Self { port: Some(port.to_owned()), file: PathBuf::from(file) }
            }
            _ => Self { port: None, file: PathBuf::from(s) },
        })
    }
}

impl PortFile {
    /// Which port that is.
    ///
    /// # Errors
    /// [`ReplayError::UnknownPort`].
    pub(super) fn resolve(&self, config: &Config) -> Result<Option<PortId>, ReplayError> {
        let Some(name) = &self.port else { return Ok(None) };
        match config.ports.iter().position(|port| port.name == *name) {
            Some(index) => Ok(Some(PortId::at(index))),
            None => {
                let known: Vec<_> = config.ports.iter().map(|port| port.name.clone()).collect();
                Err(ReplayError::UnknownPort { port: name.clone(), nearest: nearest(name, &known), known })
            }
        }
    }
}

/// The MAC that a port has in a replay.
pub(super) fn mac(port: PortId) -> Mac {
    Mac([0x02, 0, 0, 0, 0, port.0.wrapping_add(1)])
}

fn nearest(name: &str, known: &[String]) -> Option<String> {
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= k.chars().count().max(name.chars().count()) / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> (Option<String>, String) {
        let Ok(PortFile { port, file }) = s.parse();
        (port, file.display().to_string())
    }

    #[test]
    fn port_and_file() {
        assert_eq!(parse("wan=in.pcap"), (Some("wan".into()), "in.pcap".into()));
        assert_eq!(parse("wan=a=b.pcap"), (Some("wan".into()), "a=b.pcap".into()));
        assert_eq!(parse("in.pcap"), (None, "in.pcap".into()));
        assert_eq!(parse("./wan=in.pcap"), (None, "./wan=in.pcap".into()));
    }

    #[test]
    fn nearest_name() {
        let known = ["wan".to_owned(), "lan".to_owned(), "uplink".to_owned()];
        assert_eq!(nearest("uplnik", &known).as_deref(), Some("uplink"));
        assert_eq!(nearest("wam", &known).as_deref(), Some("wan"));
        assert_eq!(nearest("storage", &known), None);
    }
}
