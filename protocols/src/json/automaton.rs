//! The grammar of RFC 8259, one byte at a time: what a text may go on with.
//!
//! This is the definition that the [block](super::block) step is measured by, and what decides wherever that step does
//! not want to: at the beginning and the end of a text, inside a token that is cut in two, and at a fault, for its place.

use super::validate::{DEPTH_MAX, Fault};

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Value,
    /// A value, or the end of an array just begun.
    FirstElement,
    /// A name, or the end of an object just begun.
    FirstName,
    Name,
    Colon,
    /// A comma or the end of what is open.
    Next,
    /// More of a name.
    InName,
    /// More of a string that is a value.
    InText,
}

/// A token that has begun and is not over. Strings are known by [`Expect`]; here is only what is inside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    None,
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Word(&'static [u8]),
    Escape(Escape),
}

/// How far a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Dot,
    Fraction,
    E,
    Sign,
    Exponent,
}

/// How far an escape is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Letter,
    Unit {
        value: u32,
        digits: u8,
        low: bool,
    },
    /// The second half of a pair has to follow.
    LowBackslash,
    LowLetter,
}

/// The open levels: a bit each, 1 for an object, the innermost lowest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Levels {
    bits: u128,
    depth: usize,
}

/// Where in the grammar a text is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Automaton {
    pub(super) levels: Levels,
    pub(super) expect: Expect,
    token: Token,
}

impl Levels {
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn in_object(&self) -> bool {
        self.bits & 1 == 1
    }

    /// Whether there was room.
    #[must_use]
    pub(super) fn open(&mut self, object: bool) -> bool {
        if self.depth == DEPTH_MAX {
            return false;
        }
        (self.bits, self.depth) = (self.bits << 1 | object as u128, self.depth + 1);
        true
    }

    /// There must be an open level.
    pub(super) fn close(&mut self) {
        (self.bits, self.depth) = (self.bits >> 1, self.depth - 1);
    }
}

impl Number {
    /// `None` if `byte` does not belong to the number.
    fn step(self, byte: u8) -> Option<Number> {
        use Number::*;
        Some(match (self, byte) {
            // No leading zeros: nothing but a fraction or an exponent follows one.
            (Minus, b'0') => Zero,
            (Minus | Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Dot,
            (Dot | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => E,
            (E, b'+' | b'-') => Sign,
            (E | Sign | Exponent, b'0'..=b'9') => Exponent,
            _ => return None,
        })
    }

    fn is_complete(self) -> bool {
        matches!(self, Number::Zero | Number::Integer | Number::Fraction | Number::Exponent)
    }
}

impl Automaton {
    pub(super) fn new() -> Automaton {
        Automaton { levels: Levels::default(), expect: Expect::Value, token: Token::None }
    }

    /// Whether no token but a string is cut in two here, and something is open: a [block](super::block) may follow.
    pub(super) fn is_between_tokens(&self) -> bool {
        self.token == Token::None && self.levels.depth > 0
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.levels.depth == 0
            && match self.token {
                Token::None => self.expect == Expect::Next,
                Token::Number(number) => number.is_complete(),
                Token::Word(_) | Token::Escape(_) => false,
            }
    }

    /// Takes the byte at `at`.
    pub(super) fn step(&mut self, byte: u8, at: usize) -> Result<(), Fault> {
        match self.token {
            Token::None => self.structure(byte, at),
            Token::Number(number) => match number.step(byte) {
                Some(number) => {
                    self.token = Token::Number(number);
                    Ok(())
                }
                None if number.is_complete() => {
                    (self.token, self.expect) = (Token::None, Expect::Next);
                    self.structure(byte, at)
                }
                None => Err(Fault::Unexpected(at)),
            },
            Token::Word(left) => {
                let left = left.strip_prefix(&[byte]).ok_or(Fault::Unexpected(at))?;
                self.token = Token::Word(left);
                if left.is_empty() {
                    (self.token, self.expect) = (Token::None, Expect::Next);
                }
                Ok(())
            }
            Token::Escape(escape) => {
                self.token = escape.step(byte, at)?.map_or(Token::None, Token::Escape);
                Ok(())
            }
        }
    }

    fn structure(&mut self, byte: u8, at: usize) -> Result<(), Fault> {
        use Expect::*;
        match (self.expect, byte) {
            (InName, b'"') => self.expect = Colon,
            (InText, b'"') => self.expect = Next,
            (InName | InText, b'\\') => self.token = Token::Escape(Escape::Letter),
            (InName | InText, 0x20..) => {}
            (InName | InText, _) => return Err(Fault::Unexpected(at)),
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (Next, _) if self.levels.depth == 0 => return Err(Fault::Trailing(at)),
            (FirstElement, b']') | (FirstName, b'}') => self.close(),
            (Next, b']') if !self.levels.in_object() => self.close(),
            (Next, b'}') if self.levels.in_object() => self.close(),
            (Next, b',') => self.expect = if self.levels.in_object() { Name } else { Value },
            (FirstName | Name, b'"') => self.expect = InName,
            (Colon, b':') => self.expect = Value,
            (Value | FirstElement, _) => return self.value(byte, at),
            _ => return Err(Fault::Unexpected(at)),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.levels.close();
        self.expect = Expect::Next;
    }

    fn value(&mut self, first: u8, at: usize) -> Result<(), Fault> {
        match first {
            b'{' | b'[' => {
                let object = first == b'{';
                if !self.levels.open(object) {
                    return Err(Fault::TooDeep(at));
                }
                self.expect = if object { Expect::FirstName } else { Expect::FirstElement };
            }
            b'"' => self.expect = Expect::InText,
            b'-' => self.token = Token::Number(Number::Minus),
            b'0' => self.token = Token::Number(Number::Zero),
            b'1'..=b'9' => self.token = Token::Number(Number::Integer),
            b't' => self.token = Token::Word(b"rue"),
            b'f' => self.token = Token::Word(b"alse"),
            b'n' => self.token = Token::Word(b"ull"),
            _ => return Err(Fault::Unexpected(at)),
        }
        Ok(())
    }
}

impl Escape {
    /// `None` when the escape is over.
    fn step(self, byte: u8, at: usize) -> Result<Option<Escape>, Fault> {
        Ok(match (self, byte) {
            (Escape::Letter, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => None,
            (Escape::Letter, b'u') => Some(Escape::Unit { value: 0, digits: 0, low: false }),
            (Escape::LowBackslash, b'\\') => Some(Escape::LowLetter),
            (Escape::LowLetter, b'u') => Some(Escape::Unit { value: 0, digits: 0, low: true }),
            (Escape::Unit { value, digits, low }, _) => {
                let digit = (byte as char).to_digit(16).ok_or(Fault::Unexpected(at))?;
                let (value, digits) = (value << 4 | digit, digits + 1);
                match value {
                    _ if digits < 4 => Some(Escape::Unit { value, digits, low }),
                    // A lone surrogate is no character (RFC 8259 section 8.2): we refuse what others interpret.
                    0xDC00..=0xDFFF if low => None,
                    _ if low => return Err(Fault::Unexpected(at - 3)),
                    0xD800..=0xDBFF => Some(Escape::LowBackslash),
                    0xDC00..=0xDFFF => return Err(Fault::Unexpected(at - 3)),
                    _ => None,
                }
            }
            _ => return Err(Fault::Unexpected(at)),
        })
    }
}
