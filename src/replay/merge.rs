//! The packets of all inputs in the order of their time stamps.

use super::ReplayError;
use super::ports::{self, PortFile};
use crate::config::Config;
use crate::ids::PortId;
use crate::pcap::Reader;

/// A packet as it enters the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Nanoseconds since 1970; none where the capture does not say.
    pub time: Option<u64>,
    pub port: PortId,
    /// From the destination MAC on, as much of it as was captured.
    pub frame: Vec<u8>,
}

/// One input and the packet that is its next.
struct Input {
    port: PortId,
    vlan: u16,
    reader: Reader,
    head: Option<Packet>,
}

pub(super) struct Merge {
    inputs: Vec<Input>,
    bytes: Option<u64>,
    /// The input whose packet was given out last.
    last: Option<usize>,
}

impl Merge {
    pub(super) fn open(config: &Config, files: &[PortFile]) -> Result<Self, ReplayError> {
        if files.is_empty() {
            return Err(ReplayError::NoInput);
        }
        let mut resolved = Vec::with_capacity(files.len());
        for file in files {
            resolved.push((file.resolve(config)?.unwrap_or_default(), file));
        }
        let mut inputs = Vec::with_capacity(files.len());
        let mut bytes = Some(0u64);
        for (port, PortFile { file, .. }) in resolved {
            let reader = Reader::open(file)?;
            let size = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
            bytes = bytes.zip(size).map(|(a, b)| a.saturating_add(b));
            let vlan = config.ports.get(port.index()).map_or(0, |p| p.vlan);
            let mut input = Input { port, vlan, reader, head: None };
            input.advance()?;
            inputs.push(input);
        }
        Ok(Self { inputs, bytes, last: None })
    }

    /// The size of all inputs together, where they are files.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The least time stamp of those that are first in their files.
    pub(super) fn first_time(&self) -> Option<u64> {
        self.inputs.iter().filter_map(|input| input.head.as_ref()?.time).min()
    }

    /// The packet with the least time stamp of those that are next in their files, the first input's where several have it;
    /// one without a stamp goes at once.
    pub(super) fn next_packet(&mut self) -> Result<Option<&Packet>, ReplayError> {
        if let Some(input) = self.last.take().and_then(|i| self.inputs.get_mut(i)) {
            input.advance()?;
        }
        let heads = self.inputs.iter().enumerate();
        let next = heads.filter_map(|(i, input)| Some((input.head.as_ref()?.time, i))).min();
        self.last = next.map(|(_, i)| i);
        Ok(self.last.and_then(|i| self.inputs.get(i)?.head.as_ref()))
    }
}

impl Input {
    fn advance(&mut self) -> Result<(), ReplayError> {
        let mut frame = self.head.take().map_or_else(Vec::new, |packet| packet.frame);
        if let Some(record) = self.reader.next_packet()? {
            record.link.frame(record.data, ports::mac(self.port), self.vlan, &mut frame);
            self.head = Some(Packet { time: record.time, port: self.port, frame });
        } else if let Some(offset) = self.reader.cut_off() {
            tracing::warn!(
                "{}: cut off: the record at byte {offset} is not whole; replayed to the packet before it",
                self.reader.file().display()
            );
        }
        Ok(())
    }
}
