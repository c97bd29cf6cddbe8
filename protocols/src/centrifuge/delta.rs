//! One text as its difference from another, in the delta format of the Fossil version control system
//! (<https://fossil-scm.org/home/doc/tip/www/delta_format.wiki>), which the SDKs undo.
//!
//! ```text
//! delta     target's length, line end, segment ..., checksum ";"
//! segment   length "@" offset ","     so many bytes of the source, from there on
//!           length ":" bytes          these bytes
//! numbers   to the base 64, the highest digit first: 0-9 A-Z _ a-z ~
//! checksum  the sum of the target's big-endian words of 32 bits, the last one filled up with zeros
//! ```
//!
//! Fossil's own encoder cuts wherever bytes agree. This one never cuts a character of UTF-8 in two, because clients of the
//! JSON codec get the delta as a string; so the delta of two texts is a text.

/// Bytes that have to agree before a copy is considered.
const BLOCK: usize = 8;

/// Places of the source with the same hash that are tried for each place of the target. A source that repeats itself costs
/// no more than this times the target.
const TRIES_MAX: usize = 16;

/// Longer texts are not compared: places are numbered with 32 bits.
const BYTES_MAX: usize = 1 << 30;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Writes what turns `source` into `target`; `None` if that is no shorter than `target` itself.
pub fn delta(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if source.len().max(target.len()) > BYTES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(target.len() / 4 + 16);
    write_number(&mut out, target.len());
    out.push(b'\n');
    let places = Places::of(source);
    // What is before `told` has been written; from there to `at` nothing was found.
    let (mut told, mut at) = (0, 0);
    while let Some(block) = block_at(target, at) {
        let Some(copy) = places.longest(source, target, block, told, at) else {
            at += 1;
            continue;
        };
        write_bytes(&mut out, &target[told..copy.to]);
        write_number(&mut out, copy.len);
        out.push(b'@');
        write_number(&mut out, copy.from);
        out.push(b',');
        told = copy.to + copy.len;
        at = told;
        if out.len() >= target.len() {
            return None;
        }
    }
    write_bytes(&mut out, &target[told..]);
    write_number(&mut out, checksum(target) as usize);
    out.push(b';');
    (out.len() < target.len()).then_some(out)
}

/// Undoes [`delta`]: the target that `delta` makes of `source`; `None` if it is no delta, or not one from `source`. It takes
/// no more than `bytes_max` of memory.
pub fn patch(source: &[u8], mut delta: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let (len, b'\n') = split_number(&mut delta)? else { return None };
    let mut target = Vec::with_capacity(Some(len).filter(|&len| len <= bytes_max)?);
    loop {
        let piece = match split_number(&mut delta)? {
            (count, b'@') => {
                let (from, b',') = split_number(&mut delta)? else { return None };
                source.get(from..from.checked_add(count)?)?
            }
            (count, b':') => {
                let (piece, rest) = delta.split_at_checked(count)?;
                delta = rest;
                piece
            }
            (sum, b';') => {
                return (sum == checksum(&target) as usize && len == target.len() && delta.is_empty())
                    .then_some(target);
            }
            _ => return None,
        };
        if piece.len() > len - target.len() {
            return None;
        }
        target.extend_from_slice(piece);
    }
}

/// A number and the sign behind it.
fn split_number(bytes: &mut &[u8]) -> Option<(usize, u8)> {
    let digit = |byte: &u8| DIGITS.iter().position(|digit| digit == byte);
    let len = bytes.iter().position(|byte| digit(byte).is_none())?;
    let mut number = 0_usize;
    for digit in bytes[..len].iter().filter_map(digit) {
        number = number.checked_mul(DIGITS.len())? + digit;
    }
    let sign = bytes[len];
    *bytes = &bytes[len + 1..];
    Some((number, sign)).filter(|_| len > 0)
}

/// So many bytes of the source, from `from` on, are those of the target from `to` on.
struct Copy {
    from: usize,
    to: usize,
    len: usize,
}

impl Copy {
    /// What it takes to say so.
    fn cost(&self) -> usize {
        digits(self.len) + digits(self.from) + 2
    }
}

/// Where each block of the source is, by its hash.
struct Places {
    /// By hash: the last block with it, counted from 1; 0 is none.
    heads: Vec<u32>,
    /// By block: the one before with the same hash.
    before: Vec<u32>,
    shift: u32,
}

impl Places {
    fn of(source: &[u8]) -> Places {
        let blocks = source.len() / BLOCK;
        let bits = blocks.next_power_of_two().trailing_zeros() + 1;
        let mut places = Places { heads: vec![0; 1 << bits], before: vec![0; blocks], shift: u64::BITS - bits };
        for at in 0..blocks {
            let Some(block) = block_at(source, at * BLOCK) else { break };
            let head = &mut places.heads[hash(block, places.shift)];
            places.before[at] = *head;
            *head = at as u32 + 1;
        }
        places
    }

    /// The copy that spares most, of those that lie around `at` and behind what has been told; `None` if none spares
    /// anything.
    fn longest(&self, source: &[u8], target: &[u8], block: u64, told: usize, at: usize) -> Option<Copy> {
        let mut longest: Option<Copy> = None;
        let mut place = self.heads[hash(block, self.shift)];
        for _ in 0..TRIES_MAX {
            let Some(index) = place.checked_sub(1) else { break };
            place = self.before[index as usize];
            let from = index as usize * BLOCK;
            if block_at(source, from) != Some(block) {
                continue;
            }
            let ahead = BLOCK + agreeing(&source[from + BLOCK..], &target[at + BLOCK..]);
            let behind = source[..from].iter().rev().zip(target[told..at].iter().rev()).take_while(|(a, b)| a == b);
            let behind = behind.count();
            let copy = whole_characters(target, Copy { from: from - behind, to: at - behind, len: behind + ahead });
            if copy.len > copy.cost() && longest.as_ref().is_none_or(|longest| copy.len > longest.len) {
                longest = Some(copy);
            }
        }
        longest
    }
}

/// Leaves to the bytes before and behind what would cut a character in two.
fn whole_characters(target: &[u8], mut copy: Copy) -> Copy {
    let is_inside = |at: usize| target.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    while copy.len > 0 && is_inside(copy.to) {
        (copy.from, copy.to, copy.len) = (copy.from + 1, copy.to + 1, copy.len - 1);
    }
    while copy.len > 0 && is_inside(copy.to + copy.len) {
        copy.len -= 1;
    }
    copy
}

/// How many bytes agree from the beginning.
fn agreeing(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn block_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes[at..].first_chunk::<BLOCK>().map(|block| u64::from_le_bytes(*block))
}

/// Fibonacci hashing: the upper bits of the product with 2^64 over the golden ratio.
fn hash(block: u64, shift: u32) -> usize {
    (block.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize
}

fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_be_bytes(word)
    });
    words.fold(0, u32::wrapping_add)
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        write_number(out, bytes.len());
        out.push(b':');
        out.extend_from_slice(bytes);
    }
}

fn write_number(out: &mut Vec<u8>, number: usize) {
    for digit in (0..digits(number)).rev() {
        out.push(DIGITS[number >> (6 * digit) & 63]);
    }
}

/// How many digits a number has.
fn digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).div_ceil(6).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64*: texts have to differ, not to be random.
    fn draw(state: &mut u64, below: usize) -> usize {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }

    #[test]
    fn a_delta_as_fossil_has_it() {
        let source = br#"{"title":"a match","home":0,"away":0,"minute":17}"#;
        let target = br#"{"title":"a match","home":1,"away":0,"minute":18}"#;
        let delta = delta(source, target).expect("it is shorter");
        assert_eq!(String::from_utf8_lossy(&delta), "m\nQ@0,1:1K@R,2:8}1q3fR2;".replace("1q3fR2", &sum(target)));
        assert_eq!(patch(source, &delta, 1000).as_deref(), Some(&target[..]));
    }

    fn sum(target: &[u8]) -> String {
        let mut out = Vec::new();
        write_number(&mut out, checksum(target) as usize);
        String::from_utf8(out).expect("digits are ASCII")
    }

    #[test]
    fn what_has_nothing_in_common_is_not_told_as_a_difference() {
        assert_eq!(delta(b"", b"0123456789"), None);
        assert_eq!(delta(b"0123456789", b""), None);
        assert_eq!(delta(b"abcdefghijklmnopqrstuvwxyz", b"0123456789ABCDEFGHIJKLMNOPQ"), None);
    }

    #[test]
    fn a_number_is_told_in_digits_of_six_bits() {
        let written = |number| {
            let mut out = Vec::new();
            write_number(&mut out, number);
            String::from_utf8(out).expect("digits are ASCII")
        };
        let numbers = [0, 1, 9, 10, 36, 37, 62, 63, 64, 4095, 4096, u32::MAX as usize];
        assert_eq!(numbers.map(written), ["0", "1", "9", "A", "_", "a", "z", "~", "10", "~~", "100", "3~~~~~"]);
    }

    #[test]
    fn every_delta_brings_the_target_back_and_no_character_is_cut() {
        let mut state = 0x9E37_79B9;
        let pieces =
            ["a", "0123456789", "\u{e9}", "\u{20ac}uro", "\u{1f600}", "\u{1f601}", "\"key\":", "abababab", "\n"];
        let text = |state: &mut u64, pieces_max: usize| -> String {
            (0..draw(state, pieces_max)).map(|_| pieces[draw(state, pieces.len())]).collect()
        };
        let mut shorter = 0;
        for _ in 0..3000 {
            let source = text(&mut state, 60);
            let mut target: Vec<char> = source.chars().collect();
            for _ in 0..draw(&mut state, 6) {
                let at = draw(&mut state, target.len() + 1);
                let new = text(&mut state, 3);
                let until = (at + draw(&mut state, 12)).min(target.len());
                target.splice(at..until, new.chars());
            }
            let target: String = target.into_iter().collect();
            let Some(delta) = delta(source.as_bytes(), target.as_bytes()) else { continue };
            shorter += 1;
            assert!(delta.len() < target.len());
            std::str::from_utf8(&delta).expect("the delta of two texts is a text");
            assert_eq!(patch(source.as_bytes(), &delta, 10_000).as_deref(), Some(target.as_bytes()));
        }
        assert!(shorter > 1000, "{shorter}");
    }

    /// `cargo test --release --package annulus-protocols --lib -- --ignored --nocapture delta::tests::what_it_costs`
    #[test]
    #[ignore = "a measurement"]
    fn what_it_costs() {
        const ROUNDS: u32 = 20_000;
        for players in [0, 22, 1000] {
            let board = |minute: u32| {
                let players: Vec<_> =
                    (0..players).map(|n| format!("{{\"number\":{n},\"name\":\"player {n}\"}}")).collect();
                let players = players.join(",");
                format!(
                    "{{\"match\":\"one against another\",\"minute\":{minute},\"players\":[{players}],\"score\":\"0:{minute}\"}}"
                )
            };
            let (one, other) = (board(17), board(18));
            let begin = std::time::Instant::now();
            for _ in 0..ROUNDS {
                std::hint::black_box(delta(std::hint::black_box(one.as_bytes()), other.as_bytes()));
            }
            let each = begin.elapsed() / ROUNDS;
            let bytes = delta(one.as_bytes(), other.as_bytes()).map(|delta| delta.len());
            println!("{} bytes, of which few differ: {bytes:?} bytes in {each:?}", other.len());
        }
    }

    #[test]
    fn what_is_no_delta_is_refused() {
        let source = &b"{\"match\":\"one against another\",\"minute\":17,\"place\":\"at home\"}"[..];
        let target = &b"{\"match\":\"one against another\",\"minute\":18,\"place\":\"abroad\"}"[..];
        let good = delta(source, target).expect("it is shorter");
        assert_eq!(patch(source, &good, target.len()).as_deref(), Some(target));
        assert_eq!(patch(source, &good, target.len() - 1), None, "more than may be");
        assert_eq!(patch(&source[1..], &good, 1000), None, "from something else");
        for len in 0..good.len() {
            assert_eq!(patch(source, &good[..len], 1000), None, "cut after {len}");
        }
        let mut state = 3;
        for _ in 0..3000 {
            let mut bad = good.clone();
            let at = draw(&mut state, bad.len());
            bad[at] = draw(&mut state, 256) as u8;
            // Whatever it makes, it makes no more than it may.
            assert!(patch(source, &bad, 64).is_none_or(|target| target.len() <= 64));
        }
        assert_eq!(patch(source, b"~~~~~~~~~~~~\n0;", 1000), None, "no number has so many digits");
        assert_eq!(patch(source, b"3\n3@~~~~~~~~~~,0;", 1000), None);
    }

    #[test]
    fn any_bytes_come_back() {
        let mut state = 7;
        for _ in 0..500 {
            let source: Vec<u8> = (0..draw(&mut state, 400)).map(|_| draw(&mut state, 3) as u8 + 0x7F).collect();
            let mut target = source.clone();
            target.rotate_left(draw(&mut state, source.len() + 1));
            if let Some(delta) = delta(&source, &target) {
                assert_eq!(patch(&source, &delta, 1000), Some(target));
            }
        }
    }
}
