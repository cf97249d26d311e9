//! `ping`: an echo request (RFC 792; RFC 4443 §4.1).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{SocketType, ipproto};

use super::shared::{Shared, Way, portless};
use super::{Failure, Whom};
use crate::health::nat::Key;
use crate::wire::checksum::checksum;
use crate::wire::icmp::{HEADER_LEN, Icmp, field};
use crate::wire::{icmpv4, icmpv6};

/// Echo requests under way, each known by the number that its data is.
#[derive(Debug)]
pub(super) struct Pings {
    shared: Shared<(IpAddr, u64), ()>,
    next: AtomicU64,
}

impl Pings {
    pub fn new(seed: u64) -> Self {
        Self { shared: Shared::new(), next: AtomicU64::new(seed) }
    }

    pub async fn probe(&self, whom: Whom<'_>) -> Result<(), Failure> {
        let to = whom.socket().ip();
        let protocol = if to.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
        let ways = [
            // Without privileges, where net.ipv4.ping_group_range allows it; and others' answers stay away.
            Way { kind: SocketType::DGRAM, protocol, with_header: false },
            Way { kind: SocketType::RAW, protocol, with_header: true },
        ];
        let socket = self.shared.socket(to.is_ipv4(), &ways, answer).await?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let _pass = whom.pass(Key::Echo(number));
        let mut waiting = self.shared.wait((to, number));
        let sent = socket.send_to(&request(to.is_ipv4(), number), portless(to)).await;
        sent.map_err(|error| Failure::of("send", &error))?;
        waiting.answer().await
    }
}

fn request(v4: bool, number: u64) -> Vec<u8> {
    let mut message = vec![0; HEADER_LEN];
    message[field::KIND] = if v4 { icmpv4::ECHO_REQUEST } else { icmpv6::ECHO_REQUEST };
    // Identifier and sequence number; the kernel puts another identifier on a datagram socket's.
    message[field::WORD].copy_from_slice(&(number as u32).to_be_bytes());
    message.extend_from_slice(&number.to_be_bytes());
    // The kernel sums ICMPv6 itself, whose pseudo header has our address.
    if v4 {
        let sum = checksum(&message);
        message[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Which request an echo reply answers.
fn answer(from: IpAddr, message: &[u8]) -> Option<((IpAddr, u64), ())> {
    let icmp = Icmp::new_checked(message).ok()?;
    let reply = if from.is_ipv4() { icmpv4::ECHO_REPLY } else { icmpv6::ECHO_REPLY };
    let number = u64::from_be_bytes(*icmp.payload().first_chunk()?);
    (icmp.kind() == reply && icmp.code() == 0).then_some(((from, number), ()))
}
