//! Problems of a configuration file: collected, sorted, and shown with file, line, column and caret.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

use super::source::{Position, Source};

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used as it stands, but probably not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Whether a finding stands by itself or depends on other places of the file being complete. When the syntax is broken,
/// only what stands by itself is reported: the rest may be an echo of what could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    Local,
    Cross,
}

/// A problem without the file it is in.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    severity: Severity,
    pub scope: Scope,
    message: String,
    help: Option<String>,
    /// The place of the problem first, then those it refers to.
    labels: Vec<(Range<usize>, String)>,
}

impl Finding {
    pub fn local(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            scope: Scope::Local,
            message: message.into(),
            help: None,
            labels: vec![(span, String::new())],
        }
    }

    pub fn cross(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { scope: Scope::Cross, ..Self::local(span, message) }
    }

    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::cross(span, message) }
    }

    /// A problem of the file as a whole.
    pub fn whole_file(message: impl Into<String>) -> Self {
        Self { labels: Vec::new(), ..Self::local(0..0, message) }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into()).filter(|h| !h.is_empty());
        self
    }

    /// Another place that has to do with it.
    pub fn see(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    pub fn start(&self) -> usize {
        self.labels.first().map_or(0, |(span, _)| span.start)
    }
}

/// Collects findings while the file is walked.
#[derive(Default)]
pub(super) struct Sink {
    findings: RefCell<Vec<Finding>>,
    errors: Cell<usize>,
}

impl Sink {
    pub fn push(&self, finding: Finding) {
        if finding.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        self.findings.borrow_mut().push(finding);
    }

    /// Errors so far: tells whether what was read in between is complete.
    pub fn errors(&self) -> usize {
        self.errors.get()
    }

    pub fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner()
    }
}

/// One problem of a configuration file.
#[derive(Clone, Debug)]
pub struct Problem {
    finding: Finding,
    source: Arc<Source>,
}

/// A [`Problem`] that does not keep the file from being used.
pub type Warning = Problem;

impl Problem {
    pub(super) fn new(finding: Finding, source: Arc<Source>) -> Self {
        Self { finding, source }
    }

    /// Error or warning.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.finding.severity
    }

    /// What is wrong: the thing and its value.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.finding.message
    }

    /// What to do about it.
    #[must_use]
    pub fn cure(&self) -> Option<&str> {
        self.finding.help.as_deref()
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Where; none for a problem of the file as a whole.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.finding.labels.first().map(|(span, _)| self.source.position(span.start))
    }

    /// `file:line:column: message; cure`, or `file: message`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut out = String::new();
        self.write_place(&mut out, self.position());
        if self.severity() == Severity::Warning {
            out.push_str("warning: ");
        }
        out.push_str(self.message());
        if let Some(cure) = self.cure() {
            out.push_str("; ");
            out.push_str(cure);
        }
        out
    }

    fn write_place(&self, out: &mut String, position: Option<Position>) {
        out.push_str(self.file());
        if let Some(Position { line, column }) = position {
            // Writing to a string cannot fail.
            let _ = write!(out, ":{line}:{column}");
        }
        out.push_str(": ");
    }

    fn write_plain(&self, out: &mut String) {
        self.write_place(out, self.position());
        let _ = writeln!(out, "{}: {}", self.severity().name(), self.message());
        for (i, (span, text)) in self.finding.labels.iter().enumerate() {
            let at = self.source.position(span.start);
            if i > 0 {
                self.write_place(out, Some(at));
                let _ = writeln!(out, "note: {text}");
            }
            write_excerpt(out, &self.source, span, at);
        }
        if let Some(help) = self.cure() {
            let _ = writeln!(out, "      = help: {help}");
        }
    }

    fn write_graphical(&self, out: &mut String, theme: &GraphicalTheme, width: usize) {
        let handler = GraphicalReportHandler::new_themed(theme.clone()).with_width(width);
        let before = out.len();
        if handler.render_report(out, self).is_err() {
            out.truncate(before);
            self.write_plain(out);
        }
    }
}

/// The most characters of a line that the plain form shows.
const EXCERPT: usize = 160;

/// The line that the span begins in, and carets under the span.
fn write_excerpt(out: &mut String, source: &Source, span: &Range<usize>, at: Position) {
    let (text, start) = source.line(at.line);
    let from = at.column - 1;
    let skip = if from > EXCERPT - 40 { from - 40 } else { 0 };
    let shown: String =
        text.chars().skip(skip).take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = source.clamp(span).end.min(start + text.len());
    let wanted = source.text().get(span.start..end).map_or(1, |s| s.chars().count());
    let carets = wanted.clamp(1, (shown.chars().count() + 1).saturating_sub(from - skip).max(1));
    let _ = writeln!(out, "{:>5} | {}", at.line, shown.trim_end());
    let _ = writeln!(out, "      | {}{}", " ".repeat(from - skip), "^".repeat(carets));
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.cure().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.finding.labels.is_empty()).then_some(&*self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.finding.labels.iter().enumerate().map(|(i, (span, text))| {
            let span = self.source.clamp(span);
            let text = match (i, self.finding.labels.len()) {
                (0, 1) => None,
                (0, _) => Some("here".to_owned()),
                _ => Some(text.clone()),
            };
            if i == 0 {
                LabeledSpan::new_primary_with_span(text, span)
            } else {
                LabeledSpan::new_with_span(text, span)
            }
        });
        Some(Box::new(labels))
    }
}

/// How problems are shown.
#[derive(Clone, Debug)]
pub enum Style {
    /// For logs, pipes and editors: `file:line:column: error: message`, the line, a caret.
    Plain,
    /// For a terminal.
    Graphical {
        /// With ANSI colours.
        color: bool,
        /// Columns.
        width: usize,
    },
}

impl Style {
    /// What suits standard error: [`Style::Plain`] unless it is a terminal; no colour if `NO_COLOR` is set.
    #[must_use]
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Graphical { color: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()), width: 100 }
        } else {
            Self::Plain
        }
    }

    /// The problems in this style, one after the other.
    #[must_use]
    pub fn render(&self, problems: &[Problem]) -> String {
        let mut out = String::new();
        match self {
            Self::Plain => problems.iter().for_each(|p| p.write_plain(&mut out)),
            Self::Graphical { color, width } => {
                let theme =
                    if *color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
                problems.iter().for_each(|p| p.write_graphical(&mut out, &theme, *width));
            }
        }
        out
    }
}

/// Why a configuration is refused: all its problems in file order, warnings included. Displayed as [`Style::Plain`].
#[derive(Debug)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Every problem, in file order; at least one is an error.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// One line per problem: `file:line:column: message; cure`.
    #[must_use]
    pub fn lines(&self) -> String {
        self.problems.iter().map(|p| p.line() + "\n").collect()
    }

    /// All of it in a style, with a last line that counts.
    #[must_use]
    pub fn render(&self, style: &Style) -> String {
        let mut out = style.render(&self.problems);
        let errors = self.problems.iter().filter(|p| p.severity() == Severity::Error).count();
        let warnings = self.problems.len() - errors;
        if self.problems.len() > 1 {
            let _ = writeln!(out, "{}", counted(errors, warnings));
        }
        out
    }
}

fn counted(errors: usize, warnings: usize) -> String {
    let n = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match warnings {
        0 => n(errors, "error"),
        _ => format!("{}, {}", n(errors, "error"), n(warnings, "warning")),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(&Style::Plain).trim_end())
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, span: Range<usize>) -> Problem {
        let finding = Finding::cross(span, "two of a kind").help("rename one").see(0..1, "the other");
        Problem::new(finding, Arc::new(Source::new("f.toml", text)))
    }

    #[test]
    fn plain_form_has_place_line_caret_note_and_help() {
        let p = problem("a = 1\n\tb = \"x\" # ü\n", 11..14);
        assert_eq!(p.line(), "f.toml:2:6: two of a kind; rename one");
        assert_eq!(
            Style::Plain.render(&[p]),
            "f.toml:2:6: error: two of a kind\n    2 |  b = \"x\" # ü\n      |      ^^^\n\
             f.toml:1:1: note: the other\n    1 | a = 1\n      | ^\n      = help: rename one\n"
        );
    }

    #[test]
    fn graphical_form_agrees_on_the_column_after_wide_text() {
        let style = Style::Graphical { color: false, width: 80 };
        let text = "é = \"ü\"\nx = \"üé\" # \"q\"\n";
        let start = text.find("\"q").unwrap();
        let p = problem(text, start..start + 3);
        let shown = style.render(std::slice::from_ref(&p));
        assert!(shown.contains("f.toml:2:12"), "{shown}");
        assert!(shown.contains("the other") && shown.contains("rename one"), "{shown}");
        assert_eq!(p.line(), "f.toml:2:12: two of a kind; rename one");
    }

    #[test]
    fn spans_beyond_the_text_and_over_lines_are_shown() {
        for span in [0..0, 3..900, 900..901, Range { start: 5, end: 2 }, 0..12, 12..12] {
            for text in ["", "a = [\n 1,\n]\n", "äöü"] {
                let p = problem(text, span.clone());
                assert!(Style::Plain.render(std::slice::from_ref(&p)).contains("two of a kind"));
                let style = Style::Graphical { color: true, width: 40 };
                assert!(style.render(&[p]).contains("two of a kind"));
            }
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}here{}", "x".repeat(1000), "y".repeat(1000));
        let out = Style::Plain.render(&[problem(&text, 1000..1004)]);
        let mut lines = out.lines().skip(1);
        let (line, caret) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(line.len() < 200);
        assert_eq!(line.find("here"), caret.find("^^^^"));
    }
}
