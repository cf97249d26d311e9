//! The text format 0.0.4, as far as it is written here: headers, samples, escaping.

use std::fmt::{Display, Write};

use super::families::Family;

/// Writes `# HELP` and `# TYPE`.
pub(super) fn header(out: &mut String, family: &Family) {
    out.push_str("# HELP ");
    out.push_str(family.name);
    out.push(' ');
    for c in family.help().chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    let _ = writeln!(out, "\n# TYPE {} {}", family.name, family.kind.name());
}

/// Writes one sample; the label values must be escaped already.
pub(super) fn sample(out: &mut String, family: &Family, escaped: &[&dyn Display], value: impl Display) {
    debug_assert_eq!(family.labels.len(), escaped.len(), "{}", family.name);
    out.push_str(family.name);
    for (i, (label, text)) in family.labels.iter().zip(escaped).enumerate() {
        let before = if i == 0 { '{' } else { ',' };
        let _ = write!(out, "{before}{label}=\"{text}\"");
    }
    if !escaped.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// A label value as it stands between the quotes.
pub(super) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

/// First character of what stands for a character that must be escaped, and for itself.
const VEIL: char = '\u{e000}';

/// A label value without a character that needs escaping. The exporter takes a backslash for one that escapes already, and would
/// make one series of `a\` and `a\\`; so it never gets to see one.
pub(super) fn veil(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.extend([VEIL, '0']),
            '"' => out.extend([VEIL, '1']),
            '\n' => out.extend([VEIL, '2']),
            VEIL => out.extend([VEIL, '3']),
            c => out.push(c),
        }
    }
    out
}

/// Undoes [`veil`] in a text of the exporter's, escaping as the format demands.
pub(super) fn unveil(text: &str) -> String {
    let mut parts = text.split(VEIL);
    let mut out = String::with_capacity(text.len());
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let mut rest = part.chars();
        match rest.next() {
            Some('0') => out.push_str("\\\\"),
            Some('1') => out.push_str("\\\""),
            Some('2') => out.push_str("\\n"),
            _ => out.push(VEIL),
        }
        out.push_str(rest.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn veiled_and_unveiled_is_escaped(value in "[a\\\\\"\n\u{e000}\u{e001}0-3é]{0,12}") {
            let veiled = veil(&value);
            prop_assert!(!veiled.contains(['\\', '"', '\n']));
            prop_assert_eq!(unveil(&veiled), escape(&value));
        }
    }
}
