//! Walking an object by spans.

use std::borrow::Cow;

use super::validate::{Kind, kind_of};

/// A value inside a validated text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
}

/// The members of an object, in order. The text must have passed [`validate`](super::validate).
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
}

fn trim(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    &text[begin..]
}

/// The length of the string that begins at `text`, quotes included.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of the value that begins at `text`.
fn value_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_len(text),
        Some(b'{' | b'[') => {
            let (mut depth, mut at) = (0, 0);
            while at < text.len() {
                match text[at] {
                    b'"' => {
                        at += string_len(&text[at..]);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return at;
                }
            }
            text.len()
        }
        _ => text
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace())
            .unwrap_or(text.len()),
    }
}

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
        (self.kind() == Kind::Object).then(|| Members { rest: &self.raw[1..] })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = trim(self.rest);
        let text = trim(text.strip_prefix(b",").unwrap_or(text));
        if text.first() != Some(&b'"') {
            return None;
        }
        let (name, rest) = text.split_at(string_len(text));
        let rest = trim(trim(rest).strip_prefix(b":")?);
        let (raw, rest) = rest.split_at(value_len(rest));
        self.rest = rest;
        Some((Value { raw: name }.string()?, Value { raw }))
    }
}

/// Resolves the escapes of a validated string.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1)?;
        rest = &rest[at + 2..];
        match escape {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let mut unit = hex(rest.get(..4)?)?;
                rest = &rest[4..];
                if (0xD800..0xDC00).contains(&unit) {
                    let low = hex(rest.strip_prefix("\\u")?.get(..4)?)?;
                    rest = &rest[6..];
                    unit = 0x10000 + ((unit - 0xD800) << 10) + low.checked_sub(0xDC00)?;
                }
                out.push(char::from_u32(unit)?);
            }
            plain => out.push(*plain as char),
        }
    }
    out.push_str(rest);
    Some(out)
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
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
