//! Walking an object by spans.

use std::borrow::Cow;
use std::ops::Range;

use super::skip::{string_len, value_len};
use super::validate::{Kind, kind_of};

/// A value inside a validated text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
}

/// A member's name inside a validated text. Names are equal if what they say is, not how it is escaped.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    raw: &'a [u8],
    escaped: bool,
}

/// The members of an object, in order. The text must have passed [`validate`](super::validate).
#[derive(Clone, Debug)]
pub struct Members<'a>(Entries<'a>);

/// A member with its place.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: Name<'a>,
    pub(super) value: Value<'a>,
    /// From the name's quote to the value's end, in the object's text.
    pub(super) span: Range<usize>,
}

/// [`Members`] with the names as they stand.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a> {
    object: &'a [u8],
    at: usize,
}

/// The elements of an array, in order. The text must have passed [`validate`](super::validate).
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

fn trim(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    &text[begin..]
}

impl<'a> Name<'a> {
    pub(super) fn new(raw: &'a [u8], escaped: bool) -> Name<'a> {
        Name { raw, escaped }
    }

    /// A name that is known: its text in quotes, without escapes or with.
    pub(super) fn literal(raw: &'a [u8]) -> Name<'a> {
        Name { raw, escaped: raw.contains(&b'\\') }
    }

    /// The name as it stands, in quotes.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// What it says. Borrowed unless there are escapes.
    pub fn text(self) -> Cow<'a, str> {
        // Without escapes and valid as they are, names are always strings; an empty one is what others would be taken for.
        Value { raw: self.raw }.string().unwrap_or_default()
    }

    /// [`Name::text`] as bytes, which costs nothing without escapes.
    pub(super) fn bytes(self) -> Cow<'a, [u8]> {
        match self.raw.get(1..self.raw.len().saturating_sub(1)) {
            Some(inner) if !self.escaped => Cow::Borrowed(inner),
            _ => Cow::Owned(self.text().into_owned().into_bytes()),
        }
    }

    /// Whether it says `text`.
    pub fn is(self, text: &str) -> bool {
        *self.bytes() == *text.as_bytes()
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Name<'_>) -> bool {
        if self.escaped || other.escaped { self.bytes() == other.bytes() } else { self.raw == other.raw }
    }
}

impl Eq for Name<'_> {}

impl<'a> Value<'a> {
    /// The whole of a validated text, without the white space around it.
    pub fn of(text: &'a [u8]) -> Value<'a> {
        Value { raw: text.trim_ascii() }
    }

    /// The text of the value.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.raw.first().copied().and_then(kind_of).unwrap_or(Kind::Null)
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// A string's text; `None` if it is none. Borrowed unless there are escapes.
    pub fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let text = std::str::from_utf8(inner).ok()?;
        if inner.contains(&b'\\') { unescape(text).map(Cow::Owned) } else { Some(Cow::Borrowed(text)) }
    }

    /// An integer that fits; `None` for everything else, fractions and exponents included.
    pub fn integer(self) -> Option<i64> {
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    /// As [`Value::integer`], for the upper half of the range.
    pub fn unsigned(self) -> Option<u64> {
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Option<bool> {
        match self.raw {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// An object's members; `None` if it is none.
    pub fn members(self) -> Option<Members<'a>> {
        self.entries().map(Members)
    }

    pub(super) fn entries(self) -> Option<Entries<'a>> {
        (self.kind() == Kind::Object).then_some(Entries { object: self.raw, at: 1 })
    }

    /// An array's elements; `None` if it is none.
    pub fn elements(self) -> Option<Elements<'a>> {
        (self.kind() == Kind::Array).then(|| Elements { rest: &self.raw[1..] })
    }

    /// The last member of that name; `None` if there is none, or it is no object.
    pub fn member(self, name: &str) -> Option<Value<'a>> {
        self.entries()?.filter(|entry| entry.name.is(name)).last().map(|entry| entry.value)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| (entry.name.text(), entry.value))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let text = trim(&self.object[self.at..]);
        let text = trim(text.strip_prefix(b",").unwrap_or(text));
        if text.first() != Some(&b'"') {
            return None;
        }
        let (len, escaped) = string_len(text);
        let (name, rest) = text.split_at(len);
        let rest = trim(trim(rest).strip_prefix(b":")?);
        let (raw, rest) = rest.split_at(value_len(rest));
        self.at = self.object.len() - rest.len();
        let span = self.object.len() - text.len()..self.at;
        Some(Entry { name: Name { raw: name, escaped }, value: Value { raw }, span })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let text = trim(self.rest);
        let text = trim(text.strip_prefix(b",").unwrap_or(text));
        if matches!(text.first(), None | Some(b']')) {
            return None;
        }
        let (raw, rest) = text.split_at(value_len(text));
        self.rest = rest;
        Some(Value { raw })
    }
}

/// Resolves the escapes of a validated string.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (character, len) = unescape_one(&rest.as_bytes()[at..])?;
        out.push(character);
        rest = rest.get(at + len..)?;
    }
    out.push_str(rest);
    Some(out)
}

/// The character that the escape at `text` stands for, and the escape's length; a pair of surrogates is one.
pub(super) fn unescape_one(text: &[u8]) -> Option<(char, usize)> {
    let plain = match text.get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(text)?;
            if !(0xD800..0xDC00).contains(&first) {
                return Some((char::from_u32(first)?, 6));
            }
            let second = unit(text.get(6..)?)?.checked_sub(0xDC00).filter(|bits| *bits < 0x400)?;
            return Some((char::from_u32(0x10000 + ((first - 0xD800) << 10) + second)?, 12));
        }
        plain => *plain as char,
    };
    Some((plain, 2))
}

/// The number in an escape of the form `\u00e9`.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | (digit as char).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::validate;

    fn members(text: &str) -> Vec<(String, String)> {
        validate(text.as_bytes()).unwrap();
        let all = Value::of(text.as_bytes()).members().unwrap();
        all.map(|(name, value)| (name.into_owned(), String::from_utf8(value.raw().to_vec()).unwrap())).collect()
    }

    #[test]
    fn spans_are_the_members_texts() {
        let found =
            members(" { \"a\" : 1 , \"b\\u0063\":[1,{\"x\":\"}\"}],\"d\":\"\\\\\\\"\" ,\"e\":{ } , \"f\": null } ");
        let expected = [("a", "1"), ("bc", "[1,{\"x\":\"}\"}]"), ("d", "\"\\\\\\\"\""), ("e", "{ }"), ("f", "null")];
        assert_eq!(found, expected.map(|(name, raw)| (name.to_owned(), raw.to_owned())));
        assert_eq!(members("{}"), []);
    }

    #[test]
    fn scalars_are_read() {
        let value = |text: &'static str| Value::of(text.as_bytes());
        assert_eq!(value("\"a\\u00e9\\ud83d\\ude00\\n\"").string().unwrap(), "aé😀\n");
        assert!(matches!(value("\"plain\"").string(), Some(Cow::Borrowed("plain"))));
        assert_eq!(value("12").string(), None);
        assert_eq!(value("-12").integer(), Some(-12));
        assert_eq!(value("1.0").integer(), None);
        assert_eq!(value("18446744073709551615").unsigned(), Some(u64::MAX));
        assert_eq!(value("true").boolean(), Some(true));
        assert!(value(" null ").is_null());
        assert!(value("[]").members().is_none());
    }

    #[test]
    fn names_are_equal_by_what_they_say() {
        let object = Value::of(b"{\"a\":1,\"\\u0061\":[ 2 , {\"b\":[]},\"]\"],\"\":3}");
        let names: Vec<_> = object.entries().unwrap().map(|entry| entry.name).collect();
        assert!(
            names[0] == names[1] && names[1].is("a") && names[0].is("a") && names[2].is("") && names[0] != names[2]
        );
        let last = object.member("a").unwrap();
        let elements: Vec<_> = last.elements().unwrap().map(Value::raw).collect();
        assert_eq!(elements, [&b"2"[..], b"{\"b\":[]}", b"\"]\""]);
        assert_eq!(object.member("b"), None);
        assert_eq!(Value::of(b"[]").elements().unwrap().count(), 0);
    }

    #[test]
    fn agrees_with_serde_json_on_nested_objects() {
        let text =
            "{\"k0\":{\"a\":[{},[[]],\"]\"]},\"k1\":\"\\\"{\",\"k2\":-1e5,\"k3\":[\"a\",{\"b\":{\"c\":[1,2,{}]}}]}";
        let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        let ours = members(text);
        assert_eq!(ours.len(), parsed.len());
        for (name, raw) in ours {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&raw).unwrap(), parsed[&name]);
        }
    }
}
