use super::*;

const SACK: u16 = 1 << 3;
const HEARTBEAT: u16 = 1 << 4;

/// The tags that the client and the server chose; packets carry the receiver's.
const CLIENT: u32 = 0xc11e;
const SERVER: u32 = 0x5e4e;

const fn with(tag: u32, chunks: u16) -> Packet {
    Packet { tag, chunks, initiate_tag: 0, reflected: false }
}

const fn init(tag: u32) -> Packet {
    Packet { tag: 0, chunks: INIT, initiate_tag: tag, reflected: false }
}

const fn init_ack(to: u32, tag: u32) -> Packet {
    Packet { tag: to, chunks: INIT_ACK, initiate_tag: tag, reflected: false }
}

const fn reflected(tag: u32, chunks: u16) -> Packet {
    Packet { tag, chunks, initiate_tag: 0, reflected: true }
}

const WRONG_TAG: Reaction = Reaction::refuse(DropReason::SctpVerificationTag);
const WRONG_STATE: Reaction = Reaction::refuse(DropReason::SctpState);

fn bad(error: FlowError) -> Reaction {
    Reaction::REFRESH.with(Some(error))
}

impl State {
    fn client(&mut self, packet: Packet) -> Reaction {
        self.step(Original, &packet)
    }

    fn server(&mut self, packet: Packet) -> Reaction {
        self.step(Reply, &packet)
    }

    #[track_caller]
    fn is(&self, phase: Phase) {
        assert_eq!(self.phase(), phase);
    }

    fn at(phase: Phase) -> Self {
        let mut state = Self::open(CLIENT);
        if phase >= Phase::InitAcked {
            state.server(init_ack(CLIENT, SERVER));
        }
        if phase >= Phase::CookieEchoed {
            state.client(with(SERVER, COOKIE_ECHO));
        }
        if phase >= Phase::Established {
            state.server(with(CLIENT, COOKIE_ACK));
        }
        if phase >= Phase::Closing {
            state.client(with(SERVER, SHUTDOWN));
        }
        if phase >= Phase::Closed {
            state.server(with(CLIENT, SHUTDOWN_ACK));
            state.client(with(SERVER, SHUTDOWN_COMPLETE));
        }
        state.is(phase);
        state
    }
}

#[test]
fn only_an_init_opens() {
    assert!(opens(INIT, 1));
    assert!(!opens(INIT, 0));
    assert!(!opens(DATA, 1));
    assert!(!opens(INIT_ACK, 1));
}

#[test]
fn a_life() {
    let mut s = State::open(CLIENT);
    assert_eq!(s.flow_state(), FlowState::HalfOpen);
    assert_eq!(s.server(init_ack(CLIENT, SERVER)), Reaction::REFRESH);
    s.is(Phase::InitAcked);
    assert_eq!(s.client(with(SERVER, COOKIE_ECHO | DATA)), Reaction::REFRESH);
    s.is(Phase::CookieEchoed);
    assert_eq!(s.flow_state(), FlowState::HalfOpen);
    assert_eq!(s.server(with(CLIENT, COOKIE_ACK | DATA)), Reaction::REFRESH);
    s.is(Phase::Established);
    for chunks in [DATA, SACK, HEARTBEAT, 0] {
        assert_eq!(s.client(with(SERVER, chunks)), Reaction::REFRESH);
        assert_eq!(s.server(with(CLIENT, chunks)), Reaction::REFRESH);
    }
    s.is(Phase::Established);
    assert_eq!(s.client(with(SERVER, SHUTDOWN)), Reaction::REFRESH);
    s.is(Phase::Closing);
    assert_eq!(s.server(with(CLIENT, SHUTDOWN_ACK)), Reaction::REFRESH);
    s.is(Phase::Closing);
    assert_eq!(s.client(with(SERVER, SHUTDOWN_COMPLETE)), Reaction::REFRESH);
    s.is(Phase::Closed);
    assert_eq!(s.server(with(CLIENT, SHUTDOWN_ACK)), Reaction::PASS);
    assert_eq!(s.client(reflected(CLIENT, SHUTDOWN_COMPLETE)), Reaction::PASS);
    s.is(Phase::Closed);
}

#[test]
fn the_server_may_shut_down_and_the_last_chunk_may_be_reflected() {
    let mut s = State::at(Phase::Established);
    assert_eq!(s.client(with(SERVER, SHUTDOWN_COMPLETE)), Reaction::REFRESH);
    s.is(Phase::Established); // nothing is being shut down (§8.5.1 C)
    s.server(with(CLIENT, SHUTDOWN));
    s.is(Phase::Closing);
    s.client(with(SERVER, SHUTDOWN_ACK));
    s.server(reflected(SERVER, SHUTDOWN_COMPLETE));
    s.is(Phase::Closed);
}

#[test]
fn tags_are_checked_in_every_phase() {
    for phase in [Phase::InitAcked, Phase::CookieEchoed, Phase::Established, Phase::Closing, Phase::Closed] {
        for chunks in [DATA, SACK, HEARTBEAT, ABORT, SHUTDOWN, ERROR, COOKIE_ECHO, COOKIE_ACK, INIT_ACK, 0] {
            let mut s = State::at(phase);
            for wrong in [0, CLIENT, 1] {
                assert_eq!(s.client(with(wrong, chunks)), WRONG_TAG, "{phase:?} {chunks:#x} {wrong:#x}");
            }
            for wrong in [0, SERVER, 1] {
                assert_eq!(s.server(with(wrong, chunks)), WRONG_TAG, "{phase:?} {chunks:#x} {wrong:#x}");
            }
            assert_eq!(s, State::at(phase));
        }
    }
}

#[test]
fn before_init_ack_the_client_has_no_tag_to_use() {
    let mut s = State::open(CLIENT);
    for tag in [0, CLIENT, SERVER] {
        assert_eq!(s.client(with(tag, COOKIE_ECHO)), WRONG_TAG);
        assert_eq!(s.client(with(tag, DATA)), WRONG_TAG);
    }
    assert_eq!(s.server(init_ack(CLIENT + 1, SERVER)), WRONG_TAG);
    assert_eq!(s.server(init_ack(CLIENT, 0)), Reaction::PASS);
    s.is(Phase::CookieWait);
}

#[test]
fn reflected_tags_are_the_sender_s_own() {
    for phase in [Phase::InitAcked, Phase::Established, Phase::Closing] {
        let mut s = State::at(phase);
        assert_eq!(s.client(reflected(SERVER, ABORT)), WRONG_TAG);
        assert_eq!(s.server(reflected(CLIENT, ABORT)), WRONG_TAG);
        s.is(phase);
        s.client(reflected(CLIENT, ABORT));
        s.is(Phase::Closed);
        let mut s = State::at(phase);
        s.server(reflected(SERVER, ABORT));
        s.is(Phase::Closed);
    }
}

#[test]
fn data_before_the_cookie_is_a_violation_once() {
    for phase in [Phase::CookieWait, Phase::InitAcked] {
        let mut s = State::at(phase);
        assert_eq!(s.server(with(CLIENT, DATA)), WRONG_STATE.with(Some(FlowError::Violation)));
        assert_eq!(s.server(with(CLIENT, DATA)), WRONG_STATE);
        s.is(phase);
        assert_eq!(s.server(with(CLIENT, ABORT)), Reaction::REFRESH, "not a second error");
    }
    let mut s = State::at(Phase::CookieEchoed);
    assert_eq!(s.server(with(CLIENT, DATA)), Reaction::PASS, "the COOKIE ACK may have been lost");
    s.is(Phase::CookieEchoed);
}

#[test]
fn aborts_by_state_and_side() {
    use FlowError::{Abort, Refused};
    let cases = [
        (Phase::InitAcked, Some(Abort), Some(Refused)),
        (Phase::CookieEchoed, Some(Abort), Some(Refused)),
        (Phase::Established, Some(Abort), Some(Abort)),
        (Phase::Closing, Some(Abort), Some(Abort)),
    ];
    for (phase, by_client, by_server) in cases {
        let mut s = State::at(phase);
        assert_eq!(s.client(with(SERVER, ABORT)), Reaction::REFRESH.with(by_client), "{phase:?}");
        s.is(Phase::Closed);
        let mut s = State::at(phase);
        assert_eq!(s.server(with(CLIENT, ABORT)), Reaction::REFRESH.with(by_server), "{phase:?}");
        s.is(Phase::Closed);
    }
    let mut s = State::open(CLIENT);
    assert_eq!(s.server(with(CLIENT, ABORT)), bad(Refused));
    s.is(Phase::Closed);
    let mut s = State::at(Phase::Closed);
    assert_eq!(s.server(with(CLIENT, ABORT)), Reaction::PASS);
}

#[test]
fn an_error_chunk_counts_once_and_ends_nothing() {
    let mut s = State::at(Phase::Established);
    assert_eq!(s.client(with(SERVER, COOKIE_ECHO | ERROR)), Reaction::REFRESH, "retransmitted");
    assert_eq!(s.server(with(CLIENT, ERROR)), bad(FlowError::Abort));
    assert_eq!(s.client(with(SERVER, ERROR)), Reaction::REFRESH);
    s.is(Phase::Established);
    assert_eq!(s.server(with(CLIENT, ABORT)), Reaction::REFRESH);
    s.is(Phase::Closed);
    let mut s = State::at(Phase::InitAcked);
    assert_eq!(s.client(with(SERVER, COOKIE_ECHO | ERROR)), Reaction::REFRESH, "part of the handshake");
    assert_eq!(s.server(with(CLIENT, ERROR)).error, Some(FlowError::Abort), "such as a stale cookie");
    s.is(Phase::CookieEchoed);
}

#[test]
fn a_retransmitted_init_has_several_init_acks() {
    for chosen in [SERVER, SERVER + 1] {
        let mut s = State::open(CLIENT);
        assert_eq!(s.client(init(CLIENT)), Reaction::PASS);
        assert_eq!(s.server(init_ack(CLIENT, SERVER)), Reaction::REFRESH);
        assert_eq!(s.client(init(CLIENT)), Reaction::PASS);
        assert_eq!(s.server(init_ack(CLIENT, SERVER + 1)), Reaction::PASS);
        assert_eq!(s.client(with(SERVER + 2, COOKIE_ECHO)), WRONG_TAG);
        assert_eq!(s.client(with(chosen, COOKIE_ECHO)), Reaction::REFRESH);
        assert_eq!(s.client(with(chosen, COOKIE_ECHO)), Reaction::PASS);
        assert_eq!(s.server(with(CLIENT, COOKIE_ACK)), Reaction::REFRESH);
        assert_eq!(s.client(with(chosen, DATA)), Reaction::REFRESH);
        assert_eq!(s.client(with(SERVER + SERVER + 1 - chosen, DATA)), WRONG_TAG);
    }
}

#[test]
fn another_init_tag_begins_the_handshake_again_but_not_its_time() {
    for phase in [Phase::CookieWait, Phase::InitAcked, Phase::CookieEchoed] {
        let mut s = State::at(phase);
        assert_eq!(s.client(init(7)), Reaction::PASS);
        s.is(Phase::CookieWait);
        assert_eq!(s.server(init_ack(CLIENT, 8)), WRONG_TAG);
        assert_eq!(s.server(init_ack(7, 8)).refresh, phase < Phase::InitAcked);
        assert_eq!(s.client(with(8, COOKIE_ECHO)).refresh, phase < Phase::CookieEchoed);
        assert_eq!(s.server(with(7, COOKIE_ACK)), Reaction::REFRESH);
        s.is(Phase::Established);
    }
}

#[test]
fn a_restart_takes_effect_with_its_cookie() {
    let mut s = State::at(Phase::Established);
    assert_eq!(s.client(init(7)), Reaction::REFRESH);
    assert_eq!(s.server(with(CLIENT, DATA)), Reaction::REFRESH, "the old association goes on");
    assert_eq!(s.server(init_ack(6, 8)), WRONG_TAG);
    assert_eq!(s.server(init_ack(7, 8)), Reaction::REFRESH);
    assert_eq!(s.client(with(8, DATA)), WRONG_TAG, "not before the cookie");
    assert_eq!(s.client(with(9, COOKIE_ECHO)), WRONG_TAG);
    assert_eq!(s.client(init(7)), Reaction::REFRESH);
    assert_eq!(s.client(with(8, COOKIE_ECHO)), Reaction::REFRESH);
    assert_eq!(s.server(with(7, COOKIE_ACK)), Reaction::REFRESH);
    assert_eq!(s.client(with(8, DATA)), Reaction::REFRESH);
    assert_eq!(s.client(with(SERVER, DATA)), WRONG_TAG);
    s.is(Phase::Established);
}

#[test]
fn a_refused_restart_leaves_the_association() {
    let mut s = State::at(Phase::Established);
    s.client(init(7));
    assert_eq!(s.server(with(7, ABORT)), Reaction::PASS);
    s.is(Phase::Established);
    assert_eq!(s.client(with(SERVER, DATA)), Reaction::REFRESH);
}

#[test]
fn remains_of_a_forgotten_association_pass() {
    let mut s = State::open(CLIENT);
    assert_eq!(s.server(with(0x01d, SHUTDOWN_ACK)), Reaction::PASS);
    assert_eq!(s.server(with(0x01d, SHUTDOWN_ACK | DATA)), WRONG_TAG);
    assert_eq!(s.client(reflected(0x01d, SHUTDOWN_COMPLETE)), Reaction::PASS);
    assert_eq!(s.client(with(0x01d, SHUTDOWN_COMPLETE)), WRONG_TAG);
    s.is(Phase::CookieWait);
}

#[test]
fn the_server_may_restart_an_association() {
    let mut s = State::at(Phase::Established);
    let (client, server) = (CLIENT + 100, SERVER + 100);
    assert_eq!(s.server(init(server)), Reaction::REFRESH);
    assert_eq!(s.client(init_ack(server, client)), Reaction::REFRESH);
    assert_eq!(s.server(with(client + 1, COOKIE_ECHO)), WRONG_TAG);
    assert_eq!(s.server(with(client, COOKIE_ECHO)), Reaction::REFRESH);
    assert_eq!(s.client(with(server, COOKIE_ACK)), Reaction::REFRESH);
    assert_eq!(s.server(with(client, DATA)), Reaction::REFRESH);
    assert_eq!(s.client(with(SERVER, DATA)), WRONG_TAG, "the old tags are gone");
    s.is(Phase::Established);
}

#[test]
fn both_sides_may_begin_at_once() {
    // Client 1, server 2. The server's handshake is through first.
    let mut s = State::open(1);
    assert_eq!(s.server(init(2)).pass, Ok(()));
    s.is(Phase::CookieWait);
    assert_eq!(s.client(init_ack(2, 1)).pass, Ok(()));
    assert_eq!(s.client(init_ack(3, 1)).pass, Err(DropReason::SctpVerificationTag));
    assert_eq!(s.server(with(1, COOKIE_ECHO)), Reaction::REFRESH);
    s.is(Phase::CookieEchoed);
    assert_eq!(s.client(with(2, COOKIE_ACK)), Reaction::REFRESH);
    s.is(Phase::Established);
    assert_eq!(s.client(with(2, DATA)).pass, Ok(()));

    // The client's is; the server's INIT says what its INIT ACK says.
    let mut s = State::open(1);
    s.server(init(2));
    s.server(init_ack(1, 2));
    s.client(init_ack(2, 1));
    s.client(with(2, COOKIE_ECHO));
    assert_eq!(s.server(with(1, COOKIE_ECHO)).pass, Ok(()));
    s.server(with(1, COOKIE_ACK));
    s.is(Phase::Established);
    assert_eq!(s.client(with(2, COOKIE_ACK)).pass, Ok(()));

    // A cookie of a server that has not said its tag begins nothing.
    let mut s = State::open(1);
    s.server(with(1, COOKIE_ECHO));
    s.is(Phase::CookieWait);
}
