//! What of a backend's answer goes into the client's: target, allow or deny, mapping, group.
//!
//! A [`Shape`] is compiled once from a backend's configuration. Applied to a validated text it gives an [`Answer`]: the
//! members of the new root as pieces of that text, with names and brackets between them. Values are never copied, and
//! what a shape has no word about is not looked at: to put a whole answer into a group is two literals and one span.
//!
//! ```text
//! text     {"data":{"id":7,"user":{"name":"Ann","mail":"a@b.c"}},"debug":[...]}
//! target   "data"                     {"id":7,"user":{"name":"Ann","mail":"a@b.c"}}
//! allow    "id", "user.name"          {"id":7,"user":{"name":"Ann"}}
//! mapping  "id" to "key"              {"key":7,"user":{"name":"Ann"}}
//! group    "account"                  {"account":{"key":7,"user":{"name":"Ann"}}}
//! ```
//!
//! Of equal names in an object the last counts, as for every reader of JSON; inside values that are passed on as they
//! are, both may still be there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::members::{Entry, Name, Value};
use super::unique::Unique;
use super::validate::Kind;
use super::write::write_string;

/// What a backend's answer has to be at its root, by its `encoding` and `is_collection`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// An object; `null` is an empty one.
    #[default]
    Object,
    /// An array, or `null`. It becomes `{"collection": [...]}`.
    Collection,
    /// Anything: an object as it is, an array as a collection, everything else as `{"content": ...}`.
    Any,
}

/// A backend's configuration, in the order in which it is applied.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What the root has to be.
    pub root: Root,
    /// Dotted path of the object that takes the root's place; empty for none. If it is not there or no object, the
    /// answer is an empty object.
    pub target: String,
    /// Dotted paths of what stays. An object of which nothing stays goes too. If one path continues another, the later
    /// one counts.
    pub allow: Vec<String>,
    /// Dotted paths of what goes. Without effect if there is anything in `allow`.
    pub deny: Vec<String>,
    /// Old and new names of members of the root, all renamed at once. A renamed member takes the place of one that has
    /// that name already. New names end before their first dot, as KrakenD's do.
    pub mapping: BTreeMap<String, String>,
    /// The name under which everything is put, even nothing.
    pub group: Option<String>,
}

/// [`Rules`], ready to be applied.
#[derive(Clone, Debug)]
pub struct Shape {
    root: Root,
    target: Vec<String>,
    filter: Filter,
    /// Old names, and new ones as they are written.
    mapping: Vec<(String, Vec<u8>)>,
    group: Option<Vec<u8>>,
}

/// The answer is not what its backend's [`Root`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What it should have been.
    pub expected: Root,
    /// What it is.
    pub found: Kind,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = if self.expected == Root::Collection { "an array" } else { "an object" };
        write!(f, "the root is {:?}, not {expected}", self.found)
    }
}

impl std::error::Error for Misfit {}

/// An answer in its shape: the members of an object.
#[derive(Clone, Debug)]
pub struct Answer<'a>(pub(super) Body<'a>);

#[derive(Clone, Debug)]
pub(super) enum Body<'a> {
    /// The text of an object as it is.
    Whole(Value<'a>),
    Members(Vec<Member<'a>>, Pieces<'a>),
}

/// A member of the new root.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    pub(super) name: Name<'a>,
    /// What its value is put together from.
    pub(super) value: Range<usize>,
}

pub(super) type Pieces<'a> = Vec<&'a [u8]>;

#[derive(Clone, Debug)]
enum Filter {
    None,
    Allow(Paths),
    Deny(Paths),
}

/// Paths with equal beginnings together.
#[derive(Clone, Debug, Default)]
struct Paths(Vec<(String, Step)>);

#[derive(Clone, Debug)]
enum Step {
    End,
    Further(Paths),
}

impl Paths {
    fn new(paths: &[String]) -> Paths {
        let mut all = Paths::default();
        paths.iter().for_each(|path| all.insert(path));
        all
    }

    fn insert(&mut self, path: &str) {
        let (name, further) = path.split_once('.').map_or((path, None), |(name, further)| (name, Some(further)));
        let place = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), Step::End));
            self.0.len() - 1
        });
        let step = &mut self.0[place].1;
        match (further, step) {
            (None, step) => *step = Step::End,
            (Some(further), Step::Further(paths)) => paths.insert(further),
            (Some(further), step) => *step = Step::Further(Paths::new(&[further.to_owned()])),
        }
    }

    fn find(&self, name: Name<'_>) -> Option<&Step> {
        self.0.iter().find(|(known, _)| name.is(known)).map(|(_, step)| step)
    }
}

/// The root, before it is filtered.
enum Data<'a> {
    Object(Value<'a>),
    One(&'static [u8], Value<'a>),
    Empty,
}

fn quoted(name: &str) -> Vec<u8> {
    let mut quoted = Vec::new();
    write_string(&mut quoted, name);
    quoted
}

impl Shape {
    /// Prepares `rules`.
    pub fn compile(rules: &Rules) -> Shape {
        let new_name = |name: &String| quoted(name.split_once('.').map_or(name, |(first, _)| first));
        Shape {
            root: rules.root,
            target: rules.target.split('.').filter(|_| !rules.target.is_empty()).map(str::to_owned).collect(),
            filter: match (&rules.allow, &rules.deny) {
                (allow, _) if !allow.is_empty() => Filter::Allow(Paths::new(allow)),
                (_, deny) if !deny.is_empty() => Filter::Deny(Paths::new(deny)),
                _ => Filter::None,
            },
            mapping: rules.mapping.iter().map(|(old, new)| (old.clone(), new_name(new))).collect(),
            group: rules.group.as_deref().map(quoted),
        }
    }

    /// Gives a text its shape. It must have passed [`validate`](super::validate).
    ///
    /// # Errors
    /// The root is not what the rules say.
    pub fn apply<'a>(&'a self, text: &'a [u8]) -> Result<Answer<'a>, Misfit> {
        let data = self.targeted(self.rooted(Value::of(text))?);
        if matches!(self.filter, Filter::None) && self.mapping.is_empty() {
            return Ok(self.untouched(data));
        }
        let mut pieces = Pieces::new();
        let mut members = match (&self.filter, &data) {
            (Filter::Allow(paths), data) => allowed(paths, data, &mut pieces),
            (filter, data) => data.entries().filter_map(|entry| denied(filter, &entry, &mut pieces)).collect(),
        };
        if !self.mapping.is_empty() {
            members = self.rename(members);
        }
        Ok(match &self.group {
            Some(name) => grouped(name, &members, &pieces),
            None => Answer(Body::Members(members, pieces)),
        })
    }

    /// Whether values inside of the root are looked at, so that a text costs more than its ends.
    pub fn looks_inside(&self) -> bool {
        !matches!(self.filter, Filter::None) || !self.mapping.is_empty() || !self.target.is_empty()
    }

    /// Whether the answer is one member, whatever the text has.
    pub fn is_grouped(&self) -> bool {
        self.group.is_some()
    }

    fn rooted<'a>(&self, value: Value<'a>) -> Result<Data<'a>, Misfit> {
        Ok(match (self.root, value.kind()) {
            (Root::Object | Root::Any, Kind::Object) => Data::Object(value),
            (Root::Object, Kind::Null) => Data::Empty,
            (Root::Collection, Kind::Null) | (Root::Collection | Root::Any, Kind::Array) => {
                Data::One(b"\"collection\"", value)
            }
            (Root::Any, _) => Data::One(b"\"content\"", value),
            (expected, found) => return Err(Misfit { expected, found }),
        })
    }

    fn targeted<'a>(&self, data: Data<'a>) -> Data<'a> {
        let found = match data {
            data if self.target.is_empty() => return data,
            Data::Object(value) => self.target.iter().try_fold(value, |value, name| value.member(name)),
            // Neither an array nor what is called content has an object inside.
            Data::One(..) | Data::Empty => None,
        };
        found.filter(|value| value.kind() == Kind::Object).map_or(Data::Empty, Data::Object)
    }

    /// Without a filter nothing inside of the object is looked at.
    fn untouched<'a>(&'a self, data: Data<'a>) -> Answer<'a> {
        let pieces: Pieces<'a> = match (&self.group, data) {
            (None, Data::Object(value)) => return Answer(Body::Whole(value)),
            (None, Data::Empty) => return Answer(Body::Members(Vec::new(), Vec::new())),
            (None, Data::One(name, value)) => return single(name, vec![value.raw()]),
            (Some(_), Data::Object(value)) => vec![value.raw()],
            (Some(_), Data::Empty) => vec![b"{}"],
            (Some(_), Data::One(name, value)) => vec![b"{", name, b":", value.raw(), b"}"],
        };
        single(self.group.as_deref().unwrap_or_default(), pieces)
    }

    /// Which of equal names counts is settled before: two of them may become one here.
    fn rename<'a>(&'a self, members: Vec<Member<'a>>) -> Vec<Member<'a>> {
        let mut unique = Unique::default();
        members.into_iter().for_each(|member| unique.insert(member.name, member.value));
        let new_name =
            |name: Name<'a>| self.mapping.iter().find(|(old, _)| name.is(old)).map(|(_, new)| Name::literal(new));
        let mapped: Vec<_> = unique.iter().map(|(name, value)| (*name, new_name(*name), value.clone())).collect();
        let taken: Vec<_> = mapped.iter().filter_map(|(_, new, _)| *new).collect();
        mapped
            .iter()
            .filter(|(name, new, _)| new.is_some() || !taken.contains(name))
            .map(|(name, new, value)| Member { name: new.unwrap_or(*name), value: value.clone() })
            .collect()
    }
}

impl<'a> Data<'a> {
    fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        let (one, object) = match *self {
            Data::Object(value) => (None, value.entries()),
            Data::One(name, value) => (Some(Entry { name: Name::literal(name), value, span: 0..0 }), None),
            Data::Empty => (None, None),
        };
        one.into_iter().chain(object.into_iter().flatten())
    }
}

fn single<'a>(name: &'a [u8], pieces: Pieces<'a>) -> Answer<'a> {
    let member = Member { name: Name::literal(name), value: 0..pieces.len() };
    Answer(Body::Members(vec![member], pieces))
}

fn grouped<'a>(name: &'a [u8], members: &[Member<'a>], pieces: &[&'a [u8]]) -> Answer<'a> {
    let mut unique = Unique::default();
    members.iter().for_each(|member| unique.insert(member.name, &pieces[member.value.clone()]));
    let mut all: Pieces<'a> = vec![b"{"];
    for (index, (name, value)) in unique.iter().enumerate() {
        if index > 0 {
            all.push(b",");
        }
        all.extend([name.raw(), b":"]);
        all.extend_from_slice(value);
    }
    all.push(b"}");
    single(name, all)
}

/// The members of the root that a path leads to, or through with something left.
fn allowed<'a>(paths: &Paths, data: &Data<'a>, pieces: &mut Pieces<'a>) -> Vec<Member<'a>> {
    let (mut found, mut members) = (Vec::new(), Vec::new());
    paths.select(data.entries(), &mut found);
    for index in 0..found.len() {
        let (step, name, value) = found[index];
        let begin = pieces.len();
        if step.only(value, pieces, &mut found) {
            members.push(Member { name, value: begin..pieces.len() });
        }
    }
    members
}

/// A member of the root, without what is denied of it.
fn denied<'a>(filter: &Filter, entry: &Entry<'a>, pieces: &mut Pieces<'a>) -> Option<Member<'a>> {
    let step = if let Filter::Deny(paths) = filter { paths.find(entry.name) } else { None };
    let begin = pieces.len();
    match step {
        Some(Step::End) => return None,
        Some(Step::Further(paths)) if paths.without(entry.value, pieces) => {}
        _ => pieces.push(entry.value.raw()),
    }
    Some(Member { name: entry.name, value: begin..pieces.len() })
}

/// A member that is on a path: what its step is, its name and value.
type Found<'p, 'a> = (&'p Step, Name<'a>, Value<'a>);

impl Step {
    /// Appends what is allowed of `value`; whether anything is.
    fn only<'p, 'a>(&'p self, value: Value<'a>, pieces: &mut Pieces<'a>, found: &mut Vec<Found<'p, 'a>>) -> bool {
        match self {
            Step::End => {
                pieces.push(value.raw());
                true
            }
            Step::Further(paths) => paths.only(value, pieces, found),
        }
    }
}

impl Paths {
    /// Appends the members that are on a path, of equal ones the last, in the place of the first.
    fn select<'p, 'a>(&'p self, entries: impl Iterator<Item = Entry<'a>>, found: &mut Vec<Found<'p, 'a>>) {
        let begin = found.len();
        for entry in entries {
            let Some(step) = self.find(entry.name) else { continue };
            match found[begin..].iter_mut().find(|(known, ..)| std::ptr::eq(*known, step)) {
                Some(earlier) => earlier.2 = entry.value,
                None => found.push((step, entry.name, entry.value)),
            }
        }
    }

    /// Appends an object with what is allowed of `value`; nothing and `false` if that is nothing. `found` is a stack
    /// that the levels share; none of them leaves anything there.
    fn only<'p, 'a>(&'p self, value: Value<'a>, pieces: &mut Pieces<'a>, found: &mut Vec<Found<'p, 'a>>) -> bool {
        let Some(entries) = value.entries() else { return false };
        let (begin, empty) = (found.len(), pieces.len());
        self.select(entries, found);
        for index in begin..found.len() {
            let (step, name, value) = found[index];
            let before = pieces.len();
            pieces.extend([if before == empty { b"{" as &[u8] } else { b"," }, name.raw(), b":"]);
            if !step.only(value, pieces, found) {
                pieces.truncate(before);
            }
        }
        found.truncate(begin);
        let any = pieces.len() > empty;
        if any {
            pieces.push(b"}");
        }
        any
    }

    /// Appends an object without what is denied of `value`; nothing and `false` if all of it stays, or it is no object.
    fn without<'a>(&self, value: Value<'a>, pieces: &mut Pieces<'a>) -> bool {
        let Some(entries) = value.entries() else { return false };
        let begin = pieces.len();
        pieces.push(b"{");
        // Neighbours that stay are one piece, with the commas between them.
        let (mut stays, mut first, mut changed) = (None, true, false);
        for entry in entries {
            let begin = stays.as_ref().map_or(entry.span.start, |stays: &Range<usize>| stays.start);
            match self.find(entry.name) {
                Some(Step::End) => {
                    put(value.raw(), stays.take(), &mut first, pieces);
                    changed = true;
                }
                Some(Step::Further(paths)) => {
                    let (before, was_first) = (pieces.len(), first);
                    put(value.raw(), Some(begin..entry.span.end - entry.value.raw().len()), &mut first, pieces);
                    if paths.without(entry.value, pieces) {
                        (stays, changed) = (None, true);
                    } else {
                        pieces.truncate(before);
                        (stays, first) = (Some(begin..entry.span.end), was_first);
                    }
                }
                None => stays = Some(begin..entry.span.end),
            }
        }
        if !changed {
            pieces.truncate(begin);
            return false;
        }
        put(value.raw(), stays, &mut first, pieces);
        pieces.push(b"}");
        true
    }
}

/// Appends a run of members, with a comma before it if it is not the first.
fn put<'a>(object: &'a [u8], run: Option<Range<usize>>, first: &mut bool, pieces: &mut Pieces<'a>) {
    let Some(run) = run else { return };
    if !std::mem::take(first) {
        pieces.push(b",");
    }
    pieces.push(&object[run]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{merge, validate};

    const ACCOUNT: &str = r#"{"data": {"id":7, "user":{"name":"Ann","mail":"a@b.c","on":[{"x":1}]}},"debug":[1]}"#;

    fn owned(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|&path| path.to_owned()).collect()
    }

    fn shaped(rules: &Rules, text: &str) -> String {
        validate(text.as_bytes()).unwrap();
        let shape = Shape::compile(rules);
        let mut out = Vec::new();
        merge(&[shape.apply(text.as_bytes()).unwrap()], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rules_are_applied_in_their_order() {
        let mut rules = Rules { target: "data".to_owned(), ..Rules::default() };
        assert_eq!(shaped(&rules, ACCOUNT), r#"{"id":7, "user":{"name":"Ann","mail":"a@b.c","on":[{"x":1}]}}"#);
        rules.allow = owned(&["user.name", "id", "user.on.x", "gone"]);
        rules.deny = owned(&["id"]);
        assert_eq!(shaped(&rules, ACCOUNT), r#"{"id":7,"user":{"name":"Ann"}}"#);
        rules.mapping.insert("id".to_owned(), "key.cut".to_owned());
        assert_eq!(shaped(&rules, ACCOUNT), r#"{"key":7,"user":{"name":"Ann"}}"#);
        rules.group = Some("account".to_owned());
        assert_eq!(shaped(&rules, ACCOUNT), r#"{"account":{"key":7,"user":{"name":"Ann"}}}"#);
        rules.target = "data.id".to_owned();
        assert_eq!(shaped(&rules, ACCOUNT), r#"{"account":{}}"#);
    }

    #[test]
    fn what_is_denied_goes_and_neighbours_stay_as_they_are() {
        let deny = |paths: &[&str]| Rules { deny: owned(paths), ..Rules::default() };
        let text = r#"{"a":{"b": 1, "c":2, "\u0064":{"e":3},"f":4},"g":5}"#;
        assert_eq!(shaped(&deny(&["a.c", "g.x"]), text), r#"{"a":{"b": 1,"\u0064":{"e":3},"f":4},"g":5}"#);
        assert_eq!(shaped(&deny(&["a.d.e", "g"]), text), r#"{"a":{"b": 1, "c":2, "\u0064":{},"f":4}}"#);
        assert_eq!(shaped(&deny(&["a.b", "a.c", "a.d", "a.f"]), text), r#"{"a":{},"g":5}"#);
    }

    #[test]
    fn what_nothing_is_said_of_is_one_span() {
        let shape = Shape::compile(&Rules { group: Some("g\"".to_owned()), ..Rules::default() });
        let Answer(Body::Members(members, pieces)) = shape.apply(ACCOUNT.as_bytes()).unwrap() else {
            panic!("grouped")
        };
        assert_eq!((members.len(), pieces), (1, vec![ACCOUNT.as_bytes()]));
        assert!(matches!(Shape::compile(&Rules::default()).apply(b"{}").unwrap(), Answer(Body::Whole(_))));
    }

    #[test]
    fn roots_that_are_no_object() {
        let rules = |root| Rules { root, ..Rules::default() };
        assert_eq!(shaped(&rules(Root::Collection), "[1]"), r#"{"collection":[1]}"#);
        assert_eq!(shaped(&rules(Root::Any), " [] "), r#"{"collection":[]}"#);
        assert_eq!(shaped(&rules(Root::Any), "\"x\""), r#"{"content":"x"}"#);
        assert_eq!(shaped(&rules(Root::Object), "null"), "{}");
        let misfit = Shape::compile(&rules(Root::Object)).apply(b"[1]").unwrap_err();
        assert_eq!(misfit.to_string(), "the root is Array, not an object");
        assert!(Shape::compile(&rules(Root::Collection)).apply(b"{}").is_err());
    }
}
