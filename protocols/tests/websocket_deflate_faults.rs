//! What a peer can do wrong with compression: reserved bits, streams that are none, bombs of every kind; what answers it,
//! and what is held meanwhile.

mod support;
mod websocket_deflate;

use annulus_protocols::Input;
use annulus_protocols::websocket::{CloseCode, Event, Fault, Limits, MessageKind, Role, WebSocket};
use support::{Rng, Seen, feed};
use websocket_deflate::{compressor, feed_every_way, fragments, frame, machine, packed};

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn sees(limits: &Limits, wire: &[u8]) -> Vec<Seen> {
    feed_every_way(Role::Server, limits, wire)
}

/// What a server makes of a compressed binary message.
fn binary(limits: &Limits, payload: &[u8]) -> Vec<Seen> {
    sees(limits, &frame(Role::Server, 0xc2, payload))
}

#[test]
fn reserved_bits_where_they_mean_nothing() {
    let fault = [Seen::Fault(Fault::ReservedBits)];
    for opcode in [8, 9, 10] {
        assert_eq!(sees(&Limits::DEFAULT, &frame(Role::Server, 0xc0 | opcode, b"")), fault);
    }
    for first in [0xa1, 0x91, 0xe1, 0xd1, 0xf2] {
        assert_eq!(sees(&Limits::DEFAULT, &frame(Role::Server, first, &HELLO)), fault);
    }
    // A continuation, of a compressed message and of a plain one.
    for begin in [0x42, 0x02] {
        let wire = [frame(Role::Server, begin, &HELLO[..3]), frame(Role::Server, 0xc0, &HELLO[3..])].concat();
        assert_eq!(sees(&Limits::DEFAULT, &wire), fault);
    }
    // Without an agreement nothing changes.
    let seen = feed(&mut WebSocket::new(Role::Server), &Limits::DEFAULT, [frame(Role::Server, 0xc1, &HELLO)]);
    assert_eq!(seen, fault);
    assert_eq!(Fault::ReservedBits.close_code(), CloseCode::PROTOCOL_ERROR);
}

#[test]
fn pings_and_other_messages_inside_a_compressed_one() {
    let begin = frame(Role::Server, 0x41, &HELLO[..4]);
    let end = frame(Role::Server, 0x80, &HELLO[4..]);
    let wire = [begin.clone(), frame(Role::Server, 0x89, b"?"), end].concat();
    assert_eq!(sees(&Limits::DEFAULT, &wire), [Seen::Ping(b"?".to_vec()), Seen::Text("Hello".to_owned())]);
    let wire = [begin, frame(Role::Server, 0xc1, &HELLO)].concat();
    assert_eq!(sees(&Limits::DEFAULT, &wire), [Seen::Fault(Fault::InterruptedMessage)]);
}

#[test]
fn streams_that_are_broken() {
    for payload in [
        // Nothing, where RFC 7692 section 7.2.3.6 wants a byte; block type 3; a distance before the beginning.
        &b""[..],
        &[0x06],
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // A stored block whose lengths do not match, and one that lacks its end.
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0x00, 0xff, 0x00, 0x00, 0xff, 0x48],
        // Stored blocks, one of them final, that lack just as many bytes as we put behind a message.
        &[0x01, 0x09, 0x00, 0xf6, 0xff],
        &[0x00, 0x04, 0x00, 0xfb, 0xff],
        // A final block without the byte that follows it (section 7.2.1).
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // A stream with the tail that should have been taken off, and something behind it.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0xff, 0xff, 0x07],
    ] {
        assert_eq!(binary(&Limits::DEFAULT, payload), [Seen::Fault(Fault::BrokenDeflate)], "{payload:x?}");
    }
    for short in 1..HELLO.len() - 1 {
        assert_eq!(binary(&Limits::DEFAULT, &HELLO[..short]), [Seen::Fault(Fault::BrokenDeflate)], "{short} bytes");
    }
    assert_eq!(Fault::BrokenDeflate.close_code(), CloseCode::INVALID_DATA);
}

#[test]
fn text_is_checked_once_inflated() {
    let good = "κόσμε, 水 and 🍣. ".repeat(2000);
    for kind in [0xc1, 0xc2] {
        let mut bad = good.clone().into_bytes();
        for at in [0, 1, 5000, bad.len() - 1] {
            bad[at] = 0xff;
            let seen = sees(&Limits::DEFAULT, &frame(Role::Server, kind, &packed(&bad)));
            let expected = if kind == 0xc1 { Seen::Fault(Fault::InvalidUtf8) } else { Seen::Binary(bad.clone()) };
            assert!(seen == [expected], "byte {at}");
        }
    }
    let good_wire = fragments(Role::Server, 1, &packed(good.as_bytes()), &[1, 40, 41]);
    assert!(sees(&Limits::DEFAULT, &good_wire) == [Seen::Text(good.clone())]);
    // A character that is cut at the end.
    let cut = &good.as_bytes()[..good.len() - 3];
    let seen = sees(&Limits::DEFAULT, &frame(Role::Server, 0xc1, &packed(cut)));
    assert_eq!(seen, [Seen::Fault(Fault::InvalidUtf8)]);
}

#[test]
fn random_bytes_never_panic_and_split_alike() {
    let mut rng = Rng(11);
    let limits =
        Limits { message_bytes_max: 5000, inflated_bytes_free: 1000, inflated_ratio_max: 3, ..Limits::DEFAULT };
    let good = packed("a text that was good before a bit of it fell over ".repeat(60).as_bytes());
    for round in 0..1500 {
        let mut payload = match round % 3 {
            0 => {
                let len = rng.below(80);
                rng.bytes(len)
            }
            _ => good.clone(),
        };
        if round % 3 == 1 {
            let at = rng.below(payload.len());
            payload[at] ^= 1 << rng.below(8);
        } else if round % 3 == 2 {
            payload.truncate(rng.below(good.len()));
        }
        let cut = rng.below(payload.len() + 1);
        sees(&limits, &fragments(Role::Server, 1 + (round % 2) as u8, &payload, &[cut]));
    }
}

#[test]
fn messages_over_the_limit() {
    let limits = Limits::with_message_bytes_max(3000);
    let payload = |len: usize| b"{\"a\":[1,2,3]},".iter().copied().cycle().take(len).collect::<Vec<u8>>();
    assert!(binary(&limits, &packed(&payload(3000))) == [Seen::Binary(payload(3000))]);
    assert_eq!(binary(&limits, &packed(&payload(3001))), [Seen::Fault(Fault::MessageTooBig)]);
    assert_eq!(binary(&limits, &packed(&payload(100_000))), [Seen::Fault(Fault::MessageTooBig)]);
    // Compressed bytes are limited by what the header declares, before any of them has come.
    let header = frame(Role::Server, 0xc2, &[0; 3440]);
    assert_eq!(sees(&limits, &header[..8]), [Seen::Fault(Fault::MessageTooBig)]);
    let (first, second) = (frame(Role::Server, 0x42, &[0; 3000]), frame(Role::Server, 0x80, &[0; 440]));
    let seen = feed(&mut machine(Role::Server), &limits, [first, second]);
    assert_eq!(seen, [Seen::Fault(Fault::MessageTooBig)]);
}

#[test]
fn what_does_not_compress_may_be_as_large_as_the_limit() {
    let mut rng = Rng(5);
    let limits = Limits::with_message_bytes_max(50_000);
    let noise = rng.bytes(50_000);
    // Stored blocks of at most 100 bytes: five bytes of header each.
    let mut payload = Vec::new();
    for block in noise.chunks(100) {
        let len = block.len() as u16;
        payload.push(0);
        payload.extend(len.to_le_bytes());
        payload.extend((!len).to_le_bytes());
        payload.extend_from_slice(block);
    }
    payload.push(0);
    assert!(binary(&limits, &payload) == [Seen::Binary(noise)]);
}

#[test]
fn bombs() {
    // 8 MiB of zeros in 8 KiB: within the size that is allowed, far beyond the ratio.
    let bomb = packed(&vec![0; 8 << 20]);
    assert!(bomb.len() < 9000);
    for cuts in [&[][..], &[100, 200, 7000]] {
        let wire = fragments(Role::Server, 2, &bomb, cuts);
        assert_eq!(sees(&Limits::DEFAULT, &wire), [Seen::Fault(Fault::InflatedRatio)]);
        // It is seen long before it is here, and what is held stays in proportion.
        let mut machine = machine(Role::Server);
        let (mut most, mut sent) = (0, 0);
        for piece in wire.chunks(64) {
            let seen = feed(&mut machine, &Limits::DEFAULT, [piece.to_vec()]);
            most = most.max(machine.heap_bytes());
            sent += piece.len();
            if seen == [Seen::Fault(Fault::InflatedRatio)] {
                break;
            }
        }
        assert!(sent < 4300 && most < 5000, "{sent} bytes sent, {most} held");
        assert_eq!(machine.heap_bytes(), 0);
    }
    assert_eq!(Fault::InflatedRatio.close_code(), CloseCode::TOO_BIG);
}

#[test]
fn the_ratio_counts_above_the_free_bytes_only() {
    let zeros = |len: usize| packed(&vec![0; len]);
    let free = Limits::DEFAULT.inflated_bytes_free as usize;
    assert!(binary(&Limits::DEFAULT, &zeros(free)) == [Seen::Binary(vec![0; free])]);
    assert_eq!(binary(&Limits::DEFAULT, &zeros(free + 1)), [Seen::Fault(Fault::InflatedRatio)]);
    // At the boundary itself, byte by byte: so many compressed bytes, so many times as long.
    let payload = zeros(70_000);
    let ratio = 70_000_u32.div_ceil(payload.len() as u32);
    let limits = |ratio| Limits { inflated_ratio_max: ratio, inflated_bytes_free: 0, ..Limits::DEFAULT };
    assert!(binary(&limits(ratio), &payload) == [Seen::Binary(vec![0; 70_000])]);
    assert_eq!(binary(&limits(ratio - 1), &payload), [Seen::Fault(Fault::InflatedRatio)]);
}

#[test]
fn a_ratio_that_only_the_beginning_breaks_is_judged_by_blocks() {
    // Zeros, then noise: the whole is within the ratio, and every prefix of blocks is too.
    let mut rng = Rng(3);
    let payload = [vec![0; 60_000], rng.bytes(100_000)].concat();
    let limits = Limits { inflated_bytes_free: 0, ..Limits::DEFAULT };
    assert!(binary(&limits, &packed(&payload)) == [Seen::Binary(payload)]);
}

#[test]
fn blocks_without_end_or_use() {
    // Final blocks with more behind them: some are fine, many are an attack on the processor.
    let finals = |count: usize| [[0x03, 0x00].repeat(count), vec![0x00]].concat();
    assert_eq!(binary(&Limits::DEFAULT, &finals(64)), [Seen::Binary(Vec::new())]);
    assert_eq!(binary(&Limits::DEFAULT, &finals(65)), [Seen::Fault(Fault::BrokenDeflate)]);
    // Empty stored blocks make nothing, and end with the limit on compressed bytes.
    let empty = [[0x00, 0x00, 0x00, 0xff, 0xff].repeat(10_000), vec![0x00]].concat();
    assert_eq!(binary(&Limits::DEFAULT, &empty), [Seen::Binary(Vec::new())]);
    assert_eq!(binary(&Limits::with_message_bytes_max(1000), &empty), [Seen::Fault(Fault::MessageTooBig)]);
}

#[test]
fn a_message_that_stays_incomplete_costs_what_it_sent() {
    let mut machine = machine(Role::Server);
    let payload = packed(&Rng(9).bytes(20_000).iter().map(|byte| byte & 15).collect::<Vec<u8>>());
    let wire = frame(Role::Server, 0xc2, &payload);
    let mut sent = 0;
    for piece in wire.chunks(100) {
        let seen = feed(&mut machine, &Limits::DEFAULT, [piece.to_vec()]);
        sent += piece.len();
        let (held, is_whole) = (machine.heap_bytes(), sent == wire.len());
        assert_eq!((seen.len(), held == 0), (usize::from(is_whole), is_whole));
        // Twice what came while it is gathered; then an inflater and what was made of it.
        assert!(held < if sent < 4096 { 2 * sent + 500 } else { 60_000 + 8 * sent }, "{held} held after {sent}");
    }
    // A header alone claims, and gets, nothing.
    let claim = [&[0xc2, 0xff][..], &(15u64 << 20).to_be_bytes(), &[0; 4], b"abc"].concat();
    assert_eq!(feed(&mut machine, &Limits::DEFAULT, [claim]), []);
    assert!(machine.heap_bytes() < 500);
}

#[test]
fn after_our_close_nothing_is_inflated() {
    let bomb = packed(&vec![0; 8 << 20]);
    for before in [0, 1, 9, 5000] {
        let mut machine = machine(Role::Server);
        let wire = [frame(Role::Server, 0xc2, &bomb), frame(Role::Server, 0x88, b"\x03\xe8")].concat();
        let limits = Limits { inflated_ratio_max: 2000, ..Limits::DEFAULT };
        assert_eq!(feed(&mut machine, &limits, [wire[..before].to_vec()]), []);
        assert!(machine.write_close(&mut Vec::new(), Some(CloseCode::GOING_AWAY), "", None));
        assert!(machine.heap_bytes() < 500, "the message and its inflater are forgotten");
        let seen = feed(&mut machine, &Limits::DEFAULT, [wire[before..].to_vec()]);
        assert_eq!(seen, [Seen::Close(Some(1000), String::new())]);
    }
}

#[test]
fn a_compressed_message_that_takes_too_long_is_seen() {
    let mut machine = machine(Role::Server);
    let mut wire = frame(Role::Server, 0x41, &HELLO);
    let mut input = Input::new(&mut wire);
    assert_eq!(machine.next_event(&Limits::DEFAULT, 1000, &mut input), Ok(Event::NeedMore));
    assert!(!machine.is_overdue(&Limits::DEFAULT, 61_000) && machine.is_overdue(&Limits::DEFAULT, 61_001));
}

#[test]
fn every_level_and_window_is_inflated() {
    let text = "the quick brown fox jumps over the lazy dog; 0123456789 ".repeat(900);
    for level in 1..=9 {
        for window_bits in 9..=15 {
            let mut wire = Vec::new();
            assert!(compressor(level, window_bits).write_message(&mut wire, MessageKind::Text, text.as_bytes(), None));
            let seen = feed(&mut machine(Role::Client), &Limits::DEFAULT, [wire]);
            assert!(seen == [Seen::Text(text.clone())], "level {level}, window {window_bits}");
        }
    }
}
