//! Members of a JSON object, none of them twice.
//!
//! JSON leaves open which of two members of the same name counts (RFC 8259 section 4). Where a signature stands for
//! what is read, two readers must not read two things, so such an object is refused (RFC 7519 section 4 allows it).
//! Null is taken for absent, as backends write it that leave nothing out.

use std::borrow::Cow;

use annulus_protocols::json::{Kind, Value, validate};

use super::TokenError;

/// Times beyond have no exact number in JSON as most people read it (RFC 8259 section 6), and are refused.
const TIME_MAX: u64 = 1 << 53;

/// A member: its name and its value.
pub(crate) type Member<'a> = (Cow<'a, str>, Value<'a>);

/// Why it is no object of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoObject,
    Twice,
}

/// The members of a text that is one object.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Member<'_>>, Refused> {
    validate(text).map_err(|_| Refused::NoObject)?;
    members(Value::of(text))
}

/// The claims of a token's payload.
pub(crate) fn claims(payload: &[u8]) -> Result<Vec<Member<'_>>, TokenError> {
    parse(payload).map_err(|refused| match refused {
        Refused::NoObject => TokenError::Invalid("its payload is no JSON object"),
        Refused::Twice => TokenError::Invalid("its payload has a claim twice"),
    })
}

/// The members of an object in a text that was checked.
pub(crate) fn members(object: Value<'_>) -> Result<Vec<Member<'_>>, Refused> {
    let members: Vec<Member<'_>> = object.members().ok_or(Refused::NoObject)?.collect();
    // Sorted, because a peer may send thousands of names.
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    match names.windows(2).any(|two| two[0] == two[1]) {
        true => Err(Refused::Twice),
        false => Ok(members.into_iter().filter(|(_, value)| !value.is_null()).collect()),
    }
}

/// A time in seconds, rounded down: a number, which may have a fraction (RFC 7519 section 2, NumericDate).
pub(crate) fn time(value: Value<'_>) -> Option<i64> {
    let within = |seconds: i64| (seconds.unsigned_abs() <= TIME_MAX).then_some(seconds);
    if let Some(whole) = value.integer() {
        return within(whole);
    }
    if value.kind() != Kind::Number {
        return None;
    }
    let number: f64 = std::str::from_utf8(value.raw()).ok()?.parse().ok()?;
    within(number.floor() as i64) // What is too large for an i64 becomes the largest.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_once_and_never_null() {
        let found = parse(br#" {"a":1,"b":null,"\u0063":{"a":1,"a":2}} "#).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["a", "c"]);
        for twice in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":1,"a":null,"b":2,"a":null}"#] {
            assert_eq!(parse(twice.as_bytes()).unwrap_err(), Refused::Twice, "{twice}");
        }
        for other in ["[]", "1", "null", "", "{", "{}{}", "{\"a\":1,}", "\u{feff}{}"] {
            assert_eq!(parse(other.as_bytes()).unwrap_err(), Refused::NoObject, "{other}");
        }
        assert_eq!(parse(b"{\"a\":\"\xFF\"}").unwrap_err(), Refused::NoObject);
    }

    #[test]
    fn times_are_numbers_of_any_writing() {
        let of = |text: &'static str| time(Value::of(text.as_bytes()));
        for (text, seconds) in [
            ("0", 0),
            ("1300819380", 1_300_819_380),
            ("1300819380.999", 1_300_819_380),
            ("1.30081938e9", 1_300_819_380),
            ("1E3", 1000),
            ("-0.5", -1),
            ("-3", -3),
            ("9007199254740992", 1 << 53),
        ] {
            assert_eq!(of(text), Some(seconds), "{text}");
        }
        for text in ["9007199254740993", "1e400", "-1e400", "1e20", "\"12\"", "true", "null", "{}", "[1]"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
