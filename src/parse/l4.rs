//! TCP, UDP, SCTP and ICMP: what their headers decide.

use super::L4;
use crate::addr::Addr;
use crate::pipeline::DropReason;
use crate::wire::Error;
use crate::wire::checksum;
use crate::wire::fragment::Fragment;
use crate::wire::icmp::Icmp;
use crate::wire::protocol;
use crate::wire::sctp::{self, Sctp, chunk};
use crate::wire::tcp::{self, Tcp, flag};
use crate::wire::udp::{self, Udp};

/// Parses the L4 header and payload `bytes`. `icmp` is the protocol number of the family's ICMP: the other family's is as
/// unknown as any.
#[inline]
pub(super) fn parse(number: u8, icmp: u8, src: Addr, dst: Addr, bytes: &[u8]) -> Result<L4, DropReason> {
    match number {
        protocol::TCP => tcp(bytes),
        protocol::UDP => udp(bytes),
        protocol::SCTP => sctp(bytes),
        _ if number == icmp => self::icmp(icmp, src, dst, bytes),
        _ => Ok(L4::Other),
    }
}

/// Parses a fragment of a datagram with an L4 header: the first one has to have all of that. `header_len` is what the whole
/// datagram's IP header adds to its length.
#[cold]
pub(super) fn parse_piece(
    number: u8,
    fragment: &Fragment,
    header_len: usize,
    bytes: &[u8],
) -> Result<L4, DropReason> {
    let header = match number {
        protocol::TCP => tcp::HEADER_LEN,
        protocol::UDP => udp::HEADER_LEN,
        protocol::SCTP => sctp::HEADER_LEN,
        _ => return Err(DropReason::Fragment),
    };
    let end = header_len + usize::from(fragment.offset) + bytes.len();
    if bytes.is_empty() || fragment.more && !bytes.len().is_multiple_of(8) || end > usize::from(u16::MAX) {
        return Err(DropReason::FragmentMalformed);
    }
    if fragment.is_first() {
        return first_piece(number, bytes);
    }
    // RFC 3128: it would write over the header that was judged.
    if usize::from(fragment.offset) < header { Err(DropReason::FragmentTiny) } else { Ok(L4::Other) }
}

/// What the header in a first fragment says. Lengths in it are the whole datagram's.
fn first_piece(number: u8, bytes: &[u8]) -> Result<L4, DropReason> {
    match number {
        protocol::TCP => match Tcp::new_checked(bytes) {
            Err(Error::Short | Error::Truncated) => Err(DropReason::FragmentTiny),
            _ => tcp(bytes),
        },
        protocol::UDP => {
            let header: &[u8; udp::HEADER_LEN] = bytes.first_chunk().ok_or(DropReason::FragmentTiny)?;
            let [a, b, c, d, e, f, ..] = *header;
            if usize::from(u16::from_be_bytes([e, f])) < udp::HEADER_LEN {
                return Err(DropReason::UdpHeader);
            }
            let (sport, dport) = ports(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))?;
            Ok(L4::Udp { sport, dport })
        }
        _ => sctp_piece(bytes),
    }
}

/// An SCTP packet that is cut: what it bundles behind the cut is not known, and what is cut may be of a chunk of data only.
fn sctp_piece(bytes: &[u8]) -> Result<L4, DropReason> {
    match sctp(bytes) {
        Err(DropReason::SctpHeader) => {}
        other => return other,
    }
    let (header, chunk) =
        bytes.split_first_chunk::<{ sctp::HEADER_LEN }>().ok_or(DropReason::FragmentTiny)?;
    if chunk.first() != Some(&chunk::DATA) || chunk.len() < sctp::CHUNK_HEADER_LEN {
        return Err(DropReason::FragmentTiny);
    }
    let [a, b, c, d, e, f, g, h, ..] = *header;
    let (sport, dport) = ports(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))?;
    let tag = u32::from_be_bytes([e, f, g, h]);
    Ok(L4::Sctp { sport, dport, tag, chunks: 1 << chunk::DATA, initiate_tag: 0, reflected: false })
}

#[inline]
fn tcp(bytes: &[u8]) -> Result<L4, DropReason> {
    let tcp = Tcp::new_checked(bytes).map_err(|_| DropReason::TcpHeader)?;
    let flags = tcp.flags();
    if impossible(flags) {
        return Err(DropReason::TcpFlags);
    }
    let (sport, dport) = ports(tcp.sport(), tcp.dport())?;
    Ok(L4::Tcp { sport, dport, flags, payload: tcp.payload().len() as u32, seq: tcp.seq(), ack: tcp.ack() })
}

/// Combinations that no stack sends: probes of port scanners and flood tools. The ECN flags only go along with others.
#[inline]
pub(super) const fn impossible(flags: u8) -> bool {
    use flag::{ACK, CWR, ECE, FIN, RST, SYN};
    flags & !(CWR | ECE) == 0
        || flags & (SYN | FIN) == SYN | FIN
        || flags & (SYN | RST) == SYN | RST
        || flags & (FIN | ACK) == FIN
}

#[inline]
fn udp(bytes: &[u8]) -> Result<L4, DropReason> {
    let udp = Udp::new_checked(bytes).map_err(|_| DropReason::UdpHeader)?;
    let (sport, dport) = ports(udp.sport(), udp.dport())?;
    Ok(L4::Udp { sport, dport })
}

/// Every chunk is looked at, since connections are tracked by what a packet bundles; that is bounded by its length.
#[inline]
fn sctp(bytes: &[u8]) -> Result<L4, DropReason> {
    let sctp = Sctp::new_checked(bytes).map_err(|_| DropReason::SctpHeader)?;
    let (sport, dport) = ports(sctp.sport(), sctp.dport())?;
    let tag = sctp.tag();
    let (mut count, mut chunks, mut initiate_tag, mut reflected) = (0u32, 0u16, 0, false);
    for c in sctp.chunks() {
        count += 1;
        chunks |= 1u16.checked_shl(u32::from(c.kind)).unwrap_or(0);
        reflected |= c.is_reflected();
        if matches!(c.kind, chunk::INIT | chunk::INIT_ACK) {
            initiate_tag = c.initiate_tag().ok_or(DropReason::SctpHeader)?;
            // Both must name a tag for the way back (RFC 9260 §3.3.2, §3.3.3).
            if initiate_tag == 0 || (c.kind == chunk::INIT && tag != 0) {
                return Err(DropReason::SctpChunk);
            }
        }
    }
    const ALONE: u16 = 1 << chunk::INIT | 1 << chunk::INIT_ACK | 1 << chunk::SHUTDOWN_COMPLETE;
    if chunks & ALONE != 0 && count > 1 {
        return Err(DropReason::SctpChunk);
    }
    Ok(L4::Sctp { sport, dport, tag, chunks, initiate_tag, reflected })
}

fn icmp(number: u8, src: Addr, dst: Addr, bytes: &[u8]) -> Result<L4, DropReason> {
    let icmp = Icmp::new_checked(bytes).map_err(|_| DropReason::IcmpHeader)?;
    let sum = if number == protocol::ICMPV6 {
        checksum::pseudo(src, dst, number, bytes)
    } else {
        checksum::checksum(bytes)
    };
    if sum != 0 {
        return Err(DropReason::IcmpChecksum);
    }
    Ok(L4::Icmp { kind: icmp.kind(), code: icmp.code() })
}

#[inline]
fn ports(sport: u16, dport: u16) -> Result<(u16, u16), DropReason> {
    if sport == 0 || dport == 0 { Err(DropReason::PortZero) } else { Ok((sport, dport)) }
}
