//! What the format has and this release does not do yet: checked for its form, and refused where it asks for something.
//! Building a feature ends with the removal of its lines here.

use toml::de::DeValue;

use super::section::{integer, text};
use super::value::{self, Fault};

/// A key that is read nowhere else, or some of whose values are not supported.
pub(super) struct Later {
    section: &'static str,
    pub key: &'static str,
    pub kind: Kind,
    /// A value that asks for nothing, as it is written.
    pub off: &'static str,
    /// The form is checked, but by itself the key asks for nothing.
    pub passive: bool,
    /// In its table the default asks for something.
    pub on_when_absent: bool,
}

/// The form of a value.
pub(super) enum Kind {
    /// Tells whether a well-formed value asks for something.
    Value(fn(&DeValue<'_>) -> Result<bool, Fault>),
    /// Texts of this form; an empty list asks for nothing.
    List(fn(&str) -> Result<(), Fault>),
    /// An array of tables at this path, each called after this key of it.
    Tables(&'static str, &'static str),
}

const fn later(section: &'static str, key: &'static str, kind: Kind, off: &'static str) -> Later {
    Later { section, key, kind, off, passive: false, on_when_absent: false }
}

/// Only the form is checked: it asks for something together with another key alone.
const fn passive(section: &'static str, key: &'static str, kind: Kind) -> Later {
    Later { section, key, kind, off: "", passive: true, on_when_absent: false }
}

/// In the order of the format.
static LATER: &[Later] = &[
    later("limits", "syn_rate", Kind::Value(some_count), "0"),
    later("limits", "connection_rate", Kind::Value(some_count), "0"),
    later("limits", "connections", Kind::Value(some_count), "0"),
    later("limits", "udp_packet_rate", Kind::Value(some_count), "0"),
    later("limits", "udp_byte_rate", Kind::Value(some_count), "0"),
    later("limits", "deny", Kind::List(prefix), "[]"),
    later("limits", "allow", Kind::List(prefix), "[]"),
    Later { on_when_absent: true, ..later("history", "path", Kind::Value(some_text), "\"\"") },
    passive("history", "retention", Kind::Value(retention)),
    passive("history", "max_bytes", Kind::Value(some_count)),
    passive("history", "flow_series", Kind::Value(some_count)),
    passive("history", "external_labels", Kind::Value(text_map)),
    later("history", "remote_write", Kind::Tables("history.remote_write", "url"), ""),
    passive("history.remote_write", "url", Kind::Value(some_text)),
    passive("history.remote_write", "bearer_token_file", Kind::Value(some_text)),
    passive("history.remote_write", "ca_file", Kind::Value(some_text)),
    passive("history.remote_write", "headers", Kind::Value(text_map)),
    passive("history.remote_write", "queue_bytes", Kind::Value(some_count)),
];

/// The entries of a table.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static Later> {
    LATER.iter().filter(move |entry| entry.section == section)
}

fn some_text(v: &DeValue<'_>) -> Result<bool, Fault> {
    Ok(!text(v)?.is_empty())
}

fn some_count(v: &DeValue<'_>) -> Result<bool, Fault> {
    Ok(integer(v, &(0..=i64::MAX))? != 0)
}

fn prefix(text: &str) -> Result<(), Fault> {
    value::prefix(text).map(|_| ())
}

fn table<'v, 'i>(v: &'v DeValue<'i>) -> Result<&'v toml::de::DeTable<'i>, Fault> {
    v.as_table().ok_or_else(|| {
        Fault::new(format!("must be a table, but is of type {}", v.type_str()), "write { name = \"value\" }")
    })
}

fn text_map(v: &DeValue<'_>) -> Result<bool, Fault> {
    let table = table(v)?;
    for (_, item) in table {
        text(item.get_ref())?;
    }
    Ok(!table.is_empty())
}

/// Resolution to how long it is kept, both durations.
fn retention(v: &DeValue<'_>) -> Result<bool, Fault> {
    for (step, kept) in table(v)? {
        value::duration(step.get_ref())?;
        value::duration(text(kept.get_ref())?)?;
    }
    Ok(true)
}
