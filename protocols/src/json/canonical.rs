//! The one form that Go's `encoding/json` gives a value: members sorted by name, no white space, strings escaped its way.
//!
//! ```text
//! { "b": "<\u0041>", "a": 1.50, "b": [] }      {"a":1.50,"b":[]}
//! ```
//!
//! One pass without a tree: members are written as they come, and at the end of an object that was not in order their
//! finished texts are put in order. Numbers stay as they stand, of equal names the last counts. Strings are escaped as
//! Go 1.22 and later do: `<`, `>`, `&`, U+2028 and U+2029 too, so that the text may stand in HTML and JavaScript.

use std::borrow::Cow;
use std::ops::Range;

use super::lanes::{LANES, Lanes, below};
use super::members::{Name, unescape_one};
use super::skip::{string_len, value_len};
use super::validate::DEPTH_MAX;
use crate::output::append;

/// Deeper levels are passed on as they stand. A group, a collection and a flatmap's paths go around what was validated;
/// no configuration comes near to this, and a text that was never validated cannot exhaust the stack.
const WRITTEN_DEPTH_MAX: usize = 2 * DEPTH_MAX;

/// Appends `text` in canonical form. It must have passed [`validate`](super::validate).
pub fn canonical(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len());
    Canonical { text, at: 0, out, members: Vec::new(), ordered: Vec::new() }.value(0);
}

struct Canonical<'a, 'o> {
    text: &'a [u8],
    at: usize,
    out: &'o mut Vec<u8>,
    /// A stack that the open objects share.
    members: Vec<Member<'a>>,
    /// Where members are put in order.
    ordered: Vec<u8>,
}

struct Member<'a> {
    name: Cow<'a, [u8]>,
    /// Name and value in the output.
    written: Range<usize>,
}

impl<'a> Canonical<'a, '_> {
    fn white_space(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn value(&mut self, depth: usize) {
        match self.white_space() {
            Some(b'{') if depth < WRITTEN_DEPTH_MAX => self.object(depth),
            Some(b'[') if depth < WRITTEN_DEPTH_MAX => self.array(depth),
            Some(b'"') => drop(self.string()),
            _ => {
                let plain = &self.text[self.at..];
                let plain = &plain[..value_len(plain)];
                self.out.extend_from_slice(plain);
                self.at += plain.len();
            }
        }
    }

    fn string(&mut self) -> Name<'a> {
        let text = &self.text[self.at..];
        if let Some(len) = self.short_string(text) {
            self.at += len;
            return Name::new(&text[..len], false);
        }
        let (len, escaped) = string_len(text);
        let name = Name::new(&text[..len], escaped);
        write_escaped(self.out, name.raw());
        self.at += len;
        name
    }

    /// Appends a string that stays as it is and ends within a block, as most do; its length.
    fn short_string(&mut self, text: &[u8]) -> Option<usize> {
        let block = text.first_chunk()?;
        let lanes = Lanes::new(block);
        let end = (lanes.equal(b'"') & !1).trailing_zeros() as usize;
        let special = lanes.either(b'\\', b'&') | lanes.either(b'<', b'>') | lanes.equal(0xE2);
        if end == LANES || special & below(end) != 0 {
            return None;
        }
        // A copy of a fixed size is a few moves, and what is too much goes again.
        self.out.extend_from_slice(block);
        self.out.truncate(self.out.len() - (LANES - 1 - end));
        Some(end + 1)
    }

    fn array(&mut self, depth: usize) {
        self.at += 1;
        self.out.push(b'[');
        let begin = self.out.len();
        while let Some(byte) = self.white_space()
            && byte != b']'
        {
            self.at += (byte == b',') as usize;
            if self.out.len() > begin {
                self.out.push(b',');
            }
            self.value(depth + 1);
        }
        self.at += 1;
        self.out.push(b']');
    }

    fn object(&mut self, depth: usize) {
        self.at += 1;
        self.out.push(b'{');
        let (begin, first) = (self.out.len(), self.members.len());
        while let Some(byte) = self.white_space()
            && byte != b'}'
        {
            self.at += (byte == b',') as usize;
            if self.out.len() > begin {
                self.out.push(b',');
            }
            self.member(depth);
        }
        self.at += 1;
        if !self.members[first..].is_sorted_by(|one, other| one.name < other.name) {
            self.put_in_order(begin, first);
        }
        self.members.truncate(first);
        self.out.push(b'}');
    }

    fn member(&mut self, depth: usize) {
        let begin = self.out.len();
        self.white_space();
        let name = self.string().bytes();
        self.white_space();
        self.at += 1;
        self.out.push(b':');
        self.value(depth + 1);
        self.members.push(Member { name, written: begin..self.out.len() });
    }

    fn put_in_order(&mut self, begin: usize, first: usize) {
        let members = &mut self.members[first..];
        members.sort_unstable_by(|one, other| (&one.name, one.written.start).cmp(&(&other.name, other.written.start)));
        self.ordered.clear();
        let mut members = members.iter().peekable();
        while let Some(member) = members.next() {
            if members.peek().is_some_and(|next| next.name == member.name) {
                continue;
            }
            if !self.ordered.is_empty() {
                self.ordered.push(b',');
            }
            append(&mut self.ordered, &self.out[member.written.clone()]);
        }
        self.out.truncate(begin);
        append(self.out, &self.ordered);
    }
}

/// Whether a byte of a string may be written otherwise than it stands.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'\\' | b'<' | b'>' | b'&' | 0xE2)
}

/// Appends a string as it stands in a text, with other escapes.
fn write_escaped(out: &mut Vec<u8>, raw: &[u8]) {
    // Without branches this is a few vector comparisons, and most strings have nothing of it.
    if !raw.iter().fold(false, |any, &byte| any | is_special(byte)) {
        return append(out, raw);
    }
    let mut rest = raw;
    while let Some(plain) = rest.iter().position(|&byte| is_special(byte)) {
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let (character, len) = match rest {
            [b'\\', ..] => unescape_one(rest).unwrap_or(('\\', 1)),
            [0xE2, 0x80, 0xA8, ..] => ('\u{2028}', 3),
            [0xE2, 0x80, 0xA9, ..] => ('\u{2029}', 3),
            [0xE2, ..] => {
                out.push(0xE2);
                rest = &rest[1..];
                continue;
            }
            _ => (rest[0] as char, 1),
        };
        write_character(out, character);
        rest = &rest[len..];
    }
    out.extend_from_slice(rest);
}

fn write_character(out: &mut Vec<u8>, character: char) {
    let short = match character {
        '"' | '\\' => character as u8,
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{C}' => b'f',
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..' ' => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u");
            out.extend([12, 8, 4, 0].map(|shift| DIGITS[(character as usize >> shift) & 15]));
            return;
        }
        _ => return out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::validate;

    fn written(text: &str) -> String {
        validate(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        canonical(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_are_sorted_at_each_level_and_the_last_counts() {
        assert_eq!(
            written(r#" { "b" : [ 1.50 , {"y":2, "x":[ ]} ] , "a\u0062":{}, "B":1, "ab":null, "é":-0 } "#),
            r#"{"B":1,"ab":null,"b":[1.50,{"x":[],"y":2}],"é":-0}"#
        );
        assert_eq!(written(r#"{"":{"z":1,"z":{"q":2,"p":3}},"a":[]}"#), r#"{"":{"z":{"p":3,"q":2}},"a":[]}"#);
        assert_eq!(written("[]"), "[]");
        assert_eq!(written(" true "), "true");
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(
            written(r#""<a href=\"x\">\u0026&amp;\/ \u00e9 \ud83d\ude00 \b\f\n\r\t \u0001\u007f ""#),
            r#""\u003ca href=\"x\"\u003e\u0026\u0026amp;/ é 😀 \b\f\n\r\t \u0001"#.to_owned() + "\u{7F} \""
        );
        assert_eq!(
            written("\"\u{2028}\u{2029}\u{2027}€\\u2028\\\\u003c\""),
            r#""\u2028\u2029"#.to_owned() + "\u{2027}€\\u2028\\\\u003c\""
        );
    }

    #[test]
    fn the_deepest_nesting_is_written() {
        let text = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
        assert_eq!(written(&text), text);
        let text = "{\"a\":".repeat(DEPTH_MAX) + "1" + &"}".repeat(DEPTH_MAX);
        assert_eq!(written(&text), text);
    }
}
