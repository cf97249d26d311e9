//! SCTP: common header and chunks (RFC 9260 §3). The checksum is in [`super::crc32c`].

use super::{Error, u16_at, u32_at};

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;
/// Bytes of a chunk's header.
pub const CHUNK_HEADER_LEN: usize = 4;
/// Bytes of the fixed part of INIT and INIT ACK, chunk header included (§3.3.2).
pub const INIT_LEN: usize = 20;

/// Where the fields are.
pub mod field {
    use std::ops::Range;

    /// Source port.
    pub const SPORT: Range<usize> = 0..2;
    /// Destination port.
    pub const DPORT: Range<usize> = 2..4;
    /// Verification tag.
    pub const TAG: Range<usize> = 4..8;
    /// CRC32c, least significant byte first.
    pub const CHECKSUM: Range<usize> = super::super::crc32c::FIELD;
}

/// Chunk types (§3.2).
pub mod chunk {
    /// Payload.
    pub const DATA: u8 = 0;
    /// Initiation.
    pub const INIT: u8 = 1;
    /// Initiation acknowledgement.
    pub const INIT_ACK: u8 = 2;
    /// Selective acknowledgement.
    pub const SACK: u8 = 3;
    /// Heartbeat request.
    pub const HEARTBEAT: u8 = 4;
    /// Heartbeat acknowledgement.
    pub const HEARTBEAT_ACK: u8 = 5;
    /// Abort.
    pub const ABORT: u8 = 6;
    /// Shutdown.
    pub const SHUTDOWN: u8 = 7;
    /// Shutdown acknowledgement.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Operation error.
    pub const ERROR: u8 = 9;
    /// State cookie.
    pub const COOKIE_ECHO: u8 = 10;
    /// Cookie acknowledgement.
    pub const COOKIE_ACK: u8 = 11;
    /// Shutdown complete.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// T bit of ABORT and SHUTDOWN COMPLETE: the verification tag is the receiver's own, reflected (§3.3.7, §3.3.13).
pub const T_BIT: u8 = 0x01;

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<'a> {
    header: &'a [u8; HEADER_LEN],
    chunks: Chunks<'a>,
}

impl<'a> Sctp<'a> {
    /// A view of the packet that `bytes` is.
    ///
    /// # Errors
    /// [`Error::Short`] without a whole common header; [`Error::Truncated`] without a whole first chunk.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = bytes.split_first_chunk().ok_or(Error::Short)?;
        let chunks = Chunks(rest);
        if chunks.clone().next().is_none() {
            return Err(Error::Truncated);
        }
        Ok(Self { header, chunks })
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn sport(&self) -> u16 {
        u16_at::<{ field::SPORT.start }, _>(self.header)
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn dport(&self) -> u16 {
        u16_at::<{ field::DPORT.start }, _>(self.header)
    }

    /// Verification tag.
    #[inline]
    #[must_use]
    pub const fn tag(&self) -> u32 {
        u32_at::<{ field::TAG.start }, _>(self.header)
    }

    /// The chunks, the first of which exists.
    #[inline]
    #[must_use]
    pub const fn chunks(&self) -> Chunks<'a> {
        self.chunks
    }
}

/// One chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// Type, see [`chunk`].
    pub kind: u8,
    /// Flags, of the type's own meaning.
    pub flags: u8,
    /// What follows the chunk header, without padding.
    pub value: &'a [u8],
}

impl Chunk<'_> {
    /// Initiate tag of an INIT or INIT ACK; `None` where its fixed part is cut, and for other chunks.
    #[inline]
    #[must_use]
    pub fn initiate_tag(&self) -> Option<u32> {
        let fixed: &[u8; INIT_LEN - CHUNK_HEADER_LEN] = self.value.first_chunk()?;
        matches!(self.kind, chunk::INIT | chunk::INIT_ACK).then(|| u32_at::<0, _>(fixed))
    }

    /// Whether the T bit says that the verification tag is reflected.
    #[inline]
    #[must_use]
    pub const fn is_reflected(&self) -> bool {
        matches!(self.kind, chunk::ABORT | chunk::SHUTDOWN_COMPLETE) && self.flags & T_BIT != 0
    }
}

/// The chunks of a packet, up to the first that is not whole: what a receiver may act on (§6.10).
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    #[inline]
    fn next(&mut self) -> Option<Chunk<'a>> {
        let head: &[u8; CHUNK_HEADER_LEN] = self.0.first_chunk()?;
        let len = usize::from(u16_at::<2, _>(head));
        let value = self.0.get(CHUNK_HEADER_LEN..len)?;
        // The last chunk's padding may be missing.
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Chunk { kind: head[0], flags: head[1], value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 12] = [0x0f, 0xa0, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0];

    fn kinds(chunks: &[u8]) -> Vec<(u8, usize)> {
        Chunks(chunks).map(|c| (c.kind, c.value.len())).collect()
    }

    #[test]
    fn header_and_chunks() {
        let bytes =
            [&HEADER[..], &[11, 0, 0, 4], &[6, 1, 0, 5, 0xaa, 0, 0, 0], &[64, 0, 0, 6, 1, 2]].concat();
        let sctp = Sctp::new_checked(&bytes).unwrap();
        assert_eq!((sctp.sport(), sctp.dport(), sctp.tag()), (4000, 80, 9));
        let chunks: Vec<_> = sctp.chunks().collect();
        assert_eq!(chunks[1], Chunk { kind: 6, flags: 1, value: &[0xaa] });
        assert!(chunks[1].is_reflected() && !chunks[0].is_reflected());
        assert_eq!(chunks[2].value, [1, 2]);
        assert_eq!(chunks.len(), 3);
    }

    #[test]
    fn the_first_chunk_must_be_whole() {
        let bytes = [&HEADER[..], &[10, 0, 0, 8, 1, 2, 3, 4]].concat();
        assert!(Sctp::new_checked(&bytes).is_ok());
        for len in 0..12 {
            assert_eq!(Sctp::new_checked(&bytes[..len]).err(), Some(Error::Short));
        }
        for len in 12..20 {
            assert_eq!(Sctp::new_checked(&bytes[..len]).err(), Some(Error::Truncated));
        }
    }

    #[test]
    fn a_broken_chunk_ends_the_walk() {
        for broken in
            [&[3, 0, 0, 3][..], &[3, 0, 0, 0], &[3, 0, 0, 9, 1, 2, 3, 4], &[3, 0, 0], &[3, 0, 0xff, 0xff]]
        {
            assert_eq!(kinds(&[&[11, 0, 0, 4], broken].concat()), [(11, 0)]);
        }
    }

    #[test]
    fn initiate_tags() {
        let mut value = [0; 16];
        value[3] = 7;
        let chunk = |kind, value| Chunk { kind, flags: 0, value };
        assert_eq!(chunk(chunk::INIT, &value).initiate_tag(), Some(7));
        assert_eq!(chunk(chunk::INIT_ACK, &value).initiate_tag(), Some(7));
        assert_eq!(chunk(chunk::DATA, &value).initiate_tag(), None);
        assert_eq!(chunk(chunk::INIT, &value[..15]).initiate_tag(), None);
    }
}
