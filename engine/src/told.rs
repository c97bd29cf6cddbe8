//! What the engine tells people: on standard error, or to whoever has taken the word.
//!
//! An engine that writes where it likes would break a log of its program's: each line of JSON, say. It says very little: a
//! stall, a task that panicked, a kernel that grants less than was asked for.

use std::fmt;
use std::sync::OnceLock;

static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

/// Has all that follows told to this, instead of standard error. The first to ask has it for good.
pub fn tell_to(listener: fn(&str)) {
    let _another_has_it = LISTENER.set(listener);
}

/// Tells it.
pub(crate) fn tell(words: fmt::Arguments<'_>) {
    match LISTENER.get() {
        Some(listener) => listener(&words.to_string()),
        None => eprintln!("{words}"),
    }
}
