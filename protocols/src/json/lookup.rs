//! What a later request takes from an earlier answer: a value by its path, as text.

use std::borrow::Cow;

use super::members::Value;
use super::validate::Kind;

/// The value at a dotted path through objects. Arrays have no names in them, so no path leads through one.
/// `text` must have passed [`validate`](super::validate).
pub fn lookup<'a>(text: &'a [u8], path: &str) -> Option<Value<'a>> {
    path.split('.').try_fold(Value::of(text), |value, name| value.member(name))
}

impl<'a> Value<'a> {
    /// The value as it is put into a request: a string without its quotes and escapes, numbers and booleans as they
    /// stand, an array of these joined by commas. `None` for `null`, objects, and arrays that hold such or arrays: there
    /// is no text that a backend would understand. It is not encoded for a URL or a header field; nothing in it is to be
    /// trusted.
    pub fn plain_text(self) -> Option<Cow<'a, str>> {
        let Some(elements) = self.elements() else { return self.plain_scalar() };
        let mut joined = String::new();
        for (index, element) in elements.enumerate() {
            if index > 0 {
                joined.push(',');
            }
            joined.push_str(&element.plain_scalar()?);
        }
        Some(Cow::Owned(joined))
    }

    fn plain_scalar(self) -> Option<Cow<'a, str>> {
        match self.kind() {
            Kind::String => self.string(),
            Kind::Number | Kind::Bool => std::str::from_utf8(self.raw()).ok().map(Cow::Borrowed),
            Kind::Null | Kind::Object | Kind::Array => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_objects_only() {
        let text = b"{\"a\":{\"b\":1,\"\\u0062\":{\"c\":true}},\"l\":[{\"x\":1}],\"\":{\"\":2}}";
        let found = |path| lookup(text, path).map(|value| value.raw().escape_ascii().to_string());
        assert_eq!(found("a.b.c").as_deref(), Some("true"));
        assert_eq!(found("l").as_deref(), Some("[{\\\"x\\\":1}]"));
        assert_eq!(found(".").as_deref(), Some("2"));
        for path in ["l.x", "l.0", "a.x", "a.b.c.d", "b"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn scalars_are_plain() {
        let plain = |text: &'static str| Value::of(text.as_bytes()).plain_text();
        assert_eq!(plain("\"a\\u0026b\"").as_deref(), Some("a&b"));
        assert_eq!(plain("-1.50e3").as_deref(), Some("-1.50e3"));
        assert_eq!(plain("[1, \"two\" ,true]").as_deref(), Some("1,two,true"));
        assert_eq!(plain("[]").as_deref(), Some(""));
        for nothing in ["null", "{}", "[1,null]", "[[1]]", "[{}]"] {
            assert_eq!(plain(nothing), None, "{nothing}");
        }
    }
}
