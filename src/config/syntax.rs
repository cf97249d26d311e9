//! What the TOML parser found, without the echoes of one slip, and in words that say what to do.

use std::ops::Range;

use toml::de::Error;

use super::report::{Finding, Scope};
use super::source::Source;

/// How the parser calls a key or table that is there twice.
const DUPLICATE: &str = "duplicate key";

/// Adds the syntax errors to the findings. What comes after the first of them, or depends on the file being whole, is
/// left out, since the parser has skipped an unknown part there.
pub(super) fn merge(source: &Source, errors: &[Error], mut findings: Vec<Finding>) -> Vec<Finding> {
    let mut errors: Vec<(&str, Range<usize>)> =
        errors.iter().map(|e| (e.message(), source.clamp(&e.span().unwrap_or(0..0)))).collect();
    errors.sort_by_key(|(_, span)| span.start);
    let line = |span: &Range<usize>| source.line_number(span.start);
    let broken = errors.iter().filter(|(message, _)| *message != DUPLICATE).map(|(_, span)| line(span)).min();
    if let Some(broken) = broken {
        findings.retain(|f| f.scope == Scope::Local && source.line_number(f.start()) < broken);
    }
    // A list or inline table that is never closed takes the rest of the file for its items.
    let unclosed =
        |message: &str| message.starts_with("unclosed array") || message.starts_with("unclosed inline");
    let swallowing = errors.iter().any(|(message, _)| unclosed(message));
    let mut swallowed = false;
    let mut last = None;
    for (message, span) in &errors {
        let echo = swallowed && !unclosed(message);
        swallowed |= swallowing && (message.contains("array") || message.contains("missing comma"));
        // One slip often breaks several rules of the grammar.
        if echo || last == Some(line(span)) {
            continue;
        }
        last = Some(line(span));
        findings.push(describe(source, message, span.clone()));
    }
    findings
}

fn describe(source: &Source, message: &str, span: Range<usize>) -> Finding {
    let found = source.text().get(span.clone()).unwrap_or_default();
    if message == DUPLICATE {
        let help = "a key or table may be set once; leave one of them";
        return Finding::local(span, format!("`{found}` is there twice")).help(help);
    }
    let bare = ["string values must be quoted", "invalid float", "invalid boolean", "invalid integer"];
    let (message, help) = if bare.iter().any(|start| message.starts_with(start))
        && !found.contains(['\n', '"'])
    {
        if found.trim().is_empty() && message.starts_with("string") {
            ("a value is missing".to_owned(), "write one after the =, or remove the key".to_owned())
        } else if found.trim().is_empty() {
            (
                message.to_owned(),
                "addresses, durations and other texts are written in double quotes".to_owned(),
            )
        } else {
            (format!("`{found}` is not a value"), format!("a text is written in double quotes: \"{found}\""))
        }
    } else if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        ("a text is not closed before the end of its line".to_owned(), "add the closing quote".to_owned())
    } else {
        (message.trim_end_matches(", expected nothing").to_owned(), String::new())
    };
    Finding::local(span, format!("not valid TOML: {message}")).help(help)
}
