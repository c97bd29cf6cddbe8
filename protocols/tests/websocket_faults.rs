//! Everything a peer can do wrong, the close code that answers it, and that the verdict does not depend on the split.

mod support;

use annulus_protocols::Input;
use annulus_protocols::websocket::{
    CloseCode, Event, Fault, Limits, MessageKind, Role, WebSocket, apply_mask, write_fragment, write_message,
    write_ping,
};
use support::{Rng, Seen, feed, feed_every_way};

const MASK: [u8; 4] = [0xa1, 0x02, 0xb3, 0x84];

/// A masked frame with any two first bytes' worth of flags.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut wire = vec![first, 0x80 | payload.len() as u8];
    wire.extend_from_slice(&MASK);
    let mut masked = payload.to_vec();
    apply_mask(&mut masked, MASK);
    wire.extend_from_slice(&masked);
    wire
}

fn server_sees(wire: &[u8]) -> Vec<Seen> {
    feed_every_way(Role::Server, &Limits::DEFAULT, wire)
}

fn assert_fault(wire: &[u8], fault: Fault, code: u16) {
    assert_eq!(server_sees(wire).last(), Some(&Seen::Fault(fault)));
    assert_eq!(fault.close_code().get(), code);
}

#[test]
fn frames_that_no_server_may_accept() {
    assert_fault(&[0x81, 0x01, b'a'], Fault::Unmasked, 1002);
    assert_fault(&frame(0x81 | 0x40, b"a"), Fault::ReservedBits, 1002);
    assert_fault(&frame(0x81 | 0x20, b"a"), Fault::ReservedBits, 1002);
    assert_fault(&frame(0x81 | 0x10, b"a"), Fault::ReservedBits, 1002);
    assert_fault(&frame(0x89 | 0x40, b"a"), Fault::ReservedBits, 1002);
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        assert_fault(&frame(0x80 | opcode, b""), Fault::ReservedOpcode, 1002);
        assert_fault(&frame(opcode, b""), Fault::ReservedOpcode, 1002);
    }
    for control in [8, 9, 0xa] {
        assert_fault(&frame(control, b"x"), Fault::FragmentedControl, 1002);
        assert_fault(&[0x80 | control, 0x80 | 126, 0, 126], Fault::LongControl, 1002);
    }
    assert_fault(&[0x82, 0x80 | 126, 0, 5, 0, 0, 0, 0], Fault::LengthForm, 1002);
    assert_fault(&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0], Fault::LengthForm, 1002);
    assert_fault(&[0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0], Fault::LengthForm, 1002);
}

#[test]
fn a_client_refuses_masked_frames() {
    let seen = feed_every_way(Role::Client, &Limits::DEFAULT, &frame(0x81, b"a"));
    assert_eq!(seen, [Seen::Fault(Fault::Masked)]);
}

#[test]
fn fragments_out_of_sequence() {
    assert_fault(&frame(0x80, b"a"), Fault::StrayContinuation, 1002);
    assert_fault(&frame(0x00, b""), Fault::StrayContinuation, 1002);
    let interrupted = [frame(0x01, b"a"), frame(0x81, b"b")].concat();
    assert_fault(&interrupted, Fault::InterruptedMessage, 1002);
    let interrupted = [frame(0x02, b"a"), frame(0x02, b"b")].concat();
    assert_fault(&interrupted, Fault::InterruptedMessage, 1002);
    let after_end = [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat();
    assert_fault(&after_end, Fault::StrayContinuation, 1002);
}

#[test]
fn text_that_is_not_utf8() {
    for text in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"plain text long enough for the wide path of the unmasking \x80 end",
        b"cut \xe2\x82",
    ] {
        assert_fault(&frame(0x81, text), Fault::InvalidUtf8, 1007);
        for split in 0..text.len() {
            let fragments = [frame(0x01, &text[..split]), frame(0x80, &text[split..])].concat();
            assert_fault(&fragments, Fault::InvalidUtf8, 1007);
        }
        assert_eq!(server_sees(&frame(0x82, text)), [Seen::Binary(text.to_vec())]);
    }
}

#[test]
fn bad_text_fails_before_the_message_ends() {
    let mut machine = WebSocket::new(Role::Server);
    // A first fragment that can become nothing valid, the message unfinished.
    let seen = feed(&mut machine, &Limits::DEFAULT, [frame(0x01, b"ok \xf4\x90")]);
    assert_eq!(seen, [Seen::Fault(Fault::InvalidUtf8)]);
    // A frame that is cut in the middle of its payload.
    let mut wire = frame(0x81, b"ok \xf4\x90 and more text behind it");
    wire.truncate(12);
    let seen = feed(&mut WebSocket::new(Role::Server), &Limits::DEFAULT, [wire]);
    assert_eq!(seen, [Seen::Fault(Fault::InvalidUtf8)]);
}

#[test]
fn close_frames_with_bad_content() {
    assert_fault(&frame(0x88, &[3]), Fault::ShortClose, 1002);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_fault(&frame(0x88, &code.to_be_bytes()), Fault::InvalidCloseCode, 1002);
    }
    let bad_reason = [&1000u16.to_be_bytes()[..], b"\xff"].concat();
    assert_fault(&frame(0x88, &bad_reason), Fault::InvalidUtf8, 1007);
}

#[test]
fn close_frames_with_good_content() {
    assert_eq!(server_sees(&frame(0x88, b"")), [Seen::Close(None, String::new())]);
    for code in [1000u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        let payload = [&code.to_be_bytes()[..], "größe".as_bytes()].concat();
        assert_eq!(server_sees(&frame(0x88, &payload)), [Seen::Close(Some(code), "größe".to_owned())]);
    }
}

#[test]
fn nothing_after_a_close_is_looked_at() {
    let wire = [frame(0x88, b"\x03\xe8"), frame(0x81, b"late"), vec![0xff; 20]].concat();
    assert_eq!(server_sees(&wire), [Seen::Close(Some(1000), String::new())]);
    let wire = [vec![0xff, 0xff], frame(0x81, b"late")].concat();
    assert_eq!(server_sees(&wire), [Seen::Fault(Fault::ReservedBits)]);
}

#[test]
fn a_declared_length_allocates_nothing() {
    let limits = Limits::with_message_bytes_max(1 << 40);
    let mut machine = WebSocket::new(Role::Server);
    let header = [&[0x82, 0xff][..], &(1u64 << 39).to_be_bytes(), &MASK, b"abc"].concat();
    assert_eq!(feed(&mut machine, &limits, [header]), []);
    assert_eq!(machine.frame_bytes_missing(), Some((1 << 39) - 3));
    assert!(machine.heap_bytes() < 1024, "{} bytes held", machine.heap_bytes());
}

#[test]
fn messages_over_the_limit() {
    let limits = Limits::with_message_bytes_max(100);
    let mut fits = Vec::new();
    write_message(&mut fits, MessageKind::Binary, &[1; 100], Some(MASK));
    assert_eq!(feed_every_way(Role::Server, &limits, &fits), [Seen::Binary(vec![1; 100])]);

    let mut over = Vec::new();
    write_message(&mut over, MessageKind::Binary, &[1; 101], Some(MASK));
    assert_eq!(feed_every_way(Role::Server, &limits, &over), [Seen::Fault(Fault::MessageTooBig)]);
    // The header alone is enough.
    assert_eq!(feed_every_way(Role::Server, &limits, &over[..6]), [Seen::Fault(Fault::MessageTooBig)]);

    let mut fragments = Vec::new();
    write_fragment(&mut fragments, MessageKind::Binary, true, false, &[1; 60], Some(MASK));
    write_fragment(&mut fragments, MessageKind::Binary, false, true, &[1; 41], Some(MASK));
    assert_eq!(feed_every_way(Role::Server, &limits, &fragments), [Seen::Fault(Fault::MessageTooBig)]);

    let huge = [&[0x82, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &MASK].concat();
    assert_fault(&huge, Fault::MessageTooBig, 1009);
    let first = [frame(0x02, b"a"), [&[0x80, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &MASK].concat()].concat();
    assert_fault(&first, Fault::MessageTooBig, 1009);
}

#[test]
fn too_many_or_too_small_fragments() {
    let limits = Limits { fragments_max: 50, fragments_free: 10, fragment_bytes_mean_min: 4, ..Limits::DEFAULT };
    let message = |count: usize, size: usize| {
        let mut wire = Vec::new();
        for index in 0..count {
            let last = index + 1 == count;
            write_fragment(&mut wire, MessageKind::Binary, index == 0, last, &vec![7; size], Some(MASK));
        }
        feed_every_way(Role::Server, &limits, &wire)
    };
    assert_eq!(message(10, 0), [Seen::Binary(vec![])]);
    assert_eq!(message(13, 1), [Seen::Binary(vec![7; 13])]);
    assert_eq!(message(14, 1), [Seen::Fault(Fault::TooManyFragments)]);
    assert_eq!(message(50, 4), [Seen::Binary(vec![7; 200])]);
    assert_eq!(message(51, 4), [Seen::Fault(Fault::TooManyFragments)]);
    assert_eq!(Fault::TooManyFragments.close_code(), CloseCode::POLICY);
}

#[test]
fn the_default_limits_carry_four_mebibytes_in_small_fragments() {
    // 65,536 fragments of 64 bytes; one-byte fragments of the same message are refused long before.
    let wire = |size: usize, count: usize| {
        let mut wire = Vec::new();
        for index in 0..count {
            write_fragment(&mut wire, MessageKind::Text, index == 0, index + 1 == count, &vec![b'x'; size], Some(MASK));
        }
        wire
    };
    let seen = feed(&mut WebSocket::new(Role::Server), &Limits::DEFAULT, [wire(64, 65_536)]);
    assert_eq!(seen, [Seen::Text("x".repeat(4 << 20))]);
    let seen = feed(&mut WebSocket::new(Role::Server), &Limits::DEFAULT, [wire(1, 2048)]);
    assert_eq!(seen, [Seen::Fault(Fault::TooManyFragments)]);
}

#[test]
fn a_message_that_takes_too_long_is_seen() {
    let mut machine = WebSocket::new(Role::Server);
    let limits = Limits { assembly_ms_max: 500, ..Limits::DEFAULT };
    let mut at = |now: u64, mut wire: Vec<u8>| {
        let mut input = Input::new(&mut wire);
        while machine.next_event(&limits, now, &mut input).expect("nothing wrong") != Event::NeedMore {}
        (machine.assembly_started(), machine.is_overdue(&limits, now + 500), machine.is_overdue(&limits, 1501))
    };
    assert_eq!(at(900, frame(0x81, b"whole")), (None, false, false));
    assert_eq!(at(1000, frame(0x01, b"a")), (Some(1000), false, true));
    assert_eq!(at(1400, frame(0x00, b"b")), (Some(1000), true, true));
    assert_eq!(at(1450, frame(0x89, b"ping")), (Some(1000), true, true));
    assert_eq!(at(1480, frame(0x80, b"c")), (None, false, false));
}

#[test]
fn random_bytes_never_panic_and_split_alike() {
    let mut rng = Rng(7);
    for round in 0..2000 {
        let len = rng.below(60);
        let mut wire = rng.bytes(len);
        // Half of the rounds begin with a good frame, so that later states are reached too.
        if round % 2 == 0 {
            let mut good = Vec::new();
            write_fragment(&mut good, MessageKind::Text, true, round % 4 == 0, b"fine", Some(MASK));
            write_ping(&mut good, b"?", Some(MASK));
            wire.splice(0..0, good);
        }
        feed_every_way(Role::Server, &Limits::with_message_bytes_max(1000), &wire);
        feed_every_way(Role::Client, &Limits::with_message_bytes_max(1000), &wire);
    }
}
