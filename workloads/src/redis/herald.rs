//! What is said of Redis in the log: once per process, however many shards have connections of their own.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::voice::Voice;

/// What was last said of a subject.
#[derive(Default)]
struct Subject {
    trouble: Voice,
    is_well: bool,
}

/// By purpose and place: few, and only looked at when connections come and go.
static SUBJECTS: Mutex<BTreeMap<String, Subject>> = Mutex::new(BTreeMap::new());

fn with<T>(subject: &str, then: impl FnOnce(&mut Subject) -> T) -> T {
    let mut subjects = SUBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    then(subjects.entry(subject.to_owned()).or_default())
}

/// It cannot be used, and why: now and again.
pub(super) fn say_trouble(subject: &str, why: &str) {
    // Where it is was said already.
    let why = match why.split_once(": ") {
        Some((place, rest)) if subject.ends_with(&format!(" {place}")) => rest,
        _ => why,
    };
    let line = with(subject, |known| {
        known.is_well = false;
        known.trouble.line(std::time::Instant::now(), &format_args!("{why}; trying again"))
    });
    if let Some(line) = line {
        crate::warn!("redis: {subject}: {line}");
    }
}

/// It can be used: once, until there is trouble.
pub(super) fn say_well(subject: &str, words: &dyn Display) {
    if !with(subject, |known| std::mem::replace(&mut known.is_well, true)) {
        crate::say!("redis: {subject}: {words}");
    }
}
