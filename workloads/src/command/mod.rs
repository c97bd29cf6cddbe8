//! The command line: the front door.
//!
//! ```text
//!                       ┌─► help          annulus --help, annulus help COMMAND
//!   commands (a table) ─┼─► words ─► run, check, init, doctor, ...
//!                       ├─► completion    for bash, zsh and fish
//!                       └─► reference     workloads/docs/command-line.md
//! ```
//!
//! Whatever is said of a command, and whatever is read, comes from its row of the table: they cannot disagree.
//!
//! Exit statuses are the same for all: 0 done, 1 failed, 2 the words were wrong. (A second Ctrl-C ends `perf record` with 130, as
//! shells have it.)

pub mod check;
pub mod commands;
pub mod completion;
pub mod help;
pub mod init;
pub mod paint;
#[cfg(test)]
mod reference;
pub mod run;
pub mod table;
pub mod tools;
pub mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use self::paint::Paint;
use self::table::{Does, Entry};
use self::words::Words;
use crate::image::lanes::{Pipeline, gpu, worker};
use crate::journal::{self, Form};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The words make no sense: a sentence, which the command's help follows.
    Words(String),
    /// What was asked for cannot be done: a sentence.
    Failed(String),
}

/// How a command ended: `Ok(false)`: it failed, and what it printed says why.
pub type Ended = Result<bool, Trouble>;

impl From<String> for Trouble {
    fn from(sentence: String) -> Trouble {
        Trouble::Failed(sentence)
    }
}

/// The exit status where the words were wrong.
const EXIT_WORDS: u8 = 2;

/// Does what the words after the program's name say.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words = match words.map(OsString::into_string).collect::<Result<Vec<String>, OsString>>() {
        Ok(words) => words,
        Err(word) => return wrong("", &format!("{:?} is no UTF-8", word.to_string_lossy())),
    };
    // Started by the image service itself: see `image::lanes::worker` and `image::lanes::gpu::worker`.
    match words.first().map(String::as_str) {
        Some(worker::COMMAND) => return worker::main(&Pipeline),
        Some(gpu::worker::COMMAND) => return gpu::worker::main(),
        _ => {}
    }
    let (entry, used) = match commands::choose(&words) {
        Ok(chosen) => chosen,
        Err(sentence) => return wrong("", &sentence),
    };
    let read = match entry.does {
        Does::Itself { run, .. } => return run(words[1..].to_vec()),
        Does::Words(read) => read,
    };
    let ended = match Words::read(entry, words[used..].iter().cloned()) {
        Ok(words) if words.help => {
            crate::answer!("{}", help::of(entry, Paint::of_output()).trim_end());
            return ExitCode::SUCCESS;
        }
        Ok(words) => read(&words),
        Err(sentence) => Err(Trouble::Words(sentence)),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Trouble::Words(sentence)) => wrong(entry.name, &sentence),
        Err(Trouble::Failed(sentence)) => {
            failed(entry, &sentence);
            ExitCode::FAILURE
        }
    }
}

/// Words that make no sense: says so, and who knows better.
fn wrong(name: &str, sentence: &str) -> ExitCode {
    let paint = Paint::of_errors();
    let (who, space) = (paint.bad("annulus"), if name.is_empty() { "" } else { " " });
    journal::to_errors(format_args!("{who}{space}{name}: {sentence}\nannulus{space}{name} --help"));
    ExitCode::from(EXIT_WORDS)
}

/// What could not be done. A service says it the way it says everything.
fn failed(entry: &Entry, sentence: &str) {
    match journal::form() {
        Form::Json => crate::error!("{sentence}"),
        Form::Text => {
            let who = Paint::of_errors().bad("annulus");
            let tool = if crate::args::Command::named(entry.name).is_some() {
                String::new()
            } else {
                format!(" {}", entry.name)
            };
            journal::to_errors(format_args!("{who}{tool}: {sentence}"));
        }
    }
}
