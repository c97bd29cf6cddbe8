//! `annulus chat verify-log` and `annulus chat export`: a log looked at without a service.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use super::log::export::{Filter, export};
use super::log::verify::verify;
use crate::command::words::Words;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offline {
    /// Look through it.
    Verify(PathBuf),
    /// Write it out.
    Export(PathBuf, Filter),
}

impl Offline {
    /// Takes the words after `chat verify-log`.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn verify(words: &Words) -> Result<Offline, String> {
        Ok(Offline::Verify(directory("verify-log", words)?))
    }

    /// Takes the words after `chat export`.
    ///
    /// # Errors
    /// As [`Offline::verify`].
    pub fn export(words: &Words) -> Result<Offline, String> {
        let prefix = words.value("--channel").unwrap_or_default().to_owned();
        let since = words.parsed("--since", "an offset")?.unwrap_or_default();
        Ok(Offline::Export(directory("export", words)?, Filter { prefix, since }))
    }

    /// Does it. Whether all is well.
    ///
    /// # Errors
    /// A sentence.
    pub fn run(&self) -> Result<bool, String> {
        let mut out = BufWriter::new(io::stdout().lock());
        let is_well = match self {
            Offline::Verify(directory) => verify(directory, &mut out).map(|summary| summary.is_whole()),
            Offline::Export(directory, filter) => export(directory, filter, &mut out).map(|_| true),
        };
        let flushed = out.flush();
        let is_well = is_well.map_err(|error| error.to_string())?;
        flushed.map_err(|error| format!("standard output: {error}"))?;
        Ok(is_well)
    }
}

fn directory(command: &str, words: &Words) -> Result<PathBuf, String> {
    let directory = words.operands().first().map(PathBuf::from);
    directory.ok_or_else(|| format!("of which log? For example: annulus chat {command} DIR"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::commands::find;

    fn read(line: &str) -> Result<Offline, String> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let entry = find(&format!("chat {command}")).unwrap();
        let words = Words::read(entry, rest.split_whitespace().map(str::to_owned))?;
        if command == "export" { Offline::export(&words) } else { Offline::verify(&words) }
    }

    #[test]
    fn words_are_read() {
        assert_eq!(read("verify-log a"), Ok(Offline::Verify("a".into())));
        let filter = Filter { prefix: "news".into(), since: 7 };
        assert_eq!(read("export --channel news --since 7 a"), Ok(Offline::Export("a".into(), filter)));
        for (line, says) in [
            ("verify-log", "of which log?"),
            ("verify-log a b", "one DIR is enough"),
            ("verify-log --since 1 a", "no option"),
            ("export --since x a", "expected an offset"),
            ("export a --channel", "needs a value"),
        ] {
            assert!(read(line).unwrap_err().contains(says), "{line}");
        }
    }
}
