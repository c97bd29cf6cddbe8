//! Conditions and ranges of requests for something with a strong validator (RFC 9110 sections 13 and 14).

use super::request::Request;

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200: all of it.
    Whole,
    /// 206: these bytes, the end excluded; never empty.
    Part {
        /// The first.
        start: u64,
        /// Behind the last.
        end: u64,
    },
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client wants it to be.
    Failed,
    /// 416: it is shorter.
    Unsatisfiable,
}

/// Chooses for a representation of `len` bytes with this strong entity tag, quotes included. It has no date:
/// conditions on dates are ignored, and an `If-Range` with one asks for the whole (section 13.1.5).
pub fn select(request: &Request, etag: &str, len: u64) -> Selection {
    choose(|name| request.field(name), etag, len)
}

fn choose<'a>(field: impl Fn(&str) -> Option<&'a str>, etag: &str, len: u64) -> Selection {
    if field("if-match").is_some_and(|list| !matches_any(list, etag, false)) {
        return Selection::Failed;
    }
    if field("if-none-match").is_some_and(|list| matches_any(list, etag, true)) {
        return Selection::NotModified;
    }
    let applies = field("if-range").is_none_or(|tag| tag.trim() == etag);
    match field("range").filter(|_| applies) {
        Some(ranges) => range(ranges, len),
        None => Selection::Whole,
    }
}

/// A field of entity tags, which may hold commas. A weak one matches where weak comparison will do (section 8.8.3.2).
fn matches_any(list: &str, etag: &str, weakly: bool) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some(end) = quoted.strip_prefix('"').and_then(|opaque| opaque.find('"')) else { return false };
        let (tag, after) = quoted.split_at(end + 2);
        if tag == etag && (weakly || !weak) {
            return true;
        }
        rest = after;
    }
}

/// One range in bytes. Several, another unit and what is no range are ignored, as section 14.2 lets a server do.
fn range(value: &str, len: u64) -> Selection {
    let Some((first, last)) = value.trim().strip_prefix("bytes=").and_then(|set| set.trim().split_once('-')) else {
        return Selection::Whole;
    };
    match (number(first), number(last)) {
        (Some(start), None) if last.trim().is_empty() => part(start, len, len),
        (Some(start), Some(last)) if start <= last => part(start, last.saturating_add(1).min(len), len),
        (None, Some(suffix)) if first.trim().is_empty() => match suffix.min(len) {
            0 => Selection::Unsatisfiable,
            suffix => part(len - suffix, len, len),
        },
        _ => Selection::Whole,
    }
}

fn part(start: u64, end: u64, len: u64) -> Selection {
    if start < len { Selection::Part { start, end } } else { Selection::Unsatisfiable }
}

/// A decimal number; one that is too large is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &'static str)]) -> Selection {
        let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        choose(field, "\"a,b\"", 100)
    }

    #[test]
    fn ranges_of_a_hundred_bytes() {
        let part = |start, end| Selection::Part { start, end };
        for (range, selection) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=10-19", part(10, 20)),
            ("bytes=90-200", part(90, 100)),
            ("bytes=99-", part(99, 100)),
            ("bytes=-5", part(95, 100)),
            ("bytes=-500", part(0, 100)),
            ("bytes=0-99999999999999999999999", part(0, 100)),
            ("bytes=100-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=5-4", Selection::Whole),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("lines=0-1", Selection::Whole),
        ] {
            assert_eq!(of(&[("range", range)]), selection, "{range}");
        }
        assert_eq!(choose(|name| (name == "range").then_some("bytes=0-"), "\"x\"", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn conditions_come_first() {
        let range = ("range", "bytes=0-0");
        for (condition, selection) in [
            (("if-none-match", "\"a,b\""), Selection::NotModified),
            (("if-none-match", "\"x\", W/\"a,b\""), Selection::NotModified),
            (("if-none-match", "*"), Selection::NotModified),
            (("if-none-match", "\"a\", \"b\""), Selection::Part { start: 0, end: 1 }),
            (("if-none-match", "a,b"), Selection::Part { start: 0, end: 1 }),
            (("if-match", "\"x\""), Selection::Failed),
            (("if-match", "W/\"a,b\""), Selection::Failed),
            (("if-match", "\"x\" ,\"a,b\""), Selection::Part { start: 0, end: 1 }),
            (("if-range", "\"a,b\""), Selection::Part { start: 0, end: 1 }),
            (("if-range", "W/\"a,b\""), Selection::Whole),
            (("if-range", "Sun, 06 Nov 1994 08:49:37 GMT"), Selection::Whole),
        ] {
            assert_eq!(of(&[range, condition]), selection, "{condition:?}");
        }
    }
}
