use super::*;

/// Both ends' numbers, so that tests read as a conversation.
struct Talk {
    state: State,
    /// Next sequence number by direction.
    next: [u32; 2],
}

/// Near everything that the client could acknowledge, so that it would be mistaken for that.
const NOW_US: u32 = 0x1234_5679;
const ISN: [u32; 2] = [0xffff_fff0, 0x1234_5678]; // the client's wraps after 16 bytes

impl Talk {
    fn syn() -> Self {
        let syn = Segment { flags: SYN, payload: 0, seq: ISN[0], ack: 0 };
        Self { state: State::open(&syn, NOW_US), next: [ISN[0].wrapping_add(1), ISN[1]] }
    }

    fn established() -> Self {
        let mut talk = Self::syn();
        talk.send(Reply, SYN | ACK, 0);
        talk.send(Original, ACK, 0);
        assert_eq!(talk.state.phase(), Phase::Established);
        talk
    }

    /// The next segment of a side that has received everything.
    fn segment(&self, direction: Direction, flags: u8, payload: u32) -> Segment {
        let ack = if flags & ACK == 0 { 0 } else { self.next[direction.reverse() as usize] };
        Segment { flags, payload, seq: self.next[direction as usize], ack }
    }

    fn send(&mut self, direction: Direction, flags: u8, payload: u32) -> Reaction {
        let segment = self.segment(direction, flags, payload);
        self.next[direction as usize] = segment.end();
        self.state.step(direction, &segment)
    }

    fn raw(&mut self, direction: Direction, flags: u8, seq: u32, ack: u32) -> Reaction {
        self.state.step(direction, &Segment { flags, payload: 0, seq, ack })
    }

    #[track_caller]
    fn is(&self, phase: Phase) {
        assert_eq!(self.state.phase(), phase);
    }
}

const ENDS: Reaction = Reaction::REFRESH;

fn bad(error: FlowError) -> Reaction {
    Reaction::REFRESH.with(Some(error))
}

#[test]
fn only_a_bare_syn_opens() {
    assert!(opens(SYN));
    assert!(opens(SYN | 0xc0), "with ECN bits (RFC 3168 §6.1.1)");
    for flags in [SYN | ACK, SYN | RST, SYN | FIN, ACK, RST, FIN | ACK, 0] {
        assert!(!opens(flags), "{flags:#x}");
    }
}

#[test]
fn a_life() {
    let mut t = Talk::syn();
    assert_eq!(t.state.flow_state(), FlowState::HalfOpen);
    assert_eq!(t.send(Reply, SYN | ACK, 0), Reaction::REFRESH);
    t.is(Phase::SynReceived);
    assert_eq!(t.state.flow_state(), FlowState::HalfOpen);
    assert_eq!(t.send(Original, ACK, 0), Reaction::REFRESH);
    t.is(Phase::Established);
    assert_eq!(t.send(Original, ACK, 100), Reaction::REFRESH);
    assert_eq!(t.send(Reply, ACK, 1_000_000), Reaction::REFRESH);
    assert_eq!(t.send(Original, FIN | ACK, 0), Reaction::REFRESH);
    t.is(Phase::Closing);
    assert!(!t.state.is_over());
    assert_eq!(t.send(Reply, ACK, 5000), Reaction::REFRESH); // half-closed and in use
    assert_eq!(t.send(Original, ACK, 0), Reaction::REFRESH);
    t.is(Phase::Closing);
    assert_eq!(t.send(Reply, FIN | ACK, 0), Reaction::REFRESH);
    t.is(Phase::Closing);
    assert!(t.state.is_over(), "a SYN now is a new connection");
    assert_eq!(t.send(Original, ACK, 0), Reaction::REFRESH);
    t.is(Phase::Closed);
    assert_eq!(t.send(Reply, FIN | ACK, 0), Reaction::PASS, "stragglers do not keep it");
    t.is(Phase::Closed);
}

#[test]
fn the_server_may_close_first_and_both_at_once() {
    let mut t = Talk::established();
    t.send(Reply, FIN | ACK, 10);
    t.send(Original, FIN | ACK, 0);
    t.is(Phase::Closing);
    t.send(Reply, ACK, 0);
    t.is(Phase::Closed);

    let mut t = Talk::established();
    let fins = [t.segment(Original, FIN | ACK, 0), t.segment(Reply, FIN | ACK, 0)];
    t.send(Original, FIN | ACK, 0);
    t.state.step(Reply, &fins[1]);
    t.next[1] = fins[1].end();
    t.is(Phase::Closing);
    t.send(Reply, ACK, 0);
    t.is(Phase::Closing); // the server's FIN is not acknowledged yet
    t.send(Original, ACK, 0);
    t.is(Phase::Closed);
}

#[test]
fn data_and_fin_in_the_handshake() {
    // TCP Fast Open: data in the SYN, partly acknowledged, and the whole answer with FIN before the client's ACK.
    let syn = Segment { flags: SYN, payload: 500, seq: 1, ack: 0 };
    let mut t = Talk { state: State::open(&syn, NOW_US), next: [502, ISN[1]] };
    t.raw(Reply, SYN | ACK, ISN[1], 2);
    t.is(Phase::SynReceived);
    t.next[1] += 1;
    assert_eq!(t.send(Reply, ACK, 1000), Reaction::PASS);
    assert_eq!(t.send(Reply, FIN | ACK, 0), Reaction::PASS);
    t.is(Phase::SynReceived);
    assert_eq!(t.send(Original, ACK, 0), Reaction::REFRESH);
    t.is(Phase::Closing);
    t.send(Original, FIN | ACK, 0);
    t.send(Reply, ACK, 0);
    t.is(Phase::Closed);
}

#[test]
fn handshake_retransmissions_pass_without_prolonging() {
    let mut t = Talk::syn();
    assert_eq!(t.raw(Original, SYN, ISN[0], 0), Reaction::PASS);
    t.is(Phase::SynSent);
    t.send(Reply, SYN | ACK, 0);
    assert_eq!(t.raw(Original, SYN, ISN[0], 0), Reaction::PASS);
    assert_eq!(t.raw(Reply, SYN | ACK, ISN[1], t.next[0]), Reaction::PASS);
    // A stray of an older incarnation, which must not replace the numbers.
    assert_eq!(t.raw(Reply, SYN | ACK, 0x7000_0000, 0x5000_0000), Reaction::PASS);
    t.is(Phase::SynReceived);
    assert_eq!(t.send(Original, ACK, 0), Reaction::REFRESH);
    t.is(Phase::Established);
    // The client's ACK was lost behind us.
    assert_eq!(t.raw(Reply, SYN | ACK, ISN[1], t.next[0]), Reaction::REFRESH);
    assert_eq!(t.send(Original, ACK, 0), Reaction::REFRESH);
    t.is(Phase::Established);
}

#[test]
fn a_new_attempt_with_another_number_is_followed() {
    let mut t = Talk::syn();
    assert_eq!(t.raw(Original, SYN, 0x5000_0000, 0), Reaction::PASS);
    assert_eq!(t.raw(Reply, SYN | ACK, ISN[1], ISN[0].wrapping_add(1)), Reaction::PASS);
    t.is(Phase::SynSent);
    assert_eq!(t.raw(Reply, SYN | ACK, ISN[1], 0x5000_0001), Reaction::REFRESH);
    t.is(Phase::SynReceived);
    assert_eq!(t.raw(Original, ACK, 0x5000_0001, 999), Reaction::PASS); // acknowledges something else
    assert_eq!(t.raw(Original, SYN | ACK, 0x5000_0001, ISN[1] + 1), Reaction::PASS);
    t.is(Phase::SynReceived);
    assert_eq!(t.raw(Original, ACK, 0x5000_0001, ISN[1] + 1), Reaction::REFRESH);
    t.is(Phase::Established);
}

#[test]
fn half_open_recovery() {
    // The server still has an old connection: it challenges, the client resets that, and tries again (RFC 9293 §3.5.1).
    let mut t = Talk::syn();
    assert_eq!(t.raw(Reply, ACK, 0xaaaa_0000, 0xbbbb_0000), Reaction::PASS);
    assert_eq!(t.raw(Original, RST, 0xbbbb_0000, 0), Reaction::PASS);
    t.is(Phase::SynSent);
    assert_eq!(t.raw(Original, SYN, ISN[0], 0), Reaction::PASS);
    assert_eq!(t.send(Reply, SYN | ACK, 0), Reaction::REFRESH);
    t.is(Phase::SynReceived);
}

#[test]
fn the_server_speaks_before_its_syn() {
    for (flags, payload) in [(ACK, 10), (FIN | ACK, 0)] {
        let mut t = Talk::syn();
        let drop = Reaction::refuse(DropReason::TcpState);
        assert_eq!(t.send(Reply, flags, payload), drop.with(Some(FlowError::Violation)));
        assert_eq!(t.send(Reply, flags, payload), drop, "one error a connection");
        t.is(Phase::SynSent);
        assert_eq!(t.raw(Reply, RST | ACK, 0, t.next[0]), ENDS, "not a second error either");
    }
    let mut t = Talk::syn();
    assert_eq!(t.raw(Reply, SYN, 5, 0), Reaction::PASS, "simultaneous open is left to the ends");
    t.is(Phase::SynSent);
}

#[test]
fn refused() {
    let mut t = Talk::syn();
    assert_eq!(t.raw(Reply, RST | ACK, 0, t.next[0]), bad(FlowError::Refused));
    t.is(Phase::Closed);
    assert!(t.state.is_over());
    assert_eq!(t.raw(Reply, RST | ACK, 0, t.next[0]), Reaction::PASS);

    for (flags, seq, ack) in [(RST, ISN[1] + 1, 0), (RST | ACK, 0, ISN[0].wrapping_add(1))] {
        let mut t = Talk::syn();
        t.send(Reply, SYN | ACK, 0);
        assert_eq!(t.raw(Reply, flags, seq, ack), bad(FlowError::Refused));
        t.is(Phase::Closed);
    }
}

#[test]
fn implausible_resets_of_a_handshake_change_nothing() {
    let mut t = Talk::syn();
    assert_eq!(t.raw(Reply, RST, 0, 0), Reaction::PASS, "without ACK");
    assert_eq!(t.raw(Reply, RST | ACK, 0, t.next[0].wrapping_add(1)), Reaction::PASS);
    assert_eq!(t.raw(Original, RST, 0x7000_0000, 0), Reaction::PASS);
    t.is(Phase::SynSent);
    t.send(Reply, SYN | ACK, 0);
    assert_eq!(t.raw(Reply, RST | ACK, 0, 0x7000_0000), Reaction::PASS);
    assert_eq!(t.raw(Original, RST, 0x7000_0000, 0), Reaction::PASS);
    t.is(Phase::SynReceived);
}

#[test]
fn the_client_s_reset_is_no_error() {
    let mut t = Talk::syn();
    assert_eq!(t.send(Original, RST, 0), ENDS);
    t.is(Phase::Closed);
    let mut t = Talk::syn();
    t.send(Reply, SYN | ACK, 0);
    assert_eq!(t.send(Original, RST, 0), ENDS);
    t.is(Phase::Closed);
    let mut t = Talk::established();
    assert_eq!(t.send(Original, RST | ACK, 0), ENDS);
    t.is(Phase::Closed);
}

#[test]
fn the_server_s_reset_is_one_unless_its_fin_was_seen() {
    let mut t = Talk::established();
    t.send(Reply, ACK, 3000);
    assert_eq!(t.send(Reply, RST | ACK, 0), bad(FlowError::ServerReset));
    t.is(Phase::Closed);
    assert_eq!(t.send(Reply, RST | ACK, 0), Reaction::PASS);

    for (closer, reset) in [(Original, bad(FlowError::ServerReset)), (Reply, ENDS)] {
        let mut t = Talk::established();
        t.send(closer, FIN | ACK, 0);
        assert_eq!(t.send(Reply, RST, 0), reset);
        t.is(Phase::Closed);
    }
}

#[test]
fn a_reset_must_lie_between_what_was_acknowledged_and_what_was_sent() {
    let flight = 3_000_000;
    let (low, high) = (ISN[1] + 1, ISN[1] + 1 + flight);
    let in_flight = || {
        let mut t = Talk::established();
        t.send(Reply, ACK, flight);
        t
    };
    for seq in [low - SLACK, low, low + flight / 2, high, high + SLACK] {
        assert_eq!(in_flight().raw(Reply, RST, seq, 0), bad(FlowError::ServerReset), "{seq:#x}");
    }
    for seq in [low - SLACK - 1, high + SLACK + 1, 0, low ^ 1 << 31] {
        let mut t = in_flight();
        assert_eq!(t.raw(Reply, RST, seq, 0), Reaction::PASS, "{seq:#x}");
        t.is(Phase::Established);
    }
}

#[test]
fn wild_numbers_put_nothing_off() {
    let mut t = Talk::established();
    for seq in [0x8000_0000, 0x4000_0000, 0] {
        t.raw(Reply, FIN | ACK, seq, t.next[0]);
        t.is(Phase::Established);
        t.raw(Original, ACK, t.next[0], seq);
        assert_eq!(t.raw(Reply, RST, seq, 0), Reaction::PASS);
    }
    assert_eq!(t.send(Reply, RST, 0), bad(FlowError::ServerReset));
}

#[test]
fn near_is_symmetric_and_wraps() {
    for (low, high) in [(10, 20), (20, 10), (u32::MAX - 5, 5), (5, u32::MAX - 5)] {
        let (first, last) = if high.wrapping_sub(low) < 1 << 31 { (low, high) } else { (high, low) };
        assert!(near(first.wrapping_sub(SLACK), low, high));
        assert!(near(last.wrapping_add(SLACK), low, high));
        assert!(!near(first.wrapping_sub(SLACK + 1), low, high));
        assert!(!near(last.wrapping_add(SLACK + 1), low, high));
    }
}

#[test]
fn a_port_reused_while_the_old_connection_is_known() {
    // The server knows it too: a challenge ACK, a RST of the client with its number, then the SYN again.
    let mut t = Talk::established();
    t.send(Original, ACK, 100);
    assert_eq!(t.raw(Original, SYN, 0x5000_0000, 0).error, None);
    assert!(!t.state.is_over());
    assert_eq!(t.raw(Reply, ACK, t.next[1], t.next[0]).error, None);
    assert_eq!(t.raw(Original, RST, t.next[0], 0), ENDS);
    assert!(t.state.is_over());

    // The server has forgotten it and answers with a SYN-ACK: a new life in the same entry.
    let mut t = Talk::established();
    t.send(Reply, FIN | ACK, 0);
    t.raw(Original, SYN, 0x5000_0000, 0);
    t.raw(Reply, SYN | ACK, 0x6000_0000, 0x5000_0001);
    t.is(Phase::Established);
    t.next = [0x5000_0001, 0x6000_0001];
    t.send(Original, ACK, 20);
    assert_eq!(t.send(Reply, RST | ACK, 0), bad(FlowError::ServerReset));
}
