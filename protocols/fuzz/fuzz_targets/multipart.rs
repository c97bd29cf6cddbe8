//! Any bytes, in any split, as a form: no panic, and the same events whole and split. And what was written as a form
//! comes out as it went in.
//!
//! Input: one byte of options, one byte that seeds the split, then the wire, or the content of two parts.
#![no_main]

use annulus_protocols::Input;
use annulus_protocols::multipart::{Event, Limits, Multipart};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { parts_max: 3, head_bytes_max: 100, padding_bytes_max: 20 };

fuzz_target!(|data: &[u8]| {
    let [options, seed, wire @ ..] = data else { return };
    if options % 4 == 3 {
        // The bytes are a content type's parameters.
        let _ = Multipart::new(&format!("multipart/form-data;{}", String::from_utf8_lossy(wire)));
        return;
    }
    if options % 4 == 2 {
        return round_trip(wire, *seed);
    }
    let whole = read(vec![wire.to_vec()]);
    assert_eq!(whole, read(wire.iter().map(|byte| vec![*byte]).collect()));
    assert_eq!(whole, read(split(wire, *seed)));
});

fn round_trip(content: &[u8], seed: u8) {
    let (first, second) = content.split_at(content.len() / 2);
    if [first, second].iter().any(|part| part.starts_with(b"--b") || part.windows(5).any(|five| five == b"\r\n--b")) {
        return;
    }
    let head: &[u8] = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n";
    let wire = [head, first, b"\r\n", head, second, b"\r\n--b--"].concat();
    let mut expected = String::new();
    for part in [first, second] {
        let bytes: String = part.iter().map(|byte| format!("{byte} ")).collect();
        expected += &format!("part a None None;{bytes}end;");
    }
    assert_eq!(read(split(&wire, seed)), expected + "END;");
}

fn split(wire: &[u8], seed: u8) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), wire, usize::from(seed) | 1);
    while !rest.is_empty() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let (piece, tail) = rest.split_at((1 + (state >> 33) % 24).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    pieces
}

fn read(pieces: Vec<Vec<u8>>) -> String {
    let mut machine = Multipart::new("multipart/form-data; boundary=b").expect("a good boundary");
    let mut seen = String::new();
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            seen += &match machine.next_event(&LIMITS, &mut input) {
                Ok(Event::NeedMore) => break assert!(input.is_empty()),
                Ok(Event::Part(part)) => {
                    assert!(!part.name.is_empty());
                    format!("part {} {:?} {:?};", part.name, part.file_name, part.content_type)
                }
                Ok(Event::Data(bytes)) => {
                    assert!(!bytes.is_empty());
                    bytes.iter().map(|byte| format!("{byte} ")).collect()
                }
                Ok(Event::PartEnd) => "end;".to_owned(),
                Ok(Event::End) => "END;".to_owned(),
                Err(fault) => format!("{fault:?} {};", fault.status()),
            };
        }
    }
    seen
}
