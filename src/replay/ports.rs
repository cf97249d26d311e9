//! `[PORT=]FILE`.

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
    type Err = String;

    /// `PORT=FILE` or `FILE`. What stands before the first `=` is a port if it could be one's name: `./a=b.pcap` is a file.
    fn from_str(s: &str) -> Result<Self, String> {
        let name = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let (port, file) = match s.split_once('=') {
            Some(("", _)) => return Err("the port's name is empty; write PORT=FILE".to_owned()),
            Some((port, file)) if name(port) => (Some(port.to_owned()), file),
            _ => (None, s),
        };
        if file.is_empty() {
            return Err("the file's name is empty; write PORT=FILE or FILE".to_owned());
        }
        Ok(Self { port, file: PathBuf::from(file) })
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
        let PortFile { port, file } = s.parse().unwrap();
        (port, file.display().to_string())
    }

    #[test]
    fn port_and_file() {
        assert_eq!(parse("wan=in.pcap"), (Some("wan".into()), "in.pcap".into()));
        assert_eq!(parse("wan=a=b.pcap"), (Some("wan".into()), "a=b.pcap".into()));
        assert_eq!(parse("in.pcap"), (None, "in.pcap".into()));
        assert_eq!(parse("./wan=in.pcap"), (None, "./wan=in.pcap".into()));
        for wrong in ["", "=in.pcap", "wan="] {
            assert!(wrong.parse::<PortFile>().unwrap_err().contains("is empty"));
        }
    }

    #[test]
    fn nearest_name() {
        let known = ["wan".to_owned(), "lan".to_owned(), "uplink".to_owned()];
        assert_eq!(nearest("uplnik", &known).as_deref(), Some("uplink"));
        assert_eq!(nearest("wam", &known).as_deref(), Some("wan"));
        assert_eq!(nearest("storage", &known), None);
    }
}
