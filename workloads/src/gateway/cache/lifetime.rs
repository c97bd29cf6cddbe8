//! How long an answer is fresh (RFC 9111 section 4.2), for a cache that many clients share.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use crate::gateway::message::FieldList;

/// The longest that an answer is kept, whatever it says.
const FRESH_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Fields that one answer may vary with. One that names more is not kept.
const VARY_MAX: usize = 8;

/// For how long an answer counts, and for which questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From now on.
    pub fresh: Duration,
    /// Names of fields, in lower case: a question must have the same in them.
    pub vary: Vec<String>,
}

/// What `Cache-Control` says, as far as it concerns us.
#[derive(Default)]
struct Control {
    forbids: bool,
    max_age: Option<u64>,
    shared_max_age: Option<u64>,
    /// Also answers to questions with `Authorization` may be kept (section 3.5).
    allows_authorized: bool,
}

impl Lifetime {
    /// Of an answer with status 200 to a GET that was asked with those fields, which say who asks if `is_authorized`, as
    /// `Authorization` does; `None`: it must not be kept, or says nothing of how long.
    pub fn of(answer: &FieldList, asked: &FieldList, is_authorized: bool) -> Option<Lifetime> {
        let control = Control::of(answer);
        let is_authorized = is_authorized || asked.get("authorization").is_some();
        // A cookie is for the one who asked.
        let is_own = answer.get("set-cookie").is_some()
            || (is_authorized && !control.allows_authorized)
            || (asked.get("cookie").is_some() && !names(answer, "vary").any(|name| name == "cookie"));
        if control.forbids || is_own {
            return None;
        }
        let vary: Vec<String> = names(answer, "vary").collect();
        if vary.len() > VARY_MAX || vary.iter().any(|name| name == "*") {
            return None;
        }
        let seconds = control.shared_max_age.or(control.max_age).or_else(|| until_expires(answer))?;
        let age = answer.text("age").and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        let fresh = Duration::from_secs(seconds.saturating_sub(age)).min(FRESH_MAX);
        (!fresh.is_zero()).then_some(Lifetime { fresh, vary })
    }
}

impl Control {
    fn of(answer: &FieldList) -> Control {
        let mut control = Control::default();
        for directive in names(answer, "cache-control") {
            let (name, value) = directive.split_once('=').unwrap_or((&directive, ""));
            // A number that cannot be read is as good as zero (section 4.2.1).
            let seconds = || Some(value.trim().trim_matches('"').parse().unwrap_or(0));
            match name.trim() {
                "no-store" | "private" | "no-cache" => control.forbids = true,
                "max-age" => control.max_age = control.max_age.or_else(seconds),
                "s-maxage" => {
                    control.shared_max_age = control.shared_max_age.or_else(seconds);
                    control.allows_authorized = true;
                }
                "public" | "must-revalidate" => control.allows_authorized = true,
                _ => {}
            }
        }
        control
    }
}

/// Entries of all lists in fields of that name, in lower case.
fn names<'f>(fields: &'f FieldList, field: &'f str) -> impl Iterator<Item = String> + 'f {
    let lists = fields.iter().filter(move |(name, _)| *name == field).map(|(_, value)| String::from_utf8_lossy(value));
    lists.flat_map(|list| {
        let entries = list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty());
        entries.collect::<Vec<_>>()
    })
}

/// By the answer's own clock.
fn until_expires(answer: &FieldList) -> Option<u64> {
    let second = |name: &str| {
        let date = DateTimeParser::new().parse_timestamp(answer.text(name)?.trim()).ok()?;
        Some(date.as_second())
    };
    u64::try_from(second("expires")?.saturating_sub(second("date")?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> FieldList {
        let mut fields = FieldList::new();
        pairs.iter().for_each(|(name, value)| fields.push(name, value.as_bytes()));
        fields
    }

    fn fresh(answer: &[(&str, &str)], asked: &[(&str, &str)]) -> Option<u64> {
        Lifetime::of(&fields(answer), &fields(asked), false).map(|lifetime| lifetime.fresh.as_secs())
    }

    #[test]
    fn answers_say_how_long_they_are_fresh() {
        let control = |text| fresh(&[("cache-control", text)], &[]);
        for (text, seconds) in [
            ("max-age=60", Some(60)),
            ("Public, Max-Age=\"60\"", Some(60)),
            ("max-age=60, s-maxage=10", Some(10)),
            ("max-age=60, max-age=90", Some(60)),
            ("max-age=0", None),
            ("max-age=x", None),
            ("max-age=-1", None),
            ("max-age=60, no-store", None),
            ("private, max-age=60", None),
            ("no-cache, max-age=60", None),
            ("no-cache=\"x\", max-age=60", None),
            ("public", None),
            ("max-age=99999999999", Some(365 * 86_400)),
        ] {
            assert_eq!(control(text), seconds, "{text}");
        }
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("age", "50")], &[]), Some(10));
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("cache-control", "no-store")], &[]), None);
        let (date, expires) = (("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "Sun, 06 Nov 1994 08:50:07 GMT"));
        assert_eq!(fresh(&[date, expires], &[]), Some(30));
        assert_eq!(fresh(&[expires], &[]), None);
        assert_eq!(fresh(&[date, ("expires", "0")], &[]), None);
        assert_eq!(fresh(&[], &[]), None, "nothing is guessed");
    }

    #[test]
    fn what_is_somebodys_own_is_not_kept_for_others() {
        let authorized = &[("authorization", "Bearer x")][..];
        assert_eq!(fresh(&[("cache-control", "max-age=60")], authorized), None);
        assert_eq!(fresh(&[("cache-control", "public, max-age=60")], authorized), Some(60));
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")], &[]), None);
        let cookie = &[("cookie", "a=b")][..];
        assert_eq!(fresh(&[("cache-control", "max-age=60")], cookie), None);
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("vary", "Cookie")], cookie), Some(60));
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("vary", "*")], &[]), None);
        let vary = fields(&[("cache-control", "max-age=60"), ("vary", "Accept-Language, x-a"), ("vary", "x-b")]);
        let lifetime = Lifetime::of(&vary, &FieldList::new(), false).unwrap();
        assert_eq!(lifetime.vary, ["accept-language", "x-a", "x-b"]);
        assert_eq!(Lifetime::of(&vary, &FieldList::new(), true), None);
    }
}
