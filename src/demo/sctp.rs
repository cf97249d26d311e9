//! Half an SCTP association (RFC 9260): four-way handshake with a cookie, one message under way at a time, SHUTDOWN or ABORT.

use std::time::Duration;

use super::conn::Context;
use super::ledger::End;
use super::rng::Rng;
use crate::time::Instant;
use crate::wire::build::{Packet, Sctp as Builder};
use crate::wire::sctp::{Chunk, Sctp, chunk};

/// First retransmission; each further one waits twice as long, up to the limit.
const RETRANSMIT: Duration = Duration::from_secs(1);
const RETRANSMIT_MOST: Duration = Duration::from_secs(4);
/// Retransmissions until the other end counts as gone: of INIT and COOKIE ECHO, of anything else.
const INIT_RETRIES: u32 = 3;
const RETRIES: u32 = 6;
/// An association on which nothing happens is forgotten.
const IDLE: Duration = Duration::from_secs(90);
/// Fixed part of a DATA chunk behind the chunk header: TSN, stream, sequence number, payload protocol.
const DATA_FIXED: usize = 12;
/// Type and length of the state cookie parameter, and where it starts behind INIT ACK's fixed part.
const COOKIE: usize = 16 + 4;
/// What makes a server abort.
const PLEASE_ABORT: u8 = b'!';
/// What makes a server answer.
const QUESTION: u8 = b'?';

/// What a client does last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finale {
    Shutdown,
    Abort,
    /// Has the server abort.
    ServerAbort,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Messages, each answered by one.
    pub exchanges: u32,
    pub finale: Finale,
}

/// Half an association.
pub(super) struct Half {
    /// None: a server.
    script: Option<Script>,
    state: State,
    /// What the other end puts on its packets, and we on ours.
    own_tag: u32,
    peer_tag: u32,
    /// Next to send.
    tsn: u32,
    /// The last that was received.
    peer_tsn: u32,
    /// What has not been acknowledged: a message, a control chunk.
    pending: Option<Pending>,
    retries: u32,
    heard: Instant,
    retransmit_at: Option<Instant>,
    wake_at: Option<Instant>,
}

#[derive(Clone)]
enum Pending {
    Init,
    CookieEcho(Vec<u8>),
    Data(Vec<u8>),
    Shutdown,
    ShutdownAck,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Opening,
    Open,
    Gone,
}

/// What a server makes of an INIT: the same for each repetition of it.
enum Whim {
    Accept,
    Refuse,
    Ignore,
}

const fn whim(tag: u32) -> Whim {
    match tag % 100 {
        0..5 => Whim::Refuse,
        5..9 => Whim::Ignore,
        _ => Whim::Accept,
    }
}

impl Half {
    /// A client begins.
    pub fn associate(script: Script, cx: &mut Context<'_>) -> Self {
        let own_tag = cx.rng.next_u32().max(1);
        let mut half = Self::new(Some(script), (own_tag, 0), cx.now);
        half.pend(Pending::Init, cx);
        half
    }

    fn new(script: Option<Script>, (own_tag, peer_tag): (u32, u32), now: Instant) -> Self {
        Self {
            script,
            state: State::Opening,
            own_tag,
            peer_tag,
            // An INIT's first TSN is its tag: see the frame builder.
            tsn: own_tag,
            peer_tsn: peer_tag.wrapping_sub(1),
            pending: None,
            retries: 0,
            heard: now,
            retransmit_at: None,
            wake_at: None,
        }
    }

    /// A server hears a packet of no association: INIT is answered from no memory, COOKIE ECHO begins one (§5.1).
    pub fn accept(packet: &Sctp<'_>, cx: &mut Context<'_>) -> Option<Self> {
        let (own, peer) = cx.ports();
        let first = packet.chunks().next()?;
        if let (chunk::INIT, Some(tag)) = (first.kind, first.initiate_tag()) {
            match whim(tag) {
                Whim::Ignore => {}
                Whim::Refuse => cx.send(|ip| ip.sctp(own, peer).tag(tag).abort(false)),
                Whim::Accept => {
                    let own_tag = cx.rng.next_u32().max(1);
                    let cookie = [own_tag.to_be_bytes(), tag.to_be_bytes()].concat();
                    cx.send(|ip| ip.sctp(own, peer).tag(tag).init_ack(own_tag, &cookie));
                }
            }
            return None;
        }
        if first.kind != chunk::COOKIE_ECHO {
            return None;
        }
        let word = |at: usize| Some(u32::from_be_bytes(*first.value.get(at..)?.first_chunk()?));
        let tags = (word(0)?, word(4)?);
        if packet.tag() != tags.0 {
            return None;
        }
        let mut half = Self::new(None, tags, cx.now);
        half.state = State::Open;
        half.send(cx, Packet::cookie_ack);
        Some(half)
    }

    /// When it next wants to be called; none: it is over.
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Gone {
            return None;
        }
        [self.retransmit_at, self.wake_at, Some(self.heard.after(IDLE))].into_iter().flatten().min()
    }

    /// A retransmission is due, or the client has thought.
    pub fn timer(&mut self, cx: &mut Context<'_>) {
        if self.retransmit_at.is_some_and(|at| at <= cx.now) {
            self.retries += 1;
            let opening = self.state == State::Opening;
            if self.retries > if opening { INIT_RETRIES } else { RETRIES } {
                return self.over(if opening { End::Unanswered } else { End::Lost }, cx);
            }
            self.send_pending(cx);
        }
        if self.state != State::Gone && self.wake_at.is_some_and(|at| at <= cx.now) {
            self.wake_at = None;
            self.go_on(cx);
        }
        if cx.now.since(self.heard) >= IDLE {
            self.over(End::Lost, cx);
        }
    }

    /// A packet has come.
    pub fn receive(&mut self, packet: &Sctp<'_>, cx: &mut Context<'_>) {
        if self.state == State::Gone || packet.tag() != self.own_tag {
            return;
        }
        self.heard = cx.now;
        let mut sack = false;
        for chunk in packet.chunks() {
            match chunk.kind {
                chunk::DATA => {
                    sack |= !self.data(&chunk, cx);
                }
                _ => self.control(&chunk, cx),
            }
            if self.state == State::Gone {
                return;
            }
        }
        if sack {
            self.send(cx, |packet| packet.sack(self.peer_tsn));
        }
    }

    fn control(&mut self, chunk: &Chunk<'_>, cx: &mut Context<'_>) {
        match (chunk.kind, &self.pending) {
            (chunk::INIT_ACK, Some(Pending::Init)) => {
                let Some((tag, cookie)) = chunk.initiate_tag().zip(chunk.value.get(COOKIE..)) else { return };
                self.peer_tag = tag;
                self.peer_tsn = tag.wrapping_sub(1);
                self.pend(Pending::CookieEcho(cookie.to_vec()), cx);
            }
            (chunk::COOKIE_ECHO, _) if self.script.is_none() => self.send(cx, Packet::cookie_ack),
            (chunk::COOKIE_ACK, Some(Pending::CookieEcho(_))) => {
                self.state = State::Open;
                self.settled();
                self.go_on(cx);
            }
            (chunk::SACK, Some(Pending::Data(_))) => {
                let cumulative = chunk.value.first_chunk().map(|b| u32::from_be_bytes(*b));
                if cumulative == Some(self.tsn) {
                    self.tsn = self.tsn.wrapping_add(1);
                    self.settled();
                }
            }
            (chunk::SHUTDOWN, _) => self.pend(Pending::ShutdownAck, cx),
            (chunk::SHUTDOWN_ACK, _) => {
                self.send(cx, |packet| packet.shutdown_complete(false));
                self.over(End::Closed, cx);
            }
            (chunk::SHUTDOWN_COMPLETE, Some(Pending::ShutdownAck)) => self.over(End::Closed, cx),
            (chunk::ABORT, _) if self.state == State::Opening => self.over(End::Refused, cx),
            (chunk::ABORT, _) => self.over(End::Aborted, cx),
            _ => {}
        }
    }

    /// Says whether what it has sent acknowledges the message already.
    fn data(&mut self, chunk: &Chunk<'_>, cx: &mut Context<'_>) -> bool {
        let Some((tsn, payload)) = chunk.value.first_chunk().zip(chunk.value.get(DATA_FIXED..)) else {
            return false;
        };
        let tsn = u32::from_be_bytes(*tsn);
        if tsn != self.peer_tsn.wrapping_add(1) {
            return false;
        }
        self.peer_tsn = tsn;
        match payload.first() {
            Some(&PLEASE_ABORT) if self.script.is_none() => {
                self.send(cx, |packet| packet.abort(false));
                self.over(End::Aborted, cx);
                true
            }
            Some(&QUESTION) if self.script.is_none() => {
                let len = cx.rng.log_between(40.0, 1300.0) as usize;
                self.pend(Pending::Data(vec![b'.'; len]), cx);
                true
            }
            // An answer.
            _ => {
                self.wake_at = Some(cx.now.after(cx.rng.millis(50, 1200)));
                false
            }
        }
    }

    /// The client's next step.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        if self.pending.is_some() {
            // The answer was faster than the SACK: once more, when that is there.
            self.wake_at = Some(cx.now.after(RETRANSMIT));
            return;
        }
        let Some(script) = &mut self.script else { return };
        let message = |kind: u8, len: u32| {
            let mut message = vec![b'.'; len as usize];
            message[0] = kind;
            Pending::Data(message)
        };
        if script.exchanges > 0 {
            script.exchanges -= 1;
            let len = cx.rng.log_between(40.0, 1300.0);
            return self.pend(message(QUESTION, len), cx);
        }
        match script.finale {
            Finale::Shutdown => self.pend(Pending::Shutdown, cx),
            Finale::ServerAbort => self.pend(message(PLEASE_ABORT, 40), cx),
            Finale::Abort => {
                self.send(cx, |packet| packet.abort(false));
                self.over(End::Aborted, cx);
            }
        }
    }

    /// Sends what the other end has to acknowledge.
    fn pend(&mut self, pending: Pending, cx: &mut Context<'_>) {
        self.pending = Some(pending);
        self.retries = 0;
        self.send_pending(cx);
    }

    fn settled(&mut self) {
        self.pending = None;
        self.retries = 0;
        self.retransmit_at = None;
    }

    fn send_pending(&mut self, cx: &mut Context<'_>) {
        let Some(pending) = self.pending.clone() else { return };
        let (tsn, peer_tsn, own_tag) = (self.tsn, self.peer_tsn, self.own_tag);
        match pending {
            Pending::Init => {
                cx.first_packet();
                self.send(cx, |packet| packet.init(own_tag));
            }
            Pending::CookieEcho(cookie) => self.send(cx, |packet| packet.cookie_echo(cookie)),
            Pending::Data(message) => {
                self.send(cx, |packet| packet.sack(peer_tsn).data(tsn, 0, message));
            }
            Pending::Shutdown => self.send(cx, |packet| packet.shutdown(peer_tsn)),
            Pending::ShutdownAck => self.send(cx, Packet::shutdown_ack),
        }
        let patience = (RETRANSMIT * (1 << self.retries.min(8))).min(RETRANSMIT_MOST);
        self.retransmit_at = Some(cx.now.after(patience));
    }

    fn send(&self, cx: &mut Context<'_>, chunks: impl FnOnce(Packet<Builder>) -> Packet<Builder>) {
        let (own, peer) = cx.ports();
        cx.send(|ip| chunks(ip.sctp(own, peer).tag(self.peer_tag)));
    }

    fn over(&mut self, end: End, cx: &mut Context<'_>) {
        if self.state != State::Gone && self.script.is_some() {
            cx.record(end);
        }
        self.state = State::Gone;
    }
}

/// What the clients of a service do, this time.
pub(super) fn script(rng: &mut Rng) -> Script {
    let finale = match rng.between(0, 99) {
        0..76 => Finale::Shutdown,
        76..88 => Finale::Abort,
        _ => Finale::ServerAbort,
    };
    Script { exchanges: rng.between(1, 8), finale }
}
