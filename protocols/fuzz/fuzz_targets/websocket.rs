//! Any bytes, in any split: no panic, the same events whole and split, text that is UTF-8, bounded memory, and nothing
//! held once nothing is partial.
//!
//! Input: one byte of options, one byte that seeds the split, then the wire.
#![no_main]

use annulus_protocols::Input;
use annulus_protocols::websocket::{CloseCode, Event, Limits, MessageKind, Role, WebSocket};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    message_bytes_max: 1000,
    inflated_ratio_max: 100,
    inflated_bytes_free: 1000,
    fragments_max: 64,
    fragments_free: 8,
    fragment_bytes_mean_min: 4,
    assembly_ms_max: 1000,
};

fuzz_target!(|data: &[u8]| {
    let [options, seed, wire @ ..] = data else { return };
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    // Option 2: we closed before anything arrived, so only the peer's close frame is of interest.
    let closes_first = options & 2 != 0;
    let whole = events(role, closes_first, wire, usize::MAX, 0);
    assert_eq!(whole, events(role, closes_first, wire, 1, 0));
    assert_eq!(whole, events(role, closes_first, wire, 16, *seed));
});

/// What the machine reports when it is fed pieces of 1 to `piece_max` bytes.
fn events(role: Role, closes_first: bool, wire: &[u8], piece_max: usize, seed: u8) -> Vec<String> {
    let mut machine = WebSocket::new(role);
    if closes_first {
        assert!(machine.write_close(&mut Vec::new(), Some(CloseCode::NORMAL), "", None));
    }
    let (mut seen, mut rest, mut state) = (Vec::new(), wire.to_vec(), usize::from(seed) | 1);
    let mut rest = rest.as_mut_slice();
    while !rest.is_empty() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let len = 1 + (state >> 33) % piece_max.min(rest.len());
        let len = if piece_max == usize::MAX { rest.len() } else { len };
        let (piece, tail) = rest.split_at_mut(len);
        drain(&mut machine, piece, &mut seen);
        rest = tail;
    }
    // Doubling may hold twice what was allowed, beside the fixed part.
    assert!(machine.heap_bytes() < 2 * 1000 + 500);
    assert!(machine.is_partial() || machine.heap_bytes() == 0);
    seen
}

fn drain(machine: &mut WebSocket, piece: &mut [u8], seen: &mut Vec<String>) {
    let mut input = Input::new(piece);
    loop {
        match machine.next_event(&LIMITS, 0, &mut input) {
            Ok(Event::NeedMore) => break assert!(input.is_empty()),
            Ok(Event::Message(message)) => {
                if message.kind == MessageKind::Text {
                    assert!(std::str::from_utf8(&message.payload).is_ok());
                }
                seen.push(format!("{:?} {:?}", message.kind, &message.payload[..]));
            }
            Ok(Event::Ping(payload)) => seen.push(format!("ping {:?}", &payload[..])),
            Ok(Event::Pong(payload)) => seen.push(format!("pong {:?}", &payload[..])),
            Ok(Event::Close(close)) => seen.push(format!("{close:?}")),
            Err(fault) => seen.push(format!("{fault:?}")),
        }
    }
}
