//! TCP, UDP, SCTP and ICMP: what their headers decide.

use super::L4;
use crate::addr::Addr;
use crate::pipeline::DropReason;
use crate::wire::checksum;
use crate::wire::icmp::Icmp;
use crate::wire::protocol;
use crate::wire::sctp::{Sctp, chunk};
use crate::wire::tcp::{Tcp, flag};
use crate::wire::udp::Udp;

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
const fn impossible(flags: u8) -> bool {
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
