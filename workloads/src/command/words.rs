//! The words after a command, read by its entry of the table: which flags there are, which of them take a value, and which
//! values a choice has. What the values mean is the command's to say.

use super::table::{Entry, Flag, Takes};
use crate::nearest::nearest;

/// Words, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Flags as they came, by their long names, with their values.
    given: Vec<(&'static str, String)>,
    /// What is no flag.
    operands: Vec<String>,
    /// Whether the help is asked for; the rest is not read then.
    pub help: bool,
}

impl Words {
    /// Reads the words after the command's name.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn read(entry: &Entry, words: impl IntoIterator<Item = String>) -> Result<Words, String> {
        let all: Vec<String> = words.into_iter().collect();
        if all.iter().take_while(|word| *word != "--").any(|word| matches!(word.as_str(), "--help" | "-h")) {
            return Ok(Words { help: true, ..Words::default() });
        }
        let (mut read, mut words) = (Words::default(), all.into_iter());
        while let Some(word) = words.next() {
            if word == "--" {
                read.operands.extend(words.by_ref());
                break;
            }
            if word == "-" || !word.starts_with('-') {
                read.operands.push(word);
                continue;
            }
            let (spelling, value) = match word.split_once('=') {
                Some((spelling, value)) => (spelling, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let flag = entry.flag(spelling).ok_or_else(|| no_option(entry, spelling))?;
            let value = match (flag.takes, value) {
                (Takes::Nothing, None) => String::new(),
                (Takes::Nothing, Some(_)) => return Err(format!("{spelling} takes no value")),
                (_, value) => value.or_else(|| words.next()).ok_or_else(|| format!("{spelling} needs a value"))?,
            };
            check(flag.takes, &value).map_err(|expected| format!("{spelling} {value}: {expected}"))?;
            read.given.push((flag.name, value));
        }
        read.check_operands(entry)?;
        Ok(read)
    }

    /// Whether a flag is there.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// A flag's value: of several, the last.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last()
    }

    /// A flag's values, as they came.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// A flag's value as what it stands for.
    ///
    /// # Errors
    /// A sentence with `what`: what was expected.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| value.parse().map_err(|_| format!("{name} {value}: expected {what}"));
        self.value(name).map(parse).transpose()
    }

    /// Flags and their values, as they came.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given.iter().map(|(flag, value)| (*flag, value.as_str()))
    }

    /// What is no flag.
    pub fn operands(&self) -> &[String] {
        &self.operands
    }

    /// That there are no more than fit, and that choices are some. What is missing is the command's to say: it knows an example.
    fn check_operands(&self, entry: &Entry) -> Result<(), String> {
        let is_open = entry.operands.iter().any(|operand| operand.several);
        if let Some(word) = self.operands.get(entry.operands.len()).filter(|_| !is_open) {
            return Err(match entry.operands {
                [] => no_option(entry, word),
                [_] => format!("{word:?}: one {} is enough", entry.operands[0].shown().trim_matches(['[', ']'])),
                several => format!("{word:?}: {} words are enough: {}", several.len(), entry.usage()),
            });
        }
        for (operand, word) in entry.operands.iter().zip(&self.operands).take_while(|(operand, _)| !operand.several) {
            check(operand.takes, word).map_err(|expected| format!("{word:?}: {expected}"))?;
        }
        Ok(())
    }
}

/// That a choice is one.
fn check(takes: Takes, value: &str) -> Result<(), String> {
    match takes {
        Takes::OneOf(_, words) if !words.contains(&value) => {
            let meant = nearest(value, words).map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            Err(format!("expected {}{meant}", list(words)))
        }
        _ => Ok(()),
    }
}

/// Words with commas, and `or` before the last.
pub fn list(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

fn no_option(entry: &Entry, word: &str) -> String {
    let known: Vec<&str> = entry.flags().flat_map(Flag::spellings).collect();
    unknown("option", word, &known)
}

/// That there is no such word, and which may be meant.
pub fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("there is no {what} {word:?}: did you mean {near}?"),
        None if known.is_empty() => format!("there is no {what} {word:?}"),
        None => format!("there is no {what} {word:?}; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::find;
    use super::*;

    fn read(name: &str, line: &str) -> Result<Words, String> {
        Words::read(find(name).unwrap(), line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_and_operands_are_told_apart() {
        let words = read("image process", "--ops a=w:1 --ops=b=w:2 x.jpg -- --y.jpg out").unwrap();
        assert_eq!(words.values("--ops").collect::<Vec<_>>(), ["a=w:1", "b=w:2"]);
        assert_eq!(words.operands(), ["x.jpg", "--y.jpg", "out"]);
        let words = read("fetch", "-i -X PUT -H a:1 http://x").unwrap();
        assert!(words.has("--include") && words.value("-X") == Some("PUT") && !words.has("--insecure"));
        assert!(read("fetch", "http://x --help").unwrap().help);
        assert_eq!(read("init", "chat -").unwrap().operands(), ["chat", "-"]);
        assert_eq!(read("doctor", "").unwrap().parsed::<u8>("--config", "x"), Ok(None));
    }

    #[test]
    fn mistakes_are_named() {
        for (name, line, says) in [
            ("chat", "--lisen 1", "there is no option \"--lisen\": did you mean --listen?"),
            ("chat", "stray", "there is no option \"stray\""),
            ("fetch", "-Q x", "there is no option \"-Q\""),
            ("chat", "--listen", "--listen needs a value"),
            ("image", "--plan=1", "--plan takes no value"),
            ("run", "--driver uring", "--driver uring: expected auto, io_uring or epoll"),
            ("init", "chta", "\"chta\": expected chat, image or gateway: did you mean chat?"),
            ("init", "chat a b", "\"b\": 2 words are enough"),
            ("chat verify-log", "a b", "\"b\": one DIR is enough"),
        ] {
            let error = read(name, line).unwrap_err();
            assert!(error.starts_with(says), "{name} {line}: {error}");
        }
    }
}
