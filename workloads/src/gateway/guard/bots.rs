//! Programs that are refused, by what they say of themselves (RFC 9110 section 10.1.5).

use std::collections::HashSet;

use regex::bytes::RegexSet;

use crate::gateway::config::model::BotDetector;
use crate::gateway::request::Request;

/// A `bot-detector`, ready to be asked.
pub struct Bots {
    allow: HashSet<Vec<u8>>,
    deny: HashSet<Vec<u8>>,
    patterns: RegexSet,
    denies_empty: bool,
}

impl Bots {
    /// # Errors
    /// A sentence: the patterns together are too large. One by one they were looked at when the file was read.
    pub fn new(detector: &BotDetector) -> Result<Bots, String> {
        let texts = |texts: &[String]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let patterns = RegexSet::new(&detector.patterns);
        Ok(Bots {
            allow: texts(&detector.allow),
            deny: texts(&detector.deny),
            patterns: patterns.map_err(|error| format!("security/bot-detector: its patterns together: {error}"))?,
            denies_empty: detector.denies_empty,
        })
    }

    /// Whether a request is refused.
    pub fn refuses(&self, request: &Request) -> bool {
        let agent = request.fields.get("user-agent").unwrap_or_default();
        match agent {
            b"" => self.denies_empty,
            _ if self.allow.contains(agent) => false,
            _ => self.deny.contains(agent) || self.patterns.is_match(agent),
        }
    }
}
