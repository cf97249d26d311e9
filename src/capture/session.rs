//! The control threads' side: from the rings through the filter into a pcapng file.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::bpf::{BadProgram, Program};
use super::tap::{Event, Reader, Tap, Wanted};
use super::{Request, TX_FULL};
use crate::ids::PortId;
use crate::pcap::{Direction, PcapngWriter};

/// Why a capture does not begin.
#[derive(Debug, Error)]
pub enum Refusal {
    /// There is one already.
    #[error("another capture is on, and there is one at a time")]
    Busy,
    /// No such port.
    #[error("there is no port {name}: the engine has {ports}")]
    Port {
        /// The name that was given.
        name: String,
        /// Those there are.
        ports: String,
    },
    /// The filter is none.
    #[error(transparent)]
    Filter(#[from] BadProgram),
    /// Nothing asked for.
    #[error("a limit of 0 packets asks for nothing")]
    Nothing,
}

/// A capture that is on, until it is dropped.
#[derive(Debug)]
pub struct Session {
    tap: Arc<Tap>,
    readers: Vec<Reader>,
    number: u32,
    wanted: Wanted,
    filter: Option<Program>,
    left: u64,
    /// What to add to the engine's time to have nanoseconds since 1970.
    epoch: u64,
    /// As of the beginning.
    missed: Vec<u64>,
    /// Packets of each port that are in the file.
    kept: Vec<u64>,
    file: PcapngWriter<Vec<u8>>,
    packet: Vec<u8>,
}

impl Session {
    /// Begins a capture. `epoch` is the engine clock's 0 in nanoseconds since 1970.
    ///
    /// # Errors
    /// Where what is asked for cannot be had, or not now.
    pub fn begin(tap: &Arc<Tap>, request: &Request, epoch: u64) -> Result<Self, Refusal> {
        let port = match &request.port {
            None => None,
            Some(name) => match tap.ports().iter().position(|port| port == name) {
                Some(port) => Some(PortId::at(port)),
                None => return Err(Refusal::Port { name: name.clone(), ports: tap.ports().join(", ") }),
            },
        };
        let filter = request.filter.as_deref().map(Program::new).transpose()?;
        if request.limit == Some(0) {
            return Err(Refusal::Nothing);
        }
        let readers = tap.lend().ok_or(Refusal::Busy)?;
        let number = tap.next_session();
        let mut session = Self {
            tap: Arc::clone(tap),
            readers,
            number,
            wanted: Wanted::new(number, port, request.drops),
            filter,
            left: request.limit.unwrap_or(u64::MAX),
            epoch,
            missed: tap.missed(),
            kept: vec![0; tap.ports().len()],
            file: into_memory(PcapngWriter::new(Vec::new(), concat!("pollux ", env!("CARGO_PKG_VERSION")))),
            packet: Vec::new(),
        };
        for name in tap.ports() {
            into_memory(session.file.interface(name));
        }
        tap.want(session.wanted);
        Ok(session)
    }

    /// Which it is of this engine: from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether every worker has heard of it, or has ended.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.all_act_by(self.wanted)
    }

    /// Tells the workers that it is over.
    pub fn stop(&self) {
        self.tap.want(Wanted::NOTHING);
    }

    /// Whether no worker writes any more: what there is to read now is all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.all_act_by(Wanted::NOTHING)
    }

    fn all_act_by(&self, wanted: Wanted) -> bool {
        let mut readers = self.readers.iter().enumerate();
        readers.all(|(worker, reader)| reader.is_abandoned() || self.tap.acts_by(worker, wanted))
    }

    /// Whether the limit is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Takes packets from the rings, those of all workers by their time, up to about so many bytes. Whether there were any.
    pub fn read(&mut self, bytes: usize) -> bool {
        let mut taken = 0;
        while taken < bytes && self.left > 0 {
            let heads = self.readers.iter_mut().filter_map(|reader| reader.head().map(|head| (head, reader)));
            let Some((head, reader)) = heads.min_by_key(|(head, _)| head.time) else { break };
            reader.body(&mut self.packet);
            taken += 1 + self.packet.len();
            let wanted =
                self.filter.as_ref().is_none_or(|filter| filter.matches(&self.packet, head.original));
            if head.session != self.number || !wanted {
                continue;
            }
            let (direction, comment) = match head.event {
                Event::Received => (Direction::Inbound, None),
                Event::Sent => (Direction::Outbound, None),
                Event::TxFull => (Direction::Outbound, Some(TX_FULL)),
                Event::Dropped(reason) => (Direction::Inbound, Some(reason.label())),
            };
            let (port, time) = (head.port, self.epoch.saturating_add(head.time));
            let written =
                self.file.write(u32::from(port), time, head.original, &self.packet, direction, comment);
            into_memory(written);
            self.left -= 1;
            if let Some(kept) = self.kept.get_mut(usize::from(port)) {
                *kept += 1;
            }
        }
        taken > 0
    }

    /// Writes how many packets of each port could not be kept: the end of the file. `now` is the engine's time.
    pub fn finish(&mut self, now: u64) {
        let time = self.epoch.saturating_add(now);
        let missed = self.tap.missed();
        for (port, ((now, before), kept)) in missed.iter().zip(&self.missed).zip(&self.kept).enumerate() {
            let written = self.file.statistics(port as u32, time, now.saturating_sub(*before), *kept);
            into_memory(written);
        }
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.file.out())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
        self.tap.give_back(std::mem::take(&mut self.readers));
    }
}

/// The result of a write into a vector, which cannot fail.
fn into_memory<T>(written: io::Result<T>) -> T {
    match written {
        Ok(value) => value,
        Err(error) => unreachable!("a write into memory: {error}"),
    }
}
