//! Parameters of SCTP's INIT and INIT ACK: the addresses that a side has besides the one it sends from (RFC 9260 §3.3.2.1).

use std::ops::Range;

use crate::addr::Addr;

use super::sctp::{CHUNK_HEADER_LEN, HEADER_LEN, INIT_LEN, chunk};

/// Types of parameters.
pub mod kind {
    /// IPv4 address.
    pub const IPV4: u16 = 5;
    /// IPv6 address.
    pub const IPV6: u16 = 6;
    /// Padding (RFC 4820 §4). Who does not know it skips it and says nothing: the type's upper bits are 10.
    pub const PAD: u16 = 0x8005;
}

/// Bytes of a parameter's header: type and length, as of a chunk.
pub const HEADER: usize = CHUNK_HEADER_LEN;

/// A parameter with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressParam {
    /// Where its header begins in the packet.
    pub at: usize,
    /// The address. Of the family that the type says; an IPv4 address in IPv6 form is one of neither.
    pub addr: Option<Addr>,
    /// Bytes of the address.
    pub len: usize,
}

impl AddressParam {
    /// Where its address is in the packet.
    #[must_use]
    pub const fn value(&self) -> Range<usize> {
        self.at + HEADER..self.at + HEADER + self.len
    }
}

/// The first address parameter from byte `from` on of an SCTP packet whose first chunk is an INIT or INIT ACK; 0: from the
/// beginning. To go on, ask from the end of its [value](AddressParam::value). None at the end, and where a parameter is not whole.
#[must_use]
pub fn next_address(packet: &[u8], from: usize) -> Option<AddressParam> {
    let chunk: &[u8; CHUNK_HEADER_LEN] = packet.get(HEADER_LEN..)?.first_chunk()?;
    if !matches!(chunk[0], chunk::INIT | chunk::INIT_ACK) {
        return None;
    }
    let end = HEADER_LEN + usize::from(u16::from_be_bytes([chunk[2], chunk[3]]));
    let params = packet.get(..end)?;
    let mut at = from.max(HEADER_LEN + INIT_LEN);
    loop {
        let &[a, b, c, d] = params.get(at..)?.first_chunk()?;
        let (what, len) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        let value = params.get(at + HEADER..at + len)?;
        let addr = match what {
            kind::IPV4 => value.try_into().ok().map(|v4| (Some(Addr::v4(v4)), 4)),
            kind::IPV6 => value.try_into().ok().map(|v6| (Some(Addr::v6(v6)).filter(|a| !a.is_v4()), 16)),
            _ => None,
        };
        if let Some((addr, len)) = addr {
            return Some(AddressParam { at, addr, len });
        }
        at += len.max(HEADER).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An INIT with these parameters; the last one's padding counts in no length.
    fn init(params: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN + INIT_LEN];
        let mut len = INIT_LEN;
        packet[HEADER_LEN] = chunk::INIT;
        for (kind, value) in params {
            packet.extend(kind.to_be_bytes());
            packet.extend(((HEADER + value.len()) as u16).to_be_bytes());
            packet.extend_from_slice(value);
            len = packet.len() - HEADER_LEN;
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&(len as u16).to_be_bytes());
        packet
    }

    fn addresses(packet: &[u8]) -> Vec<Option<Addr>> {
        let (mut from, mut found) = (0, Vec::new());
        while let Some(param) = next_address(packet, from) {
            assert_eq!(param.value().len(), param.len);
            from = param.value().end;
            found.push(param.addr);
        }
        found
    }

    #[test]
    fn addresses_among_other_parameters() {
        let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        let packet = init(&[
            (12, &[0, 5]),
            (kind::IPV4, &[10, 0, 0, 1]),
            (7, b"a cookie"),
            (kind::IPV6, &six),
            (kind::IPV6, &mapped),
            (kind::IPV4, &[1, 2, 3]),
            (kind::IPV4, &[10, 0, 0, 2]),
        ]);
        let v4 = |n| Some(Addr::v4([10, 0, 0, n]));
        assert_eq!(addresses(&packet), [v4(1), Some(Addr::v6(six)), None, v4(2)]);
        let mut other = packet.clone();
        other[HEADER_LEN] = chunk::DATA;
        assert_eq!(addresses(&other), []);
        // A chunk that ends in its last parameter.
        let len = (packet.len() - HEADER_LEN - 1) as u16;
        let mut cut = packet;
        cut[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(addresses(&cut), [v4(1), Some(Addr::v6(six)), None]);
    }

    #[test]
    fn a_length_of_nothing_ends_nowhere() {
        let mut packet = init(&[(9, &[]), (kind::IPV4, &[10, 0, 0, 1])]);
        let at = HEADER_LEN + INIT_LEN;
        packet[at + 2..at + 4].fill(0);
        assert_eq!(addresses(&packet), []);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_it_ends(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.get_mut(HEADER_LEN) {
                *first = chunk::INIT_ACK;
            }
            if let Some(high) = bytes.get_mut(HEADER_LEN + 2) {
                *high = 0;
            }
            prop_assert!(addresses(&bytes).len() <= bytes.len() / 8);
        }
    }
}
