//! IPv4 fragmentation at the egress port (RFC 791 §3.2), for packets that allow it.

use arrayvec::ArrayVec;

use super::put;
use crate::pipeline::Frame;
use crate::wire::checksum;

/// Byte offsets in the IPv4 header.
const TOTAL_LENGTH: usize = 2;
const FRAGMENT: usize = 6;
const CHECKSUM: usize = 10;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Largest Ethernet header and IPv4 header.
const MAX_HEADERS: usize = 18 + 60;

/// What is left of a packet when its first fragment is cut off.
#[derive(Debug)]
pub struct Rest {
    /// Ethernet and IPv4 header.
    headers: ArrayVec<u8, MAX_HEADERS>,
    l3: usize,
    /// Payload bytes of each fragment but the last.
    step: usize,
    /// The packet's own fragment field.
    field: u16,
}

/// Cuts `frame`, whose IPv4 header starts at `l3` and which is `l3_len` bytes long from there, to the first fragment that
/// fits `mtu`, and copies all of it to `whole` for the others. `None` where the header leaves no room.
///
/// Options are copied to every fragment, which RFC 791 allows for those that the parser lets through but wishes otherwise
/// for some.
pub fn fragment<F: Frame>(
    frame: &mut F,
    l3: usize,
    l3_len: usize,
    mtu: usize,
    whole: &mut Vec<u8>,
) -> Option<Rest> {
    let bytes = frame.data().get(..l3 + l3_len)?;
    let header_len = usize::from(bytes.get(l3)? & 0x0f) * 4;
    let headers = ArrayVec::try_from(bytes.get(..l3 + header_len)?).ok()?;
    // Every fragment but the last carries a multiple of eight bytes.
    let step = mtu.checked_sub(header_len)? & !7;
    if step == 0 {
        return None;
    }
    let field = u16::from_be_bytes(*bytes.get(l3 + FRAGMENT..)?.first_chunk()?);
    whole.clear();
    whole.extend_from_slice(bytes);
    frame.truncate(l3 + header_len + step);
    set_header(frame.data_mut().get_mut(l3..)?, header_len, header_len + step, field | MORE_FRAGMENTS)?;
    Some(Rest { headers, l3, step, field })
}

impl Rest {
    /// Gives each further fragment, complete with the L2 header, to `emit`. They are built in `whole`, each header over what
    /// was sent before it.
    pub fn emit(&self, whole: &mut [u8], mut emit: impl FnMut(&[u8])) -> Option<()> {
        let Self { headers, l3, step, field } = self;
        let header_len = headers.len() - l3;
        let end = whole.len();
        for start in (headers.len() + step..end).step_by(*step) {
            let stop = end.min(start + step);
            let piece = whole.get_mut(start - headers.len()..stop)?;
            piece.get_mut(..headers.len())?.copy_from_slice(headers);
            let offset = (field & OFFSET) + u16::try_from((start - headers.len()) / 8).ok()?;
            let more = if stop == end { field & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
            let total = header_len + stop - start;
            set_header(piece.get_mut(*l3..)?, header_len, total, more | offset)?;
            emit(piece);
        }
        Some(())
    }
}

fn set_header(packet: &mut [u8], header_len: usize, total: usize, fragment: u16) -> Option<()> {
    let header = packet.get_mut(..header_len)?;
    put(header, TOTAL_LENGTH, u16::try_from(total).ok()?.to_be_bytes())?;
    put(header, FRAGMENT, fragment.to_be_bytes())?;
    put(header, CHECKSUM, [0; 2])?;
    let sum = checksum::checksum(header);
    put(header, CHECKSUM, sum.to_be_bytes())
}
