//! `quic_server_id_bytes` of a service, and the `server_id` of its endpoints.

use std::collections::HashMap;
use std::ops::Range;

use super::model::Protocol;
use super::report::Finding;
use super::section::{Located, Section};
use super::value::{self, Fault, quote};
use crate::wire::quic::MAX_SERVER_ID;

/// What is said of a service's server ids while its endpoints are read.
pub(super) struct ServerIds {
    /// Length in bytes, 0: QUIC is not looked at.
    pub bytes: u8,
    place: Range<usize>,
    first: HashMap<Vec<u8>, Range<usize>>,
}

impl ServerIds {
    /// Reads the service's key.
    pub fn read(s: &mut Section<'_>, protocol: Protocol) -> Self {
        let given = s.integer("quic_server_id_bytes", 0..=MAX_SERVER_ID as u8);
        let Located { value: bytes, span: place } =
            given.unwrap_or(Located { value: 0, span: s.span.clone() });
        if bytes > 0 && protocol != Protocol::Udp {
            let message = format!(
                "`quic_server_id_bytes` of {} is {bytes}, but its protocol is {}",
                s.title,
                protocol.name()
            );
            s.sink.push(
                Finding::cross(place.clone(), message).help("QUIC is UDP: write `protocol = \"udp\"`, or 0"),
            );
        }
        Self { bytes, place, first: HashMap::new() }
    }

    /// Reads an endpoint's key; empty: it has none.
    pub fn endpoint(&mut self, e: &mut Section<'_>) -> Vec<u8> {
        let given = e.parsed("server_id", bytes);
        let Some(Located { value: id, span }) = given.filter(|l| !l.value.is_empty()) else {
            if self.bytes > 0 {
                let message = format!("{} has no `server_id`", e.title);
                let help = "add the one that it puts into its connection ids, or clients whose address changes \
                            lose their connections to it";
                let finding = Finding::warning(e.span.clone(), message);
                e.sink.push(finding.see(self.place.clone(), "the service routes by it").help(help));
            }
            return Vec::new();
        };
        let (have, want) = (id.len(), usize::from(self.bytes));
        if want == 0 {
            let message = format!("{} has a `server_id`, which its service does not look at", e.title);
            let help = format!("write `quic_server_id_bytes = {have}` in the service, or remove it");
            e.sink.push(Finding::cross(span, message).help(help));
        } else if have != want {
            let unit = if have == 1 { "byte" } else { "bytes" };
            let message = format!("`server_id` of {} has {have} {unit}, not {want}", e.title);
            let finding = Finding::cross(span, message).see(self.place.clone(), "the length is set here");
            e.sink.push(finding.help(format!("write {} hexadecimal digits", 2 * want)));
        } else if let Some(old) = self.first.get(&id) {
            let message = format!("`server_id` of {} is another endpoint's, too", e.title);
            let finding = Finding::cross(span, message).see(old.clone(), "the first one is here");
            e.sink.push(finding.help("each server of a service has its own"));
        } else {
            self.first.insert(id.clone(), span);
        }
        id
    }
}

/// An even number of hexadecimal digits.
fn bytes(text: &str) -> Result<Vec<u8>, Fault> {
    value::hex(text)?;
    let byte = |n: usize| text.get(n..n + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let decoded = (0..text.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>();
    decoded.ok_or_else(|| Fault::new(format!("is {}, which is not hexadecimal", quote(text)), ""))
}
