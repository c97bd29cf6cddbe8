//! One pass over a text: structure, numbers, strings, UTF-8, depth.

use std::fmt;

/// Deepest nesting of arrays and objects. Beyond it: [`Fault::TooDeep`].
pub const DEPTH_MAX: usize = 128;

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
    /// Not UTF-8.
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

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// A value, or the end of an array just begun.
    FirstElement,
    /// A name, or the end of an object just begun.
    FirstName,
    Name,
    /// A comma or the end of what is open.
    Next,
}

/// Checks that `text` is exactly one value, with white space around it at most; the value's kind.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(text: &[u8]) -> Result<Kind, Fault> {
    simdutf8::basic::from_utf8(text).map_err(|_| Fault::Utf8)?;
    let mut scan = Scan { text, at: 0 };
    scan.white_space();
    let kind = kind_of(scan.peek().ok_or(Fault::Incomplete)?).ok_or(Fault::Unexpected(scan.at))?;
    // A bit per open level: 1 for an object.
    let (mut open, mut depth) = (0u128, 0);
    let mut expect = Expect::Value;
    loop {
        scan.white_space();
        let at = scan.at;
        let Some(byte) = scan.peek() else {
            return if depth == 0 && expect == Expect::Next { Ok(kind) } else { Err(Fault::Incomplete) };
        };
        if depth == 0 && expect == Expect::Next {
            return Err(Fault::Trailing(at));
        }
        let in_object = open & 1 == 1;
        match (expect, byte) {
            (Expect::FirstElement, b']') | (Expect::FirstName, b'}') => {
                scan.at += 1;
                (open, depth, expect) = (open >> 1, depth - 1, Expect::Next);
            }
            (Expect::Next, b']') if !in_object => {
                scan.at += 1;
                (open, depth) = (open >> 1, depth - 1);
            }
            (Expect::Next, b'}') if in_object => {
                scan.at += 1;
                (open, depth) = (open >> 1, depth - 1);
            }
            (Expect::Next, b',') => {
                scan.at += 1;
                expect = if in_object { Expect::Name } else { Expect::Value };
            }
            (Expect::FirstName | Expect::Name, b'"') => {
                scan.string()?;
                scan.white_space();
                scan.byte(b':')?;
                expect = Expect::Value;
            }
            (Expect::Value | Expect::FirstElement, b'{' | b'[') => {
                if depth == DEPTH_MAX {
                    return Err(Fault::TooDeep(at));
                }
                scan.at += 1;
                let object = byte == b'{';
                (open, depth) = (open << 1 | object as u128, depth + 1);
                expect = if object { Expect::FirstName } else { Expect::FirstElement };
            }
            (Expect::Value | Expect::FirstElement, _) => {
                scan.scalar(byte)?;
                expect = Expect::Next;
            }
            _ => return Err(Fault::Unexpected(at)),
        }
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

/// A position in the text.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(Fault::Unexpected(self.at)),
            None => Err(Fault::Incomplete),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Fault> {
        match first {
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Fault::Unexpected(self.at)),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        word.iter().try_for_each(|&byte| self.byte(byte))
    }

    /// Digits, at least one.
    fn digits(&mut self) -> Result<(), Fault> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.peek() {
            _ if self.at > begin => Ok(()),
            Some(_) => Err(Fault::Unexpected(self.at)),
            None => Err(Fault::Incomplete),
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            // No leading zeros.
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            self.at += plain.ok_or(Fault::Incomplete)?;
            match self.text[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err(Fault::Unexpected(self.at)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        match self.peek().ok_or(Fault::Incomplete)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                let unit = self.hex4()?;
                // A lone surrogate is no character (RFC 8259 section 8.2): we refuse what others interpret.
                match unit {
                    0xD800..=0xDBFF => {
                        self.byte(b'\\')?;
                        self.byte(b'u')?;
                        let at = self.at;
                        if !matches!(self.hex4()?, 0xDC00..=0xDFFF) {
                            return Err(Fault::Unexpected(at));
                        }
                    }
                    0xDC00..=0xDFFF => return Err(Fault::Unexpected(self.at - 4)),
                    _ => {}
                }
            }
            _ => return Err(Fault::Unexpected(self.at)),
        }
        Ok(())
    }

    fn hex4(&mut self) -> Result<u16, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let byte = self.peek().ok_or(Fault::Incomplete)?;
            let digit = (byte as char).to_digit(16).ok_or(Fault::Unexpected(self.at))?;
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }
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
}
