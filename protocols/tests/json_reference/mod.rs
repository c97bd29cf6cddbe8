//! A plain tree that the span walkers are compared with, and random texts whose tree is known.

#![allow(dead_code, reason = "every test file uses its own part of it")]

use annulus_protocols::json::{Kind, Value, validate};

/// SplitMix64: the same documents in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Where to cut a text: ascending, from 0 to `len`.
    pub fn cuts(&mut self, len: usize) -> Vec<usize> {
        let count = self.below(6);
        let mut cuts: Vec<_> = (0..count).map(|_| self.below(len + 1)).chain([0, len]).collect();
        cuts.sort_unstable();
        cuts
    }
}

/// A value with its members in order, equal names included.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A number or word as it stands.
    Plain(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

pub const NAMES: &[&str] = &["a", "b", "c", "d", "id", "é", "\"", ""];
const PLAIN: &[&str] = &["0", "-1", "12.50", "1e5", "-0.25E-3", "18446744073709551616", "true", "false", "null"];
const CHARACTERS: &[char] = &[
    'a', 'b', '<', '&', '>', '"', '\\', '/', '\n', '\u{1}', '\u{7F}', 'é', '水', '😀', '\u{2028}', '}', ']', ',', ':',
];

impl Tree {
    pub fn random(random: &mut Random, depth: usize) -> Tree {
        match random.below(if depth == 0 { 5 } else { 10 }) {
            0..3 => Tree::Plain((*random.one_of(PLAIN)).to_owned()),
            3..5 => Tree::Text(text(random)),
            5..7 => Tree::List((0..random.below(5)).map(|_| Tree::random(random, depth - 1)).collect()),
            _ => Tree::random_object(random, depth),
        }
    }

    pub fn random_object(random: &mut Random, depth: usize) -> Tree {
        let count = if random.below(20) == 0 { 30 + random.below(60) } else { random.below(7) };
        let name = |random: &mut Random, index: usize| match count {
            0..30 => (*random.one_of(NAMES)).to_owned(),
            _ => format!("n{}", index.min(random.below(200))),
        };
        let depth = if count < 30 { depth } else { 1 };
        Tree::Object(
            (0..count).map(|index| (name(random, index), Tree::random(random, depth.saturating_sub(1)))).collect(),
        )
    }

    /// The value as a text, with white space and escapes here and there.
    pub fn write(&self, random: &mut Random, out: &mut String) {
        white_space(random, out);
        match self {
            Tree::Plain(plain) => out.push_str(plain),
            Tree::Text(text) => write_text(text, random, out),
            Tree::List(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    element.write(random, out);
                }
                white_space(random, out);
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    white_space(random, out);
                    write_text(name, random, out);
                    white_space(random, out);
                    out.push(':');
                    value.write(random, out);
                }
                white_space(random, out);
                out.push('}');
            }
        }
        white_space(random, out);
    }

    /// Of equal names the last value, in the place of the first.
    pub fn unique(self) -> Tree {
        match self {
            Tree::Object(members) => {
                let mut unique = Vec::new();
                members.into_iter().for_each(|(name, value)| set(&mut unique, name, value.unique()));
                Tree::Object(unique)
            }
            Tree::List(elements) => Tree::List(elements.into_iter().map(Tree::unique).collect()),
            other => other,
        }
    }

    /// What a text holds, with names in order and equal ones still there.
    pub fn parse(text: &[u8]) -> Tree {
        validate(text).unwrap_or_else(|fault| panic!("{fault} in {}", text.escape_ascii()));
        let value = Value::of(text);
        match value.kind() {
            Kind::String => Tree::Text(serde_json::from_slice(value.raw()).expect("a string")),
            Kind::Array => {
                Tree::List(value.elements().expect("an array").map(|element| Tree::parse(element.raw())).collect())
            }
            Kind::Object => {
                let members = value.members().expect("an object");
                Tree::Object(members.map(|(name, value)| (name.into_owned(), Tree::parse(value.raw()))).collect())
            }
            _ => Tree::Plain(String::from_utf8(value.raw().to_vec()).expect("validated")),
        }
    }
}

/// Gives a name a value, in its own place if it is there.
pub fn set(members: &mut Vec<(String, Tree)>, name: String, value: Tree) {
    match members.iter_mut().find(|(known, _)| *known == name) {
        Some(member) => member.1 = value,
        None => members.push((name, value)),
    }
}

fn text(random: &mut Random) -> String {
    let len = if random.below(10) == 0 { random.below(150) } else { random.below(8) };
    (0..len).map(|_| *random.one_of(CHARACTERS)).collect()
}

fn white_space(random: &mut Random, out: &mut String) {
    if random.below(6) == 0 {
        (0..random.below(4)).for_each(|_| out.push(*random.one_of(&[' ', '\n', '\t', '\r'])));
    }
}

fn write_text(text: &str, random: &mut Random, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            _ if random.below(8) == 0 => {
                character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '/' if random.below(2) == 0 => out.push_str("\\/"),
            ..' ' => out.push_str(&format!("\\u{:04X}", character as u32)),
            _ => out.push(character),
        }
    }
    out.push('"');
}
