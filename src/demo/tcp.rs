//! Half a TCP connection: enough of RFC 9293 to open, talk in windows, repeat what was lost, and end in every way there is.

use std::time::Duration;

use super::conn::Context;
use super::ledger::End;
use super::rng::Rng;
use crate::time::Instant;
use crate::wire::tcp::{Tcp, flag};

/// Payload of a full segment: what fits 1500 bytes with IPv6.
const MSS: usize = 1440;
/// Bytes under way at most.
const WINDOW: usize = 10 * MSS;
/// First retransmission; each further one waits twice as long, up to the limit.
const RETRANSMIT: Duration = Duration::from_secs(1);
const RETRANSMIT_MOST: Duration = Duration::from_secs(4);
/// Retransmissions until the other end counts as gone: of a SYN, of anything else.
const SYN_RETRIES: u32 = 3;
const RETRIES: u32 = 3;
/// A connection on which nothing happens is forgotten.
const IDLE: Duration = Duration::from_secs(90);
/// Silence of a client that has forgotten its connection.
const ABSENCE: Duration = Duration::from_secs(15);

/// What a client does last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finale {
    /// FIN.
    Close,
    /// Has the server FIN first.
    ServerClose,
    /// RST.
    Reset,
    /// Has the server RST.
    ServerReset,
    /// Nothing for so long that nobody knows the connection any more, then a segment.
    Abandon,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Requests before the finale.
    pub requests: u32,
    /// Between a response and the next request, milliseconds.
    pub think_ms: (u32, u32),
    /// Response sizes, bytes.
    pub size: (f64, f64),
    pub finale: Finale,
}

/// Half a TCP connection.
pub(super) struct Half {
    role: Role,
    state: State,
    /// Oldest sequence number that is not acknowledged.
    una: u32,
    /// Next to send; falls back to `una` at a retransmission.
    next: u32,
    /// The highest that was ever sent.
    most: u32,
    /// Next that is expected.
    expected: u32,
    /// What is to be sent or acknowledged, from `una` on.
    out: Vec<u8>,
    fin: Fin,
    peer_fin: bool,
    /// Segments received since our last.
    unanswered: u32,
    retries: u32,
    /// Of the last segment that came.
    heard: Instant,
    retransmit_at: Option<Instant>,
    wake_at: Option<Instant>,
}

enum Role {
    Client { script: Script, stage: Stage, awaited: u32 },
    Server { request: Vec<u8>, reset: bool },
}

/// How far a client has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Requests,
    Finale,
    /// Between [`Finale::Abandon`] and its last segment.
    Absent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    SynSent,
    SynReceived,
    Open,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    None,
    /// To be sent behind everything else.
    Wanted,
    Sent,
    Acknowledged,
}

/// What a server makes of a SYN: the same for each repetition of it.
enum Whim {
    Accept,
    Refuse,
    Ignore,
}

const fn whim(seq: u32) -> Whim {
    match seq % 100 {
        0..4 => Whim::Refuse,
        4..7 => Whim::Ignore,
        _ => Whim::Accept,
    }
}

impl Half {
    /// A client begins.
    pub fn connect(script: Script, cx: &mut Context<'_>) -> Self {
        let role = Role::Client { script, stage: Stage::Requests, awaited: 0 };
        let mut half = Self::new(role, State::SynSent, 0, cx);
        half.send_syn(cx);
        half
    }

    /// A server hears a SYN.
    pub fn accept(syn: &Tcp<'_>, cx: &mut Context<'_>) -> Option<Self> {
        if syn.flags() & (flag::SYN | flag::ACK | flag::RST) != flag::SYN {
            return None;
        }
        let expected = syn.seq().wrapping_add(1);
        match whim(syn.seq()) {
            Whim::Ignore => None,
            Whim::Refuse => {
                let (own, peer) = cx.ports();
                cx.send(|ip| ip.tcp(own, peer).rst().ack(expected));
                None
            }
            Whim::Accept => {
                let role = Role::Server { request: Vec::new(), reset: false };
                let mut half = Self::new(role, State::SynReceived, expected, cx);
                half.send_syn(cx);
                Some(half)
            }
        }
    }

    fn new(role: Role, state: State, expected: u32, cx: &mut Context<'_>) -> Self {
        let initial = cx.rng.next_u32();
        Self {
            role,
            state,
            una: initial,
            next: initial,
            most: initial,
            expected,
            out: Vec::new(),
            fin: Fin::None,
            peer_fin: false,
            unanswered: 0,
            retries: 0,
            heard: cx.now,
            retransmit_at: None,
            wake_at: None,
        }
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
            self.retransmit(cx);
        }
        if self.state != State::Gone && self.wake_at.is_some_and(|at| at <= cx.now) {
            self.wake_at = None;
            self.go_on(cx);
        }
        if cx.now.since(self.heard) >= IDLE {
            self.over(End::Lost, cx);
        }
    }

    /// A segment has come.
    pub fn receive(&mut self, segment: &Tcp<'_>, cx: &mut Context<'_>) {
        self.heard = cx.now;
        let has = |flags: u8| segment.flags() & flags == flags;
        if has(flag::RST) {
            return self.was_reset(cx);
        }
        match self.state {
            State::Gone => return,
            State::SynSent => {
                if has(flag::SYN | flag::ACK) && segment.ack() == self.next {
                    self.expected = segment.seq().wrapping_add(1);
                    self.opened(segment.ack());
                    self.acknowledge(cx);
                    self.go_on(cx);
                }
                return;
            }
            State::SynReceived => {
                if has(flag::SYN) {
                    return self.send_syn(cx);
                }
                if !has(flag::ACK) || segment.ack() != self.next {
                    return;
                }
                self.opened(segment.ack());
            }
            State::Open if has(flag::SYN) => return self.acknowledge(cx),
            State::Open => {}
        }
        self.acknowledged(segment.ack(), cx.now);
        let payload = segment.payload();
        if segment.seq() == self.expected {
            self.expected = self.expected.wrapping_add(payload.len() as u32);
            if !payload.is_empty() {
                self.unanswered += if has(flag::PSH) { 2 } else { 1 };
                self.read(payload, cx);
            }
            if has(flag::FIN) {
                self.expected = self.expected.wrapping_add(1);
                self.peer_fin = true;
                self.unanswered += 2;
                if self.fin == Fin::None {
                    self.fin = Fin::Wanted;
                }
            }
        } else if !payload.is_empty() || has(flag::FIN) {
            // Seen before, or one is missing: say what is expected.
            self.unanswered += 2;
        }
        self.flush(cx);
        if self.unanswered >= 2 && self.state != State::Gone {
            self.acknowledge(cx);
        }
        if self.fin == Fin::Acknowledged && self.peer_fin {
            self.over(End::Closed, cx);
        }
    }

    fn opened(&mut self, ack: u32) {
        self.state = State::Open;
        self.una = ack;
        self.retries = 0;
        self.retransmit_at = None;
    }

    fn acknowledged(&mut self, ack: u32, now: Instant) {
        let news = ack.wrapping_sub(self.una);
        if news == 0 || news > self.most.wrapping_sub(self.una) {
            return;
        }
        let data = (news as usize).min(self.out.len());
        self.out.drain(..data);
        if news as usize > data {
            self.fin = Fin::Acknowledged;
        }
        self.una = ack;
        if self.next.wrapping_sub(ack) > self.most.wrapping_sub(ack) {
            // It had fallen back behind what is acknowledged now.
            self.next = ack;
        }
        self.retries = 0;
        self.retransmit_at = (self.next != self.una).then(|| now.after(RETRANSMIT));
    }

    /// Sends what the window allows, and the FIN behind it.
    fn flush(&mut self, cx: &mut Context<'_>) {
        if self.state != State::Open {
            return;
        }
        let (own, peer) = cx.ports();
        loop {
            let sent = self.next.wrapping_sub(self.una) as usize;
            let Some(rest) = self.out.get(sent..).filter(|rest| !rest.is_empty() && sent < WINDOW) else {
                break;
            };
            let piece = &rest[..rest.len().min(MSS)];
            let len = piece.len() as u32;
            let flags = if piece.len() == rest.len() { flag::PSH | flag::ACK } else { flag::ACK };
            cx.send(|ip| ip.tcp(own, peer).ack(self.expected).flags(flags).seq(self.next).payload(piece));
            self.advance(len);
        }
        if let Role::Server { reset: true, .. } = self.role {
            cx.send(|ip| ip.tcp(own, peer).rst().ack(self.expected).seq(self.next));
            self.state = State::Gone;
            return;
        }
        if self.fin == Fin::Wanted && self.next.wrapping_sub(self.una) as usize == self.out.len() {
            cx.send(|ip| ip.tcp(own, peer).fin().ack(self.expected).seq(self.next));
            self.fin = Fin::Sent;
            self.advance(1);
        }
        if self.next != self.una && self.retransmit_at.is_none() {
            self.retransmit_at = Some(cx.now.after(RETRANSMIT));
        }
    }

    fn advance(&mut self, n: u32) {
        self.next = self.next.wrapping_add(n);
        if self.next.wrapping_sub(self.una) > self.most.wrapping_sub(self.una) {
            self.most = self.next;
        }
        self.unanswered = 0;
    }

    fn retransmit(&mut self, cx: &mut Context<'_>) {
        self.retries += 1;
        let opening = matches!(self.state, State::SynSent | State::SynReceived);
        if self.retries > if opening { SYN_RETRIES } else { RETRIES } {
            return self.over(if opening { End::Unanswered } else { End::Lost }, cx);
        }
        if opening {
            return self.send_syn(cx);
        }
        self.next = self.una;
        if self.fin == Fin::Sent {
            self.fin = Fin::Wanted;
        }
        self.flush(cx);
        self.retransmit_at = Some(cx.now.after(self.patience()));
    }

    fn patience(&self) -> Duration {
        (RETRANSMIT * (1 << self.retries.min(8))).min(RETRANSMIT_MOST)
    }

    /// SYN or SYN-ACK, first time or again.
    fn send_syn(&mut self, cx: &mut Context<'_>) {
        let (own, peer) = cx.ports();
        self.next = self.una.wrapping_add(1);
        self.most = self.next;
        self.retransmit_at = Some(cx.now.after(self.patience()));
        // MSS, the one option that matters here.
        let [a, b] = (MSS as u16).to_be_bytes();
        let options = [2, 4, a, b];
        if self.state == State::SynSent {
            cx.first_packet();
            cx.send(|ip| ip.tcp(own, peer).syn().seq(self.una).options(options));
        } else {
            cx.send(|ip| ip.tcp(own, peer).syn().ack(self.expected).seq(self.una).options(options));
        }
    }

    fn acknowledge(&mut self, cx: &mut Context<'_>) {
        let (own, peer) = cx.ports();
        cx.send(|ip| ip.tcp(own, peer).ack(self.expected).seq(self.next));
        self.unanswered = 0;
    }

    fn was_reset(&mut self, cx: &mut Context<'_>) {
        let end = match &self.role {
            _ if self.state == State::SynSent => End::Refused,
            Role::Client { stage: Stage::Absent, .. } => End::Abandoned,
            Role::Client {
                stage: Stage::Finale, script: Script { finale: Finale::ServerReset, .. }, ..
            } => End::ServerReset,
            _ => End::Lost,
        };
        self.over(end, cx);
    }

    fn over(&mut self, end: End, cx: &mut Context<'_>) {
        if self.state != State::Gone && matches!(self.role, Role::Client { .. }) {
            cx.record(end);
        }
        self.state = State::Gone;
    }

    /// Payload, in order.
    fn read(&mut self, payload: &[u8], cx: &mut Context<'_>) {
        match &mut self.role {
            Role::Client { script, stage, awaited } => {
                let before = *awaited;
                *awaited = awaited.saturating_sub(payload.len() as u32);
                if before > 0 && *awaited == 0 && *stage == Stage::Requests {
                    self.wake_at = Some(cx.now.after(cx.rng.millis(script.think_ms.0, script.think_ms.1)));
                }
            }
            Role::Server { request, reset, .. } => {
                request.extend_from_slice(payload);
                if request.ends_with(b"\r\n\r\n") {
                    let (what, size) = parse(request);
                    match what {
                        Some("reset") => *reset = true,
                        Some("last") => self.fin = Fin::Wanted,
                        _ => {}
                    }
                    respond(&mut self.out, size);
                    request.clear();
                }
            }
        }
    }

    /// The client's next step: connected, or through with thinking.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        let Role::Client { script, stage, awaited } = &mut self.role else { return };
        let mut size = || cx.rng.log_between(script.size.0, script.size.1);
        if *stage == Stage::Absent {
            request(&mut self.out, "bytes", 1);
        } else if script.requests > 0 {
            script.requests -= 1;
            *awaited = size();
            request(&mut self.out, "bytes", *awaited);
        } else {
            *stage = Stage::Finale;
            match script.finale {
                Finale::Close => self.fin = Fin::Wanted,
                Finale::ServerClose => {
                    *awaited = size();
                    request(&mut self.out, "last", *awaited);
                }
                Finale::ServerReset => {
                    *awaited = u32::MAX;
                    request(&mut self.out, "reset", size());
                }
                Finale::Reset => {
                    let (own, peer) = cx.ports();
                    cx.send(|ip| ip.tcp(own, peer).rst().ack(self.expected).seq(self.next));
                    return self.over(End::ClientReset, cx);
                }
                Finale::Abandon => {
                    *stage = Stage::Absent;
                    self.wake_at = Some(cx.now.after(ABSENCE));
                }
            }
        }
        self.flush(cx);
    }
}

fn request(out: &mut Vec<u8>, what: &str, size: u32) {
    out.extend_from_slice(format!("GET /{what}/{size} HTTP/1.1\r\nHost: demo\r\n\r\n").as_bytes());
}

/// What a request asks for, and how much of it.
fn parse(request: &[u8]) -> (Option<&str>, usize) {
    let path = std::str::from_utf8(request).ok().and_then(|text| text.split(' ').nth(1));
    let mut parts = path.into_iter().flat_map(|path| path.split('/').skip(1));
    (parts.next(), parts.next().and_then(|size| size.parse().ok()).unwrap_or(0))
}

/// A response of exactly so many bytes, headers and all.
fn respond(out: &mut Vec<u8>, size: usize) {
    let end = out.len() + size;
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
    out.resize(end, b'.');
}

/// What the clients of a service do, this time.
pub(super) fn script(rng: &mut Rng) -> Script {
    let finale = match rng.between(0, 99) {
        0..68 => Finale::Close,
        68..80 => Finale::ServerClose,
        80..87 => Finale::ServerReset,
        87..94 => Finale::Reset,
        _ => Finale::Abandon,
    };
    if rng.percent(10) {
        // Slow and long: a page that is looked at again and again.
        Script { requests: rng.between(5, 12), think_ms: (700, 2500), size: (2_000.0, 20_000.0), finale }
    } else {
        Script { requests: rng.between(1, 4), think_ms: (20, 600), size: (200.0, 60_000.0), finale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        let mut out = Vec::new();
        request(&mut out, "last", 4711);
        assert_eq!(parse(&out), (Some("last"), 4711));
        assert_eq!(parse(b"GET"), (None, 0));
        assert_eq!(parse(&[0xff; 4]), (None, 0));
        let mut response = Vec::new();
        respond(&mut response, 100);
        assert_eq!(response.len(), 100);
    }
}
