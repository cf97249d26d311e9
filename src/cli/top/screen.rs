//! The terminal: drawn to, and its keys.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::cli::table::{Paint, Tone};

/// How long another size of the terminal may go unnoticed.
const LOOK: Duration = Duration::from_millis(100);

/// What somebody wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// q, Esc, Ctrl-C, or the end of the input.
    Leave,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Any other.
    Char(char),
    /// The terminal has another size.
    Resized,
}

impl Key {
    /// Of what a terminal sends at once.
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] | [b'q' | b'Q' | 3, ..] | b"\x1b" => Self::Leave,
            b"\x1b[A" | b"\x1bOA" => Self::Up,
            b"\x1b[B" | b"\x1bOB" => Self::Down,
            b"\x1b[5~" => Self::PageUp,
            b"\x1b[6~" => Self::PageDown,
            b"\x1b[H" | b"\x1bOH" | b"\x1b[1~" => Self::Home,
            b"\x1b[F" | b"\x1bOF" | b"\x1b[4~" => Self::End,
            [first, ..] => Self::Char(char::from(*first)),
        }
    }
}

/// The alternate screen, with keys as they are typed; back to what it was when dropped.
pub(super) struct Screen {
    before: Termios,
    size: Cell<(usize, usize)>,
}

impl Screen {
    pub fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before, size: Cell::new(size()) };
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(screen)
    }

    /// Lines that there is room for.
    pub fn page(&self) -> usize {
        self.size.get().0 - 1
    }

    /// Draws over what was there, no more than fits: of a text the lines after the first `from`, or as far down as it goes. How many
    /// lines were left out before.
    pub fn draw(&self, text: &str, from: usize, by: &str, paint: Paint) -> usize {
        let (_, columns) = self.size.get();
        let page = self.page();
        let lines: Vec<&str> = text.lines().collect();
        let from = from.min(lines.len().saturating_sub(page));
        let mut out = String::from("\x1b[H");
        for line in lines.iter().skip(from).take(page) {
            out.push_str(&clipped(line, columns));
            out.push_str("\x1b[K\r\n");
        }
        let below = lines.len() - lines.len().min(from + page);
        let more = match (from, below) {
            (0, 0) => String::new(),
            (above, below) => format!("   {above} lines above, {below} below"),
        };
        let help = format!("q quits   t c n sort, now by {by}   a all rows{more}");
        out.push_str("\x1b[J");
        out.push_str(&paint.on(Tone::Faint, &clipped(&help, columns)));
        out.push_str("\x1b[K");
        let mut stdout = io::stdout().lock();
        // A terminal that went away is found by the next look at the keys.
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
        from
    }

    /// What is wanted before `due`, if anything is.
    pub fn key(&self, due: Instant) -> Option<Key> {
        loop {
            if self.size.replace(size()) != self.size.get() {
                return Some(Key::Resized);
            }
            let left = due.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left.min(LOOK)).ok()?;
            let stdin = io::stdin();
            let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut keys, Some(&timeout)) {
                Ok(0) if left.is_zero() => return None,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut bytes = [0; 16];
                    let read = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
                    return Some(Key::of(&bytes[..read]));
                }
                Err(_) => return Some(Key::Leave),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| stdout.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Rows, two at least, and columns.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 1 && size.ws_col > 0 => {
            (usize::from(size.ws_row), usize::from(size.ws_col))
        }
        _ => (24, 80),
    }
}

/// The first so many characters; what only colours is none.
fn clipped(line: &str, columns: usize) -> String {
    let (mut shown, mut escape) = (0, false);
    let mut out = String::new();
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        }
        if escape {
            out.push(c);
            escape = c != 'm';
        } else if shown < columns {
            out.push(c);
            shown += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_not_counted() {
        assert_eq!(clipped("\x1b[1mabcd\x1b[0m", 2), "\x1b[1mab\x1b[0m");
        assert_eq!(clipped("ab", 3), "ab");
    }

    #[test]
    fn keys() {
        for (bytes, key) in [
            (&b""[..], Key::Leave),
            (b"\x03", Key::Leave),
            (b"\x1b", Key::Leave),
            (b"\x1b[A", Key::Up),
            (b"\x1b[6~", Key::PageDown),
            (b"G", Key::Char('G')),
            (b"tt", Key::Char('t')),
        ] {
            assert_eq!(Key::of(bytes), key, "{bytes:?}");
        }
    }
}
