//! Several answers in one object, without a look into their values.
//!
//! The merge is shallow: names of the roots in the order in which they first appear, and of equal names the value of
//! the latest answer. Which answer is later is the caller's to say. Values are passed on as they stand.

use std::ops::Range;

use super::members::Name;
use super::shape::{Answer, Body};
use super::unique::Unique;
use crate::output::append;

/// Pieces up to this size are copied together rather than sent from where they lie: a kernel that gathers them looks at
/// each of them for about as long as a copy of this size takes.
pub const COPIED_BYTES_MAX: usize = 512;

/// A merged object as a list of slices, most of it in the answers' own texts.
#[derive(Clone, Debug, Default)]
pub struct Gathered<'a> {
    copied: Vec<u8>,
    parts: Vec<Part<'a>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Part<'a> {
    Copied(Range<usize>),
    Span(&'a [u8]),
}

/// A value: one span, or what a shape left of it.
#[derive(Clone, Copy)]
enum Pieces<'s, 'a> {
    One(&'a [u8]),
    Some(&'s [&'a [u8]]),
}

/// Appends the merged object to `out`. A single answer whose shape changes nothing is passed on byte for byte.
pub fn merge(answers: &[Answer<'_>], out: &mut Vec<u8>) {
    for_each_piece(answers, |piece| append(out, piece));
}

/// As [`merge`], for a caller that can send from several places.
pub fn gather<'a>(answers: &[Answer<'a>]) -> Gathered<'a> {
    let mut gathered = Gathered::default();
    for_each_piece(answers, |piece| gathered.push(piece));
    gathered
}

impl<'a> Gathered<'a> {
    fn push(&mut self, piece: &'a [u8]) {
        self.len += piece.len();
        if piece.len() > COPIED_BYTES_MAX {
            return self.parts.push(Part::Span(piece));
        }
        let begin = self.copied.len();
        self.copied.extend_from_slice(piece);
        match self.parts.last_mut() {
            Some(Part::Copied(range)) => range.end = self.copied.len(),
            _ => self.parts.push(Part::Copied(begin..self.copied.len())),
        }
    }

    /// The slices, in order.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts.iter().map(|part| match part {
            Part::Copied(range) => &self.copied[range.clone()],
            Part::Span(span) => span,
        })
    }

    /// Bytes in all slices together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true of what [`gather`] gives: an object has two bytes at least.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Answer<'_> {
    /// Whether it is an object without members.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Body::Whole(value) => value.entries().is_none_or(|mut entries| entries.next().is_none()),
            Body::Members(members, _) => members.is_empty(),
        }
    }
}

fn for_each_piece<'a>(answers: &[Answer<'a>], mut put: impl FnMut(&'a [u8])) {
    if let [Answer(Body::Whole(value))] = answers {
        return put(value.raw());
    }
    let mut members: Unique<'a, Pieces<'_, 'a>> = Unique::default();
    for answer in answers {
        each_member(answer, |name, value| members.insert(name, value));
    }
    put(b"{");
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            put(b",");
        }
        put(name.raw());
        put(b":");
        match value {
            Pieces::One(span) => put(span),
            Pieces::Some(spans) => spans.iter().for_each(|span| put(span)),
        }
    }
    put(b"}");
}

fn each_member<'s, 'a>(answer: &'s Answer<'a>, mut take: impl FnMut(Name<'a>, Pieces<'s, 'a>)) {
    match &answer.0 {
        Body::Whole(value) => {
            value.entries().into_iter().flatten().for_each(|entry| take(entry.name, Pieces::One(entry.value.raw())))
        }
        Body::Members(members, pieces) => {
            members.iter().for_each(|member| take(member.name, Pieces::Some(&pieces[member.value.clone()])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Rules, Shape};

    #[test]
    fn first_place_and_last_value() {
        let shape = Shape::compile(&Rules::default());
        let texts = [&b"{\"a\":1,\"b\": [ 2 ]}"[..], b"{\"c\":3,\"\\u0061\":{},\"c\":4}", b"{ }"];
        let answers = texts.map(|text| shape.apply(text).unwrap());
        let mut out = Vec::new();
        merge(&answers, &mut out);
        assert_eq!(out, b"{\"a\":{},\"b\":[ 2 ],\"c\":4}");
        assert!(answers[2].is_empty() && !answers[1].is_empty());
        out.clear();
        merge(&[], &mut out);
        assert_eq!(out, b"{}");
    }

    #[test]
    fn large_values_are_not_copied() {
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(COPIED_BYTES_MAX));
        let shapes =
            ["one", "two"].map(|group| Shape::compile(&Rules { group: Some(group.to_owned()), ..Rules::default() }));
        let answers = [shapes[0].apply(large.as_bytes()).unwrap(), shapes[1].apply(b"{}").unwrap()];
        let gathered = gather(&answers);
        let slices: Vec<_> = gathered.slices().collect();
        assert_eq!(slices, [b"{\"one\":", large.as_bytes(), b",\"two\":{}}"]);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert!(!gathered.is_empty());
    }
}
