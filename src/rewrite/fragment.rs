//! IPv4 fragmentation at the egress port (RFC 791 §3.2), for packets that allow it.

use super::put;
use crate::pipeline::Frame;
use crate::wire::checksum;

/// Byte offsets in the IPv4 header.
const TOTAL_LENGTH: usize = 2;
const FRAGMENT: usize = 6;
const CHECKSUM: usize = 10;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Largest Ethernet header and IPv4 header.
const MAX_HEADERS: usize = 18 + 60;

/// Cuts `frame`, whose IPv4 header starts at `l3` and which is `l3_len` bytes long from there, to fit `mtu`, and gives each
/// further fragment, complete with the L2 header, to `emit`. `None`, with nothing emitted, where the header leaves no room.
///
/// Options are copied to every fragment, which RFC 791 allows for those that the parser lets through but wishes otherwise
/// for some; `scratch` is working memory.
pub fn fragment<F: Frame>(
    frame: &mut F,
    l3: usize,
    l3_len: usize,
    mtu: usize,
    scratch: &mut Vec<u8>,
    mut emit: impl FnMut(&[u8]),
) -> Option<()> {
    let bytes = frame.data();
    let header_len = usize::from(bytes.get(l3)? & 0x0f) * 4;
    let payload_start = l3 + header_len;
    let payload = bytes.get(payload_start..l3 + l3_len)?;
    // Every fragment but the last carries a multiple of eight bytes.
    let step = mtu.checked_sub(header_len)? & !7;
    if step == 0 || payload_start > MAX_HEADERS {
        return None;
    }
    let old = u16::from_be_bytes(*bytes.get(l3 + FRAGMENT..)?.first_chunk()?);
    for (i, piece) in payload.chunks(step).enumerate().skip(1) {
        scratch.clear();
        scratch.extend_from_slice(bytes.get(..payload_start)?);
        scratch.extend_from_slice(piece);
        let last = (i + 1) * step >= payload.len();
        let more = if last { old & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let offset = (old & 0x1fff) + u16::try_from(i * step / 8).ok()?;
        set_header(scratch, l3, header_len, header_len + piece.len(), more | offset)?;
        emit(scratch);
    }
    let first_len = header_len + step.min(payload.len());
    frame.truncate(l3 + first_len);
    set_header(frame.data_mut(), l3, header_len, first_len, old | MORE_FRAGMENTS)
}

fn set_header(bytes: &mut [u8], l3: usize, header_len: usize, total: usize, fragment: u16) -> Option<()> {
    let header = bytes.get_mut(l3..l3 + header_len)?;
    put(header, TOTAL_LENGTH, u16::try_from(total).ok()?.to_be_bytes())?;
    put(header, FRAGMENT, fragment.to_be_bytes())?;
    put(header, CHECKSUM, [0; 2])?;
    let sum = checksum::checksum(header);
    put(header, CHECKSUM, sum.to_be_bytes())
}
