//! A stream of bytes that knows its file and how far it was read.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Error;

pub(super) struct Source {
    file: PathBuf,
    bytes: Box<dyn Read + Send>,
    offset: u64,
}

/// What was asked for is there, or the file has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Got {
    All,
    /// The file ends within it.
    Part,
    /// The file ends right before it.
    Nothing,
}

impl Source {
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        match File::open(file) {
            Ok(bytes) => Ok(Self::new(file, BufReader::with_capacity(1 << 16, bytes))),
            Err(source) => Err(Error::Open { file: file.to_owned(), source }),
        }
    }

    pub(super) fn new(file: &Path, bytes: impl Read + Send + 'static) -> Self {
        Self { file: file.to_owned(), bytes: Box::new(bytes), offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Fills `into`.
    pub(super) fn fill(&mut self, into: &mut [u8]) -> Result<Got, Error> {
        let mut n = 0;
        while n < into.len() {
            match self.bytes.read(&mut into[n..]) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(self.got(n as u64, into.len() as u64))
    }

    /// Reads `len` bytes into `into`, which is cleared before and grows only by bytes that are there.
    pub(super) fn read(&mut self, len: u32, into: &mut Vec<u8>) -> Result<Got, Error> {
        into.clear();
        match (&mut self.bytes).take(u64::from(len)).read_to_end(into) {
            Ok(n) => Ok(self.got(n as u64, u64::from(len))),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Reads past `len` bytes.
    pub(super) fn skip(&mut self, len: u32) -> Result<Got, Error> {
        match io::copy(&mut (&mut self.bytes).take(u64::from(len)), &mut io::sink()) {
            Ok(n) => Ok(self.got(n, u64::from(len))),
            Err(e) => Err(self.failed(e)),
        }
    }

    pub(super) fn broken(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::Broken { file: self.file.clone(), offset, what: what.into() }
    }

    fn got(&mut self, n: u64, of: u64) -> Got {
        self.offset += n;
        match n {
            n if n == of => Got::All,
            0 => Got::Nothing,
            _ => Got::Part,
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Read { file: self.file.clone(), offset: self.offset, source }
    }
}
