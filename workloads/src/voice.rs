//! What is said of trouble: at once when it begins, then now and again with a count, so that one broken database does not
//! fill a log with itself.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// So often at most.
const EVERY: Duration = Duration::from_secs(10);

/// One subject.
#[derive(Default)]
pub(crate) struct Voice {
    said: Option<Instant>,
    silent: u64,
}

impl Voice {
    /// Says it, or counts it.
    pub(crate) fn say(&mut self, words: &dyn Display) {
        if let Some(line) = self.line(Instant::now(), words) {
            crate::warn!("chat: {line}");
        }
    }

    /// What is to be said, if it is time.
    pub(crate) fn line(&mut self, now: Instant, words: &dyn Display) -> Option<String> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < EVERY) {
            self.silent += 1;
            return None;
        }
        self.said = Some(now);
        Some(match std::mem::take(&mut self.silent) {
            0 => words.to_string(),
            silent => format!("{words} (and {silent} times more since the last such line)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_counted() {
        let (mut voice, now) = (Voice::default(), Instant::now());
        assert_eq!(voice.line(now, &"a"), Some("a".to_owned()));
        assert_eq!(voice.line(now, &"b"), None);
        assert_eq!(voice.line(now + EVERY / 2, &"c"), None);
        assert_eq!(voice.line(now + EVERY, &"d").unwrap(), "d (and 2 times more since the last such line)");
        assert_eq!(voice.line(now + EVERY * 2, &"e"), Some("e".to_owned()));
    }
}
