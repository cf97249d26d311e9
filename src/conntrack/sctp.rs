//! SCTP (RFC 9260 §4) as seen from the middle.
//!
//! ```text
//!              INIT ACK            COOKIE ECHO              COOKIE ACK             SHUTDOWN           SHUTDOWN COMPLETE
//!   CookieWait ───────▶ InitAcked ────────────▶ CookieEchoed ─────────▶ Established ───────▶ Closing ─────────────▶ Closed
//!       └───────────────────┴────────────────────────┴──── ABORT ───────────┴───────────────────┴─────────────────────▲
//! ```
//!
//! Every packet must carry the verification tag that its receiver chose (§8.5); the exceptions of §8.5.1:
//!
//! - INIT carries 0. The parser has seen to that
//! - ABORT and SHUTDOWN COMPLETE with the T bit carry the sender's own tag, which they reflect
//! - before establishment, SHUTDOWN ACK alone and a reflected SHUTDOWN COMPLETE belong to an older association that one
//!   side has forgotten (§8.5.1 E): they pass
//!
//! The client's tag is known from INIT, the server's from INIT ACK. A retransmitted INIT has INIT ACKs with different
//! tags; whichever COOKIE ECHO follows decides. A restart (§5.2.2) is INIT, INIT ACK and COOKIE ECHO within an established
//! association: its tags are kept aside, and take effect with a COOKIE ECHO that carries the right one. Where both sides begin
//! at once (§5.2.1), the handshake that is through first establishes the association.

use super::Direction::{Original, Reply};
use super::machine::{Marks, Packed, Reaction};
use super::{Direction, FlowError};
use crate::counters::FlowState;
use crate::pipeline::DropReason;

const DATA: u16 = 1 << 0;
const INIT: u16 = 1 << 1;
const INIT_ACK: u16 = 1 << 2;
const ABORT: u16 = 1 << 6;
const SHUTDOWN: u16 = 1 << 7;
const SHUTDOWN_ACK: u16 = 1 << 8;
const ERROR: u16 = 1 << 9;
const COOKIE_ECHO: u16 = 1 << 10;
const COOKIE_ACK: u16 = 1 << 11;
const SHUTDOWN_COMPLETE: u16 = 1 << 14;

/// Whether a packet with these chunks opens an association. An initiate tag of 0 is to be discarded (§3.3.2).
pub(super) const fn opens(chunks: u16, initiate_tag: u32) -> bool {
    chunks & INIT != 0 && initiate_tag != 0
}

/// Whether a packet of the client with these chunks and this tag, not reflected, may be of an association that was begun elsewhere.
pub(super) const fn picks_up(chunks: u16, tag: u32) -> bool {
    tag != 0 && chunks & (INIT | INIT_ACK | ABORT | SHUTDOWN_COMPLETE) == 0
}

/// What the machine looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) tag: u32,
    pub(super) chunks: u16,
    pub(super) initiate_tag: u32,
    pub(super) reflected: bool,
}

impl Packet {
    const fn has(&self, chunk: u16) -> bool {
        self.chunks & chunk != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
enum Phase {
    /// Begun elsewhere, and the server has not been heard yet.
    PickedUp,
    CookieWait,
    InitAcked,
    CookieEchoed,
    Established,
    Closing,
    Closed,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::PickedUp,
        Self::CookieWait,
        Self::InitAcked,
        Self::CookieEchoed,
        Self::Established,
        Self::Closing,
        Self::Closed,
    ];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// By direction: the tag that packets must carry; 0: not known yet.
    tags: [Packed; 2],
    /// By direction: the tags of a handshake that may supersede `tags`; 0: none.
    pending: [Packed; 2],
    /// The phase in three bits, then [`furthest`](Self::furthest) in three.
    pub(super) marks: Marks,
}

const PHASE: (u32, u32) = (0, 3);
const FURTHEST: (u32, u32) = (3, 3);

const UNKNOWN: Packed = Packed::new(0);

impl State {
    /// After the client's INIT.
    pub(super) const fn open(initiate_tag: u32) -> Self {
        Self {
            tags: [UNKNOWN, Packed::new(initiate_tag)],
            pending: [UNKNOWN; 2],
            marks: Marks::new(Phase::CookieWait as u8 | (Phase::CookieWait as u8) << FURTHEST.0),
        }
    }

    /// After a packet of the client that [`picks_up`].
    pub(super) const fn pick_up(tag: u32) -> Self {
        Self {
            tags: [Packed::new(tag), UNKNOWN],
            pending: [UNKNOWN; 2],
            marks: Marks::new(Phase::PickedUp as u8 | (Phase::PickedUp as u8) << FURTHEST.0),
        }
    }

    fn phase(&self) -> Phase {
        let phase = usize::from(self.marks.get(PHASE.0, PHASE.1));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Closed)
    }

    fn set_phase(&mut self, phase: Phase) {
        self.marks.set(PHASE.0, PHASE.1, phase as u8);
    }

    /// The furthest phase that has refreshed the timer: a repeated handshake does not prolong itself.
    fn furthest(&self) -> Phase {
        let phase = usize::from(self.marks.get(FURTHEST.0, FURTHEST.1));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Closed)
    }

    fn set_furthest(&mut self, phase: Phase) {
        self.marks.set(FURTHEST.0, FURTHEST.1, phase as u8);
    }

    /// The server has answered the client's INIT, and nothing came of it yet.
    pub(super) fn is_answered(&self) -> bool {
        self.phase() == Phase::InitAcked
    }

    pub(super) fn is_picked_up(&self) -> bool {
        self.phase() == Phase::PickedUp
    }

    /// Closed, or nobody but the client has said that there is an association: its INIT begins a new one.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase(), Phase::Closed | Phase::PickedUp)
    }

    pub(super) fn client_tag(&self) -> Option<u32> {
        let tag = self.tags[Reply as usize];
        (tag != UNKNOWN).then_some(tag.get())
    }

    /// The tag of what a side would send now, where it is known.
    pub(super) fn keepalive(&self, direction: Direction) -> Option<u32> {
        let tag = self.tags[direction as usize];
        (self.phase() != Phase::Closed && tag != UNKNOWN).then_some(tag.get())
    }

    /// Both sides have been told that it is over.
    pub(super) fn end(&mut self) {
        self.set_phase(Phase::Closed);
    }

    pub(super) fn flow_state(&self) -> FlowState {
        match self.phase() {
            Phase::PickedUp | Phase::CookieWait | Phase::InitAcked | Phase::CookieEchoed => {
                FlowState::HalfOpen
            }
            Phase::Established => FlowState::Established,
            Phase::Closing => FlowState::Closing,
            Phase::Closed => FlowState::Closed,
        }
    }

    pub(super) fn step(&mut self, direction: Direction, packet: &Packet) -> Reaction {
        if self.phase() == Phase::PickedUp {
            return self.acknowledge(direction, packet);
        }
        if packet.has(INIT) {
            if packet.initiate_tag != 0 {
                self.init(direction, packet.initiate_tag);
            }
            return self.alive();
        }
        if !self.tag_is_good(direction, packet) {
            return Reaction::refuse(DropReason::SctpVerificationTag);
        }
        if packet.has(ABORT) {
            return self.abort(direction, packet);
        }
        let reaction = self.proceed(direction, packet);
        // Bundled with COOKIE ECHO it reports parameters that the client does not know (§3.2.2), which harms nobody.
        if packet.has(ERROR) && !packet.has(COOKIE_ECHO) && self.phase() != Phase::Closed {
            return reaction.with(self.marks.note(FlowError::Abort));
        }
        reaction
    }

    /// In an association that was picked up. Which tags are right is for the server to say: until then the client's latest is believed.
    fn acknowledge(&mut self, direction: Direction, packet: &Packet) -> Reaction {
        match direction {
            Original => {
                if picks_up(packet.chunks, packet.tag) && !packet.reflected {
                    self.tags[Original as usize] = Packed::new(packet.tag);
                }
                Reaction::REFRESH
            }
            Reply if packet.has(INIT | INIT_ACK) => Reaction::PASS,
            // Reflected: of an association that it does not know (§8.4).
            Reply if packet.has(ABORT) => {
                self.set_phase(Phase::Closed);
                Reaction::REFRESH.with(self.marks.note(FlowError::Refused))
            }
            Reply if packet.reflected => Reaction::PASS,
            Reply => {
                self.tags[Reply as usize] = Packed::new(packet.tag);
                self.set_phase(Phase::Established);
                self.set_furthest(Phase::Established);
                let reaction = self.proceed(direction, packet);
                Reaction { refresh: true, ..reaction }
            }
        }
    }

    /// A packet with the right tag that neither begins nor aborts anything.
    fn proceed(&mut self, direction: Direction, packet: &Packet) -> Reaction {
        match (self.phase(), direction) {
            (Phase::CookieWait | Phase::InitAcked | Phase::CookieEchoed, Original) => {
                if packet.has(COOKIE_ECHO) && self.phase() != Phase::CookieWait {
                    self.tags[Original as usize] = Packed::new(packet.tag);
                    self.pending = [UNKNOWN; 2];
                    return self.enter(Phase::CookieEchoed);
                }
                if packet.has(COOKIE_ACK) && self.phase() == Phase::CookieEchoed {
                    return self.enter(Phase::Established);
                }
                Reaction::PASS
            }
            // The server has begun as well, and is the first to be through.
            (Phase::CookieWait | Phase::InitAcked, Reply)
                if packet.has(COOKIE_ECHO) && self.server_tag() != UNKNOWN =>
            {
                self.tags[Original as usize] = self.server_tag();
                self.pending = [UNKNOWN; 2];
                self.enter(Phase::CookieEchoed)
            }
            (Phase::CookieWait | Phase::InitAcked, Reply) => {
                if packet.has(INIT_ACK) && packet.initiate_tag != 0 {
                    let known = self.phase() == Phase::InitAcked;
                    let tags = if known { &mut self.pending } else { &mut self.tags };
                    tags[Original as usize] = Packed::new(packet.initiate_tag);
                    return self.enter(Phase::InitAcked);
                }
                if packet.has(DATA) {
                    return Reaction::refuse(DropReason::SctpState)
                        .with(self.marks.note(FlowError::Violation));
                }
                Reaction::PASS
            }
            (Phase::CookieEchoed, Reply) => {
                if packet.has(COOKIE_ACK) {
                    self.enter(Phase::Established)
                } else {
                    Reaction::PASS
                }
            }
            (Phase::Established | Phase::Closing, _) => self.talk(direction, packet),
            (Phase::Closed | Phase::PickedUp, _) => Reaction::PASS,
        }
    }

    /// INIT, first of a handshake, whatever was before; of a restart, which either side may begin.
    fn init(&mut self, direction: Direction, tag: u32) {
        let tag = Packed::new(tag);
        let back = 1 - direction as usize;
        match self.flow_state() {
            FlowState::HalfOpen if direction == Original && tag != self.tags[Reply as usize] => {
                self.tags = [UNKNOWN, tag];
                self.pending = [UNKNOWN; 2];
                self.set_phase(Phase::CookieWait);
            }
            // Both sides have begun (§5.2.1): the client answers with this tag.
            FlowState::HalfOpen if direction == Reply && tag != self.tags[Original as usize] => {
                self.pending[Original as usize] = tag;
            }
            FlowState::Established | FlowState::Closing if tag != self.pending[back] => {
                self.pending = [UNKNOWN; 2];
                self.pending[back] = tag;
            }
            _ => {}
        }
    }

    /// Anything in an association that is up, or going down.
    fn talk(&mut self, direction: Direction, packet: &Packet) -> Reaction {
        let restarts = self.is_pending(direction, packet.tag);
        if packet.has(INIT_ACK) {
            if restarts {
                self.pending[1 - direction as usize] = Packed::new(packet.initiate_tag);
            }
            return Reaction::REFRESH;
        }
        if packet.has(COOKIE_ECHO) && restarts {
            self.tags = self.pending;
            self.pending = [UNKNOWN; 2];
            self.set_phase(Phase::Established);
            return Reaction::REFRESH;
        }
        if packet.has(SHUTDOWN | SHUTDOWN_ACK) {
            self.set_phase(Phase::Closing);
        } else if packet.has(SHUTDOWN_COMPLETE) && self.phase() == Phase::Closing {
            self.set_phase(Phase::Closed);
        }
        Reaction::REFRESH
    }

    fn abort(&mut self, direction: Direction, packet: &Packet) -> Reaction {
        let error = match (self.flow_state(), direction) {
            (FlowState::HalfOpen, Original) => FlowError::Abort,
            (FlowState::HalfOpen, Reply) => FlowError::Refused,
            // Of a restart that was refused: the association goes on (§5.2.2).
            (FlowState::Established | FlowState::Closing, _) if !self.is_current(direction, packet) => {
                return Reaction::PASS;
            }
            (FlowState::Established | FlowState::Closing, _) => FlowError::Abort,
            (FlowState::Closed, _) => return Reaction::PASS,
        };
        self.set_phase(Phase::Closed);
        Reaction::REFRESH.with(self.marks.note(error))
    }

    /// Handshake step to `phase`; the timer runs anew where it was never reached before.
    fn enter(&mut self, phase: Phase) -> Reaction {
        self.set_phase(phase);
        let first = phase > self.furthest();
        self.set_furthest(self.furthest().max(phase));
        if first { Reaction::REFRESH } else { Reaction::PASS }
    }

    /// What the server has called itself in its latest INIT or INIT ACK.
    fn server_tag(&self) -> Packed {
        let [pending, tag] = [self.pending[Original as usize], self.tags[Original as usize]];
        if pending == UNKNOWN { tag } else { pending }
    }

    fn alive(&self) -> Reaction {
        match self.phase() {
            Phase::Established | Phase::Closing => Reaction::REFRESH,
            _ => Reaction::PASS,
        }
    }

    fn is_pending(&self, direction: Direction, tag: u32) -> bool {
        let pending = self.pending[direction as usize];
        pending != UNKNOWN && pending.get() == tag
    }

    /// Carries the tag of the association itself, reflected if so said.
    fn is_current(&self, direction: Direction, packet: &Packet) -> bool {
        let d = direction as usize;
        let expected = self.tags[if packet.reflected { 1 - d } else { d }];
        expected != UNKNOWN && expected.get() == packet.tag
    }

    fn tag_is_good(&self, direction: Direction, packet: &Packet) -> bool {
        if self.is_current(direction, packet) {
            return true;
        }
        if self.flow_state() == FlowState::HalfOpen {
            let stale = match direction {
                Original => packet.has(SHUTDOWN_COMPLETE) && packet.reflected,
                Reply => packet.chunks == SHUTDOWN_ACK,
            };
            if stale {
                return true;
            }
        }
        // A handshake that is not decided yet.
        packet.has(INIT_ACK | COOKIE_ECHO | ABORT)
            && !packet.reflected
            && self.is_pending(direction, packet.tag)
    }
}

#[cfg(test)]
#[path = "sctp_tests.rs"]
mod tests;
