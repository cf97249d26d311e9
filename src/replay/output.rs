//! What leaves, and the files that it is written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Options, ReplayError};
use crate::config::Config;
use crate::ids::{PortId, WorkerId};
use crate::pcap::PcapWriter;
use crate::pipeline::{Account, DropReason, Frame, Handed, NeighborUpdate, Output, VecFrame};

/// A frame that the shard has sent, with what is credited for it where it was forwarded.
pub(super) type Sent = (PortId, VecFrame, Option<Account>);

/// Takes the shard's verdicts: keeps what is sent until the burst is over, and counts the rest on its own, to be compared
/// with what the shard has counted.
#[derive(Default)]
pub(super) struct Outbox {
    pub sent: Vec<Sent>,
    pub tally: Tally,
}

/// Verdicts as they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub forwarded: u64,
    pub punted: u64,
    pub consumed: u64,
    pub dropped: [u64; DropReason::COUNT],
    pub originated: u64,
    pub extra_fragments: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            forwarded: 0,
            punted: 0,
            consumed: 0,
            dropped: [0; DropReason::COUNT],
            originated: 0,
            extra_fragments: 0,
        }
    }
}

impl Output<VecFrame> for Outbox {
    fn forward(&mut self, port: PortId, frame: VecFrame, account: Account) {
        self.tally.forwarded += 1;
        self.sent.push((port, frame, Some(account)));
    }

    fn drop(&mut self, _port: PortId, _frame: VecFrame, reason: DropReason) {
        self.tally.dropped[reason.index()] += 1;
    }

    fn punt(&mut self, _port: PortId, _frame: VecFrame) -> Result<(), VecFrame> {
        self.tally.punted += 1;
        Ok(())
    }

    fn consume(&mut self, _port: PortId, _frame: VecFrame) {
        self.tally.consumed += 1;
    }

    /// There is no other worker.
    fn hand_off(&mut self, _to: WorkerId, handed: Handed<VecFrame>) -> Result<(), VecFrame> {
        Err(handed.frame)
    }

    fn originate(&mut self, port: PortId, frame: &[u8], fragment: bool) -> bool {
        let counter = if fragment { &mut self.tally.extra_fragments } else { &mut self.tally.originated };
        *counter += 1;
        self.sent.push((port, VecFrame::new(frame), None));
        true
    }

    fn announce(&mut self, _update: NeighborUpdate) {}
}

/// The files, by port.
pub(super) struct Outputs {
    files: Vec<OutFile>,
    by_port: Vec<Option<usize>>,
    metrics: Option<(PathBuf, File)>,
}

struct OutFile {
    path: PathBuf,
    writer: PcapWriter<BufWriter<File>>,
}

impl Outputs {
    /// Opens all, and refuses before anything is overwritten.
    pub(super) fn open(config: &Config, options: &Options) -> Result<Self, ReplayError> {
        let mut by_port: Vec<Option<usize>> = vec![None; config.ports.len()];
        let mut rest: Option<usize> = None;
        for (i, output) in options.outputs.iter().enumerate() {
            let port = output.resolve(config)?;
            let slot = port.and_then(|p| by_port.get_mut(p.index())).unwrap_or(&mut rest);
            if let Some(first) = slot.replace(i) {
                return Err(ReplayError::TwoOutputs {
                    port: output.port.clone(),
                    first: options.outputs[first].file.clone(),
                    second: output.file.clone(),
                });
            }
        }
        for slot in &mut by_port {
            *slot = slot.or(rest);
        }
        let mut taken: Vec<(FileId, &Path)> = Vec::new();
        for input in &options.inputs {
            taken.extend(fs::metadata(&input.file).ok().and_then(|m| FileId::of(&m)).zip(Some(&*input.file)));
        }
        let mut opened = Vec::new();
        let paths = options.outputs.iter().map(|o| &*o.file).chain(options.metrics.as_deref());
        for path in paths {
            // Not truncated yet: it may be an input.
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed(path))?;
            if let Some(id) = file.metadata().ok().and_then(|m| FileId::of(&m)) {
                if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == id) {
                    return Err(ReplayError::SameFile { file: path.to_owned(), other: (*other).to_owned() });
                }
                taken.push((id, path));
            }
            opened.push((path, file));
        }
        let mut files = Vec::new();
        for (path, file) in opened {
            if file.metadata().map_err(failed(path))?.is_file() {
                file.set_len(0).map_err(failed(path))?;
            }
            files.push((path.to_owned(), file));
        }
        let metrics = files.split_off(options.outputs.len()).pop();
        let files = files
            .into_iter()
            .map(|(path, file)| match PcapWriter::new(BufWriter::new(file)) {
                Ok(writer) => Ok(OutFile { path, writer }),
                Err(source) => Err(ReplayError::Write { file: path, source }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { files, by_port, metrics })
    }

    /// Writes a frame that leaves by `port`, if that has a file; `time` in nanoseconds since 1970.
    pub(super) fn write(&mut self, time: u64, port: PortId, frame: &VecFrame) -> Result<(), ReplayError> {
        let slot = self.by_port.get(port.index()).copied().flatten();
        let Some(OutFile { path, writer }) = slot.and_then(|i| self.files.get_mut(i)) else { return Ok(()) };
        let data = frame.data();
        writer.write(time, u32::try_from(data.len()).unwrap_or(u32::MAX), data).map_err(failed(path))
    }

    /// Ends the captures and writes the exposition, where it is wanted.
    pub(super) fn finish(self, metrics: &str) -> Result<(), ReplayError> {
        for OutFile { path, writer } in self.files {
            writer.finish().map_err(failed(&path))?;
        }
        match self.metrics {
            Some((path, mut file)) => file.write_all(metrics.as_bytes()).map_err(failed(&path)),
            None => Ok(()),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ReplayError {
    let file = path.to_owned();
    |source| ReplayError::Write { file, source }
}

/// What makes two paths one file; none for what is no regular file, which may be named twice.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &fs::Metadata) -> Option<Self> {
        metadata.is_file().then(|| Self(metadata.dev(), metadata.ino()))
    }
}
