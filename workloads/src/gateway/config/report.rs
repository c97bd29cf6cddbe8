//! What is wrong with a file, collected: one reading finds every problem that it can, not only the first.

use std::fmt;
use std::sync::Arc;

use super::model::Location;
use super::support::{Effect, Entry, State};
use super::tree::Place;

/// Something to say about a place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub location: Location,
    /// The key that it is about, as `endpoints[0].backend[1].host`; empty for the file as a whole.
    pub key: String,
    /// A sentence or two: what is so, what was expected, what to do.
    pub says: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(out, "{}: {}{colon}{}", self.location, self.key, self.says)
    }
}

/// What makes a file unusable.
pub type Problem = Finding;

/// What a person should know although the file can be used.
pub type Note = Finding;

/// Problems in a file are said up to this many; then one more says that there are more.
const PROBLEMS_MAX: usize = 200;

/// Collects findings while a file is read.
pub struct Report {
    file: Arc<str>,
    allow_unsupported: bool,
    /// The endpoint being read, as `GET /users/{id}`.
    endpoint: Option<String>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl Report {
    /// Of a file by this name.
    pub fn new(file: &str, allow_unsupported: bool) -> Report {
        Report { file: file.into(), allow_unsupported, endpoint: None, problems: Vec::new(), notes: Vec::new() }
    }

    /// A place of this file.
    pub fn location(&self, at: Place) -> Location {
        Location { file: self.file.clone(), line: at.line, column: at.column }
    }

    /// What follows is about this endpoint; with `None`, about the file as a whole.
    pub fn about(&mut self, endpoint: Option<String>) {
        self.endpoint = endpoint;
    }

    /// The file cannot be used.
    pub fn problem(&mut self, at: Place, key: &str, says: impl Into<String>) {
        let finding = self.finding(at, key, says.into());
        match self.problems.len().cmp(&PROBLEMS_MAX) {
            std::cmp::Ordering::Less => self.problems.push(finding),
            std::cmp::Ordering::Equal => {
                let says = "there are more problems; these are the first".to_owned();
                self.problems.push(Finding { says, key: String::new(), ..finding });
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    /// The file can be used, but somebody should know.
    pub fn note(&mut self, at: Place, key: &str, says: impl Into<String>) {
        let finding = self.finding(at, key, says.into());
        self.notes.push(finding);
    }

    /// The file asks for something of the table. If that is not offered, see [`Report::refuse`].
    pub fn unsupported(&mut self, at: Place, key: &str, entry: &Entry) -> Option<String> {
        let why = match entry.state {
            State::Offered => return None,
            State::Inert => {
                self.note(at, key, format!("{} has no effect here: {}", entry.name, entry.what));
                return None;
            }
            State::Later => format!("{} ({}) is not offered yet", entry.name, entry.what),
            State::Never => format!("{} ({}) is not offered", entry.name, entry.what),
        };
        self.refuse(at, key, why, entry.effect)
    }

    /// The file asks for something that is not offered. Whether that is a problem or a note is up to the command line.
    /// A reason is returned if there can be no answer but 501.
    pub fn refuse(&mut self, at: Place, key: &str, why: String, effect: Effect) -> Option<String> {
        let stops = effect == Effect::Answers || (effect == Effect::Carried && self.endpoint.is_some());
        let consequence = match (stops, &self.endpoint) {
            (true, Some(_)) => "this endpoint answers 501",
            (true, None) => "every endpoint answers 501, because it would apply to all",
            (false, _) => "requests are answered without it",
        };
        let subject = self.endpoint.as_ref().map_or(String::new(), |endpoint| format!("{endpoint}: "));
        if self.allow_unsupported {
            self.note(at, key, format!("{subject}{why}: {consequence}"));
            return stops.then_some(why);
        }
        let says = format!(
            "{subject}{why}. Remove it, or start with --allow-unsupported: the rest of the file works then, and \
             {consequence}"
        );
        self.problem(at, key, says);
        None
    }

    /// How many problems there are by now.
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Everything that was found, in the file's order.
    pub fn finish(mut self) -> (Vec<Problem>, Vec<Note>) {
        let place = |finding: &Finding| (finding.location.line, finding.location.column);
        self.problems.sort_by_key(place);
        self.notes.sort_by_key(place);
        (self.problems, self.notes)
    }

    fn finding(&self, at: Place, key: &str, says: String) -> Finding {
        Finding { location: self.location(at), key: key.to_owned(), says }
    }
}
