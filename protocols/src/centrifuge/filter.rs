//! Filters by tags: which publications of a channel a subscriber wants.
//!
//! ```text
//! {"op":"and","nodes":[{"key":"ticker","cmp":"in","vals":["A","B"]},{"key":"price","cmp":"gte","val":"10.5"}]}
//! ```
//!
//! A node compares one tag, or has nodes below it. A tag that a publication does not have fails every comparison but `neq`
//! and `nex`; for `in` and `nin` it is the empty text.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::form::Source;
use super::{Malformed, schema};

/// Nodes and values of one filter. More are [`Malformed::TooMany`]: every publication is compared with all of them.
pub const FILTER_NODES_MAX: usize = 256;
/// Nodes above one another. More are [`Malformed::TooMany`].
pub const FILTER_DEPTH_MAX: usize = 16;
/// Bytes of all names and values in one filter. More are [`Malformed::TooMany`]: it is kept as long as the subscription.
pub const FILTER_BYTES_MAX: usize = 4096;

/// What a publication's tags have to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A tag compares so.
    Tag {
        /// Its name.
        key: Box<str>,
        /// How.
        test: Test,
    },
    /// All of them hold.
    And(Vec<Filter>),
    /// One of them holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
}

/// How a tag's value compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `eq`: it is this text.
    Is(Box<str>),
    /// `neq`: it is not, or there is none.
    IsNot(Box<str>),
    /// `in`: it is one of these texts.
    In(Vec<Box<str>>),
    /// `nin`: it is none of them.
    NotIn(Vec<Box<str>>),
    /// `ex`: there is one.
    Exists,
    /// `nex`: there is none.
    Absent,
    /// `sw`: it begins so.
    Begins(Box<str>),
    /// `ew`: it ends so.
    Ends(Box<str>),
    /// `ct`: this is in it.
    Contains(Box<str>),
    /// `gt`, `gte`, `lt`, `lte`: it is a decimal number, and compares so with this one.
    Number(Vec<Ordering>, Box<str>),
}

/// Why a filter is none, with what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFilter(pub &'static str);

/// A node as it was received.
#[derive(Default)]
struct Node<'a> {
    op: Cow<'a, str>,
    key: Cow<'a, str>,
    cmp: Cow<'a, str>,
    val: Cow<'a, str>,
    vals: Vec<Cow<'a, str>>,
    nodes: Vec<Node<'a>>,
}

impl Filter {
    /// Reads one; an error of the outer kind is a message that cannot be read, of the inner one a filter that makes no sense.
    pub(super) fn read<'a>(source: impl Source<'a>) -> Result<Result<Filter, NoFilter>, Malformed> {
        let mut left = Left { nodes: FILTER_NODES_MAX, bytes: FILTER_BYTES_MAX };
        let node = Node::read(source, FILTER_DEPTH_MAX, &mut left)?;
        Ok(node.check())
    }

    /// Whether publications with these tags are wanted.
    pub fn matches(&self, tags: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
        match self {
            Filter::And(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Filter::Or(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Filter::Not(node) => !node.matches(tags),
            Filter::Tag { key, test } => {
                test.holds(tags.iter().find(|(name, _)| *name == **key).map(|(_, value)| &**value))
            }
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_one_of = |texts: &[Box<str>]| texts.iter().any(|text| **text == *value.unwrap_or_default());
        match self {
            Test::Is(text) => value == Some(text),
            Test::IsNot(text) => value != Some(text),
            Test::In(texts) => is_one_of(texts),
            Test::NotIn(texts) => !is_one_of(texts),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Begins(text) => value.is_some_and(|value| value.starts_with(&**text)),
            Test::Ends(text) => value.is_some_and(|value| value.ends_with(&**text)),
            Test::Contains(text) => value.is_some_and(|value| value.contains(&**text)),
            Test::Number(wanted, number) => {
                let compared = value.and_then(Decimal::of).zip(Decimal::of(number));
                compared.is_some_and(|(value, number)| wanted.contains(&value.compare(&number)))
            }
        }
    }
}

/// What a filter may still have.
struct Left {
    nodes: usize,
    bytes: usize,
}

impl Left {
    fn node(&mut self) -> Result<(), Malformed> {
        self.nodes = self.nodes.checked_sub(1).ok_or(Malformed::TooMany)?;
        Ok(())
    }

    fn text<'a>(&mut self, source: impl Source<'a>) -> Result<Cow<'a, str>, Malformed> {
        let text = source.text()?;
        self.bytes = self.bytes.checked_sub(text.len()).ok_or(Malformed::TooMany)?;
        Ok(text)
    }
}

impl<'a> Node<'a> {
    fn read(source: impl Source<'a>, depth: usize, left: &mut Left) -> Result<Node<'a>, Malformed> {
        let mut node = Node::default();
        let depth = depth.checked_sub(1).ok_or(Malformed::TooMany)?;
        left.node()?;
        source.fields(|field, value| {
            match field {
                schema::FilterNode::Op => node.op = left.text(value)?,
                schema::FilterNode::Key => node.key = left.text(value)?,
                schema::FilterNode::Cmp => node.cmp = left.text(value)?,
                schema::FilterNode::Val => node.val = left.text(value)?,
                schema::FilterNode::Vals => value.items(|value| {
                    left.node()?;
                    node.vals.push(left.text(value)?);
                    Ok(())
                })?,
                schema::FilterNode::Nodes => value.items(|value| {
                    node.nodes.push(Node::read(value, depth, left)?);
                    Ok(())
                })?,
            }
            Ok(())
        })?;
        Ok(node)
    }

    fn check(self) -> Result<Filter, NoFilter> {
        let several = |nodes: Vec<Node<'_>>| nodes.into_iter().map(Node::check).collect::<Result<Vec<_>, _>>();
        match &*self.op {
            "" => self.check_comparison(),
            "and" if !self.nodes.is_empty() => several(self.nodes).map(Filter::And),
            "or" if !self.nodes.is_empty() => several(self.nodes).map(Filter::Or),
            "and" | "or" => Err(NoFilter("and, or: one node at least is needed")),
            "not" => match <[Node<'_>; 1]>::try_from(self.nodes) {
                Ok([node]) => Ok(Filter::Not(Box::new(node.check()?))),
                Err(_) => Err(NoFilter("not: exactly one node is needed")),
            },
            _ => Err(NoFilter("op is one of and, or, not, or empty")),
        }
    }

    fn check_comparison(self) -> Result<Filter, NoFilter> {
        let test = match &*self.cmp {
            "in" | "nin" if self.vals.is_empty() || !self.val.is_empty() => {
                return Err(NoFilter("in, nin: vals are needed, and no val"));
            }
            "in" => Test::In(texts(self.vals)),
            "nin" => Test::NotIn(texts(self.vals)),
            "ex" | "nex" if !self.vals.is_empty() || !self.val.is_empty() => {
                return Err(NoFilter("ex, nex: neither val nor vals are taken"));
            }
            "ex" => Test::Exists,
            "nex" => Test::Absent,
            cmp => of_one_value(cmp, &self.val, !self.vals.is_empty())?,
        };
        match self.key.is_empty() && !matches!(test, Test::Exists | Test::Absent) {
            true => Err(NoFilter("key is needed")),
            false => Ok(Filter::Tag { key: self.key.into(), test }),
        }
    }
}

/// A comparison with one value.
fn of_one_value(cmp: &str, val: &str, has_vals: bool) -> Result<Test, NoFilter> {
    use Ordering::{Equal, Greater, Less};
    let number = |wanted: &[Ordering]| match Decimal::of(val) {
        Some(_) => Ok(Test::Number(wanted.to_vec(), val.into())),
        None => Err(NoFilter("gt, gte, lt, lte: val is a decimal number")),
    };
    let test = match cmp {
        "eq" => Test::Is(val.into()),
        "neq" => Test::IsNot(val.into()),
        "sw" => Test::Begins(val.into()),
        "ew" => Test::Ends(val.into()),
        "ct" => Test::Contains(val.into()),
        "gt" => number(&[Greater])?,
        "gte" => number(&[Greater, Equal])?,
        "lt" => number(&[Less])?,
        "lte" => number(&[Less, Equal])?,
        _ => return Err(NoFilter("cmp is one of eq, neq, in, nin, ex, nex, sw, ew, ct, gt, gte, lt, lte")),
    };
    match has_vals || val.is_empty() {
        true => Err(NoFilter("this cmp needs a val, and no vals")),
        false => Ok(test),
    }
}

fn texts(values: Vec<Cow<'_, str>>) -> Vec<Box<str>> {
    values.into_iter().map(Box::from).collect()
}

/// A decimal number of any length, compared exactly: prices are no floating-point numbers.
struct Decimal<'a> {
    is_negative: bool,
    /// Without zeros in front.
    whole: &'a str,
    /// Without zeros behind.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// `[+-]digits[.digits]`.
    fn of(text: &'a str) -> Option<Decimal<'a>> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        // Nothing is below nothing.
        let is_negative = text.starts_with('-') && !(whole.is_empty() && fraction.is_empty());
        Some(Decimal { is_negative, whole, fraction })
    }

    fn compare(&self, other: &Decimal<'_>) -> Ordering {
        let sizes = self.whole.len().cmp(&other.whole.len());
        let sizes = sizes.then_with(|| self.whole.cmp(other.whole)).then_with(|| self.fraction.cmp(other.fraction));
        match (self.is_negative, other.is_negative) {
            (false, false) => sizes,
            (true, true) => sizes.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Value;

    fn read(json: &str) -> Result<Filter, NoFilter> {
        Filter::read(Value::of(json.as_bytes())).expect("it can be read")
    }

    fn matches(json: &str, tags: &[(&'static str, &'static str)]) -> bool {
        let tags: Vec<_> = tags.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        read(json).expect("it makes sense").matches(&tags)
    }

    #[test]
    fn comparisons_of_one_tag() {
        let tags = [("ticker", "AAPL"), ("price", "10.50"), ("note", "")];
        let holds = |key: &str, cmp: &str, val: &str| {
            let filter = format!(
                r#"{{"key":"{key}","cmp":"{cmp}"{}}}"#,
                match val {
                    "" => String::new(),
                    val if val.starts_with('[') => format!(r#","vals":{val}"#),
                    val => format!(r#","val":"{val}""#),
                }
            );
            matches(&filter, &tags)
        };
        for (key, cmp, val) in [
            ("ticker", "eq", "AAPL"),
            ("ticker", "neq", "GOOG"),
            ("other", "neq", "AAPL"),
            ("ticker", "in", r#"["GOOG","AAPL"]"#),
            ("other", "in", r#"[""]"#),
            ("other", "nin", r#"["AAPL"]"#),
            ("note", "ex", ""),
            ("other", "nex", ""),
            ("ticker", "sw", "AA"),
            ("ticker", "ew", "PL"),
            ("ticker", "ct", "AP"),
            ("price", "gt", "9.99"),
            ("price", "gte", "10.5"),
            ("price", "lte", "0010.500"),
            ("price", "lt", "100"),
        ] {
            assert!(holds(key, cmp, val), "{key} {cmp} {val}");
        }
        for (key, cmp, val) in [
            ("ticker", "eq", "GOOG"),
            ("other", "eq", "AAPL"),
            ("ticker", "neq", "AAPL"),
            ("ticker", "in", r#"["GOOG"]"#),
            ("ticker", "nin", r#"["AAPL"]"#),
            ("other", "ex", ""),
            ("note", "nex", ""),
            ("other", "sw", "A"),
            ("ticker", "ew", "AA"),
            ("ticker", "ct", "PA"),
            ("price", "gt", "10.5"),
            ("price", "lt", "10.5"),
            ("ticker", "gt", "1"),
            ("other", "lt", "1"),
        ] {
            assert!(!holds(key, cmp, val), "{key} {cmp} {val}");
        }
    }

    #[test]
    fn nodes_above_nodes() {
        let filter = r#"{"op":"and","nodes":[{"key":"a","cmp":"eq","val":"1"},
            {"op":"or","nodes":[{"key":"b","cmp":"ex"},{"op":"not","nodes":[{"key":"c","cmp":"ex"}]}]}]}"#;
        assert!(matches(filter, &[("a", "1")]));
        assert!(matches(filter, &[("a", "1"), ("b", ""), ("c", "")]));
        assert!(!matches(filter, &[("a", "1"), ("c", "")]));
        assert!(!matches(filter, &[("a", "2")]));
    }

    #[test]
    fn decimals_of_any_length_are_compared_exactly() {
        let ordered = ["-100", "-10.01", "-10", "-0.5", "0", "0.1", "0.10000000000000000000000000000000001", "9", "10"];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                let (one, other) = (Decimal::of(one).unwrap(), Decimal::of(other).unwrap());
                assert_eq!(one.compare(&other), at.cmp(&other_at));
            }
        }
        for same in ["0", "-0", "+0.00", "000"] {
            assert_eq!(Decimal::of(same).unwrap().compare(&Decimal::of("0").unwrap()), Ordering::Equal);
        }
        for none in ["", "-", "1.", ".5", "1e3", "0x1", "1,5", " 1", "1.2.3", "\u{661}"] {
            assert!(Decimal::of(none).is_none(), "{none}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for bad in [
            "{}",
            r#"{"key":"a"}"#,
            r#"{"key":"a","cmp":"eq"}"#,
            r#"{"cmp":"eq","val":"1"}"#,
            r#"{"key":"a","cmp":"eq","val":"1","vals":["2"]}"#,
            r#"{"key":"a","cmp":"like","val":"1"}"#,
            r#"{"key":"a","cmp":"in","val":"1"}"#,
            r#"{"key":"a","cmp":"ex","val":"1"}"#,
            r#"{"key":"a","cmp":"gt","val":"ten"}"#,
            r#"{"op":"and"}"#,
            r#"{"op":"not","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"ex"}]}"#,
            r#"{"op":"xor","nodes":[{"key":"a","cmp":"ex"}]}"#,
            r#"{"op":"or","nodes":[{"key":"a","cmp":"ex"},{}]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_are_counted() {
        let read = |json: &str| Filter::read(Value::of(json.as_bytes()));
        let deep = |depth: usize| {
            format!("{}{{\"cmp\":\"ex\"}}{}", "{\"op\":\"not\",\"nodes\":[".repeat(depth), "]}".repeat(depth))
        };
        assert!(read(&deep(FILTER_DEPTH_MAX - 1)).is_ok());
        assert_eq!(read(&deep(FILTER_DEPTH_MAX)), Err(Malformed::TooMany));
        let wide = |count: usize| format!(r#"{{"key":"a","cmp":"in","vals":[{}"1"]}}"#, "\"1\",".repeat(count - 1));
        assert!(read(&wide(FILTER_NODES_MAX - 1)).is_ok());
        assert_eq!(read(&wide(FILTER_NODES_MAX)), Err(Malformed::TooMany));
        let long = |bytes: usize| format!(r#"{{"key":"a","cmp":"eq","val":"{}"}}"#, "x".repeat(bytes));
        assert!(read(&long(FILTER_BYTES_MAX - 3)).is_ok());
        assert_eq!(read(&long(FILTER_BYTES_MAX - 2)), Err(Malformed::TooMany));
        assert_eq!(read(r#"{"nodes":1}"#), Err(Malformed::Field));
        assert_eq!(read(r#"{"op":1}"#), Err(Malformed::Field));
    }
}
