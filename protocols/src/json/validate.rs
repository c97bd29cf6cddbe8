//! Is it one value? Structure, numbers, strings, UTF-8, depth; whole or in pieces.

use std::fmt;

use super::automaton::Automaton;
use super::block::{BLOCK_BYTES, advance};
use super::lanes::LANES;

/// Deepest nesting of arrays and objects. Beyond it: [`Fault::TooDeep`].
pub const DEPTH_MAX: usize = 128;

/// Fewer bytes than this are not worth a block.
const BLOCK_BYTES_MIN: usize = 8;

/// What a value is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// Digits, sign, fraction, exponent.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`
    Null,
}

/// Why a text is not one JSON value, and at which byte that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not UTF-8, and nothing else was wrong before that.
    Utf8,
    /// The text ends inside a value, or has none.
    Incomplete,
    /// A byte that cannot be here.
    Unexpected(usize),
    /// Something follows the value.
    Trailing(usize),
    /// More than [`DEPTH_MAX`] levels.
    TooDeep(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Utf8 => f.write_str("not UTF-8"),
            Fault::Incomplete => f.write_str("incomplete"),
            Fault::Unexpected(at) => write!(f, "unexpected byte at {at}"),
            Fault::Trailing(at) => write!(f, "something after the value at {at}"),
            Fault::TooDeep(at) => write!(f, "more than {DEPTH_MAX} levels at {at}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Checks a text that arrives in pieces. It keeps nothing of them but up to three bytes of a character that is cut in
/// two, so its size is constant; it says the same of a text, at the same byte, however the text is cut.
///
/// ```
/// use annulus_protocols::json::{Fault, Kind, Validator};
///
/// let mut validator = Validator::new();
/// validator.feed(b"{\"stock\":1").unwrap();
/// validator.feed(b"2}").unwrap();
/// assert_eq!(validator.finish(), Ok(Kind::Object));
/// assert_eq!(validator.feed(b"{"), Err(Fault::Trailing(12)));
/// ```
#[derive(Clone, Debug)]
pub struct Validator {
    automaton: Automaton,
    kind: Option<Kind>,
    /// Bytes that the automaton has taken.
    taken: usize,
    /// The beginning of a character whose end is in the next piece.
    character: [u8; 4],
    character_len: usize,
    fault: Option<Fault>,
}

/// Checks that `text` is exactly one value, with white space around it at most; the value's kind.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(text: &[u8]) -> Result<Kind, Fault> {
    let mut validator = Validator::new();
    validator.feed(text)?;
    validator.finish()
}

impl Default for Validator {
    fn default() -> Validator {
        Validator::new()
    }
}

impl Validator {
    /// Before the first byte.
    pub fn new() -> Validator {
        Validator {
            automaton: Automaton::new(),
            kind: None,
            taken: 0,
            character: [0; 4],
            character_len: 0,
            fault: None,
        }
    }

    /// Takes the next piece of the text. Positions in faults count from the beginning of the text.
    ///
    /// # Errors
    /// The first thing that is wrong with the text so far; the same again for every later call.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.take(piece).inspect_err(|&fault| self.fault = Some(fault))
    }

    /// Ends the text: what it is. More may still be fed, as if this had not been asked.
    ///
    /// # Errors
    /// What was wrong with the text, or that it ends too early.
    pub fn finish(&self) -> Result<Kind, Fault> {
        match (self.fault, self.kind) {
            (Some(fault), _) => Err(fault),
            (None, _) if self.character_len > 0 => Err(Fault::Utf8),
            (None, Some(kind)) if self.automaton.is_complete() => Ok(kind),
            (None, _) => Err(Fault::Incomplete),
        }
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let piece = self.end_character(piece)?;
        if simdutf8::basic::from_utf8(piece).is_ok() {
            return self.scan(piece);
        }
        let Err(error) = simdutf8::compat::from_utf8(piece) else { return Err(Fault::Utf8) };
        let (good, rest) = piece.split_at(error.valid_up_to());
        self.scan(good)?;
        if error.error_len().is_some() {
            return Err(Fault::Utf8);
        }
        self.character[..rest.len()].copy_from_slice(rest);
        self.character_len = rest.len();
        Ok(())
    }

    /// Takes what belongs to a character that began in an earlier piece; the rest.
    fn end_character<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], Fault> {
        while self.character_len > 0
            && let Some((&byte, rest)) = piece.split_first()
        {
            self.character[self.character_len] = byte;
            self.character_len += 1;
            piece = rest;
            let character = self.character;
            match std::str::from_utf8(&character[..self.character_len]) {
                Ok(text) => {
                    self.character_len = 0;
                    self.scan(text.as_bytes())?;
                }
                // Longer than four bytes is wrong at the latest in the fourth, so there is always room.
                Err(error) if error.error_len().is_some() => return Err(Fault::Utf8),
                Err(_) => {}
            }
        }
        Ok(piece)
    }

    /// Goes through bytes that are UTF-8: in blocks where that goes, and else one by one.
    fn scan(&mut self, mut text: &[u8]) -> Result<(), Fault> {
        if self.kind.is_none() {
            let first = text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            self.kind = first.and_then(|&byte| kind_of(byte));
        }
        loop {
            if self.automaton.is_between_tokens() {
                text = self.scan_blocks(text);
            }
            let Some((&byte, rest)) = text.split_first() else { return Ok(()) };
            self.automaton.step(byte, self.taken)?;
            (self.taken, text) = (self.taken + 1, rest);
        }
    }

    /// What is left when a block takes nothing.
    fn scan_blocks<'a>(&mut self, mut text: &'a [u8]) -> &'a [u8] {
        while text.len() >= BLOCK_BYTES_MIN && self.automaton.is_between_tokens() {
            let taken = match text.first_chunk() {
                Some(block) => advance(&mut self.automaton, block, BLOCK_BYTES),
                None => {
                    let mut block = [b' '; LANES];
                    block[..text.len()].copy_from_slice(text);
                    advance(&mut self.automaton, &block, text.len())
                }
            };
            let Some(taken) = taken else { break };
            (self.taken, text) = (self.taken + taken, &text[taken..]);
        }
        text
    }
}

/// The kind of the value that begins with `byte`.
pub(super) fn kind_of(byte: u8) -> Option<Kind> {
    Some(match byte {
        b'{' => Kind::Object,
        b'[' => Kind::Array,
        b'"' => Kind::String,
        b'-' | b'0'..=b'9' => Kind::Number,
        b't' | b'f' => Kind::Bool,
        b'n' => Kind::Null,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[&str] = &[
        "0",
        "-0",
        "12",
        "-1.5e+7",
        "1E2",
        "0.0",
        "\"\"",
        "\"a\\u00e9\\n\\\"\"",
        "\"\\ud83d\\ude00\"",
        "true",
        " false ",
        "null",
        "[]",
        "{}",
        "[ ]",
        "[1,2,[3]]",
        "{\"a\":1,\"b\":{\"c\":[]}}",
        "\t{\"a\" : [ {} , null ] }\r\n",
        "\"é水\"",
    ];
    const BAD: &[&str] = &[
        "",
        " ",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"a\nb\"",
        "tru",
        "nul",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[1}",
        "{\"a\":1]",
        "1 2",
        "{} {}",
        "NaN",
        "\u{feff}1",
        "[1]x",
    ];

    #[test]
    fn agrees_with_serde_json_on_a_table() {
        for text in GOOD.iter().chain(BAD) {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(validate(text.as_bytes()).is_ok(), expected, "{text:?}");
        }
        assert!(GOOD.iter().all(|text| validate(text.as_bytes()).is_ok()));
        assert!(BAD.iter().all(|text| validate(text.as_bytes()).is_err()));
    }

    #[test]
    fn every_prefix_and_every_changed_byte_agrees_with_serde_json() {
        let text = "{\"a\":[1,-2.5e3,true,null,\"x\\u00e9\\\\\"],\"b\":{\"c\":\"水\"},\"d\":[[],{}]}";
        let agree = |bytes: &[u8]| {
            let ours = validate(bytes).is_ok();
            assert_eq!(ours, serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "{}", bytes.escape_ascii());
        };
        for end in 0..text.len() {
            agree(&text.as_bytes()[..end]);
        }
        for at in 0..text.len() {
            for byte in 0..=255u8 {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = byte;
                agree(&changed);
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(validate(nested(DEPTH_MAX).as_bytes()), Ok(Kind::Array));
        assert_eq!(validate(nested(DEPTH_MAX + 1).as_bytes()), Err(Fault::TooDeep(DEPTH_MAX)));
        assert_eq!(validate(b"[\xff]"), Err(Fault::Utf8));
    }

    /// The verdict of the automaton alone, which is the definition.
    fn byte_by_byte(text: &[u8]) -> Result<Kind, Fault> {
        let mut validator = Validator::new();
        text.iter().try_for_each(|&byte| validator.feed(&[byte]))?;
        validator.finish()
    }

    #[test]
    fn blocks_and_bytes_agree_at_every_shift_and_change() {
        let text = "{\"a\":[1,-2.5e3,true,null,\"x\\u00e9\\\\\",0,-0.10],\"b\" : {\"c\":\"水\"},\"\\ud83d\\ude00\":[[],{}],\"\":7}";
        for shift in 0..64 {
            let padded = format!("[{},{text}]", " ".repeat(shift) + "1").into_bytes();
            assert_eq!(validate(&padded), Ok(Kind::Array));
            for at in shift..padded.len() {
                for byte in *b"\"\\{}[],:0123-+.eEtu \n\x00\x80x" {
                    let mut changed = padded.clone();
                    changed[at] = byte;
                    assert_eq!(validate(&changed), byte_by_byte(&changed), "{}", changed.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn every_cut_gives_the_same_verdict() {
        let text =
            "{\"é水😀\":[1.5,\"\\ud83d\\ude00\",false,{\"a\":\"bcdefghijklmnopqrstuvwxyz0123456789\"}]}".as_bytes();
        let mut wrong = text.to_vec();
        wrong[text.len() - 4] = 0xFF;
        for whole in [text, &wrong, &text[..text.len() - 2], b"[\"\xE6\xB0", b"[\"\xE6\xB0x\"]", b"[1,\xE6\xB0\xB4]"] {
            let expected = validate(whole);
            for first in 0..=whole.len() {
                for second in first..=whole.len() {
                    let mut validator = Validator::new();
                    let pieces = [&whole[..first], &whole[first..second], &whole[second..]];
                    let fed = pieces.into_iter().try_for_each(|piece| validator.feed(piece));
                    assert_eq!(fed.and_then(|()| validator.finish()), expected);
                    assert_eq!(validator.finish(), expected, "the verdict stays");
                }
            }
        }
        assert_eq!(validate(&wrong), Err(Fault::Utf8));
        assert_eq!(validate(b"[1,\xE6\xB0\xB4]"), Err(Fault::Unexpected(3)));
        assert_eq!(validate(b"[\"\\udc00\"]"), Err(Fault::Unexpected(4)));
        assert_eq!(validate(b"{} x"), Err(Fault::Trailing(3)));
    }
}
