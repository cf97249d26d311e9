//! Reading either format, told apart by the magic number.

use std::io::Read;
use std::path::Path;

use super::classic::Classic;
use super::ng::Ng;
use super::source::{Got, Source};
use super::{Error, Link, ng};

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970, saturated; none where the file does not say (a pcapng Simple Packet Block).
    pub time: Option<u64>,
    /// Bytes that the packet had on the wire, link header included, as the file says.
    pub original_len: u32,
    /// What `data` begins with.
    pub link: Link,
    /// What was captured of the packet: where that is less than the packet, the rest is missing.
    pub data: &'a [u8],
}

/// Reads a capture file packet by packet.
pub struct Reader {
    source: Source,
    format: Format,
    buffer: Vec<u8>,
    done: bool,
    cut_off: Option<u64>,
}

enum Format {
    Classic(Classic),
    Ng(Ng),
}

/// A packet as the format's reader leaves it: its bytes are at the start of the buffer, or at `start`.
pub(super) struct Found {
    pub(super) time: Option<u64>,
    pub(super) original_len: u32,
    pub(super) link: Link,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// What the format's reader came upon.
pub(super) enum Next {
    Packet(Found),
    End,
    /// The file ends within the record that begins at this offset.
    CutOff(u64),
}

impl Reader {
    /// Opens `file` and reads its header.
    ///
    /// # Errors
    /// [`Error`], naming the file.
    pub fn open(file: &Path) -> Result<Self, Error> {
        Self::start(Source::open(file)?)
    }

    /// Reads from `bytes`; `name` is what errors call them.
    ///
    /// # Errors
    /// [`Error`], naming the file.
    pub fn new(name: &Path, bytes: impl Read + Send + 'static) -> Result<Self, Error> {
        Self::start(Source::new(name, bytes))
    }

    fn start(mut source: Source) -> Result<Self, Error> {
        let mut magic = [0; 4];
        let not =
            |found: &str| Error::NotACapture { file: source.file().to_owned(), found: found.to_owned() };
        let (empty, short) = (not("it is empty"), not("it has less than 4 bytes"));
        match source.fill(&mut magic)? {
            Got::All => {}
            Got::Nothing => return Err(empty),
            Got::Part => return Err(short),
        }
        let format = if magic == ng::SECTION_HEADER {
            Format::Ng(Ng::open(&mut source)?)
        } else {
            Format::Classic(Classic::open(&mut source, magic)?)
        };
        Ok(Self { source, format, buffer: Vec::new(), done: false, cut_off: None })
    }

    /// The next packet; `None` at the end of the file, and after an error.
    ///
    /// # Errors
    /// [`Error`], naming the file and the offset.
    pub fn next_packet(&mut self) -> Result<Option<Record<'_>>, Error> {
        if self.done {
            return Ok(None);
        }
        let next = match &mut self.format {
            Format::Classic(format) => format.next(&mut self.source, &mut self.buffer),
            Format::Ng(format) => format.next(&mut self.source, &mut self.buffer),
        };
        match next {
            Ok(Next::Packet(Found { time, original_len, link, start, len })) => {
                let data = self.buffer.get(start..start + len).unwrap_or_default();
                Ok(Some(Record { time, original_len, link, data }))
            }
            Ok(Next::End) => {
                self.done = true;
                Ok(None)
            }
            Ok(Next::CutOff(offset)) => {
                self.done = true;
                self.cut_off = Some(offset);
                Ok(None)
            }
            Err(e) => {
                self.done = true;
                Err(e)
            }
        }
    }

    /// Where the record begins that the end of the file cuts off, once the packets before it have been read.
    #[must_use]
    pub fn cut_off(&self) -> Option<u64> {
        self.cut_off
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.source.file()
    }
}

/// How many of `captured` bytes are left when the frame check sequence at the end of the packet is taken away: none of it
/// was captured where the packet was cut before it.
pub(super) fn without_fcs(captured: u32, original: u32, fcs: u32) -> usize {
    // A file that says less than it has: the record's end is the packet's.
    let original = original.max(captured);
    captured.min(original.saturating_sub(fcs)) as usize
}
