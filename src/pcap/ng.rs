//! pcapng: sections of blocks, the interfaces' descriptions among them (draft-ietf-opsawg-pcapng §3, §4).

use super::reader::{Found, Next, without_fcs};
use super::source::{Got, Source};
use super::{Error, Link, MAX_BLOCK, MAX_CAPTURED, Order};

/// The type of a Section Header Block, which is the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_END: u16 = 0;
const EPB_FLAGS: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_FCSLEN: u16 = 13;
const IF_TSOFFSET: u16 = 14;

/// The section that is being read.
pub(super) struct Ng {
    order: Order,
    interfaces: Vec<Interface>,
}

/// What an Interface Description Block says.
struct Interface {
    number: u16,
    snaplen: u32,
    resolution: Resolution,
    offset_seconds: i64,
    /// Bytes.
    fcs: u32,
}

/// Ticks per second: a power of 10 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    Decimal(u8),
    Binary(u8),
}

impl Resolution {
    /// Of `if_tsresol`: the top bit tells 2 from 10, the others are the negative exponent.
    fn from_byte(b: u8) -> Self {
        if b & 0x80 == 0 { Self::Decimal(b) } else { Self::Binary(b & 0x7f) }
    }

    /// Saturates.
    pub(super) fn nanos(self, ticks: u64) -> u64 {
        match self {
            Self::Decimal(e @ 0..=9) => ticks.saturating_mul(10u64.pow(9 - u32::from(e))),
            Self::Decimal(e) => 10u64.checked_pow(u32::from(e) - 9).map_or(0, |d| ticks / d),
            Self::Binary(e) => {
                u64::try_from((u128::from(ticks) * 1_000_000_000) >> (e & 0x7f)).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Interface {
    fn time(&self, high: u32, low: u32) -> u64 {
        let nanos = self.resolution.nanos(u64::from(high) << 32 | u64::from(low));
        let offset = self.offset_seconds.unsigned_abs().saturating_mul(1_000_000_000);
        if self.offset_seconds < 0 { nanos.saturating_sub(offset) } else { nanos.saturating_add(offset) }
    }
}

/// The end of the file in the middle of something.
struct CutOff;

/// A block's fixed fields, taken one after the other.
struct Fields<'a> {
    order: Order,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn u16(&mut self) -> Option<u16> {
        let (b, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.order.u16(*b))
    }

    fn u32(&mut self) -> Option<u32> {
        let (b, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.order.u32(*b))
    }

    /// Packet data and its padding to 32 bits.
    fn padded(&mut self, len: u32) -> Option<&'a [u8]> {
        let (data, rest) = self.rest.split_at_checked(len as usize)?;
        self.rest = rest.get(len.wrapping_neg() as usize & 3..)?;
        Some(data)
    }

    /// The next option, if there is one; an error where it does not fit.
    fn option(&mut self) -> Option<Result<(u16, &'a [u8]), String>> {
        if self.rest.is_empty() {
            return None;
        }
        let (Some(code), Some(len)) = (self.u16(), self.u16()) else {
            return Some(Err("an option is cut off".to_owned()));
        };
        if code == OPTION_END {
            return None;
        }
        match self.padded(u32::from(len)) {
            Some(value) => Some(Ok((code, value))),
            None => Some(Err(format!("option {code} of {len} bytes ends behind its block"))),
        }
    }
}

impl Ng {
    /// Reads the first section's header; its type has been read already.
    pub(super) fn open(source: &mut Source) -> Result<Self, Error> {
        let mut ng = Self { order: Order::Little, interfaces: Vec::new() };
        let mut length = [0; 4];
        match source.fill(&mut length)? {
            Got::All if ng.section(source, 0, length)?.is_ok() => Ok(ng),
            _ => Err(source.broken(0, "the section header is cut off")),
        }
    }

    pub(super) fn next(&mut self, source: &mut Source, buffer: &mut Vec<u8>) -> Result<Next, Error> {
        loop {
            let offset = source.offset();
            let mut head = [0; 8];
            match source.fill(&mut head)? {
                Got::All => {}
                Got::Part => return Ok(Next::CutOff(offset)),
                Got::Nothing => return Ok(Next::End),
            }
            let [t0, t1, t2, t3, length @ ..] = head;
            if [t0, t1, t2, t3] == SECTION_HEADER {
                match self.section(source, offset, length)? {
                    Ok(()) => continue,
                    Err(CutOff) => return Ok(Next::CutOff(offset)),
                }
            }
            let kind = self.order.u32([t0, t1, t2, t3]);
            let known = matches!(kind, INTERFACE_DESCRIPTION | PACKET | SIMPLE_PACKET | ENHANCED_PACKET);
            match self.body(source, offset, self.order.u32(length), 0, known.then_some(&mut *buffer))? {
                Ok(()) if !known => continue,
                Ok(()) => {}
                Err(CutOff) => return Ok(Next::CutOff(offset)),
            }
            let fields = Fields { order: self.order, rest: buffer };
            let found = match kind {
                INTERFACE_DESCRIPTION => self.interface(fields).map(|i| {
                    self.interfaces.push(i);
                    None
                }),
                PACKET => self.packet(fields, true).map(Some),
                SIMPLE_PACKET => self.simple(fields).map(Some),
                _ => self.packet(fields, false).map(Some),
            };
            match found {
                Ok(None) => {}
                Ok(Some((found, number))) => match Link::from_number(number) {
                    Some(link) => return Ok(Next::Packet(Found { link, ..found })),
                    None => {
                        let file = source.file().to_owned();
                        return Err(Error::LinkType { file, number, name: Link::name(number) });
                    }
                },
                Err(what) => return Err(source.broken(offset, what)),
            }
        }
    }

    /// A Section Header Block from its length field on: sets the byte order, and forgets the interfaces.
    fn section(
        &mut self,
        source: &mut Source,
        offset: u64,
        length: [u8; 4],
    ) -> Result<Result<(), CutOff>, Error> {
        let mut fixed = [0; 8];
        if source.fill(&mut fixed)? != Got::All {
            return Ok(Err(CutOff));
        }
        let [b0, b1, b2, b3, m0, m1, ..] = fixed;
        self.order = match [b0, b1, b2, b3] {
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            other => {
                return Err(
                    source.broken(offset, format!("a section with the byte-order magic {other:02x?}"))
                );
            }
        };
        self.interfaces.clear();
        let major = self.order.u16([m0, m1]);
        if major != 1 {
            return Err(source.broken(offset, format!("pcapng version {major}, of which only 1 is known")));
        }
        self.body(source, offset, self.order.u32(length), 8, None)
    }

    /// Reads or skips what is left of a block of which the first 8 bytes and `read` more have been read, and its trailing
    /// length.
    fn body(
        &self,
        source: &mut Source,
        offset: u64,
        length: u32,
        read: u32,
        into: Option<&mut Vec<u8>>,
    ) -> Result<Result<(), CutOff>, Error> {
        let rest = match length.checked_sub(12 + read) {
            Some(rest) if length.is_multiple_of(4) => rest,
            _ => return Err(source.broken(offset, format!("a block of {length} bytes"))),
        };
        let got = match into {
            Some(_) if rest > MAX_BLOCK => {
                return Err(source.broken(
                    offset,
                    format!("a block of {length} bytes, of which {MAX_BLOCK} are possible"),
                ));
            }
            Some(buffer) => source.read(rest, buffer)?,
            None => source.skip(rest)?,
        };
        let mut trailer = [0; 4];
        if got != Got::All || source.fill(&mut trailer)? != Got::All {
            return Ok(Err(CutOff));
        }
        let trailer = self.order.u32(trailer);
        if trailer != length {
            return Err(source.broken(offset, format!("a block of {length} bytes that ends with {trailer}")));
        }
        Ok(Ok(()))
    }

    fn interface(&self, mut fields: Fields<'_>) -> Result<Interface, String> {
        let (Some(number), Some(_), Some(snaplen)) = (fields.u16(), fields.u16(), fields.u32()) else {
            return Err("an interface description that is too short".to_owned());
        };
        let mut interface =
            Interface { number, snaplen, resolution: Resolution::Decimal(6), offset_seconds: 0, fcs: 0 };
        while let Some(option) = fields.option() {
            match option? {
                (IF_TSRESOL, &[b, ..]) => interface.resolution = Resolution::from_byte(b),
                // The draft counts bits, some writers count bytes; no FCS is as short as 8 bits or as long as 8 bytes.
                (IF_FCSLEN, &[n, ..]) => interface.fcs = u32::from(if n > 8 { n / 8 } else { n }),
                (IF_TSOFFSET, value) => {
                    if let Some(b) = value.first_chunk() {
                        interface.offset_seconds = self.order.u64(*b).cast_signed();
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// An Enhanced Packet Block, or the obsolete Packet Block, whose interface has 16 bits and is followed by a drop count.
    fn packet(&self, mut fields: Fields<'_>, obsolete: bool) -> Result<(Found, u16), String> {
        let whole = fields.rest.len();
        let id = if obsolete {
            fields.u16().filter(|_| fields.u16().is_some()).map(u32::from)
        } else {
            fields.u32()
        };
        let (Some(id), Some(high), Some(low), Some(captured), Some(original_len)) =
            (id, fields.u32(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Err("a packet block that is too short".to_owned());
        };
        let interface = self.of(id)?;
        let start = whole - fields.rest.len();
        if captured > MAX_CAPTURED || fields.padded(captured).is_none() {
            return Err(format!("a packet of {captured} bytes in a block of {whole}"));
        }
        let mut fcs = interface.fcs;
        while let Some(option) = fields.option() {
            // pack_flags of the obsolete block is the same.
            if let (EPB_FLAGS, &[a, b, c, d, ..]) = option? {
                // Bits 5–8: bytes of FCS, where known (draft-ietf-opsawg-pcapng §4.3.1).
                let known = self.order.u32([a, b, c, d]) >> 5 & 0xf;
                fcs = if known == 0 { fcs } else { known };
            }
        }
        let time = Some(interface.time(high, low));
        Ok((self.found(interface, time, original_len, start, captured, fcs), interface.number))
    }

    /// A Simple Packet Block: of the first interface, without a time stamp, cut to the interface's snapshot length.
    fn simple(&self, mut fields: Fields<'_>) -> Result<(Found, u16), String> {
        let original_len = fields.u32().ok_or("a simple packet block that is too short")?;
        let interface = self.of(0)?;
        let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = original_len.min(limit);
        if captured > MAX_CAPTURED || captured as usize > fields.rest.len() {
            return Err(format!("a packet of {captured} bytes in a block of {}", fields.rest.len()));
        }
        Ok((self.found(interface, None, original_len, 4, captured, interface.fcs), interface.number))
    }

    fn of(&self, id: u32) -> Result<&Interface, String> {
        self.interfaces.get(id as usize).ok_or_else(|| {
            format!("a packet of interface {id}, of which {} are described", self.interfaces.len())
        })
    }

    fn found(
        &self,
        interface: &Interface,
        time: Option<u64>,
        original_len: u32,
        start: usize,
        captured: u32,
        fcs: u32,
    ) -> Found {
        let ethernet = Link::from_number(interface.number) == Some(Link::Ethernet);
        let len = without_fcs(captured, original_len, if ethernet { fcs } else { 0 });
        Found { time, original_len, link: Link::Ethernet, start, len }
    }
}
