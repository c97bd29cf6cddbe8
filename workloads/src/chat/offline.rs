//! `annulus chat verify-log` and `annulus chat export`: a log looked at without a service.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use super::log::export::{Filter, export};
use super::log::verify::verify;

/// What is printed for `--help` of either.
pub const HELP: &str = "\
annulus chat verify-log: is a log whole?     annulus chat export: the history that a log holds

usage: annulus chat verify-log DIR
       annulus chat export [--channel PREFIX] [--since OFFSET] DIR

  DIR               the log's directory: chat.log.directory of the service, ./annulus-data/chat/log if not set
  --channel PREFIX  only channels whose names begin so
  --since OFFSET    only publications with a higher offset

Both read only, and refuse while a service uses the log: give them a copy then. verify-log tells what is there and what is
damaged, place by place; exit status 1: it is not whole. export writes a line of JSON for each publication.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offline {
    /// Look through it.
    Verify(PathBuf),
    /// Write it out.
    Export(PathBuf, Filter),
}

impl Offline {
    /// Reads the words after `chat`, if they are for this.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn read(words: &[String]) -> Result<Offline, String> {
        let (command, rest) = words.split_first().ok_or("verify-log or export?")?;
        let (mut directory, mut filter) = (None, Filter::default());
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--channel" if command == "export" => filter.prefix = value()?,
                "--since" if command == "export" => {
                    let text = value()?;
                    filter.since = text.parse().map_err(|_| format!("--since {text}: expected an offset"))?;
                }
                option if option.starts_with("--") => return Err(format!("there is no option {option:?}")),
                path if directory.is_none() => directory = Some(PathBuf::from(path)),
                path => return Err(format!("{path:?}: one directory is enough")),
            }
        }
        let directory = directory.ok_or_else(|| format!("of which log? For example: annulus chat {command} DIR"))?;
        match command.as_str() {
            "verify-log" => Ok(Offline::Verify(directory)),
            _ => Ok(Offline::Export(directory, filter)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Offline, String> {
        Offline::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_read() {
        assert_eq!(read("verify-log a"), Ok(Offline::Verify("a".into())));
        let filter = Filter { prefix: "news".into(), since: 7 };
        assert_eq!(read("export --channel news --since 7 a"), Ok(Offline::Export("a".into(), filter)));
        for (line, says) in [
            ("verify-log", "of which log?"),
            ("verify-log a b", "one directory"),
            ("verify-log --since 1 a", "no option"),
            ("export --since x a", "expected an offset"),
            ("export a --channel", "needs a value"),
        ] {
            assert!(read(line).unwrap_err().contains(says), "{line}");
        }
    }
}
