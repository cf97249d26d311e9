//! QUIC: as much of it as is the same in every version (RFC 8999), and routable connection ids
//! (draft-ietf-quic-load-balancers).
//!
//! A packet with a short header is `0xxxxxxx`, then the destination's connection id, whose length nothing in the packet says
//! (RFC 8999 §5.2). A routable id is
//!
//! | octets | what |
//! |---|---|
//! | 1 | three bits of config rotation, `111`: not routable; five bits of the id's length or of anything |
//! | `server_id_bytes` | the server id, in the clear (the draft's algorithm without a key) |
//! | 4 and more | a nonce: what tells the server's connections apart |

/// Most bytes of a server id: a connection id has up to 20 (RFC 9000 §17.2), of which the first one and at least four
/// of nonce are something else.
pub const MAX_SERVER_ID: usize = 15;

/// Set in the first byte of a long header (RFC 8999 §5.1).
pub const LONG_HEADER: u8 = 0x80;

/// Config rotation of an id that names no server.
const UNROUTABLE: u8 = 0b111;

/// The server id of `server_id_bytes` in the connection id of the packet with a short header that begins a UDP payload. None for
/// a long header, an id that says of itself that it names no server, and where the packet ends before.
#[inline]
#[must_use]
pub fn server_id(payload: &[u8], server_id_bytes: usize) -> Option<&[u8]> {
    let (&[form, first], rest) = payload.split_first_chunk()?;
    if form & LONG_HEADER != 0 || first >> 5 == UNROUTABLE {
        return None;
    }
    rest.get(..server_id_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_server_id_is_behind_the_first_octet() {
        let packet = [0x40, 0x0b, 0xaa, 0xbb, 1, 2, 3, 4];
        assert_eq!(server_id(&packet, 2), Some(&[0xaa, 0xbb][..]));
        assert_eq!(server_id(&packet, 6), Some(&packet[2..]));
        assert_eq!(server_id(&packet, 7), None, "the packet ends in it");
        assert_eq!(server_id(&[], 1), None);
        assert_eq!(server_id(&[0x40], 1), None);
        assert_eq!(server_id(&[0x40, 0x0b], 1), None);
    }

    #[test]
    fn any_first_octet_but_the_unroutable() {
        for first in 0..=255_u8 {
            let packet = [0x40, first, 7];
            let named = server_id(&packet, 1);
            assert_eq!(named, (first < 0b1110_0000).then_some(&[7][..]), "{first:08b}");
        }
    }

    proptest! {
        #[test]
        fn a_short_header_gives_what_was_put_in(
            form in any::<u8>(), rotation in 0..8_u8, low in 0..32_u8,
            id in prop::collection::vec(any::<u8>(), 1..=MAX_SERVER_ID),
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut packet = vec![form, rotation << 5 | low];
            packet.extend(&id);
            packet.extend(&rest);
            let wanted = (form < 0x80 && rotation != 7).then_some(&id[..]);
            prop_assert_eq!(server_id(&packet, id.len()), wanted);
            // However it is cut.
            for len in 0..2 + id.len() {
                prop_assert_eq!(server_id(&packet[..len], id.len()), None);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), n in 0..64_usize) {
            if let Some(id) = server_id(&bytes, n) {
                prop_assert_eq!(id.len(), n);
                prop_assert_eq!(id, &bytes[2..2 + n]);
            }
        }
    }
}
