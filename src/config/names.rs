//! Names of ports, services and rules.

use std::collections::HashMap;

use super::report::{Finding, Sink};
use super::section::{Located, Section, text};
use super::value::{Fault, quote};

const MOST: usize = 128;

/// Reads the `name` of a table, which must be there.
pub(super) fn read(section: &mut Section<'_>, example: &str) -> Option<Located<String>> {
    section.require("name", example, |v| label(text(v)?))
}

/// As [`read`], for what the command line and labels name too: letters, digits, `_`, `-` and `.` alone.
pub(super) fn read_plain(section: &mut Section<'_>, example: &str) -> Option<Located<String>> {
    section.require("name", example, |v| {
        let name = label(text(v)?)?;
        if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
            return Ok(name);
        }
        Err(Fault::new(format!("is {}", quote(&name)), "use letters, digits, _, - and . alone"))
    })
}

fn label(name: &str) -> Result<String, Fault> {
    let cure = format!("use 1 to {MOST} characters, none of them a control character");
    if name.trim().is_empty() {
        Err(Fault::new("is empty", cure))
    } else if name.chars().count() > MOST {
        Err(Fault::new(format!("is too long: {}", quote(name)), cure))
    } else if name.chars().any(char::is_control) {
        Err(Fault::new(format!("is {}", quote(name)), cure))
    } else {
        Ok(name.to_owned())
    }
}

/// Notes every name that is there before.
pub(super) fn check_unique<'n>(
    sink: &Sink,
    kind: &str,
    names: impl IntoIterator<Item = &'n Located<String>>,
) {
    let mut first = HashMap::new();
    for name in names {
        if let Some(span) = first.get(name.value.as_str()) {
            let message = format!("there are two {kind}s with the name {}", quote(&name.value));
            let finding = Finding::cross(name.span.clone(), message);
            sink.push(
                finding.help("rename one of them").see(std::ops::Range::clone(span), "the first one is here"),
            );
        } else {
            first.insert(name.value.as_str(), name.span.clone());
        }
    }
}
