//! SCTP packets of a capture, read by code that shares nothing with the engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One SCTP packet on a wire.
#[derive(Clone)]
pub struct Sctp {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IP header and everything after it, as the IP header says.
    pub bytes: u64,
    /// Common header and chunks.
    segment: Vec<u8>,
}

impl std::fmt::Debug for Sctp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = self.ports();
        let (s, d, n) = (self.source, self.destination, self.bytes);
        let (crc, chunk) = (self.crc(), self.segment.get(12));
        write!(f, "[{s}]:{from} to [{d}]:{to}, {n} bytes, CRC {crc:08x}, first chunk {chunk:?}")
    }
}

impl Sctp {
    /// Those among captured frames, in their order. Panics where a frame was not captured whole.
    pub fn all(frames: &[(u64, Vec<u8>)]) -> Vec<Self> {
        frames.iter().filter_map(|(_, frame)| Self::read(frame)).collect()
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let (protocol, packet) = Self::carried(frame);
        (protocol == 132).then_some(packet)
    }

    /// ICMP errors about SCTP among captured frames, as if they were packets of the association, of their direction: a kernel
    /// without SCTP sends one when something comes for a process that has ended.
    pub fn errors(frames: &[(u64, Vec<u8>)]) -> Vec<Self> {
        frames.iter().filter_map(|(_, frame)| Self::read_error(frame)).collect()
    }

    fn read_error(frame: &[u8]) -> Option<Self> {
        let (protocol, error) = Self::carried(frame);
        let (header, quote) = error.segment.split_at_checked(8)?;
        // Unreachable; of IPv6 also an unknown next header.
        let quoted_at = match (protocol, header[0]) {
            (1, 3) if quote[9] == 132 => usize::from(quote[0] & 15) * 4,
            (58, 1 | 4) if quote[6] == 132 => 40,
            _ => return None,
        };
        let ports = &quote[quoted_at..quoted_at + 4];
        Some(Self { segment: [&ports[2..], &ports[..2]].concat(), ..error })
    }

    /// What a frame's IP packet carries, and of which protocol.
    fn carried(frame: &[u8]) -> (u8, Self) {
        let ip = &frame[14..];
        let u16_at = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
        let (protocol, header, len, source, destination) = match frame[12..14] {
            [0x08, 0x00] => {
                let [s, d] = [12, 16].map(|at| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
                assert_eq!(u16_at(6) & 0x3fff, 0, "a fragment on the wire");
                (ip[9], usize::from(ip[0] & 15) * 4, u16_at(2), s.into(), d.into())
            }
            [0x86, 0xdd] => {
                let [s, d] = [8, 24].map(|at| {
                    let octets: [u8; 16] = ip[at..at + 16].try_into().expect("sixteen bytes");
                    IpAddr::from(Ipv6Addr::from(octets))
                });
                (ip[6], 40, u16_at(4) + 40, s, d)
            }
            ref other => panic!("EtherType {other:02x?} past the filter"),
        };
        let segment = ip[header..len].to_vec();
        (protocol, Self { source, destination, bytes: len as u64, segment })
    }

    /// Source and destination port.
    pub fn ports(&self) -> (u16, u16) {
        let s = &self.segment;
        (u16::from_be_bytes([s[0], s[1]]), u16::from_be_bytes([s[2], s[3]]))
    }

    /// The CRC32c that it carries.
    pub fn crc(&self) -> u32 {
        let s = &self.segment;
        u32::from_le_bytes([s[8], s[9], s[10], s[11]])
    }

    /// Verification tag and chunks: what nobody on the way may change.
    pub fn behind_the_header(&self) -> (&[u8], &[u8]) {
        (&self.segment[4..8], &self.segment[12..])
    }

    /// RFC 9260 appendix A, a bit at a time.
    pub fn crc_is_right(&self) -> bool {
        let zeroed = self.segment.iter().enumerate().map(|(i, b)| if (8..12).contains(&i) { 0 } else { *b });
        let crc = zeroed.fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0x82f6_3b78 & (c & 1).wrapping_neg()))
        });
        !crc == self.crc()
    }
}
