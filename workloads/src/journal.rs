//! The log: what a service says to those who run it, a line at a time.
//!
//! As text it is for eyes: trouble that ends something on standard error, all else on standard output. As JSON it is for
//! collectors: every line is one object on standard error, and nothing else is there. (What a gateway writes of each request is
//! its access log, which has formats of its own and stays on standard output.)
//!
//! ```text
//! {"ts":"2026-11-27T21:28:48.123Z","level":"info","service":"chat","message":"node b is there"}
//! ```

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

/// The variable that chooses a form where the command line does not.
pub const VARIABLE: &str = "ANNULUS_LOG";
/// Who speaks, as lines begin: `chat: ...`, or in a column of its own at the start, `chat      ...`.
const SERVICES: [&str; 8] = ["chat", "gateway", "image", "console", "redis", "postgres", "upgrade", "dns"];

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For eyes.
    Text,
    /// For collectors.
    Json,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Form, String> {
        match text {
            "text" => Ok(Form::Text),
            "json" => Ok(Form::Json),
            _ => Err(format!("{text:?} is no form of the log: expected text or json")),
        }
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Trouble that is coped with.
    Warn,
    /// Something ended that should not have.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// Whether it is JSON. One process has one log.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The form in force.
pub fn form() -> Form {
    if IS_JSON.load(Ordering::Relaxed) { Form::Json } else { Form::Text }
}

/// Chooses the form, before the first line. What the engine says, and what a panic says, takes it too.
pub fn choose(form: Form) {
    IS_JSON.store(form == Form::Json, Ordering::Relaxed);
    if form == Form::Json {
        annulus_engine::told::tell_to(|words| write(Level::Warn, format_args!("{words}")));
        std::panic::set_hook(Box::new(|panic| write(Level::Error, format_args!("{panic}"))));
    }
}

/// Writes a line. A closed stream ends nothing: a service goes on without its log.
pub fn write(level: Level, words: fmt::Arguments<'_>) {
    match (form(), level) {
        (Form::Json, _) => to_errors(format_args!("{}", object(Timestamp::now(), level, &words.to_string()))),
        (Form::Text, Level::Error) => to_errors(words),
        (Form::Text, _) => crate::answer!("{words}"),
    }
}

/// Writes to whoever started a command, in one piece: standard error has no buffer, and others may write there.
pub fn to_errors(words: fmt::Arguments<'_>) {
    let _nobody_listens = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}

/// A line as JSON. What is in columns for eyes is not there.
fn object(now: Timestamp, level: Level, words: &str) -> String {
    let words = words.trim();
    let (service, message) = match words.split_once([':', ' ']) {
        Some((first, rest)) if SERVICES.contains(&first) => (Some(first), rest.trim_start()),
        _ => (None, words),
    };
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let service = service.map(|service| format!(",\"service\":{}", text(service))).unwrap_or_default();
    format!("{{\"ts\":\"{now:.3}\",\"level\":\"{}\"{service},\"message\":{}}}", level.name(), text(message))
}

/// Says that all is as it should be: a line of the log.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::journal::write($crate::journal::Level::Info, format_args!($($words)*)) };
}

/// Says that there is trouble, which is coped with: a line of the log.
#[macro_export]
macro_rules! warn {
    ($($words:tt)*) => { $crate::journal::write($crate::journal::Level::Warn, format_args!($($words)*)) };
}

/// Says that something ended which should not have: a line of the log.
#[macro_export]
macro_rules! error {
    ($($words:tt)*) => { $crate::journal::write($crate::journal::Level::Error, format_args!($($words)*)) };
}

/// Answers what a command was asked for, on standard output; no line of the log.
#[macro_export]
macro_rules! answer {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _nobody_listens = writeln!(std::io::stdout(), $($words)*);
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object() {
        let now = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let line = |words| object(now, Level::Warn, words);
        assert_eq!(
            line("chat: \"a\"\nb"),
            r#"{"ts":"2023-11-14T22:13:20.123Z","level":"warn","service":"chat","message":"\"a\"\nb"}"#
        );
        for (words, service, message) in [
            ("image     data in x", Some("image"), "data in x"),
            ("          log in y", None, "log in y"),
            ("walls: none", None, "walls: none"),
            ("chatter: x", None, "chatter: x"),
        ] {
            let object: serde_json::Value = serde_json::from_str(&line(words)).unwrap();
            assert_eq!(object["service"].as_str(), service, "{words}");
            assert_eq!(object["message"], message, "{words}");
        }
    }

    #[test]
    fn forms_are_read() {
        assert_eq!((Form::from_str("text"), Form::from_str("json")), (Ok(Form::Text), Ok(Form::Json)));
        assert!(Form::from_str("yaml").unwrap_err().contains("text or json"));
    }
}
