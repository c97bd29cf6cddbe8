//! One backend's answer: checked text, the shape it is to take, and how all of them become one.
//!
//! Nothing is parsed into a tree. What goes into the client's answer are spans of the upstreams' own texts, copied once.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use annulus_engine::Frame;
use annulus_protocols::json::{self, Kind, Operation, Root, Rules, Shape, Value, write_string};

use super::config::model::{Backend, Encoding, Filter, Flatmap, FlatmapKey};
use super::memory::Held;
use crate::serve::pieces::Pieces;

/// How a backend's answers are read: compiled once.
pub struct Reading {
    /// What an answer in its shape is made of.
    shape: Arc<Shape>,
    before: Option<Before>,
    root: Root,
    encoding: Encoding,
}

/// What comes before the shape where there is a `flatmap_filter`: the target, then the operations.
struct Before {
    target: Shape,
    changes: Changes,
}

/// A `flatmap_filter`: what is moved, appended and deleted, in the file's order.
#[derive(Debug)]
pub struct Changes(Vec<Operation>);

/// An answer that was checked.
#[derive(Debug)]
pub struct Part {
    text: Vec<u8>,
    shape: Arc<Shape>,
    /// What it takes of the memory for answers.
    _held: Option<Held>,
}

/// Bytes that are checked before others have their turn: a long answer does not hold short ones up.
pub const QUANTUM_BYTES: usize = 64 << 10;

/// The check of one body, while it comes.
pub struct Check {
    /// None where a body need not be JSON.
    validator: Option<json::Validator>,
    checked: usize,
}

impl Check {
    /// Checks what has come since the last time, [`QUANTUM_BYTES`] at most. True while there is more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn advance(&mut self, body: &[u8]) -> Result<bool, String> {
        let Some(validator) = &mut self.validator else { return Ok(false) };
        let end = body.len().min(self.checked + QUANTUM_BYTES);
        validator.feed(&body[self.checked..end]).map_err(|fault| format!("JSON: {fault}"))?;
        self.checked = end;
        Ok(end < body.len())
    }
}

impl Reading {
    /// What the configuration says of a backend's answers.
    pub fn new(backend: &Backend) -> Reading {
        let root = match (backend.encoding, backend.is_collection) {
            (Encoding::SafeJson, _) => Root::Any,
            (Encoding::Json, true) => Root::Collection,
            _ => Root::Object,
        };
        if let Some(changes) = Changes::new(&backend.flatmap) {
            // Filter and mapping do not count beside it, as in KrakenD.
            let target = Rules { root, target: backend.target.join("."), ..Rules::default() };
            let group = Rules { group: backend.group.clone(), ..Rules::default() };
            let before = Some(Before { target: Shape::compile(&target), changes });
            return Reading { shape: Arc::new(Shape::compile(&group)), before, root, encoding: backend.encoding };
        }
        let dotted = |paths: &[Vec<String>]| paths.iter().map(|path| path.join(".")).collect();
        let (allow, deny) = match &backend.filter {
            Filter::Everything => (Vec::new(), Vec::new()),
            Filter::Allow(paths) => (dotted(paths), Vec::new()),
            Filter::Deny(paths) => (Vec::new(), dotted(paths)),
        };
        let rules = Rules {
            root,
            target: backend.target.join("."),
            allow,
            deny,
            mapping: backend.mapping.iter().cloned().collect(),
            group: backend.group.clone(),
        };
        Reading { shape: Arc::new(Shape::compile(&rules)), before: None, root, encoding: backend.encoding }
    }

    /// Before the first byte of a body.
    pub fn begin(&self) -> Check {
        let is_json = matches!(self.encoding, Encoding::Json | Encoding::SafeJson);
        Check { validator: is_json.then(json::Validator::new), checked: 0 }
    }

    /// Takes an upstream's body, which is complete and was checked; XML as the JSON that it has become.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, body: Vec<u8>, check: &Check) -> Result<Part, String> {
        let text = match self.encoding {
            Encoding::Json | Encoding::SafeJson => {
                // One value and nothing behind it: or a backend could break out of its group.
                let kind = check.validator.as_ref().map_or(Err(json::Fault::Incomplete), json::Validator::finish);
                match (self.root, kind.map_err(|fault| format!("JSON: {fault}"))?) {
                    (Root::Any, _) | (_, Kind::Null) => {}
                    (Root::Object, Kind::Object) | (Root::Collection, Kind::Array) => {}
                    (Root::Object, found) => return Err(format!("expected an object and found {found:?}")),
                    (Root::Collection, found) => {
                        return Err(format!("expected an array, as is_collection says, and found {found:?}"));
                    }
                }
                body
            }
            Encoding::String => {
                let content = std::str::from_utf8(&body).map_err(|_| "the text is not UTF-8".to_owned())?;
                let mut text = b"{\"content\":".to_vec();
                write_string(&mut text, content);
                text.push(b'}');
                text
            }
            Encoding::Xml | Encoding::Rss => body,
            Encoding::NoOp => return Err("this encoding cannot be merged".into()),
        };
        let text = match &self.before {
            None => text,
            Some(Before { target, changes }) => {
                let answer = target.apply(&text).map_err(|misfit| misfit.to_string())?;
                let mut targeted = Vec::with_capacity(text.len());
                json::merge(&[answer], &mut targeted);
                changes.apply(&targeted)
            }
        };
        Ok(Part { text, shape: self.shape.clone(), _held: None })
    }
}

impl Changes {
    /// What the configuration says; `None` if it says nothing.
    ///
    /// # Panics
    /// An operation was not checked when the configuration was read.
    pub fn new(flatmap: &[Flatmap]) -> Option<Changes> {
        let operation = |flatmap: &Flatmap| {
            let (name, paths) = match flatmap {
                Flatmap::Move { from, to } => ("move", vec![dotted(from), dotted(to)]),
                Flatmap::Append { from, to } => ("append", vec![dotted(from), dotted(to)]),
                Flatmap::Delete(paths) => ("del", paths.iter().map(|path| dotted(path)).collect()),
            };
            Operation::new(name, &paths).expect("operations were checked when the configuration was read")
        };
        (!flatmap.is_empty()).then(|| Changes(flatmap.iter().map(operation).collect()))
    }

    /// A text that was checked, after all operations.
    pub fn apply(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        json::flatmap(&self.0, text, &mut out);
        out
    }
}

fn dotted(path: &[FlatmapKey]) -> String {
    let step = |key: &FlatmapKey| match key {
        FlatmapKey::Name(name) => name.clone(),
        FlatmapKey::Any => "*".to_owned(),
    };
    path.iter().map(step).collect::<Vec<_>>().join(".")
}

impl Part {
    /// A part of members that are JSON texts already.
    pub fn of_members<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Part {
        let mut text = b"{".to_vec();
        for (name, json) in members {
            if text.len() > 1 {
                text.push(b',');
            }
            write_string(&mut text, name);
            text.push(b':');
            text.extend_from_slice(json);
        }
        text.push(b'}');
        Part::of_text(text)
    }

    /// A part of an object's text that was checked.
    pub fn of_text(text: Vec<u8>) -> Part {
        Part { text, shape: Arc::new(Shape::compile(&Rules::default())), _held: None }
    }

    /// Bytes of its text.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// The same once more, holding nothing.
    pub fn copy(&self) -> Part {
        Part { text: self.text.clone(), shape: self.shape.clone(), _held: None }
    }

    /// With what it takes of the memory.
    pub fn holding(self, held: Held) -> Part {
        Part { _held: Some(held), ..self }
    }

    /// What the answer, in its shape, has at a path of names: a scalar as text, or scalars joined by commas.
    pub fn scalar(&self, path: &[String]) -> Option<String> {
        let shaped = merge(std::slice::from_ref(self));
        let found = json::lookup(&shaped, &path.join("."))?;
        found.plain_text().map(std::borrow::Cow::into_owned)
    }
}

/// As [`merge`], without a copy of what is large; see [`scanned`].
pub fn splice(parts: Vec<Part>) -> Pieces {
    let answers: Vec<json::Answer<'_>> = parts.iter().filter_map(|part| part.shape.apply(&part.text).ok()).collect();
    let gathered = json::gather(&answers);
    let places: Vec<Place> = gathered.slices().map(|slice| Place::of(slice, &parts)).collect();
    let texts: Vec<Frame> = parts.into_iter().map(|part| Frame::owned(part.text)).collect();
    let mut pieces = Pieces::default();
    for place in places {
        match place {
            Place::Copied(bytes) => pieces.push(Frame::owned(bytes)),
            Place::In(part, range) => {
                let mut text = texts[part].clone();
                text.advance(range.start);
                pieces.push(text.split_to(range.len()));
            }
        }
    }
    pieces
}

/// Where a piece of a merged answer is.
enum Place {
    Copied(Vec<u8>),
    /// In the text of the part with this number.
    In(usize, Range<usize>),
}

impl Place {
    fn of(slice: &[u8], parts: &[Part]) -> Place {
        let begin = slice.as_ptr() as usize;
        for (number, part) in parts.iter().enumerate() {
            let at = begin.wrapping_sub(part.text.as_ptr() as usize);
            // Another part's text, or a copy, begins elsewhere.
            if part.text.get(at..at.saturating_add(slice.len())).is_some_and(|found| std::ptr::eq(found, slice)) {
                return Place::In(number, at..at + slice.len());
            }
        }
        Place::Copied(slice.to_vec())
    }
}

/// Bytes that [`splice`] and [`merge`] have to look at: the texts of parts of which more than the ends counts.
pub fn scanned(parts: &[Part]) -> usize {
    let is_alone = parts.len() == 1;
    let looks = |part: &&Part| part.shape.looks_inside() || !(part.shape.is_grouped() || is_alone);
    parts.iter().filter(looks).map(Part::len).sum()
}

/// Puts parts together, one level deep: of members with the same name the later part's wins, in the place of the first.
pub fn merge<P: Borrow<Part>>(parts: &[P]) -> Vec<u8> {
    let parts = parts.iter().map(P::borrow);
    let size: usize = parts.clone().map(|part| part.text.len() + 64).sum();
    let mut out = Vec::with_capacity(size);
    // What does not fit its shape was refused when it was read.
    let answers: Vec<json::Answer<'_>> = parts.filter_map(|part| part.shape.apply(&part.text).ok()).collect();
    json::merge(&answers, &mut out);
    out
}

/// A member of a merged answer's root.
pub fn member<'a>(merged: &'a [u8], name: &str) -> Option<Value<'a>> {
    Value::of(merged).member(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::backend::tests::bare_backend;

    fn read(change: impl FnOnce(&mut Backend), body: &str) -> Result<Part, String> {
        let mut backend = bare_backend("/");
        change(&mut backend);
        let reading = Reading::new(&backend);
        let mut check = reading.begin();
        while check.advance(body.as_bytes())? {}
        reading.read(body.as_bytes().to_vec(), &check)
    }

    fn shaped(change: impl FnOnce(&mut Backend), body: &str) -> String {
        let out = merge(&[read(change, body).unwrap()]);
        json::validate(&out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn paths(dotted: &[&str]) -> Vec<Vec<String>> {
        dotted.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn a_part_is_shaped_in_the_order_target_filter_mapping_group() {
        let body = r#" {"a":{"b":{"c":1,"d":[2]},"e":"x"},"f":null} "#;
        let all = |backend: &mut Backend| {
            backend.target = vec!["a".into()];
            backend.filter = Filter::Allow(paths(&["e"]));
            backend.mapping = vec![("e".into(), "z".into())];
            backend.group = Some("g".into());
        };
        assert_eq!(shaped(all, body), r#"{"g":{"z":"x"}}"#);
        assert_eq!(
            shaped(|backend| backend.filter = Filter::Deny(paths(&["a.b.d", "f"])), body),
            r#"{"a":{"b":{"c":1},"e":"x"}}"#
        );
        assert_eq!(shaped(|backend| backend.is_collection = true, "[1, 2]"), r#"{"collection":[1, 2]}"#);
        assert_eq!(shaped(|backend| backend.encoding = Encoding::SafeJson, "[1]"), r#"{"collection":[1]}"#);
        assert_eq!(shaped(|backend| backend.encoding = Encoding::String, "a\"b"), r#"{"content":"a\"b"}"#);
    }

    #[test]
    fn a_flatmap_comes_between_target_and_group_and_instead_of_the_rest() {
        let keys = |path: &str| -> Vec<FlatmapKey> {
            let key = |name: &str| if name == "*" { FlatmapKey::Any } else { FlatmapKey::Name(name.into()) };
            path.split('.').map(key).collect()
        };
        let body = r#" {"data": {"list": [{"id": 1, "x": {"y": "a"}}, {"id": 2, "x": {}}], "more": [3], "e": 0}} "#;
        let all = |backend: &mut Backend| {
            backend.target = vec!["data".into()];
            backend.filter = Filter::Allow(paths(&["e"]));
            backend.mapping = vec![("e".into(), "z".into())];
            backend.group = Some("g".into());
            backend.flatmap = vec![
                Flatmap::Move { from: keys("list.*.x.y"), to: keys("list.*.y") },
                Flatmap::Append { from: keys("list.*.id"), to: keys("more") },
                Flatmap::Delete(vec![keys("list.*.x")]),
            ];
        };
        assert_eq!(shaped(all, body), r#"{"g":{"list":[{"y":"a"},{}],"more":[3,1,2],"e":0}}"#);
        let collection = |backend: &mut Backend| {
            backend.is_collection = true;
            backend.flatmap = vec![Flatmap::Move { from: keys("collection.*.id"), to: keys("ids") }];
        };
        assert_eq!(shaped(collection, r#"[{"id": 1}, {"id": 2}]"#), r#"{"collection":[{},{}],"ids":[1,2]}"#);
        let nothing_there = |backend: &mut Backend| {
            backend.target = vec!["no".into()];
            backend.flatmap = vec![Flatmap::Move { from: keys("a"), to: keys("b") }];
        };
        assert_eq!(shaped(nothing_there, body), "{}");
        let part = read(all, body).unwrap();
        assert_eq!(part.scalar(&paths(&["g.more"])[0]).as_deref(), Some("3,1,2"), "a sequence sees what came of it");
        assert!(read(all, r#"{"data": {}}{"#).is_err());
    }

    #[test]
    fn of_the_same_name_the_later_wins_in_the_earlier_place() {
        let part = |body: &str| read(|_| (), body).unwrap();
        let parts =
            [part(r#"{"a":0,"a":1,"b":1}"#), part(r#"{"\u0061":2,"c":3}"#), Part::of_members([("d", &b"[]"[..])])];
        let merged = merge(&parts);
        assert_eq!(member(&merged, "a").unwrap().raw(), b"2");
        assert_eq!(String::from_utf8(merged).unwrap().matches(':').count(), 4);
    }

    #[test]
    fn spliced_is_merged_without_a_copy() {
        let grouped = |name: &str, body: &str| read(|backend| backend.group = Some(name.into()), body).unwrap();
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(5000));
        let parts = || vec![grouped("a", &large), grouped("b", "{}"), read(|_| (), "{\"c\":[1]}").unwrap()];
        assert_eq!(scanned(&parts()), 9, "only what has no group");
        assert_eq!(scanned(&parts()[2..]), 0, "which is all there is");
        let spliced = splice(parts());
        let mut copy = Vec::new();
        spliced.copy_to(&mut copy);
        assert_eq!(copy, merge(&parts()));
        let all = vec![read(|_| (), &large).unwrap()];
        let place = all[0].text.as_ptr();
        assert_eq!(splice(all).next(1).unwrap().as_ptr(), place);
        assert_eq!(splice(Vec::new()).len(), 2);
    }

    #[test]
    fn values_are_found_after_shaping() {
        let part = read(|backend| backend.group = Some("g".into()), r#"{"a":[1,"x"],"b":{"c":true}}"#).unwrap();
        assert_eq!(part.scalar(&paths(&["g.a"])[0]).as_deref(), Some("1,x"));
        assert_eq!(part.scalar(&paths(&["g.b.c"])[0]).as_deref(), Some("true"));
        assert_eq!((part.scalar(&paths(&["a"])[0]), part.scalar(&paths(&["g.b"])[0])), (None, None));
    }

    #[test]
    fn what_could_break_out_of_its_group_is_refused() {
        for body in ["", "{", "{}}", "{} {}", "[1]", "1", "{\"a\":1,}", "{\"a\":\"\u{1}\"}"] {
            assert!(read(|_| (), body).is_err(), "{body}");
        }
        let reading = Reading::new(&bare_backend("/"));
        assert!(reading.begin().advance(b"{\"a\":\"\xff\"}").is_err());
        assert!(reading.read(b"{}".to_vec(), &reading.begin()).is_err(), "it was not checked");
    }

    #[test]
    fn long_bodies_are_checked_a_quantum_at_a_time() {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(3 * QUANTUM_BYTES));
        let reading = Reading::new(&bare_backend("/"));
        let mut check = reading.begin();
        let steps = std::iter::from_fn(|| check.advance(body.as_bytes()).unwrap().then_some(())).count();
        assert_eq!(steps, 3);
        assert!(reading.read(body.into_bytes(), &check).is_ok());
    }
}
