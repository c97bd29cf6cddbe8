//! Patterns of channel names, in the form that Centrifugo's `channels` takes them.
//!
//! ```text
//!   *  anything    ?  one character    [a-z_] [!a-z]  one of, none of    {one,tw*}  either    \c  c itself
//! ```
//!
//! A pattern is a small program, and a name is walked through it once, in all of its branches at the same time: no
//! pattern takes longer than its length times the name's.

/// Longest pattern in bytes. Beyond: it is none.
pub const PATTERN_BYTES_MAX: usize = 255;

/// What names may look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// This character.
    Is(char),
    /// Any one character.
    Any,
    /// Any characters.
    Many,
    /// A character within one of the ranges, or within none.
    Within { ranges: Vec<(char, char)>, negated: bool },
    /// Goes on in each of these places.
    Fork(Vec<usize>),
    /// Goes on there.
    Jump(usize),
}

/// Braces that are open: where their fork is, where alternatives begin, and the jumps behind them.
struct Open {
    fork: usize,
    begins: Vec<usize>,
    jumps: Vec<usize>,
}

impl Pattern {
    /// Reads a pattern. `None` if it is none: brackets or braces that do not close, nothing after a backslash, a range
    /// whose end comes before its beginning, or more than [`PATTERN_BYTES_MAX`].
    pub fn read(text: &str) -> Option<Pattern> {
        if text.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let (mut steps, mut open, mut rest) = (Vec::new(), Vec::<Open>::new(), text.chars());
        while let Some(character) = rest.next() {
            let step = match (character, open.last_mut()) {
                ('*', _) => Step::Many,
                ('?', _) => Step::Any,
                ('\\', _) => Step::Is(rest.next()?),
                ('[', _) => within(&mut rest)?,
                ('{', _) => {
                    open.push(Open { fork: steps.len(), begins: vec![steps.len() + 1], jumps: Vec::new() });
                    Step::Fork(Vec::new())
                }
                (',', Some(braces)) => {
                    braces.jumps.push(steps.len());
                    braces.begins.push(steps.len() + 1);
                    Step::Jump(0)
                }
                ('}', Some(_)) => {
                    let braces = open.pop()?;
                    braces.jumps.into_iter().for_each(|jump| steps[jump] = Step::Jump(steps.len()));
                    steps[braces.fork] = Step::Fork(braces.begins);
                    continue;
                }
                (plain, _) => Step::Is(plain),
            };
            steps.push(step);
        }
        open.is_empty().then_some(Pattern { steps })
    }

    /// Whether a name looks like that.
    pub fn matches(&self, name: &str) -> bool {
        let mut here = Places::new(self.steps.len());
        here.enter(&self.steps, 0);
        for character in name.chars() {
            let mut next = Places::new(self.steps.len());
            for &place in &here.list {
                match self.steps.get(place) {
                    Some(Step::Many) => next.enter(&self.steps, place),
                    Some(step) if step.takes(character) => next.enter(&self.steps, place + 1),
                    Some(_) | None => {}
                }
            }
            here = next;
        }
        here.reached[self.steps.len()]
    }
}

impl Step {
    fn takes(&self, character: char) -> bool {
        match self {
            Step::Is(expected) => *expected == character,
            Step::Any => true,
            Step::Within { ranges, negated } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&character)) != *negated
            }
            Step::Many | Step::Fork(_) | Step::Jump(_) => false,
        }
    }
}

/// Reads what is between brackets.
fn within(rest: &mut std::str::Chars<'_>) -> Option<Step> {
    let negated = rest.as_str().starts_with('!');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match rest.next()? {
            ']' if ranges.is_empty() => return None,
            ']' => return Some(Step::Within { ranges, negated }),
            '\\' => rest.next()?,
            low => low,
        };
        let mut ahead = rest.clone();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) if high != ']' => {
                *rest = ahead;
                if high == '\\' { rest.next()? } else { high }
            }
            _ => low,
        };
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
}

/// Where in the program a name is, each place once. The last is its end.
struct Places {
    list: Vec<usize>,
    reached: Vec<bool>,
}

impl Places {
    fn new(steps: usize) -> Places {
        Places { list: Vec::new(), reached: vec![false; steps + 1] }
    }

    /// Adds a place with all that follows from it without a character.
    fn enter(&mut self, steps: &[Step], place: usize) {
        let mut waiting = vec![place];
        while let Some(place) = waiting.pop() {
            if std::mem::replace(&mut self.reached[place], true) {
                continue;
            }
            match steps.get(place) {
                Some(Step::Fork(begins)) => waiting.extend(begins),
                Some(Step::Jump(target)) => waiting.push(*target),
                Some(Step::Many) => {
                    self.list.push(place);
                    waiting.push(place + 1);
                }
                Some(_) => self.list.push(place),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, good, bad) in [
            ("news", &["news"][..], &["new", "newss", ""][..]),
            ("*", &["", "a:b", "ä"], &[]),
            ("chat:*", &["chat:", "chat:1:2"], &["chat", "xchat:1"]),
            ("room?", &["room1", "roomä"], &["room", "room12"]),
            ("*:[0-9]", &["a:7", ":0", "a:b:1"], &["a:x", "a:10", "a:"]),
            ("[!a-c_]x", &["dx", "äx"], &["ax", "_x", "x"]),
            ("[a\\]-]", &["a", "]", "-"], &["b", "\\"]),
            (
                "{news,sport*,{a,b}c}!",
                &["news!", "sport!", "sports!", "ac!", "bc!"],
                &["news", "a!", "c!", "newssport!"],
            ),
            ("a{,b}c", &["ac", "abc"], &["abbc", "a,c"]),
            ("\\*\\{", &["*{"], &["x{", "\\*{"]),
            ("a,b}]", &["a,b}]"], &["a"]),
            ("", &[""], &["a"]),
        ] {
            let pattern = Pattern::read(pattern).unwrap();
            good.iter().for_each(|name| assert!(pattern.matches(name), "{pattern:?} {name}"));
            bad.iter().for_each(|name| assert!(!pattern.matches(name), "{pattern:?} {name}"));
        }
    }

    #[test]
    fn what_does_not_close_is_no_pattern() {
        for bad in ["[", "[]", "[a", "[!]", "[z-a]", "{a", "{a,{b}", "a\\", "[\\", "[a-\\"] {
            assert_eq!(Pattern::read(bad), None, "{bad}");
        }
        assert!(Pattern::read(&"a".repeat(PATTERN_BYTES_MAX)).is_some());
        assert!(Pattern::read(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_none());
    }

    #[test]
    fn patterns_that_would_take_for_ever_do_not() {
        let name = "a".repeat(255);
        for part in ["*a", "{a,a}", "{*,*}", "{a,{a,a}}*"] {
            let mut pattern = part.repeat(PATTERN_BYTES_MAX / part.len() - 1);
            pattern.push('b');
            assert!(!Pattern::read(&pattern).unwrap().matches(&name), "{part}");
        }
        let nested = "{".repeat(127) + &"}".repeat(127);
        assert!(Pattern::read(&nested).unwrap().matches(""));
    }
}
