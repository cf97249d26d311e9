//! What the format has and this release does not do yet: checked for its form, and refused where it asks for something.
//! Building a feature ends with the removal of its lines here.

use toml::de::DeValue;

use super::section::{boolean, integer, text};
use super::value::{self, Fault, quote};

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
    /// Names that ask for nothing or are supported elsewhere, and those that are refused.
    Choice { off: &'static [&'static str], later: &'static [&'static str] },
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

const fn choice(
    section: &'static str,
    key: &'static str,
    off: &'static [&'static str],
    later: &'static [&'static str],
) -> Later {
    Later { section, key, kind: Kind::Choice { off, later }, off: "", passive: false, on_when_absent: false }
}

/// In the order of the format.
static LATER: &[Later] = &[
    choice("service.health_check", "kind", &["none"], &["tcp", "udp", "http", "https", "sctp", "ping"]),
    passive("service.health_check", "target", Kind::Choice { off: &["endpoint", "vip"], later: &[] }),
    passive("service.health_check", "port", Kind::Value(port_or_zero)),
    passive("service.health_check", "interval", Kind::Value(some_duration)),
    passive("service.health_check", "timeout", Kind::Value(some_duration)),
    passive("service.health_check", "rise", Kind::Value(threshold)),
    passive("service.health_check", "fall", Kind::Value(threshold)),
    passive("service.health_check", "host", Kind::Value(some_text)),
    passive("service.health_check", "path", Kind::Value(some_text)),
    passive("service.health_check", "expect", Kind::Value(http_status)),
    passive("service.health_check", "body", Kind::Value(some_text)),
    passive("service.health_check", "verify", Kind::Value(boolean)),
    passive("service.health_check", "send", Kind::Value(payload)),
    passive("service.health_check", "receive", Kind::Value(payload)),
    later("limits", "syn_rate", Kind::Value(some_count), "0"),
    later("limits", "connection_rate", Kind::Value(some_count), "0"),
    later("limits", "connections", Kind::Value(some_count), "0"),
    later("limits", "udp_packet_rate", Kind::Value(some_count), "0"),
    later("limits", "udp_byte_rate", Kind::Value(some_count), "0"),
    later("limits", "deny", Kind::List(prefix), "[]"),
    later("limits", "allow", Kind::List(prefix), "[]"),
    later("metrics", "aliases", Kind::Value(boolean), "false"),
    later("metrics", "bearer_token_file", Kind::Value(some_text), "\"\""),
    later("metrics", "tls_certificate", Kind::Value(some_text), "\"\""),
    later("metrics", "tls_key", Kind::Value(some_text), "\"\""),
    later("metrics", "tls_client_ca", Kind::Value(some_text), "\"\""),
    later("metrics", "web_config", Kind::Value(some_text), "\"\""),
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

/// The names of a key that are refused.
pub(super) fn choices(section: &str, key: &str) -> &'static [&'static str] {
    let mut found = of(section).filter(|entry| entry.key == key);
    found
        .find_map(|e| if let Kind::Choice { later, .. } = e.kind { Some(later) } else { None })
        .unwrap_or(&[])
}

fn some_text(v: &DeValue<'_>) -> Result<bool, Fault> {
    Ok(!text(v)?.is_empty())
}

fn some_duration(v: &DeValue<'_>) -> Result<bool, Fault> {
    Ok(!value::duration(text(v)?)?.is_zero())
}

fn some_count(v: &DeValue<'_>) -> Result<bool, Fault> {
    Ok(integer(v, &(0..=i64::MAX))? != 0)
}

fn threshold(v: &DeValue<'_>) -> Result<bool, Fault> {
    integer(v, &(1..=1000_u16)).map(|_| true)
}

fn port_or_zero(v: &DeValue<'_>) -> Result<bool, Fault> {
    Ok(integer(v, &(0..=u16::MAX))? != 0)
}

fn prefix(text: &str) -> Result<(), Fault> {
    value::prefix(text).map(|_| ())
}

/// Text as it is, or bytes as `hex:…`.
fn payload(v: &DeValue<'_>) -> Result<bool, Fault> {
    let text = text(v)?;
    text.strip_prefix("hex:").map_or(Ok(()), value::hex).map(|()| !text.is_empty())
}

/// `200`, `200-399`.
fn http_status(v: &DeValue<'_>) -> Result<bool, Fault> {
    let text = text(v)?;
    let code = |s: &str| s.parse::<u16>().ok().filter(|n| s.len() == 3 && (100..=599).contains(n));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (code(first), code(last)) {
        (Some(a), Some(b)) if a <= b => Ok(true),
        _ => Err(Fault::new(
            format!("is {}, which is no range of HTTP status codes", quote(text)),
            "for example \"200-399\"",
        )),
    }
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
