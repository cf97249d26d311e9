//! Bytes put into a TCP segment: what lies before them moves towards the headroom, the payload stays.

use crate::parse::Packet;
use crate::pipeline::{DropReason, Frame};
use crate::wire::checksum::{add, apply, delta, sum};
use crate::wire::{ipv4, ipv6, tcp};

/// Puts an option, of a multiple of four bytes, before all others. The caller has seen that [there is
/// room](super::toa::fits).
///
/// # Errors
/// [`DropReason::NoHeadroom`]; [`DropReason::TcpHeader`] where the bytes are not what the parser saw.
pub fn option<F: Frame>(frame: &mut F, packet: &mut Packet, bytes: &[u8]) -> Result<(), DropReason> {
    let at = packet.l4 as usize + tcp::HEADER_LEN;
    put(frame, packet, at, bytes)?;
    let l4 = frame.data_mut().get_mut(packet.l4 as usize..).ok_or(DropReason::TcpHeader)?;
    let words = l4.get_mut(tcp::field::OFFSET..tcp::field::OFFSET + 2).ok_or(DropReason::TcpHeader)?;
    let old = [words[0], words[1]];
    words[0] = words[0].wrapping_add((bytes.len() / 4 * 16) as u8);
    let change = delta(&old, words);
    update(l4, tcp::field::CHECKSUM.start, |sum| apply(sum, change)).ok_or(DropReason::TcpHeader)
}

/// Puts an even number of bytes before the payload.
///
/// # Errors
/// [`DropReason::NoHeadroom`]; [`DropReason::TcpHeader`] where the bytes are not what the parser saw.
pub fn payload<F: Frame>(frame: &mut F, packet: &mut Packet, bytes: &[u8]) -> Result<(), DropReason> {
    let l4 = packet.l4 as usize;
    let offset = frame.data().get(l4 + tcp::field::OFFSET).ok_or(DropReason::TcpHeader)?;
    put(frame, packet, l4 + usize::from(offset >> 4) * 4, bytes)
}

/// Cuts the payload to its first `keep` bytes.
///
/// # Errors
/// [`DropReason::TcpHeader`] where the bytes are not what the parser saw.
pub fn trim<F: Frame>(frame: &mut F, packet: &mut Packet, keep: usize) -> Result<(), DropReason> {
    let l4 = packet.l4 as usize;
    let end = packet.l3 as usize + packet.l3_len as usize;
    let offset = frame.data().get(l4 + tcp::field::OFFSET).ok_or(DropReason::TcpHeader)?;
    let at = l4 + usize::from(offset >> 4) * 4 + keep;
    let cut = frame.data().get(at..end).ok_or(DropReason::TcpHeader)?;
    // Words that begin at an odd place have their halves the other way round (RFC 1071 §2 B).
    let less = if keep.is_multiple_of(2) { sum(cut) } else { sum(cut).swap_bytes() };
    let change = add(!less, !(cut.len() as u16));
    frame.truncate(at);
    packet.l3_len = (at - packet.l3 as usize) as u32;
    let data = frame.data_mut();
    let mended = set_length(data, packet)
        .and_then(|()| update(data.get_mut(l4..)?, tcp::field::CHECKSUM.start, |sum| apply(sum, change)));
    mended.ok_or(DropReason::TcpHeader)
}

/// At offset `at` of the frame, an even number of bytes behind the start of the L4 header. Lengths and checksums are mended.
fn put<F: Frame>(frame: &mut F, packet: &mut Packet, at: usize, bytes: &[u8]) -> Result<(), DropReason> {
    let n = bytes.len();
    if at > frame.data().len() {
        return Err(DropReason::TcpHeader);
    }
    if !frame.grow_front(n) {
        return Err(DropReason::NoHeadroom);
    }
    let data = frame.data_mut();
    data.copy_within(n..n + at, 0);
    data.get_mut(at..at + n).ok_or(DropReason::TcpHeader)?.copy_from_slice(bytes);
    packet.l3_len += n as u32;
    let mended = set_length(data, packet).and_then(|()| {
        // The pseudo header has the length, too.
        let change = add(sum(bytes), n as u16);
        update(data.get_mut(packet.l4 as usize..)?, tcp::field::CHECKSUM.start, |sum| apply(sum, change))
    });
    mended.ok_or(DropReason::TcpHeader)
}

/// Writes the length of the packet into its IP header.
pub(crate) fn set_length(data: &mut [u8], packet: &Packet) -> Option<()> {
    let header = data.get_mut(packet.l3 as usize..)?;
    let len = u16::try_from(packet.l3_len).ok()?;
    if packet.src.is_v4() {
        let field: &mut [u8; 2] = header.get_mut(ipv4::field::LENGTH)?.first_chunk_mut()?;
        let old = *field;
        *field = len.to_be_bytes();
        let change = delta(&old, &len.to_be_bytes());
        update(header, ipv4::field::CHECKSUM.start, |sum| apply(sum, change))
    } else {
        let len = len.checked_sub(ipv6::HEADER_LEN as u16)?;
        header.get_mut(ipv6::field::LENGTH)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }
}

fn update(bytes: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) -> Option<()> {
    let field: &mut [u8; 2] = bytes.get_mut(at..)?.first_chunk_mut()?;
    *field = change(u16::from_be_bytes(*field)).to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::{Link, Parsed, parse};
    use crate::pipeline::{RxChecksum, VecFrame};
    use crate::wire::build::{strategy, verify};

    fn parsed(frame: &[u8], vlan: u16) -> Packet {
        match parse(&Link { mac: None, vlan }, frame, RxChecksum::Unknown) {
            Ok(Parsed::Ip(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_leaves_a_whole_segment(
            sample in strategy::sample().prop_filter("TCP", |s| s.packet.protocol == 6),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut packet = sample.packet;
            let end = packet.l3 as usize + packet.l3_len as usize;
            let old = tcp::Tcp::new_checked(&sample.frame[packet.l4 as usize..end]).unwrap();
            let keep = keep.index(old.payload().len() + 1);
            let mut frame = VecFrame::new(&sample.frame);
            trim(&mut frame, &mut packet, keep).unwrap();
            verify(frame.data()).map_err(TestCaseError::fail)?;
            let again = parsed(frame.data(), sample.vlan);
            let new = tcp::Tcp::new_checked(&frame.data()[again.l4 as usize..again.l3 as usize + again.l3_len as usize]).unwrap();
            prop_assert_eq!((new.payload(), new.options()), (&old.payload()[..keep], old.options()));
        }

        #[test]
        fn the_segment_is_whole_and_has_the_bytes(
            sample in strategy::sample().prop_filter("TCP", |s| s.packet.protocol == 6),
            bytes in prop::collection::vec(any::<u8>(), 0..26),
            option in any::<bool>(),
        ) {
            // The sample's own checksum is right; padding would be taken for payload by the frame's end alone.
            let bytes: Vec<u8> = bytes.iter().flat_map(|b| [*b, *b ^ 0x55]).collect();
            let mut packet = sample.packet;
            let old = tcp::Tcp::new_checked(&sample.frame[packet.l4 as usize..packet.l3 as usize + packet.l3_len as usize]).unwrap();
            let bytes = if option { bytes[..bytes.len() / 4 * 4].to_vec() } else { bytes };
            prop_assume!(!option || old.options().len() + bytes.len() <= 40);
            let mut frame = VecFrame::new(&sample.frame);
            if option { super::option(&mut frame, &mut packet, &bytes) } else { payload(&mut frame, &mut packet, &bytes) }.unwrap();
            verify(frame.data()).map_err(TestCaseError::fail)?;
            let again = parsed(frame.data(), sample.vlan);
            prop_assert_eq!(again.l3_len, packet.l3_len);
            let new = tcp::Tcp::new_checked(&frame.data()[again.l4 as usize..again.l3 as usize + again.l3_len as usize]).unwrap();
            prop_assert_eq!((new.seq(), new.ack(), new.flags(), new.window()), (old.seq(), old.ack(), old.flags(), old.window()));
            if option {
                prop_assert_eq!(new.options(), [&bytes, old.options()].concat());
                prop_assert_eq!(new.payload(), old.payload());
            } else {
                prop_assert_eq!(new.payload(), [&bytes, old.payload()].concat());
                prop_assert_eq!(new.options(), old.options());
            }
        }
    }
}
