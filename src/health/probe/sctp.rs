//! `sctp`: an INIT that must be answered with an INIT ACK (RFC 9260 §5.1), and is taken back by an ABORT. No association comes of it: the
//! server keeps nothing until it gets its cookie back. Over a raw socket, because not every kernel has SCTP.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{SocketType, ipproto};

use super::shared::{Shared, Way, portless};
use super::{Failure, Whom};
use crate::health::nat;
use crate::wire::sctp::{Sctp, chunk, field};
use crate::wire::{crc32c, protocol};

/// Our ports: those that the kernel gives to others by default, too, but for other protocols.
const PORTS: std::ops::Range<u16> = 32_768..61_000;
/// Receiver window of an INIT, bytes; at least 1 500 (§3.3.2).
const WINDOW: u32 = 65_536;
/// Streams each way.
const STREAMS: u16 = 1;

/// What is known of an answer: the server's address and port, our port, our tag. One under another tag is nobody's (§8.5).
type Key = (IpAddr, u16, u16, u32);

/// What a server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    /// INIT ACK with this initiate tag.
    InitAck(u32),
    /// ABORT.
    Abort,
}

/// Handshakes under way.
#[derive(Debug)]
pub(super) struct Inits {
    shared: Shared<Key, Said>,
    next: AtomicU64,
    tags: RandomState,
}

impl Inits {
    pub fn new(seed: u64) -> Self {
        Self { shared: Shared::new(), next: AtomicU64::new(seed), tags: RandomState::new() }
    }

    pub async fn probe(&self, whom: Whom<'_>) -> Result<(), Failure> {
        let to = whom.socket();
        let ways = [Way { kind: SocketType::RAW, protocol: ipproto::SCTP, with_header: true }];
        let socket = self.shared.socket(to.is_ipv4(), &ways, answer).await?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (number % u64::from(PORTS.end - PORTS.start)) as u16;
        // Not 0 (§3.3.2), and not to be guessed (§5.3.1).
        let tag = (self.tags.hash_one(number) as u32).max(1);
        let _pass = whom.pass(nat::Key::Port(protocol::SCTP, port));
        let mut waiting = self.shared.wait((to.ip(), to.port(), port, tag));
        let failed = |error: std::io::Error| Failure::of("send", &error);
        let init = packet(port, to.port(), 0, chunk::INIT, &init(tag));
        socket.send_to(&init, portless(to.ip())).await.map_err(failed)?;
        match waiting.answer().await? {
            Said::InitAck(peer) => {
                let abort = packet(port, to.port(), peer, chunk::ABORT, &[]);
                socket.send_to(&abort, portless(to.ip())).await.map_err(failed)?;
                Ok(())
            }
            Said::Abort => Err(Failure::bad("refused: ABORT")),
        }
    }
}

/// The fixed part of an INIT's value (§3.3.2).
fn init(tag: u32) -> Vec<u8> {
    let mut value = Vec::new();
    value.extend_from_slice(&tag.to_be_bytes());
    value.extend_from_slice(&WINDOW.to_be_bytes());
    value.extend_from_slice(&STREAMS.to_be_bytes());
    value.extend_from_slice(&STREAMS.to_be_bytes());
    // The first TSN may be any.
    value.extend_from_slice(&tag.to_be_bytes());
    value
}

/// A packet of one chunk, whose value's length is a multiple of 4.
fn packet(from: u16, to: u16, tag: u32, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend_from_slice(&from.to_be_bytes());
    packet.extend_from_slice(&to.to_be_bytes());
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&[kind, 0]);
    packet.extend_from_slice(&(4 + value.len() as u16).to_be_bytes());
    packet.extend_from_slice(value);
    let sum = crc32c::checksum(&packet);
    packet[field::CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// What a packet with a good checksum says, if it answers an INIT.
fn answer(from: IpAddr, packet: &[u8]) -> Option<(Key, Said)> {
    if !crc32c::verify(packet) {
        return None;
    }
    let sctp = Sctp::new_checked(packet).ok()?;
    let first = sctp.chunks().next()?;
    let said = match first.kind {
        // One of 0 is to be answered with an ABORT of its own (§3.3.3), and is no good.
        chunk::INIT_ACK => first.initiate_tag().filter(|tag| *tag != 0).map_or(Said::Abort, Said::InitAck),
        chunk::ABORT => Said::Abort,
        _ => return None,
    };
    Some(((from, sctp.sport(), sctp.dport(), sctp.tag()), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_init_is_one_and_answers_are_read() {
        let sent = packet(40_000, 3868, 0, chunk::INIT, &init(7));
        assert!(crc32c::verify(&sent));
        let view = Sctp::new_checked(&sent).unwrap();
        assert_eq!((view.sport(), view.dport(), view.tag()), (40_000, 3868, 0));
        assert_eq!(view.chunks().next().unwrap().initiate_tag(), Some(7));
        assert_eq!(answer(SERVER, &sent), None, "our own");

        let ack = packet(3868, 40_000, 7, chunk::INIT_ACK, &init(9));
        let key = (SERVER, 3868, 40_000, 7);
        assert_eq!(answer(SERVER, &ack), Some((key, Said::InitAck(9))));
        let abort = packet(3868, 40_000, 7, chunk::ABORT, &[]);
        assert_eq!(answer(SERVER, &abort), Some((key, Said::Abort)));
        for at in 0..ack.len() {
            let mut broken = ack.clone();
            broken[at] ^= 1;
            assert_eq!(answer(SERVER, &broken), None, "byte {at}");
        }
    }
}
