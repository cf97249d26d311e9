//! A program on a terminal: what it draws, as one sees it, and keys pressed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const PATIENCE: Duration = Duration::from_secs(15);

/// What no program writes: a mark behind its last word.
const LAST: u8 = 0;

/// A terminal, and a program on it.
pub struct Terminal {
    master: OwnedFd,
    slave: File,
    child: Child,
    /// All that was written so far.
    output: Arc<Mutex<Vec<u8>>>,
    rows: usize,
    columns: usize,
}

impl Terminal {
    /// Runs a program on a terminal of this size.
    pub fn run(mut command: Command, rows: usize, columns: usize) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let slave = File::options().read(true).write(true).open(path).unwrap();
        tcsetwinsize(&master, size(rows, columns)).unwrap();
        let child = command
            .env("TERM", "xterm")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let output: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut reader = File::from(master.try_clone().unwrap());
        let written = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { master, slave, child, output, rows, columns }
    }

    /// All that was written so far.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// What is on the screen: its lines, blanks at their ends removed.
    pub fn screen(&self) -> Vec<String> {
        let mut screen = vec![vec![' '; self.columns]; self.rows];
        let (mut row, mut column) = (0, 0);
        let written = self.written();
        let mut rest = written.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\r' => column = 0,
                '\n' => row = (row + 1).min(self.rows - 1),
                // Half of a sequence: the rest is still to be read.
                '\x1b' if rest.peek().is_none() => break,
                '\x1b' if rest.next_if_eq(&'[').is_some() => {
                    let mut arguments = String::new();
                    while let Some(c) = rest.next_if(|c| c.is_ascii_digit() || "?;".contains(*c)) {
                        arguments.push(c);
                    }
                    let Some(command) = rest.next() else { break };
                    match (command, arguments.as_str()) {
                        ('H', "") => (row, column) = (0, 0),
                        ('J', "2") => screen.fill(vec![' '; self.columns]),
                        ('K', "") => screen[row][column.min(self.columns)..].fill(' '),
                        ('J', "") => {
                            screen[row][column.min(self.columns)..].fill(' ');
                            screen[row + 1..].fill(vec![' '; self.columns]);
                        }
                        ('m' | 'h' | 'l', _) => {}
                        other => panic!("a sequence that no terminal here knows: {other:?}"),
                    }
                }
                c => {
                    assert!(column < self.columns, "beyond the edge: {c:?} in line {row}");
                    screen[row][column] = c;
                    column += 1;
                }
            }
        }
        screen.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "not {what}:\n{}", screen.join("\n"));
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Presses keys, as the terminal sends them.
    pub fn press(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    /// Gives it another size, and waits until the program has drawn anew by itself.
    #[track_caller]
    pub fn resize(&mut self, rows: usize, columns: usize) {
        let before = self.output.lock().unwrap().len();
        tcsetwinsize(&self.master, size(rows, columns)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut output = self.output.lock().unwrap();
            let frame = String::from_utf8_lossy(&output[before..]).into_owned();
            if frame.contains("\x1b[J") && frame.ends_with("\x1b[K") {
                // What was drawn for the old size is of no more interest.
                output.drain(..before);
                break;
            }
            drop(output);
            assert!(Instant::now() < deadline, "nothing drawn for the new size");
            std::thread::sleep(Duration::from_millis(30));
        }
        (self.rows, self.columns) = (rows, columns);
    }

    /// Whether keys come as they are pressed, unseen.
    pub fn is_raw(&self) -> bool {
        !tcgetattr(self.slave.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for the program's end, and until all that it wrote has been read.
    pub fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        // A terminal keeps the order: whatever the program wrote comes before this.
        self.slave.write_all(&[LAST]).unwrap();
        while self.output.lock().unwrap().pop_if(|byte| *byte == LAST).is_none() {
            assert!(Instant::now() < deadline, "what it wrote last does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: usize, columns: usize) -> Winsize {
    Winsize { ws_row: rows as u16, ws_col: columns as u16, ws_xpixel: 0, ws_ypixel: 0 }
}
