//! IPv4: header, checksum, options, addresses.

use super::{Packet, l4};
use crate::addr::Addr;
use crate::pipeline::{DropReason, RxChecksum};
use crate::wire::Error;
use crate::wire::ipv4::{HEADER_LEN, Ipv4, option};
use crate::wire::protocol;

/// Parses the packet that starts `bytes`, `l3` bytes into the frame.
#[inline]
pub(super) fn parse(
    bytes: &[u8],
    l3: usize,
    to_group: bool,
    rx_checksum: RxChecksum,
) -> Result<Packet, DropReason> {
    let ip = Ipv4::new_checked(bytes).map_err(|e| match e {
        Error::Short | Error::Malformed => DropReason::Ipv4Header,
        Error::Truncated => DropReason::Ipv4Truncated,
    })?;
    let right = match rx_checksum {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => ip.verify_checksum(),
    };
    if !right {
        return Err(DropReason::Ipv4Checksum);
    }
    if ip.header_len() > HEADER_LEN {
        check_options(&ip)?;
    }
    let (src, dst) = (ip.src(), ip.dst());
    check_addresses(src, dst)?;
    let fragment = ip.fragment();
    let l4_info = match &fragment {
        None => l4::parse(ip.protocol(), protocol::ICMPV4, src, dst, ip.payload())?,
        Some(fragment) => l4::parse_piece(ip.protocol(), fragment, ip.header_len(), ip.payload())?,
    };
    Ok(Packet {
        src,
        dst,
        protocol: ip.protocol(),
        ttl: ip.ttl(),
        dont_fragment: ip.dont_fragment(),
        to_group,
        l3: l3 as u16,
        l4: (l3 + ip.header_len()) as u16,
        l3_len: ip.total_len() as u32,
        l4_info,
        fragment,
    })
}

#[cold]
fn check_options(ip: &Ipv4<'_>) -> Result<(), DropReason> {
    for option in ip.options() {
        match option {
            // A source route would carry the packet around the load balancer's own routes (RFC 7126 §4.3, §4.4).
            Err(_) | Ok((option::LSRR | option::SSRR, _)) => return Err(DropReason::Ipv4Options),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// RFC 6890 §2.2.2. 240.0.0.0/4 but for the broadcast address is let through: it is in use as private space.
#[inline]
fn check_addresses(src: Addr, dst: Addr) -> Result<(), DropReason> {
    const BROADCAST: [u8; 4] = [255; 4];
    let (src, dst) = (src.v4_octets(), dst.v4_octets());
    if matches!(src[0], 0 | 127 | 224..=239) || src == BROADCAST {
        return Err(DropReason::MartianSource);
    }
    match dst[0] {
        0 | 127 => Err(DropReason::MartianDestination),
        224..=239 => Err(DropReason::Multicast),
        255 if dst == BROADCAST => Err(DropReason::Multicast),
        _ => Ok(()),
    }
}
