//! What the core needs of a packet buffer, so that an mbuf and a byte vector are the same to it.

/// One Ethernet frame in contiguous memory, FCS stripped.
pub trait Frame {
    /// The bytes, from the destination MAC on.
    fn data(&self) -> &[u8];

    /// The bytes, writable in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Grows the frame by `n` bytes at its front, contents unspecified; `false` and no change where there is no headroom.
    fn grow_front(&mut self, n: usize) -> bool;

    /// Fetches what of the frame is read first.
    fn prefetch(&self) {}

    /// Fetches the memory in front of the frame, which is to grow there.
    fn prefetch_front(&self) {}

    /// Removes `n` bytes at the front; `n` must not exceed the length.
    fn shrink_front(&mut self, n: usize);

    /// Cuts the frame to `len` bytes; no change where it is shorter.
    fn truncate(&mut self, len: usize);

    /// What the device found out about the checksums.
    fn rx_checksum(&self) -> RxChecksum {
        RxChecksum::default()
    }

    /// Asks the device to compute the SCTP CRC32c at transmission, the packet's L4 header starting `l2 + l3` bytes in.
    /// `false` where it cannot: the caller computes it.
    fn offload_sctp_crc(&mut self, l2: usize, l3: usize) -> bool {
        let _ = (l2, l3);
        false
    }
}

/// Verdict of a device on the IPv4 header checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxChecksum {
    /// Not looked at: the parser verifies.
    #[default]
    Unknown,
    /// Verified.
    Good,
    /// Found wrong.
    Bad,
}

/// A frame in ordinary memory, with headroom: what replay, fixtures, tests and fuzzers use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VecFrame {
    bytes: Vec<u8>,
    start: usize,
}

impl VecFrame {
    const HEADROOM: usize = 128;

    /// A copy of `data`.
    #[must_use]
    pub fn new(data: &[u8]) -> Self {
        let mut bytes = vec![0; Self::HEADROOM];
        bytes.extend_from_slice(data);
        Self { bytes, start: Self::HEADROOM }
    }
}

impl Frame for VecFrame {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        if n > self.start {
            return false;
        }
        self.start -= n;
        true
    }

    fn shrink_front(&mut self, n: usize) {
        self.start = (self.start + n).min(self.bytes.len());
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }
}
