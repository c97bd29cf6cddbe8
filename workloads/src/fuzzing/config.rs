//! Configuration files of any bytes: what the fuzzer tries, and a test with its corpus.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A target that panics has found something.

use std::path::Path;

use crate::chat::config::load_centrifugo;
use crate::config::Config;
use crate::gateway::config as gateway;
use crate::gateway::config::Syntax;

/// Any bytes as each of our configuration files: none panics, and whatever is wrong has a place that the file has.
///
/// The first byte chooses whose file it is and how it is written. What stands behind a byte 0xFF is an environment, of which
/// Centrifugo's dialect reads more: `NAME=VALUE`, again with 0xFF between them.
pub fn read_any(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let mut parts = rest.split(|&byte| byte == 0xFF).map(String::from_utf8_lossy);
    let text = parts.next().unwrap_or_default();
    let environment =
        parts.filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
    let allows = choice & 0x80 != 0;
    let (name, syntax) = match choice % 3 {
        0 => ("fuzz.json", Syntax::Json),
        1 => ("fuzz.yaml", Syntax::Yaml),
        _ => ("fuzz.toml", Syntax::Toml),
    };
    match choice / 3 % 3 {
        0 => ours(&text),
        1 => centrifugo(name, &text, environment, allows),
        _ => krakend(name, syntax, &text, allows),
    }
}

fn ours(text: &str) {
    match Config::read(Path::new("fuzz.toml"), text) {
        Ok(mut config) => {
            config.chat.settle(Path::new("annulus-data"));
            let _verdicts = (config.chat.check(), config.image.check());
        }
        Err(says) => {
            let place = says.strip_prefix("fuzz.toml:").unwrap_or_else(|| panic!("without a place: {says}"));
            let digits: String = place.chars().take_while(char::is_ascii_digit).collect();
            is_within(text, digits.parse().unwrap(), 1, &says);
        }
    }
}

fn centrifugo(name: &str, text: &str, environment: impl Iterator<Item = (String, String)>, allows: bool) {
    use crate::chat::config::centrifugo::Source;
    let findings = match load_centrifugo(Path::new(name), text, environment, allows) {
        Ok((config, notes)) => {
            let _verdict = config.check();
            notes
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            problems
        }
    };
    for finding in findings {
        match &finding.source {
            Source::File { at, .. } => is_within(text, at.line, at.column, &finding),
            Source::Environment { name, .. } => assert!(!name.is_empty(), "{finding}"),
        }
        assert!(!finding.says.is_empty());
    }
}

fn krakend(name: &str, syntax: Syntax, text: &str, allow_unsupported: bool) {
    let findings = match gateway::load_text(name, syntax, text, &gateway::LoadOptions { allow_unsupported }) {
        Ok((gateway, notes)) => {
            prints_as_it_is_read(&gateway, allow_unsupported);
            assert!(!gateway::openapi(&gateway).is_empty());
            drop(gateway::compat_differences(&gateway));
            notes
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            problems
        }
    };
    for finding in findings {
        is_within(text, finding.location.line, finding.location.column, &finding);
        assert!(!finding.says.is_empty());
    }
}

/// What is read prints as a file that can be read, and prints the same again. A host of an endpoint that only answers 501 may
/// be missing, which a second reading refuses.
fn prints_as_it_is_read(read: &gateway::Gateway, allow_unsupported: bool) {
    let printed = gateway::print_effective(read);
    if read.endpoints.iter().all(|endpoint| endpoint.unsupported.is_none()) {
        let options = gateway::LoadOptions { allow_unsupported };
        let again = gateway::load_text("printed", Syntax::Json, &printed, &options);
        let (again, _) = again.unwrap_or_else(|problems| panic!("{printed}\n{problems:#?}"));
        assert_eq!(gateway::print_effective(&again), printed);
    }
}

/// Lines end at line feeds, and in YAML at carriage returns, too.
fn is_within(text: &str, line: u32, column: u32, says: &dyn std::fmt::Display) {
    let lines = 1 + text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let columns = 1 + text.chars().count();
    assert!((1..=lines).contains(&(line as usize)), "line {line} of {lines}: {says}");
    assert!((1..=columns).contains(&(column as usize)), "column {column} of {columns}: {says}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_configurations_is_read_or_refused() {
        assert!(crate::fuzzing::replay("config", super::read_any) > 10);
    }
}
