//! SCTP's checksum: CRC32c over the whole packet, stored least significant byte first (RFC 9260 §6.8, appendix A).

use std::ops::Range;

/// The checksum field in the common header.
pub const FIELD: Range<usize> = 8..12;

/// The CRC32c of an SCTP packet, common header to last chunk, its checksum field taken as zero. On the wire it is
/// `to_le_bytes()`.
///
/// What is shorter than a common header is summed as it is.
#[inline]
#[must_use]
pub fn checksum(packet: &[u8]) -> u32 {
    let Some((before, _, behind)) = split(packet) else { return ::crc32c::crc32c(packet) };
    let crc = ::crc32c::crc32c(before);
    let crc = ::crc32c::crc32c_append(crc, &[0; 4]);
    ::crc32c::crc32c_append(crc, behind)
}

/// Whether the checksum field holds the [`checksum`]; `false` where there is no such field.
#[inline]
#[must_use]
pub fn verify(packet: &[u8]) -> bool {
    split(packet).is_some_and(|(_, field, _)| u32::from_le_bytes(*field) == checksum(packet))
}

fn split(packet: &[u8]) -> Option<(&[u8; FIELD.start], &[u8; 4], &[u8])> {
    let (before, rest) = packet.split_first_chunk()?;
    let (field, behind) = rest.split_first_chunk()?;
    Some((before, field, behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Bit by bit, reflected polynomial 0x1EDC6F41 (RFC 9260 appendix A).
    fn naive(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, b| {
            (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })
        })
    }

    #[test]
    fn check_value() {
        assert_eq!(checksum(b"12345678"), naive(b"12345678"));
        assert_eq!(::crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert!(!verify(b"12345678"));
    }

    #[test]
    fn a_cookie_ack() {
        // Ports 80 → 32836.
        let mut p = [0x00, 0x50, 0x80, 0x44, 0x6c, 0x86, 0xa3, 0xc4, 0, 0, 0, 0, 0x0b, 0, 0, 4];
        let crc = naive(&p);
        p[FIELD].copy_from_slice(&crc.to_le_bytes());
        assert!(verify(&p));
        p[FIELD].copy_from_slice(&crc.to_be_bytes());
        assert!(!verify(&p));
    }

    proptest! {
        #[test]
        fn any_packet(mut bytes in vec(any::<u8>(), 12..600)) {
            let mut zeroed = bytes.clone();
            zeroed[FIELD].fill(0);
            prop_assert_eq!(checksum(&bytes), naive(&zeroed));
            let crc = checksum(&bytes);
            bytes[FIELD].copy_from_slice(&crc.to_le_bytes());
            prop_assert!(verify(&bytes));
            bytes[0] ^= 1;
            prop_assert!(!verify(&bytes));
        }
    }
}
