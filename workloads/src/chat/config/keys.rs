//! What a key takes and where it puts it, for both dialects: tables of [`Key`]s are all that they are made of.
//!
//! The dialects differ in how strictly a value is read. Ours takes what is documented. Centrifugo's takes what
//! Centrifugo takes: numbers and booleans also as texts, a single text for a list, durations as Go writes them, and a
//! bare number for a duration as nanoseconds.

use super::secret::Secret;
use crate::config::unknown;
use crate::gateway::config::duration;
use crate::gateway::config::tree::{Member, Value};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours.
    Ours,
    /// Centrifugo's.
    Centrifugo,
}

/// One key of a table of the file that becomes a `T`.
pub struct Key<T: 'static> {
    /// As it is written; with dots where it is further down.
    pub name: &'static str,
    /// What it is if it is not given, as it would be written; empty for nothing, 0 or false. Of a text that is not
    /// offered, all that means the same, with `|` between.
    pub default: &'static str,
    /// What it means; in Centrifugo's tables, the key of ours that it becomes.
    pub says: &'static str,
    /// What it takes.
    pub set: Set<T>,
}

/// What a key takes, and what becomes of it.
pub enum Set<T: 'static> {
    /// `true` or `false`.
    Bool(fn(&mut T, bool)),
    /// A whole number in a range, both ends included.
    Count(u64, u64, fn(&mut T, u64)),
    /// Bytes in a range; ours also as `"64KiB"`.
    Bytes(u64, u64, fn(&mut T, u64)),
    /// A duration in a range of milliseconds.
    Ms(u64, u64, fn(&mut T, u64)),
    /// A text.
    Text(fn(&mut T, String)),
    /// A text that may be refused; what is expected comes first.
    Try(&'static str, fn(&mut T, &str) -> bool),
    /// One of these texts, by its number.
    Choice(&'static [&'static str], fn(&mut T, usize)),
    /// A list of texts.
    Texts(fn(&mut T, Vec<String>)),
    /// Texts by name, which may be secrets.
    Pairs(fn(&mut T, Vec<(String, Secret)>)),
    /// Anything else; it says itself what was expected.
    Value(&'static str, fn(&mut T, &Value) -> Result<(), String>),
    /// Known, but without effect here, for this reason: other values than the default are noted.
    Inert(Kind, &'static str),
    /// Known, but not offered: other values than the default are refused.
    Not(Kind),
}

/// What kind of value a key takes that is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number,
    /// A duration.
    Duration,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// A list or an object.
    Any,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// It is where it belongs, or says what is so anyway.
    Done,
    /// It has no effect, for this reason.
    Inert(&'static str),
    /// It asks for what is not offered.
    NotOffered,
}

impl<T> Set<T> {
    /// Reads a value and puts it where it belongs.
    ///
    /// # Errors
    /// What was expected.
    pub fn apply(&self, target: &mut T, value: &Value, default: &str, dialect: Dialect) -> Result<Applied, String> {
        let read = Read { value, dialect };
        match self {
            Set::Bool(set) => set(target, read.boolean()?),
            Set::Count(least, most, set) => set(target, read.count(*least, *most)?),
            Set::Bytes(least, most, set) => set(target, read.bytes(*least, *most)?),
            Set::Ms(least, most, set) => set(target, read.milliseconds(*least, *most)?),
            Set::Text(set) => set(target, read.text("a text")?),
            Set::Try(what, set) => {
                let text = read.text(what)?;
                if !set(target, &text) {
                    return expected(what);
                }
            }
            Set::Choice(names, set) => {
                let text = read.text(&quoted(names))?;
                match names.iter().position(|name| *name == text) {
                    Some(index) => set(target, index),
                    None => return expected(&quoted(names)),
                }
            }
            Set::Texts(set) => set(target, read.texts()?),
            Set::Pairs(set) => set(target, read.pairs()?),
            Set::Value(_, set) => set(target, value)?,
            Set::Inert(kind, why) if !read.is(*kind, default)? => return Ok(Applied::Inert(why)),
            Set::Not(kind) if !read.is(*kind, default)? => return Ok(Applied::NotOffered),
            Set::Inert(..) | Set::Not(_) => {}
        }
        Ok(Applied::Done)
    }

    /// What it takes, in a word or two.
    pub fn kind(&self) -> String {
        let kind = match self {
            Set::Bool(_) => "true or false",
            Set::Count(..) => "number",
            Set::Bytes(..) => "bytes",
            Set::Ms(..) => "duration",
            Set::Text(_) | Set::Try(..) => "text",
            Set::Choice(names, _) => return quoted(names),
            Set::Texts(_) => "list of texts",
            Set::Pairs(_) => "texts by name",
            Set::Value(what, _) => what,
            Set::Inert(kind, _) | Set::Not(kind) => match kind {
                Kind::Bool => "true or false",
                Kind::Number => "number",
                Kind::Duration => "duration",
                Kind::Text => "text",
                Kind::Texts => "list of texts",
                Kind::Any => "list or object",
            },
        };
        kind.to_owned()
    }

    /// Whether a variable of the environment is split at its spaces for it.
    pub fn is_texts(&self) -> bool {
        matches!(self, Set::Texts(_) | Set::Inert(Kind::Texts, _) | Set::Not(Kind::Texts))
    }

    /// Whether a variable of the environment is JSON for it.
    pub fn is_json(&self) -> bool {
        matches!(self, Set::Pairs(_) | Set::Inert(Kind::Any, _) | Set::Not(Kind::Any))
    }
}

/// Reads a table of our dialect into a `T`.
///
/// # Errors
/// A sentence that starts with the key.
pub fn read_table<T>(keys: &[Key<T>], target: &mut T, value: &Value) -> Result<(), String> {
    for member in members(value)? {
        read_member(keys, target, member)?;
    }
    Ok(())
}

/// Reads one entry of a table of our dialect.
///
/// # Errors
/// As [`read_table`].
pub fn read_member<T>(keys: &[Key<T>], target: &mut T, member: &Member) -> Result<(), String> {
    let Some(key) = keys.iter().find(|key| key.name == member.name) else {
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        return Err(format!("{}: {}", member.name, unknown("key", &member.name, &names)));
    };
    let applied = key.set.apply(target, &member.value.value, key.default, Dialect::Ours);
    applied.map(|_| ()).map_err(|says| format!("{}: {says}", member.name))
}

/// The entries of a table.
///
/// # Errors
/// If it is none.
pub fn members(value: &Value) -> Result<&[Member], String> {
    match value {
        Value::Object(members) => Ok(members),
        _ => expected("a table"),
    }
}

/// A name as namespaces, hooks and keys have it.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// An error that says what was expected.
///
/// # Errors
/// Always.
pub fn expected<T>(what: &str) -> Result<T, String> {
    Err(format!("expected {what}"))
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

const NANOSECONDS_PER_MS: u128 = 1_000_000;

struct Read<'v> {
    value: &'v Value,
    dialect: Dialect,
}

impl Read<'_> {
    fn is_weak(&self) -> bool {
        self.dialect == Dialect::Centrifugo
    }

    fn boolean(&self) -> Result<bool, String> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            Value::Number(number) if self.is_weak() => Ok(number != "0"),
            Value::String(text) if self.is_weak() => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => expected("true or false"),
            },
            _ => expected("true or false"),
        }
    }

    fn integer(&self) -> Option<i128> {
        match self.value {
            Value::Number(number) => number.parse().ok(),
            Value::String(text) if self.is_weak() => match text.strip_prefix("0x") {
                _ if text.is_empty() => Some(0),
                Some(digits) => i128::from_str_radix(digits, 16).ok(),
                // A leading zero is octal in Go, and hardly ever meant.
                None if text.len() > 1 && text.starts_with('0') => None,
                None => text.parse().ok(),
            },
            _ => None,
        }
    }

    fn count(&self, least: u64, most: u64) -> Result<u64, String> {
        let number = self.integer().and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(number),
            None => expected(&format!("a whole number from {least} to {most}")),
        }
    }

    fn bytes(&self, least: u64, most: u64) -> Result<u64, String> {
        let Value::String(text) = self.value else { return self.count(least, most) };
        if self.is_weak() {
            return self.count(least, most);
        }
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
        let number = unit.and_then(|(digits, shift)| digits.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift));
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(number),
            None => expected(&format!("{least} to {most} bytes, as a number or such as \"64KiB\"")),
        }
    }

    /// In nanoseconds; `None` if it is no duration.
    fn nanoseconds(&self) -> Result<u128, String> {
        match self.value {
            Value::String(text) if text.is_empty() && self.is_weak() => Ok(0),
            Value::String(text) => duration::parse(text)
                .map(|duration| duration.as_nanos())
                .map_err(|why| format!("expected a duration such as \"30s\" or \"1h30m\"; of {text:?}, {why}")),
            Value::Number(number) => {
                let scale = if self.is_weak() { 1 } else { 1000 * NANOSECONDS_PER_MS };
                let number = number.parse::<u128>().ok().and_then(|number| number.checked_mul(scale));
                number.map_or_else(|| expected("a duration such as \"30s\""), Ok)
            }
            _ => expected("a duration such as \"30s\""),
        }
    }

    fn milliseconds(&self, least: u64, most: u64) -> Result<u64, String> {
        let nanoseconds = self.nanoseconds()?;
        if nanoseconds > 0 && nanoseconds < NANOSECONDS_PER_MS && matches!(self.value, Value::Number(_)) {
            return Err(format!(
                "a number without a unit is nanoseconds: did you mean \"{nanoseconds}s\" or \"{nanoseconds}ms\"?"
            ));
        }
        let ms = u64::try_from(nanoseconds.div_ceil(NANOSECONDS_PER_MS)).unwrap_or(u64::MAX);
        match (least..=most).contains(&ms) {
            true => Ok(ms),
            false => {
                let written = |ms| duration::format(std::time::Duration::from_millis(ms));
                expected(&format!("a duration from {} to {}", written(least), written(most)))
            }
        }
    }

    fn text(&self, what: &str) -> Result<String, String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if self.is_weak() => Ok(number.clone()),
            Value::Bool(value) if self.is_weak() => Ok((*value as u8).to_string()),
            _ => expected(what),
        }
    }

    fn texts(&self) -> Result<Vec<String>, String> {
        let what = "a list of texts";
        match self.value {
            Value::Array(values) => values.iter().map(|node| Read { value: &node.value, ..*self }.text(what)).collect(),
            Value::String(text) if text.is_empty() && self.is_weak() => Ok(Vec::new()),
            Value::String(text) if self.is_weak() => Ok(vec![text.clone()]),
            _ => expected(what),
        }
    }

    /// Of an object, or in Centrifugo's dialect also of a list of `{key, value}`.
    fn pairs(&self) -> Result<Vec<(String, Secret)>, String> {
        let what = "texts by name such as { Authorization = \"...\" }";
        let text = |value| Read { value, dialect: Dialect::Ours }.text(what);
        match self.value {
            Value::Object(members) => members
                .iter()
                .map(|member| Ok((member.name.clone(), Secret::new(text(&member.value.value)?))))
                .collect::<Result<_, String>>(),
            Value::Array(values) if self.is_weak() => {
                let mut pairs: Vec<(String, Secret)> = Vec::with_capacity(values.len());
                for node in values {
                    let members = members(&node.value)?;
                    let part = |name: &str| members.iter().find(|member| member.name == name);
                    let (Some(key), Some(value)) = (part("key"), part("value")) else { return expected(what) };
                    let (key, value) = (text(&key.value.value)?, text(&value.value.value)?);
                    if pairs.iter().any(|(known, _)| *known == key) {
                        return Err(format!("{key:?} is in it twice"));
                    }
                    pairs.push((key, Secret::new(value)));
                }
                Ok(pairs)
            }
            Value::String(text) if text.is_empty() && self.is_weak() => Ok(Vec::new()),
            _ => expected(what),
        }
    }

    /// Whether it is the default, which is written as a text.
    fn is(&self, kind: Kind, default: &str) -> Result<bool, String> {
        let value = Value::String(default.to_owned());
        let default = Read { value: &value, dialect: Dialect::Centrifugo };
        Ok(match kind {
            Kind::Bool => self.boolean()? == default.boolean()?,
            Kind::Number => {
                let Some(number) = self.integer() else { return expected("a whole number") };
                Some(number) == default.integer()
            }
            Kind::Duration => self.nanoseconds()? == default.nanoseconds()?,
            Kind::Text => {
                let text = self.text("a text")?;
                default.text("a text")?.split('|').any(|same| same == text)
            }
            Kind::Texts => self.texts()? == default.texts()?,
            Kind::Any => match self.value {
                Value::Array(values) => values.is_empty(),
                Value::Object(members) => members.is_empty(),
                Value::String(text) => text.is_empty(),
                _ => return expected("a list or an object"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_strict_and_centrifugos_is_not() {
        let (text, number) = (|text: &str| Value::String(text.into()), |text: &str| Value::Number(text.into()));
        let ours = |value: &'static Value| Read { value, dialect: Dialect::Ours };
        let theirs = |value: &'static Value| Read { value, dialect: Dialect::Centrifugo };
        let (text, number) = (|it: &str| leaked(text(it)), |it: &str| leaked(number(it)));
        assert_eq!(theirs(text("true")).boolean(), Ok(true));
        assert!(ours(text("true")).boolean().is_err());
        assert!(theirs(text("yes")).boolean().is_err());
        assert_eq!(theirs(text("0x10")).count(0, 99), Ok(16));
        assert!(theirs(text("010")).count(0, 99).is_err());
        assert!(ours(text("10")).count(0, 99).is_err());
        assert!(ours(number("-1")).count(0, 99).unwrap_err().contains("0 to 99"));
        assert_eq!(ours(number("2")).milliseconds(0, 9999), Ok(2000));
        assert_eq!(theirs(number("2000000000")).milliseconds(0, 9999), Ok(2000));
        assert!(theirs(number("2")).milliseconds(0, 9999).unwrap_err().contains("\"2s\""));
        assert_eq!(ours(text("1m30s")).milliseconds(0, 99_999), Ok(90_000));
        assert!(ours(text("5m")).milliseconds(0, 99_999).unwrap_err().contains("0s to 99999ms"));
        assert!(ours(text("5")).milliseconds(0, 9).unwrap_err().contains("the unit is missing"));
        assert_eq!(ours(text("64KiB")).bytes(0, 1 << 20), Ok(65_536));
        for wrong in ["64", "64kb", "99999999999999999GiB", "KiB", "2MiB"] {
            assert!(ours(text(wrong)).bytes(0, 1 << 20).is_err(), "{wrong}");
        }
        assert_eq!(theirs(text("a")).texts(), Ok(vec!["a".to_owned()]));
        assert!(ours(text("a")).texts().is_err());
    }

    fn leaked(value: Value) -> &'static Value {
        Box::leak(Box::new(value))
    }

    #[test]
    fn what_is_the_default_is_told() {
        let is = |value: Value, kind, default| Read { value: &value, dialect: Dialect::Centrifugo }.is(kind, default);
        let text = |text: &str| Value::String(text.into());
        assert_eq!(is(Value::Bool(false), Kind::Bool, ""), Ok(true));
        assert_eq!(is(Value::Number("8000".into()), Kind::Number, "8000"), Ok(true));
        assert_eq!(is(text("1000ms"), Kind::Duration, "1s"), Ok(true));
        assert_eq!(is(text("a"), Kind::Text, ""), Ok(false));
        assert_eq!(is(text("a"), Kind::Texts, "a"), Ok(true));
        assert_eq!(is(Value::Array(Vec::new()), Kind::Any, ""), Ok(true));
        assert!(is(Value::Null, Kind::Number, "").is_err() && is(Value::Null, Kind::Any, "").is_err());
        assert_eq!(quoted(&["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
