//! Stacks with their counts, as text that other tools read, and as a picture.
//!
//! The text is Brendan Gregg's: a line per stack, its functions outermost first between semicolons, then a space and how
//! often it was seen.

use std::collections::BTreeMap;

use inferno::differential;
use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{self, Options};

use crate::refusal::{Reason, Refusal};

/// What is drawn when there is nothing to draw.
const EMPTY: &str = "<?xml version=\"1.0\" standalone=\"no\"?>\n<svg version=\"1.1\" width=\"1200\" height=\"60\" \
    xmlns=\"http://www.w3.org/2000/svg\"><text x=\"10\" y=\"35\" font-family=\"monospace\">no samples</text></svg>\n";

/// How often which stack was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    stacks: BTreeMap<String, u64>,
}

impl Folded {
    /// Counts a stack, outermost first.
    pub fn add<'a>(&mut self, functions: impl Iterator<Item = &'a str>, count: u64) {
        let mut line = String::new();
        for function in functions {
            if !line.is_empty() {
                line.push(';');
            }
            // What ends a function's name, or a line, cannot be part of a name.
            line.extend(function.chars().map(|letter| match letter {
                ';' => ',',
                letter if letter.is_control() => ' ',
                letter => letter,
            }));
        }
        if !line.is_empty() {
            *self.stacks.entry(line).or_default() += count;
        }
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// Each stack, its functions between semicolons, and its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.stacks.iter().map(|(stack, &count)| (stack.as_str(), count))
    }

    /// Samples with a function of which this holds, anywhere in their stack.
    pub fn samples_with(&self, is_it: impl Fn(&str) -> bool) -> u64 {
        self.iter().filter(|(stack, _)| stack.split(';').any(&is_it)).map(|(_, count)| count).sum()
    }

    /// The text.
    pub fn collapsed(&self) -> String {
        self.stacks.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
    }

    /// Reads the text; ours, or another tool's.
    ///
    /// # Errors
    /// The first line that is none, by its number.
    pub fn read(text: &str) -> Result<Folded, Refusal> {
        let mut folded = Folded::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parsed = line.trim_end().rsplit_once(' ').and_then(|(stack, count)| Some((stack, count.parse().ok()?)));
            let Some((stack, count)) = parsed else {
                let why = format!("line {} is no collapsed stack: expected `a;b;c 12`, found {line:?}", at + 1);
                return Err(Refusal::new(Reason::File, why));
            };
            folded.add(stack.split(';'), count);
        }
        Ok(folded)
    }

    /// The picture: an SVG with a script of its own that zooms and searches. Colours are by kind: the kernel orange, Rust
    /// and C++ yellow, the rest red.
    pub fn flamegraph(&self, title: &str) -> Vec<u8> {
        self.flamegraph_about(title, "")
    }

    /// The same, with a line of facts beneath the title.
    pub fn flamegraph_about(&self, title: &str, facts: &str) -> Vec<u8> {
        let lines: Vec<String> = self.stacks.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
        draw(options(title, facts), lines.iter().map(String::as_str))
    }

    /// The picture of what changed since `before`: red where there is more, blue where there is less, as shares of all
    /// samples; as wide as this one is.
    pub fn difference(&self, before: &Folded, title: &str, facts: &str) -> Vec<u8> {
        let mut lines = Vec::new();
        let (old, new) = (before.collapsed(), self.collapsed());
        let settings = differential::Options { normalize: true, strip_hex: false };
        differential::from_readers(settings, old.as_bytes(), new.as_bytes(), &mut lines)
            .expect("both are collapsed stacks, and memory takes what is written");
        let lines = String::from_utf8(lines).expect("it is made of strings");
        draw(options(title, facts), lines.lines())
    }
}

fn options(title: &str, facts: &str) -> Options<'static> {
    let mut options = Options::default();
    options.title = title.to_owned();
    options.subtitle = (!facts.is_empty()).then(|| facts.to_owned());
    options.colors = Palette::Multi(MultiPalette::Perl);
    // The same function has the same shade in every picture.
    options.deterministic = true;
    options
}

fn draw<'a>(mut options: Options<'_>, lines: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut picture = Vec::new();
    match flamegraph::from_lines(&mut options, lines, &mut picture) {
        Ok(()) => picture,
        // It refuses nothing else: what it draws is well-formed, and memory takes what is written.
        Err(_nothing_to_draw) => EMPTY.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Folded {
        Folded::read(text).unwrap()
    }

    #[test]
    fn the_text_is_read_as_it_is_written() {
        let text = "a;b 3\na;c<T, 2> 10\n";
        assert_eq!(folded(text).collapsed(), text);
        assert_eq!((folded(text).samples(), folded(text).samples_with(|name| name == "b")), (13, 3));
        let refusal = Folded::read("a;b 3\n\na;b c\n").unwrap_err();
        assert!(refusal.sentence.starts_with("line 3 "), "{refusal}");
    }

    #[test]
    fn names_cannot_break_a_line() {
        let mut folded = Folded::default();
        folded.add(["a\nb", "[T; 4]"].into_iter(), 1);
        folded.add([].into_iter(), 1);
        assert_eq!(folded.collapsed(), "a b;[T, 4] 1\n");
    }

    #[test]
    fn the_picture_has_functions_and_title() {
        let picture = String::from_utf8(folded("main;work<u8> 3\nmain;read_[k] 1\n").flamegraph("a & b")).unwrap();
        for part in ["work&lt;u8&gt;", "read (1 samples", "a &amp; b", "75.00%"] {
            assert!(picture.contains(part), "{part}");
        }
        assert!(String::from_utf8(Folded::default().flamegraph("a")).unwrap().contains("no samples"));
    }

    #[test]
    fn a_difference_has_both_colours() {
        let (before, after) = (folded("a;b 50\na;c 50\n"), folded("a;b 150\na;c 50\n"));
        let picture = String::from_utf8(after.difference(&before, "t", "")).unwrap();
        assert!(picture.contains("; +25.00%") && picture.contains("; -25.00%"), "{picture}");
        assert!(
            String::from_utf8(Folded::default().difference(&Folded::default(), "t", "")).unwrap().contains("no samp")
        );
    }
}
