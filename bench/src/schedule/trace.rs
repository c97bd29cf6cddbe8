//! A recorded load: when each request was made, out of a file with one line for each.
//!
//! ```text
//!   # seconds since the beginning, and which URL (from 0) where there are several
//!   0.000
//!   0.013 1
//!   0.0132
//! ```

use std::fs;
use std::path::Path;

/// A request of a recorded load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Nanoseconds since the beginning.
    pub at_ns: u64,
    /// Which URL it asks for; none where the file does not say.
    pub url: Option<u32>,
}

/// Longest trace, in seconds.
const SECONDS_MAX: f64 = 86_400.0;

/// Reads a trace. Empty lines and what follows a `#` are passed over.
///
/// # Errors
/// A sentence with file and line: it cannot be read, or a line is not what it should be.
pub fn read(file: &Path, urls: usize) -> Result<Vec<Due>, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("cannot read the trace {}: {error}; give a text file", file.display()))?;
    parse(&text, urls).map_err(|(line, what)| format!("{}:{line}: {what}", file.display()))
}

fn parse(text: &str, urls: usize) -> Result<Vec<Due>, (usize, String)> {
    let mut all: Vec<Due> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: String| (number + 1, what);
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split([' ', '\t', ',', ';']).filter(|word| !word.is_empty());
        let Some(time) = words.next() else { continue };
        let seconds = time.parse::<f64>().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
        let Some(seconds) = seconds else {
            return Err(wrong(format!(
                "{time:?} is no time: write seconds since the beginning, from 0 to {SECONDS_MAX}"
            )));
        };
        let url = match words.next() {
            None => None,
            Some(word) => match word.parse::<u32>() {
                Ok(index) if (index as usize) < urls => Some(index),
                _ => return Err(wrong(format!("{word:?} is no URL's number: there are {urls}, counted from 0"))),
            },
        };
        if let Some(more) = words.next() {
            return Err(wrong(format!("{more:?} is too much: a line has a time and the number of a URL")));
        }
        let due = Due { at_ns: (seconds * 1e9).round() as u64, url };
        if all.last().is_some_and(|last| last.at_ns > due.at_ns) {
            return Err(wrong(format!("{time} comes after a later time: sort the file (sort -n)")));
        }
        all.push(due);
    }
    if all.is_empty() { Err((1, "there is no time in it: write one per line, in seconds".to_owned())) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_urls_are_read() {
        let due = |at_ns, url| Due { at_ns, url };
        let text = "# a comment\n0\n0.5 1\n\n0.5,0 # again\n2e0\t1\n";
        let wanted = [due(0, None), due(500_000_000, Some(1)), due(500_000_000, Some(0)), due(2_000_000_000, Some(1))];
        assert_eq!(parse(text, 2).unwrap(), wanted);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, what) in [
            ("", 1, "no time in it"),
            ("0\nx\n", 2, "is no time"),
            ("-1\n", 1, "is no time"),
            ("nan\n", 1, "is no time"),
            ("0\n1\n0.5\n", 3, "sort the file"),
            ("0 2\n", 1, "there are 2"),
            ("0 1 2\n", 1, "too much"),
        ] {
            let (at, said) = parse(text, 2).unwrap_err();
            assert!(at == line && said.contains(what), "{text:?}: {at} {said}");
        }
        assert!(read(Path::new("/nowhere/at/all"), 1).unwrap_err().contains("/nowhere/at/all"));
    }
}
