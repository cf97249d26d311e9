//! Aligned tables: colour where a terminal is, plain elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

/// How a text stands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tone {
    /// It does not.
    #[default]
    Plain,
    /// Of a heading.
    Head,
    /// All is well.
    Good,
    /// To be looked at.
    Odd,
    /// Something is wrong.
    Bad,
    /// Less important.
    Faint,
}

/// Whether tones are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint(pub bool);

impl Paint {
    /// For standard output: on a terminal, unless `NO_COLOR` (no-color.org) is set or the terminal has none.
    pub fn for_stdout() -> Self {
        let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(io::stdout().is_terminal() && unset("NO_COLOR") && !dumb)
    }

    /// The text in its tone.
    pub fn on(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.0 => return text.to_owned(),
            Tone::Head => "1",
            Tone::Good => "32",
            Tone::Odd => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

/// A text, to the left.
pub fn text(text: impl Into<String>) -> Cell {
    Cell { text: printable(text.into()), ..Cell::default() }
}

/// A number, to the right.
pub fn number(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), right: true, ..Cell::default() }
}

impl Cell {
    /// The same in a tone.
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// What a name has in it must not move the cursor.
fn printable(text: String) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text }
}

/// Rows under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    columns: usize,
}

impl Table {
    /// No rows yet.
    pub fn new(heads: &[&str]) -> Self {
        let head = heads.iter().map(|head| text(*head).tone(Tone::Head)).collect();
        Self { rows: vec![head], columns: heads.len() }
    }

    /// One row more.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns, "as many cells as heads");
        self.rows.push(cells.into());
    }

    /// The lines. A heading stands as its column does.
    pub fn render(&self, paint: Paint) -> String {
        let width = |n: usize| self.rows.iter().map(|row| row[n].text.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        let right: Vec<bool> =
            (0..self.columns).map(|n| self.rows.get(1).is_some_and(|row| row[n].right)).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            let mut gap = 0;
            for (n, cell) in row.iter().enumerate() {
                let pad = widths[n] - cell.text.chars().count();
                let (before, after) = if right[n] { (pad, 0) } else { (0, pad) };
                // Nothing trails at the end of a line.
                let _ = write!(line, "{:gap$}{:before$}{}", "", "", paint.on(cell.tone, &cell.text));
                gap = after + 2;
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_plain() {
        let mut table = Table::new(&["name", "n", "state"]);
        table.row([text("web"), number("1"), text("up").tone(Tone::Good)]);
        table.row([text("a\nb"), number("12 k"), text("down").tone(Tone::Bad)]);
        assert_eq!(table.render(Paint(false)), "name     n  state\nweb      1  up\na\\nb  12 k  down\n");
        let painted = table.render(Paint(true));
        assert!(painted.contains("\x1b[32mup\x1b[0m") && painted.contains("\x1b[31mdown\x1b[0m"));
        let mut bare = String::new();
        let mut escape = false;
        for c in painted.chars() {
            match c {
                '\x1b' => escape = true,
                'm' if escape => escape = false,
                c if !escape => bare.push(c),
                _ => {}
            }
        }
        assert_eq!(bare, table.render(Paint(false)), "colour moves nothing");
    }
}
