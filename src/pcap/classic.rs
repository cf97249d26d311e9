//! pcap: a header of 24 bytes, then records with a header of 16 each (draft-ietf-opsawg-pcap §4, §5).

use super::reader::{Found, Next, without_fcs};
use super::source::{Got, Source};
use super::{Error, Link, MAX_CAPTURED, Order};

/// What the file header says.
pub(super) struct Classic {
    order: Order,
    nanos_per_tick: u64,
    link: Link,
    /// Bytes of frame check sequence at the end of each packet.
    fcs: u32,
}

impl Classic {
    pub(super) fn open(source: &mut Source, magic: [u8; 4]) -> Result<Self, Error> {
        let (order, nanos_per_tick) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1_000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1_000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
            [a, b, c, d] => {
                let found = format!("it begins with {a:02x} {b:02x} {c:02x} {d:02x}");
                return Err(Error::NotACapture { file: source.file().to_owned(), found });
            }
        };
        let mut rest = [0; 20];
        if source.fill(&mut rest)? != Got::All {
            return Err(source.broken(0, "the file header is cut off"));
        }
        let [m0, m1, .., l0, l1, l2, l3] = rest;
        let major = order.u16([m0, m1]);
        if major != 2 {
            return Err(source.broken(4, format!("pcap version {major}, of which only 2 is known")));
        }
        let link_field = order.u32([l0, l1, l2, l3]);
        let number = (link_field & 0xffff) as u16;
        let Some(link) = Link::from_number(number) else {
            return Err(Error::LinkType { file: source.file().to_owned(), number, name: Link::name(number) });
        };
        // The top four bits count 16-bit words of FCS, and say so only where the P bit is set.
        let fcs = if link_field & 0x0400_0000 != 0 { (link_field >> 28) * 2 } else { 0 };
        Ok(Self { order, nanos_per_tick, link, fcs: if link == Link::Ethernet { fcs } else { 0 } })
    }

    pub(super) fn next(&mut self, source: &mut Source, buffer: &mut Vec<u8>) -> Result<Next, Error> {
        let offset = source.offset();
        let mut header = [0; 16];
        match source.fill(&mut header)? {
            Got::All => {}
            Got::Part => return Ok(Next::CutOff(offset)),
            Got::Nothing => return Ok(Next::End),
        }
        let [s0, s1, s2, s3, f0, f1, f2, f3, c0, c1, c2, c3, o0, o1, o2, o3] = header;
        let seconds = u64::from(self.order.u32([s0, s1, s2, s3]));
        let ticks = u64::from(self.order.u32([f0, f1, f2, f3]));
        let captured = self.order.u32([c0, c1, c2, c3]);
        let original_len = self.order.u32([o0, o1, o2, o3]);
        if captured > MAX_CAPTURED {
            return Err(source.broken(
                offset,
                format!("a packet of {captured} bytes, of which {MAX_CAPTURED} are possible"),
            ));
        }
        if captured > 0 && source.read(captured, buffer)? != Got::All {
            return Ok(Next::CutOff(offset));
        }
        Ok(Next::Packet(Found {
            // 2^32 s and 2^32 µs are less than 2^64 ns.
            time: Some(seconds * 1_000_000_000 + ticks * self.nanos_per_tick),
            original_len,
            link: self.link,
            start: 0,
            len: without_fcs(captured, original_len, self.fcs),
        }))
    }
}
