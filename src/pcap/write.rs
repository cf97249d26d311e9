//! Writing captures as packets come: Ethernet, nanoseconds, little-endian on every machine.

use std::io::{self, Write};

use super::MAX_CAPTURED;

const LINKTYPE_ETHERNET: u16 = 1;

/// Writes a pcap file. Nothing is buffered here: give it a [`std::io::BufWriter`].
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    out: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut header = [0; 24];
        header[..4].copy_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&MAX_CAPTURED.to_le_bytes());
        header[20..22].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        out.write_all(&header)?;
        Ok(Self { out })
    }

    /// Writes a packet: `time` in nanoseconds since 1970 (the format's last second is in 2106), the length that it had on
    /// the wire, and the bytes that are kept of it, of which those beyond [`MAX_CAPTURED`] are left out.
    ///
    /// # Errors
    /// Of `out`.
    pub fn write(&mut self, time: u64, original_len: u32, data: &[u8]) -> io::Result<()> {
        let data = &data[..data.len().min(MAX_CAPTURED as usize)];
        let seconds = u32::try_from(time / 1_000_000_000).unwrap_or(u32::MAX);
        let mut header = [0; 16];
        header[..4].copy_from_slice(&seconds.to_le_bytes());
        header[4..8].copy_from_slice(&((time % 1_000_000_000) as u32).to_le_bytes());
        header[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        header[12..].copy_from_slice(&original_len.to_le_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(data)
    }

    /// Flushes, and gives `out` back.
    ///
    /// # Errors
    /// Of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Which way a packet went, seen from the machine that captured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Received.
    Inbound = 1,
    /// Sent.
    Outbound = 2,
}

/// Writes a pcapng file of one section. Nothing is buffered here: give it a [`std::io::BufWriter`].
#[derive(Debug)]
pub struct PcapngWriter<W: Write> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section header; `application` is who writes.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(out: W, application: &str) -> io::Result<Self> {
        let mut writer = Self { out, block: Vec::new() };
        writer.begin(0x0a0d_0d0a);
        writer.u32(0x1a2b_3c4d);
        writer.u32(1); // version 1.0
        writer.block.extend_from_slice(&u64::MAX.to_le_bytes()); // section length not known
        writer.option(4, application.as_bytes()); // shb_userappl
        writer.end()?;
        Ok(writer)
    }

    /// Describes an Ethernet interface. The first is number 0 for [`PcapngWriter::write`], and so on.
    ///
    /// # Errors
    /// Of `out`.
    pub fn interface(&mut self, name: &str) -> io::Result<()> {
        self.begin(1);
        self.u32(u32::from(LINKTYPE_ETHERNET));
        self.u32(MAX_CAPTURED);
        self.option(2, name.as_bytes()); // if_name
        self.option(9, &[9]); // if_tsresol: nanoseconds
        self.end()
    }

    /// Writes a packet of an interface: `time` in nanoseconds since 1970, the length that it had on the wire, the bytes that
    /// are kept of it (those beyond [`MAX_CAPTURED`] are left out), and what there is to say about it.
    ///
    /// # Errors
    /// Of `out`.
    pub fn write(
        &mut self,
        interface: u32,
        time: u64,
        original_len: u32,
        data: &[u8],
        direction: Direction,
        comment: Option<&str>,
    ) -> io::Result<()> {
        let data = &data[..data.len().min(MAX_CAPTURED as usize)];
        self.begin(6);
        self.u32(interface);
        self.u32((time >> 32) as u32);
        self.u32(time as u32);
        self.u32(data.len() as u32);
        self.u32(original_len);
        self.padded(data);
        self.option(2, &(direction as u32).to_le_bytes()); // epb_flags
        if let Some(comment) = comment {
            self.option(1, comment.as_bytes()); // opt_comment
        }
        self.end()
    }

    /// Writes what is known of an interface at `time`, in nanoseconds since 1970: packets that could not be captured, and those
    /// that are in the file.
    ///
    /// # Errors
    /// Of `out`.
    pub fn statistics(&mut self, interface: u32, time: u64, missed: u64, kept: u64) -> io::Result<()> {
        self.begin(5);
        self.u32(interface);
        self.u32((time >> 32) as u32);
        self.u32(time as u32);
        self.option(5, &missed.to_le_bytes()); // isb_ifdrop
        self.option(8, &kept.to_le_bytes()); // isb_usrdeliv
        self.end()
    }

    /// Where it is written to.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Flushes, and gives `out` back.
    ///
    /// # Errors
    /// Of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.u32(kind);
        self.u32(0); // the length, known at the end
    }

    fn u32(&mut self, n: u32) {
        self.block.extend_from_slice(&n.to_le_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// An option, its value cut to what 16 bits can count.
    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.block.extend_from_slice(&code.to_le_bytes());
        self.block.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.padded(value);
    }

    /// Ends the options and the block, and writes it.
    fn end(&mut self) -> io::Result<()> {
        self.u32(0); // opt_endofopt
        let length = self.block.len() as u32 + 4;
        self.u32(length);
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.out.write_all(&self.block)
    }
}
