//! Refusals that the client's stack understands: RST (RFC 9293 §3.10.7.1) and ABORT (RFC 9260 §8.4).

use super::{Reply, TTL};
use crate::addr::Addr;
use crate::parse::{L4, Packet};
use crate::wire::{checksum, crc32c};

const TCP: u8 = 6;
const SCTP: u8 = 132;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const ABORT: u8 = 6;
const SHUTDOWN_ACK: u8 = 8;
const SHUTDOWN_COMPLETE: u8 = 14;
/// ABORT, ERROR, COOKIE ACK and SHUTDOWN COMPLETE.
const SILENT: u16 = 1 << ABORT | 1 << 9 | 1 << 11 | 1 << SHUTDOWN_COMPLETE;
/// The T bit: the verification tag is reflected, since the association is not known.
const REFLECTED: u8 = 1;

/// Writes the RST or ABORT that goes on in the place of a packet, in its sender's name, between these addresses and ports. Its
/// numbers are the packet's, which the receiver expects. `None` where none may be sent.
pub fn write_onward(
    out: &mut Vec<u8>,
    l4: &L4,
    (src, sport): (Addr, u16),
    (dst, dport): (Addr, u16),
    reply: &Reply,
) -> Option<()> {
    match *l4 {
        // To a SYN that the server has not seen there is nothing to reset.
        L4::Tcp { flags, .. } if flags & (RST | SYN) != 0 && flags & ACK == 0 => None,
        L4::Tcp { flags, seq, ack, .. } => {
            let flags = RST | flags & ACK;
            let ack = if flags & ACK == 0 { 0 } else { ack };
            tcp(out, (src, sport), (dst, dport), (seq, ack, flags), reply);
            Some(())
        }
        L4::Sctp { chunks, tag, initiate_tag: 0, .. } if chunks & SILENT == 0 => {
            sctp(out, (src, sport), (dst, dport), (tag, ABORT, 0), reply);
            Some(())
        }
        _ => None,
    }
}

fn tcp(
    out: &mut Vec<u8>,
    (src, sport): (Addr, u16),
    (dst, dport): (Addr, u16),
    (seq, ack, flags): (u32, u32, u8),
    reply: &Reply,
) {
    let mut header = [0; 20];
    header[0..2].copy_from_slice(&sport.to_be_bytes());
    header[2..4].copy_from_slice(&dport.to_be_bytes());
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[8..12].copy_from_slice(&ack.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = flags;
    let sum = checksum::pseudo(src, dst, TCP, &header);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    reply.ip(out, src, dst, TCP, TTL, header.len());
    out.extend_from_slice(&header);
}

fn sctp(
    out: &mut Vec<u8>,
    (src, sport): (Addr, u16),
    (dst, dport): (Addr, u16),
    (tag, chunk, flags): (u32, u8, u8),
    reply: &Reply,
) {
    let mut packet = [0; 16];
    packet[0..2].copy_from_slice(&sport.to_be_bytes());
    packet[2..4].copy_from_slice(&dport.to_be_bytes());
    packet[4..8].copy_from_slice(&tag.to_be_bytes());
    packet[12..16].copy_from_slice(&[chunk, flags, 0, 4]);
    let crc = crc32c::checksum(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    reply.ip(out, src, dst, SCTP, TTL, packet.len());
    out.extend_from_slice(&packet);
}

/// Writes the RST or ABORT that answers `packet`. `None` where none may be sent: to a RST, an ABORT, or another protocol.
pub fn write(out: &mut Vec<u8>, packet: &Packet, reply: &Reply) -> Option<()> {
    let (src, dst) = (packet.dst, packet.src);
    match packet.l4_info {
        L4::Tcp { flags, .. } if flags & RST != 0 => None,
        L4::Tcp { sport, dport, flags, payload, seq, ack } => {
            let (seq, ack, answer) = if flags & ACK != 0 {
                (ack, 0, RST)
            } else {
                let len = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
                (0, seq.wrapping_add(len), RST | ACK)
            };
            tcp(out, (src, dport), (dst, sport), (seq, ack, answer), reply);
            Some(())
        }
        // To be discarded in silence (RFC 9260 §8.4 (2), (6), (7)).
        L4::Sctp { chunks, .. } if chunks & SILENT != 0 => None,
        L4::Sctp { sport, dport, tag, chunks, initiate_tag, .. } => {
            // An INIT names the tag that its sender wants to see (RFC 9260 §8.4 (3)); else the packet's own is reflected.
            let (tag, flags) = if initiate_tag == 0 { (tag, REFLECTED) } else { (initiate_tag, 0) };
            // §8.4 (5): who shuts an association down that is not known any more is helped to end.
            let answer = if chunks & 1 << SHUTDOWN_ACK != 0 { SHUTDOWN_COMPLETE } else { ABORT };
            sctp(out, (src, dport), (dst, sport), (tag, answer, flags), reply);
            Some(())
        }
        _ => None,
    }
}
