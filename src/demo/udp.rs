//! Questions and answers, and streams of small packets both ways. Servers keep no state: what comes says what is wanted.

use std::time::Duration;

use super::conn::Context;
use super::ledger::End;
use crate::time::Instant;

/// A question is repeated after this, and given up after as long again.
const TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: u8 = 2;
/// Between two packets of a stream.
const INTERVAL: Duration = Duration::from_millis(20);
/// The first byte of a stream's packets, as RTP has it (version 2). A question's first byte is below.
const STREAM: u8 = 0x80;
/// Packets of 20 ms speech in G.711, RTP header included.
const STREAM_PAYLOAD: usize = 172;

/// A client of a UDP service.
pub(super) struct Client {
    wants: Wants,
    /// None: it is over.
    wake_at: Option<Instant>,
}

enum Wants {
    /// An answer to a question with this number.
    Answer { id: u16, tries: u8 },
    /// To send so many packets more; this many have come back.
    Stream { left: u32, sequence: u16, heard: u32 },
}

impl Client {
    /// Asks a question.
    pub fn ask(cx: &mut Context<'_>) -> Self {
        let id = cx.rng.next_u32() as u16 & 0x7fff;
        Self::start(Wants::Answer { id, tries: 0 }, cx)
    }

    /// Starts a stream of so many packets.
    pub fn stream(packets: u32, cx: &mut Context<'_>) -> Self {
        let sequence = cx.rng.next_u32() as u16;
        Self::start(Wants::Stream { left: packets.max(1), sequence, heard: 0 }, cx)
    }

    fn start(wants: Wants, cx: &mut Context<'_>) -> Self {
        cx.first_packet();
        let mut client = Self { wants, wake_at: None };
        client.timer(cx);
        client
    }

    /// When it next wants to be called; none: it is over.
    pub const fn deadline(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Time to send the next packet, or to give up.
    pub fn timer(&mut self, cx: &mut Context<'_>) {
        let (own, peer) = cx.ports();
        match &mut self.wants {
            Wants::Answer { tries: TRIES, .. } => self.over(End::Unanswered, cx),
            Wants::Answer { id, tries } => {
                let [a, b] = id.to_be_bytes();
                // A DNS header with one question, and the question's name.
                let mut question = vec![a, b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                question.resize(30 + usize::from(*id % 30), b'a');
                *tries += 1;
                cx.send(|ip| ip.udp(own, peer).payload(question));
                self.wake_at = Some(cx.now.after(TIMEOUT));
            }
            Wants::Stream { left: 0, heard, .. } => {
                let end = if *heard > 0 { End::Answered } else { End::Unanswered };
                self.over(end, cx);
            }
            Wants::Stream { left, sequence, .. } => {
                let [a, b] = sequence.to_be_bytes();
                let mut packet = vec![STREAM, 0, a, b];
                packet.resize(STREAM_PAYLOAD, 0x55);
                *sequence = sequence.wrapping_add(1);
                *left -= 1;
                let wait = if *left == 0 { TIMEOUT } else { INTERVAL };
                cx.send(|ip| ip.udp(own, peer).payload(packet));
                self.wake_at = Some(cx.now.after(wait));
            }
        }
    }

    /// A datagram has come.
    pub fn receive(&mut self, payload: &[u8], cx: &mut Context<'_>) {
        match &mut self.wants {
            Wants::Answer { id, .. } => {
                if payload.starts_with(&id.to_be_bytes()) {
                    self.over(End::Answered, cx);
                }
            }
            Wants::Stream { heard, .. } => *heard += 1,
        }
    }

    /// The server's host says that nobody listens there.
    pub fn unreachable(&mut self, cx: &mut Context<'_>) {
        self.over(End::Unreachable, cx);
    }

    fn over(&mut self, end: End, cx: &mut Context<'_>) {
        cx.record(end);
        self.wake_at = None;
    }
}

/// A server hears a datagram, which is the L4 part of the packet `l3`.
pub(super) fn serve(payload: &[u8], l3: &[u8], cx: &mut Context<'_>) {
    let (own, peer) = cx.ports();
    let Some(&[a, b]) = payload.first_chunk() else { return };
    if a == STREAM {
        return cx.send(|ip| ip.udp(own, peer).payload(payload));
    }
    let id = u16::from_be_bytes([a, b]);
    // The same for a repeated question.
    match id % 100 {
        0..3 => {}
        3..6 => cx.send(|ip| ip.port_unreachable(l3)),
        _ => {
            let mut answer = payload.to_vec();
            answer.resize(payload.len() + 16 + usize::from(id % 400), b'b');
            cx.send(|ip| ip.udp(own, peer).payload(answer));
        }
    }
}
