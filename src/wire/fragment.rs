//! Where a fragment belongs in its datagram, the same for both families (RFC 791 §3.1, RFC 8200 §4.5).

/// A fragment's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Identification of the datagram; 16 bits in IPv4.
    pub id: u32,
    /// Where the fragment's payload belongs in the datagram's, in bytes; a multiple of eight.
    pub offset: u16,
    /// Whether others follow behind it.
    pub more: bool,
}

impl Fragment {
    /// Whether this is the one with the L4 header.
    #[inline]
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.offset == 0
    }
}
