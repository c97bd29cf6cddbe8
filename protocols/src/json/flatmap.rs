//! Moving, appending and deleting across levels: KrakenD's `flatmap_filter`.
//!
//! A path is names with dots between them. In an array a number is the element at that place, counted from 0; in an
//! object it is a name like any other. `*` is every element or member.
//!
//! | operation | what it does |
//! |---|---|
//! | `move [from, to]` | what `from` leads to is put at `to`, and is gone where it was |
//! | `append [from, to]` | likewise, but behind the elements of `to`; whatever is no array counts as one element |
//! | `del [path, ...]` | what the paths lead to is gone; arrays close up |
//!
//! The first `*` of `to` stands for what the first of `from` stood for, and so on: `move a.*.x a.*.y` renames in each
//! element. If `to` has fewer, what they lead to becomes one array, in order: `move a.*.id ids` collects. If it has more,
//! the operation is refused when it is read. Objects that are missing on the way to `to` are made, arrays where a `*` had
//! stood for a place in one; a scalar or `null` in the way gives place to them. A number past the end of an array is its
//! end. Into an array no name leads: what should go there stays where it was. A path that leads nowhere does nothing.
//!
//! Of the text only what the paths lead through is taken apart, everything else remains a span of it.

use std::fmt;

use super::members::{Name, Value};
use super::unique::Unique;
use super::write::write_string;
use crate::output::append;

/// One step of a flatmap.
#[derive(Clone, Debug)]
pub enum Operation {
    /// `move`
    Move(Route),
    /// `append`
    Append(Route),
    /// `del`
    Delete(Vec<Path>),
}

/// From where to where.
#[derive(Clone, Debug)]
pub struct Route {
    from: Path,
    to: Path,
}

/// A dotted path, read.
#[derive(Clone, Debug)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    Any,
    Named {
        text: String,
        /// As it is written.
        quoted: Vec<u8>,
        index: Option<usize>,
    },
}

/// Why an operation of the configuration is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadOperation {
    /// There is no operation of this name.
    Unknown(String),
    /// `move` and `append` take two arguments, `del` one at least; this many were there.
    Arguments(usize),
    /// The destination has more `*` than the source, so that it would not be known where to put what.
    Wildcards,
}

impl fmt::Display for BadOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadOperation::Unknown(name) => write!(f, "there is no operation {name:?}, only move, append and del"),
            BadOperation::Arguments(count) => {
                write!(f, "{count} arguments: move and append take two, del takes one at least")
            }
            BadOperation::Wildcards => f.write_str("the destination has more * than the source"),
        }
    }
}

impl std::error::Error for BadOperation {}

impl Operation {
    /// Reads an operation as it is configured.
    ///
    /// # Errors
    /// It is none.
    pub fn new(name: &str, arguments: &[String]) -> Result<Operation, BadOperation> {
        match (name, arguments) {
            ("move", [from, to]) => Route::new(from, to).map(Operation::Move),
            ("append", [from, to]) => Route::new(from, to).map(Operation::Append),
            ("del", [_, ..]) => Ok(Operation::Delete(arguments.iter().map(|path| Path::new(path)).collect())),
            ("move" | "append" | "del", _) => Err(BadOperation::Arguments(arguments.len())),
            _ => Err(BadOperation::Unknown(name.to_owned())),
        }
    }
}

impl Route {
    fn new(from: &str, to: &str) -> Result<Route, BadOperation> {
        let route = Route { from: Path::new(from), to: Path::new(to) };
        if route.to.wildcards() > route.from.wildcards() { Err(BadOperation::Wildcards) } else { Ok(route) }
    }
}

impl Path {
    fn new(path: &str) -> Path {
        let step = |text: &str| {
            let mut quoted = Vec::new();
            write_string(&mut quoted, text);
            let named = Step::Named { text: text.to_owned(), quoted, index: index(text) };
            if text == "*" { Step::Any } else { named }
        };
        Path(path.split('.').map(step).collect())
    }

    fn wildcards(&self) -> usize {
        self.0.iter().filter(|step| matches!(step, Step::Any)).count()
    }
}

/// A number of digits only.
fn index(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Appends `text`, on which all operations were done in their order. It must have passed
/// [`validate`](super::validate); anything but an object or array remains as it is.
pub fn flatmap<'a>(operations: &'a [Operation], text: &'a [u8], out: &mut Vec<u8>) {
    let mut root = Node::Span(Value::of(text));
    for operation in operations {
        match operation {
            Operation::Move(route) => root.reroute(route, |place, found| {
                *place = found;
            }),
            Operation::Append(route) => root.reroute(route, |place, found| {
                let mut elements = std::mem::replace(place, Node::Gone).into_elements();
                elements.extend(found.into_elements());
                *place = Node::Array(elements);
            }),
            Operation::Delete(paths) => paths.iter().for_each(|path| {
                for found in root.find_all(path) {
                    root.take(&found.place);
                }
            }),
        }
        root.close_up();
    }
    root.write(out);
}

/// A value, taken apart as far as a path led through it.
enum Node<'a> {
    Span(Value<'a>),
    Object(Unique<'a, Node<'a>>),
    Array(Vec<Node<'a>>),
    /// Nothing any more, or not yet. Places do not change before the operation is over.
    Gone,
}

/// What a `*` stood for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Label<'a> {
    Name(Name<'a>),
    Index(usize),
}

/// Where a path led.
#[derive(Clone, Debug)]
struct Found<'a> {
    /// The places of the children, from the root down.
    place: Vec<usize>,
    labels: Vec<Label<'a>>,
}

impl<'a> Node<'a> {
    /// Takes an object or array apart, one level.
    fn expand(&mut self) {
        let Node::Span(value) = *self else { return };
        if let Some(elements) = value.elements() {
            *self = Node::Array(elements.map(Node::Span).collect());
        } else if let Some(entries) = value.entries() {
            let mut unique = Unique::default();
            entries.for_each(|entry| unique.insert(entry.name, Node::Span(entry.value)));
            *self = Node::Object(unique);
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Node::Gone)
    }

    fn find_all(&mut self, path: &Path) -> Vec<Found<'a>> {
        let mut all = Vec::new();
        self.find(&path.0, &mut Found { place: Vec::new(), labels: Vec::new() }, &mut all);
        all
    }

    fn find(&mut self, path: &[Step], here: &mut Found<'a>, all: &mut Vec<Found<'a>>) {
        let Some((step, further)) = path.split_first() else {
            return all.push(here.clone());
        };
        self.expand();
        for (place, (label, child)) in self.children().enumerate() {
            if child.is_gone() || !step.fits(label) {
                continue;
            }
            here.place.push(place);
            here.labels.extend(matches!(step, Step::Any).then_some(label));
            child.find(further, here, all);
            here.place.pop();
            if matches!(step, Step::Any) {
                here.labels.pop();
            }
        }
    }

    fn children(&mut self) -> impl Iterator<Item = (Label<'a>, &mut Node<'a>)> {
        let (members, elements) = match self {
            Node::Object(members) => (Some(members.iter_mut()), None),
            Node::Array(elements) => (None, Some(elements.iter_mut())),
            Node::Span(_) | Node::Gone => (None, None),
        };
        let members = members.into_iter().flatten().map(|(name, node)| (Label::Name(name), node));
        let elements = elements.into_iter().flatten().enumerate();
        members.chain(elements.map(|(index, node)| (Label::Index(index), node)))
    }

    /// The node at a place that was found.
    fn at(&mut self, place: &[usize]) -> Option<&mut Node<'a>> {
        place.iter().try_fold(self, |node, &place| match node {
            Node::Object(members) => members.at(place),
            Node::Array(elements) => elements.get_mut(place),
            Node::Span(_) | Node::Gone => None,
        })
    }

    fn take(&mut self, place: &[usize]) -> Node<'a> {
        self.at(place).map_or(Node::Gone, |node| std::mem::replace(node, Node::Gone))
    }

    /// Takes what `route` comes from and gives it, with the place it goes to, to `put`.
    fn reroute(&mut self, route: &'a Route, put: impl Fn(&mut Node<'a>, Node<'a>)) {
        let kept = route.to.wildcards();
        let all = self.find_all(&route.from);
        // First all of them: to put one may change the places of the others.
        let mut all: Vec<_> = all.into_iter().map(|found| (self.take(&found.place), found)).collect();
        for together in all.chunk_by_mut(|(_, one), (_, other)| one.labels[..kept] == other.labels[..kept]) {
            let taken = |(node, _): &mut (Node<'a>, Found<'a>)| std::mem::replace(node, Node::Gone);
            match self.make(&route.to.0, &together[0].1.labels[..kept]) {
                Some(place) if route.from.wildcards() == kept => put(place, taken(&mut together[0])),
                Some(place) => put(place, Node::Array(together.iter_mut().map(taken).collect())),
                None => {
                    for (node, found) in together {
                        if let Some(place) = self.at(&found.place) {
                            std::mem::swap(place, node);
                        }
                    }
                }
            }
        }
    }

    /// The place that `path` leads to, made if it is not there; `None` if a name would have to lead into an array.
    fn make(&mut self, path: &'a [Step], labels: &[Label<'a>]) -> Option<&mut Node<'a>> {
        let Some((step, path)) = path.split_first() else { return Some(self) };
        let (label, labels) = match (step, labels.split_first()) {
            (Step::Any, Some((&label, labels))) => (label, labels),
            (Step::Any, None) => return None,
            (Step::Named { quoted, .. }, _) => (Label::Name(Name::literal(quoted)), labels),
        };
        self.expand();
        if let Node::Span(_) | Node::Gone = self {
            *self = match label {
                Label::Name(_) => Node::Object(Unique::default()),
                Label::Index(_) => Node::Array(Vec::new()),
            };
        }
        self.make_child(step, label)?.make(path, labels)
    }

    fn make_child(&mut self, step: &'a Step, label: Label<'a>) -> Option<&mut Node<'a>> {
        match (self, label) {
            (Node::Object(members), Label::Name(name)) => Some(members.get_or_insert(name, Node::Gone)),
            // A `*` that stood for a place in an array, where now there is an object: it has no such name.
            (Node::Object(_), Label::Index(_)) => None,
            (Node::Array(elements), label) => {
                let index = match (label, step) {
                    (Label::Index(index), _) => index,
                    (_, Step::Named { index, .. }) => (*index)?.min(elements.len()),
                    (Label::Name(_), Step::Any) => return None,
                };
                while elements.len() <= index {
                    elements.push(Node::Gone);
                }
                elements.get_mut(index)
            }
            (Node::Span(_) | Node::Gone, _) => None,
        }
    }

    /// What counts as elements when lists are put together.
    fn into_elements(mut self) -> Vec<Node<'a>> {
        self.expand();
        match self {
            Node::Array(elements) => elements,
            Node::Gone => Vec::new(),
            other => vec![other],
        }
    }

    /// Removes what is gone.
    fn close_up(&mut self) {
        match self {
            Node::Object(members) => {
                members.retain(|node| !node.is_gone());
                members.iter_mut().for_each(|(_, node)| node.close_up());
            }
            Node::Array(elements) => {
                elements.retain(|node| !node.is_gone());
                elements.iter_mut().for_each(Node::close_up);
            }
            Node::Span(_) | Node::Gone => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Span(value) => append(out, value.raw()),
            Node::Gone => out.extend_from_slice(b"null"),
            Node::Object(members) => {
                out.push(b'{');
                for (index, (name, node)) in members.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { b"," } else { b"" });
                    out.extend_from_slice(name.raw());
                    out.push(b':');
                    node.write(out);
                }
                out.push(b'}');
            }
            Node::Array(elements) => {
                out.push(b'[');
                for (index, node) in elements.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { b"," } else { b"" });
                    node.write(out);
                }
                out.push(b']');
            }
        }
    }
}

impl Step {
    fn fits(&self, label: Label<'_>) -> bool {
        match (self, label) {
            (Step::Any, _) => true,
            (Step::Named { text, .. }, Label::Name(name)) => name.is(text),
            (Step::Named { index, .. }, Label::Index(at)) => *index == Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(operations: &[(&str, &[&str])], text: &str) -> String {
        let operation = |(name, arguments): &(&str, &[&str])| {
            let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
            Operation::new(name, &arguments).unwrap()
        };
        let operations: Vec<_> = operations.iter().map(operation).collect();
        let mut out = Vec::new();
        flatmap(&operations, text.as_bytes(), &mut out);
        crate::json::validate(&out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const SCHOOLS: &str =
        r#"{"schools":[{"id":1,"head":{"name":"Ann"}},{"id":2},{"head":{"name":"Bob"},"id":3}],"n":0}"#;

    #[test]
    fn move_renames_lifts_and_collects() {
        let moved = |from, to| after(&[("move", &[from, to])], SCHOOLS);
        assert_eq!(
            moved("schools.*.head.name", "schools.*.by"),
            r#"{"schools":[{"id":1,"head":{},"by":"Ann"},{"id":2},{"head":{},"id":3,"by":"Bob"}],"n":0}"#
        );
        assert_eq!(
            moved("schools.*.head.name", "names"),
            r#"{"schools":[{"id":1,"head":{}},{"id":2},{"head":{},"id":3}],"n":0,"names":["Ann","Bob"]}"#
        );
        assert_eq!(
            moved("schools.*.head", "heads.*.is"),
            r#"{"schools":[{"id":1},{"id":2},{"id":3}],"n":0,"heads":[{"is":{"name":"Ann"}},{"is":{"name":"Bob"}}]}"#
        );
        assert_eq!(
            moved("schools.1", "n.second"),
            r#"{"schools":[{"id":1,"head":{"name":"Ann"}},{"head":{"name":"Bob"},"id":3}],"n":{"second":{"id":2}}}"#
        );
        assert_eq!(moved("n", "schools.9"), SCHOOLS.replace(r#"}],"n":0"#, "},0]"));
        assert_eq!(moved("schools", "n"), SCHOOLS.replace("schools", "n").replace(r#","n":0"#, ""));
        for nowhere in ["n.x", "schools.7", "schools.id", "schools.*.x"] {
            assert_eq!(moved(nowhere, "y"), SCHOOLS, "{nowhere}");
        }
        assert_eq!(moved("n", "schools.x"), SCHOOLS, "no name leads into an array");
        assert_eq!(after(&[("move", &["a", "a.b"])], r#"{"a":1}"#), r#"{"a":{"b":1}}"#);
        assert_eq!(after(&[("move", &["a.*", "*"])], r#"{"a":{"a":{"p":1},"b":2}}"#), r#"{"a":{"p":1},"b":2}"#);
        assert_eq!(
            after(&[("move", &["a.*.b.*.c", "x.*.y.*.z"])], r#"{"a":[{},{"b":[{},{"c":1},{"c":2}]}]}"#),
            r#"{"a":[{},{"b":[{},{},{}]}],"x":[{"y":[{"z":1},{"z":2}]}]}"#
        );
    }

    #[test]
    fn append_puts_lists_together() {
        let text = r#"{"a":[1,2],"b":[3],"c":{"d":4},"e":[{"l":[5]},{"l":[6,7]}]}"#;
        let appended = |from, to| after(&[("append", &[from, to]), ("del", &["c", "e"])], text);
        assert_eq!(appended("a", "b"), r#"{"b":[3,1,2]}"#);
        assert_eq!(appended("c.d", "b"), r#"{"a":[1,2],"b":[3,4]}"#);
        assert_eq!(appended("b", "new.list"), r#"{"a":[1,2],"new":{"list":[3]}}"#);
        assert_eq!(appended("e.*.l.*", "a"), r#"{"a":[1,2,5,6,7],"b":[3]}"#);
        assert_eq!(appended("x", "a"), r#"{"a":[1,2],"b":[3]}"#);
    }

    #[test]
    fn del_closes_arrays_up() {
        let deleted = |paths: &[&str]| after(&[("del", paths)], SCHOOLS);
        assert_eq!(deleted(&["schools.0", "n"]), r#"{"schools":[{"id":2},{"head":{"name":"Bob"},"id":3}]}"#);
        assert_eq!(deleted(&["schools.*.head", "schools.1.id"]), r#"{"schools":[{"id":1},{},{"id":3}],"n":0}"#);
        assert_eq!(deleted(&["*"]), "{}");
        assert_eq!(after(&[("del", &["*.a"])], r#"[{"\u0061":1},{"b":2,"b":3}]"#), r#"[{},{"b":3}]"#);
        assert_eq!(after(&[("del", &["a"])], "7"), "7");
    }

    #[test]
    fn bad_operations_are_named() {
        let new = |name: &str, count: usize| Operation::new(name, &vec!["a".to_owned(); count]);
        assert_eq!(new("copy", 2).unwrap_err(), BadOperation::Unknown("copy".to_owned()));
        assert_eq!(new("move", 3).unwrap_err(), BadOperation::Arguments(3));
        assert_eq!(new("del", 0).unwrap_err(), BadOperation::Arguments(0));
        let route = ["a.*".to_owned(), "*.*".to_owned()];
        assert_eq!(Operation::new("move", &route).unwrap_err(), BadOperation::Wildcards);
    }

    #[test]
    fn many_members_are_no_trouble() {
        let members: Vec<_> = (0..20_000).map(|number| format!("\"n{number}\":{{\"x\":{number}}}")).collect();
        let text = format!("{{\"a\":{{{}}}}}", members.join(","));
        let moved = after(&[("move", &["a.*.x", "b.*"]), ("del", &["a"])], &text);
        let expected: Vec<_> = (0..20_000).map(|number| format!("\"n{number}\":{number}")).collect();
        assert_eq!(moved, format!("{{\"b\":{{{}}}}}", expected.join(",")));
    }
}
